"""Comms with one kernel: messages by comm id, whatever their parent is.

What belongs to a comm of ours never reaches a cell. All others are a front end's: what a cell, or
a message that was passed on, has led to goes with its outputs; a :class:`Router` takes the rest. On
the reactor's thread, but for what :class:`Comm` offers."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ..errors import KernelMagicsError, ProtocolError
from ..protocol.message import Message, Part, Session

TYPES = frozenset({"comm_open", "comm_msg", "comm_close"})


class Listener:
    """Who is told what the kernel says on one comm; called on the reactor's thread, must not block.

    ``received`` gets every ``comm_msg`` and ``comm_close``. ``failed`` is told when the connection
    has closed: what was said and not heard yet is lost.
    """

    __slots__ = ("failed", "received")

    def __init__(
        self,
        received: Callable[[Message], None],
        failed: Callable[[KernelMagicsError], None],
    ) -> None:
        self.received = received
        self.failed = failed


class Router(Protocol):
    """Passes on what the kernel says on comms of its cells. Must never block and never raise."""

    def stray(self, message: Message) -> None:
        """A comm message that nothing asked for from here: of a thread, or of another client's
        cell."""

    def ended(self) -> None:
        """The other ends are gone, with their process or because we let go of it."""


class Comm:
    """One comm; its methods may be called from any thread."""

    def __init__(self, comm_id: str, session: Session, send: Callable[[Message], None]) -> None:
        self.id = comm_id
        self._session = session
        self._send = send

    @staticmethod
    def new_id() -> str:
        """Return an id that no other comm has."""
        return uuid.uuid4().hex

    def open(self, target: str, data: Mapping[str, Any] | None = None) -> None:
        """Have the kernel open its end of it."""
        self._say("comm_open", {"target_name": target, "data": data or {}})

    def send(self, data: Mapping[str, Any], buffers: Sequence[Part] = ()) -> None:
        """Send one message; large buffers are not copied, so they must not change meanwhile."""
        self._say("comm_msg", {"data": data}, buffers)

    def close(self) -> None:
        """Have the kernel close its end."""
        self._say("comm_close", {"data": {}})

    def _say(self, msg_type: str, content: dict[str, Any], buffers: Sequence[Part] = ()) -> None:
        content = {"comm_id": self.id, **content}
        self._send(self._session.message(msg_type, content, buffers=buffers))


class Comms:
    """The comms of ours with one kernel."""

    def __init__(self) -> None:
        self.router: Router | None = None
        """Who passes on comms that are not ours; None when no front end has asked for them."""
        self._listeners: dict[str, Listener] = {}

    def add(self, comm_id: str, listener: Listener) -> None:
        """Listen to one more."""
        self._listeners[comm_id] = listener

    def forget(self, comm_id: str) -> None:
        """Listen no longer; a second time this does nothing."""
        self._listeners.pop(comm_id, None)

    def received(self, message: Message) -> bool:
        """Take one of these if it belongs to a comm of ours; return whether it does."""
        try:
            comm_id = message.content.get("comm_id")
        except ProtocolError:
            return False
        listener = self._listeners.get(comm_id) if isinstance(comm_id, str) else None
        if listener is None:
            return False
        listener.received(message)
        return True

    def stray(self, message: Message) -> None:
        """Pass on a comm message that nobody here has asked for."""
        if self.router is not None and message.type in TYPES:
            self.router.stray(message)

    def ended(self) -> None:
        """The kernel's ends are gone, of all comms."""
        if self.router is not None:
            self.router.ended()

    def fail(self, error: KernelMagicsError) -> None:
        """Nothing more comes for any of ours."""
        listeners, self._listeners = self._listeners, {}
        for listener in listeners.values():
            listener.failed(error)
