"""One execute request, from the moment it is sent to the moment it is over.

Owns the rules of the messaging specification ("Execute", "Request-Reply") that say what a message
means for the cell: which are outputs, which are prompts, when it is over and how it ended. It never
waits; time is passed in, as seconds of any steadily growing clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from ..errors import ProtocolError
from .message import Message

NOT_OUTPUT = frozenset(
    {"status", "execute_input", "iopub_welcome", "shutdown_reply", "debug_event"}
)
"""What a kernel publishes that no cell shows. A relayed ``status`` would even end the local
cell."""

IDLE_GRACE = 5.0
"""Seconds without iopub traffic after which a missing ``idle`` is asked about."""

REPLY_GRACE = 1.0
"""Seconds after ``idle`` before a missing reply is asked about; on one host it comes within 3
ms."""

FENCE_TIMEOUT = 2.0
"""Seconds for the answer to the question after ``idle``; kernels without `iopub_welcome` give
none."""

ERROR_HOLD = 1.0
"""Seconds an ``error`` message is held back to see whether it is the cell's own verdict."""


@dataclass(frozen=True, slots=True)
class Output:
    """Something to show, in the order in which the kernel published it."""

    message: Message


@dataclass(frozen=True, slots=True)
class Prompt:
    """The kernel waits for a line of input."""

    text: str
    password: bool


class Check(Enum):
    """A question that only the connection can settle."""

    FENCE = auto()
    """Has everything published so far arrived? Answer with :meth:`Execution.fence_passed`."""
    OVERTAKE = auto()
    """Are later shell requests answered? Answer with :meth:`Execution.overtaken`."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The request is over.

    ``status`` is ``"ok"``, ``"error"``, ``"aborted"`` or ``"lost"`` (idle, but never a reply).
    ``reply`` is the reply's content. ``complete`` is False when idle was never seen, so that output
    may be missing. ``shown`` is True when the error that ended it was among the outputs already.
    """

    status: str
    reply: dict[str, Any]
    complete: bool = True
    shown: bool = False


Event = Output | Prompt | Check | Finished


class Execution:
    """One execute request.

    Over means BOTH have been seen: the reply on shell and ``idle`` on iopub. They travel on
    different sockets, so either may arrive first.

    An ``error`` message is either the verdict, which the caller raises, or something that the code
    chose to show (`%tb`, `%run` of a failing script) and that belongs among the outputs. Only the
    reply tells, so an error and what follows it are held back until then, for ``ERROR_HOLD`` at
    most."""

    def __init__(self, msg_id: str, now: float) -> None:
        self.msg_id = msg_id
        self.done = False
        self._reply: dict[str, Any] | None = None
        self._status = ""
        self._idle = False
        self._heard = now
        self._asked: float | None = None
        self._held: list[Message] = []
        self._held_since = now
        self._last_error: Message | None = None

    def receive(self, message: Message, now: float) -> list[Event]:
        """Take one message whose parent is this request; return what it means.

        Raises:
            ProtocolError: the message belongs to another request, or its content is not what its
                type demands.
        """
        if message.parent_id != self.msg_id:
            raise ProtocolError(f"{message.type} belongs to {message.parent_id}, not {self.msg_id}")
        self._heard = now
        match message.type:
            case "execute_reply":
                if self._reply is not None:
                    return []  # the first one counted
                self._reply = message.content
                self._status = _status(self._reply)
                released = self._release() if self._status == "ok" else []
                return released + self._finish_if_over()
            case "status":
                self._idle = self._idle or message.content.get("execution_state") == "idle"
                return self._finish_if_over()
            case "input_request":
                content = message.content
                return [Prompt(str(content.get("prompt", "")), bool(content.get("password")))]
            case kind if kind in NOT_OUTPUT:
                return []
        return self._output(message, now)

    def tick(self, now: float) -> list[Event]:
        """Return what the passing of time means: held outputs, or a question to settle."""
        events: list[Event] = []
        if self._held and not self._verdict_is_near() and now - self._held_since >= ERROR_HOLD:
            events += self._release()
        if self.done or not (self._idle or self._reply is not None):
            return events
        if self._asked is None:
            if self._reply is not None and now - self._heard >= IDLE_GRACE:
                self._asked = now
                events.append(Check.FENCE)
            elif self._idle and now - self._heard >= REPLY_GRACE:
                self._asked = now
                events.append(Check.OVERTAKE)
        elif self._reply is not None and now - self._asked >= FENCE_TIMEOUT:
            events += self.fence_passed()
        return events

    def fence_passed(self) -> list[Event]:
        """Everything published before the question has arrived, and idle was not among it."""
        return [] if self.done or self._reply is None else self._finish(complete=False)

    def overtaken(self) -> list[Event]:
        """A later shell request was answered, so this one's reply will never come."""
        if self.done or not self._idle or self._reply is not None:
            return []
        self._status = "lost"
        return self._finish(complete=True)

    def close(self) -> list[Output]:
        """End it from outside: return the outputs that were still held back."""
        self.done = True
        return self._release()

    def _output(self, message: Message, now: float) -> list[Event]:
        # Also after the end: a thread that the cell started may still print.
        if self._held or (message.type == "error" and not self.done and self._status != "ok"):
            if not self._held:
                self._held_since = now
            self._held.append(message)
            return []
        return [Output(message)]

    def _verdict_is_near(self) -> bool:
        return self._reply is not None

    def _release(self) -> list[Output]:
        held, self._held = self._held, []
        self._last_error = next(
            (each for each in reversed(held) if each.type == "error"), self._last_error
        )
        return [Output(each) for each in held]

    def _finish_if_over(self) -> list[Event]:
        if self.done or not self._idle or self._reply is None:
            return []
        return self._finish(complete=True)

    def _finish(self, *, complete: bool) -> list[Event]:
        self.done = True
        reply = dict(self._reply or {})
        shown = False
        if self._status == "error":
            verdict = self._take_verdict()
            if verdict is None:
                verdict = self._last_error
                shown = verdict is not None and _same_error(verdict.content, reply)
            if verdict is not None:
                # tslab replies without ename, xeus-python sends a shorter traceback in the reply.
                for field in ("ename", "evalue", "traceback"):
                    reply[field] = reply.get(field) or verdict.content.get(field)
        return [*self._release(), Finished(self._status, reply, complete, shown)]

    def _take_verdict(self) -> Message | None:
        """Remove the last held error, which the reply has just turned into the verdict."""
        for index in range(len(self._held) - 1, -1, -1):
            if self._held[index].type == "error":
                return self._held.pop(index)
        return None


def _status(reply: dict[str, Any]) -> str:
    """Return the reply's status; IRkernel and bash_kernel spell ``aborted`` as ``abort``.

    Raises:
        ProtocolError: a status that the specification does not know.
    """
    status = reply.get("status", "ok")
    if status in ("abort", "aborted"):
        return "aborted"
    if status in ("ok", "error"):
        return str(status)
    raise ProtocolError(f"execute_reply with status {status!r}")


def _same_error(content: dict[str, Any], reply: dict[str, Any]) -> bool:
    return all(content.get(field) == reply.get(field) for field in ("ename", "evalue"))
