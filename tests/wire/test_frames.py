"""Messages over a real pair of sockets, whole ones and others."""

from collections.abc import Generator

import pytest
import zmq

from kernel_magics.protocol.message import DELIMITER
from kernel_magics.wire.frames import (
    ZERO_COPY,
    frames_behind,
    is_readable,
    receive_frames,
    send_frames,
)
from tests.support.waiting import wait_until

PARTS = [b"signature", b"header", b"parent", b"metadata", b"content"]
WHOLE = [b"topic", DELIMITER, *PARTS]

SIGNED = pytest.mark.parametrize("signed", [True, False])

Socket = zmq.Socket[bytes]


@pytest.fixture
def pair() -> Generator[tuple[Socket, Socket]]:
    """One that sends, and one that receives."""
    context: zmq.Context[Socket] = zmq.Context()
    here, there = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    here.bind("inproc://frames")
    there.connect("inproc://frames")
    yield here, there
    context.destroy(linger=0)


def received(
    pair: tuple[Socket, Socket], *messages: list[bytes], signed: bool
) -> list[list[bytes]]:
    """Send them all before the first is received."""
    here, there = pair
    for message in messages:
        send_frames(here, message)
    found = []
    while is_readable(there):
        found.append([bytes(frame) for frame in receive_frames(there, signed=signed)])
    with pytest.raises(zmq.Again):
        receive_frames(there, signed=signed)
    return found


@SIGNED
@pytest.mark.parametrize(
    "message",
    [
        pytest.param(WHOLE, id="with a topic"),
        pytest.param(WHOLE[1:], id="without"),
        pytest.param([b"a", b"b", *WHOLE], id="behind identities"),
        pytest.param([*WHOLE, b"", b"buffer", DELIMITER, b"behind", b"it"], id="with buffers"),
        pytest.param([*WHOLE, b"x" * ZERO_COPY], id="with a large buffer"),
        pytest.param([*WHOLE[:-1], b"x" * ZERO_COPY], id="with large content"),
        pytest.param([b"topic", b"nothing", b"to", b"see", b"here", b"at", b"all"], id="garbage"),
        pytest.param([DELIMITER], id="a delimiter"),
        pytest.param([b""], id="an empty frame"),
    ],
)
def test_what_is_sent_arrives_as_it_was(
    pair: tuple[Socket, Socket], message: list[bytes], signed: bool
) -> None:
    assert received(pair, message, WHOLE, signed=signed) == [message, WHOLE]


def test_a_large_buffer_is_not_copied(pair: tuple[Socket, Socket]) -> None:
    send_frames(pair[0], [*WHOLE, b"x" * ZERO_COPY, b"small"])
    *_, large, small = receive_frames(pair[1], signed=True)
    assert (type(large), type(small)) == (memoryview, bytes)


CUT = pytest.mark.parametrize("length", range(1, len(PARTS)))


@CUT
def test_a_message_that_is_cut_short_comes_alone_if_it_is_the_last(
    pair: tuple[Socket, Socket], length: int
) -> None:
    short = [b"topic", DELIMITER, *PARTS[:length]]
    assert received(pair, short, signed=True) == [short]
    assert frames_behind([*short]) == []


@CUT
@pytest.mark.parametrize("behind", [WHOLE, WHOLE[1:], [*WHOLE, b"buffer", DELIMITER]])
def test_what_follows_one_that_is_cut_short_is_found_behind_it(
    pair: tuple[Socket, Socket], length: int, behind: list[bytes]
) -> None:
    short = [b"topic", DELIMITER, *PARTS[:length]]
    both, last = received(pair, short, behind, WHOLE, signed=True)
    assert both == [*short, *behind]
    assert frames_behind([*both]) == behind[behind.index(DELIMITER) :]
    assert last == WHOLE


@CUT
def test_without_signatures_each_comes_alone(pair: tuple[Socket, Socket], length: int) -> None:
    short = [b"topic", DELIMITER, *PARTS[:length]]
    assert received(pair, short, WHOLE, signed=False) == [short, WHOLE]


def test_several_in_a_row_are_found_one_after_the_other(pair: tuple[Socket, Socket]) -> None:
    short = [DELIMITER, b"signature"]
    [frames] = received(pair, short, short, WHOLE, signed=True)
    assert frames_behind([*frames]) == [*short, *WHOLE]
    assert frames_behind([*short, *WHOLE]) == WHOLE[1:]


def test_whether_there_is_a_message_is_told(pair: tuple[Socket, Socket]) -> None:
    here, there = pair
    assert not is_readable(there)
    send_frames(here, WHOLE)
    wait_until(lambda: is_readable(there), what="it has arrived")
    receive_frames(there, signed=True)
    assert not is_readable(there)
