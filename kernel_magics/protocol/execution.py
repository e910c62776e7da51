"""One execute request, from the moment it is sent to the moment it is over.

Owns the rules of the messaging specification ("Execute", "Request-Reply") that say what a message
means for the cell: which are outputs, which are prompts, when it is over and how it ended. It never
waits; time is passed in, as seconds of any steadily growing clock.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Any, NamedTuple

from ..errors import ProtocolError
from .message import FULL_CHECK, Message
from .stream import is_on_stderr, text_of

LONGEST_NAME = 200
"""Characters of what can be the name of an error; a longer one is a lie."""

NOT_OUTPUT = frozenset(
    {"status", "execute_input", "iopub_welcome", "shutdown_reply", "debug_event", "interrupt"}
)
"""What a kernel publishes that no cell shows. A relayed ``status`` would even end the local
cell, and ``interrupt`` is what xeus-python says besides its reply."""


def belongs(channel: str, msg_type: str) -> bool:
    """Whether a message of this type may answer an execute request on this channel.

    A reply of another type is not this request's reply, whatever its parent says.
    """
    match channel:
        case "shell":
            return msg_type == "execute_reply"
        case "stdin":
            return msg_type == "input_request"
        case "iopub":
            return msg_type in NOT_OUTPUT or not msg_type.endswith(("_reply", "_request"))
    return False


def is_output(msg_type: str) -> bool:
    """Whether a message of this type, on iopub, is something to show."""
    return msg_type not in NOT_OUTPUT and belongs("iopub", msg_type)


IDLE_GRACE = 5.0
"""Seconds without iopub traffic after which a missing ``idle`` is asked about."""

REPLY_GRACE = 0.25
"""Seconds after ``idle`` before a missing reply is asked about; on one host it comes within 3
ms."""

FENCE_TIMEOUT = 2.0
"""Seconds for the answer to the question after ``idle``; kernels without `iopub_welcome` give
none."""


class Output(NamedTuple):
    """Something to show, in the order in which the kernel published it."""

    message: Message


class Prompt(NamedTuple):
    """The kernel waits for a line of input."""

    text: str
    password: bool


class Check(Enum):
    """A question that only the connection can settle."""

    FENCE = auto()
    """Has everything published so far arrived? Answer with :meth:`Execution.fence_passed`."""
    OVERTAKE = auto()
    """Are later shell requests answered? Answer with :meth:`Execution.overtaken`."""


class Finished(NamedTuple):
    """The request is over.

    ``status`` is ``"ok"``, ``"error"``, ``"aborted"`` or ``"lost"`` (idle, but never a reply that
    could be read; ``problem`` says what was wrong with one that could not). ``begun`` is True when
    the kernel was heard to run the code: then ``"aborted"`` means in the middle of it. ``reply`` is
    the reply's content. ``complete`` is False when idle was never seen, so that output may be
    missing. ``explained`` is True when the outputs say what failed: with an ``error`` message, with
    text on stderr, as IPython does for a mistyped magic and tslab for everything, or with a last
    output that names the error, as tracebacks do that rich or a handler of the user's own shows.
    """

    status: str
    reply: dict[str, Any]
    complete: bool = True
    explained: bool = False
    problem: ProtocolError | None = None
    begun: bool = False


Event = Output | Prompt | Check | Finished


class Execution:
    """One execute request.

    Over means BOTH have been seen: the reply on shell and ``idle`` on iopub. They travel on
    different sockets, so either may arrive first.

    An ``error`` message is an output like any other and keeps its place among them. It is not the
    verdict: `%run` of a failing script publishes one and succeeds, and a mistyped magic fails
    without one. The reply is the verdict.
    """

    __slots__ = (
        "_asked",
        "_begun",
        "_error",
        "_explained",
        "_heard",
        "_idle",
        "_last",
        "_missed_at",
        "_problem",
        "_reply",
        "_status",
        "done",
        "msg_id",
        "quiet",
    )

    def __init__(self, msg_id: str, now: float) -> None:
        self.msg_id = msg_id
        self._heard = now
        self.quiet = 0.0
        """Seconds without a word behind reply and idle before it is over: some kernels (Deno) say
        both before they have published all."""
        self.done = False
        self._reply: dict[str, Any] | None = None
        self._status = ""
        self._begun = False
        self._idle = False
        self._asked: float | None = None
        self._missed_at: float | None = None
        self._problem: ProtocolError | None = None
        self._error: Message | None = None
        self._explained = False
        self._last: Message | None = None  # output, until the end; None if that was a large one

    def receive(self, message: Message, now: float) -> list[Event]:
        """Take one message whose parent is this request; return what it means.

        Raises:
            ProtocolError: the message belongs to another request, or cannot be read. It changes
                nothing then.
        """
        if message.parent_id != self.msg_id:
            raise ProtocolError(f"{message.type} belongs to {message.parent_id}, not {self.msg_id}")
        self._heard = now
        match message.type:
            case "execute_reply":
                self._take_reply(message)
                return self._finish_if_over()
            case "status":
                self._idle = self._idle or message.content.get("execution_state") == "idle"
                return self._finish_if_over()
            case "input_request":
                content = message.content
                return [Prompt(str(content.get("prompt", "")), bool(content.get("password")))]
            case "execute_input":
                self._begun = True
                return []
            case kind if kind in NOT_OUTPUT:
                return []
        message.check()
        self._begun = True  # tslab never says so in words
        if not self.done:
            self._last = message if len(message.parts[3]) <= FULL_CHECK else None
        match message.type:
            case "error":
                self._error, self._explained = message, True
            case "stream" if not self._explained:
                self._explained = is_on_stderr(message)
        # Also after the end: a thread that the cell started may still print.
        return [Output(message)]

    def _take_reply(self, message: Message) -> None:
        if self._reply is not None:
            return  # the first one counted
        try:
            self._status, self._reply = _status(message.content), message.content
        except ProtocolError as error:
            # It is the reply, and there will be no other; outputs may still be under way.
            self._status, self._reply, self._problem = "lost", {}, error

    def tick(self, now: float) -> list[Event]:
        """Return what the passing of time means: a question to settle, or an end without idle."""
        if self.done:
            return []
        if self._missed_at is not None and now - max(self._missed_at, self._heard) >= FENCE_TIMEOUT:
            self._status = self._status or "lost"
            return [self._finish(complete=self._status == "lost")]
        if (ends_at := self.ends_at) is not None:
            return [self._finish(complete=True)] if now >= ends_at else []
        if not (self._idle or self._reply is not None):
            return []
        if self._asked is None:
            if self._reply is not None and now - self._heard >= IDLE_GRACE:
                self._asked = now
                return [Check.FENCE]
            if self._idle and now - self._heard >= REPLY_GRACE:
                self._asked = now
                return [Check.OVERTAKE]
        elif self._reply is not None and now - max(self._asked, self._heard) >= FENCE_TIMEOUT:
            return self.fence_passed()
        return []

    @property
    def ends_at(self) -> float | None:
        """When it will be over if nothing more is heard; None if that is not all it waits for."""
        if self.done or not self._idle or self._reply is None:
            return None
        return self._heard + self.quiet

    def fence_passed(self) -> list[Event]:
        """Everything published before the question has arrived, and idle was not among it."""
        if self.done or self._reply is None or self._idle:
            return []
        return [self._finish(complete=False)]

    def overtaken(self) -> list[Event]:
        """A later shell request was answered, so this one's reply will never come."""
        if self.done or not self._idle or self._reply is not None:
            return []
        self._status = "lost"
        return [self._finish(complete=True)]

    def missed(self, now: float) -> None:
        """A later shell request was answered after a cut: its end was said during the cut.

        Unless it is heard again: tslab answers other requests while a cell awaits.
        """
        self._missed_at = now

    def close(self) -> None:
        """End it from outside."""
        self.done = True

    def _finish_if_over(self) -> list[Event]:
        if self.ends_at is None or self.quiet:
            return []
        return [self._finish(complete=True)]

    def _finish(self, *, complete: bool) -> Finished:
        self.done = True
        reply = dict(self._reply or {})
        if self._status == "error" and self._error is not None:
            shown = self._error.content
            # tslab replies without a name; xeus-python's reply has fewer lines than its message.
            for field in ("ename", "evalue", "traceback"):
                reply[field] = reply.get(field) or shown.get(field)
        if self._status == "error" and not self._explained and self._last is not None:
            self._explained = _names(_plain_text(self._last), reply.get("ename"))
        self._last = None
        return Finished(self._status, reply, complete, self._explained, self._problem, self._begun)


def _plain_text(output: Message) -> str:
    """Return what an output says in plain text; empty if it says nothing so."""
    if (piece := text_of(output)) is not None:
        return piece[1]
    data = output.content.get("data")
    text = data.get("text/plain") if isinstance(data, dict) else None
    return text if isinstance(text, str) else ""


def _names(text: str, error: object) -> bool:
    """Whether a text has the name of an error as a whole word, coloured or not."""
    if not isinstance(error, str) or not 0 < len(error) <= LONGEST_NAME:
        return False
    whole_word = rf"(?:(?<!\w)|\x1b\[[\d;]*m){re.escape(error)}(?!\w)"
    return re.search(whole_word, text) is not None


def _status(reply: dict[str, Any]) -> str:
    """Return the reply's status; IRkernel, bash_kernel and tslab spell ``aborted`` as ``abort``.

    Raises:
        ProtocolError: a status that the specification does not know.
    """
    status = reply.get("status", "ok")
    if status in ("abort", "aborted"):
        return "aborted"
    if status in ("ok", "error"):
        return str(status)
    raise ProtocolError(f"execute_reply with status {status!r}")
