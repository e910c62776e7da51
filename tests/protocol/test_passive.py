"""What is left of a kernel's outputs when nothing in them may be executed."""

from typing import Any

import pytest

from kernel_magics.errors import ProtocolError
from kernel_magics.protocol.message import Message, pack
from kernel_magics.protocol.passive import (
    only_colours,
    passive_data,
    passive_output,
    passive_reply,
)

PNG = "iVBORw0KGgo=\n"

ACTIVE = {
    "text/html": "<script>alert(1)</script>",
    "text/markdown": "<b>x</b>",
    "text/latex": r"$\href{javascript:alert(1)}{x}$",
    "application/javascript": "alert(1)",
    "image/svg+xml": "<svg onload='alert(1)'/>",
    "application/pdf": "JVBERi0=",
    "application/vnd.jupyter.widget-view+json": {"model_id": "m", "version_major": 2},
    "application/vnd.plotly.v1+json": {"data": []},
    "application/x-of-2031": "whatever",
}


def message(msg_type: str, content: dict[str, Any], *, key: str = "") -> Message:
    header = {"msg_type": msg_type, "msg_id": "m"}
    metadata = pack({key: key}) if key else b"{}"
    return Message(header, {}, (pack(header), b"{}", metadata, pack(content)), (b"buffer",))


def said(msg_type: str, content: dict[str, Any]) -> dict[str, Any]:
    passive = passive_output(message(msg_type, content, key="own"))
    assert passive is not None
    assert (passive.metadata, passive.parts[2], passive.buffers) == ({}, b"{}", ())
    assert passive.parts[3] == pack(passive.content)
    return passive.content


@pytest.mark.parametrize("msg_type", ["display_data", "update_display_data"])
def test_of_a_display_what_is_only_shown_stays(msg_type: str) -> None:
    kept = {"text/plain": "text", "image/png": PNG, "application/json": {"a": [1, "<b>"]}}
    transient = {"display_id": "d", "own": "<b>"}

    content = said(msg_type, {"data": ACTIVE | kept, "metadata": {}, "transient": transient})

    assert content == {"data": kept, "metadata": {}, "transient": {"display_id": "d"}}


@pytest.mark.parametrize("mime", ACTIVE)
def test_in_place_of_what_has_no_passive_form_stands_what_it_was(mime: str) -> None:
    assert passive_data({mime: ACTIVE[mime]}) == {"text/plain": f"[{mime}: left out by --no-html]"}


@pytest.mark.parametrize("data", [None, [], "text", {}])
def test_what_is_no_bundle_or_an_empty_one_is_empty(data: object) -> None:
    assert passive_data(data) == {}


@pytest.mark.parametrize("value", ['"><script>alert(1)</script>', "ü", {"a": 1}, None])
@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp", "bmp"])
def test_what_calls_itself_a_picture_has_to_be_base64(kind: str, value: object) -> None:
    data = {f"image/{kind}": value, "text/plain": "<Figure>"}
    assert passive_data(data) == {"text/plain": "<Figure>"}
    assert passive_data({f"image/{kind}": PNG}) == {f"image/{kind}": PNG}


def test_plain_text_has_to_be_text() -> None:
    assert passive_data({"text/plain": ["<b>"]}) == {
        "text/plain": "[text/plain: left out by --no-html]"
    }


def test_of_metadata_the_sizes_of_pictures_stay() -> None:
    metadata = {
        "image/png": {"width": 10, "height": "10em", "alt": "<b>"},
        "text/plain": "odd",
        "text/html": {"isolated": False},
        "application/json": {"expanded": True},
    }
    data = {"image/png": PNG, "text/plain": "x", "application/json": 1}

    content = said("display_data", {"data": data, "metadata": metadata})

    assert content == {"data": data, "metadata": {"image/png": {"width": 10}}}


def test_a_result_keeps_its_number() -> None:
    content = {"data": {"text/plain": "1", "text/html": "<b>"}, "metadata": [], "transient": None}
    assert said("execute_result", content | {"execution_count": 7}) == {
        "data": {"text/plain": "1"},
        "metadata": {},
        "execution_count": 7,
    }
    assert "execution_count" not in said("execute_result", content | {"execution_count": "<b>"})


def test_a_stream_keeps_its_name_and_its_text() -> None:
    assert said("stream", {"name": "stderr", "text": "<b>\x1b[1m", "own": 1}) == {
        "name": "stderr",
        "text": "<b>\x1b[1m",
    }
    assert said("stream", {"name": "html", "text": {"a": 1}}) == {"name": "stdout", "text": ""}


def test_a_clear_says_whether_it_waits() -> None:
    assert said("clear_output", {"wait": True, "own": 1}) == {"wait": True}
    assert said("clear_output", {}) == {"wait": False}


def test_of_an_error_only_text_and_colours_stay() -> None:
    error = {
        "ename": "E\x1b]0;title\x07",
        "evalue": ["odd"],
        "traceback": ["\x1b[0;31mred\x1b[0m", "\x1b[2J", 3],
        "html": "<b>",
    }
    assert said("error", error) == {
        "ename": "E\\x1b]0;title\\x07",
        "evalue": "",
        "traceback": ["\x1b[0;31mred\x1b[0m", "\\x1b[2J", "3"],
    }
    assert said("error", {"ename": "E", "evalue": "v"})["traceback"] == []


@pytest.mark.parametrize("hostile", ["\x1b]8;;x\x1b\\", "\x1bc", "\x9b2J", "\r", "\x08", "\u202e"])
def test_only_colours_are_left_of_what_commands_a_terminal(hostile: str) -> None:
    text = only_colours(f"a\tb\n\x1b[38;5;1m{hostile}")
    assert text.startswith("a\tb\n\x1b[38;5;1m\\")
    assert hostile not in text


@pytest.mark.parametrize("msg_type", ["comm_open", "comm_msg", "comm_close", "x_of_2031"])
def test_messages_of_widgets_and_of_unknown_types_are_left_out(msg_type: str) -> None:
    assert passive_output(message(msg_type, {"data": {"text/plain": "x"}})) is None


def test_what_cannot_be_read_is_an_error() -> None:
    odd = Message({"msg_type": "stream", "msg_id": "m"}, {}, (b"{}", b"{}", b"{}", b"{"))
    with pytest.raises(ProtocolError):
        passive_output(odd)


def test_a_reply_keeps_what_is_no_page() -> None:
    next_input = {"source": "set_next_input", "text": "<b>"}
    page = {"source": "page", "start": 3, "data": {"text/plain": "help", "text/html": "<b>"}}
    reply = {"status": "ok", "execution_count": 3, "payload": [next_input, page, "odd"]}

    assert passive_reply(reply) == reply | {
        "payload": [next_input, page | {"data": {"text/plain": "help"}}, "odd"]
    }
    assert passive_reply({"status": "ok"}) == {"status": "ok"}


def test_a_reply_s_error_holds_only_text_and_colours() -> None:
    reply = {"status": "error", "ename": "E", "evalue": "\x1b[2J", "traceback": ["\x07"]}
    assert passive_reply(reply) == reply | {"evalue": "\\x1b[2J", "traceback": ["\\x07"]}
