"""Values through a Unix socket, where both sides are on one machine and of one user.

Runs on both sides, as :mod:`.packing` does. First comes what has to be known of the values, as JSON
behind its length; then their parts, in pieces, each before its checksum."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from collections.abc import Callable
from typing import Any

from .packing import checksum

STRETCH = 1024 * 1024
"""Bytes before a checksum: what has just been received is still in the cache when it is taken."""

ROOM = 4 * 1024 * 1024
"""Bytes that may be under way; the system allows as much as it likes. With Linux's own 200 kB the
two sides wait for each other more often: 2.1 GB/s instead of 2.6."""

SAID_LIMIT = 64 * 1024 * 1024
"""Bytes of a description."""

_LENGTH = struct.Struct("!Q")
_NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)
"""Somebody may have given SIGPIPE back its meaning, which is to end the process."""
_WHOLE = getattr(socket, "MSG_WAITALL", 0)


class Damaged(Exception):
    """What came is not what was sent, or no description; the text says why."""


def connect(path: str) -> Pipe | None:
    """Return the way to whoever listens there; None if there is none, from this process.

    Another machine does not have the file, and another user may not open it.
    """
    if not path or not hasattr(socket, "AF_UNIX"):
        return None
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(path)
    except OSError:
        sock.close()
        return None
    return Pipe(sock)


class Pipe:
    """One end; a context manager that closes it.

    Every method raises `EOFError` or `OSError` when the other side has closed it too early.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, option, ROOM)

    def __enter__(self) -> Pipe:
        return self

    def __exit__(self, *exc: object) -> None:
        self._sock.close()

    def cut(self) -> None:
        """End it for whoever waits at either end; from any thread."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def say(self, about: Any) -> None:
        """Send what has a JSON form."""
        text = json.dumps(about).encode()
        self._send(_LENGTH.pack(len(text)) + text)

    def hear(self) -> Any:
        """Return what the other side says.

        Raises:
            Damaged: it is no JSON, or far too long.
        """
        size = self._number()
        if size > SAID_LIMIT:
            raise Damaged("its description is larger than any can be")
        text = bytearray(size)
        self._fill(memoryview(text))
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise Damaged("its description makes no sense") from None

    def send(
        self, parts: list[memoryview], *, summed: bool, moved: Callable[[int], None] | None = None
    ) -> None:
        """Send all parts; ``moved`` is called with the bytes of each piece that has gone."""
        for part in parts:
            for offset in range(0, part.nbytes, STRETCH):
                piece = part[offset : offset + STRETCH]
                check = checksum(piece, summed=summed)
                self._send(piece)
                self._send(_LENGTH.pack(check))
                if moved is not None:
                    moved(piece.nbytes)

    def fill(
        self, parts: list[memoryview], *, summed: bool, moved: Callable[[int], None] | None = None
    ) -> None:
        """Receive all parts, straight to where they belong; ``moved`` as for :meth:`send`.

        Raises:
            Damaged: a checksum is wrong.
        """
        for part in parts:
            for offset in range(0, part.nbytes, STRETCH):
                piece = part[offset : offset + STRETCH]
                self._fill(piece)
                check = checksum(piece, summed=summed)
                if self._number() != check:
                    raise Damaged("its checksum is wrong: it changed while it was sent")
                if moved is not None:
                    moved(piece.nbytes)

    def _send(self, data: Any) -> None:
        self._sock.sendall(data, _NO_SIGNAL)

    def _number(self) -> int:
        data = bytearray(_LENGTH.size)
        self._fill(memoryview(data))
        number: int = _LENGTH.unpack(data)[0]
        return number

    def _fill(self, view: memoryview) -> None:
        done = 0
        while done < view.nbytes:
            size = self._sock.recv_into(view[done:], 0, _WHOLE)
            if not size:
                raise EOFError("the other side closed it")
            done += size
