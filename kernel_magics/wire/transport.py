"""The small interface between kernels and whatever carries their messages.

A transport is one connection to one kernel, whatever it is made of: five ZeroMQ sockets, or one
websocket. It signs and verifies if its wire demands that; it does not know requests, cells or
proofs.

Every method is called on the reactor's thread, and so are the listener's. Nothing here blocks.
"""

from __future__ import annotations

from enum import Enum
from typing import Literal, Protocol

from ..errors import MessageRejected
from ..protocol.message import Message

Channel = Literal["shell", "control", "stdin", "iopub"]


class State(Enum):
    """A transport is used once: after ``LOST`` a new one is made."""

    NEW = "new"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    """On all channels is somebody who speaks the wire's protocol; whether it is the kernel is not
    proved."""
    LOST = "lost"
    CLOSED = "closed"


class Listener(Protocol):
    """Who is told what arrives."""

    def received(self, channel: Channel, message: Message) -> None:
        """A message that verified."""

    def rejected(self, channel: Channel, error: MessageRejected) -> None:
        """Bytes that are no message of this kernel."""

    def connected(self) -> None:
        """The state is ``CONNECTED`` now; messages may have been received before."""

    def closing(self) -> None:
        """A channel has closed. What the others still bring is delivered, then ``lost`` follows."""

    def pong(self) -> None:
        """The answer to a ping: somebody's process runs there. Proves nothing else."""

    def lost(self, reason: str) -> None:
        """The peer is gone; everything it had sent was delivered before. Called at most once."""


class Transport(Protocol):
    """One connection."""

    @property
    def state(self) -> State:
        """Where it is in its life."""

    @property
    def encrypted(self) -> bool:
        """Nobody else on the way, or on this machine, can read along."""

    def open(self, listener: Listener) -> None:
        """Begin to connect. Whether anybody is there shows later, by messages or by ``lost``."""

    def send(self, channel: Channel, message: Message) -> None:
        """Send a message, or drop it silently when the peer is gone: ``lost`` then follows."""

    def subscribe(self, topic: str) -> bool:
        """Ask for one more iopub topic, so that a kernel may welcome it (JEP 65).

        Returns False when this transport has no subscriptions of its own.
        """

    def ping(self) -> None:
        """Ask for a sign of life that costs the kernel nothing and that no other client sees."""

    def close(self) -> None:
        """Let go at once. May be called twice, and in any state."""
