"""Questions about code that is being typed: completion, inspection, completeness. Somebody waits
for the answer at a prompt, so a kernel that cannot answer now is left alone. On the reactor's
thread.

While it is busy a spare subshell answers, if it has any. A kernel is asked one question at a time:
a busy one shall not find fifty of them in its queue, and jedi answers nothing, without a word, to
two threads at once. The newest one asked meanwhile is next; nobody waits for the others any
more."""

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

Answer = Future[Message | None]
"""The reply; None when there will be none."""


@dataclass(frozen=True, slots=True)
class _Question:
    msg_type: str
    content: dict[str, Any]
    answer: Answer

    def give(self, reply: Message | None) -> None:
        """Answer it, if anybody still waits."""
        if self.answer.set_running_or_notify_cancel():
            self.answer.set_result(reply)


class _Shell:
    """One that answers; ``subshell`` is its id, None for the kernel's main shell."""

    def __init__(self) -> None:
        self.subshell: str | None = None
        self.asked: float | None = None  # when; None when it owes no answer
        self.next: _Question | None = None

    def stuck(self, now: float) -> bool:
        return self.asked is not None and now - self.asked > STUCK_AFTER


class Questions:
    """The questions of one kernel. ``free`` says whether its main shell would answer at once."""

    def __init__(
        self,
        reactor: Reactor,
        requests: Requests,
        subshells: Subshells,
        free: Callable[[], bool],
    ) -> None:
        self._reactor = reactor
        self._requests = requests
        self._subshells = subshells
        self._free = free
        self._main = _Shell()
        self._spare = _Shell()

    def ask(self, msg_type: str, content: dict[str, Any], answer: Answer) -> None:
        """Have the question answered by whoever can do so now."""
        question = _Question(msg_type, content, answer)
        now = self._reactor.now
        spare_owes = self._spare.asked is not None and not self._spare.stuck(now)
        if self._free() and not spare_owes:
            shell = self._main
        elif self._spare.subshell or self._spare.asked is not None or self._subshells.promising:
            shell = self._spare
        else:
            shell = self._main  # some answer in the middle of a cell (tslab, while it awaits)
        if shell.asked is None:
            self._send(shell, question)
        elif shell.stuck(now):
            question.give(None)
        else:
            if shell.next is not None:
                shell.next.give(None)
            shell.next = question

    def lost_touch(self, *, same: bool) -> None:
        """The connection closed; ``same`` is False once another process has taken its place."""
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
        self._requests.ask(
            "shell",
            question.msg_type,
            partial(self._replied, shell, question),
            question.content,
            subshell=shell.subshell,
            failed=lambda _: question.give(None),
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
        question.give(reply)
        self._ask_next(shell)

    def _ask_next(self, shell: _Shell) -> None:
        shell.asked = None
        question, shell.next = shell.next, None
        if question is not None and not question.answer.cancelled():
            self._send(shell, question)

    def _give_up(self, shell: _Shell) -> None:
        shell.asked = None
        question, shell.next = shell.next, None
        if question is not None:
            question.give(None)


def _is_unknown(reply: Message) -> bool:
    try:
        return reply.content.get("ename") == "UnknownSubshellError"
    except ProtocolError:
        return False
