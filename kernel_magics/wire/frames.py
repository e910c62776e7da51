"""One multipart message over a ZeroMQ socket, without the overhead of pyzmq's own helpers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import zmq

from ..protocol.message import DELIMITER, Part

ZERO_COPY = 64 * 1024
"""Bytes from which a frame is handed to libzmq without a copy; as in ``Session.copy_threshold``."""

_READABLE = int(zmq.POLLIN)
_DONT_WAIT = int(zmq.NOBLOCK)
_DONT_WAIT_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)


def is_readable(sock: zmq.Socket[bytes]) -> bool:
    """Whether a message can be received now; asking `EVENTS` says the same, but takes longer."""
    return bool(zmq.zmq_poll([(sock, _READABLE)], 0))


def send_frames(sock: zmq.Socket[bytes], frames: Sequence[Part]) -> None:
    """Send one message without waiting, large frames without a copy.

    `send_multipart` does the same with three times the overhead.

    Raises:
        zmq.Again: nobody is connected, or the queue is full; nothing was sent then.
    """
    send: Any = super(zmq.Socket, sock).send  # that of `zmq.Socket` looks for drafts first
    last = frames[-1]
    for frame in frames[:-1]:
        send(frame, _DONT_WAIT_MORE, len(frame) < ZERO_COPY)
    send(last, _DONT_WAIT, len(last) < ZERO_COPY)


SURE = 4
"""Frames between the delimiter of a message and its last, if it has no buffers."""


def receive_frames(sock: zmq.Socket[bytes], *, signed: bool) -> list[Part]:
    """Receive one message without waiting, large buffers without a copy.

    To learn whether a frame is the last of its message takes twice as long as to receive it, so
    that is not asked of those that others have to follow, if the message is ``signed``: for when it
    ends there all the same, and another was sent already, that comes with it. Such a thing never
    verifies, and :func:`frames_behind` parts it.

    Raises:
        zmq.Again: there is none.
    """
    receive = sock.recv
    frame = receive(_DONT_WAIT, False)
    frames: list[Part] = [frame.bytes]
    try:
        while frame.more and frames[-1] != DELIMITER:
            frame = receive(_DONT_WAIT, False)
            frames.append(frame.bytes)
        if frame.more and signed:
            for _ in range(SURE):
                frames.append(receive(_DONT_WAIT))
        while frame.more:
            frame = receive(_DONT_WAIT, False)
            frames.append(frame.bytes if len(frame) < ZERO_COPY else frame.buffer)
    except zmq.Again:
        pass  # it was cut short, and nothing came with it
    return frames


def frames_behind(frames: list[Part]) -> list[Part]:
    """Return what came together with a message that was cut short, or nothing."""
    try:
        return frames[frames.index(DELIMITER, frames.index(DELIMITER) + 1) :]
    except ValueError:
        return []
