"""The rows of the table in docs/cells.md: what people type in a remote cell, and above it."""

import ast
import re
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from tests import frontend
from tests.frontend import (
    Desk,
    error_lines,
    kinds,
    lasting_sandbox,
    plain,
    remotely,
    terminal_with,
    transcript,
)
from tests.support.hosts import CellRun, TerminalHost
from tests.support.kernels import HandKernel
from tests.support.sandbox import Sandbox

desk, lasting_desk = frontend.desk, frontend.lasting_desk_newest_first

TABLE = Path(__file__).resolve().parents[2] / "docs" / "cells.md"


def answering(*lines: str) -> Callable[[str, bool], str]:
    """Type these lines, one at each prompt."""
    left = iter(lines)
    return lambda prompt, password: next(left)


def prompts(run: CellRun) -> list[str]:
    return [prompt for prompt, _ in run.inputs]


def there(desk: Desk, expression: str) -> object:
    """What an expression is worth in the other kernel: a literal."""
    return ast.literal_eval(desk.remote(expression).ok().result or "None")


def page(run: CellRun) -> str:
    """The text that the front end is to open in a pager."""
    (payload,) = run.ok().reply["payload"]
    assert payload["source"] == "page"
    return plain(payload["data"]["text/plain"])


def next_cell(run: CellRun) -> str:
    """The text that the front end is to put into the next cell, or into this one."""
    (payload,) = run.ok().reply["payload"]
    assert payload["source"] == "set_next_input"
    return str(payload["text"])


@pytest.fixture
def script(desk: Desk) -> Generator[Path]:
    file = desk.sandbox.work / "script.py"
    file.write_text("print('script', __name__)\nq = 5\n")
    yield file
    file.unlink()


# Time.


@pytest.mark.parametrize("magic", ["%%time\n", "%time "])
def test_time_in_it_is_measured_there(desk: Desk, magic: str) -> None:
    run = desk.remote(f"{magic}sum(range(10))").ok()
    assert run.stdout.startswith("CPU times: user ")
    assert run.result == "45"


def test_timeit_in_it_is_measured_there(desk: Desk) -> None:
    assert " per loop (mean " in desk.remote("%timeit -n1 -r2 pass").ok().stdout
    assert " per loop (mean " in desk.remote("%%timeit -n1 -r2\npass").ok().stdout


@pytest.mark.parametrize(
    "cell",
    [
        "%%time\n" + remotely("print('x'); 6 * 7"),
        "%%time\n%remote k print('x'); 6 * 7",
        "%time %remote k print('x'); 6 * 7",
    ],
)
def test_time_above_it_is_measured_here(desk: Desk, cell: str) -> None:
    run = desk.run(cell).ok()
    assert re.fullmatch(r"x\n<42>\nCPU times: .*\nWall time: .*\n", transcript(run))


def test_time_above_one_that_fails_ends_as_above_any_other(desk: Desk) -> None:
    """IPython 8 shows the error itself and succeeds; IPython 9 fails, and tells the time."""
    here, there = desk.run("%%time\n1 / 0"), desk.run("%%time\n" + remotely("1 / 0"))
    assert there.status == here.status
    shown = error_lines(there)
    assert sum("Traceback (most recent call last)" in line for line in shown) == 1
    if there.status == "ok":
        assert shown[-1] == "[k] ZeroDivisionError: division by zero (shown above)"
    else:
        assert kinds(there) == ["error", "stream"]


def test_timeit_above_it_runs_it_again_and_again(desk: Desk) -> None:
    desk.remote("runs = 0").ok()
    run = desk.run("%%timeit -n2 -r3\n" + remotely("runs += 1")).ok()
    assert "mean ± std. dev. of 3 runs, 2 loops each" in run.stdout
    assert there(desk, "runs") == 6


def test_prun_opens_the_pager(desk: Desk) -> None:
    assert "function calls" in page(desk.remote("%%prun\nsum(range(10))"))
    assert "function calls" in page(desk.run("%%prun\n" + remotely("1")))


# Capture.

RICH = "import sys\nprint('out'); print('err', file=sys.stderr); display('shown'); 5"
TAKEN = "taken.stdout, taken.stderr, [o.data['text/plain'] for o in taken.outputs]"


def test_capture_in_it_keeps_all_there(desk: Desk) -> None:
    assert desk.remote(f"%%capture taken\n{RICH}").ok().outputs == []
    assert there(desk, TAKEN) == ("out\n", "err\n", ["'shown'", "5"])


def test_capture_above_it_keeps_all_here(desk: Desk) -> None:
    assert desk.run(f"%%capture taken\n{remotely(RICH)}").ok().outputs == []
    assert desk.value(TAKEN) == ("out\n", "err\n", ["'shown'", "5"])


def test_capture_above_it_lets_through_what_it_is_told_to(desk: Desk) -> None:
    run = desk.run(f"%%capture --no-stderr taken\n{remotely(RICH)}").ok()
    assert transcript(run) == "err\n"


# Debuggers.

FAILING = "def fail(x):\n    return 1 / x\n"


def test_debug_in_it_goes_to_where_its_last_error_was(desk: Desk) -> None:
    desk.remote(f"{FAILING}fail(0)")
    run = desk.remote("%debug", on_input=answering("p x", "up", "q")).ok()
    assert prompts(run) == ["[k] ipdb> "] * 3
    text = plain(run.stdout)
    assert "----> 2     return 1 / x" in text
    assert "\n0\n" in text
    assert "----> 3 fail(0)" in text


def test_debug_without_remote_is_about_this_kernel(desk: Desk) -> None:
    desk.run("import sys\nfor name in ('last_traceback', 'last_exc', 'last_value', 'last_type'):\n"
             "    vars(sys).pop(name, None)").ok()  # fmt: skip
    desk.remote("1 / 0")
    assert "No traceback has been produced" in desk.run("%debug").ok().stderr
    desk.run("here = 7; here / 0")
    desk.remote("1 / 0")
    run = desk.run("%debug", on_input=answering("p here", "q")).ok()
    assert prompts(run) == ["ipdb> "] * 2
    assert "7\n" in run.stdout


def test_pdb_on_opens_the_debugger_at_each_error(desk: Desk) -> None:
    desk.remote("%pdb on").ok()
    run = desk.remote(f"{FAILING}fail(0)", on_input=answering("p x", "q"))
    desk.remote("%pdb off").ok()
    assert run.reply["ename"] == "ZeroDivisionError"
    assert prompts(run) == ["[k] ipdb> "] * 2


STEPS = "def walk():\n    x = 3\n    {stop}\n    y = x\n    return y\nwalk()"


@pytest.mark.parametrize(
    "stop",
    ["import pdb; pdb.set_trace()", "from IPython.core.debugger import set_trace; set_trace()"],
)
def test_set_trace_is_answered_here(desk: Desk, stop: str) -> None:
    code = STEPS.format(stop=stop)
    run = desk.remote(code, on_input=answering("n", "p x", "x = 7", "c")).ok()
    assert prompts(run) == ["[k] ipdb> "] * 4
    assert "\n3\n" in plain(run.stdout)
    quit = desk.remote(code, on_input=answering("q"))
    assert quit.reply["ename"] == "BdbQuit"
    assert desk.remote("'again'").ok().result == "'again'"


def test_breakpoint_is_that_kernel_s(desk: Desk) -> None:
    """ipykernel's own waits for a debugger of the front end; with Python's it asks here."""
    code = STEPS.format(stop="breakpoint()")
    here, far = desk.run(code).ok(), desk.remote(code).ok()
    assert (transcript(far), far.inputs) == (transcript(here), here.inputs) == ("<3>\n", [])
    desk.remote("import sys; before = sys.breakpointhook\n"
                "sys.breakpointhook = sys.__breakpointhook__").ok()  # fmt: skip
    run = desk.remote(code, on_input=answering("n", "p x", "c")).ok()
    desk.remote("sys.breakpointhook = before").ok()
    assert prompts(run) == ["[k] ipdb> "] * 3
    assert run.result == "3"


# Files and the next cell.


def test_run_runs_a_script_of_that_kernel(desk: Desk, script: Path) -> None:
    run = desk.remote(f"%run {script}\nq").ok()
    assert transcript(run) == "script __main__\n<5>\n"


def test_run_of_a_file_with_remote_lines_runs_them_there(desk: Desk) -> None:
    file = desk.sandbox.work / "mixed.ipy"
    file.write_text("%remote k mixed = 1\nprint('here')\n")
    assert desk.run(f"%run {file}").ok().stdout == "here\n"
    file.unlink()
    assert there(desk, "mixed") == 1


@pytest.mark.parametrize("magic", ["load", "loadpy"])
def test_load_fills_the_cell_under_its_header(desk: Desk, script: Path, magic: str) -> None:
    run = desk.remote(f"%{magic} {script}")
    text = next_cell(run)
    assert text.startswith("%%remote k\n# %load")
    assert text.endswith(script.read_text())
    assert run.reply["payload"][0]["replace"] is True


def test_set_next_input_and_recall_fill_the_next_cell_under_the_header(desk: Desk) -> None:
    run = desk.remote("get_ipython().set_next_input('x = 1')", "--timeout 60")
    assert next_cell(run) == "%%remote --timeout 60 k\nx = 1"
    assert run.reply["payload"][0]["replace"] is False
    desk.remote("'recalled'").ok()
    assert next_cell(desk.remote("%recall")) == "%%remote k\nrecalled"


def test_rerun_and_history_are_of_that_kernel(desk: Desk) -> None:
    desk.remote("print('once more')").ok()
    assert desk.remote("%rerun").ok().stdout.endswith("once more\n")
    history = desk.remote("%history -l 2").ok().stdout
    assert "once more" in history
    assert "%%remote" not in history


def test_writefile_and_cd_are_there(desk: Desk) -> None:
    file = desk.sandbox.work / "written.txt"
    assert desk.remote(f"%%writefile {file}\nhello").ok().stdout == f"Writing {file}\n"
    assert file.read_text() == "hello\n"
    file.unlink()
    here = desk.value("__import__('os').getcwd()")
    before = there(desk, "__import__('os').getcwd()")
    assert desk.remote("%cd -q /").ok().stdout == ""
    assert there(desk, "__import__('os').getcwd()") == "/"
    desk.remote(f"%cd -q {before}").ok()
    assert desk.value("__import__('os').getcwd()") == here


def test_edit_says_which_file_of_that_kernel_it_wants_opened(desk: Desk) -> None:
    file = desk.sandbox.work / f"{'long-' * 12}name.py"
    run = desk.remote(f"get_ipython().payload_manager.write_payload("
                      f"{{'source': 'edit_magic', 'filename': {str(file)!r}}})")  # fmt: skip
    assert run.ok().stderr == (
        f"[k] %edit wants {file} opened, which is a file of that kernel; open it there\n"
    )
    assert run.reply["payload"] == []


# Help.


@pytest.mark.parametrize("question", ["greet?", "?greet", "%pinfo greet", "greet??"])
def test_help_opens_the_pager_here(desk: Desk, question: str) -> None:
    desk.remote("def greet(name): 'Greets, there.'").ok()
    desk.run("def greet(nobody): 'Here.'").ok()
    assert "Greets, there." in page(desk.remote(question))


@pytest.mark.parametrize("line", ["%remote k greet?", "%remote k greet??", "%remote -t k greet?"])
def test_help_on_a_remote_line_is_that_kernel_s(desk: Desk, line: str) -> None:
    desk.remote("def greet(name): 'Greets, there.'").ok()
    assert "Greets, there." in page(desk.run(line))
    assert "Greets, there." in page(desk.run(f"if True:\n    {line}"))


def test_help_on_the_magic_itself_stays(desk: Desk) -> None:
    assert "%remote [" in page(desk.run("%remote?"))


# Where cells are of another language, or text for the front end.

SHOWN = {
    "html": ("<b>x</b>", "text/html"),
    "javascript": ("alert(1)", "application/javascript"),
    "markdown": ("**x**", "text/markdown"),
    "latex": ("$x$", "text/latex"),
    "svg": ("<svg/>", "image/svg+xml"),
}


@pytest.mark.parametrize("magic", SHOWN)
def test_markup_in_it_is_shown_here(desk: Desk, magic: str) -> None:
    text, mime = SHOWN[magic]
    (content,) = desk.remote(f"%%{magic}\n{text}").ok().of_type("display_data")
    assert content["data"][mime].strip() == text


@pytest.mark.parametrize("magic", ["html", "javascript"])
def test_markup_above_it_takes_it_for_markup(desk: Desk, magic: str) -> None:
    run = desk.run(f"%%{magic}\n{remotely('seen = 1')}").ok()
    (content,) = run.of_type("display_data")
    assert content["data"][SHOWN[magic][1]].strip() == remotely("seen = 1")
    assert desk.remote("seen").reply["ename"] == "NameError"


def test_bash_in_it_runs_there(desk: Desk) -> None:
    run = desk.remote("%%bash\necho out; echo err >&2; exit 3")
    assert (run.stdout, run.stderr) == ("out\n", "err\n")
    assert run.reply["ename"] == "CalledProcessError"
    assert desk.remote("%%script sh\necho $0").ok().stdout == "sh\n"


def test_commands_run_there(desk: Desk) -> None:
    run = desk.remote("x = 'far'\n!echo $PPID\nlines = !echo $x {x}\nlines").ok()
    pid = there(desk, "__import__('os').getpid()")
    assert transcript(run).replace("\r", "") == f"{pid}\n<['far far']>\n"


def test_the_environment_is_that_kernel_s(desk: Desk) -> None:
    assert desk.remote("%env KM_ROW=1").ok().stdout == "env: KM_ROW=1\n"
    assert desk.remote("%env KM_ROW").ok().result == "'1'"
    assert desk.value("'KM_ROW' in __import__('os').environ") is False


def test_pip_is_that_kernel_s(desk: Desk) -> None:
    prefix = there(desk, "__import__('sys').prefix")
    assert f" from {prefix}/" in desk.remote("%pip --version").ok().stdout


# The session there.


def test_who_and_reset_are_about_its_names(desk: Desk) -> None:
    desk.run("kept_here = 1").ok()
    desk.remote("%reset -f").ok()
    desk.remote("only_there = 1").ok()
    assert desk.remote("%who").ok().stdout.split() == ["only_there"]
    assert desk.remote("%reset -f").ok().outputs == []
    assert desk.remote("only_there").reply["ename"] == "NameError"
    assert desk.value("kept_here") == 1


def test_await_works_at_its_top(desk: Desk) -> None:
    run = desk.remote("import asyncio\nawait asyncio.sleep(0.01, 'awaited')").ok()
    assert run.result == "'awaited'"


@pytest.mark.parametrize("code, evalue", [("sys.exit(3)", "3"), ("raise SystemExit('bye')", "bye")])
def test_a_system_exit_is_an_error_of_the_cell(desk: Desk, code: str, evalue: str) -> None:
    run = desk.remote(f"import sys\n{code}")
    assert (run.reply["ename"], run.reply["evalue"]) == ("SystemExit", evalue)
    assert desk.remote("'there still'").ok().result == "'there still'"


@pytest.mark.parametrize("word", ["exit", "quit", "exit()"])
def test_exit_ends_that_kernel_and_says_so(desk: Desk, word: str) -> None:
    with desk.owned() as own:
        run = desk.remote(word, kernel=own).ok()
        assert run.stderr == "[own] was asked to exit; this session is still here\n"
        assert run.reply["payload"] == []
    assert desk.run("6 * 7").ok().result == "42"


def test_settings_are_that_kernel_s(desk: Desk) -> None:
    assert "Plain" in desk.remote("%xmode Plain").ok().stdout
    lines = error_lines(desk.remote("1 / 0"))
    desk.remote("%xmode Context").ok()
    assert "Traceback (most recent call last):" in lines[1]
    assert "-----" in error_lines(desk.run("1 / 0"))[0]


def test_connect_info_is_that_kernel_s_own_and_tells_its_key(desk: Desk) -> None:
    key = str(desk.kernel.info["key"])
    assert key in desk.remote("%connect_info").ok().stdout
    hidden = desk.run("%connection_info k").ok()
    assert key not in str([one.content for one in hidden.outputs])


def test_tb_shows_the_last_error_again(desk: Desk) -> None:
    desk.remote("1 / 0")
    run = desk.remote("%tb")
    assert kinds(run) == ["error"]
    assert error_lines(run)[0] == "[k]"


# What is shown.


def test_a_plot_is_shown_here(desk: Desk) -> None:
    code = "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2]);"
    (content,) = desk.remote(code).ok().of_type("display_data")
    assert content["data"]["image/png"].startswith("iVBOR")


def test_a_loop_that_clears_clears_here(desk: Desk) -> None:
    code = (
        "from IPython.display import clear_output\n"
        "for i in range(3):\n    clear_output(wait=True)\n    print(i)"
    )
    run = desk.remote(code).ok()
    assert kinds(run) == ["clear_output", "stream"] * 3
    assert run.of_type("clear_output") == [{"wait": True}] * 3


def test_a_display_is_updated_from_a_later_cell(desk: Desk) -> None:
    first = desk.remote("display('one', display_id='row');").ok()
    second = desk.remote("display('two', display_id='row', update=True);").ok()
    (shown,), (update,) = first.of_type("display_data"), second.of_type("update_display_data")
    assert shown["transient"] == update["transient"] == {"display_id": "row"}
    assert update["data"]["text/plain"] == "'two'"


def test_a_syntax_error_is_shown_with_its_place(desk: Desk) -> None:
    run = desk.remote("def f(:\n    pass")
    assert (run.reply["ename"], kinds(run)) == ("SyntaxError", ["error"])
    assert "    def f(:" in error_lines(run)


def test_warnings_and_log_lines_are_shown(desk: Desk) -> None:
    code = "import logging, warnings\nwarnings.warn('careful')\nlogging.warning('logged')"
    stderr = desk.remote(code).ok().stderr
    assert "UserWarning: careful" in stderr
    assert "WARNING:root:logged" in stderr


# Cells in cells.


def test_a_cell_that_runs_a_remote_cell_shows_it(desk: Desk) -> None:
    code = "run = get_ipython().run_cell('%%remote k\\nprint(1)\\n2')"
    assert transcript(desk.run(code).ok()) == "1\n<2>\n"
    assert transcript(desk.remote("run = get_ipython().run_cell('print(1)\\n2')").ok()) == (
        "1\n<2>\n"
    )


@pytest.mark.full
def test_a_kernel_behind_that_kernel_is_reached_through_it(desk: Desk) -> None:
    with desk.owned() as own:
        desk.remote("%load_ext kernel_magics\n%kernel_start python3 --name far", kernel=own).ok()
        asked = desk.remote(
            "%%remote far\nprint('deep'); input('who? ')", kernel=own, on_input=answering("me")
        ).ok()
        assert (asked.stdout, asked.result) == ("deep\n", "'me'")
        assert prompts(asked) == ["[own] [far] who? "]
        failed = desk.remote("%%remote far\n1 / 0", kernel=own)
        assert error_lines(failed)[:2] == ["[own]", "[far]"]
        assert failed.reply["ename"] == "ZeroDivisionError"
        assert "Prints the values" in page(desk.remote("%%remote far\nprint?", kernel=own))
        desk.remote("%kernel_shutdown far", kernel=own).ok()


def test_sticky_mode_takes_all_of_it_there(desk: Desk, script: Path) -> None:
    desk.remote(f"{FAILING}pass").ok()
    desk.run("%autoremote k").ok()
    try:
        timed = desk.run("%%time\nprint('there')").ok()
        captured = desk.run("%%capture taken\nprint('there')").ok()
        failed = desk.run("fail(0)")
        debugged = desk.run("%debug", on_input=answering("p x", "q")).ok()
        loaded = next_cell(desk.run(f"%load {script}"))
        asked = desk.run("fail?").ok()
        left = desk.run("%%html\n<b>x</b>").ok()
    finally:
        desk.run("%autoremote off").ok()
    assert timed.stdout.startswith("there\nCPU times: ")
    assert captured.stdout == ""
    assert there(desk, "taken.stdout") == "there\n"
    assert failed.reply["ename"] == "ZeroDivisionError"
    assert prompts(debugged) == ["[k] ipdb> "] * 2
    assert loaded.startswith("# %load")
    assert "Signature: fail(x)" in page(asked)
    assert left.of_type("display_data")[-1]["data"]["text/html"] == "<b>x</b>\n"


# In a terminal.


@pytest.fixture(scope="module")
def place(run_folder: Path) -> Generator[Sandbox]:
    with lasting_sandbox(run_folder) as sandbox:
        yield sandbox


@pytest.fixture
def terminal(place: Sandbox) -> Generator[TerminalHost]:
    """The prompt that people have; a kernel is attached as ``k``. A new one for each test: one that
    was typed into at the wrong moment shall not spoil the others'."""
    with (
        HandKernel.start("tcp", place) as kernel,
        TerminalHost(place, mode="full") as terminal,
    ):
        yield terminal_with(terminal, kernel)


@pytest.mark.full
def test_time_in_a_terminal(terminal: TerminalHost) -> None:
    lines = terminal.run("%%time\n" + remotely("print('x'); 6 * 7")).split("\n")
    assert (lines[0], lines[1].split(": ")[1], lines[2][:9]) == ("x", "42", "CPU times")
    assert terminal.run(remotely("%%time\nprint('x')")).startswith("x\nCPU times: ")


def test_capture_in_a_terminal(terminal: TerminalHost) -> None:
    code = "print('out'); display('shown'); 6 * 7"
    for cell in (remotely(code), code):  # there, and here: the same
        assert terminal.run(f"%%capture taken\n{cell}") == ""
        taken = terminal.run("taken.stdout, [o.data['text/plain'] for o in taken.outputs]")
        assert ast.literal_eval(taken.split(": ", 1)[1]) == ("out\n", ["'shown'", "42"])


@pytest.mark.full
def test_debug_in_a_terminal(terminal: TerminalHost) -> None:
    terminal.run(remotely(f"{FAILING}fail(0)"))
    terminal.start("%remote k %debug")
    terminal.expect(r"\[k\] ipdb> ")
    terminal.type_line("p x + 41")
    terminal.expect(r"41\s+\[k\] ipdb> ")
    terminal.type_line("q")
    terminal.finish()
    assert terminal.run("%remote k 'again'").endswith("'again'")


@pytest.mark.full
def test_help_in_a_terminal(terminal: TerminalHost) -> None:
    terminal.run(remotely("def greet(name): 'Greets, there.'"))
    assert "Greets, there." in terminal.run("%remote k greet?")
    assert "Greets, there." in terminal.run(remotely("greet?"))


@pytest.mark.full
def test_markup_in_a_terminal_is_named(terminal: TerminalHost) -> None:
    assert terminal.run(remotely("%%html\n<b>x</b>")) == "<IPython.core.display.HTML object>"
    printed = terminal.run(remotely("%%javascript\nalert(1)"))
    assert printed == "<IPython.core.display.Javascript object>"


def test_clears_and_updates_in_a_terminal(terminal: TerminalHost) -> None:
    clears = (
        "from IPython.display import clear_output\n"
        "for i in range(3):\n    clear_output(wait=True)\n    print(i)"
    )
    assert terminal.run(remotely(clears)) == "0\n1\n2"
    printed = terminal.run(
        remotely("handle = display('one', display_id=True)\nhandle.update('two')")
    )
    assert printed == "'one'\n'two'"


@pytest.mark.full
def test_load_in_a_terminal(terminal: TerminalHost, place: Sandbox) -> None:
    """The text is typed already at the next prompt; a blank line at its end runs it."""
    file = place.work / "typed.py"
    file.write_text("print('loa' + 'ded')\n")
    terminal.start(f"%remote k %load {file}")
    terminal.expect(r"%%remote k")
    terminal.expect(r"loa' \+ 'ded")
    terminal.press("\x1b\r")
    terminal.expect(r"loaded\r?\n")


# The table itself.


def rows() -> list[list[str]]:
    lines = [line for line in TABLE.read_text().splitlines() if line.startswith("| ")]
    cells = [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in lines]
    return [row for row in cells if row[0] != "you type" and not row[0].startswith("---")]


def test_every_row_of_the_table_names_its_tests_and_they_exist() -> None:
    for row in rows():
        named = re.findall(r"`(?:(\w+):)?(\w+)`", row[-1])
        assert named, row
        for module, name in named:
            file = Path(__file__).with_name(f"test_{module or 'cells'}.py")
            assert f"def test_{name}(" in file.read_text(), (row[0], name)


def test_every_test_is_of_a_row() -> None:
    text = TABLE.read_text()
    names = re.findall(r"^def test_(\w+)\(", Path(__file__).read_text(), re.MULTILINE)
    unnamed = [n for n in names if f"`{n}`" not in text and not n.startswith("every_")]
    assert unnamed == []
