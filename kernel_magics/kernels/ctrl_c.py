"""Ctrl-C while somebody waits for a kernel.

A KeyboardInterrupt may be raised between any two steps, also between the two halves of showing an
output. So while a cell is waited for, SIGINT only takes note and calls a function; it raises at the
second press, or where the user sits in a blocking prompt.
"""

from __future__ import annotations

# The C functions behind `signal`: its wrappers look each handler up among its enums, 3 us a call,
# and this runs twice for every cell.
import _signal  # type: ignore[import-not-found]
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class CtrlC:
    """A context manager; in any but the main thread, which alone gets signals, it does nothing.

    Nothing is raised before :meth:`call_first`: until then a cell is being sent.
    """

    pressed = 0
    """How often it was pressed so far."""
    _first: Callable[[], None] | None = None
    _raise = False
    _before: Any = None

    def __enter__(self) -> CtrlC:
        if threading.current_thread() is threading.main_thread():
            self._before = _signal.signal(_signal.SIGINT, self._handle)
            if not callable(self._before):  # ignored, or not Python's: leave it as it is
                self.__exit__()
                self._before = None
        return self

    def __exit__(self, *exc: object) -> None:
        if self._before is not None:
            _signal.signal(_signal.SIGINT, self._before)

    def call_first(self, callback: Callable[[], None]) -> None:
        """Call this at the first press; at once if that was before there was anything to call.

        Raises:
            KeyboardInterrupt: there were two before.
        """
        self._first = callback
        if self.pressed:
            callback()
        if self.pressed > 1:
            raise KeyboardInterrupt

    def press(self) -> None:
        """Count a press that arrived in another way, as a KeyboardInterrupt in a prompt."""
        self.pressed += 1
        if self.pressed == 1 and self._first is not None:
            self._first()

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Within, a press raises at once: nothing else gets anybody out of a blocking prompt."""
        self._raise = True
        try:
            yield
        finally:
            self._raise = False

    def _handle(self, signum: int, frame: object) -> None:
        if self._raise:
            raise KeyboardInterrupt
        self.press()
        if self.pressed > 1 and self._first is not None:
            raise KeyboardInterrupt
