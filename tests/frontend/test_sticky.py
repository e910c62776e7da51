"""Sticky mode, the kernel that was named last, values, and cells beside busy ones."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest

from tests import frontend
from tests.frontend import Desk, error_lines, terminal_with
from tests.support import steps
from tests.support.fake import Request
from tests.support.hosts import TerminalHost
from tests.support.kernels import HandKernel
from tests.support.waiting import wait_until

desk, lasting_desk = frontend.desk, frontend.lasting_desk_newest_first
new_desk = frontend.new_desk


@pytest.fixture
def sticky(desk: Desk) -> Generator[Desk]:
    """A notebook whose cells all go to ``k``; ``where`` tells."""
    desk.run("where = 'here'; cells = []").ok()
    desk.remote("where = 'there'; cells = []").ok()
    desk.run("%autoremote k").ok()
    yield desk
    assert "cells run here" in desk.run("%autoremote off").ok().stdout


def test_every_cell_runs_there_until_it_is_ended(desk: Desk) -> None:
    desk.run("where = 'here'").ok()
    desk.remote("where = 'there'").ok()
    said = desk.run("%autoremote k").ok().stdout
    assert "every cell now runs in k" in said
    assert "%autoremote off" in said
    assert "%%local" in said
    assert desk.run("where").ok().result == "'there'"
    assert "every cell runs in k" in desk.run("%autoremote").ok().stdout
    assert "cells run here again, no longer in k" in desk.run("%autoremote off").ok().stdout
    assert desk.run("where").ok().result == "'here'"
    assert "cells run here" in desk.run("%autoremote").ok().stdout


CELLS = {
    "a value": ("where", "'there'"),
    "several lines": ("a = 1\nfor i in range(3):\n    a += i\na, where", "(4, 'there')"),
    "top-level await": ("import asyncio\nawait asyncio.sleep(0, where)", "'there'"),
    "an async for": ("[c async for c in (x async for x in g())] if 0 else where", "'there'"),
    "a shell command's output": ("x = !echo hi\nx[0], where", "('hi', 'there')"),
    "a timed line": ("%time where", "'there'"),
    "a timed cell": ("%%time\nwhere", "'there'"),
    "an indented cell": ("  where", "'there'"),
    "a comment first": ("# where?\nwhere", "'there'"),
    "a cell with a prompt": (">>> where", "'there'"),
    "blank lines first": ("\n\nwhere", "'there'"),
    "a definition": ("def f():\n    return where\n\nf()", "'there'"),
    "text that looks like ours": ("'''\n%autoremote off\n'''; where", "'there'"),
}


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_is_the_other_kernels(sticky: Desk, name: str) -> None:
    code, result = CELLS[name]
    assert sticky.run(code).ok().result == result


def test_a_shell_command_runs_there(sticky: Desk) -> None:
    sticky.run("import os; os.environ['KM_WHERE'] = 'there'").ok()
    assert sticky.run("!echo $KM_WHERE").ok().stdout.split() == ["there"]


def test_unfinished_code_and_errors_are_the_other_kernels(sticky: Desk) -> None:
    assert "SyntaxError" in sticky.run("for").error
    lines = error_lines(sticky.run("1 / 0"))
    assert lines[0] == "[k]"
    assert "ZeroDivisionError" in lines[-1]


def test_help_opens_here(sticky: Desk) -> None:
    run = sticky.run("where?").ok()
    assert [one["source"] for one in run.reply["payload"]] == ["page"]


def test_the_next_input_comes_without_a_header(sticky: Desk) -> None:
    run = sticky.run("get_ipython().set_next_input('a = 1')").ok()
    assert [one["text"] for one in run.reply["payload"]] == ["a = 1"]


LOCAL = {
    "a value": ("%%local\nwhere", "'here'"),
    "top-level await": ("%%local\nimport asyncio\nawait asyncio.sleep(0, where)", "'here'"),
    "another cell magic": ("%%local\n%%time\nwhere", "'here'"),
    "a nested cell": (
        "%%local\nget_ipython().run_cell('cells.append(where)')\ncells[-1]",
        "'here'",
    ),
}


@pytest.mark.parametrize("name", LOCAL)
def test_one_cell_can_run_here(sticky: Desk, name: str) -> None:
    code, result = LOCAL[name]
    assert sticky.run(code).ok().result == result


def test_an_error_in_a_local_cell_is_an_error_of_this_kernel(sticky: Desk) -> None:
    run = sticky.run("%%local\n1 / 0")
    assert run.status == "error"
    assert error_lines(run)[0] != "[k]"


def test_without_sticky_mode_a_local_cell_is_a_cell(desk: Desk) -> None:
    assert desk.run("%%local\n6 * 7").ok().result == "42"
    assert "takes nothing behind it" in desk.run("%%local x\n6 * 7").stderr


def test_our_own_magics_stay_here(sticky: Desk) -> None:
    assert "k " in sticky.run("%kernels").ok().of_type("display_data")[0]["data"]["text/plain"]
    with sticky.owned(name="second"):
        assert sticky.run("%%remote second\nimport os; 'where' in globals()").ok().result == "False"
        sticky.run("%remote second where = 'elsewhere'").ok()
        assert sticky.run("%remote second where").ok().result == "'elsewhere'"
    sticky.run("%kernel_interrupt k").ok()


def test_a_notebook_names_the_kernel_above_the_outputs(sticky: Desk) -> None:
    first, *_ = sticky.run("where").ok().outputs
    assert first.content["data"]["text/plain"] == "[k]"
    assert "[k]" in first.content["data"]["text/html"]


def test_the_history_has_what_was_typed(sticky: Desk) -> None:
    sticky.run("where + '!'").ok()
    asked = {
        "hist_access_type": "tail",
        "n": 1,
        "raw": True,
        "output": False,
        "session": 0,
        "start": 0,
        "stop": 0,
        "unique": False,
        "pattern": "",
    }
    (last,) = sticky.host.ask("history_request", asked)["history"]
    assert last[2] == "where + '!'"
    assert sticky.run("In[-1]").ok().result == "'In[-1]'"  # the other kernel's own


@pytest.mark.parametrize(
    "code, status",
    [
        ("for i in x:", "incomplete"),
        ("6 * 7", "complete"),
        ("if 1:\n    x\n", "complete"),
        ("(1", "incomplete"),
        ("%time 1", "complete"),
        ("!ls", "complete"),
        ("for (", "incomplete"),
        ("1)", "invalid"),
    ],
)
def test_a_cell_is_as_complete_as_without_it(sticky: Desk, code: str, status: str) -> None:
    assert sticky.host.ask("is_complete_request", {"code": code})["status"] == status


def test_another_language_judges_its_own_cells(desk: Desk) -> None:
    about = steps.reply(language_info={"name": "ada"}, implementation="ada", protocol_version="5.3")

    def ada(kernel: Any, request: Request) -> None:
        if request.type == "kernel_info_request":
            kernel.play([steps.busy(), about, steps.idle()], request)
        elif request.type == "is_complete_request":
            open_block = request.content["code"].endswith(" do")
            status = (
                {"status": "incomplete", "indent": "  "} if open_block else {"status": "complete"}
            )
            kernel.play([steps.busy(), steps.reply(**status), steps.idle()], request)
        else:
            kernel.answer(request)

    with desk.fake(ada):
        desk.run("%autoremote fake").ok()
        judged = desk.host.ask("is_complete_request", {"code": "while True do"})
        assert (judged["status"], judged["indent"]) == ("incomplete", "  ")
        assert desk.host.ask("is_complete_request", {"code": "("})["status"] == "complete"
        assert desk.host.ask("is_complete_request", {"code": "%kernels"})["status"] == "complete"
        desk.run("%autoremote off").ok()


@pytest.mark.full
def test_completion_and_help_are_the_other_kernels(sticky: Desk) -> None:
    sticky.run("only_there = 1").ok()
    sticky.run("%%local\nonly_here = 1").ok()
    wait_until(lambda: sticky.host.complete("only_")["matches"], what="it completes")
    assert sticky.host.complete("x = 1\nonly_")["matches"] == ["only_there"]
    assert "only_here" in sticky.host.complete("%%local\nonly_h")["matches"]
    assert sticky.host.complete("%autoremote o")["matches"] == ["off"]
    assert sticky.host.inspect("only_there")["found"]
    assert not sticky.host.inspect("only_here")["found"]


@pytest.mark.full
def test_the_way_out_is_named_when_the_kernel_is_gone(new_desk: Callable[..., Desk]) -> None:
    desk = new_desk()
    desk.run("%autoremote k").ok()
    desk.kernel.close()
    run = desk.run("1")
    assert "KernelDied" in run.reply["ename"]
    assert "%autoremote off" in run.stderr
    desk.run("%kernel_detach k").ok()
    assert "%autoremote off" in desk.run("1").stderr
    desk.run("%autoremote off").ok()
    assert desk.run("6 * 7").ok().result == "42"


def test_a_kernel_that_nobody_knows_changes_nothing(desk: Desk) -> None:
    assert "no kernel matches 'nobody'" in desk.run("%autoremote nobody").stderr
    assert desk.run("6 * 7").ok().result == "42"


def test_unloading_ends_it(new_desk: Callable[..., Desk]) -> None:
    desk = new_desk()
    desk.run("%autoremote k").ok()
    desk.run("%unload_ext kernel_magics").ok()
    assert desk.run("6 * 7").ok().result == "42"
    assert "k" not in desk.run("%lsmagic").ok().stdout.split()


# The kernel that was named last.


def test_without_a_name_the_last_kernel_is_meant_and_named(desk: Desk) -> None:
    desk.remote("1").ok()
    run = desk.run("%%remote\n'there'").ok()
    assert run.result == "'there'"
    assert run.stderr == "[k]\n"


def test_without_a_name_and_without_a_kernel_that_is_said(new_desk: Callable[..., Desk]) -> None:
    desk = new_desk()
    desk.run("%kernel_detach k").ok()
    assert "which kernel?" in desk.run("%%remote\n1").stderr


def test_the_value_of_a_remote_expression_is_nothing_but_a_value(desk: Desk) -> None:
    run = desk.run("x = %remote k print('shown') or 6 * 7").ok()
    assert run.outputs == []
    assert desk.run("%remote k 6 * 7").ok().result == "42"
    assert desk.run("text = '''\nx = %remote k 1\n'''\ntext").ok().result == repr(
        "\nx = %remote k 1\n"
    )


# Beside a busy cell.


def test_a_cell_runs_beside_a_busy_one(new_desk: Callable[..., Desk]) -> None:
    desk = new_desk()
    with desk.kernel.busy():
        run = desk.remote("print('beside')\n6 * 7", "--subshell").ok()
        assert (run.stdout, run.result) == ("beside\n", "42")
        assert desk.run("%remote --subshell k 6 * 7").ok().result == "42"


@pytest.mark.full
def test_a_kernel_that_runs_one_cell_at_a_time_says_so(new_desk: Callable[..., Desk]) -> None:
    desk = new_desk("floor")
    run = desk.remote("1", "--subshell")
    assert run.reply["ename"] == "NoSubshell"
    assert "k did not run this cell" in run.reply["evalue"]
    assert "Traceback" not in run.error


def test_the_stop_button_leaves_a_cell_beside_and_the_busy_one_alone(
    new_desk: Callable[..., Desk],
) -> None:
    desk = new_desk()
    with desk.kernel.busy():
        mark = desk.sandbox.work / "begun"
        code = f"open({str(mark)!r}, 'w').close()\nimport time; time.sleep(60)"
        run = desk.start(code, "--subshell")
        desk.host.wait_for(mark.exists, what="it runs")
        desk.host.interrupt()
        desk.host.wait_for(lambda: "cannot be interrupted" in run.stderr, what=lambda: f"{run}")
        desk.host.interrupt()
        run.wait(5)
        assert run.reply["ename"] == "Abandoned"
        # The cell of somebody else still runs, or this block's end would find it gone.


# In a terminal.


def test_a_terminal_names_the_kernel_in_its_prompt(
    terminal_host: Callable[..., TerminalHost], hand_kernel: Callable[..., HandKernel]
) -> None:
    terminal = terminal_with(terminal_host("simple"), hand_kernel())
    terminal.run("where = 'here'")
    terminal.run("%remote k where = 'there'")
    said = terminal.run("%autoremote k")  # up to the number in the prompt
    assert "every cell now runs in k" in said
    assert said.endswith("[k] ")
    assert "'there'" in terminal.run("where")
    assert "'there'" in terminal.run("import asyncio; await asyncio.sleep(0, where)")
    assert "hello" in terminal.run("!echo hello")
    assert "'here'" in terminal.run("%%local\nwhere")
    terminal.run("for i in range(2):\n    print(i, where)\n")
    assert "cells run here again" in terminal.run("%autoremote off")
    assert "'here'" in terminal.run("where")
