"""Ctrl-C, held back while something is done that may not be left half done.

Python raises a KeyboardInterrupt between any two steps. In the constructor of a `subprocess.Popen`
that is between the fork and the note of it, for milliseconds: a process is left that nobody knows,
ends or waits for. In other places it is a forward, a folder or a name. So what makes such things
holds Ctrl-C back, and lets it in where it waits, which is where anybody presses it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class _Hold:
    """The main thread's SIGINT, while it is held back; other threads are never interrupted."""

    def __init__(self, before: Callable[..., Any]) -> None:
        self.before = before
        self.is_open = False
        self._noted: tuple[Any, ...] | None = None

    def handle(self, *signal_and_frame: Any) -> None:
        self._noted = signal_and_frame
        self.strike_if_open()

    def strike_if_open(self) -> None:
        """Have what was pressed, however often, take its effect: once."""
        if self.is_open and self._noted is not None:
            noted, self._noted = self._noted, None
            self.before(*noted)

    @contextmanager
    def opened(self, is_open: bool) -> Iterator[None]:
        before, self.is_open = self.is_open, is_open
        try:
            self.strike_if_open()
            yield
        finally:
            self.is_open = before
            self.strike_if_open()


_hold: _Hold | None = None


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Within, Ctrl-C strikes only where it is :func:`interruptible`, or at the end.

    Does nothing in any but the main thread, and where SIGINT is ignored or is not Python's."""
    global _hold
    if threading.current_thread() is not threading.main_thread():
        yield
    elif _hold is not None:
        with _hold.opened(False):
            yield
    elif callable(before := signal.getsignal(signal.SIGINT)):
        hold = _Hold(before)
        signal.signal(signal.SIGINT, hold.handle)
        _hold = hold
        try:
            yield
        finally:
            _hold = None
            signal.signal(signal.SIGINT, before)
            hold.is_open = True
            hold.strike_if_open()
    else:
        yield


@contextmanager
def interruptible() -> Iterator[None]:
    """Within, a wait most likely, Ctrl-C strikes again, and what was pressed before strikes now."""
    if _hold is None or threading.current_thread() is not threading.main_thread():
        yield
    else:
        with _hold.opened(True):
            yield


def strike_now() -> None:
    """Let strike what was pressed until now: where a wait itself had better not be interrupted."""
    with interruptible():
        pass
