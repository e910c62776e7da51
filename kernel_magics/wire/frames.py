"""One multipart message over a ZeroMQ socket, without the overhead of pyzmq's own helpers."""

from __future__ import annotations

from collections.abc import Sequence

import zmq

ZERO_COPY = 64 * 1024
"""Bytes from which a frame is handed to libzmq without a copy; as in ``Session.copy_threshold``."""

_DONT_WAIT = int(zmq.NOBLOCK)
_DONT_WAIT_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)


def send_frames(sock: zmq.Socket[bytes], frames: Sequence[bytes | memoryview]) -> None:
    """Send one message without waiting, large frames without a copy.

    `send_multipart` does the same with three times the overhead.

    Raises:
        zmq.Again: nobody is connected, or the queue is full; nothing was sent then.
    """
    last = len(frames) - 1
    for index, frame in enumerate(frames):
        flags = _DONT_WAIT if index == last else _DONT_WAIT_MORE
        sock.send(frame, flags, copy=len(frame) < ZERO_COPY)


FIRST_BUFFER = 6
"""Frames of a message before its first buffer, at least: delimiter, signature and four parts."""


def receive_frames(sock: zmq.Socket[bytes]) -> list[bytes | memoryview]:
    """Receive one message without waiting, large buffers without a copy.

    Raises:
        zmq.Again: there is none.
    """
    frames: list[bytes | memoryview] = []
    while True:
        frame = sock.recv(_DONT_WAIT, copy=False)
        large = len(frames) >= FIRST_BUFFER and len(frame) >= ZERO_COPY
        frames.append(frame.buffer if large else frame.bytes)
        if not frame.more:
            return frames
