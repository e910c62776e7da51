"""A bad connection: TCP ports in front of a kernel's, on which bytes are held up, cut or lost.

The relay runs in a thread of its own and knows nothing of messages. It writes a connection file of
its own, so whoever attaches by that file goes through it.
"""

import queue
import random
import selectors
import socket
import struct
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.support.connection import CHANNELS, Info, write_info
from tests.support.waiting import PATIENCE

T = TypeVar("T")

PIECE = 16 * 1024
"""Bytes read at once; small enough that a cut finds something under way."""

BACKLOG = 1024 * 1024
"""Bytes held back before the sender has to wait, as a real line makes it."""


@dataclass(frozen=True)
class Line:
    """How bytes travel: ``delay`` in seconds each way, ``rate`` in bytes a second each way for all
    channels together, ``pieces`` the largest number of bytes handed on at once."""

    delay: float = 0.0
    rate: float | None = None
    pieces: int | None = None


@dataclass(eq=False)
class _Pipe:
    """One direction of one connection."""

    source: socket.socket
    target: socket.socket
    direction: str
    waiting: deque[tuple[float, memoryview]] = field(default_factory=deque)
    nbytes: int = 0
    ended: bool = False  # the source has closed


@dataclass(eq=False)
class _Pair:
    """A client's connection and ours to the kernel."""

    channel: str
    pipes: tuple[_Pipe, _Pipe]

    @property
    def sockets(self) -> tuple[socket.socket, socket.socket]:
        return self.pipes[0].source, self.pipes[0].target


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


class Relay:
    """Five ports that lead to a kernel's. All methods may be called from the test's thread."""

    def __init__(self, info: Info, folder: Path, line: Line | None = None) -> None:
        """Listen, and write the connection file into ``folder``."""
        self._line = line or Line()
        self._kernel = info
        self._listeners: dict[str, socket.socket] = {}
        self._pairs: set[_Pair] = set()
        self._paused = False
        self._free_at = {"to": 0.0, "from": 0.0}  # when a throttled direction may go on
        self._selector = selectors.DefaultSelector()
        self._work: queue.SimpleQueue[tuple[Callable[[], object], Future[Any]] | None]
        self._work = queue.SimpleQueue()
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ, self._nothing)
        self.info: Info = {**info}
        # Bound and never listening: while connections are refused, nobody else gets a port.
        self._ports: list[socket.socket] = []
        for channel in CHANNELS:
            port = _bound(0)
            self._ports.append(port)
            self.info[f"{channel}_port"] = port.getsockname()[1]
            self._listen(channel)
        self.connection_file = folder / f"kernel-{uuid.uuid4()}.json"
        write_info(self.connection_file, self.info)
        self._failure: BaseException | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._thread.start()

    def cut(self, *channels: str, reset: bool = False) -> None:
        """Close the connections of these channels, or of all, and refuse new ones.

        ``reset`` closes them by RST, as a firewall or a crashed machine does.
        """
        self._do(lambda: self._cut(channels or CHANNELS, reset=reset, listen=False))

    def drop(self, *channels: str, reset: bool = False) -> None:
        """Close the connections of these channels, or of all; new ones are welcome at once."""
        self._do(lambda: self._cut(channels or CHANNELS, reset=reset, listen=True))

    def restore(self) -> None:
        """Accept connections again on all channels."""
        self._do(self._listen_again)

    def pause(self) -> None:
        """Hand nothing on any more; connections stay open, as on a line that has gone dead."""
        self._do(lambda: setattr(self, "_paused", True))

    def resume(self) -> None:
        """Hand on again, first what has waited."""
        self._do(lambda: setattr(self, "_paused", False))

    def close(self) -> None:
        """End the thread, close everything, remove the file; idempotent.

        Raises:
            Exception: what went wrong on the relay's thread.
        """
        if self._closed:
            return
        self._closed = True
        self._work.put(None)
        with suppress(BrokenPipeError):  # the thread has failed, with what is raised below
            self._wake.send(b"!")
        self._thread.join(PATIENCE)
        self._wake.close()
        self.connection_file.unlink(missing_ok=True)
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _do(self, action: Callable[[], T]) -> T:
        """Do something on the relay's thread."""
        done: Future[T] = Future()
        self._work.put((action, done))
        self._wake.send(b"!")
        return done.result(PATIENCE)

    # On the relay's thread.

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException as error:  # handed over to close(), in the test's thread
            self._failure = error
        finally:
            self._cut(CHANNELS, reset=False, listen=False)
            self._selector.close()
            self._woken.close()
            for port in self._ports:
                port.close()

    def _turn(self) -> bool:
        for key, _ in self._selector.select(self._until_next()):
            key.data()
        while not self._work.empty():
            match self._work.get():
                case None:
                    return False
                case action, done:
                    try:
                        done.set_result(action())
                    except BaseException as error:  # belongs to the caller
                        done.set_exception(error)
        for pair in list(self._pairs):
            for pipe in pair.pipes:
                self._hand_on(pair, pipe)
        return True

    def _until_next(self) -> float | None:
        """Seconds until something that waits is due."""
        if self._paused:
            return None
        now = time.monotonic()
        due = [
            max(pipe.waiting[0][0], self._free_at[pipe.direction]) - now
            for pair in self._pairs
            for pipe in pair.pipes
            if pipe.waiting
        ]
        return max(0.0, min(due)) if due else None

    def _nothing(self) -> None:
        self._woken.recv(4096)

    def _listen(self, channel: str) -> None:
        listener = _bound(self.info[f"{channel}_port"])
        listener.listen()
        self._listeners[channel] = listener
        self._selector.register(
            listener, selectors.EVENT_READ, lambda: self._accept(channel, listener)
        )

    def _listen_again(self) -> None:
        for channel in CHANNELS:
            if channel not in self._listeners:
                self._listen(channel)

    def _accept(self, channel: str, listener: socket.socket) -> None:
        if self._listeners.get(channel) is not listener:
            return  # closed in this turn
        try:
            client, _ = listener.accept()
        except ConnectionAbortedError:
            return  # it went before it was welcomed
        kernel = socket.socket()
        try:
            kernel.connect((self._kernel["ip"], self._kernel[f"{channel}_port"]))
        except OSError:
            # As ssh does: the near end is open although nobody is at the far one.
            client.close()
            kernel.close()
            return
        for one in (client, kernel):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = _Pair(channel, (_Pipe(client, kernel, "to"), _Pipe(kernel, client, "from")))
        self._pairs.add(pair)
        for pipe in pair.pipes:
            self._selector.register(
                pipe.source, selectors.EVENT_READ, lambda pipe=pipe: self._read(pipe)
            )

    def _read(self, pipe: _Pipe) -> None:
        if pipe.source.fileno() < 0 or pipe.ended:
            return
        if pipe.nbytes > BACKLOG or self._paused:
            # Looked at again when something has been handed on.
            self._selector.unregister(pipe.source)
            return
        try:
            data = pipe.source.recv(PIECE)
        except OSError:
            data = b""
        due = time.monotonic() + self._line.delay
        if data:
            pipe.nbytes += len(data)
        else:
            pipe.ended = True
            self._selector.unregister(pipe.source)
        pipe.waiting.append((due, memoryview(data)))

    def _hand_on(self, pair: _Pair, pipe: _Pipe) -> None:
        if self._paused or pair not in self._pairs:
            return
        now = time.monotonic()
        while pipe.waiting and pipe.waiting[0][0] <= now >= self._free_at[pipe.direction]:
            due, data = pipe.waiting.popleft()
            if not data:
                self._close_pair(pair, reset=False)
                return
            size = len(data)
            if self._line.pieces is not None:
                size = min(size, random.randint(1, self._line.pieces))
            if self._line.rate is not None:
                size = min(size, 1 + int(self._line.rate / 50))
            try:
                sent = pipe.target.send(data[:size], socket.MSG_DONTWAIT)
            except BlockingIOError:
                sent, due = 0, now + 0.001
            except OSError:
                self._close_pair(pair, reset=False)
                return
            pipe.nbytes -= sent
            if self._line.rate is not None:
                self._free_at[pipe.direction] = now + sent / self._line.rate
            if sent < len(data):
                pipe.waiting.appendleft((due, data[sent:]))
        self._look_again(pipe)

    def _look_again(self, pipe: _Pipe) -> None:
        if pipe.ended or pipe.nbytes > BACKLOG or pipe.source in self._selector.get_map():
            return
        self._selector.register(pipe.source, selectors.EVENT_READ, lambda: self._read(pipe))

    def _cut(self, channels: tuple[str, ...], *, reset: bool, listen: bool) -> None:
        for channel in channels:
            if not listen and (listener := self._listeners.pop(channel, None)):
                self._selector.unregister(listener)
                listener.close()
        for pair in list(self._pairs):
            if pair.channel in channels:
                self._close_pair(pair, reset=reset)

    def _close_pair(self, pair: _Pair, *, reset: bool) -> None:
        self._pairs.discard(pair)
        for one in pair.sockets:
            if one in self._selector.get_map():
                self._selector.unregister(one)
            if reset:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()
