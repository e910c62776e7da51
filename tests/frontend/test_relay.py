"""In a notebook, outputs of the other kernel arrive as it sent them, as the cell's own."""

import json

import pytest

from tests import frontend
from tests.frontend import SEND, Desk, error_lines, joined, kinds, plain, transcript
from tests.support import steps
from tests.support.fake import FakeKernel, Request
from tests.support.wire import Json

desk, lasting_desk = frontend.desk, frontend.lasting_desk

RICH = """\
import sys
from IPython.display import HTML, clear_output, display
print('to stdout', flush=True)
print('to stderr', file=sys.stderr, flush=True)
display(HTML('<b>bold</b>'), metadata={'text/html': {'isolated': True}}, display_id='of this test')
display({'text/plain': 'plain', 'application/x-own': {'deep': [1, None, 'ü']}}, raw=True)
display('changed', display_id='of this test', update=True)
clear_output(wait=True)
print('after', flush=True)
[6 * 7]"""


def test_a_cell_has_the_same_outputs_there_as_here(desk: Desk) -> None:
    here, there = desk.run(RICH).ok(), desk.remote(RICH).ok()
    assert kinds(here) == [
        "stream", "stream", "display_data", "display_data", "update_display_data", "clear_output",
        "stream", "execute_result",
    ]  # fmt: skip
    for mine, theirs in zip(joined(here), joined(there), strict=True):
        expected = dict(mine.content)
        if mine.msg_type == "execute_result":
            expected["execution_count"] = there.reply["execution_count"]
        assert theirs == mine._replace(content=expected)


def test_a_display_keeps_its_metadata_and_its_display_id(desk: Desk) -> None:
    code = (
        "from IPython.display import display\n"
        "display({'text/plain': 'x'}, raw=True, metadata={'m': {'n': 1}}, display_id='d1')"
    )
    (content,) = desk.remote(code).ok().of_type("display_data")
    assert content == {
        "data": {"text/plain": "x"},
        "metadata": {"m": {"n": 1}},
        "transient": {"display_id": "d1"},
    }


def test_a_later_cell_updates_a_display(desk: Desk) -> None:
    desk.remote("from IPython.display import display; h = display('old', display_id='d2')").ok()
    run = desk.remote("h.update('new')").ok()
    assert kinds(run) == ["update_display_data"]
    assert run.outputs[0].content["transient"] == {"display_id": "d2"}
    assert run.outputs[0].content["data"] == {"text/plain": "'new'"}


def test_a_result_has_the_number_of_the_local_cell(desk: Desk) -> None:
    for _ in range(3):
        desk.run("pass")
    there = desk.kernel.value("get_ipython().execution_count")
    run = desk.remote("'x'").ok()
    (content,) = run.of_type("execute_result")
    assert content["execution_count"] == run.reply["execution_count"] > there
    assert content["data"] == {"text/plain": "'x'"}


@pytest.mark.parametrize("wait", [True, False])
def test_a_clear_keeps_its_place_and_whether_it_waits(desk: Desk, wait: bool) -> None:
    code = (
        "from IPython.display import clear_output\n"
        f"print('before', flush=True); clear_output(wait={wait}); print('after')"
    )
    run = desk.remote(code).ok()
    assert kinds(run) == ["stream", "clear_output", "stream"]
    assert joined(run)[1].content == {"wait": wait}


def test_an_error_keeps_its_place_below_a_line_that_names_its_kernel(desk: Desk) -> None:
    code = """\
print('before', flush=True)
try:
    1 / 0
except Exception:
    get_ipython().showtraceback()
print('after', flush=True)"""
    here, there = desk.run(code).ok(), desk.remote(code).ok()
    assert kinds(there) == kinds(here) == ["stream", "error", "stream"]
    mine, theirs = joined(here)[1].content, joined(there)[1].content
    assert (theirs["ename"], theirs["evalue"]) == ("ZeroDivisionError", "division by zero")
    assert plain(theirs["traceback"][0]) == "[k]"
    assert theirs["traceback"][-1] == mine["traceback"][-1]
    assert len(theirs["traceback"]) == len(mine["traceback"]) + 1


@pytest.mark.parametrize("size", [0, 100, 3_000_000])
def test_binary_buffers_arrive_intact(desk: Desk, size: int) -> None:
    first, second = bytes(range(256)) * (size // 256) + b"\0" * (size % 256), b"<IDS|MSG>"
    content = {"data": {"application/x-bytes": "see buffers"}, "metadata": {}, "transient": {}}
    script = steps.cell(steps.publish("display_data", content, buffers=(first, second), key="m"))
    with desk.fake(script):
        run = desk.remote("show", kernel="fake").ok()
    (output,) = run.outputs
    assert output.buffers == [first, second]
    assert (output.content, output.metadata) == (content, {"key": "m"})


def test_messages_of_types_that_nobody_knows_pass(desk: Desk) -> None:
    code = SEND + "send('x_of_2031', {'deep': [{'a': None}]}, {'meta': 1}, [b'one', b'two'])"
    run = desk.remote(code).ok()
    (output,) = run.outputs
    assert output == ("x_of_2031", {"deep": [{"a": None}]}, {"meta": 1}, [b"one", b"two"])


@pytest.mark.parametrize(
    "msg_type, content",
    [
        ("stream", {"name": "stdout"}),
        ("stream", {"name": 1, "text": ["not", "text"]}),
        ("display_data", {}),
        ("display_data", {"data": {"text/plain": "\ud83d"}, "metadata": {}}),
        ("execute_result", {"data": None}),
        ("error", {"traceback": "not a list"}),
        ("clear_output", {}),
    ],
)
def test_odd_messages_are_left_to_the_front_end(desk: Desk, msg_type: str, content: Json) -> None:
    with desk.fake(steps.cell(steps.publish(msg_type, content), steps.stream("still here"))):
        run = desk.remote("odd", kernel="fake").ok()
    (odd, after) = run.outputs
    assert odd.msg_type == msg_type
    assert odd.content | content == odd.content  # an execute_result has its number besides
    assert after.content["text"] == "still here"


def test_the_other_kernel_s_bookkeeping_is_not_relayed(desk: Desk) -> None:
    script = [
        steps.busy(),
        steps.execute_input(),
        steps.publish("debug_event", {}),
        steps.publish("status", {"execution_state": "starting"}),
        steps.publish("iopub_welcome", {"subscription": ""}),
        steps.stream("shown"),
        steps.publish("shutdown_reply", {"restart": True}),
        steps.idle(),
        steps.reply(),
    ]
    with desk.fake(script):
        run = desk.remote("x", kernel="fake").ok()
    types = [message["msg_type"] for message in run.messages]
    assert types == ["status", "execute_input", "stream", "status"]
    assert run.messages[1]["content"]["code"] == "%%remote fake\nx"


def test_what_is_relayed_is_the_local_cell_s_own(desk: Desk) -> None:
    code = RICH + "\n" + SEND + "for i in range(20): send('x_own', {'i': i})\nprint('end')"
    run = desk.remote(code).ok()
    assert len(run.outputs) > 25
    headers = [message["header"] for message in run.messages]
    (session,) = {header["session"] for header in headers}
    assert session == run.reply_message["header"]["session"] if run.reply_message else None
    (username,) = {header["username"] for header in headers}
    assert username == headers[0]["username"]
    busy = run.messages[0]
    for message in run.messages:
        assert message["parent_header"] == busy["parent_header"]
        assert message["parent_header"]["msg_id"] == run.msg_id
    assert len({header["msg_id"] for header in headers}) == len(headers)
    dates = [header["date"] for header in headers]
    assert dates == sorted(dates)


def test_nothing_of_it_is_published_under_another_cell(desk: Desk) -> None:
    desk.host.strays.clear()
    run = desk.remote("for i in range(10): print(i, flush=True)").ok()
    assert run.stdout.split() == [str(i) for i in range(10)]
    streams = [m for m in desk.host.strays if m["msg_type"] in ("stream", "display_data")]
    assert streams == []


def test_local_text_before_and_after_stays_in_its_place(desk: Desk) -> None:
    code = """\
from IPython import get_ipython
for i in range(50):
    print(f'{i} before')
    get_ipython().run_line_magic('remote', f'k print("{i} there")')
    print(f'{i} after')"""
    run = desk.run(code).ok()
    expected = [f"{i} {where}" for i in range(50) for where in ("before", "there", "after")]
    assert run.stdout.splitlines() == expected


def test_local_displays_and_errors_before_and_after_stay_in_their_places(desk: Desk) -> None:
    code = """\
import sys
from IPython.display import display
for i in range(20):
    print('err', file=sys.stderr)
    display('here')
    get_ipython().run_cell_magic('remote', 'k', 'print("there")\\ndisplay("displayed")')
    print('out')"""
    run = desk.run(code).ok()
    assert transcript(run) == "err\n<'here'>\nthere\n<'displayed'>\nout\n" * 20


def test_text_that_a_remote_thread_prints_later_belongs_to_its_cell(desk: Desk) -> None:
    late = """\
import threading
go, kernel = threading.Event(), get_ipython().kernel
parent = kernel.get_parent()
def later():
    go.wait()
    content = {'name': 'stdout', 'text': 'late'}
    kernel.session.send(kernel.iopub_socket, 'stream', content, parent=parent)
threading.Thread(target=later).start()"""
    first = desk.remote(late).ok()
    second = desk.remote("go.set(); print('second')").ok()
    desk.host.wait_for(lambda: first.stdout, what="the late text")
    assert (first.stdout, second.stdout) == ("late", "second\n")


def test_numbers_and_unicode_pass_without_rounding(desk: Desk) -> None:
    text = "ü 日本 🙂 \u2028 \x00 \x1b[31m"
    content = {"data": {"application/json": [0.1, 1e300, 2**63, text]}, "metadata": {}}
    with desk.fake(steps.cell(steps.publish("display_data", content))):
        run = desk.remote("x", kernel="fake").ok()
    assert json.dumps(run.outputs[0].content) == json.dumps(content)


def test_a_prompt_s_order_among_outputs_is_kept(desk: Desk) -> None:
    def script(kernel: FakeKernel, request: Request) -> None:
        if request.type == "execute_request":
            ask = steps.ask_input("? ", steps.stream("after\n"), steps.reply(), steps.idle())
            kernel.play([steps.busy(), steps.stream("before\n"), ask], request)
        else:
            kernel.answer(request)

    with desk.fake(script):
        run = desk.remote("x", kernel="fake", on_input=lambda prompt, password: "a").ok()
    assert run.stdout == "before\nafter\n"


def test_a_failing_cell_s_error_is_shown_once_where_it_was_raised(desk: Desk) -> None:
    run = desk.remote("print('before', flush=True)\n1 / 0")
    assert kinds(run) == ["stream", "error"]
    assert error_lines(run)[0] == "[k]"
    assert run.reply["ename"] == "ZeroDivisionError"
