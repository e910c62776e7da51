"""Our kernels end with us, however we end. Processes that only sleep stand for the kernels."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from kernel_magics.connect import watcher as module
from kernel_magics.connect.watcher import Watcher, start_time
from tests.support.processes import Process, guard
from tests.support.sandbox import Sandbox
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

IN_TIME = 5.0
"""Seconds from our end to that of the kernels; a second of it is for those that are asked twice."""

SLEEP = ["sleep", "600"]

Start = Callable[..., Process]


@pytest.fixture
def start(sandbox: Sandbox, closing: ExitStack) -> Start:
    """Start processes in groups of their own: ``start("sleep", "600")``."""

    def begin(*argv: str) -> Process:
        log = sandbox.work / "log"
        process = Process(argv, env=sandbox.environment(), cwd=sandbox.work, log=log)
        return closing.enter_context(process)

    return begin


@pytest.fixture
def watcher(closing: ExitStack) -> Watcher:
    watcher = Watcher()
    closing.callback(watcher.close)
    return watcher


def members(group: int) -> list[int]:
    """The living processes of a group."""
    found = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.Error):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def helpers(parent: int | None = None) -> list[psutil.Process]:
    """The living processes that watchers have started, in this process or another."""
    found = []
    for process in psutil.Process(parent).children():
        with suppress(psutil.Error):
            if module.__file__ in process.cmdline():  # a corpse has none
                found.append(process)
    return found


# A process that holds kernels, and ends.

HOST = """
import json, os, signal, subprocess, sys
from kernel_magics.connect.watcher import Watcher
watcher = Watcher()
pids = []
for paths in json.loads(sys.argv[1]):
    pids.append(subprocess.Popen(["sleep", "600"], start_new_session=True).pid)
    watcher.watch(pids[-1], paths)
exec(sys.argv[2])
print(json.dumps(pids), flush=True)
signal.pause()
"""


@pytest.fixture
def host(start: Start, closing: ExitStack) -> Callable[..., tuple[Process, list[int]]]:
    """Start a process that watches one sleeping group for each list of paths."""

    def begin(*paths: list[Path], then: str = "") -> tuple[Process, list[int]]:
        argument = json.dumps([[str(path) for path in some] for some in paths])
        process = start(sys.executable, "-c", HOST, argument, then)
        wait_until(lambda: process.output.endswith("]\n"), what=lambda: process.output or "output")
        pids: list[int] = json.loads(process.output)
        for pid in pids:
            guard.watch(pid)
            closing.callback(guard.forget, pid)
        return process, pids

    return begin


Host = Callable[..., tuple[Process, list[int]]]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_kernels_end_with_the_process_that_holds_them(host: Host, number: signal.Signals) -> None:
    process, kernels = host([], [])
    assert all(members(kernel) for kernel in kernels)

    process.send(number)

    wait_until(
        lambda: not any(members(kernel) for kernel in kernels), IN_TIME, what="they are gone"
    )


def test_files_sockets_and_folders_go_with_the_process_that_holds_the_kernels(
    host: Host, sandbox: Sandbox
) -> None:
    file, address, folder = (sandbox.work / name for name in ("file", "k-1", "folder"))
    file.touch()
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "k-1").touch()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(address))
    process, _ = host([file, address], [folder])

    process.send(signal.SIGKILL)

    paths = (file, address, folder)
    wait_until(lambda: not any(path.exists() for path in paths), IN_TIME, what="the paths are gone")


def test_a_process_that_was_forked_off_does_not_keep_the_kernels(
    host: Host, closing: ExitStack
) -> None:
    # As multiprocessing does: the copy has all descriptors, the pipe's end among them.
    process, [kernel, copy] = host([], then="pids.append(os.fork() or signal.pause())")
    closing.callback(os.kill, copy, signal.SIGKILL)

    process.send(signal.SIGKILL)

    wait_until(lambda: not members(kernel), IN_TIME, what="it is gone")


def test_the_watcher_ends_with_the_process_that_holds_the_kernels(host: Host) -> None:
    process, _ = host([])
    [helper] = helpers(process.pid)

    process.send(signal.SIGKILL)

    wait_until(lambda: not _runs(helper), IN_TIME, what="the watcher is gone")


def _runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


# How they are ended.


def test_closing_ends_what_is_watched(watcher: Watcher, start: Start) -> None:
    kernels = [start(*SLEEP), start(*SLEEP)]
    for kernel in kernels:
        watcher.watch(kernel.pid, [])

    watcher.close()

    assert [kernel.alive for kernel in kernels] == [False, False]


def test_kernels_are_asked_politely_first(watcher: Watcher, start: Start) -> None:
    kernel = start(*SLEEP)
    watcher.watch(kernel.pid, [])

    watcher.close()

    assert kernel.wait() == -signal.SIGTERM


def prepared(start: Start, folder: Path, script: str) -> Process:
    """Start a shell script that writes a file named ``ready`` when it is."""
    process = start("sh", "-c", script)
    wait_until((folder / "ready").exists, what="the script is ready")
    return process


def test_a_kernel_that_does_not_listen_is_killed(
    watcher: Watcher, start: Start, sandbox: Sandbox
) -> None:
    kernel = prepared(start, sandbox.work, "trap '' TERM; touch ready; exec sleep 600")
    watcher.watch(kernel.pid, [])

    watcher.close()

    assert kernel.wait() == -signal.SIGKILL


def test_a_kernel_that_is_stopped_is_killed(watcher: Watcher, start: Start) -> None:
    kernel = start(*SLEEP)
    kernel.send(signal.SIGSTOP)
    watcher.watch(kernel.pid, [])

    watcher.close()

    assert kernel.wait() == -signal.SIGKILL


def test_children_of_a_kernel_end_with_it(watcher: Watcher, start: Start, sandbox: Sandbox) -> None:
    kernel = prepared(start, sandbox.work, "sleep 600 & touch ready; wait")
    watcher.watch(kernel.pid, [])

    watcher.close()

    wait_until(lambda: not members(kernel.pid), IN_TIME, what="the group is gone")


def test_children_of_a_kernel_that_do_not_listen_are_killed(
    watcher: Watcher, start: Start, sandbox: Sandbox
) -> None:
    # The kernel itself ends when it is asked, its child does not.
    script = "trap '' TERM; sleep 600 & trap - TERM; touch ready; wait"
    kernel = prepared(start, sandbox.work, script)
    watcher.watch(kernel.pid, [])
    # Once we are gone, the system collects the kernel's corpse at once; here a thread does.
    with ThreadPoolExecutor() as threads:
        threads.submit(kernel.popen.wait)

        watcher.close()

    wait_until(lambda: not members(kernel.pid), IN_TIME, what="the group is gone")


# What is spared.


def test_a_forgotten_kernel_lives_on(watcher: Watcher, start: Start) -> None:
    kernel = start(*SLEEP)
    watcher.watch(kernel.pid, [])

    watcher.forget(kernel.pid)
    watcher.close()

    assert kernel.alive


def test_files_of_a_forgotten_kernel_stay(watcher: Watcher, start: Start, sandbox: Sandbox) -> None:
    file = sandbox.work / "file"
    file.touch()
    kernel = start(*SLEEP)
    watcher.watch(kernel.pid, [file])

    watcher.forget(kernel.pid)
    watcher.close()

    assert file.exists()


def test_forgetting_one_kernel_spares_no_other(watcher: Watcher, start: Start) -> None:
    first, second = start(*SLEEP), start(*SLEEP)
    watcher.watch(first.pid, [])
    watcher.watch(second.pid, [])

    watcher.forget(first.pid)
    watcher.close()

    assert (first.alive, second.alive) == (True, False)


def test_a_stranger_with_the_number_of_a_kernel_that_ended_lives_on(
    watcher: Watcher, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = start(*SLEEP)
    with monkeypatch.context() as earlier:
        earlier.setattr(module, "start_time", lambda pid: "1")  # the kernel's, which had the number
        watcher.watch(stranger.pid, [])

    watcher.close()

    assert stranger.alive


def test_files_of_a_kernel_that_ended_are_removed_all_the_same(
    watcher: Watcher, start: Start, sandbox: Sandbox
) -> None:
    file = sandbox.work / "file"
    file.touch()
    kernel = start(*SLEEP)
    watcher.watch(kernel.pid, [file, sandbox.work / "missing"])
    kernel.close()

    watcher.close()

    assert not file.exists()


def test_our_own_group_is_never_ended(watcher: Watcher) -> None:
    # A kernel without a group of its own is in ours.
    with subprocess.Popen(SLEEP) as kernel:
        try:
            watcher.watch(kernel.pid, [])
            watcher.close()
            assert kernel.poll() is None
        finally:
            kernel.kill()


# The watcher itself.


def test_before_the_first_kernel_nothing_is_started(watcher: Watcher) -> None:
    watcher.forget(1)
    assert helpers() == []


def test_one_process_watches_all_kernels(watcher: Watcher, start: Start) -> None:
    for _ in range(3):
        watcher.watch(start(*SLEEP).pid, [])
    assert len(helpers()) == 1


def test_ctrl_c_in_the_terminal_is_not_for_the_watcher(watcher: Watcher, start: Start) -> None:
    watcher.watch(start(*SLEEP).pid, [])
    [helper] = helpers()
    assert os.getpgid(helper.pid) != os.getpgid(0)


def test_closing_waits_for_the_watcher(watcher: Watcher, start: Start) -> None:
    watcher.watch(start(*SLEEP).pid, [])
    watcher.close()
    assert helpers() == []


def test_closing_twice_is_closing_once(watcher: Watcher, start: Start) -> None:
    watcher.watch(start(*SLEEP).pid, [])
    watcher.close()
    watcher.close()


def test_after_closing_a_kernel_can_be_watched_again(watcher: Watcher, start: Start) -> None:
    watcher.watch(start(*SLEEP).pid, [])
    watcher.close()
    kernel = start(*SLEEP)

    watcher.watch(kernel.pid, [])
    watcher.close()

    assert not kernel.alive


@pytest.fixture
def killed_watcher(watcher: Watcher, start: Start) -> Watcher:
    """A watcher whose process somebody has killed."""
    watcher.watch(start(*SLEEP).pid, [])
    [helper] = helpers()
    helper.kill()
    wait_until(lambda: not helpers(), what="the watcher is dead")
    return watcher


def test_a_watcher_that_was_killed_is_replaced(killed_watcher: Watcher, start: Start) -> None:
    kernel = start(*SLEEP)

    killed_watcher.watch(kernel.pid, [])
    killed_watcher.close()

    assert not kernel.alive


def test_forgetting_does_not_need_the_watcher(killed_watcher: Watcher, start: Start) -> None:
    killed_watcher.forget(1)


def test_closing_does_not_need_the_watcher(killed_watcher: Watcher) -> None:
    killed_watcher.close()


def run_alone(*messages: bytes) -> None:
    """Run the script as a watcher does, with these lines on its pipe."""
    argv = [sys.executable, "-I", "-S", module.__file__]
    subprocess.run(argv, input=b"".join(messages), check=False, timeout=60)


def as_message(process: Process, *paths: Path) -> bytes:
    about = {
        "watch": process.pid,
        "started": start_time(process.pid),
        "paths": [str(path) for path in paths],
    }
    return json.dumps(about).encode() + b"\n"


def test_a_message_cut_by_our_end_does_not_spare_the_kernels(start: Start) -> None:
    kernel = start(*SLEEP)
    run_alone(as_message(kernel), b'{"watch": 1')
    assert not kernel.alive


def test_a_path_that_cannot_be_removed_does_not_spare_the_others(
    start: Start, sandbox: Sandbox
) -> None:
    file = sandbox.work / "file"
    file.touch()
    run_alone(as_message(start(*SLEEP), Path("/proc/version"), file))
    assert not file.exists()


# Telling processes apart.


@pytest.mark.parametrize("name", ["sleep", "a (b) c", "a) 1 2 3 (b", ") R 1 1"])
def test_the_start_time_is_found_behind_any_name(start: Start, sandbox: Sandbox, name: str) -> None:
    program = shutil.copy(shutil.which("sleep") or "", sandbox.work / name)
    process = start(program, "600")
    wait_until(lambda: psutil.Process(process.pid).name() == name, what="the program runs")

    since_boot = int(start_time(process.pid)) / os.sysconf("SC_CLK_TCK")

    created = psutil.Process(process.pid).create_time() - psutil.boot_time()
    assert since_boot == pytest.approx(created, abs=2.0)


def test_a_process_that_is_gone_has_no_start_time(start: Start) -> None:
    process = start(*SLEEP)
    process.close()
    assert start_time(process.pid) == ""
