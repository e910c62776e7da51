"""The cells of one kernel: waiting for their turn or the proof, sent, over.

On the reactor's thread."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator

from ..errors import KernelMagicsError
from .execution import Execution

REMEMBERED = 64
"""Finished cells whose late output (of threads they started) still finds its way to them."""


class Cells:
    """In order of submission; each leaves :attr:`queue` and :attr:`waiting` when it is sent or
    fails."""

    def __init__(self) -> None:
        self.queue: list[Execution] = []
        """Not sent: cells of ours come first, and this one was to wait for its turn."""
        self.waiting: list[Execution] = []
        """Not sent: the kernel is not proved now."""
        self.running: Execution | None = None
        """The first of those that were sent and are not over; None when the kernel owes us none.
        Cells in subshells run beside it and do not count."""
        self.newest: Execution | None = None
        """The one that was sent last, of those that have a place for late output."""
        self._unfinished: dict[str, Execution] = {}
        self._late: OrderedDict[str, Execution] = OrderedDict()

    def __iter__(self) -> Iterator[Execution]:
        """Those that are not over."""
        return iter(list(self._unfinished.values()))

    def __bool__(self) -> bool:
        return bool(self._unfinished)

    @property
    def sent(self) -> list[Execution]:
        """Those that may be running there."""
        return [each for each in self._unfinished.values() if each.sent]

    def add(self, execution: Execution) -> None:
        """A new one."""
        self._unfinished[execution.request.msg_id] = execution

    def find(self, msg_id: str) -> Execution | None:
        """Return the cell of that request, also for a while after its end, and after its last
        word."""
        execution = self._unfinished.get(msg_id)
        if execution is None and (execution := self._late.get(msg_id)) is not None:
            self._late.move_to_end(msg_id)
        return execution

    @property
    def in_line(self) -> list[Execution]:
        """Those that others wait behind, or that wait: not the cells in subshells, and not those
        that their users gave up."""
        return [each for each in self._unfinished.values() if not (each.beside or each.given_up)]

    def place(self, execution: Execution) -> int:
        """Return how many come before that one, which waits for its turn."""
        return len(self.in_line) - len(self.queue) + self.queue.index(execution)

    def next_in_turn(self) -> Execution | None:
        """Take the first of the queue out of it, if everything before it is over."""
        if self.queue and len(self.queue) == len(self.in_line):
            return self.queue.pop(0)
        return None

    def leave(self, execution: Execution) -> None:
        """It is about to be sent."""
        execution.left()
        if execution.shows_late:
            self.newest = execution
        if not execution.beside:
            self.running = self.running or execution

    def over(self, execution: Execution) -> None:
        """It is over; a second time this does nothing."""
        msg_id = execution.request.msg_id
        if self._unfinished.pop(msg_id, None) is None:
            return
        if self.running is execution:
            self.running = None
            if self._unfinished:
                self.running = next((each for each in self.sent if not each.beside), None)
        self._late[msg_id] = execution
        if len(self._late) > REMEMBERED:
            self._late.popitem(last=False)

    def fail(self, execution: Execution, error: KernelMagicsError) -> None:
        """End one with an error."""
        for line in (self.queue, self.waiting):
            if execution in line:
                line.remove(execution)
        execution.fail(error)
        self.over(execution)

    def fail_all(self, error: Callable[[bool], KernelMagicsError]) -> None:
        """End all; ``error`` is given whether the code may have run."""
        for execution in self:
            self.fail(execution, error(execution.sent))
