"""Interrupting a kernel, so that the interrupt hits the cell it is meant for.

An idle kernel ignores an interrupt, a lost connection swallows it, ipykernel wakes a long ``await``
only for the next message, and some kernels know only signals, of which others die. On the reactor's
thread."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from ..connect.launch import Owned
from ..protocol.message import Message
from ..wire.reactor import Reactor
from .cells import Cells
from .execution import Execution
from .requests import Requests

SIGNAL_AFTER = 0.5
"""Seconds for the reply to an ``interrupt_request``, before a signal is tried: IRkernel does not
read it, tslab does not know it, and whoever does know it replies within milliseconds."""


class Interrupts:
    """The interrupts of one kernel.

    ``owned`` is its process, if it is ours. ``turn`` counts what has run there, and is None while
    nothing does. ``signal`` sends SIGINT to the process of somebody else's kernel, if it lives on
    this machine, survives that and still has this turn; it calls what it is given when it did.
    """

    def __init__(
        self,
        owned: Owned | None,
        reactor: Reactor,
        requests: Requests,
        cells: Cells,
        turn: Callable[[], int | None],
        signal: Callable[[int, Callable[[], None]], None],
    ) -> None:
        self._owned = owned
        self._reactor = reactor
        self._requests = requests
        self._cells = cells
        self._turn = turn
        self._signal = signal
        self.implementation = ""
        """The kernel's, as it calls itself."""
        self._pending = False  # no word yet that it was done
        self._done_at = ""  # when it was done last, by the kernel's own clock

    def interrupt(self) -> None:
        """Interrupt whatever runs there."""
        self._pending = True
        self._done_at = ""
        # What stands on xeus handles SIGINT, but by ending itself.
        dies_of_signals = self.implementation.startswith("xeus")
        if self._owned is not None and not dies_of_signals and self._owned.interrupt():
            self._signalled()
            return
        self._requests.ask("control", "interrupt_request", self._replied)
        # ipykernel replies in any case, at the latest when C code gives its interpreter back.
        if self._owned is not None or dies_of_signals or self.implementation == "ipython":
            return
        if (turn := self._turn()) is not None:
            self._reactor.call_later(SIGNAL_AFTER, partial(self._not_replied, turn))

    def begun(self, execution: Execution) -> None:
        """Repeat an interrupt that overtook its cell; told by the kernel's own clock: when it
        interrupted, and when it began to run the code."""
        if execution.interrupted_early and execution.begun and self._done_at:
            execution.interrupted_early = False
            if self._done_at < execution.begun:
                self.interrupt()

    def back_in_touch(self) -> None:
        """Repeat an interrupt that may have gone the way of a lost connection."""
        if self._pending and self._cells.running is not None:
            self.interrupt()

    def idle(self) -> None:
        """Nothing of ours runs there any more, so that a late repetition would hit another cell."""
        self._pending = False

    def _replied(self, reply: Message) -> None:
        self._done(reply.date)

    def _not_replied(self, turn: int) -> None:
        if self._pending and self._turn() == turn:
            self._signal(turn, self._signalled)

    def _signalled(self) -> None:
        self._done(datetime.now(UTC).isoformat())

    def _done(self, date: str) -> None:
        self._requests.ask("shell", "kernel_info_request")  # wakes a long `await`
        self._pending = False
        self._done_at = date
        for execution in self._cells:
            self.begun(execution)
