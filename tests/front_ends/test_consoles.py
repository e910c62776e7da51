"""The consoles of Jupyter, with the extension loaded in the kernel that they run on: a Qt window on
a display of its own, and jupyter-console in a terminal."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.frontend import LOAD, lasting_sandbox, remotely, terminal_with
from tests.frontend.test_qtconsole import PICTURE, orange_picture
from tests.support.hosts import TerminalHost
from tests.support.kernels import HandKernel
from tests.support.parts import require
from tests.support.qt_console import QtConsole
from tests.support.waiting import wait_until
from tests.support.windows import Display

pytestmark = pytest.mark.full

RICH = """\
import sys
from IPython.display import HTML, display
print('to stdout', flush=True)
print('to stderr', file=sys.stderr, flush=True)
display(HTML('<b>bold</b>'))
6 * 7"""

SHOWN = ["to stdout", "to stderr", "<IPython.core.display.HTML object>"]

UPDATES = """\
from IPython.display import clear_output, display
print('cleared', flush=True)
clear_output()
h = display('old', display_id='of a console')
h.update('new')"""

ASK = "print('hello', input('name? '))"

LOOP = "print('looping', flush=True)\nwhile True: pass"

NAMES = "only_there_one = only_there_two = 1"

WARM = (
    "k = __import__('kernel_magics').pool['k']\n"
    "while not (found := k.complete('only_', 5)) or not found.matches: pass"
)
"""Has the other kernel load what it completes with, which takes it longer than anybody waits."""


# qtconsole.


@pytest.fixture(scope="module")
def window(run_folder: Path) -> Generator[QtConsole]:
    """A window for all tests; a kernel of somebody else's is attached as ``k``."""
    require("qt")
    with (
        lasting_sandbox(run_folder) as sandbox,
        Display(sandbox) as display,
        HandKernel.start("tcp", sandbox) as kernel,
        QtConsole(sandbox, display) as window,
    ):
        assert window.run(LOAD) == ""
        assert window.run(f"%kernel_attach {kernel.connection_file} --name k")
        yield window
        # To look at what a test saw, name a folder.
        if folder := os.environ.get("KM_SCREENSHOTS"):
            display.save(Path(folder) / "consoles.png")


def test_a_window_shows_streams_displays_and_results(window: QtConsole) -> None:
    *before, result = window.run(remotely(RICH)).split("\n")
    assert before == SHOWN
    assert result.startswith("Out[")
    assert result.endswith("]: 42")


def test_a_window_shows_a_picture(window: QtConsole) -> None:
    before = window.images
    window.run(remotely(orange_picture()))
    assert window.images == [*before, PICTURE]


def test_a_window_clears_and_does_what_it_can_with_updates(window: QtConsole) -> None:
    here, there = window.run(UPDATES), window.run(remotely(UPDATES))
    assert there == here


def test_a_window_shows_an_error_once_and_goes_on(window: QtConsole) -> None:
    lines = window.run(remotely("print('before')\n1 / 0")).split("\n")
    assert lines[:2] == ["before", "[k]"]
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert sum("Traceback" in line for line in lines) == 1
    assert window.run(remotely("print('well')")) == "well"


def test_a_window_asks_what_the_other_kernel_asks(window: QtConsole) -> None:
    window.start(remotely(ASK))
    window.answer("Ada")
    window.wait_prompt()
    assert window.printed == "[k] name? Ada\nhello Ada"


def test_ctrl_c_in_a_window_stops_the_other_kernel(window: QtConsole) -> None:
    window.start(remotely(LOOP))
    window.wait_text("looping")
    window.press_ctrl_c()
    window.wait_prompt()
    assert "KeyboardInterrupt" in window.printed
    assert window.run(remotely("print('well')")) == "well"


def test_tab_in_a_window_offers_the_other_kernels_names(window: QtConsole) -> None:
    window.run(remotely(NAMES))
    window.run(WARM)
    window.press_tab("%remote k only_")
    window.wait_text("only_there_one")
    window.wait_text("only_there_two")
    window.clear_line()


def test_in_a_window_a_background_cell_says_how_it_is_doing(window: QtConsole) -> None:
    window.run(remotely("print('late')", "--bg --save job"))
    again = window.run("result = await job\n%remote_result")
    assert "late" in again
    assert "done in" in again


# jupyter-console.

CONSOLE = (
    *("-m", "jupyter_console", "--kernel=python3", "--transport=ipc"),
    "--ZMQTerminalInteractiveShell.banner=",
    "--JupyterConsoleApp.confirm_exit=False",
)


SILENT = {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}
"""And ipc, not TCP: else the console's kernel warns on the same terminal, some time later."""


@pytest.fixture(scope="module")
def console(run_folder: Path) -> Generator[TerminalHost]:
    """A console for all tests; a kernel of somebody else's is attached as ``k``."""
    require("console")
    with (
        lasting_sandbox(run_folder) as sandbox,
        HandKernel.start("tcp", sandbox) as kernel,
        TerminalHost(sandbox, mode="full", program=CONSOLE, env=SILENT) as console,
    ):
        yield terminal_with(console, kernel)
        console.start("exit")
        wait_until(lambda: not console.alive, what="the console has ended, and so its kernel")


def test_a_console_shows_streams_displays_and_results(console: TerminalHost) -> None:
    *before, result = console.run(remotely(RICH)).split("\n")
    assert before == SHOWN
    assert result.startswith("Out[")
    assert result.endswith("]: 42")


def test_a_console_does_what_it_can_with_updates(console: TerminalHost) -> None:
    assert console.run(remotely(UPDATES)) == console.run(UPDATES)


def test_a_console_shows_an_error_once_and_goes_on(console: TerminalHost) -> None:
    lines = console.run(remotely("print('before')\n1 / 0")).split("\n")
    assert lines[:2] == ["before", "[k]"]
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert sum("Traceback" in line for line in lines) == 1
    assert console.run(remotely("print('well')")) == "well"


def test_a_console_asks_what_the_other_kernel_asks(console: TerminalHost) -> None:
    console.start(remotely(ASK))
    console.expect(r"\[k\] name\? ")
    console.type_line("Ada")
    assert console.finish().split("\n")[-1] == "hello Ada"


def test_ctrl_c_in_a_console_stops_the_other_kernel(console: TerminalHost) -> None:
    console.start(remotely(LOOP))
    console.expect("looping")
    console.send_interrupt()
    assert "KeyboardInterrupt" in console.finish()
    assert console.run(remotely("print('well')")) == "well"


def test_tab_in_a_console_offers_the_other_kernels_names(console: TerminalHost) -> None:
    console.run(remotely(NAMES))
    console.run(WARM)
    console.press("%remote k only_\t")
    console.expect("only_there_one")
    console.expect("only_there_two")
    console.press("one + 41\x1b\r")  # behind what they have in common
    assert console.finish().endswith("]: 42")


def test_in_a_console_a_background_cell_says_how_it_is_doing(console: TerminalHost) -> None:
    console.run(remotely("print('late')", "--bg --save job"))
    again = console.run("result = await job\n%remote_result")
    assert "late" in again
    assert "done in" in again
