"""`%connect_qtconsole`: a window on this kernel or on another, or a sentence that says why not."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import frontend
from tests.frontend import Desk, kinds, plain, terminal_with
from tests.support.connection import Info
from tests.support.hosts import CellRun, TerminalHost
from tests.support.kernels import HandKernel
from tests.support.parts import require
from tests.support.sandbox import Sandbox
from tests.support.waiting import wait_until
from tests.support.windows import Display, ended, listening, qt_variables, stand_in, window

pytestmark = pytest.mark.full

new_desk = frontend.new_desk

MONOKAI = (0x27, 0x28, 0x22)
"""The background of the style of that name."""
ORANGE = (255, 153, 0)
PICTURE = (64, 48)
"""Pixels; nothing else in the window has this colour."""


def orange_picture() -> str:
    """Code that displays it, whatever is installed in the kernel."""
    from PIL import Image

    png = BytesIO()
    Image.new("RGB", PICTURE, ORANGE).save(png, "png")
    return (
        "from IPython.display import Image, display\n"
        f"display(Image(data={png.getvalue()!r}, format='png'))"
    )


Opened = Callable[[str], psutil.Process]


@pytest.fixture
def desk(new_desk: Callable[..., Desk]) -> Desk:
    return new_desk()


@pytest.fixture
def opened(closing: ExitStack) -> Opened:
    """Take what the magic has said, insist that it is all, and end the window after the test."""

    def take(said: str) -> psutil.Process:
        found = re.fullmatch(r"opened a Qt console on (\S+) \(pid (\d+)\)\n?", said)
        assert found, said
        return closing.enter_context(window(int(found[2])))

    return take


def give(desk: Desk, variables: dict[str, str]) -> None:
    """Set variables of the notebook's process, which its windows inherit."""
    desk.run(f"import os; os.environ.update({variables!r})").ok()


def replace(desk: Desk, code: str) -> None:
    """Let the notebook take another program for qtconsole."""
    folder = desk.sandbox.root / "stand-in"
    give(desk, stand_in(folder, code))
    desk.run(f"import sys; sys.path.insert(0, {str(folder)!r})").ok()


def info_of(desk: Desk, name: str) -> Info:
    code = f"__import__('kernel_magics').pool[{name!r}].info.as_dict(show_key=True)"
    info: Info = desk.value(code)
    return info


def usage_error(run: CellRun) -> str:
    (line,) = run.stderr.splitlines()
    return line.removeprefix("UsageError: ")


# The real one.


def test_a_window_shows_what_others_run_in_the_kernel(
    desk: Desk, opened: Opened, closing: ExitStack
) -> None:
    require("qt")
    display = closing.enter_context(Display(desk.sandbox))
    give(desk, qt_variables(desk.sandbox, display))
    with listening(desk.kernel.info) as listener:
        desk.remote("pass").ok()
        ours = listener.session_of("execute_request")
        run = desk.run("%connect_qtconsole k --style=monokai").ok()
        opened(run.stdout)
        assert listener.console_session() != ours
    # Seen on the screen: the window, in the style that was asked for.
    width, height = 400, 200
    wait_until(lambda: display.count(MONOKAI) > width * height, what="a window is drawn")
    assert display.count(ORANGE) == 0

    desk.remote(orange_picture()).ok()

    wait_until(
        lambda: display.count(ORANGE) == PICTURE[0] * PICTURE[1],
        what=lambda: f"the picture is drawn: {display.count(ORANGE)} of its pixels",
    )
    if folder := os.environ.get("KM_SCREENSHOTS"):
        display.save(Path(folder) / "qtconsole.png")
    # The notebook's cell got nothing of what the window says.
    assert (kinds(run), run.stderr) == (["stream"], "")


@pytest.mark.quick
def test_without_a_name_it_opens_on_the_kernel_of_this_session(desk: Desk, opened: Opened) -> None:
    require("qt")
    give(desk, qt_variables(desk.sandbox))
    run = desk.run("%connect_qtconsole").ok()
    about = opened(run.stdout)
    desk.host.wait_for(
        lambda: any(
            stray["parent_header"].get("msg_type") == "history_request"
            for stray in desk.host.strays
        ),
        what="the console has asked this kernel",
    )
    assert str(desk.host.connection_file) in about.cmdline()
    assert desk.host.connection_file.stem in run.stdout


@pytest.mark.parametrize("kind", ["ours", "curve", "bash"])
def test_it_opens_on_any_attached_kernel(desk: Desk, opened: Opened, kind: Any) -> None:
    require("qt")
    give(desk, qt_variables(desk.sandbox))
    with ExitStack() as stack:
        if kind == "ours":
            stack.enter_context(desk.owned(name="other"))
        else:
            require(kind)
            kernel = stack.enter_context(HandKernel.start(kind, desk.sandbox))
            stack.enter_context(desk.attached(kernel, "other"))
        with listening(info_of(desk, "other")) as listener:
            about = opened(desk.run("%connect_qtconsole other").ok().stdout)
            assert listener.console_session()
            assert not ended(about)


def test_a_terminal_opens_one_as_well(
    sandbox: Sandbox,
    hand_kernel: Callable[..., HandKernel],
    terminal_host: Callable[..., TerminalHost],
    opened: Opened,
) -> None:
    require("qt")
    kernel = hand_kernel()
    terminal = terminal_with(terminal_host(), kernel)
    terminal.run(f"import os; os.environ.update({qt_variables(sandbox)!r})")
    with listening(kernel.info) as listener:
        about = opened(terminal.run("%connect_qtconsole k"))
        assert listener.console_session()
        # Ctrl-C in the terminal is not for it.
        assert os.getsid(about.pid) == about.pid
        assert os.getsid(terminal.pid) != about.pid


def test_a_window_outlives_the_session_and_nothing_of_ours_is_left(
    desk: Desk, opened: Opened, closing: ExitStack
) -> None:
    require("qt")
    display = closing.enter_context(Display(desk.sandbox))
    give(desk, qt_variables(desk.sandbox, display))
    with listening(desk.kernel.info) as listener:
        about = opened(desk.run("%connect_qtconsole k").ok().stdout)
        listener.console_session()

    desk.host.send("shutdown_request", {"restart": False}, channel="control")
    wait_until(lambda: not desk.host.process.alive, what="the session has ended")

    ours = [desk.kernel.connection_file, desk.host.connection_file]
    left = [*desk.sandbox.temporary.rglob("*"), *desk.sandbox.runtime.rglob("*")]
    assert set(left) <= set(ours)
    # And it still shows what happens in the kernel.
    desk.kernel.ask(orange_picture())
    wait_until(lambda: display.count(ORANGE) > 0, what="the picture is drawn")
    assert not ended(about)


# What can go wrong.


@pytest.mark.parametrize("kernel", ["", "k"])
def test_a_window_that_ends_at_once_is_told_at_once(desk: Desk, kernel: str) -> None:
    replace(desk, "import sys; print('could not connect to display'); sys.exit(1)")
    give(desk, {"DISPLAY": ":0"})
    run = desk.run(f"%connect_qtconsole {kernel}")
    assert run.reply["ename"] == "QtConsoleError"
    assert plain(run.error).splitlines() == [
        "QtConsoleError: no Qt console: it ended at once (exit status 1)",
        "could not connect to display",
    ]
    assert run.stdout == ""


@pytest.mark.parametrize("names", [["qtconsole"], ["PyQt5", "PySide2", "PyQt6", "PySide6"]])
def test_what_has_to_be_installed_is_told_at_once(desk: Desk, names: list[str]) -> None:
    replace(desk, "raise SystemExit('nobody gets here')")
    desk.run(f"sys.modules.update(dict.fromkeys({names!r}))").ok()
    run = desk.run("%connect_qtconsole k")
    (line,) = plain(run.error).splitlines()
    assert line.startswith("QtConsoleMissing: no Qt console: ")
    assert line.endswith("python -m pip install qtconsole PySide6-Essentials")


def test_an_environment_without_it_says_so(new_desk: Callable[..., Desk]) -> None:
    # The oldest versions are installed without windows: here nothing is made to look missing.
    desk = new_desk("floor")
    if desk.value("__import__('importlib.util').util.find_spec('qtconsole') is not None"):
        pytest.skip("the floor environment has qtconsole")
    python = desk.value("__import__('sys').executable")
    run = desk.run("%connect_qtconsole k")
    assert run.reply["ename"] == "QtConsoleMissing"
    assert f"qtconsole is not installed for {python}; " in run.reply["evalue"]


def test_what_a_window_says_is_no_output_of_a_cell(desk: Desk, opened: Opened) -> None:
    done = desk.sandbox.work / "done"
    replace(
        desk,
        "import pathlib, signal, sys\n"
        "print('x' * 640_000, flush=True); print('y' * 640_000, file=sys.stderr, flush=True)\n"
        f"pathlib.Path({str(done)!r}).touch(); signal.pause()",
    )
    run = desk.run("%connect_qtconsole k").ok()
    about = opened(run.stdout)
    wait_until(done.exists, what="it has said it all")
    # Whatever it had said before is here when a later cell's output is.
    assert desk.run("print('later')").ok().stdout == "later\n"
    assert run.stdout.count("\n") == 1
    assert run.stderr == ""
    texts = [one["content"].get("text", "") for one in desk.host.strays]
    assert not [text for text in texts if "xxx" in text or "yyy" in text]
    # The stop button is for the cell.
    desk.host.interrupt()
    desk.run("1").ok()
    assert not ended(about)


def test_a_window_that_is_closed_leaves_no_zombie(desk: Desk, opened: Opened) -> None:
    replace(desk, "import signal; signal.pause()")
    about = opened(desk.run("%connect_qtconsole k").ok().stdout)
    about.kill()
    wait_until(lambda: not about.is_running(), what="the notebook's kernel has collected it")


def test_a_kernel_that_is_gone_gets_no_window(desk: Desk) -> None:
    replace(desk, "raise SystemExit('nobody gets here')")
    desk.kernel.kill()
    wait_until(lambda: not desk.value("__import__('kernel_magics').pool['k'].alive"), what="seen")
    assert usage_error(desk.run("%connect_qtconsole k")).startswith("k ")


def test_a_kernel_whose_file_is_gone_gets_no_window(desk: Desk) -> None:
    replace(desk, "raise SystemExit('nobody gets here')")
    desk.kernel.connection_file.unlink()
    said = usage_error(desk.run("%connect_qtconsole k"))
    assert said == f"{desk.kernel.connection_file}: is gone, and a Qt console has to read it"


def test_what_is_typed_wrongly_is_one_sentence(
    desk: Desk, terminal_host: Callable[..., TerminalHost]
) -> None:
    assert "no kernel matches 'nobody'" in usage_error(desk.run("%connect_qtconsole nobody"))
    assert "No closing quotation" in usage_error(desk.run("%connect_qtconsole k 'open"))
    terminal = terminal_with(terminal_host(), None)
    (line,) = terminal.run("%connect_qtconsole --style=monokai").splitlines()
    assert line == (
        "UsageError: this session is not a kernel; name an attached one (%kernels lists them)"
    )


@pytest.mark.parametrize(
    "line, options",
    [
        ("k --style monokai", ["--style", "monokai"]),
        ("--style monokai", ["--style", "monokai"]),
        ("k '--font-family=Two Words' -q", ["--font-family=Two Words", "-q"]),
        ("{name} --style=$style", ["--style=monokai"]),
        ("", []),
    ],
)
def test_what_follows_the_kernel_is_handed_on(desk: Desk, line: str, options: list[str]) -> None:
    replace(desk, "import json, sys; sys.exit(json.dumps(sys.argv[1:]))")
    desk.run("name, style = 'k', 'monokai'").ok()
    run = desk.run(f"%connect_qtconsole {line}")
    _, words = plain(run.error).splitlines()
    named = desk.host if line.startswith("--") or not line else desk.kernel
    assert json.loads(words) == [
        "--existing",
        str(named.connection_file),
        "--ConsoleWidget.include_other_output=True",
        *options,
    ]


def test_a_session_whose_own_file_is_gone_still_attaches_kernels(
    kernel_host: Callable[..., Any], hand_kernel: Callable[..., HandKernel]
) -> None:
    host, kernel = kernel_host(), hand_kernel()
    host.run(frontend.LOAD).ok()
    host.connection_file.unlink()
    assert "is gone" in usage_error(host.run("%connect_qtconsole"))
    assert host.run(f"%kernel_attach {kernel.connection_file} --name k").ok().stdout
    assert host.run(frontend.remotely("6 * 7")).ok().result == "42"
