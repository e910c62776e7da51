"""Tab and help in remote cells: as the other kernel's own front end would show them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from itertools import cycle, islice
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from tests import frontend
from tests.frontend import LOAD, Desk, kinds, terminal_with
from tests.support import steps
from tests.support.fake import Request
from tests.support.hosts import KernelHost, TerminalHost
from tests.support.kernels import HandKernel, connected
from tests.support.sandbox import Sandbox
from tests.support.waiting import wait_until

desk, lasting_desk = frontend.desk, frontend.lasting_desk_newest_first
new_desk = frontend.new_desk

PROMPT = 0.6
"""Seconds for which a prompt may wait."""

FULL = os.environ.get("KM_TIER") == "full"

TYPED = "_jupyter_types_experimental"

SETUP = """\
import os, json
class Thing:
    attribute_one = 1
    attribute_two = 2
    def method(self, first, second=2):
        "What it does."
thing = Thing()
things = {'alpha': 1, 'beta': {'gamma': 2}}
öffnen = [1]
only_there = 1
open('a_file_there.txt', 'w').close()
open('a_file_too.txt', 'w').close()
"""

COMPLETIONS = {
    "an attribute": "thing.attr|",
    "an attribute of a module": "os.pa|",
    "a chain": "os.path.is|",
    "a name": "only_th|",
    "a builtin": "isinst|",
    "an import": "import js|",
    "from an import": "from os import pa|",
    "a dictionary's key": "things['|",
    "a nested key": "things['beta']['|",
    "a file": "open('a_file_|",
    "a magic": "%tim|",
    "a cell magic": "%%tim|",
    "mid-line": "x = os.pa| + 1",
    "in the middle of a name": "only_|there",
    "on a later line": "for i in range(3):\n    thing.attr|\nprint(1)",
    "behind surrogate pairs": "'😀é'; thing.attr|",
    "a name that is not ASCII": "öff|",
    "an argument": "thing.method(sec|",
    "a shell command's file": "!cat a_file_|",
    "nothing": "no_such_name_anywhere|",
    "an empty line": "a = 1\n|",
}

INSPECTIONS = {
    "a variable": "only_th|ere",
    "a function": "print|",
    "a method": "thing.method|(1)",
    "a module": "os.path|",
    "inside a call": "thing.method(1, |",
    "behind surrogate pairs": "'😀é'; thing.attribute_one|",
    "a magic": "%timeit|",
    "nothing": "no_such_name|",
}


def at(marked: str) -> tuple[str, int]:
    """Code and the cursor's place in it."""
    return marked.replace("|", ""), marked.index("|")


def asked_directly(kernel: HandKernel, msg_type: str, content: dict[str, Any]) -> dict[str, Any]:
    """What the other kernel tells a front end of its own."""
    with connected(kernel.info, "shell") as client:
        request = client.session.msg(msg_type, content)
        client.shell_channel.send(request)
        return reply_to(client, request["header"]["msg_id"])


def reply_to(client: BlockingKernelClient, msg_id: str) -> dict[str, Any]:
    while True:
        message = client.shell_channel.get_msg(timeout=10)
        if message["parent_header"].get("msg_id") == msg_id:
            content: dict[str, Any] = message["content"]
            return content


def moved(reply: dict[str, Any], by: int) -> dict[str, Any]:
    """The reply for code that stands further on."""
    typed = [
        one | {"start": one["start"] + by, "end": one["end"] + by}
        for one in reply["metadata"].get(TYPED, [])
    ]
    return reply | {
        "cursor_start": reply["cursor_start"] + by,
        "cursor_end": reply["cursor_end"] + by,
        "metadata": {TYPED: typed} if typed else {},
    }


@pytest.fixture
def ready(desk: Desk) -> Desk:
    """Both kernels know something, and each has loaded what its completions need."""
    desk.remote(SETUP).ok()
    desk.run("only_here = 1; only_th_here = 2").ok()
    wait_until(lambda: desk.host.complete("%%remote k\nthing.attr")["matches"], what="it completes")
    return desk


def untyped(reply: dict[str, Any]) -> dict[str, Any]:
    """The reply without what jedi computes only if it finds the time."""
    for one in reply["metadata"].get(TYPED, []):
        one["signature"] = one["type"] = ""
    return reply


def test_completions_are_those_of_the_other_kernels_own_front_end(ready: Desk) -> None:
    head = "%%remote k\n"
    differing = {}
    for name, marked in COMPLETIONS.items():
        code, cursor = at(marked)
        content = {"code": code, "cursor_pos": cursor}
        own = asked_directly(ready.kernel, "complete_request", content)
        nothing = nothing_at(len(head) + cursor)
        expected = untyped(moved(own, len(head))) if own["matches"] else nothing
        for _ in range(20):  # a slow answer is there when Tab is pressed again
            ours = untyped(ready.host.complete(head + code, len(head) + cursor))
            if ours != nothing:
                break
        if ours != expected:
            differing[name] = (ours, expected)
    assert differing == {}
    assert len(COMPLETIONS) > 14


def nothing_at(cursor: int) -> dict[str, Any]:
    return {
        "status": "ok",
        "matches": [],
        "cursor_start": cursor,
        "cursor_end": cursor,
        "metadata": {},
    }


def test_help_is_that_of_the_other_kernels_own_front_end(ready: Desk) -> None:
    head = "%%remote k\n"
    differing = {}
    for name, marked in INSPECTIONS.items():
        code, cursor = at(marked)
        for detail in (0, 1):
            content = {"code": code, "cursor_pos": cursor, "detail_level": detail}
            own = asked_directly(ready.kernel, "inspect_request", content)
            ours = ready.host.inspect(head + code, len(head) + cursor, detail=detail)
            if ours != own:
                differing[name, detail] = (ours, own)
    assert differing == {}
    assert len(INSPECTIONS) > 6


HEADS = [
    "%%remote k\n",
    "\n\n%%remote k\n",
    "%%remote --timeout 5 -q k\n",
    "%%remote\n",
    "%%time\n%%remote k\n",
    "%%capture taken\n%%remote k\n",
    "%remote k ",
    "x = %remote k ",
    "if True:\n    %remote k ",
]


@pytest.mark.parametrize("head", HEADS)
def test_whatever_leads_to_the_other_kernel_completes_there(ready: Desk, head: str) -> None:
    ready.remote("1").ok()  # named last
    found = ready.host.complete(f"{head}'😀'; only_th")
    assert found["matches"] == ["only_there"]
    assert found["cursor_start"] == len(f"{head}'😀'; ")
    assert found["metadata"][TYPED][0]["start"] == found["cursor_start"]


@pytest.mark.parametrize("head", ["", "a = 1\n", "%%time\n"])
def test_what_runs_here_completes_here(ready: Desk, head: str) -> None:
    assert "only_here" in ready.host.complete(f"{head}only_")["matches"]
    assert "only_there" not in ready.host.complete(f"{head}only_")["matches"]
    assert ready.host.inspect("only_here")["found"]
    assert not ready.host.inspect("only_there")["found"]


@pytest.mark.parametrize("head", ["%%remote k\n", "%%remote nobody\n", "%%remote --nonsense k\n"])
def test_no_name_of_this_kernel_leaks_into_a_remote_cell(ready: Desk, head: str) -> None:
    assert ready.host.complete(f"{head}only_he")["matches"] == []
    assert not ready.host.inspect(f"{head}only_here")["found"]


LINES = {
    "%%remote ": ["k", "own"],
    "%%remote   o": ["own"],
    "%%remote": ["%%remote"],
    "%remote ": ["k", "own"],
    "%%remote k,o": ["own"],
    "%kernel_detach ": ["k", "own"],
    "%kernel_restart o": ["own"],
    "%connection_info ": ["k", "own"],
    "%connect_qtconsole o": ["own"],
    "%autoremote ": ["k", "own", "off"],
    "%%remote --no": ["--no-html", "--no-raise-error", "--no-stream", "--noblock"],
    "%%remote --timeout ": [],
    "%%remote k ": [],
    "%kernel_start py": ["python3"],
    "%kernel_start --ke": ["--keep"],
    "%kernel_start --name ": [],
    "%connection_info --show": ["--show-key"],
    "%kernels --": ["--all", "--watch"],
}


def test_the_lines_of_our_magics_complete(new_desk: Callable[..., Desk]) -> None:
    desk = new_desk()
    desk.run("kernel_variable = own_variable = 1").ok()
    with desk.owned(name="own"):
        found = {line: desk.host.complete(line)["matches"] for line in LINES}
        assert found == LINES
        assert desk.kernel.name in desk.host.complete("%kernel_attach ")["matches"]
        assert desk.host.complete(f"%kernel_attach {desk.kernel.name[:6]}")["matches"] == [
            desk.kernel.name
        ]
        inside = desk.host.complete("%%remote o\nx = 1", 10)
        assert (inside["matches"], inside["cursor_start"], inside["cursor_end"]) == (["own"], 9, 10)


def test_help_on_the_header_is_about_the_magic(ready: Desk) -> None:
    assert "--timeout" in ready.host.inspect("%%remote k\nx", 4)["data"]["text/plain"]
    ready.run("k = 1").ok()
    assert not ready.host.inspect("%%remote k\nx", 10)["found"]


@pytest.mark.full
def test_a_busy_kernel_completes_by_a_subshell(new_desk: Callable[..., Desk]) -> None:
    desk = new_desk()
    desk.remote("only_there = 1").ok()
    with desk.kernel.busy():
        ask = lambda: desk.host.complete("%%remote k\nonly_th")["matches"]  # noqa: E731
        wait_until(ask, what="it completes")
        assert ask() == ["only_there"]


def slowest(desk: Desk, times: int) -> float:
    """The longest that Tab, and then help, took in a remote cell."""
    seconds = []
    for number in range(times):
        begun = time.perf_counter()
        if number % 2:
            desk.host.inspect("%%remote k\nprint")
        else:
            desk.host.complete("%%remote k\nos.pa")
        seconds.append(time.perf_counter() - begun)
    return max(seconds)


@pytest.mark.full
@pytest.mark.parametrize("age", frontend.NEWEST_FIRST)
def test_a_kernel_that_cannot_answer_costs_the_prompt_half_a_second_at_most(
    new_desk: Callable[..., Desk], age: frontend.Age
) -> None:
    desk = new_desk(age)
    with desk.kernel.busy(spin=True):
        assert slowest(desk, 6) < PROMPT
    desk.kernel.process.send(signal.SIGSTOP)
    assert slowest(desk, 4) < PROMPT
    desk.kernel.process.send(signal.SIGCONT)
    desk.kernel.close()
    assert slowest(desk, 4) < PROMPT


LIES: list[dict[str, Any]] = [
    {"matches": "x"},
    {"matches": [1]},
    {"matches": ["x"], "cursor_start": -5, "cursor_end": 99},
    {"matches": ["x"], "cursor_start": "0", "cursor_end": None},
    {"matches": ["x"], "cursor_start": 0, "cursor_end": 1, "metadata": 7},
    {"found": True, "data": [1]},
    {"found": True, "data": {"text/plain": "x"}, "metadata": "x"},
]


def test_a_kernel_that_lies_gets_nothing_shown(desk: Desk) -> None:
    lies = iter(LIES * 2)

    def lie(kernel: Any, request: Request) -> None:
        if request.type in ("complete_request", "inspect_request"):
            kernel.play([steps.busy(), steps.reply(**next(lies)), steps.idle()], request)
        else:
            kernel.answer(request)

    with desk.fake(lie):
        for _ in LIES:
            assert desk.host.complete("%%remote fake\nxy") == nothing_at(16)
        for _ in LIES:
            assert not desk.host.inspect("%%remote fake\nxy")["found"]
    assert desk.value("6 * 7") == 42
    assert "Traceback" not in desk.host.log


@pytest.mark.full
def test_the_shell_is_left_as_it_was_found(new_desk: Callable[..., Desk]) -> None:
    desk = new_desk()
    look = (
        "(sorted({'do_complete', 'do_inspect'} & set(vars(get_ipython().kernel))),"
        " 'check_complete' in vars(get_ipython().input_transformer_manager),"
        " len(get_ipython().input_transformer_manager.cleanup_transforms),"
        " len(get_ipython().input_transformer_manager.token_transformers))"
    )
    names, judged, cleanup, tokens = desk.value(look)
    assert (names, judged) == (["do_complete", "do_inspect"], True)
    desk.run("%unload_ext kernel_magics").ok()
    assert desk.value(look) == ([], False, cleanup - 1, tokens - 2)
    assert desk.host.complete("%%remote k\nprin")["matches"] == ["print"]


@pytest.mark.full
def test_somebodys_own_completion_is_asked_and_restored(
    kernel_host: Callable[..., KernelHost], shared_kernel: HandKernel
) -> None:
    host = kernel_host()
    host.run(
        "def theirs(code, cursor_pos):\n"
        "    return {'status': 'ok', 'matches': ['theirs'], 'cursor_start': 0,"
        " 'cursor_end': cursor_pos, 'metadata': {}}\n"
        "get_ipython().kernel.do_complete = theirs"
    ).ok()
    host.run(LOAD).ok()
    assert host.complete("x")["matches"] == ["theirs"]
    assert host.complete("%%remote nobody\nx")["matches"] == []
    host.run("%unload_ext kernel_magics").ok()
    assert host.complete("%%remote nobody\nx")["matches"] == ["theirs"]


@pytest.mark.full
def test_completion_without_jedi_and_without_types(new_desk: Callable[..., Desk]) -> None:
    desk = new_desk()
    desk.remote("only_there = 1\n%config Completer.use_jedi = False").ok()
    desk.remote("get_ipython().kernel.use_experimental_completions = False").ok()
    desk.run("get_ipython().kernel.use_experimental_completions = False").ok()
    desk.run("only_here = 1\n%config Completer.use_jedi = False").ok()
    wait_until(lambda: desk.host.complete("%%remote k\nonly_")["matches"], what="it completes")
    found = desk.host.complete("%%remote k\nonly_")
    assert found == {
        "status": "ok",
        "matches": ["only_there"],
        "cursor_start": 11,
        "cursor_end": 16,
        "metadata": {},
    }
    assert desk.host.complete("only_h")["matches"] == ["only_here"]


# What a remote cell wants of the front end.


def test_help_of_a_remote_name_opens_the_pager(ready: Desk) -> None:
    own = ready.remote("only_there?").ok()
    assert kinds(own) == []
    (page,) = own.reply["payload"]
    assert page["source"] == "page"
    assert "int" in page["data"]["text/plain"]
    assert ready.remote("print?", "-q").ok().reply["payload"] == []


def test_the_next_input_comes_back_under_the_same_header(ready: Desk) -> None:
    run = ready.remote("get_ipython().set_next_input('a = 1')", "--timeout 9").ok()
    (wanted,) = run.reply["payload"]
    assert wanted["text"] == "%%remote --timeout 9 k\na = 1"
    assert wanted["replace"] is False
    run = ready.run("%remote k %load a_file_there.txt").ok()
    (wanted,) = run.reply["payload"]
    assert wanted["text"].startswith("%%remote k\n# %load a_file_there.txt")
    assert wanted["replace"] is True


def test_a_payload_that_comes_with_an_error_counts_as_well(ready: Desk) -> None:
    run = ready.remote("get_ipython().set_next_input('again'); 1 / 0")
    assert run.status == "error"
    assert [one["text"] for one in run.reply["payload"]] == ["%%remote k\nagain"]


@pytest.mark.full
@pytest.mark.parametrize("word, kept", [("exit", ""), ("quit(keep_kernel=True)", "is to stay")])
def test_an_exit_is_told_and_ends_nothing_here(
    new_desk: Callable[..., Desk], word: str, kept: str
) -> None:
    desk = new_desk()
    run = desk.remote(word).ok()
    assert "[k] was asked to exit" in run.stderr
    assert "this session is still here" in run.stderr
    assert kept in run.stderr
    assert run.reply["payload"] == []
    assert desk.value("6 * 7") == 42


def test_an_editor_is_left_to_whoever_sits_there(desk: Desk) -> None:
    wanted = {"source": "edit_magic", "filename": "/there/file.py", "line_number": 3}
    nonsense = [{"source": "page", "data": 5}, {"source": 7}, "x", {"source": "set_next_input"}]
    cell = [steps.busy(), steps.reply(payload=[wanted, *nonsense]), steps.idle()]
    with desk.fake(cell):
        run = desk.remote("%edit x", kernel="fake").ok()
    assert "/there/file.py" in run.stderr
    assert run.reply["payload"] == []


# In a terminal.


@pytest.fixture
def terminal(
    terminal_host: Callable[..., TerminalHost], hand_kernel: Callable[..., HandKernel]
) -> tuple[TerminalHost, HandKernel]:
    kernel = hand_kernel()
    terminal = terminal_with(terminal_host("full"), kernel)
    return terminal, kernel


ASK = """\
import time
from IPython.core.completer import provisionalcompleter
def ask(code, deadline=0.6):
    begun = time.perf_counter()
    with provisionalcompleter():
        completions = list(get_ipython().Completer.completions(code, len(code)))
        found = [(c.text, c.start, c.end) for c in completions]
    return found if time.perf_counter() - begun < deadline else 'late'"""
"""What the menu of the terminal would hold."""


def test_in_a_terminal_tab_types_the_other_kernels_name(
    terminal: tuple[TerminalHost, HandKernel],
) -> None:
    host, _ = terminal
    host.run("only_there_and_here = 1")
    host.run("%%remote k\nonly_there_and_nowhere_else = 40")
    host.run(ASK)
    wait_until(
        lambda: "nowhere" in host.run(r"ask('%%remote k\nonly_th')"), what="it completes there"
    )
    assert "[]" in host.run(r"ask('%%remote k\nno_such_name')")
    assert "only_there_and_here" in host.run("ask('only_th', 30)")
    # Tab, at the end of what was pasted, and then the cell is run as it stands.
    host.press("\x1b[200~%%remote k\nonly_th\x1b[201~")
    host.press("\t")
    host.expect("nowhere_else")
    host.press(" + 2\x1b\r")
    assert "42" in host.finish()


@pytest.mark.full
def test_in_a_terminal_the_pager_shows_help(terminal: tuple[TerminalHost, HandKernel]) -> None:
    host, _ = terminal
    assert "keyword arguments" in host.run("%%remote k\ndef f():\n    'keyword arguments'\nf?")


@pytest.mark.full
def test_in_a_terminal_an_exit_ends_nothing_here(
    terminal: tuple[TerminalHost, HandKernel],
) -> None:
    host, _ = terminal
    assert "this session is still here" in host.run("%%remote k\nexit")
    assert "42" in host.run("6 * 7")


NOTE_TIMES = """\
import time
menu = get_ipython().pt_app.completer
ask_menu = menu.get_completions
def noted(document, event):
    begun = time.perf_counter()
    found = list(ask_menu(document, event))
    print(time.perf_counter() - begun, file=open({file!r}, 'a'))
    return iter(found)
menu.get_completions = noted"""
"""Writes down how long the prompt stood still for each Tab."""

BUSY = {"sleeping": False, "spinning": True}


@pytest.mark.full
@pytest.mark.parametrize("how", BUSY)
@pytest.mark.parametrize("age", frontend.NEWEST_FIRST)
def test_in_a_terminal_tab_comes_back_in_time_while_the_other_kernel_is_busy(
    terminal_host: Callable[..., TerminalHost],
    hand_kernel: Callable[..., HandKernel],
    sandbox: Sandbox,
    age: frontend.Age,
    how: str,
) -> None:
    kernel = hand_kernel("floor" if age == "floor" else "tcp")
    terminal = terminal_with(terminal_host("full"), kernel)
    file = sandbox.work / "times"
    file.touch()
    terminal.run(NOTE_TIMES.format(file=str(file)))
    with kernel.busy(spin=BUSY[how]):
        terminal.press("\x1b[200~%%remote k\nos.pa\x1b[201~")
        # In no escape sequence, and in no menu: what is echoed is what was typed.
        for number, key in enumerate(islice(cycle("äöüßþøåæœñ"), 50 if FULL else 5), start=1):
            terminal.press("\t")
            wait_until(
                lambda number=number: file.read_text().count("\n") >= number,  # type: ignore[misc]
                what="Tab has come back",
            )
            terminal.press(key)
            terminal.expect(key, timeout=5)
            terminal.press("\x7f")
    assert max(map(float, file.read_text().split())) < PROMPT


@pytest.mark.full
def test_a_terminal_is_left_as_it_was_found(terminal_host: Callable[..., TerminalHost]) -> None:
    terminal = terminal_with(terminal_host("simple"), None)
    look = "[n for o in (get_ipython().Completer, get_ipython().prompts, "
    look += "get_ipython().input_transformer_manager) for n in vars(o) if callable(vars(o)[n])]"
    found = terminal.run(look)
    assert all(name in found for name in ("completions", "in_prompt_tokens", "check_complete"))
    terminal.run("%unload_ext kernel_magics")
    found = terminal.run(look)
    assert not any(name in found for name in ("completions", "in_prompt_tokens", "check_complete"))
