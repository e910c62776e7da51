"""Neighbouring pieces of one stream may be joined; nothing else is touched."""

from __future__ import annotations

import json

import pytest

from kernel_magics.protocol.message import FULL_CHECK, Message, pack
from kernel_magics.protocol.stream import TextRun, is_on_stderr, text_of


def stream(content: object = None, msg_type: str = "stream") -> Message:
    header = {"msg_id": "x", "msg_type": msg_type}
    packed = json.dumps({"name": "stdout", "text": "one"} if content is None else content)
    return Message(header, {"msg_id": "m1"}, (b"{}", b"{}", b'{"m": 1}', packed.encode()))


def test_a_stream_message_has_a_name_and_a_text() -> None:
    assert text_of(stream()) == ("stdout", "one")


def test_another_message_is_no_text() -> None:
    assert text_of(stream(msg_type="display_data")) is None


@pytest.mark.parametrize(
    "content",
    [[], {}, {"name": "stdout"}, {"text": "one"}, {"name": 1, "text": ""}, {"name": "", "text": 1}],
)
def test_an_odd_stream_message_is_no_text(content: object) -> None:
    assert text_of(stream(content)) is None


def test_one_piece_is_the_message_itself() -> None:
    message = stream()
    assert TextRun(message, "stdout", "one").message() is message


def test_pieces_of_one_stream_become_one_message() -> None:
    run = TextRun(stream(), "stdout", "one")
    assert (run.take("stdout", "two"), run.take("stdout", "")) == (True, True)
    assert text_of(run.message()) == ("stdout", "onetwo")


def test_a_piece_of_another_stream_is_not_taken() -> None:
    message = stream()
    run = TextRun(message, "stdout", "one")
    assert not run.take("stderr", "two")
    assert run.message() is message


def test_joined_text_belongs_to_the_cell_of_its_first_piece() -> None:
    run = TextRun(stream(), "stdout", "one")
    run.take("stdout", "two")
    assert (run.message().parent_id, run.message().metadata) == ("m1", {"m": 1})


@pytest.mark.parametrize("size", [1, FULL_CHECK + 1], ids=["small", "large"])
@pytest.mark.parametrize("name", ["stdout", "stderr"])
@pytest.mark.parametrize("first", [True, False], ids=["name first", "name last"])
def test_text_on_stderr_is_known_whatever_its_size(size: int, name: str, first: bool) -> None:
    # What the text says of names changes nothing.
    text = '"name": "stderr" ' + "x" * size + ' "name": "stderr"'
    fields = {"name": name, "text": text} if first else {"text": text, "name": name}
    header = {"msg_id": "x", "msg_type": "stream"}
    message = Message(header, {}, (b"{}", b"{}", b"{}", pack(fields)))
    assert is_on_stderr(message) is (name == "stderr")
