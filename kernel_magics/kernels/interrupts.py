"""Interrupting a kernel, so that the interrupt hits the cell it is meant for.

An idle kernel ignores an interrupt, a lost connection swallows it, and ipykernel wakes a long
``await`` only for the next message. On the reactor's thread."""

from __future__ import annotations

from datetime import UTC, datetime

from ..connect.launch import Owned
from ..protocol.message import Message
from .cells import Cells
from .execution import Execution
from .requests import Requests


class Interrupts:
    """The interrupts of one kernel; ``owned`` is its process, if it is ours."""

    def __init__(self, owned: Owned | None, requests: Requests, cells: Cells) -> None:
        self._owned = owned
        self._requests = requests
        self._cells = cells
        self._pending = False  # no word yet that it was done
        self._done_at = ""  # when it was done last, by the kernel's own clock

    def interrupt(self) -> None:
        """Interrupt whatever runs there."""
        self._pending = True
        self._done_at = ""
        if self._owned is not None and self._owned.interrupt():
            self._done(datetime.now(UTC).isoformat())
        else:
            self._requests.ask("control", "interrupt_request", self._replied)

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

    def _done(self, date: str) -> None:
        self._requests.ask("shell", "kernel_info_request")  # wakes a long `await`
        self._pending = False
        self._done_at = date
        for execution in self._cells:
            self.begun(execution)
