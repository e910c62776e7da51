"""A question of the other kernel is asked here, at the prompt that the person sits at."""

import time
from collections.abc import Callable

import pytest

from tests import frontend
from tests.frontend import (
    Desk,
    Mode,
    begun,
    error_lines,
    plain,
    terminal_with,
    transcript,
    wait_until_in,
)
from tests.support import steps
from tests.support.hosts import TerminalHost
from tests.support.kernels import HandKernel
from tests.support.tiers import full

desk, lasting_desk = frontend.desk, frontend.lasting_desk_newest_first
new_desk = frontend.new_desk

DIED_WITHIN = 3.0
"""Seconds until a dead kernel's cell has ended, where the process is not ours to watch."""

MODES = pytest.mark.parametrize("mode", ["simple", *full("full")])


def test_a_question_is_asked_here_and_says_whose_it_is(desk: Desk) -> None:
    run = desk.remote("print('got', input('name? '))", on_input=lambda prompt, password: "me").ok()
    assert run.inputs == [("[k] name? ", False)]
    assert run.stdout == "got me\n"


def test_a_password_is_asked_as_one(desk: Desk) -> None:
    code = "import getpass; secret = getpass.getpass('secret? '); secret[::-1]"
    run = desk.remote(code, on_input=lambda prompt, password: "abc").ok()
    assert run.inputs == [("[k] secret? ", True)]
    assert run.result == "'cba'"
    assert "abc" not in transcript(run)


def test_questions_and_outputs_keep_their_order(desk: Desk) -> None:
    seen: list[str] = []

    code = "for i in range(5):\n    print('before', i)\n    print('got', input(f'{i}? '))"
    run = desk.start(code, on_input=lambda prompt, password: f"answer to {prompt}")
    seen = [prompt for prompt, _ in run.wait().ok().inputs]
    assert seen == [f"[k] {i}? " for i in range(5)]
    expected = [line for i in range(5) for line in (f"before {i}", f"got answer to [k] {i}? ")]
    assert run.stdout.splitlines() == expected


@pytest.mark.parametrize("answer", ["", "ü 日本 🙂", "{braces} $dollars 'quotes' \\n", " x "])
def test_an_answer_arrives_as_it_was_typed(desk: Desk, answer: str) -> None:
    run = desk.remote("input()", on_input=lambda prompt, password: answer).ok()
    assert run.result == repr(answer)


def test_a_question_without_text_is_labelled_too(desk: Desk) -> None:
    run = desk.remote("input()", on_input=lambda prompt, password: "x").ok()
    assert run.inputs == [("[k] ", False)]


def test_a_quiet_cell_asks_all_the_same(desk: Desk) -> None:
    run = desk.remote("input('? ')", "-q", on_input=lambda prompt, password: "x").ok()
    assert (run.inputs, run.outputs) == ([("[k] ? ", False)], [])


def test_a_captured_cell_asks_all_the_same(desk: Desk) -> None:
    code = "%%capture taken\n%remote k print(input('? '))"
    run = desk.run(code, on_input=lambda prompt, password: "x").ok()
    assert run.inputs == [("[k] ? ", False)]
    assert desk.value("taken.stdout") == "x\n"


def test_where_nobody_can_answer_the_other_kernel_is_told_so(desk: Desk) -> None:
    run = desk.remote("input('? ')")
    assert run.reply["ename"] == "StdinNotImplementedError"
    assert run.inputs == []
    assert desk.remote("'again'").ok().result == "'again'"


def test_a_question_that_was_not_allowed_ends_in_an_end_of_file(desk: Desk) -> None:
    ask = steps.ask_input("? ", steps.stream("answered\n"), steps.reply(), steps.idle())
    with desk.fake([steps.busy(), ask]) as kernel:
        assert desk.remote("x", kernel="fake").ok().stdout == "answered\n"
        assert kernel.wait_for("input_reply").content == {"value": "\x04"}


def test_an_interrupt_at_the_prompt_reaches_the_other_kernel(desk: Desk) -> None:
    run = desk.start("x = input('? ')", allow_stdin=True)
    desk.host.wait_for(lambda: run.inputs, what="the question")
    desk.host.interrupt()
    assert run.wait().reply["ename"] == "KeyboardInterrupt"
    assert error_lines(run)[0] == "[k]"
    again = desk.remote("input('again? ')", on_input=lambda prompt, password: "yes").ok()
    assert again.result == "'yes'"


def test_a_prompt_interrupted_there_is_left_here(desk: Desk) -> None:
    run = desk.start("x = input('? ')", allow_stdin=True)
    desk.host.wait_for(lambda: run.inputs, what="the question")
    desk.kernel.interrupt()
    assert run.wait().reply["ename"] == "KeyboardInterrupt"
    assert desk.run("input('local? ')", on_input=lambda prompt, password: "x").ok().result == "'x'"


@pytest.mark.full
def test_a_kernel_killed_under_its_question_ends_the_cell(new_desk: Callable[..., Desk]) -> None:
    desk = new_desk()
    run = desk.start("print('begun', flush=True)\nx = input('? ')", allow_stdin=True)
    desk.host.wait_for(lambda: run.inputs, what="the question")
    begun(desk, run)
    killed = time.monotonic()
    desk.kernel.kill()
    run.wait()
    assert time.monotonic() - killed < DIED_WITHIN
    assert transcript(run) == "begun\n<error>\n"
    (line,) = error_lines(run)
    assert line.startswith("KernelDied: kernel k died: ")
    # The line that was asked for is not waited for any more.
    assert desk.run("input('local? ')", on_input=lambda prompt, password: "x").ok().result == "'x'"


def test_an_owned_kernel_killed_under_its_question_ends_the_cell(
    new_desk: Callable[..., Desk],
) -> None:
    desk = new_desk()
    with desk.owned():
        ask = "import os, threading\nthreading.Timer(0.3, os._exit, [1]).start()\ninput('? ')"
        run = desk.start(ask, kernel="own", allow_stdin=True)
        desk.host.wait_for(lambda: run.inputs, what="the question")
        run.wait(DIED_WITHIN)
        assert run.reply["ename"] == "KernelDied"


def test_a_cell_of_a_thread_can_ask_too(desk: Desk) -> None:
    code = "get_ipython().run_line_magic('remote', 'k print(input(\"? \"))')"
    run = desk.run(
        f"import asyncio\nawait asyncio.to_thread(lambda: {code})",
        on_input=lambda prompt, password: "x",
    ).ok()
    assert run.inputs == [("[k] ? ", False)]


# In a terminal.


@pytest.fixture
def terminal(
    terminal_host: Callable[..., TerminalHost], hand_kernel: Callable[..., HandKernel], mode: Mode
) -> TerminalHost:
    """A terminal with a kernel attached as ``k``."""
    return terminal_with(terminal_host(mode), hand_kernel())


@MODES
def test_a_terminal_s_user_is_asked(terminal: TerminalHost) -> None:
    terminal.start("%remote k print('got', input('your ' + 'name? '))")
    terminal.expect(r"\[k\] your name\? ")
    terminal.type_line("me")
    assert terminal.finish().endswith("got me")
    terminal.start("%remote k print('got', __import__('getpass').getpass('sec' + 'ret? ')[::-1])")
    terminal.expect(r"\[k\] secret\? ")
    terminal.type_line("abc")
    printed = terminal.finish()
    assert printed.endswith("got cba")
    assert "abc" not in printed


@pytest.mark.full
@MODES
def test_ctrl_d_at_the_prompt_is_an_end_of_file_there(terminal: TerminalHost) -> None:
    terminal.start("%remote k input('? ')")
    terminal.expect(r"\[k\] \? ")
    terminal.press("\x04")
    assert "EOFError" in terminal.finish().splitlines()[-1]
    assert terminal.run("%remote k 'again'").endswith("'again'")


@MODES
def test_ctrl_c_at_the_prompt_interrupts_the_other_kernel(terminal: TerminalHost) -> None:
    terminal.start("%remote k input('? ')")
    terminal.expect(r"\[k\] \? ")
    wait_until_in("read", terminal.pid)
    terminal.send_interrupt()
    assert "KeyboardInterrupt" in terminal.finish()
    assert terminal.run("%remote k 'again'").endswith("'again'")


@pytest.mark.full
@pytest.mark.parametrize("mode", ["simple", pytest.param("full", marks=pytest.mark.full)])
def test_a_kernel_killed_under_its_question_gives_the_terminal_back(
    terminal_host: Callable[..., TerminalHost], hand_kernel: Callable[..., HandKernel], mode: Mode
) -> None:
    kernel = hand_kernel()
    terminal = terminal_with(terminal_host(mode), kernel)
    terminal.start("%remote k input('? ')")
    terminal.expect(r"\[k\] \? ")
    wait_until_in("read", terminal.pid)
    killed = time.monotonic()
    kernel.kill()
    printed = terminal.finish()
    assert time.monotonic() - killed < DIED_WITHIN
    assert plain(printed).splitlines()[-1].startswith("KernelDied: kernel k died: ")
    terminal.start("print('got', input('local' + '? '))")
    terminal.expect(r"local\? ")
    terminal.type_line("x")
    assert terminal.finish().endswith("got x")
