"""What a magic that takes its time is doing: one line each for steps that are slow, none if all is
quick."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

SAY_AFTER = 2.0
"""Seconds from the beginning until the first line, and from a step's beginning until a further
one."""


class Progress:
    """A context manager; ``say`` prints a line, on a thread of ours that ends with the context.

    The time that the user takes to answer a question does not count, and no line comes in between.
    """

    def __init__(self, say: Callable[[str], None] = print) -> None:
        self._say = say
        self._news = threading.Condition()
        self._step = ""  # nothing to be said now
        self._due = 0.0
        self._said = self._paused = self._over = False
        # A notebook finds the cell that a line belongs to by the context it is printed in.
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._watch,), name="kernel_magics progress", daemon=True
        )

    def __enter__(self) -> Self:
        self._due = time.monotonic() + SAY_AFTER
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._news:
            self._over = True
            self._news.notify()
        self._thread.join()

    def step(self, text: str) -> None:
        """From here on this is done."""
        with self._news:
            self._step = text
            if self._said:
                self._due = time.monotonic() + SAY_AFTER
            self._news.notify()

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Within, the user is asked something."""
        with self._news:
            self._paused = True
        try:
            yield
        finally:
            with self._news:
                self._paused = False
                self._due = time.monotonic() + SAY_AFTER
                self._news.notify()

    def _watch(self) -> None:
        with self._news:
            while not self._over:
                left = self._due - time.monotonic()
                if self._paused or not self._step:
                    self._news.wait()
                elif left > 0:
                    self._news.wait(left)
                else:
                    self._say(f"{self._step} ...")
                    self._step, self._said = "", True
