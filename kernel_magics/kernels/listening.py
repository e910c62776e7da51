"""Listening to a kernel that owes answers: what its silence means for the cells that wait.

The rules are `protocol.health`'s; here they meet the cells, the process and the tunnel. On the
reactor's thread."""

from __future__ import annotations

from collections.abc import Callable

from ..connect.launch import Owned
from ..errors import KernelUnresponsive
from ..protocol.health import SILENT_AFTER, STOPPED_AFTER, Silence
from .cells import Cells
from .execution import Execution
from .link import Way


class Listening:
    """One kernel's silence. ``ping`` asks it for a sign of life; ``owned`` is its process if it is
    ours, ``way`` what it is reached through."""

    def __init__(
        self,
        name: str,
        cells: Cells,
        ping: Callable[[], None],
        owned: Owned | None,
        way: Way | None,
    ) -> None:
        self._name = name
        self._cells = cells
        self._ping = ping
        self._owned = owned
        self._way = way
        self._silence = Silence(lambda: cells.running is not None)
        self._unproved = Silence(lambda: False)  # while cells wait for the proof
        self.heard = self._silence.heard
        """It gave a sign of life."""
        self._stopped_since: float | None = None
        self._way_told = False
        self._way_held = False  # the connection has not closed since that was told

    def expect(self, now: float) -> None:
        """A cell is about to be sent."""
        if self._cells.running is None:
            self._silence.expect(now)

    def expect_proof(self, now: float) -> None:
        """A cell is about to wait for the proof."""
        if not self._cells.waiting:
            self._unproved.expect(now)

    def lost(self) -> None:
        """The connection closed."""
        self._way_held = False

    def refusal(self, now: float) -> KernelUnresponsive | None:
        """Return why a new cell should not be sent: the kernel is silent, and usually is not."""
        if not self._silence.is_strange(now):
            return None
        return self._unresponsive(now, may_have_run=False)

    def look(self, now: float, *, connected: bool) -> None:
        """Ask, tell and give up, as time passes; called while there are cells."""
        way_leads = self._look_at_way(now, connected=connected)
        if self._cells.running is not None and connected and way_leads:
            self._listen(now)
        if self._cells.waiting and way_leads:
            self._wait_for_proof(now)

    def _look_at_way(self, now: float, *, connected: bool) -> bool:
        """Tell when the way ceases to lead anywhere, and when it does again; return whether it
        does."""
        way = self._way
        if way is None:
            return True
        if way.up:
            if self._way_told and self._way_held and connected:
                self._silence.expect(now)
                self._tell(self._cells.sent, "is in reach again; the connection held")
            self._way_told = False
            return True
        self._unproved.expect(now)  # nobody can answer now
        if not (self._way_told or way.hopeless):  # then more was told
            self._way_told, self._way_held = True, connected
            text = (
                f"is out of reach: {way.reason}. What this cell prints meanwhile comes later, or "
                "is missing if the connection breaks"
                if way.silent
                else f"is out of reach: the tunnel to it broke ({way.reason}). It is being opened "
                "again, and this cell goes on there"
            )
            self._tell(list(self._cells), text)
        return False

    def _listen(self, now: float) -> None:
        running = self._cells.sent
        if any(execution.asks for execution in running):
            self._silence.expect(now)  # it waits for the user
            return
        if self._silence.ping_is_due(now):
            self._ping()
        lasts = self._silence.lasts(now)
        stopped_for = self._stopped_for(now)
        stopped = stopped_for >= STOPPED_AFTER
        for execution in running:
            limit = execution.limits.unresponsive_after
            if stopped or (limit is not None and lasts >= limit):
                self._cells.fail(execution, self._unresponsive(now, stopped=stopped))
        if self._silence.notice_is_due(now) and stopped_for < SILENT_AFTER:  # else its end is near
            usual = not self._silence.answers_while_busy
            mute = ", as some kernels are while they compute" if usual else ""
            text = f"has been silent for {lasts:.0f} s{mute}; Ctrl-C interrupts it"
            self._tell(self._cells.sent, text)

    def _wait_for_proof(self, now: float) -> None:
        lasts = self._unproved.lasts(now)
        for execution in list(self._cells.waiting):
            limit = execution.limits.unresponsive_after
            if limit is not None and lasts >= limit:
                reason = f"has not answered for {lasts:.0f} s"
                error = KernelUnresponsive(self._name, reason, may_have_run=False)
                self._cells.fail(execution, error)
        if self._unproved.notice_is_due(now):
            self._tell(
                self._cells.waiting,
                f"has not answered for {lasts:.0f} s, as kernels do that run somebody else's "
                "cell (or whose key is not that of the connection file); this one has not been "
                "sent. Ctrl-C takes it back",
            )

    def _stopped_for(self, now: float) -> float:
        """Return for how many seconds a process of ours has been stopped, as far as we saw."""
        if self._owned is None or not self._silence.asked or not self._owned.is_stopped():
            self._stopped_since = None
            return 0.0
        self._stopped_since = self._stopped_since or now
        return now - self._stopped_since

    def _unresponsive(
        self, now: float, *, stopped: bool = False, may_have_run: bool = True
    ) -> KernelUnresponsive:
        reason = f"has been silent for {self._silence.lasts(now):.0f} s"
        if stopped and self._owned is not None:
            pid = self._owned.pid
            reason += f"; its process {pid} is stopped (kill -CONT {pid} wakes it)"
        return KernelUnresponsive(self._name, reason, may_have_run=may_have_run)

    @staticmethod
    def _tell(executions: list[Execution], text: str) -> None:
        for execution in executions:
            execution.notice(text)
