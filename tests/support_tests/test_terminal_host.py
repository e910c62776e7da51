"""The terminal host types cells and reads what a person would see."""

from collections.abc import Callable

import pytest

from tests.support import parts
from tests.support.hosts import TerminalHost
from tests.support.terminal_host import Mode

pytestmark = pytest.mark.full

Start = Callable[..., TerminalHost]
BOTH = pytest.mark.parametrize("mode", ["simple", "full"])


@pytest.mark.quick
@BOTH
def test_a_cell_prints_and_shows_its_value(terminal_host: Start, mode: Mode) -> None:
    terminal = terminal_host(mode)
    assert terminal.run("print('hello')") == "hello"
    assert terminal.run("6 * 7") == "Out[2]: 42"
    assert terminal.run("x = 1") == ""


@BOTH
def test_cells_of_several_lines(terminal_host: Start, mode: Mode) -> None:
    terminal = terminal_host(mode)
    assert terminal.run("for i in range(2):\n    print(i)") == "0\n1"
    assert terminal.run("%%writefile note.txt\nsome\ntext") == "Writing note.txt"
    assert terminal.run("print(open('note.txt').read())").split() == ["some", "text"]


def test_cells_that_the_simple_prompt_would_split_need_the_full_one(terminal_host: Start) -> None:
    code = "if True:\n    print('a')\n\n    print('b')"
    assert terminal_host("full").run(code) == "a\nb"
    with pytest.raises(ValueError, match="mode='full'"):
        terminal_host("simple").run(code)


@BOTH
def test_ctrl_c_ends_the_running_cell(terminal_host: Start, mode: Mode) -> None:
    terminal = terminal_host(mode)
    terminal.start("print('beg' + 'un'); __import__('time').sleep(600)")
    terminal.expect("begun")
    terminal.send_interrupt()
    assert "KeyboardInterrupt" in terminal.finish()
    assert terminal.run("1") == "Out[2]: 1"


@BOTH
def test_a_running_cell_can_ask(terminal_host: Start, mode: Mode) -> None:
    terminal = terminal_host(mode)
    terminal.start("print('got', input('your ' + 'name? '))")
    terminal.expect(r"your name\? ")
    terminal.type_line("me")
    assert "got me" in terminal.finish()


def test_what_does_not_come_is_told_with_what_came_instead(terminal_host: Start) -> None:
    terminal = terminal_host()
    terminal.start("print('something else')")
    with pytest.raises(TimeoutError, match="something else"):
        terminal.expect("never", timeout=0.5)


@pytest.mark.quick
def test_a_terminal_that_ends_is_told_as_such(terminal_host: Start) -> None:
    with pytest.raises(TimeoutError, match="ended"):
        terminal_host().run("import os; os._exit(1)")


@BOTH
def test_the_oldest_ipython_is_a_host_too(terminal_host: Start, mode: Mode) -> None:
    parts.require("floor")
    terminal = terminal_host(mode, python=parts.floor_python())
    assert terminal.run("__import__('IPython').__version__") == "Out[1]: '8.20.0'"
    assert terminal.run("for i in range(2):\n    print(i)") == "0\n1"
