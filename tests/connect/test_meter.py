"""What processes of this machine use."""

import os
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack

import pytest

from kernel_magics.connect.meter import Meter
from tests.support.processes import Process
from tests.support.sandbox import Sandbox
from tests.support.waiting import wait_until

SLEEP = "time.sleep(600)"
WORK = "while True: pass"
MEGABYTES = 100

Start = Callable[[str], Process]


@pytest.fixture
def start(sandbox: Sandbox) -> Generator[Start]:
    """Start a process that runs some code, and wait until it does."""
    with ExitStack() as stack:

        def start(code: str) -> Process:
            ready = sandbox.work / "ready"
            ready.unlink(missing_ok=True)
            begin = f"import os, pathlib, time; ready = pathlib.Path({str(ready)!r})\n"
            argv = [sys.executable, "-c", begin + code.replace("READY", "ready.touch()")]
            process = Process(
                argv, env=sandbox.environment(), cwd=sandbox.work, log=sandbox.work / "log"
            )
            stack.enter_context(process)
            wait_until(ready.exists, what="it has begun")
            return process

        yield start


def test_who_works_is_told_from_who_sleeps(start: Start) -> None:
    works, sleeps = start(f"READY\n{WORK}").pid, start(f"READY\n{SLEEP}").pid
    meter = Meter()
    for _ in range(2):  # the first time, and since then
        readings = meter.read([works, sleeps])
        assert readings[works].cpu > 10
        assert readings[sleeps].cpu < 10


def test_what_a_process_has_started_counts_as_its_own(start: Start) -> None:
    hold = f"held = b'x' * {MEGABYTES} * 10**6"
    child = start(f"if os.fork():\n    {SLEEP}\n{hold}\nREADY\n{WORK}").pid
    alone = start(f"READY\n{SLEEP}").pid
    readings = Meter().read([child, alone])
    assert readings[child].memory > MEGABYTES * 10**6 > readings[alone].memory > 10**6
    assert readings[child].cpu > 10


def test_who_is_gone_is_missing(start: Start) -> None:
    process = start(f"READY\n{SLEEP}")
    process.close()
    assert set(Meter().read([process.pid, os.getpid()])) == {os.getpid()}


def test_of_nobody_nothing_is_read() -> None:
    assert Meter().read([]) == {}
