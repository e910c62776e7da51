"""The one I/O thread.

Owns every ZeroMQ socket of this package (they must not be shared between threads) and the clock
that deadlines are measured by. It never blocks on anything but its poll, and never runs a user's
code. Others hand it work with :meth:`Reactor.post`."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
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
from .frames import is_readable
from .sleeper import make_sleeper

log = logging.getLogger("kernel_magics.wire")

Callback = Callable[[], None]
Reader = Callable[[], bool]
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
    """One thread, one sleep, one context. Starts with the first :meth:`post`.

    It waits for the descriptors of the sockets, where a `zmq.Poller` would ask all of them in every
    turn. libzmq signals there that it has news, once; what it is, and whether there is more, only
    the socket tells. So a socket is due after a signal, after having been used in any other way,
    and after a reader that left something unread.
    """

    def __init__(self, name: str = "kernel_magics I/O") -> None:
        self._name = name
        self._pid = os.getpid()
        self._posted: deque[Callback] = deque()
        self._soon: list[Callback] = []
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._readers: dict[zmq.Socket[bytes], Reader] = {}
        self._readers_at: dict[int, Reader] = {}  # the same by descriptor
        self._due: dict[Reader, None] = {}  # to be called in the next turn, in this order
        self._reading: dict[Reader, None] = {}  # what is left of that in this turn
        self._polling = False
        self._closing = False
        self._ended = threading.Event()
        self._start_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._turn = threading.Lock()  # held by whoever touches the state: one turn at a time
        self.now = 0.0
        """Seconds of *serviced* time.

        Time in which this thread did not run (a laptop asleep, Ctrl-Z, an extension that holds the
        GIL) does not count: the kernels could say nothing that we would have heard.
        """
        self._before = 0.0  # when the time that passed was counted last
        self._timeout = 0.0  # of the sleep that is under way
        self._wakes_at = 0.0  # when it ends at the latest, as `now`
        # A socket pair and not an inproc socket: any thread, and a signal handler, may write to it.
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.context.max_sockets = MAX_SOCKETS
        self._sleeper = make_sleeper()
        self._watch(self._wake_read.fileno(), self._woken)

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
        self._ensure_usable()
        self._posted.append(callback)
        if self._thread is None:
            self._start()
        if self._polling:
            self._wake()

    def run_or_post(self, callback: Callback) -> None:
        """Run ``callback`` here and now if the I/O thread sleeps and owes nothing, or post it.

        That saves the hand-over to the thread, a seventh of the way to a kernel and back. An
        exception is passed on: one that a signal handler raises may strike between any two steps.

        Raises:
            Closed: as :meth:`post`.
        """
        self._ensure_usable()
        if self._posted or not self._polling or self._turn.locked():
            self.post(callback)
            return
        # `with`, because no signal handler runs between its taking the lock and its giving it back.
        with self._turn:
            if self._closing:  # meanwhile
                self._ensure_usable()
            self._pass_time()
            callback()
            if self._soon:
                self._run_soon()
            early = self._timers and self._timers[0][0] < self._wakes_at
        if early or self._due:
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
        with self._turn:
            self._sleeper.close()
            self._wake_read.close()
            self._wake_write.close()
            self.context.destroy(linger=0)

    # Called on the I/O thread only.

    def watch(self, sock: zmq.Socket[bytes], reader: Reader) -> None:
        """Call ``reader`` when ``sock`` may have something to read.

        It reads until there is nothing more and returns False; if it stops before that it returns
        True, and is called again in the next turn. One that reads several sockets is called once a
        turn for all of them.
        """
        self._readers[sock] = reader
        self._watch(sock.fileno(), reader)
        self._due[reader] = None

    def unwatch(self, sock: zmq.Socket[bytes]) -> None:
        """Forget a socket, before it is closed; one that is not watched is fine."""
        reader = self._readers.pop(sock, None)
        if reader is not None:
            self._due.pop(reader, None)
            self._reading.pop(reader, None)
            descriptor = sock.fileno()
            del self._readers_at[descriptor]
            self._sleeper.remove(descriptor)

    def used(self, sock: zmq.Socket[bytes]) -> None:
        """Take note that something else than reading was done with a watched socket.

        What libzmq did on that occasion may have eaten the signal of a message.
        """
        if is_readable(sock):
            self._due[self._readers[sock]] = None

    def soon(self, callback: Callback) -> None:
        """Run ``callback`` at the end of this turn, after all that is readable now was read."""
        self._soon.append(callback)

    def call_later(self, delay: float, callback: Callback) -> Timer:
        """Run ``callback`` after ``delay`` seconds of serviced time."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (self.now + delay, next(self._order), timer))
        return timer

    def _watch(self, descriptor: int, reader: Reader) -> None:
        self._readers_at[descriptor] = reader  # first: the thread may be asleep, and wake at once
        self._sleeper.add(descriptor)

    def _ensure_usable(self) -> None:
        if self._closing:
            raise Closed("kernel_magics is closed in this process")
        if self.is_foreign:
            raise Closed("kernels cannot be used in a forked process; attach them again there")

    def _start(self) -> None:
        with self._start_lock:
            if self._thread is None and not self._closing:
                self._thread = threading.Thread(target=self._loop, name=self._name, daemon=True)
                self._thread.start()

    def _wake(self) -> None:
        # Full means that a wake-up is under way already.
        with contextlib.suppress(BlockingIOError):
            self._wake_write.send(b"\0")

    def _woken(self) -> bool:
        self._wake_read.recv(4096)
        return False

    def _loop(self) -> None:
        with self._turn:
            self._before = time.monotonic()
            self._plan_sleep()
        while not self._closing:
            ready = self._sleeper.sleep(self._timeout)
            with self._turn:
                self._take_turn(ready)

    def _take_turn(self, ready: list[tuple[int, int]]) -> None:
        self._polling = False
        self._pass_time()
        for descriptor, _ in ready:
            # For one that was forgotten meanwhile `bool` reads nothing, and says that it is all.
            self._due[self._readers_at.get(descriptor, bool)] = None
        if self._due:
            self._read()
        for _ in range(len(self._posted)):
            self._call(self._posted.popleft())
        if self._soon:
            self._run_soon()
        if self._timers and self._timers[0][0] <= self.now:
            self._run_timers()
        self._plan_sleep()

    def _plan_sleep(self) -> None:
        timeout = self._until_next_timer()
        self._polling = True
        # Set first, looked at second: who posts in between is seen here or sees the flag.
        if self._posted or self._due or self._closing:
            timeout = 0.0
        self._timeout = timeout
        self._wakes_at = self.now + timeout

    def _pass_time(self) -> None:
        now = time.monotonic()
        self.now += min(now - self._before, self._timeout + LATE)
        self._before = now

    def _read(self) -> None:
        self._reading, self._due = self._due, self._reading
        while self._reading:
            reader = next(iter(self._reading))
            del self._reading[reader]
            if self._call(reader) is not False:  # None: it failed half-way
                self._due[reader] = None

    def _until_next_timer(self) -> float:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        due = self._timers[0][0] - self.now if self._timers else LONGEST_POLL
        return LONGEST_POLL if due >= LONGEST_POLL else max(0.0, due)

    def _run_soon(self) -> None:
        while self._soon:
            callbacks, self._soon = self._soon, []
            for callback in callbacks:
                self._call(callback)

    def _run_timers(self) -> None:
        while self._timers and self._timers[0][0] <= self.now:
            timer = heapq.heappop(self._timers)[2]
            if timer.callback is not None:
                self._call(timer.callback)

    @staticmethod
    def _call(callback: Callable[[], T]) -> T | None:
        try:
            return callback()
        except Exception:
            # A mistake in this package. The thread serves all kernels, so it must go on.
            log.exception("! unexpected error on the I/O thread")
            return None
