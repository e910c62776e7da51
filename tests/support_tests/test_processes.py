"""A process that we start has to end, whatever becomes of the test or the test run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.processes import Process
from tests.support.sandbox import CHECKOUT, Sandbox
from tests.support.waiting import wait_until

SLEEP = "import time; time.sleep(600)"
PARENT = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {SLEEP!r}]).pid)"


def python(code: str, sandbox: Sandbox) -> Process:
    argv = [sys.executable, "-u", "-c", code]
    log = sandbox.work / "log"
    return Process(argv, env=sandbox.environment(), cwd=sandbox.work, log=log)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_process_ends_with_its_block(sandbox: Sandbox) -> None:
    with python(SLEEP, sandbox) as process:
        lived = process.alive
    assert (lived, process.alive) == (True, False)
    assert process.popen.returncode == -signal.SIGKILL


def test_closing_also_ends_the_children_of_a_process_that_has_ended_itself(
    sandbox: Sandbox,
) -> None:
    with python(PARENT, sandbox) as process:
        wait_until(lambda: not process.alive, what="the parent has ended")
        child = int(process.output)
        assert not gone(child)
    wait_until(lambda: gone(child), what="its child is gone")


def test_a_process_is_told_apart_from_its_corpse(sandbox: Sandbox) -> None:
    with python("raise SystemExit(3)", sandbox) as process:
        assert process.wait() == 3
        assert not process.alive


def test_a_killed_test_run_leaves_no_process_and_no_folder(sandbox: Sandbox) -> None:
    run = f"""
import os, signal, sys
from pathlib import Path
from tests.support.processes import Process, guard
guard.start(Path("folder"))
Path("folder/below").mkdir(parents=True)
Process([sys.executable, "-c", {SLEEP!r}], env=os.environ, cwd=Path(), log=Path("log"))
print(os.getpid(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    # The process under the knife prints its own pid only after its child has been started.
    killed = subprocess.run(
        [sys.executable, "-c", run],
        env=sandbox.environment(),
        cwd=sandbox.work,
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    mark = f"KM_TEST_SANDBOX={sandbox.root}".encode()

    def survivors() -> list[int]:
        return [pid for pid in psutil.pids() if pid != os.getpid() and mark in _environment(pid)]

    wait_until(lambda: not survivors(), what=lambda: f"nobody is left: {survivors()}")
    assert not (sandbox.work / "folder").exists()


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def test_children_can_import_this_checkout_but_do_not_know_of_pytest(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    environment = sandbox.environment()
    assert environment["PYTHONPATH"].split(os.pathsep) == [str(CHECKOUT), "elsewhere"]
    assert "PYTEST_CURRENT_TEST" in os.environ
    assert "PYTEST_CURRENT_TEST" not in environment
