"""Our frames are judged by jupyter_client's ``Session``, and the other way round."""

import pytest
from jupyter_client.session import Session

from tests.support.wire import DELIMITER, BadFrames, Message, make_header, pack, unpack

KEY = b"secret"


@pytest.fixture
def session() -> Session:
    return Session(key=KEY)


def test_jupyter_client_reads_what_we_pack(session: Session) -> None:
    parent = make_header("execute_request", "theirs")
    ours = Message(
        make_header("stream", "ours"), parent, {"m": 1}, {"text": "é"}, (b"topic",), (b"\0\xff",)
    )
    identities, frames = session.feed_identities(pack(ours, KEY))
    theirs = session.deserialize(frames)
    assert identities == [b"topic"]
    assert theirs["msg_id"] == ours.id
    assert theirs["parent_header"]["msg_id"] == ours.parent_id == parent["msg_id"]
    assert (theirs["metadata"], theirs["content"]) == ({"m": 1}, {"text": "é"})
    assert [bytes(buffer) for buffer in theirs["buffers"]] == [b"\0\xff"]


def test_we_read_what_jupyter_client_packs(session: Session) -> None:
    theirs = session.msg("execute_request", {"code": "1"}, metadata={"m": 1})
    ours = unpack([*session.serialize(theirs, ident=b"me"), b"buffer"], KEY)
    assert (ours.type, ours.id) == ("execute_request", theirs["header"]["msg_id"])
    assert (ours.content, ours.metadata) == ({"code": "1"}, {"m": 1})
    assert (ours.identities, ours.buffers) == ((b"me",), (b"buffer",))
    assert ours.parent_id is None


def test_without_a_key_nothing_is_signed() -> None:
    frames = pack(Message(make_header("status", "s")), b"")
    assert frames[1] == b""
    assert unpack(frames, b"").type == "status"


GOOD = pack(Message(make_header("status", "s")), KEY)


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param(pack(Message(make_header("status", "s")), b"other"), id="wrong key"),
        pytest.param([*GOOD[:-1], b'{"forged": 1}'], id="changed content"),
        pytest.param(GOOD[1:], id="no delimiter"),
        pytest.param([DELIMITER, b"", b"{"], id="too few parts"),
        pytest.param([], id="nothing"),
    ],
)
def test_frames_that_are_no_signed_message_are_refused(frames: list[bytes]) -> None:
    with pytest.raises(BadFrames):
        unpack(frames, KEY)
