"""Frames to messages and back, judged byte for byte by jupyter_client's ``Session``."""

from __future__ import annotations

import hmac
import json
import os
import re
from array import array
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jupyter_client.session import Session as JupyterSession

from kernel_magics.errors import MessageRejected, ProtocolError
from kernel_magics.protocol import message as message_module
from kernel_magics.protocol.message import (
    DELIMITER,
    FRAMES_LIMIT,
    FULL_CHECK,
    JOIN_BELOW,
    REPLAY_WINDOW,
    Message,
    Part,
    Session,
    Signer,
    frames_of,
    pack,
    parse,
    receive,
    unpack,
)

KEY = b"the key"
SCHEMES = ["hmac-sha256", "hmac-sha384", "hmac-sha512"]

# A busy machine may take long over a single example.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(), VALUES, max_size=4)


def judge(scheme: str = "hmac-sha256", *, session: str = "") -> JupyterSession:
    """What everybody else uses, with the packer that works without further packages."""
    more = {"session": session} if session else {}
    return JupyterSession(key=KEY, signature_scheme=scheme, packer="json", **more)


def signed(parts: Sequence[bytes], key: bytes = KEY) -> list[bytes]:
    """The frames of these parts, whatever they hold, with a signature that is right."""
    return [DELIMITER, Signer(key).sign(parts[:4]), *parts]


def packed(
    header: bytes = b'{"msg_id": "m", "msg_type": "stream"}',
    parent: bytes = b"{}",
    metadata: bytes = b"{}",
    content: bytes = b"{}",
) -> list[bytes]:
    return [header, parent, metadata, content]


def as_bytes(frames: Sequence[Part]) -> list[bytes]:
    return [bytes(frame) for frame in frames]


# The same bytes as everybody else's.


@pytest.mark.parametrize("scheme", SCHEMES)
@given(content=OBJECTS, metadata=OBJECTS)
@patient
def test_a_request_has_the_frames_that_jupyter_client_would_send(
    scheme: str, content: dict[str, Any], metadata: dict[str, Any]
) -> None:
    message = Session().message("execute_request", content, metadata=metadata)

    ours = frames_of(message, Signer(KEY, scheme))

    header = json.loads(message.parts[0])
    theirs = {
        "header": header,
        "parent_header": {},
        "metadata": metadata,
        "content": content,
    }
    assert ours == judge(scheme).serialize(theirs)


@pytest.mark.parametrize("scheme", SCHEMES)
@given(content=OBJECTS, metadata=OBJECTS, buffers=st.lists(st.binary(), max_size=3))
@patient
def test_jupyter_client_accepts_and_reads_our_frames(
    scheme: str, content: dict[str, Any], metadata: dict[str, Any], buffers: list[bytes]
) -> None:
    message = Session().message("comm_msg", content, metadata=metadata, buffers=buffers)

    frames = as_bytes(frames_of(message, Signer(KEY, scheme)))

    theirs = judge(scheme)
    read = theirs.deserialize(theirs.feed_identities([b"identity", *frames])[1])
    assert (read["content"], read["metadata"]) == (content, metadata)
    assert [bytes(buffer) for buffer in read["buffers"]] == buffers


@pytest.mark.parametrize("scheme", SCHEMES)
@given(content=OBJECTS, metadata=OBJECTS, buffers=st.lists(st.binary(), max_size=3))
@patient
def test_frames_of_jupyter_client_are_accepted_and_read(
    scheme: str, content: dict[str, Any], metadata: dict[str, Any], buffers: list[bytes]
) -> None:
    theirs = judge(scheme)
    sent = theirs.msg("comm_msg", content, metadata=metadata)

    read = receive([*theirs.serialize(sent, ident=b"comm"), *buffers], Signer(KEY, scheme))

    assert (read.content, read.metadata) == (content, metadata)
    assert list(read.buffers) == buffers


def test_header_and_parent_of_jupyter_client_are_read() -> None:
    theirs = judge(session="theirs")
    request = theirs.msg("execute_request")
    reply = theirs.msg("execute_reply", parent=request)

    read = receive(theirs.serialize(reply), Signer(KEY))

    assert (read.type, read.msg_id, read.session) == ("execute_reply", reply["msg_id"], "theirs")
    assert (read.parent_id, read.parent_type) == (request["msg_id"], "execute_request")
    assert read.parent_session == "theirs"


def test_a_header_has_the_fields_of_jupyter_client_in_their_order() -> None:
    assert list(Session().header("stream")) == list(judge().msg_header("stream"))


def test_a_header_has_the_time_in_the_form_of_jupyter_client() -> None:
    theirs = json.loads(judge().pack(judge().msg_header("stream")))

    ours = Session().header("stream")

    def form(date: str) -> str:
        return re.sub(r"\d", "0", re.sub(r"\.\d+", ".0", date))

    assert form(ours["date"]) == form(theirs["date"])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("\udcff", id="a byte that was no UTF-8"),
        pytest.param("\u2028\x00\x7f\U0001f600", id="unusual characters"),
    ],
)
def test_odd_text_is_packed_as_jupyter_client_packs_it(text: str) -> None:
    assert pack({"text": text}) == judge().pack({"text": text})


def test_a_lone_surrogate_is_escaped() -> None:
    # Session raises a bare UnicodeEncodeError here.
    assert unpack(pack({"text": "é\ud800"})) == {"text": "é\ud800"}


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def circular() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(float("nan"), id="not a number"),
        pytest.param(float("inf"), id="infinite"),
        pytest.param(b"bytes", id="bytes"),
        pytest.param(object(), id="an object"),
        pytest.param({(1, 2): 3}, id="a tuple as key"),
        pytest.param(deep(100_000), id="deep"),
        pytest.param(circular(), id="circular"),
        pytest.param(["\ud800", object()], id="an object after a lone surrogate"),
    ],
)
def test_what_has_no_json_form_cannot_be_sent(value: object) -> None:
    with pytest.raises(ProtocolError, match="cannot be sent"):
        pack({"value": value})


@pytest.mark.parametrize("value", [{"a": [1, 2.5, None, True, "ü\n", {}]}, "text", 7, []])
def test_without_the_part_in_c_the_same_is_packed(
    monkeypatch: pytest.MonkeyPatch, value: object
) -> None:
    before = message_module._encoding()(value)
    monkeypatch.setattr(json.encoder, "c_make_encoder", None)
    assert message_module._encoding()(value) == before


# Only this kernel's messages, and each once.


GOOD = as_bytes(frames_of(Session().message("stream", {"text": "good"}), Signer(KEY)))


@pytest.mark.parametrize(
    "signer",
    [
        pytest.param(Signer(b"another key"), id="another key"),
        pytest.param(Signer(KEY, "hmac-sha512"), id="another scheme"),
        pytest.param(Signer(b""), id="signed where nothing is"),
    ],
)
def test_a_signature_of_another_key_is_forged(signer: Signer) -> None:
    with pytest.raises(MessageRejected, match="signature") as caught:
        receive(GOOD, signer)
    assert caught.value.forged


@pytest.mark.parametrize("name", ["signature", "header", "parent", "metadata", "content"])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda part: part + b" ", id="longer"),
        pytest.param(lambda part: part[:-1], id="shorter"),
        pytest.param(lambda part: b"", id="empty"),
    ],
)
def test_a_message_with_a_changed_part_is_forged(
    name: str, change: Callable[[bytes], bytes]
) -> None:
    frames = [*GOOD]
    index = ["delimiter", "signature", "header", "parent", "metadata", "content"].index(name)
    frames[index] = change(frames[index])

    with pytest.raises(MessageRejected) as caught:
        receive(frames, Signer(KEY))
    assert caught.value.forged


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("length", [1, 63, 64, 65, 127, 128, 129, 1000])
@pytest.mark.parametrize("nbytes", [0, 5, JOIN_BELOW, 100_000])
def test_a_signature_is_that_of_hmac(scheme: str, length: int, nbytes: int) -> None:
    key, parts = b"k" * length, [b"{}", b"a" * nbytes, b"", b"b"]
    theirs = hmac.digest(key, b"".join(parts), scheme.removeprefix("hmac-"))

    assert Signer(key, scheme).sign(parts) == theirs.hex().encode()


@pytest.mark.parametrize("scheme", ["hmac-md5", "sha256", "hmac-new", "", "HMAC-SHA256"])
def test_a_scheme_that_nobody_should_use_is_refused(scheme: str) -> None:
    with pytest.raises(ProtocolError, match="scheme"):
        Signer(KEY, scheme)


def test_a_message_that_comes_again_is_rejected_but_not_called_forged() -> None:
    signer = Signer(KEY)
    receive(GOOD, signer)

    with pytest.raises(MessageRejected, match="before") as caught:
        receive([b"other topic", *GOOD], signer)
    assert not caught.value.forged


def test_a_forged_copy_that_arrives_first_does_not_get_the_true_message_refused() -> None:
    signer = Signer(KEY)
    with pytest.raises(MessageRejected):
        receive([*GOOD[:-1], b'{"text": "evil"}'], signer)

    assert receive(GOOD, signer).content == {"text": "good"}


def test_without_a_key_nothing_is_signed() -> None:
    message = Session().message("stream", {})
    assert frames_of(message, Signer(b""))[1] == b""


def test_without_a_key_a_message_may_come_again() -> None:
    signer = Signer(b"")
    frames = signed(packed(), key=b"")

    assert receive(frames, signer).type == receive(frames, signer).type == "stream"


def test_unverified_messages_do_not_push_verified_ones_out_of_the_replay_window() -> None:
    signer = Signer(KEY)
    receive(GOOD, signer)
    for number in range(REPLAY_WINDOW + 1):
        with pytest.raises(MessageRejected):
            signer.verify(b"%064x" % number, GOOD[2:6])

    with pytest.raises(MessageRejected, match="before"):
        receive(GOOD, signer)


@pytest.fixture
def overfull() -> tuple[Signer, list[list[bytes]]]:
    """A signer that has verified one message more than it remembers, and these messages' parts."""
    signer = Signer(KEY)
    messages = [packed(content=b"%d" % number) for number in range(REPLAY_WINDOW + 1)]
    for parts in messages:
        signer.verify(signer.sign(parts), parts)
    return signer, messages


def test_the_replay_window_remembers_what_it_has_room_for(
    overfull: tuple[Signer, list[list[bytes]]],
) -> None:
    signer, (_, second, *_, last) = overfull
    for parts in (second, last):
        with pytest.raises(MessageRejected, match="before"):
            signer.verify(signer.sign(parts), parts)


def test_the_replay_window_forgets_the_oldest(
    overfull: tuple[Signer, list[list[bytes]]],
) -> None:
    signer, (first, *_) = overfull
    signer.verify(signer.sign(first), first)  # does not raise


# Whatever comes: a message, or MessageRejected.


def accept_or_reject(frames: list[bytes]) -> Message | None:
    try:
        message = receive(frames, Signer(KEY))
    except MessageRejected:
        return None
    assert isinstance(message, Message)
    return message


@given(st.lists(st.binary(max_size=80) | st.sampled_from([DELIMITER, *GOOD]), max_size=12))
@patient
def test_any_frames_are_a_message_or_rejected(frames: list[bytes]) -> None:
    accept_or_reject(frames)


GARBAGE = st.binary(max_size=80)
ANY_JSON = VALUES.map(lambda value: json.dumps(value).encode())
ANY_HEADER = st.fixed_dictionaries(
    {},
    optional={name: st.text() | VALUES for name in ("msg_id", "msg_type", "session", "date")},
).map(lambda value: json.dumps(value).encode())
ANY_PART = GARBAGE | ANY_JSON | ANY_HEADER


@given(st.lists(ANY_PART, max_size=7))
@patient
def test_any_parts_that_are_rightly_signed_are_a_message_or_rejected(parts: list[bytes]) -> None:
    accept_or_reject(signed(parts))


@given(st.tuples(ANY_HEADER, ANY_HEADER | ANY_JSON, ANY_PART, ANY_PART))
@patient
def test_a_message_once_received_can_only_raise_protocol_errors(
    parts: tuple[bytes, bytes, bytes, bytes],
) -> None:
    message = accept_or_reject(signed(parts))
    for name in ("content", "metadata"):
        try:
            value = getattr(message, name, {})
        except ProtocolError:
            continue
        assert isinstance(value, dict)


@given(st.tuples(ANY_HEADER, ANY_HEADER | ANY_JSON, ANY_PART, ANY_PART))
@patient
def test_ids_of_a_received_message_are_texts(parts: tuple[bytes, bytes, bytes, bytes]) -> None:
    message = accept_or_reject(signed(parts))
    if message is not None:
        ids = (message.msg_id, message.parent_id, message.session, message.parent_session)
        assert all(isinstance(each, str) for each in (*ids, message.type, message.parent_type))


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="truncated"),
        pytest.param(b"null", id="null"),
        pytest.param(b'["msg_id", "msg_type"]', id="a list"),
        pytest.param(b'{"msg_type": "stream"}', id="no id"),
        pytest.param(b'{"msg_id": "m"}', id="no type"),
        pytest.param(b'{"msg_id": 1, "msg_type": "stream"}', id="an id that is no text"),
        pytest.param(b'{"msg_id": "m", "msg_type": null}', id="a type that is no text"),
        pytest.param(b"[" * 60_000, id="deep"),
        pytest.param(b'{"msg_id": %s}' % (b"1" * 5000), id="a huge integer"),
        pytest.param(b'{"msg_id": "%s"}' % (b"x" * 2**25), id="32 MB"),
        pytest.param('{"msg_id": "m", "msg_type": "t"}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'\xef\xbb\xbf{"msg_id": "m", "msg_type": "t"}', id="a byte order mark"),
    ],
)
def test_a_header_that_cannot_be_one_is_rejected(header: bytes) -> None:
    with pytest.raises(MessageRejected, match="header") as caught:
        receive(signed(packed(header=header)), Signer(KEY))
    assert not caught.value.forged


@pytest.mark.parametrize(
    "parent",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[" * 60_000, id="deep"),
        pytest.param(b'{"msg_id": %s}' % (b"1" * 5000), id="a huge integer"),
        pytest.param(b'{"msg_id": "%s"}' % (b"x" * 2**25), id="32 MB"),
    ],
)
def test_a_parent_header_that_cannot_be_read_is_rejected(parent: bytes) -> None:
    with pytest.raises(MessageRejected, match="header"):
        receive(signed(packed(parent=parent)), Signer(KEY))


@pytest.mark.parametrize(
    "parent",
    [
        pytest.param(b"{}", id="empty"),
        pytest.param(b"null", id="null"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'{"session": "s"}', id="no id"),
        pytest.param(b'{"msg_id": 7}', id="an id that is no text"),
    ],
)
def test_a_message_that_nobody_asked_for_has_an_empty_parent_id(parent: bytes) -> None:
    assert receive(signed(packed(parent=parent)), Signer(KEY)).parent_id == ""


@pytest.mark.parametrize(
    "header, msg_id",
    [
        pytest.param(b'{"msg_id": "\xff", "msg_type": "t"}', "�", id="bytes that are no UTF-8"),
        pytest.param(b'{"msg_id": "\\ud800", "msg_type": "t"}', "\ud800", id="a lone surrogate"),
    ],
)
def test_an_id_of_odd_text_is_taken_as_it_is(header: bytes, msg_id: str) -> None:
    assert receive(signed(packed(header=header)), Signer(KEY)).msg_id == msg_id


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([], id="nothing"),
        pytest.param(GOOD[1:], id="no delimiter"),
        pytest.param([b"identity"] * 8 + GOOD, id="a delimiter behind more than identities"),
        pytest.param([DELIMITER], id="only a delimiter"),
        pytest.param(GOOD[:-1], id="no content"),
    ],
)
def test_frames_that_do_not_form_a_message_are_rejected(frames: list[bytes]) -> None:
    with pytest.raises(MessageRejected, match=r"delimiter|cut short") as caught:
        receive(frames, Signer(KEY))
    assert not caught.value.forged


@pytest.mark.parametrize("identities", [0, 1, 7])
def test_identities_in_front_are_passed_over(identities: int) -> None:
    assert receive([b"identity"] * identities + GOOD, Signer(KEY)).content == {"text": "good"}


def test_frames_that_were_received_as_views_are_read_like_bytes() -> None:
    frames = signed(packed())
    before = [b"an identity"] * 7
    message = receive([*before, *map(memoryview, frames)], Signer(KEY))  # type: ignore[list-item]
    assert message.parts == tuple(frames[2:6])
    assert all(type(part) is bytes for part in message.parts)


def test_a_message_of_as_many_frames_as_allowed_is_read() -> None:
    buffers = [b""] * (FRAMES_LIMIT - len(GOOD))
    assert len(receive(GOOD + buffers, Signer(KEY)).buffers) == len(buffers)


def test_a_message_of_more_frames_is_rejected() -> None:
    buffers = [b""] * (FRAMES_LIMIT - len(GOOD) + 1)
    with pytest.raises(MessageRejected, match="10001 frames") as caught:
        receive(GOOD + buffers, Signer(KEY))
    assert not caught.value.forged


# Content stays packed until somebody asks.


UNREADABLE = [
    pytest.param(b"", id="empty"),
    pytest.param(b"{", id="truncated"),
    pytest.param(b"null", id="null"),
    pytest.param(b"[]", id="a list"),
    pytest.param(b"[" * 1_000_000, id="deep"),
    pytest.param(b'{"text": %s}' % (b"1" * 5000), id="a huge integer"),
]


@pytest.mark.parametrize("part", UNREADABLE)
def test_content_that_cannot_be_read_is_an_error_only_when_it_is_asked_for(part: bytes) -> None:
    message = receive(signed(packed(content=part)), Signer(KEY))

    with pytest.raises(ProtocolError, match="stream: content"):
        _ = message.content


@pytest.mark.parametrize("part", UNREADABLE)
def test_metadata_that_cannot_be_read_is_an_error_only_when_it_is_asked_for(part: bytes) -> None:
    message = receive(signed(packed(metadata=part)), Signer(KEY))

    with pytest.raises(ProtocolError, match="stream: metadata"):
        _ = message.metadata


@pytest.mark.parametrize("name", ["content", "metadata"])
def test_content_and_metadata_are_unpacked_once(name: str) -> None:
    message = receive(signed(packed()), Signer(KEY))
    assert getattr(message, name) is getattr(message, name)


def test_bytes_of_the_content_that_are_no_utf8_are_replaced() -> None:
    message = receive(signed(packed(content=b'{"text": "\xff"}')), Signer(KEY))
    assert message.content == {"text": "�"}


@pytest.mark.parametrize(
    "buffer",
    [
        pytest.param(b"12345678", id="bytes"),
        pytest.param(memoryview(b"12345678"), id="a view"),
        pytest.param(memoryview(array("d", [1.0])), id="a view of larger items"),
    ],
)
def test_the_size_of_a_message_is_that_of_content_and_buffers(buffer: Part) -> None:
    message = Session().message("comm_msg", {}, buffers=[buffer, buffer])
    assert message.nbytes == len(b"{}") + 16


@pytest.mark.parametrize("parent, asker", [({"msg_id": "r"}, "r"), ({}, "nobody")])
def test_a_message_shows_what_it_is_but_not_what_it_says(
    parent: dict[str, Any], asker: str
) -> None:
    parts = packed(content=b'{"text": "private"}')
    message = Message({"msg_id": "m", "msg_type": "stream"}, parent, parts)
    assert repr(message) == f"<Message stream m of {asker}>"


@pytest.mark.parametrize("name", ["content", "parts", "metadata", "msg_id", "parent_id", "type"])
def test_a_message_that_says_something_else_differs_only_in_its_content(name: str) -> None:
    message = receive(signed(packed(metadata=b'{"m": 1}')), Signer(KEY))

    other = message.with_content({"text": "other"})

    same = getattr(other, name) == getattr(message, name)
    assert same is (name not in ("content", "parts"))


def test_what_a_message_says_instead_is_packed() -> None:
    message = receive(signed(packed()), Signer(KEY)).with_content({"text": "é"})
    assert message.parts == tuple(packed(content='{"text": "é"}'.encode()))


# Whether content can be passed on.


def large(text: bytes) -> bytes:
    """Content that is too large to be unpacked only for a check."""
    return b'{"text": "%s%s"}' % (text, b"x" * FULL_CHECK)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"{}", id="empty"),
        pytest.param('{"text": "é"}'.encode(), id="small"),
        pytest.param(large(b""), id="large"),
        pytest.param(large("é".encode()), id="large, beyond ASCII"),
        pytest.param(large(b"x" * (FULL_CHECK - 11) + "é".encode()), id="a letter on a border"),
        pytest.param(b'{"text": "NaN", "more": ["-Infinity"]}', id="words that are no numbers"),
        pytest.param(b'{"text": ": NaN"}', id="a number that is text"),
        pytest.param(large(b"xNaN" * FULL_CHECK), id="words by chance"),
    ],
)
def test_content_that_is_an_object_can_be_passed_on(content: bytes) -> None:
    receive(signed(packed(content=content)), Signer(KEY)).check()


@pytest.mark.parametrize(
    "content",
    [
        *UNREADABLE,
        pytest.param(b"[%s]" % large(b""), id="a large list"),
        pytest.param(large(b"")[:-1], id="large and truncated"),
        pytest.param(large(b"\xff"), id="large and no UTF-8"),
        pytest.param(large(b"")[:-2] + b'\xc3"}', id="large and no UTF-8 at the end"),
        pytest.param(b'{"text": "\xff"}', id="no UTF-8"),
        pytest.param(b'{"number": NaN}', id="a number that only Python can read"),
        pytest.param(b'{"number": [1,   -Infinity]}', id="another"),
        pytest.param(large(b'","number":Infinity,"more":"'), id="one in much else"),
    ],
)
def test_content_that_others_cannot_read_is_not_passed_on(content: bytes) -> None:
    with pytest.raises(ProtocolError, match="stream: content"):
        receive(signed(packed(content=content)), Signer(KEY)).check()


@pytest.mark.parametrize("metadata", [b"{", b"[1]", b'{"text": "\xff"}', b'{"x": NaN}'])
def test_metadata_that_others_cannot_read_is_not_passed_on(metadata: bytes) -> None:
    with pytest.raises(ProtocolError, match="stream: metadata"):
        receive(signed(packed(metadata=metadata)), Signer(KEY)).check()


def test_large_content_is_not_unpacked_for_a_check() -> None:
    # Nothing else could show it: between the ends there is no JSON.
    receive(signed(packed(content=large(b'"'))), Signer(KEY)).check()


def test_large_content_that_was_unpacked_needs_no_check() -> None:
    message = receive(signed(packed()), Signer(KEY))
    text = "x" * FULL_CHECK
    message.with_content({"text": text}).check()


# Sessions.


def test_a_request_has_its_parts_parsed_and_packed_alike() -> None:
    sent = Session("ours").message("execute_request", {"code": "1"}, metadata={"m": 1})

    read = receive(as_bytes(frames_of(sent, Signer(KEY))), Signer(KEY))

    assert (read.type, read.msg_id, read.session) == (sent.type, sent.msg_id, "ours")
    assert (read.content, read.metadata) == (sent.content, sent.metadata)


def test_ids_are_unique_over_many_threads() -> None:
    session = Session()

    def some(_: int) -> list[str]:
        return [session.header("stream")["msg_id"] for _ in range(2000)]

    with ThreadPoolExecutor(8) as threads:
        ids = [each for some_ids in threads.map(some, range(8)) for each in some_ids]

    assert len(set(ids)) == len(ids) == 16_000


def test_ids_in_a_shared_session_are_never_those_of_the_one_it_is_shared_with() -> None:
    theirs, ours = judge(session="x"), Session("x")

    their_ids = {theirs.msg("stream")["msg_id"] for _ in range(100)}
    our_ids = {ours.message("stream", {}).msg_id for _ in range(100)}

    assert not their_ids & our_ids


def test_a_shared_session_is_named_in_the_header() -> None:
    assert Session("x").message("stream", {}).session == "x"


def test_sessions_that_are_not_shared_differ() -> None:
    assert Session().id != Session().id


def test_the_routing_identity_is_the_session() -> None:
    assert Session("x").identity == b"x"


def test_a_new_routing_identity_changes_no_session() -> None:
    session = Session("x")
    session.renew_identity()
    assert session.identity.startswith(b"x-")
    assert session.header("kernel_info_request")["session"] == "x"


@pytest.mark.parametrize(
    "given_name, environment, used",
    [("me", "other", "me"), ("", "other", "other"), ("", None, "username")],
)
def test_the_username_is_the_given_one_or_that_of_the_system(
    given_name: str, environment: str | None, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("USER", raising=False)
    if environment is not None:
        monkeypatch.setenv("USER", environment)
    assert Session(username=given_name).header("stream")["username"] == used


def test_an_id_says_which_process_made_it() -> None:
    assert f"_{os.getpid()}_" in Session().header("stream")["msg_id"]


@pytest.mark.parametrize("session", ["plain", 'o"dd', "ü\n"])
@pytest.mark.parametrize("username", ["me", 'o"dd', "a\\b", "%b", "\udcff"])
@pytest.mark.parametrize("msg_type", ["execute_request", 'o"dd', "type/x"])
def test_a_packed_header_is_the_header(session: str, username: str, msg_type: str) -> None:
    made = Session(session, username)
    header = unpack(made.message(msg_type, {}).parts[0])
    expected = unpack(pack(made.header(msg_type)))

    assert list(header) == list(expected)
    for each in (header, expected):
        del each["msg_id"], each["date"]  # which differ from one to the next
    assert header == expected


def test_a_packed_header_has_the_bytes_that_packing_gives() -> None:
    packed_header = Session(username="me").message("execute_request", {}).parts[0]
    assert pack(json.loads(packed_header)) == packed_header


# Re-sent under another parent.


ORIGINAL = receive(
    signed([*packed(metadata=b'{ "m":1}', content=b'{ "text" : "\xff"}'), b"buffer"]), Signer(KEY)
)
PARENT = b'{"msg_id":"cell"}'


def test_a_copy_has_the_very_bytes_of_metadata_content_and_buffers() -> None:
    _, _, *rest = Session().copy_of(ORIGINAL, PARENT)
    assert rest == [b'{ "m":1}', b'{ "text" : "\xff"}', b"buffer"]


def test_a_copy_has_the_new_parent_as_it_was_packed() -> None:
    assert Session().copy_of(ORIGINAL, PARENT)[1] == PARENT


def test_a_copy_has_a_fresh_header_of_our_session() -> None:
    ours = Session("ours")

    first, second = (parse(tuple(as_bytes(ours.copy_of(ORIGINAL, PARENT)))) for _ in range(2))

    assert len({first.msg_id, second.msg_id, ORIGINAL.msg_id}) == 3
    assert (first.type, first.session) == ("stream", "ours")


def test_a_copy_may_get_other_content() -> None:
    parts = Session().copy_of(ORIGINAL, PARENT, b'{"text": "other"}')
    assert parts[2:] == [b'{ "m":1}', b'{"text": "other"}', b"buffer"]


def test_a_copy_of_a_message_with_an_odd_type_can_be_sent() -> None:
    odd = parse(tuple(packed(header=b'{"msg_id": "m", "msg_type": "\\ud800"}')))
    assert parse(tuple(as_bytes(Session().copy_of(odd, PARENT)))).type == "?"


def test_jupyter_client_accepts_a_copy() -> None:
    parts = as_bytes(Session().copy_of(ORIGINAL, PARENT))
    theirs = judge()

    read = theirs.deserialize(signed(parts)[1:])

    assert (read["msg_type"], read["parent_header"]["msg_id"]) == ("stream", "cell")


def test_a_request_to_a_subshell_is_the_same_but_for_its_header() -> None:
    request = Session().message("execute_request", {"code": "1"}, metadata={"a": 1})
    other = request.to_subshell("s-1")
    header = json.loads(other.parts[0])
    assert header.pop("subshell_id") == "s-1"
    assert header == json.loads(request.parts[0])
    assert (other.msg_id, other.parts[1:]) == (request.msg_id, request.parts[1:])
    assert "subshell_id" not in json.loads(request.parts[0])


def test_only_what_a_cell_of_the_main_thread_led_to_counts_as_of_one() -> None:
    cell = Session().message("execute_request", {"code": "1"})
    question = Session().message("complete_request", {"code": "1"})
    parents = [cell.parts[0], cell.to_subshell("s-1").parts[0], question.parts[0], b"{}"]
    header = Session().message("status", {}).parts[0]
    said = [parse((header, parent, b"{}", b"{}")) for parent in parents]
    assert [message.of_a_cell for message in said] == [True, False, False, False]


def test_a_message_tells_its_sender_and_its_date_and_odd_ones_count_as_none() -> None:
    for field, value, told in [("session", "s", "s"), ("date", "now", "now"), ("date", 7, "")]:
        header = json.dumps({"msg_id": "m", "msg_type": "stream", field: value}).encode()
        message = parse((header, header, b"{}", b"{}"))
        assert getattr(message, field) == told
        assert message.parent_type == "stream"
    assert message.parent_session == ""
