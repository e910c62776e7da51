"""`%%remote --no-html`: nothing of the other kernel's gets through that a front end would
execute."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests import frontend
from tests.frontend import SEND, Desk, kinds, plain, remotely, terminal_with
from tests.support import steps
from tests.support.fake import FakeKernel, Request
from tests.support.hosts import CellRun, TerminalHost
from tests.support.kernels import HandKernel
from tests.support.wire import DELIMITER, make_header, sign

desk, lasting_desk = frontend.desk, frontend.lasting_desk_newest_first
new_desk = frontend.new_desk

ATTACK = "<script>parent.attacked = 1</script>"
"""Nothing of it may arrive but as plain text."""

SHOW = f"""\
from IPython.display import HTML, Javascript, display
attack = {ATTACK!r}
h = display(HTML(attack), display_id='of no html')
h.update(HTML(attack))
display(Javascript('attack = 1'))
display({{'image/svg+xml': '<svg>' + attack + '</svg>'}}, raw=True)
display({{'text/plain': 'a picture', 'image/png': 'iVBORw0KGgo=', 'text/html': attack}}, raw=True)
class Table:
    def __repr__(self): return 'a table'
    def _repr_html_(self): return attack
    def _repr_markdown_(self): return attack
Table()"""

TEXTS = [
    "<IPython.core.display.HTML object>",
    "<IPython.core.display.HTML object>",
    "<IPython.core.display.Javascript object>",
    "[image/svg+xml: left out by --no-html]",
    "a picture",
    "a table",
]

WIDGET = (
    SEND
    + f"""\
send('comm_open', {{'comm_id': 'c', 'target_name': 'jupyter.widget', 'data': {{'s': {ATTACK!r}}}}},
     buffers=[{ATTACK!r}.encode()])
send('display_data', {{'data': {{'text/plain': 'IntSlider(value=0)',
     'application/vnd.jupyter.widget-view+json': {{'model_id': 'c'}}}}, 'metadata': {{}}}},
     metadata={{'attack': {ATTACK!r}}}, buffers=[{ATTACK!r}.encode()])
send('comm_msg', {{'comm_id': 'c', 'data': {{'s': {ATTACK!r}}}}})
send('x_of_2031', {{'attack': {ATTACK!r}}})
print('after')
"""
)


def texts(run: CellRun) -> list[str]:
    return [one.content["data"]["text/plain"] for one in run.outputs if "data" in one.content]


def is_harmless(run: CellRun) -> bool:
    """Whether all that came has no trace of the attack."""
    came: list[Any] = [
        (one.content, one.metadata, [bytes(buffer).decode("latin1") for buffer in one.buffers])
        for one in run.outputs
    ]
    return "attack" not in json.dumps(came)


def test_of_displays_updates_and_results_text_and_pictures_stay(desk: Desk) -> None:
    run = desk.remote(SHOW, "--no-html").ok()
    assert texts(run) == TEXTS
    assert is_harmless(run)
    assert kinds(run)[:2] == ["display_data", "update_display_data"]
    assert [one.content["transient"]["display_id"] for one in run.outputs[:2]] == ["of no html"] * 2
    assert run.outputs[4].content["data"]["image/png"] == "iVBORw0KGgo="
    (result,) = run.of_type("execute_result")
    assert result["execution_count"] == run.reply["execution_count"]


def test_without_the_option_all_of_it_comes(desk: Desk) -> None:
    run = desk.remote(SHOW).ok()
    assert sum(ATTACK in json.dumps(one.content) for one in run.outputs) == 5
    assert not is_harmless(desk.remote(WIDGET).ok())


def test_a_line_takes_it_as_well(desk: Desk) -> None:
    code = f"from IPython.display import HTML, display; display(HTML({ATTACK!r}))"
    run = desk.run(f"%remote --no-html k {code}").ok()
    assert texts(run) == ["<IPython.core.display.HTML object>"]
    assert is_harmless(run)


def test_widgets_are_text_and_nothing_of_them_is_passed_on(desk: Desk) -> None:
    run = desk.remote(WIDGET, "--no-html").ok()
    assert kinds(run) == ["display_data", "stream"]
    assert texts(run) == ["IntSlider(value=0)"]
    assert is_harmless(run)


OPENED = """\
def opened(comm, message): comm.send('reached')
get_ipython().kernel.comm_manager.register_target('of no html', opened)"""


@pytest.mark.full
def test_the_front_end_cannot_reach_the_kernel_either(new_desk: Callable[..., Desk]) -> None:
    desk = new_desk()

    def answer_to_a_comm() -> str:
        content = {"comm_id": uuid.uuid4().hex, "target_name": "of no html", "data": {}}
        run = desk.host.send("comm_open", content)
        desk.host.wait_for(lambda: {"comm_msg", "comm_close"} & set(kinds(run)))
        return kinds(run)[-1]

    desk.remote(OPENED, "--no-html").ok()
    desk.remote("1", "-q --no-html").ok()
    desk.remote("1", "--bg --no-html").ok()
    assert answer_to_a_comm() == "comm_close"
    desk.remote("1").ok()
    assert answer_to_a_comm() == "comm_msg"


def test_several_kernels_in_one_cell(desk: Desk, hand_kernel: Callable[..., HandKernel]) -> None:
    with desk.attached(hand_kernel()) as other:
        for options in (["--no-html"], ["--no-html", "--group-outputs merge"]):
            run = desk.remote(SHOW, *options, kernel=f"k,{other}").ok()
            assert sorted(set(texts(run))) == sorted(set(TEXTS))
            assert is_harmless(run)


def test_a_background_cell_and_what_is_kept_of_it(desk: Desk) -> None:
    run = desk.remote(SHOW, "--no-html", "--bg", "--save job")
    desk.host.wait_for(lambda: any("done in" in text for text in texts(run)), what=lambda: f"{run}")
    shown = [one for one in run.outputs if "km-job" not in json.dumps(one.content)]
    assert [one.content["data"]["text/plain"] for one in shown] == TEXTS
    assert "attack" not in json.dumps([one.content for one in shown])
    again = desk.run("%remote_result").ok()
    assert is_harmless(again)
    assert "a table" in texts(again)


def test_captures_and_results_in_python(desk: Desk) -> None:
    desk.run(f"code = {SHOW!r}").ok()
    cell = "%%capture taken\nget_ipython().run_cell_magic('remote', '--no-html k', code)"
    desk.run(cell).ok()
    assert "attack" not in str(desk.value("[str(one.data) for one in taken.outputs]"))
    run = "__import__('kernel_magics').pool['k'].run(code, passive=True)"
    assert "attack" not in str(desk.value(f"[one.content for one in {run}.outputs]"))


ERROR = """\
class Odd(Exception):
    def _render_traceback_(self): return ['\\x1b[31mred\\x1b[0m', '\\x1b]0;title\\x07']
raise Odd('\\x1b[2J')"""


def test_a_traceback_holds_text_and_colours_only(desk: Desk) -> None:
    run = desk.remote(ERROR, "--no-html")
    (error,) = run.of_type("error")
    assert error["traceback"][-2:] == ["\x1b[31mred\x1b[0m", "\\x1b]0;title\\x07"]
    assert (run.reply["ename"], run.reply["evalue"]) == ("Odd", "\\x1b[2J")
    assert run.reply["traceback"][-2:] == error["traceback"][-2:]


def test_a_page_and_help_are_text(desk: Desk) -> None:
    page = {"source": "page", "data": {"text/plain": "help", "text/html": ATTACK}, "start": 0}
    answer = {"status": "ok", "found": True, "data": page["data"], "metadata": {"x": ATTACK}}
    script = {
        "execute_request": [steps.busy(), steps.reply(payload=[page]), steps.idle()],
        "inspect_request": [steps.busy(), steps.reply(**answer), steps.idle()],
    }
    with desk.fake(script):
        run = desk.remote("x?", "--no-html", kernel="fake").ok()
        assert "help" in json.dumps(run.reply["payload"])
        assert ATTACK not in json.dumps(run.reply["payload"])
        found = desk.host.inspect("%%remote --no-html fake\nx")
        assert (found["data"], found["metadata"]) == ({"text/plain": "help"}, {})
        assert desk.host.inspect("%%remote fake\nx")["data"] == page["data"]
        assert desk.host.inspect("%remote --no-html fake x")["data"] == {"text/plain": "help"}


def test_what_cannot_be_read_is_left_out_and_said(desk: Desk) -> None:
    def odd(kernel: FakeKernel, request: Request) -> None:
        header = make_header("display_data", kernel.session)
        # Too large to be unpacked before it is passed on.
        content = b'{"data": ' + b"x" * 2_000_000 + b"}"
        parts = [json.dumps(header).encode(), json.dumps(request.message.header).encode(), b"{}"]
        signature = sign(kernel.key, [*parts, content])
        kernel.send("iopub", [b"odd", DELIMITER, signature, *parts, content])

    with desk.fake(steps.cell(steps.display("before"), odd, steps.stream("after\n"))):
        run = desk.remote("odd", "--no-html", kernel="fake").ok()
    assert (texts(run), run.stdout) == (["before"], "after\n")
    assert "[fake] sent what is no proper message; dropped it: display_data: " in run.stderr


@pytest.mark.full
def test_in_a_terminal_too(
    terminal_host: Callable[..., TerminalHost], hand_kernel: Callable[..., HandKernel]
) -> None:
    terminal = terminal_with(terminal_host(), hand_kernel())
    lines = terminal.run(remotely(SHOW, "--no-html")).split("\n")
    assert [line.rpartition("]: ")[2] if "Out[" in line else line for line in lines] == TEXTS


def test_the_help_says_what_stays(desk: Desk) -> None:
    text = plain(desk.host.inspect("%%remote", 4)["data"]["text/plain"])
    assert "--no-html" in text
    assert "png, jpeg, gif, webp and bmp" in " ".join(text.split())


@pytest.mark.parametrize("typed", ["%%remote --no", "%remote --no"])
def test_tab_offers_it(desk: Desk, typed: str) -> None:
    assert "--no-html" in desk.host.complete(typed)["matches"]
