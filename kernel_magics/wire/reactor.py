"""The one I/O thread.

Owns every ZeroMQ socket of this package (they must not be shared between threads) and the clock
that deadlines are measured by. It never blocks on anything but its poll, and never runs a user's
code. Others hand it work with :meth:`Reactor.post`."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import math
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import zmq

from ..errors import Closed

log = logging.getLogger("kernel_magics.wire")

Callback = Callable[[], None]
T = TypeVar("T")

MAX_SOCKETS = 16_384
"""Of the context; libzmq's default of 1023 would end at some 150 kernels."""

LATE = 0.5
"""Seconds a poll may overrun before the excess counts as time in which nobody was served."""

LONGEST_POLL = 1.0
"""Seconds. Bounds how much time a stopped process can seem to have served."""


class Timer:
    """A callback that waits for its time; :meth:`cancel` may be called at any moment."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callback) -> None:
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        """Never call it."""
        self.callback = None


class Reactor:
    """One thread, one poller, one context. Starts with the first :meth:`post`."""

    def __init__(self, name: str = "kernel_magics I/O") -> None:
        self._name = name
        self._pid = os.getpid()
        self._posted: deque[Callback] = deque()
        self._soon: list[Callback] = []
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._sockets: dict[zmq.Socket[bytes], Callback] = {}
        self._polling = False
        self._closing = False
        self._ended = threading.Event()
        self._start_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._now = 0.0
        # A socket pair and not an inproc socket: any thread, and a signal handler, may write to it.
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.context.max_sockets = MAX_SOCKETS
        self._poller = zmq.Poller()
        self._poller.register(self._wake_read.fileno(), zmq.POLLIN)

    @property
    def now(self) -> float:
        """Seconds of *serviced* time.

        Time in which this thread did not run (a laptop asleep, Ctrl-Z, an extension that holds the
        GIL) does not count: the kernels could say nothing that we would have heard.
        """
        return self._now

    @property
    def is_foreign(self) -> bool:
        """It belongs to the process that this one was forked from; sockets do not survive that."""
        return os.getpid() != self._pid

    # Called from any thread.

    def post(self, callback: Callback) -> None:
        """Run ``callback`` on the I/O thread, in order of posting. Safe in a signal handler.

        Raises:
            Closed: after :meth:`close`, and in a process forked from the one that made this.
        """
        if self._closing:
            raise Closed("kernel_magics is closed in this process")
        if self.is_foreign:
            raise Closed("kernels cannot be used in a forked process; attach them again there")
        self._posted.append(callback)
        if self._thread is None:
            self._start()
        if self._polling:
            self._wake()

    def ask(self, callback: Callable[[], T]) -> T:
        """Run ``callback`` on the I/O thread, wait for it, return its result or raise its error."""
        if threading.current_thread() is self._thread:
            return callback()
        answer: Future[T] = Future()

        def run() -> None:
            try:
                answer.set_result(callback())
            except BaseException as error:  # handed to the caller, whatever it is
                answer.set_exception(error)

        self.post(run)
        while True:
            try:
                return answer.result(LONGEST_POLL)
            except TimeoutError:
                if self._ended.is_set() and not answer.done():
                    raise Closed("kernel_magics was closed meanwhile") from None

    def close(self) -> None:
        """Stop the thread and close what is left. May be called twice, from any thread but its
        own."""
        with self._start_lock:
            already, self._closing = self._closing, True
        if already or self.is_foreign:
            return
        if self._thread is not None:
            self._wake()
            self._thread.join()
        self._ended.set()
        self._poller.unregister(self._wake_read.fileno())
        self._wake_read.close()
        self._wake_write.close()
        self.context.destroy(linger=0)

    # Called on the I/O thread only.

    def watch(self, sock: zmq.Socket[bytes], callback: Callback) -> None:
        """Call ``callback`` in every turn in which ``sock`` has something to read."""
        self._sockets[sock] = callback
        self._poller.register(sock, zmq.POLLIN)

    def unwatch(self, sock: zmq.Socket[bytes]) -> None:
        """Forget a socket; one that is not watched is fine."""
        if self._sockets.pop(sock, None) is not None:
            self._poller.unregister(sock)

    def soon(self, callback: Callback) -> None:
        """Run ``callback`` at the end of this turn, after all that is readable now was read."""
        self._soon.append(callback)

    def call_later(self, delay: float, callback: Callback) -> Timer:
        """Run ``callback`` after ``delay`` seconds of serviced time."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (self._now + delay, next(self._order), timer))
        return timer

    def _start(self) -> None:
        with self._start_lock:
            if self._thread is None and not self._closing:
                self._thread = threading.Thread(target=self._loop, name=self._name, daemon=True)
                self._thread.start()

    def _wake(self) -> None:
        # Full means that a wake-up is under way already.
        with contextlib.suppress(BlockingIOError):
            self._wake_write.send(b"\0")

    def _loop(self) -> None:
        wake = self._wake_read.fileno()
        before = time.monotonic()
        while not self._closing:
            timeout = self._until_next_timer()
            self._polling = True
            # Set first, looked at second: who posts in between is seen here or sees the flag.
            if self._posted or self._closing:
                timeout = 0.0
            ready = self._poller.poll(math.ceil(timeout * 1000))
            self._polling = False
            after = time.monotonic()
            self._now += min(after - before, timeout + LATE)
            before = after
            for sock, _ in ready:
                if sock == wake:
                    self._wake_read.recv(4096)
                elif (callback := self._sockets.get(sock)) is not None:  # else closed in this turn
                    self._call(callback)
            for _ in range(len(self._posted)):
                self._call(self._posted.popleft())
            while self._soon:
                last, self._soon = self._soon, []
                for callback in last:
                    self._call(callback)
            self._run_timers()

    def _until_next_timer(self) -> float:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return LONGEST_POLL
        return min(max(0.0, self._timers[0][0] - self._now), LONGEST_POLL)

    def _run_timers(self) -> None:
        while self._timers and self._timers[0][0] <= self._now:
            timer = heapq.heappop(self._timers)[2]
            if timer.callback is not None:
                self._call(timer.callback)

    @staticmethod
    def _call(callback: Callback) -> None:
        try:
            callback()
        except Exception:
            # A mistake in this package. The thread serves all kernels, so it must go on.
            log.exception("! unexpected error on the I/O thread")
