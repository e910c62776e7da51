"""Each kind of leftover is seen, by name; what ends in time is forgiven."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import zmq

from tests.support.leaks import Snapshot
from tests.support.sandbox import Sandbox
from tests.support.waiting import wait_until

SOON = 0.05


@contextmanager
def sleeping(code: str = "import time; time.sleep(600)") -> Generator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_test_that_leaves_nothing_is_told_nothing(sandbox: Sandbox) -> None:
    assert Snapshot.take(sandbox).leftovers(SOON) == []


def test_a_thread(sandbox: Sandbox) -> None:
    before, end = Snapshot.take(sandbox), threading.Event()
    thread = threading.Thread(target=end.wait, name="forgotten")
    thread.start()
    try:
        assert before.leftovers(SOON) == ["thread 'forgotten'"]
    finally:
        end.set()
        thread.join()


def test_a_thread_that_is_about_to_end_is_forgiven(sandbox: Sandbox) -> None:
    before = Snapshot.take(sandbox)
    end = threading.Event()
    thread = threading.Thread(target=lambda: end.wait(0.1))
    thread.start()
    assert before.leftovers(30.0) == []
    assert not thread.is_alive()


def test_a_process(sandbox: Sandbox) -> None:
    before = Snapshot.take(sandbox)
    with sleeping() as process:
        left = before.leftovers(SOON)
    assert any(one.startswith(f"process {process.pid}: {sys.executable}") for one in left)


def test_a_process_that_nobody_waited_for(sandbox: Sandbox) -> None:
    before = Snapshot.take(sandbox)
    with sleeping("pass") as process:
        zombie = psutil.Process(process.pid)
        wait_until(lambda: zombie.status() == psutil.STATUS_ZOMBIE, what="it has ended")
        left = before.leftovers(SOON)
    assert any("ended but nobody has waited for it" in one for one in left)


def test_an_orphan_is_found_and_ended_though_it_is_no_child_of_ours(sandbox: Sandbox) -> None:
    before = Snapshot.take(sandbox)
    orphan = (
        "import subprocess, sys\n"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],\n"
        "      start_new_session=True, stdout=subprocess.DEVNULL).pid)"
    )
    with sleeping(orphan) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.read())
        parent.wait()
    try:
        assert psutil.Process(pid).ppid() != os.getpid()
        assert [one.split(":")[0] for one in before.leftovers(SOON)] == [f"process {pid}"]
    finally:
        before.kill_leftover_processes()
    wait_until(lambda: not before.leftovers(0.0), what="the orphan has ended")


def test_processes_of_others_are_none_of_our_business(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.leaks._descends", lambda pid: False)
    before = Snapshot.take(sandbox)
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("KM_TEST_SANDBOX", "of another run")
        with sleeping():
            assert not [one for one in before.leftovers(SOON) if one.startswith("process")]


def test_a_socket_with_its_address(sandbox: Sandbox) -> None:
    before = Snapshot.take(sandbox)
    with socket.create_server(("127.0.0.1", 0)) as server:
        left = before.leftovers(SOON)
        port = server.getsockname()[1]
    (one,) = left
    assert f"port={port}" in one
    assert one.endswith("LISTEN")


def test_a_zmq_context(sandbox: Sandbox) -> None:
    before = Snapshot.take(sandbox)
    with zmq.Context() as context:
        context.socket(zmq.PAIR).close()
        assert before.leftovers(SOON)
    assert before.leftovers() == []


def test_an_open_file_and_whether_only_the_garbage_collector_would_close_it(
    sandbox: Sandbox,
) -> None:
    before = Snapshot.take(sandbox)
    path = sandbox.work / "note"
    file = path.open("w")
    assert before.leftovers(SOON) == [f"descriptor {file.fileno()}: {path}"]
    file.close()

    circle: list[object] = [path.open()]
    circle.append(circle)
    del circle
    with pytest.warns(ResourceWarning):
        (one,) = before.leftovers(SOON)
    assert one.endswith(f"{path} (until garbage collection)")


@pytest.mark.full
@pytest.mark.parametrize("place", ["runtime", "temporary"])
def test_a_file(sandbox: Sandbox, place: str) -> None:
    before = Snapshot.take(sandbox)
    path: Path = getattr(sandbox, place) / "kernel-1.json"
    path.touch()
    assert before.leftovers(SOON) == [f"file {path}"]
    path.unlink()
