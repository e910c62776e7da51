"""Comms with one kernel that this side holds: messages by comm id, whatever their parent is.

What belongs to a comm of ours never reaches a cell. On the reactor's thread, but for what
:class:`Comm` offers."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import KernelMagicsError, ProtocolError
from ..protocol.message import Message, Part, Session

TYPES = frozenset({"comm_open", "comm_msg", "comm_close"})


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told what the kernel says on one comm; called on the reactor's thread, must not
    block."""

    received: Callable[[Message], None]
    """With every ``comm_msg`` and ``comm_close``."""
    failed: Callable[[KernelMagicsError], None]
    """The connection closed: what was said and not heard yet is lost."""


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
        self._listeners: dict[str, Listener] = {}

    def add(self, comm_id: str, listener: Listener) -> None:
        """Listen to one more."""
        self._listeners[comm_id] = listener

    def forget(self, comm_id: str) -> None:
        """Listen no longer; a second time this does nothing."""
        self._listeners.pop(comm_id, None)

    def received(self, message: Message) -> bool:
        """Take a message if it belongs to a comm of ours; return whether it does."""
        if not self._listeners or message.type not in TYPES:
            return False
        try:
            comm_id = message.content.get("comm_id")
        except ProtocolError:
            return False
        listener = self._listeners.get(comm_id) if isinstance(comm_id, str) else None
        if listener is None:
            return False
        listener.received(message)
        return True

    def fail(self, error: KernelMagicsError) -> None:
        """Nothing more comes for any of them."""
        listeners, self._listeners = self._listeners, {}
        for listener in listeners.values():
            listener.failed(error)
