"""The stop button and Ctrl-C stop what runs in the other kernel, and give the prompt back."""

import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests import frontend
from tests.frontend import (
    Desk,
    Mode,
    begun,
    error_lines,
    remotely,
    terminal_with,
    transcript,
    wait_until,
    wait_until_in,
)
from tests.support import steps
from tests.support.fake import FakeKernel, Request
from tests.support.hosts import CellRun, TerminalHost
from tests.support.kernels import HandKernel
from tests.support.sandbox import Sandbox
from tests.support.tiers import full

desk, lasting_desk = frontend.desk, frontend.lasting_desk_newest_first
new_desk = frontend.new_desk

WITHIN = 1.0
"""Seconds from the interrupt to the prompt."""

TIMES = pytest.mark.parametrize("times", [3, pytest.param(20, marks=pytest.mark.full)])

ENDLESS = {
    "a loop": "while True: pass",
    "a sleep": "import time; time.sleep(600)",
    "an await": "import asyncio; await asyncio.sleep(600)",
}

STOPPED = ("KeyboardInterrupt", "CancelledError")
"""How a stopped cell ends; an ``await`` in the second way, here as there."""

CELLS = pytest.mark.parametrize("cell", ENDLESS)


def ends_soon(desk: Desk, run: CellRun) -> None:
    """Press stop; the cell has to end within a second, as interrupted there."""
    pressed = time.monotonic()
    desk.host.interrupt()
    run.wait()
    took = time.monotonic() - pressed
    assert run.reply["ename"] in STOPPED, str(run)
    assert took < WITHIN


@TIMES
@CELLS
def test_the_stop_button_stops_what_runs_there(desk: Desk, cell: str, times: int) -> None:
    for number in range(times):
        run = desk.begin(ENDLESS[cell])
        if cell == "a sleep":
            wait_until_in("sleep", desk.kernel.pid)
        ends_soon(desk, run)
        assert transcript(run) == "begun\n<error>\n"
        assert desk.remote(f"{number} + 1").ok().result == str(number + 1)


@TIMES
def test_the_stop_button_ends_a_question_of_the_other_kernel(desk: Desk, times: int) -> None:
    for number in range(times):
        run = desk.start("input('? ')", allow_stdin=True)
        desk.host.wait_for(lambda run=run: run.inputs, what="the question")  # type: ignore[misc]
        ends_soon(desk, run)
        assert desk.remote(f"{number} + 1").ok().result == str(number + 1)


@pytest.mark.full
@TIMES
def test_the_stop_button_stops_an_owned_kernel_s_cell(
    new_desk: Callable[..., Desk], times: int
) -> None:
    desk = new_desk()
    with desk.owned():
        for number in range(times):
            for cell in ("a loop", "an await"):
                run = desk.begin(ENDLESS[cell], kernel="own")
                ends_soon(desk, run)
            assert desk.remote(f"{number} + 1", kernel="own").ok().result == str(number + 1)


PRESS_DURING = """\
import os, signal, threading
go = threading.Event()
def press():
    go.wait()
    threading.Event().wait({seconds})
    os.kill(os.getpid(), signal.SIGINT)
presser = threading.Thread(target=press); presser.start()
ended = 'ok'
try:
    go.set()
    {code}
    presser.join()
    for _ in range(100): threading.Event().wait(0.01)  # for a press that came after all that
except BaseException as error:
    ended = type(error).__name__"""
"""From within the cell: a press that finds ipykernel between two cells costs the cell's reply."""


@pytest.mark.full  # it hits the moments at which ipykernel loses interrupts, see docs/design.md
@pytest.mark.parametrize("milliseconds", [0, 0.2, 0.5, 1, 2, 3, 5, 10, 20])
def test_an_interrupt_at_whatever_moment_is_not_lost(desk: Desk, milliseconds: float) -> None:
    # Before the cell is sent, while it is, before it begins there: none may be left running.
    started = time.monotonic()
    code = "get_ipython().run_cell_magic('remote', 'k', 'import time; time.sleep(600)')"
    desk.run(PRESS_DURING.format(seconds=milliseconds / 1000, code=code)).ok()
    assert time.monotonic() - started < WITHIN + milliseconds / 1000
    # Between two steps of ipykernel itself a signal costs the reply.
    assert desk.value("ended") in (*STOPPED, "Aborted", "ReplyLost")
    assert desk.remote("6 * 7").ok().result == "42"


def test_what_the_interrupt_stops_has_kept_its_outputs(desk: Desk) -> None:
    run = desk.begin("while True: pass", first="for i in range(100): print(i, flush=True)")
    ends_soon(desk, run)
    assert run.stdout.split() == [*(str(i) for i in range(100)), "begun"]


def test_a_cell_that_catches_the_interrupt_goes_on(desk: Desk) -> None:
    code = """\
import time
try:
    time.sleep(600)
except KeyboardInterrupt:
    print('caught')
'value'"""
    run = desk.begin(code)
    wait_until_in("sleep", desk.kernel.pid)
    desk.host.interrupt()
    assert run.wait().ok().result == "'value'"
    assert run.stdout == "begun\ncaught\n"


def test_an_interrupt_of_the_notebook_s_own_cell_stays_here(desk: Desk) -> None:
    with desk.kernel.busy():
        run = desk.run(
            "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(9)"
        )
        assert run.reply["ename"] == "KeyboardInterrupt"


def press_until_it_ends(desk: Desk, run: CellRun) -> None:
    """Press twice, but not so fast that two presses are one, nor after the end."""
    for _ in range(2):
        desk.host.interrupt()
        with suppress(TimeoutError):
            run.wait(0.1)
    run.wait()


STUBBORN = """\
import signal, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.SIG_IGN)
print('begun', flush=True)
while not Path({end!r}).exists(): time.sleep(0.01)
print('ended')"""


@pytest.mark.full
def test_a_second_interrupt_gives_the_prompt_back_from_a_cell_that_ignores_it(
    desk: Desk, tmp_path: Path
) -> None:
    end = tmp_path / "end"
    run = desk.start(STUBBORN.format(end=str(end)))
    begun(desk, run)
    desk.host.interrupt()
    advice = "has not stopped yet"
    desk.host.wait_for(lambda: advice in run.stderr, what="the advice")
    assert not run.done
    pressed = time.monotonic()
    desk.host.interrupt()
    run.wait()
    assert time.monotonic() - pressed < WITHIN
    assert run.reply["ename"] == "Abandoned"
    (line,) = error_lines(run)
    assert line.startswith("Abandoned: no longer waiting for k")
    # It runs on, then; and the next cell waits for its turn.
    after = desk.start("'next'")
    end.touch()
    assert after.wait().ok().result == "'next'"
    assert run.stdout == "begun\nended\n"


def test_two_presses_at_once_give_the_prompt_back_too(desk: Desk, tmp_path: Path) -> None:
    end = tmp_path / "end"
    run = desk.start(STUBBORN.format(end=str(end)))
    begun(desk, run)
    pressed = time.monotonic()
    press_until_it_ends(desk, run)
    assert time.monotonic() - pressed < WITHIN
    assert run.reply["ename"] == "Abandoned"
    end.touch()
    assert desk.remote("'next'").ok().result == "'next'"


def test_abandoned_is_a_keyboard_interrupt_that_can_be_caught(desk: Desk, tmp_path: Path) -> None:
    end = tmp_path / "end"
    code = f"""\
try:
    get_ipython().run_cell_magic('remote', 'k', {STUBBORN.format(end=str(end))!r})
except KeyboardInterrupt as error:
    caught = type(error).__name__"""
    run = desk.host.start(code)
    begun(desk, run)
    press_until_it_ends(desk, run)
    run.ok()
    end.touch()
    assert desk.value("caught") == "Abandoned"


@pytest.mark.full
def test_the_notebook_has_its_own_handler_back_afterwards(desk: Desk) -> None:
    code = "import signal; before = signal.getsignal(signal.SIGINT)\n%remote k 1\n"
    desk.run(code).ok()
    assert desk.value("before == signal.getsignal(signal.SIGINT)") is True


def left_in(sandbox: Sandbox) -> set[Path]:
    """What is in the folders that a kernel's files are in."""
    return {*sandbox.runtime.iterdir(), *sandbox.temporary.iterdir()}


@pytest.mark.full
def test_an_interrupt_while_a_kernel_starts_leaves_nothing(
    new_desk: Callable[..., Desk], tmp_path: Path
) -> None:
    # An interpreter that never becomes a kernel, so that there is all the time to press.
    desk = new_desk()
    mark = tmp_path / "launched"
    slow = tmp_path / "python"
    slow.write_text(f"#!/bin/sh\necho $$ > {mark}.new; mv {mark}.new {mark}; exec sleep 600\n")
    slow.chmod(0o755)
    files = left_in(desk.sandbox)
    run = desk.host.start(f"%kernel_start --python {slow} --name slow")
    wait_until(mark.exists, what="the process runs")
    pressed = time.monotonic()
    desk.host.interrupt()
    run.wait()
    assert time.monotonic() - pressed < WITHIN
    assert run.status == "error"
    pid = int(mark.read_text())
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), what="the process has ended")
    assert desk.value("list(__import__('kernel_magics').pool.names)") == ["k"]
    assert left_in(desk.sandbox) == files
    assert desk.remote("6 * 7").ok().result == "42"


@pytest.mark.full
@pytest.mark.parametrize("milliseconds", [0, 1, 5, 20, 50, 100, 200, 400])
def test_an_interrupt_at_any_moment_of_a_start_leaves_nothing(
    desk: Desk, milliseconds: float
) -> None:
    files = left_in(desk.sandbox)
    code = "get_ipython().run_line_magic('kernel_start', '--name own')"
    desk.run(PRESS_DURING.format(seconds=milliseconds / 1000, code=code)).ok()
    assert desk.value("ended") == "KeyboardInterrupt"
    names = desk.value("list(__import__('kernel_magics').pool.names)")
    if names == ["k", "own"]:  # it was quicker
        desk.run("%kernel_shutdown own").ok()
    else:
        assert names == ["k"]
    wait_until(
        lambda: not psutil.Process(desk.host.pid).children(), what="its processes have ended"
    )
    assert left_in(desk.sandbox) == files


@pytest.mark.full
def test_kernel_interrupt_stops_what_a_thread_waits_for(desk: Desk) -> None:
    desk.run(
        "import threading\n"
        "ended = []\n"
        "def work():\n"
        "    import kernel_magics\n"
        "    try:\n"
        "        kernel_magics.pool['k'].run('while True: pass')\n"
        "    except kernel_magics.RemoteError as error: ended.append(error.ename)\n"
        "worker = threading.Thread(target=work); worker.start()"
    ).ok()
    desk.host.wait_for(
        lambda: (
            "while True" in desk.run("%kernels").of_type("display_data")[0]["data"]["text/plain"]
        ),
        what="it runs",
    )
    assert "asked k to interrupt" in desk.run("%kernel_interrupt k").ok().stdout
    desk.run("worker.join(10)").ok()
    assert desk.value("ended") == ["KeyboardInterrupt"]


@pytest.mark.full
def test_a_kernel_that_never_answers_an_interrupt_is_left_by_the_second(desk: Desk) -> None:
    def script(kernel: FakeKernel, request: Request) -> None:
        if request.type == "execute_request" and request.content["code"] == "endless":
            kernel.play([steps.busy(), steps.stream("begun\n")], request)
        elif request.type != "interrupt_request":
            kernel.answer(request)

    with desk.fake(script) as kernel:
        run = desk.start("endless", kernel="fake")
        begun(desk, run)
        desk.host.interrupt()
        kernel.wait_for("interrupt_request")
        desk.host.interrupt()
        assert run.wait(5.0).reply["ename"] == "Abandoned"
        desk.remote("x", kernel="fake").ok()


# In a terminal.


@dataclass(frozen=True)
class Seat:
    """A terminal, and the kernel that is attached to it as ``k``."""

    host: TerminalHost
    kernel: HandKernel


@pytest.fixture(scope="module", params=["simple", *full("full")])
def seat(request: pytest.FixtureRequest, run_folder: Path) -> Generator[Seat]:
    """One for all tests of this module that do it no harm."""
    mode: Mode = request.param
    with (
        frontend.lasting_sandbox(run_folder) as sandbox,
        HandKernel.start("tcp", sandbox) as kernel,
        TerminalHost(sandbox, mode=mode) as terminal,
    ):
        yield Seat(terminal_with(terminal, kernel), kernel)


@TIMES
@CELLS
def test_ctrl_c_stops_what_runs_there(seat: Seat, cell: str, times: int, tmp_path: Path) -> None:
    for number in range(times):
        mark = tmp_path / f"{number}"
        seat.host.start(remotely(f"open({str(mark)!r}, 'w').close()\n{ENDLESS[cell]}"))
        wait_until(mark.exists, what="the cell runs")
        if cell == "a sleep":
            wait_until_in("sleep", seat.kernel.pid)
        pressed = time.monotonic()
        seat.host.send_interrupt()
        printed = seat.host.finish()
        assert time.monotonic() - pressed < WITHIN
        assert any(name in printed for name in STOPPED)
        assert seat.host.run(f"%remote k {number} + 1").endswith(f": {number + 1}")


@TIMES
def test_ctrl_c_ends_a_question_of_the_other_kernel(seat: Seat, times: int) -> None:
    for number in range(times):
        seat.host.start("%remote k input('? ')")
        seat.host.expect(r"\[k\] \? ")
        wait_until_in("read", seat.host.pid)
        pressed = time.monotonic()
        seat.host.send_interrupt()
        assert "KeyboardInterrupt" in seat.host.finish()
        assert time.monotonic() - pressed < WITHIN
        assert seat.host.run(f"%remote k {number} + 1").endswith(f": {number + 1}")


def test_a_second_ctrl_c_gives_the_prompt_back(seat: Seat, tmp_path: Path) -> None:
    end = tmp_path / "end"
    stubborn = STUBBORN.format(end=str(end)).replace("'begun'", "'beg' + 'un'")
    seat.host.run(f"stubborn = {stubborn!r}")
    seat.host.start("get_ipython().run_cell_magic('remote', 'k', stubborn)")
    seat.host.expect("begun")
    seat.host.send_interrupt()
    seat.host.expect("has not stopped yet")
    pressed = time.monotonic()
    seat.host.send_interrupt()
    printed = seat.host.finish()
    assert time.monotonic() - pressed < WITHIN
    assert "Abandoned: no longer waiting for k" in printed
    end.touch()
    printed = seat.host.run("%remote k 6 * 7")
    assert printed.endswith(": 42")
    assert "ended" not in printed  # what it says when nobody wants to hear it


def test_the_terminal_s_own_ctrl_c_works_afterwards(seat: Seat) -> None:
    seat.host.run("%remote k 1")
    seat.host.start("print('beg' + 'un'); __import__('time').sleep(600)")
    seat.host.expect("begun")
    wait_until_in("sleep", seat.host.pid)
    seat.host.send_interrupt()
    assert "KeyboardInterrupt" in seat.host.finish()
