"""Questions about code that is being typed: completion, inspection, completeness. Somebody waits
for the answer at a prompt, so a kernel that cannot answer now is left alone. On the reactor's
thread.

While it is busy a spare subshell answers, if it has any. A kernel is asked one question at a time:
a busy one shall not find fifty of them in its queue, and jedi answers nothing, without a word, to
two threads at once. The newest one asked meanwhile is next; nobody waits for the others any more.
An answer that comes too late is kept a while for whoever presses Tab again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..errors import ProtocolError
from ..protocol.message import Message
from ..wire.reactor import Reactor
from .requests import Requests
from .subshells import Subshells

STUCK_AFTER = 2.0
"""Seconds without an answer, after which a shell is not worth waiting for until it has answered.
The first completion takes ipykernel up to 1 s, because it loads jedi."""

BUSY_AFTER = 0.5
"""Seconds without an answer, after which a kernel that may be busy is taken to be."""

ABANDONED_AFTER = 10.0
"""Seconds without an answer of the spare subshell, after which an idle kernel's main shell is asked
all the same."""

KEPT_FOR = 10.0
"""Seconds for which a late answer is kept, unless a cell runs meanwhile."""

Answer = Future[Message | None]
"""The reply; None when there will be none."""


@dataclass(slots=True)
class _Question:
    msg_type: str
    content: dict[str, Any]
    answers: list[Answer]

    def same(self, other: _Question) -> bool:
        """Whether both would have the same answer."""
        return (self.msg_type, self.content) == (other.msg_type, other.content)

    @property
    def awaited(self) -> bool:
        """Somebody still waits for its answer."""
        return not all(answer.cancelled() for answer in self.answers)

    def give(self, reply: Message | None) -> bool:
        """Answer it; return whether anybody still waited."""
        waiting = [each for each in self.answers if each.set_running_or_notify_cancel()]
        for answer in waiting:
            answer.set_result(reply)
        return bool(waiting)


class _Shell:
    """One that answers; ``subshell`` is its id, None for the kernel's main shell."""

    def __init__(self) -> None:
        self.subshell: str | None = None
        self.asked: float | None = None  # when; None when it owes no answer
        self.current: _Question | None = None
        self.next: _Question | None = None

    def owes_for(self, now: float) -> float:
        """Seconds; 0 when it owes no answer."""
        return 0.0 if self.asked is None else now - self.asked


class Questions:
    """The questions of one kernel. ``busy`` says whether its main shell runs a cell, None if that
    is not known."""

    def __init__(
        self,
        reactor: Reactor,
        requests: Requests,
        subshells: Subshells,
        busy: Callable[[], bool | None],
    ) -> None:
        self._reactor = reactor
        self._requests = requests
        self._subshells = subshells
        self._busy = busy
        self._main = _Shell()
        self._spare = _Shell()
        self._late: tuple[_Question, Message, float] | None = None

    def ask(self, msg_type: str, content: dict[str, Any], answer: Answer) -> None:
        """Have the question answered by whoever can do so now."""
        question = _Question(msg_type, content, [answer])
        now = self._reactor.now
        if self._late is not None:
            asked, reply, came = self._late
            self._late = None
            if question.same(asked) and now - came < KEPT_FOR:
                question.give(reply)
                return
        shell = self._spare if self._is_for_spare(now) else self._main
        if shell.asked is None:
            self._send(shell, question)
        elif shell.owes_for(now) > STUCK_AFTER:
            question.give(None)
        elif shell.current is not None and question.same(shell.current):
            shell.current.answers.append(answer)
        else:
            if shell.next is not None:
                shell.next.give(None)
            shell.next = question

    def _is_for_spare(self, now: float) -> bool:
        spare = self._spare
        if spare.asked is not None and spare.owes_for(now) < ABANDONED_AFTER:
            return True
        busy = self._busy()
        if busy is None:  # it has just been attached
            busy = self._main.owes_for(now) > BUSY_AFTER
        # Without one the main shell is asked: some answer in the middle of a cell (tslab, while it
        # awaits).
        return busy and (spare.subshell is not None or self._subshells.promising)

    def outdated(self) -> None:
        """A cell runs, after which other names may be there."""
        self._late = None

    def lost_touch(self, *, same: bool) -> None:
        """The connection closed; ``same`` is False once another process has taken its place."""
        self._late = None
        for shell in (self._main, self._spare):
            self._give_up(shell)
        if not same:
            self._spare.subshell = None

    def release(self) -> None:
        """No more questions: the spare subshell is nobody's, unless it is stuck in one."""
        if self._spare.subshell is not None and self._spare.asked is None:
            self._subshells.give_back(self._spare.subshell)
        self._spare = _Shell()

    def _send(self, shell: _Shell, question: _Question) -> None:
        shell.asked = self._reactor.now
        if shell is self._spare and shell.subshell is None:
            shell.next = question
            self._subshells.take(partial(self._taken, shell), lambda _: self._give_up(shell))
            return
        shell.current = question
        self._requests.ask(
            "shell",
            question.msg_type,
            partial(self._replied, shell, question),
            question.content,
            subshell=shell.subshell,
            failed=lambda _: self._failed(question),
        )

    def _taken(self, shell: _Shell, subshell: str) -> None:
        if shell is not self._spare:  # released meanwhile
            self._subshells.give_back(subshell)
            return
        shell.subshell = subshell
        self._ask_next(shell)

    def _replied(self, shell: _Shell, question: _Question, reply: Message) -> None:
        if shell.subshell is not None and _is_unknown(reply):
            shell.subshell = None  # somebody has deleted it
        if not question.give(reply):
            self._late = (question, reply, self._reactor.now)
        self._ask_next(shell)

    def _ask_next(self, shell: _Shell) -> None:
        shell.asked = shell.current = None
        question, shell.next = shell.next, None
        if question is not None and question.awaited:
            self._send(shell, question)

    @staticmethod
    def _failed(question: _Question) -> None:
        question.give(None)

    def _give_up(self, shell: _Shell) -> None:
        shell.asked = shell.current = None
        question, shell.next = shell.next, None
        if question is not None:
            question.give(None)


def _is_unknown(reply: Message) -> bool:
    try:
        return reply.content.get("ename") == "UnknownSubshellError"
    except ProtocolError:
        return False
