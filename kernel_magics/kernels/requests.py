"""Everything asked of a kernel but cells: a request, and what to do with its reply.

A reply is found by the id of its parent header, never by order. On the reactor's thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import KernelMagicsError
from ..protocol.message import Message, Session
from .link import Link, LinkState

AskedOn = Literal["shell", "control"]


def _ignore(_: object) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class _Request:
    then: Callable[[Message], None]
    failed: Callable[[KernelMagicsError], None]


class Requests:
    """The open requests of one kernel."""

    def __init__(self, session: Session, link: Link) -> None:
        self._session = session
        self._link = link
        self._open: dict[str, _Request] = {}

    def ask(
        self,
        channel: AskedOn,
        msg_type: str,
        then: Callable[[Message], None] = _ignore,
        content: dict[str, Any] | None = None,
        *,
        subshell: str | None = None,
        failed: Callable[[KernelMagicsError], None] = _ignore,
    ) -> None:
        """Ask, if the kernel is in reach, and have ``then`` called with the reply.

        ``subshell`` is who shall answer what is asked on shell, None the one that runs the cells.
        """
        if self._link.state is LinkState.UP:
            request = self._session.message(msg_type, content or {})
            if subshell is not None:
                request = request.to_subshell(subshell)
            self.send(channel, request, then, failed)

    def send(
        self,
        channel: AskedOn,
        request: Message,
        then: Callable[[Message], None],
        failed: Callable[[KernelMagicsError], None] = _ignore,
    ) -> None:
        """Send over a proved connection; ``failed`` is called instead of ``then`` when there can be
        no reply any more."""
        self._open[request.msg_id] = _Request(then, failed)
        self._link.send(channel, request)

    def replied(self, message: Message) -> None:
        """Take what came on shell or control; who asked for it is told once."""
        if (request := self._open.pop(message.parent_id, None)) is not None:
            request.then(message)

    def forget(self, msg_id: str) -> None:
        """Nobody waits for this reply any more."""
        self._open.pop(msg_id, None)

    def fail(self, error: KernelMagicsError) -> None:
        """There will be no reply to any of them."""
        requests, self._open = self._open, {}
        for request in requests.values():
            request.failed(error)
