"""What the process table says about kernels."""

import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kernel_magics.connect import processes
from kernel_magics.connect.processes import Serving, interrupt, serving, survives_interrupt
from tests.support.processes import Process
from tests.support.sandbox import Sandbox
from tests.support.waiting import wait_until

SLEEP = "import time; time.sleep(600)"


@pytest.mark.parametrize("spelling", ["{}", "--f={}", "--IPKernelApp.connection_file={}"])
def test_a_process_is_found_by_the_file_it_was_given(sandbox: Sandbox, spelling: str) -> None:
    file = sandbox.runtime / "kernel-x y.json"
    notebook = sandbox.work / "analysis.ipynb"
    env = sandbox.environment(JPY_SESSION_NAME=str(notebook))
    argv = [sys.executable, "-c", SLEEP, spelling.format(file)]
    with Process(argv, env=env, cwd=sandbox.work, log=sandbox.work / "log") as process:
        wait_until(lambda: file in serving(), what="its command line is there")
        assert serving()[file] == Serving(process.pid, sandbox.work, notebook)
    assert file not in serving()


def test_what_no_server_started_has_no_notebook(sandbox: Sandbox) -> None:
    file = sandbox.runtime / "kernel-1.json"
    argv = [sys.executable, "-c", SLEEP, str(file)]
    env = sandbox.environment()
    with Process(argv, env=env, cwd=sandbox.work, log=sandbox.work / "log"):
        wait_until(lambda: file in serving(), what="its command line is there")
        assert serving()[file].notebook is None


def test_without_a_process_table_nothing_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(processes, "PROC", tmp_path / "absent")
    assert serving() == {}


# Interrupts.

SURVIVE = {"SIG_DFL": False, "SIG_IGN": True, "default_int_handler": True}


@pytest.fixture
def waiting(sandbox: Sandbox) -> Generator[Callable[[str], Process]]:
    """Start a process that deals with SIGINT in a way, and sleeps."""
    with ExitStack() as stack:

        def start(handler: str) -> Process:
            ready = sandbox.work / "ready"
            code = (
                f"import pathlib, signal, time; signal.signal(signal.SIGINT, signal.{handler})\n"
                f"pathlib.Path({str(ready)!r}).touch()\ntime.sleep(600)"
            )
            process = Process(
                [sys.executable, "-c", code],
                env=sandbox.environment(),
                cwd=sandbox.work,
                log=sandbox.work / "log",
            )
            stack.enter_context(process)
            wait_until(ready.exists, what="it sleeps")
            return process

        yield start


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how a process takes signals")
@pytest.mark.parametrize("handler", SURVIVE)
def test_whether_a_process_survives_an_interrupt_is_known_before(
    waiting: Callable[[str], Process], handler: str
) -> None:
    assert survives_interrupt(waiting(handler).pid) is SURVIVE[handler]


def test_a_process_that_has_ended_survives_nothing(waiting: Callable[[str], Process]) -> None:
    process = waiting("SIG_IGN")
    process.close()
    interrupt(process.pid)
    assert sys.platform != "linux" or not survives_interrupt(process.pid)


def test_an_interrupt_reaches_the_process(waiting: Callable[[str], Process]) -> None:
    process = waiting("default_int_handler")
    interrupt(process.pid)
    wait_until(lambda: not process.alive, what="it was interrupted")
    assert "KeyboardInterrupt" in process.output
