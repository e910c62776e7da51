"""Ctrl-C at a chosen line of the code that runs: what a timer would have to be lucky to hit."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import FrameType
from typing import Any

Place = tuple[str, int]
"""A file and a line of it."""

Trace = Callable[[FrameType, str, Any], Any]


@contextmanager
def lines_told(files: Callable[[str], bool], tell: Callable[[Place], None]) -> Iterator[None]:
    """Within, ``tell`` is called before this thread runs a line of the files for which ``files`` is
    true; what it raises is raised there."""
    wanted = cache(files)

    def trace(frame: FrameType, event: str, argument: Any) -> Trace | None:
        file = frame.f_code.co_filename
        if not wanted(file):
            return None
        if event == "line":
            tell((file, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


@contextmanager
def interrupt_at(place: Place) -> Iterator[threading.Event]:
    """Within, this thread gets one SIGINT when it first comes to a line; the event tells of it."""
    struck = threading.Event()

    def strike(here: Place) -> None:
        if here == place and not struck.is_set():
            struck.set()
            signal.raise_signal(signal.SIGINT)

    with lines_told(place[0].__eq__, strike):
        yield struck
