"""Where else the extension can be loaded than in ipykernel and a terminal: each is a real process.

The newest ipykernel and the oldest, and IPython in a terminal, are the hosts of nearly all other
tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from tests.frontend import LOAD, lasting_sandbox, plain, remotely, terminal_with
from tests.support.hosts import CellRun, KernelHost, TerminalHost
from tests.support.kernels import HandKernel
from tests.support.parts import require
from tests.support.sandbox import Sandbox

RICH = """\
import sys
from IPython.display import HTML, display
print('to stdout')
print('to stderr', file=sys.stderr)
display(HTML('<b>bold</b>'))
6 * 7"""


# A kernel that is not made of ipykernel.


class XPython(KernelHost):
    """xeus-python with the extension loaded and somebody else's ipykernel attached as ``k``."""

    def __init__(self, sandbox: Sandbox, kernel: HandKernel) -> None:
        super().__init__(sandbox, module="xpython_launcher")
        self.run(LOAD).ok()
        self.run(f"%kernel_attach {kernel.connection_file} --name k").ok()


@pytest.fixture(scope="module")
def xpython(run_folder: Path) -> Generator[XPython]:
    """One for all tests, which do it no harm."""
    require("xpython")
    with (
        lasting_sandbox(run_folder) as sandbox,
        HandKernel.start("tcp", sandbox) as kernel,
        XPython(sandbox, kernel) as host,
    ):
        yield host


def data(run: CellRun) -> list[dict[str, str]]:
    return [one.content["data"] for one in run.outputs if "data" in one.content]


@pytest.mark.full
def test_xeus_shows_streams_displays_and_results(xpython: XPython) -> None:
    run = xpython.run(remotely(RICH)).ok()
    assert (run.stdout, run.stderr) == ("to stdout\n", "to stderr\n")
    bold, result = data(run)
    assert bold["text/html"] == "<b>bold</b>"
    assert result == {"text/plain": "42"}


def test_xeus_shows_updates_and_clears(xpython: XPython) -> None:
    code = (
        "from IPython.display import clear_output, display\n"
        "h = display(1, display_id='of xeus'); h.update(2); clear_output(wait=True)"
    )
    run = xpython.run(remotely(code)).ok()
    kinds = [(one.msg_type, one.content.get("transient")) for one in run.outputs]
    assert kinds == [
        ("display_data", {"display_id": "of xeus"}),
        ("update_display_data", {"display_id": "of xeus"}),
        ("clear_output", None),
    ]


def test_in_xeus_a_remote_error_fails_the_cell_and_its_traceback_is_there_once(
    xpython: XPython,
) -> None:
    run = xpython.run(remotely("print('before')\n1 / 0"))
    assert run.status == "error"
    assert run.reply["evalue"] == "division by zero"
    assert plain(run.stderr).startswith("[k]\n")
    assert plain(run.stderr).count("Traceback") == 1
    assert plain(run.error) == "[k] ZeroDivisionError: division by zero (shown above)"
    assert xpython.run(remotely("6 * 7")).ok().result is None


def test_in_xeus_an_error_among_the_outputs_fails_nothing(xpython: XPython) -> None:
    code = "try: 1 / 0\nexcept Exception: get_ipython().showtraceback()\nprint('after')"
    run = xpython.run(remotely(code)).ok()
    assert "ZeroDivisionError" in run.stderr
    assert run.stdout == "after\n"
    run = xpython.run(remotely("1 / 0", "--no-raise-error")).ok()
    assert "ZeroDivisionError" in run.stderr


def test_in_xeus_an_error_that_was_only_printed_fails_the_cell(xpython: XPython) -> None:
    run = xpython.run(remotely("%no_such_magic"))
    assert run.status == "error"
    assert "`%no_such_magic` not found" in run.stderr


@pytest.mark.parametrize("ask", ["input", "__import__('getpass').getpass"])
def test_xeus_asks_what_the_other_kernel_asks(xpython: XPython, ask: str) -> None:
    run = xpython.run(
        remotely(f"print('hello', {ask}('name? '))"), on_input=lambda prompt, password: "Ada"
    ).ok()
    assert run.inputs == [("[k] name? ", ask != "input")]
    assert run.stdout == "hello Ada\n"


def test_xeus_without_a_front_end_that_takes_input_says_so(xpython: XPython) -> None:
    run = xpython.run(remotely("input('name? ')"))
    assert run.status == "error"
    assert "does not support input requests" in run.reply["evalue"]
    assert xpython.run(remotely("print('well')")).ok().stdout == "well\n"


def test_the_stop_button_of_xeus_stops_the_other_kernel(xpython: XPython) -> None:
    run = xpython.start(remotely("print('looping', flush=True)\nwhile True: pass"))
    xpython.wait_for(lambda: "looping" in run.stdout)
    xpython.interrupt()
    assert run.wait().status == "error"
    assert "KeyboardInterrupt" in run.error
    assert xpython.run(remotely("print('well')")).ok().stdout == "well\n"


@pytest.mark.full
def test_tab_in_xeus_offers_the_other_kernels_names(xpython: XPython) -> None:
    xpython.run(remotely("only_there_one = only_there_two = 1")).ok()
    xpython.run("only_here = 1").ok()
    found: list[list[str]] = []

    def answered() -> bool:
        found.append(xpython.complete("%%remote k\nonly_")["matches"])  # cold, it takes a while
        return bool(found[-1])

    xpython.wait_for(answered, what=lambda: f"a completion: {found}")
    assert found[-1] == ["only_there_one", "only_there_two"]
    assert xpython.complete("only_")["matches"] == ["only_here"]
    assert "%kernel_attach" in xpython.complete("%kernel_a")["matches"]


def test_values_jobs_and_help_work_in_xeus(xpython: XPython) -> None:
    assert xpython.run("x = %remote k 6 * 8\nx").ok().result == "48"
    xpython.run("readings = [1, 2]").ok()
    xpython.run(remotely("double = [2 * each for each in readings]", "-i readings -o double")).ok()
    assert xpython.run("double").ok().result == "[2, 4]"
    xpython.run(remotely("print('late')", "--bg")).ok()
    again = xpython.run("%remote_result --wait").ok()
    assert "late\n" in again.stdout
    (page,) = xpython.run(remotely("len?")).ok().reply["payload"]
    assert "number of items" in page["data"]["text/plain"]


def test_xeus_knows_its_own_kernel_and_refuses_to_wait_for_itself(xpython: XPython) -> None:
    about = xpython.run("%connection_info").ok().stdout
    assert str(xpython.info["shell_port"]) in about
    run = xpython.run(remotely("1", kernel=str(xpython.connection_file)))
    assert "it would wait for itself for ever" in run.reply["evalue"]


@pytest.mark.full
def test_xeus_is_as_it_was_after_unloading(sandbox: Sandbox, shared_kernel: HandKernel) -> None:
    require("xpython")
    with XPython(sandbox, shared_kernel) as host:
        host.run(remotely("1")).ok()
        host.run("%unload_ext kernel_magics").ok()
        assert "remote" in host.run("%remote k 1").stderr
        assert host.run("6 * 7").ok().result == "42"
        threads = host.run("[t.name for t in __import__('threading').enumerate()]").ok().result
        assert "kernel_magics" not in str(threads)


# No kernel at all.

BARE = """\
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance(colors="NoColor")

def run(cell):
    return shell.run_cell(cell, store_history=True)

for cell in CELLS:
    result = run(cell)
    print("=", result.success, type(result.error_in_exec).__name__)
"""


def python(sandbox: Sandbox, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run Python on something, in the sandbox, to its end."""
    return subprocess.run(
        [sys.executable, *arguments], env=sandbox.environment(), cwd=sandbox.work, input=stdin,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_bare_shell_in_a_program(sandbox: Sandbox, shared_kernel: HandKernel) -> None:
    cells = [
        LOAD,
        f"%kernel_attach {shared_kernel.connection_file} --name k",
        remotely(RICH),
        remotely("1 / 0"),
        remotely("print('hello', input('name? '))"),
        "x = %remote k 6 * 8\nx",
        remotely("print('late')", "--bg"),
        "job = %remote_result --wait",
        "%autoremote k",
        "where = 'there'; print(where)",
        "%autoremote off",
        "%unload_ext kernel_magics",
        "%remote k 1",
    ]
    done = python(sandbox, "-c", f"CELLS = {cells!r}\n{BARE}", stdin="Ada\n")

    assert done.returncode == 0, done.stderr
    lines = plain(done.stdout).splitlines()
    assert lines[3:7] == [
        "to stdout",
        "<IPython.core.display.HTML object>",
        "Out[3]: 42",
        "= True NoneType",
    ]
    assert "to stderr\n" in done.stderr
    assert lines[7] == "[k]"
    failed = lines.index("= False ZeroDivisionError")
    assert lines[failed - 1] == "ZeroDivisionError: division by zero"
    assert lines[failed + 1 : failed + 3] == ["[k] name? hello Ada", "= True NoneType"]
    assert lines[failed + 3 : failed + 5] == ["Out[6]: 48", "= True NoneType"]
    assert "late" in lines
    assert "there" in lines
    assert lines[-2:] == ["= True NoneType", "= False UsageError"]
    assert "`%remote` not found" in done.stderr


SCRIPT = """\
%load_ext kernel_magics
%kernel_attach {file} --name k
%remote k print('a line')
get_ipython().run_cell_magic('remote', 'k', {rich!r})
%remote k 1 / 0
print('not reached')
"""


@pytest.mark.full
@pytest.mark.parametrize("how", ["script.ipy", "-c"])
def test_a_script_ends_at_a_remote_error(
    sandbox: Sandbox, shared_kernel: HandKernel, how: str
) -> None:
    text = SCRIPT.format(file=shared_kernel.connection_file, rich=RICH)
    (sandbox.work / "script.ipy").write_text(text)
    what = [how] if how == "script.ipy" else [how, text]

    done = python(sandbox, "-m", "IPython", "--colors=NoColor", *what)

    shown = plain(done.stdout + done.stderr)
    assert done.returncode == 1, shown
    for text in ("a line", "to stdout", "to stderr", "<IPython.core.display.HTML object>"):
        assert text in shown
    assert shown.count("ZeroDivisionError: division by zero") == 1
    assert "not reached" not in shown


@pytest.mark.full
def test_a_value_is_taken_in_a_script_that_is_begun_with_the_extension(
    sandbox: Sandbox, shared_kernel: HandKernel
) -> None:
    # A script is one cell: what is loaded in it cannot change how it is read.
    text = f"%kernel_attach {shared_kernel.connection_file} --name k\nx = %remote k 6 * 8\nprint(x)"
    (sandbox.work / "script.ipy").write_text(text)

    done = python(sandbox, "-m", "IPython", "--ext", "kernel_magics", "script.ipy")

    assert (done.returncode, done.stdout.splitlines()[1:]) == (0, ["48"])


EMBEDDING = """\
import IPython
def program():
    inside = 5
    IPython.embed(colors="NoColor", banner1="", simple_prompt=True, confirm_exit=False)
    print("inside is", inside)
program()
"""


def test_an_ipython_embedded_in_a_program(
    terminal_host: Callable[..., TerminalHost], shared_kernel: HandKernel
) -> None:
    terminal = terminal_with(terminal_host(program=("-c", EMBEDDING)), shared_kernel)
    assert sorted(terminal.run(remotely(RICH)).split("\n")) == [
        "<IPython.core.display.HTML object>",
        "Out[3]: 42",
        "to stderr",
        "to stdout",
    ]
    assert terminal.run(remotely("1 / 0")).endswith("ZeroDivisionError: division by zero")
    # Its variables are those of the function that it is in.
    terminal.run("%kernel_push k inside")
    assert terminal.run("x = %remote k inside + 1") == ""
    assert terminal.run("x") == "Out[7]: 6"
    terminal.start("exit")
    terminal.expect("inside is 5")
