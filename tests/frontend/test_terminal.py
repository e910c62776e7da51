"""In a terminal a remote cell looks like a local one, as far as a terminal can show it."""

from collections.abc import Generator
from pathlib import Path

import pytest

from tests import frontend
from tests.frontend import remotely, terminal_with
from tests.support import parts, steps
from tests.support.fake import FakeKernel
from tests.support.hosts import TerminalHost
from tests.support.kernels import HandKernel, Kind
from tests.support.sandbox import Sandbox

SEATS = [
    pytest.param(("simple", "newest"), id="simple-newest"),
    pytest.param(("full", "newest"), id="full-newest", marks=pytest.mark.full),
    pytest.param(("simple", "floor"), id="simple-floor", marks=pytest.mark.full),
]


@pytest.fixture(scope="module")
def place(run_folder: Path) -> Generator[Sandbox]:
    """Where the terminals are, and the logs of all that they got."""
    with frontend.lasting_sandbox(run_folder) as sandbox:
        yield sandbox


@pytest.fixture(scope="module", params=SEATS)
def terminal(request: pytest.FixtureRequest, place: Sandbox) -> Generator[TerminalHost]:
    """One for all tests of this module; a kernel of the same age is attached as ``k``."""
    mode, age = request.param
    kind: Kind = "tcp"
    if age == "floor":
        parts.require("floor")
        kind = "floor"
    python = parts.floor_python() if age == "floor" else None
    with (
        HandKernel.start(kind, place) as kernel,
        TerminalHost(place, mode=mode, python=python) as terminal,
    ):
        yield terminal_with(terminal, kernel)


def test_text_of_both_streams_comes_as_it_is(terminal: TerminalHost) -> None:
    code = "import sys\nprint('one'); print('two', file=sys.stderr); print('three ü 日本')"
    assert sorted(terminal.run(remotely(code)).split("\n")) == ["one", "three ü 日本", "two"]


def test_text_without_a_newline_keeps_to_itself(terminal: TerminalHost) -> None:
    printed = terminal.run(remotely("import sys\nfor i in range(3): sys.stdout.write(f'{i} ')"))
    assert printed.strip() == "0 1 2"


def test_a_result_has_the_number_of_the_prompt(terminal: TerminalHost) -> None:
    number = int(terminal.run("len(In)").rsplit(" ", 1)[1])
    assert terminal.run(remotely("6 * 7")) == f"Out[{number}]: 42"
    assert terminal.run("%remote k 'a value'") == f"Out[{number + 1}]: 'a value'"


def test_a_result_of_several_lines_begins_on_its_own(terminal: TerminalHost) -> None:
    code = "class Two:\n    def __repr__(self): return 'one\\ntwo'\nTwo()"
    first, *rest = terminal.run(remotely(code)).split("\n")
    assert first.endswith(("]:", "]: "))
    assert rest == ["one", "two"]


def test_a_display_shows_its_text(terminal: TerminalHost) -> None:
    code = "from IPython.display import HTML, display\ndisplay(HTML('<b>x</b>')); display([1, 2])"
    assert terminal.run(remotely(code)) == "<IPython.core.display.HTML object>\n[1, 2]"


def test_a_display_without_text_says_what_it_is(terminal: TerminalHost) -> None:
    code = "from IPython.display import display\ndisplay({'image/png': 'abcd'}, raw=True)"
    assert terminal.run(remotely(code)) == "[image/png, 4 bytes]"


def test_an_error_is_shown_below_the_name_of_its_kernel(terminal: TerminalHost) -> None:
    lines = terminal.run(remotely("print('before')\nraise KeyError('x')")).split("\n")
    assert lines[:2] == ["before", "[k]"]
    assert lines[-1] == "KeyError: 'x'"
    assert sum("KeyError" in line and "Traceback" in line for line in lines) == 1
    assert not any("kernel_magics" in line for line in lines)


IN_BETWEEN = """\
print('before')
try:
    1 / 0
except Exception:
    get_ipython().showtraceback()
print('after')"""


def test_an_error_among_the_outputs_keeps_its_place(terminal: TerminalHost) -> None:
    lines = terminal.run(remotely(IN_BETWEEN)).split("\n")
    assert lines[:2] == ["before", "[k]"]
    assert lines[-2:] == ["ZeroDivisionError: division by zero", "after"]


def test_a_mistyped_remote_magic_is_told_once(terminal: TerminalHost) -> None:
    printed = terminal.run(remotely("%no_such_magic"))
    assert printed.count("%no_such_magic") == 1
    assert printed.startswith("UsageError: ")


def test_errors_of_this_side_are_one_line(terminal: TerminalHost) -> None:
    assert terminal.run("%%remote nowhere\n1").startswith(
        "UsageError: no kernel matches 'nowhere'; searched "
    )
    (line,) = terminal.run(remotely("__import__('time').sleep(1)", "--timeout 0.1")).split("\n")
    assert line.startswith("ExecutionTimeout: no end after 0.1 s; ")
    assert "asked k to interrupt " in terminal.run("%kernel_interrupt k")
    assert terminal.run(remotely("6 * 7")).endswith(": 42")


def test_this_session_is_no_kernel_and_says_so(terminal: TerminalHost) -> None:
    assert terminal.run("%connection_info") == (
        "UsageError: this session is not a kernel; name an attached one (%kernels lists them)"
    )
    assert terminal.run("%connection_info k").startswith("shell_port ")


def test_the_table_is_text(terminal: TerminalHost) -> None:
    caption, head, row = terminal.run("%kernels").split("\n")
    assert caption.startswith("1 attached kernel at ")
    assert head.split() == ["state", "name", "language", "where", "pid", "runs", "cpu", "memory"]
    assert row.split()[1:4] == ["idle", "k", "python"]


def test_captures_take_what_comes(terminal: TerminalHost) -> None:
    assert terminal.run("%%capture taken\n%remote k print('the' + 're')") == ""
    assert terminal.run("taken.stdout").endswith("]: 'there\\n'")
    terminal.run("import contextlib, io; to = io.StringIO()")
    magic = "get_ipython().run_line_magic('remote', 'k print(1)')"
    assert terminal.run(f"with contextlib.redirect_stdout(to): {magic}") == ""
    assert terminal.run("to.getvalue()").endswith("]: '1\\n'")


def test_local_and_remote_text_keep_their_order(terminal: TerminalHost) -> None:
    printed = terminal.run(
        "for i in range(20):\n"
        "    print(i, 'before'); get_ipython().run_line_magic('remote', f'k print({i}, \"there\")')"
    )
    expected = [f"{i} {where}" for i in range(20) for where in ("before", "there")]
    assert printed.split("\n") == expected


def test_a_quiet_cell_shows_nothing(terminal: TerminalHost) -> None:
    assert terminal.run(remotely("print('x'); 6 * 7", "-q")) == ""


def test_no_raise_error_shows_the_error_once(terminal: TerminalHost) -> None:
    printed = terminal.run(remotely("1 / 0", "--no-raise-error"))
    assert printed.count("ZeroDivisionError: division by zero") == 1


def test_a_progress_bar_writes_over_itself(terminal: TerminalHost) -> None:
    printed = terminal.run(remotely("for i in range(3): print(f'\\r{i}0 %', end='', flush=True)"))
    # The host of these tests drops carriage returns; a terminal obeys them.
    assert printed.strip() == "00 %10 %20 %"


HOSTILE = [
    "\x1b]0;new\x07",
    "\x1b]52;c;Y2xpcA==\x07",
    "\x1b[2J\x1b[H",
    "\x1bc",
    "\x9b2J",
    "\x1b[99A",
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_kernel_cannot_command_the_terminal(
    terminal: TerminalHost, place: Sandbox, hostile: str
) -> None:
    text = f"before {hostile} after"
    script = steps.cell(
        steps.stream(text + "\n"),
        steps.stream(text + "\n", "stderr"),
        steps.display(text),
        steps.result(text),
        steps.error("Evil", text),
    )
    log = max(place.work.glob("terminal-*.log"), key=lambda file: file.stat().st_mtime)
    with FakeKernel(script, folder=place.runtime) as kernel:
        terminal.run(f"%kernel_attach {kernel.connection_file} --name fake")
        position = len(log.read_text())
        terminal.run(remotely("x", kernel="fake"))
        printed = log.read_text()[position:]
        terminal.run("%kernel_detach fake")
    assert printed.count("before ") >= 5
    assert hostile not in printed


@pytest.mark.full
def test_the_table_is_watched_in_its_place(terminal: TerminalHost) -> None:
    terminal.start("%kernels --watch")
    for _ in range(3):
        terminal.expect(r"1 attached kernel at ")
    terminal.send_interrupt()
    assert "KeyboardInterrupt" not in terminal.finish()
    assert terminal.run("'next'").endswith("'next'")
