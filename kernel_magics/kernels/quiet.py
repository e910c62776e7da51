"""Waiting for the rest of what a kernel publishes, where it says too early that a cell is over.

On the reactor's thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..wire.reactor import Reactor
from .execution import Execution

QUIET = {"Deno kernel": 0.1}
"""Seconds without output, by implementation, behind the idle of kernels that say it too early: of
100 lines that a cell of Deno 2.9 printed the last came 10 to 90 ms after that, with pauses of up to
40 ms."""


class Quiet:
    """The cells of one kernel that are over, but for what may still be on its way.

    ``over`` is called with each of them when it ends here.
    """

    def __init__(self, reactor: Reactor, over: Callable[[Execution], None]) -> None:
        self._reactor = reactor
        self._over = over
        self._cells: list[Execution] = []
        self.seconds = 0.0
        """Of silence, before a cell of this kernel is over; of most, none."""

    def meet(self, implementation: str) -> None:
        """It answers, and calls itself so."""
        self.seconds = QUIET.get(implementation, 0.0)

    def heard(self, execution: Execution) -> None:
        """It has been told something: look whether that was the end, now and when it may be."""
        if execution.ends_at is not None and execution not in self._cells:
            self._cells.append(execution)
            self._look(execution)

    def forget(self, execution: Execution) -> None:
        """It is over, however that came; one that was not waited for is fine."""
        if execution in self._cells:
            self._cells.remove(execution)

    def lost_touch(self) -> None:
        """Nothing more can come."""
        for execution in list(self._cells):
            execution.wait_for_quiet(0.0)
            self._look(execution)

    def _look(self, execution: Execution) -> None:
        if execution not in self._cells:
            return
        ended_otherwise = execution.done
        execution.tick(self._reactor.now)
        if ended_otherwise:
            self._cells.remove(execution)
        elif execution.done:
            self._over(execution)
        elif (ends_at := execution.ends_at) is not None:
            delay = max(0.0, ends_at - self._reactor.now)
            self._reactor.call_later(delay, partial(self._look, execution))
