"""What events, answers and silence say about a kernel.

Pure rules, time passed in. They encode one conviction: silence proves nothing about a kernel, a
closed connection nearly everything. A kernel that answers from its main thread is mute while it
computes; but a socket whose peer is gone says so within milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

LOST_GRACE = 2.0
"""Seconds after a lost connection in which the same kernel, or its successor, may answer again."""


PING_AFTER = 2.0
"""Seconds without a word from a kernel that runs our cell before it is asked for a sign of life."""

SILENT_AFTER = 5.0
"""Seconds of silence before the user is told, and told again at twice the time, and so on."""

STOPPED_AFTER = 10.0
"""Seconds for which a process of ours has to be stopped, while it is silent, before it counts as
unresponsive: a debugger, or a machine that swaps, stops one for some seconds as well."""


class Silence:
    """How long a kernel that owes us an answer has said nothing.

    Silence alone is never an end: a kernel that answers from its main thread is mute while it
    computes. It only counts from when the kernel began to owe something, see :meth:`expect`.
    ``busy`` says whether it is in the middle of a cell of ours.
    """

    def __init__(self, busy: Callable[[], bool]) -> None:
        self._busy = busy
        self.answers_while_busy = False
        """It has given a sign of life in the middle of a cell, so its silence would be strange."""
        self._since = 0.0
        self.asked = False
        """It has been silent for long enough to be asked for a sign of life, and gave none yet."""
        self._next_notice = SILENT_AFTER

    def expect(self, now: float) -> None:
        """It owes us something from now on; call this only when it owed nothing before."""
        self._since = now
        self._heard()

    def heard(self, now: float) -> None:
        """It gave a sign of life."""
        self._since = now
        if self.asked or self._next_notice > SILENT_AFTER:  # it had been silent
            self.answers_while_busy = self.answers_while_busy or (self.asked and self._busy())
            self._heard()

    def lasts(self, now: float) -> float:
        """Return the seconds since it was heard last."""
        return now - self._since

    def ping_is_due(self, now: float) -> bool:
        """Whether to ask for a sign of life; True once per silence."""
        due = not self.asked and self.lasts(now) >= PING_AFTER
        self.asked = self.asked or due
        return due

    def notice_is_due(self, now: float) -> bool:
        """Whether to tell the user; True at 5, 10, 20, ... seconds."""
        due = self.lasts(now) >= self._next_notice
        if due:
            self._next_notice *= 2
        return due

    def is_strange(self, now: float) -> bool:
        """It is silent, and it is known to answer also while it computes."""
        return self.answers_while_busy and self.asked and self.lasts(now) >= SILENT_AFTER

    def _heard(self) -> None:
        self.asked = False
        self._next_notice = SILENT_AFTER


class Verdict(Enum):
    """What became of the kernel behind a lost connection."""

    RESUMED = "answers again"
    RESTARTED = "was restarted"
    DIED = "died"


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict and the sentence that explains it."""

    verdict: Verdict
    reason: str


class Health:
    """The fate of one kernel across its connections.

    ``session`` is the kernel's own session id at the last proof; None when it cannot be told.
    """

    def __init__(self, grace: float = LOST_GRACE) -> None:
        self.session: str | None = None
        self._grace = grace
        self._lost_at: float | None = None

    @property
    def waiting(self) -> bool:
        """A connection was lost, and what that means is not known yet."""
        return self._lost_at is not None

    def forgive(self) -> None:
        """Forget a loss: the owner opens the connection again by its own decision."""
        self._lost_at = None

    def lost(self, now: float) -> None:
        """The connection closed. Repeated losses, while somebody re-opens it, count from the
        first."""
        if self._lost_at is None:
            self._lost_at = now

    def postpone(self, now: float) -> None:
        """Nothing could be heard until now, so that the grace begins now."""
        if self._lost_at is not None:
            self._lost_at = now

    def exited(self, status: int) -> Finding:
        """A process of ours ended with this status, as `subprocess.Popen.returncode` gives it."""
        self._lost_at = None
        return Finding(Verdict.DIED, f"died: its process {describe_exit(status)}")

    def replaced(self) -> Finding:
        """Somebody answers on the kernel's ports who is not it."""
        self._lost_at = None
        return Finding(Verdict.DIED, "died: something else answers in its place now")

    def proved(self, session: str | None) -> Finding | None:
        """A new connection proved the key; ``session`` is who answered.

        Returns None when there is nothing to tell: it is the first connection of all, or the owner
        had opened it anew by itself and found the same kernel.
        """
        before, self.session = self.session, session
        was_lost, self._lost_at = self._lost_at is not None, None
        if session is not None and session == before:
            return Finding(Verdict.RESUMED, "answers again") if was_lost else None
        if before is None and not was_lost:
            return None
        return Finding(Verdict.RESTARTED, "was restarted: another process answers in its place")

    def check(self, now: float) -> Finding | None:
        """Return DIED once the grace after a loss has passed, None before."""
        if self._lost_at is None or now - self._lost_at < self._grace:
            return None
        self._lost_at = None
        return Finding(
            Verdict.DIED,
            f"died: its connection closed and nothing answered there for {self._grace:g} s",
        )


def describe_exit(status: int) -> str:
    """Say a process's return code in words: signals by name, where this platform knows them."""
    if status >= 0:
        return f"ended with exit code {status}"
    # Imported here: `signal` is the only thing this layer wants from the operating system.
    import signal

    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
