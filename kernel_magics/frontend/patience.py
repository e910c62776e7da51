"""A word for whoever waits for longer than two seconds."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

from .terminal import one_line

if TYPE_CHECKING:
    from ..kernels.execution import Ask

AFTER = 2.0
"""Seconds."""


class Patience:
    """A ``with`` block that says one line if it takes long. Time in which a question of :attr:`ask`
    waits for its answer does not count."""

    def __init__(self, what: str, ask: Ask | None = None) -> None:
        self.ask = None if ask is None else self._asking
        """The given one; None if that was."""
        self._what = one_line(what)
        self._ask = ask
        self._said = False
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def _begin(self) -> None:
        if not self._said:
            self._timer = threading.Timer(AFTER, self._say)
            self._timer.daemon = True
            self._timer.start()

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()  # what it says belongs to this cell

    def _say(self) -> None:
        self._said = True
        print(f"{self._what}; Ctrl-C gives up and leaves nothing", flush=True)

    def _asking(self, prompt: str, secret: bool) -> str:
        assert self._ask is not None
        self._end()
        answer = self._ask(prompt, secret)
        self._begin()
        return answer
