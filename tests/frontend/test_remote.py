"""How a remote cell ends: like a local one, and every error says once what it is."""

import os
from collections.abc import Callable

import pytest
from nbclient.exceptions import CellExecutionError

from tests import frontend
from tests.frontend import LOAD, Desk, error_lines, kinds, plain, remotely, transcript
from tests.support import steps
from tests.support.connection import write_info
from tests.support.hosts import run_notebook
from tests.support.kernels import HandKernel
from tests.support.sandbox import Sandbox

desk, lasting_desk = frontend.desk, frontend.lasting_desk_newest_first
new_desk = frontend.new_desk

RAISE = "def inner():\n    raise KeyError('of the other kernel')\ninner()"


def test_a_remote_error_is_the_reply_of_the_local_cell(desk: Desk) -> None:
    here, there = desk.run(RAISE), desk.remote(RAISE)
    assert there.status == "error"
    assert (there.reply["ename"], there.reply["evalue"]) == ("KeyError", here.reply["evalue"])
    # The remote's lines, but for the number of its cell.
    mine, theirs = ([plain(line) for line in run.reply["traceback"]] for run in (here, there))
    assert theirs[-len(mine) :][-1] == mine[-1]
    assert any("inner()" in line for line in theirs)


def test_the_lines_of_an_error_are_those_of_the_other_kernel(desk: Desk) -> None:
    desk.remote("x = 1\n1 / 0", "--no-raise-error").ok()
    run = desk.remote(RAISE)
    (content,) = run.of_type("error")
    assert plain(content["traceback"][0]) == "[k]"
    assert content["traceback"][1:] == run.reply["traceback"][-len(content["traceback"]) + 1 :]
    assert not any("kernel_magics" in line for line in error_lines(run))


def test_no_raise_error_lets_the_cell_succeed(desk: Desk) -> None:
    run = desk.remote("print('before')\n1 / 0", "--no-raise-error").ok()
    assert transcript(run) == "before\n<error>\n"
    assert run.reply["status"] == "ok"


def test_no_raise_error_is_for_remote_errors_alone(desk: Desk) -> None:
    with desk.fake([steps.busy(), steps.reply("aborted"), steps.idle()]):
        run = desk.remote("x", "--no-raise-error", kernel="fake")
    assert (run.status, run.reply.get("ename")) == ("error", "Aborted")


@pytest.mark.parametrize("options", [(), ("-q",)], ids=["shown", "quiet"])
def test_no_raise_error_shows_an_error_that_only_the_reply_told(
    desk: Desk, options: tuple[str, ...]
) -> None:
    with desk.fake([steps.busy(), steps.reply("error"), steps.idle()]):
        run = desk.remote("x", "--no-raise-error", *options, kernel="fake").ok()
    assert kinds(run) == ([] if options else ["error"])


def test_quiet_shows_nothing_but_raises_with_the_whole_traceback(desk: Desk) -> None:
    code = "import sys\nprint('out'); print('err', file=sys.stderr); display('shown')\n"
    assert desk.remote(code, "-q").ok().outputs == []
    run = desk.remote(code + RAISE, "--quiet")
    assert kinds(run) == ["error"]
    lines = error_lines(run)
    assert lines[0] == "[k]"
    assert sum("Traceback (most recent call last)" in line for line in lines) == 1
    assert lines[-1] == "KeyError: 'of the other kernel'"


@pytest.mark.parametrize(
    "code, ename, shown",
    [
        ("%no_such_magic", "UsageError", "%no_such_magic"),
        ("raise ExceptionGroup('g', [ValueError(1)])", "ExceptionGroup", "ExceptionGroup: g"),
        ("%%no_such_magic\nx", "UsageError", "%%no_such_magic"),
    ],
    ids=["a mistyped magic", "an exception group", "a mistyped cell magic"],
)
def test_an_error_that_the_other_kernel_explains_itself_is_not_told_twice(
    desk: Desk, code: str, ename: str, shown: str
) -> None:
    here, there = desk.run(code), desk.remote(code)
    assert there.reply["ename"] == here.reply["ename"] == ename
    assert kinds(there) == kinds(here) == ["stream"]
    assert there.stderr.count(shown) == here.stderr.count(shown) == 1


def test_a_syntax_error_is_shown_once(desk: Desk) -> None:
    run = desk.remote("1 +")
    assert kinds(run) == ["error"]
    assert run.reply["ename"] == "SyntaxError"


def test_a_remote_error_can_be_caught(desk: Desk) -> None:
    code = """\
import kernel_magics
try:
    get_ipython().run_cell_magic('remote', '-q k', "print('x')\\nraise KeyError('y')")
except kernel_magics.RemoteError as error:
    caught = type(error).__name__, error.ename, error.evalue, error.kernel, len(error.traceback) > 1
print('went on')"""
    run = desk.run(code).ok()
    assert run.stdout == "went on\n"
    assert desk.value("caught") == ("KeyError", "KeyError", "'y'", "k", True)


def test_a_caught_remote_error_has_been_shown_where_it_was_raised(desk: Desk) -> None:
    code = """\
try:
    get_ipython().run_line_magic('remote', 'k 1 / 0')
except Exception as error:
    print('caught', type(error).__name__)"""
    assert transcript(desk.run(code).ok()) == "<error>\ncaught ZeroDivisionError\n"


def test_what_follows_a_remote_error_does_not_run(desk: Desk) -> None:
    code = "ran = False\nget_ipython().run_line_magic('remote', 'k 1 / 0')\nran = True"
    assert desk.run(code).status == "error"
    assert desk.value("ran") is False


def test_a_cell_that_waits_behind_a_remote_error_is_aborted(desk: Desk) -> None:
    # As Run All in JupyterLab: everything is sent at once.
    first = desk.host.start("%remote k __import__('time').sleep(0.2); 1 / 0")
    second = desk.host.start("print('must not run')")
    first.wait(), second.wait()
    assert (first.reply["ename"], second.status) == ("ZeroDivisionError", "aborted")
    assert desk.run("1").result == "1"


def test_nbclient_stops_at_a_remote_error_and_names_it(
    sandbox: Sandbox, hand_kernel: Callable[..., HandKernel]
) -> None:
    kernel = hand_kernel()
    attach = f"%kernel_attach {kernel.connection_file} --name k"
    cells = [remotely("ran = 1"), remotely(RAISE), remotely("ran = 2")]
    with pytest.raises(CellExecutionError) as caught:
        run_notebook(cells, sandbox, prologue=[LOAD, attach])
    assert (caught.value.ename, caught.value.evalue) == ("KeyError", "'of the other kernel'")
    assert "raise KeyError('of the other kernel')" in plain(caught.value.traceback)
    assert kernel.value("ran") == 1


@pytest.mark.full
def test_nbclient_keeps_what_an_erring_notebook_shows(
    sandbox: Sandbox, hand_kernel: Callable[..., HandKernel]
) -> None:
    attach = f"%kernel_attach {hand_kernel().connection_file} --name k"
    cells = [remotely("print('a')\n1 / 0"), remotely("print('b')\n'c'")]
    notebook = run_notebook(cells, sandbox, prologue=[LOAD, attach], allow_errors=True)
    (failed, fine) = notebook.cells[2:]
    assert "".join(one.text for one in failed.outputs[:-1]) == "a\n"
    assert failed.outputs[-1].ename == "ZeroDivisionError"
    assert "".join(one.text for one in fine.outputs[:-1]) == "b\n"
    assert fine.outputs[-1].output_type == "execute_result"
    assert fine.outputs[-1].execution_count == fine.execution_count


# Errors of this side: one plain line.


@pytest.mark.full
def test_a_kernel_that_died_between_two_cells_is_one_plain_line(desk: Desk) -> None:
    with desk.fake() as kernel:
        kernel.do(lambda kernel: kernel.play([steps.close_channels()], kernel.requests[-1]))
        run = desk.remote("x", kernel="fake")
    assert run.reply["ename"] == "KernelDied"
    (line,) = error_lines(run)
    assert line.startswith("KernelDied: kernel fake ")


def test_a_restarted_kernel_is_one_plain_line(desk: Desk) -> None:
    with desk.fake([steps.busy(), steps.stream("before\n"), steps.restart()]):
        run = desk.remote("x", kernel="fake")
        assert transcript(run) == "before\n<error>\n"
        (line,) = error_lines(run)
        assert line.startswith("KernelRestarted: kernel fake was restarted: ")
        assert desk.remote("x", kernel="fake").reply["ename"] == "KernelRestarted"


def test_an_aborted_cell_is_one_plain_line(desk: Desk) -> None:
    with desk.fake([steps.busy(), steps.reply("aborted"), steps.idle()]):
        run = desk.remote("x", kernel="fake")
    (line,) = error_lines(run)
    assert line.startswith("Aborted: fake did not run this cell: ")


def test_a_passed_time_limit_is_one_plain_line_and_the_code_runs_on(desk: Desk) -> None:
    desk.remote("import threading; go = threading.Event()").ok()
    run = desk.remote("print('begun', flush=True); go.wait(30)", "--timeout 0.3")
    assert transcript(run) == "begun\n<error>\n"
    (line,) = error_lines(run)
    assert line.startswith("ExecutionTimeout: no end after 0.3 s; the code runs on in k ")
    assert "%kernel_interrupt k" in line
    desk.run("%kernel_interrupt k").ok()
    assert desk.remote("'again'").ok().result == "'again'"


def test_a_missing_verdict_is_told_after_the_outputs(desk: Desk) -> None:
    with desk.fake([steps.busy(), steps.stream("text\n"), steps.idle()]):
        run = desk.remote("x", kernel="fake")
    assert transcript(run) == "text\n<error>\n"
    (line,) = error_lines(run)
    assert line.startswith("ReplyLost: fake finished this cell without a reply")


def test_this_notebook_s_own_kernel_is_refused_in_a_sentence(desk: Desk) -> None:
    run = desk.remote("1", kernel=desk.host.connection_file.stem)
    (line,) = error_lines(run) or run.stderr.splitlines()
    assert "is the kernel this cell runs in; it would wait for itself for ever" in line


# What was typed wrong: IPython's one line for that.


def usage_error(desk: Desk, cell: str) -> str:
    """Run a cell that has to fail as typed wrong; return the one line."""
    run = desk.run(cell)
    assert (run.status, run.reply["ename"]) == ("error", "UsageError")
    assert kinds(run) == ["stream"]
    assert run.stdout == ""
    (line,) = run.stderr.splitlines()
    assert line.startswith("UsageError: ")
    return line.removeprefix("UsageError: ")


def test_an_unknown_kernel_is_a_usage_error_that_says_where_was_looked(desk: Desk) -> None:
    line = usage_error(desk, "%%remote nowhere\n1")
    assert line.startswith("no kernel matches 'nowhere'; searched ")
    assert str(desk.sandbox.runtime) in line


def test_a_short_fragment_is_a_usage_error(desk: Desk) -> None:
    assert "needs 4 characters" in usage_error(desk, "%%remote abc\n1")


def test_an_ambiguous_fragment_is_a_usage_error_that_lists_the_matches(desk: Desk) -> None:
    twins = [desk.sandbox.runtime / f"kernel-twin-{end}.json" for end in ("aa", "bb")]
    try:
        for twin in twins:
            write_info(twin, desk.kernel.info)
        line = usage_error(desk, "%%remote twin\n1")
    finally:
        for twin in twins:
            twin.unlink()
    assert "matches 2 kernels: kernel-twin-aa, kernel-twin-bb" in line


@pytest.mark.parametrize(
    "cell, complaint",
    [
        ("%%remote --timeout\n1", "--timeout"),
        ("%%remote --timeout soon k\n1", "soon"),
        ("%%remote --no-such k\n1", "--no-such"),
        ("%%remote k too much\n1", "too much"),
        ("%kernel_attach", "required: what"),
        ("%kernel_attach nowhere", "no kernel matches 'nowhere'"),
        ("%kernel_start --env NOVALUE", "--env wants NAME=VALUE"),
        ("%kernel_start --name all", "reserved"),
        ("%kernel_start --name with/slash", "other characters"),
        ("%kernel_detach nobody", "no kernel matches 'nobody'"),
        ("%kernel_interrupt nobody", "no kernel matches 'nobody'"),
        ("%kernel_restart nobody", "no kernel matches 'nobody'"),
        ("%kernel_shutdown nobody", "no kernel matches 'nobody'"),
        ("%kernel_restart k", "k was not started here"),
        ("%connection_info nobody", "no kernel matches 'nobody'"),
        ("%kernels nobody", "unrecognized arguments: nobody"),
    ],
)
def test_what_is_typed_wrong_is_a_usage_error(desk: Desk, cell: str, complaint: str) -> None:
    assert complaint in usage_error(desk, cell)


def test_without_a_kernel_the_last_one_is_meant_as_long_as_it_is_there(desk: Desk) -> None:
    with desk.fake([steps.busy(), steps.stream("of fake"), steps.idle(), steps.reply()]):
        desk.remote("x", kernel="fake").ok()
        again = desk.run("%%remote\nx").ok()
        assert (again.stdout, again.stderr) == ("of fake", "[fake]\n")
    assert "which kernel? None was named before" in usage_error(desk, "%remote")


HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "binary": bytes(range(256)),
    "half written": b'{"shell_port": 1, "key": "SECRET',
    "a list": b"[1, 2]",
    "nested": b"[" * 60_000,
    "huge": b" " * 70_000,
    "without ports": b'{"key": "SECRET"}',
    "a port of text": b'{"shell_port": "80; rm -rf", "key": "SECRET", "ip": "127.0.0.1"}',
    "a key of two": b'{"key": ["SECRET"], "ip": "127.0.0.1", "shell_port": 1, "iopub_port": 2, '
    b'"stdin_port": 3, "control_port": 4, "hb_port": 5}',
    "a host with a newline": b'{"key": "SECRET", "ip": "127.0.0.1\\nevil", "shell_port": 1}',
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_connection_file_is_a_usage_error_that_does_not_quote_it(
    desk: Desk, kind: str
) -> None:
    file = desk.sandbox.runtime / "kernel-hostile.json"
    try:
        file.write_bytes(HOSTILE[kind])
        file.chmod(0o600)
        by_path = usage_error(desk, f"%kernel_attach {file}")
        by_name = usage_error(desk, "%%remote hostile\n1")
    finally:
        file.unlink()
    assert by_path == by_name
    assert str(file) in by_path
    assert "SECRET" not in by_path


def test_a_named_pipe_for_a_connection_file_makes_nobody_wait(desk: Desk) -> None:
    file = desk.sandbox.runtime / "kernel-hostile.json"
    os.mkfifo(file)
    try:
        assert "is not a regular file" in usage_error(desk, "%%remote hostile\n1")
        desk.run("%kernels --all").ok()
    finally:
        file.unlink()


# Errors that somebody else wants to handle.

MINE = """\
handled = []
def mine(shell, kind, value, traceback, tb_offset=None):
    handled.append(kind.__name__)
get_ipython().set_custom_exc((ValueError,), mine)"""


@pytest.mark.full
def test_a_handler_set_before_loading_works_beside_ours_and_after_unloading(
    new_desk: Callable[..., Desk],
) -> None:
    desk = new_desk()
    desk.run("%unload_ext kernel_magics").ok()
    desk.run(MINE).ok()
    desk.run(LOAD).ok()
    desk.attach(desk.kernel.connection_file, "k")
    assert desk.run("raise ValueError").of_type("error") == []
    assert desk.value("handled") == ["ValueError"]
    assert kinds(desk.remote("1 / 0")) == ["error"]
    assert kinds(desk.remote("raise ValueError")) == ["error"]
    assert desk.value("handled") == ["ValueError"]
    desk.run("%unload_ext kernel_magics").ok()
    assert desk.run("raise ValueError").of_type("error") == []
    assert desk.value("handled") == ["ValueError"] * 2
    assert desk.value("[kind.__name__ for kind in get_ipython().custom_exceptions]") == [
        "ValueError"
    ]


def test_a_handler_for_every_error_leaves_remote_errors_in_peace(
    new_desk: Callable[..., Desk],
) -> None:
    desk = new_desk()
    desk.run("%unload_ext kernel_magics").ok()
    desk.run(MINE.replace("ValueError", "Exception")).ok()
    desk.run(LOAD).ok()
    desk.attach(desk.kernel.connection_file, "k")
    assert desk.run("raise ValueError").of_type("error") == []
    run = desk.remote("1 / 0")
    assert kinds(run) == ["error"]
    assert run.reply["ename"] == "ZeroDivisionError"
    assert desk.value("handled") == ["ValueError"]


@pytest.mark.full
def test_a_handler_set_after_loading_works_and_stays(new_desk: Callable[..., Desk]) -> None:
    desk = new_desk()
    desk.run(MINE).ok()
    assert desk.run("raise ValueError").of_type("error") == []
    run = desk.remote("1 / 0")
    assert run.reply["ename"] == "ZeroDivisionError"
    assert sum("1 / 0" in line for line in error_lines(run)) == 1
    desk.run("%unload_ext kernel_magics").ok()
    assert desk.run("raise ValueError").of_type("error") == []
    assert desk.value("handled") == ["ValueError"] * 2
