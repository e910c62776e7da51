"""A kernel's connection over time: opened, proved, lost, opened again.

Owns the order of things: nothing but the handshake goes over a connection before the kernel on the
other end has proved that it holds the key, and a lost connection is opened anew by us, on our
clock. Must not know requests or cells. Everything here runs on the reactor's thread."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from ..connect.info import ConnectionInfo
from ..errors import AuthenticationError, KernelMagicsError, KernelUnreachable, MessageRejected
from ..protocol.handshake import Handshake
from ..protocol.health import Finding, Health
from ..protocol.message import Message, Session
from ..wire.reactor import Reactor, Timer
from ..wire.transport import Channel, State, Transport

TICK = 0.01
"""Seconds between looks at an unfinished handshake."""

RETRY = 0.1
"""Seconds between attempts to reach a kernel that is starting, or that was lost."""

UNPROVED_AFTER = 2.0
"""Seconds of silence on an open connection after which a kernel counts as busy and mute, not
absent; or, behind a way that was healed, as one that still talks to the connection before."""


class LinkState(Enum):
    """How far the connection is."""

    DOWN = "down"
    CONNECTING = "connecting"
    UNPROVED = "unproved"
    """Connected to something that is silent: a busy kernel, most likely. Nothing is sent to it."""
    UP = "up"
    CLOSING = "closing"
    """Half closed: what comes is taken, and nothing more is sent."""


class Way(Protocol):
    """What lies between here and a far kernel, and heals by itself: a tunnel."""

    @property
    def up(self) -> bool:
        """It leads somewhere, as far as anybody knows."""

    @property
    def silent(self) -> bool:
        """It is not up, but has not broken either: nothing comes through. It may be a pause, after
        which all that was under way arrives."""

    @property
    def stale(self) -> bool:
        """Its far end may still hold connections from before it was healed."""

    @property
    def hopeless(self) -> bool:
        """It will not come up again by itself, but by :meth:`log_in`."""

    @property
    def reason(self) -> str:
        """Why it is not up."""

    def log_in(self, ask: Callable[[str, bool], str]) -> None:
        """Have the user open it again, on this thread; see `Tunnel.log_in`."""

    def leave(self, info: ConnectionInfo) -> None:
        """The kernel that was reached by this is not used any more."""


class Owner(Protocol):
    """The kernel that a link belongs to."""

    def link_up(self, proof: Handshake, finding: Finding | None) -> None:
        """The key is proved; ``finding`` says what became of the kernel since the last
        connection."""

    def link_unproved(self) -> None:
        """Connected, but silent so far; ``link_up`` may follow at any time."""

    def link_failed(self, error: KernelMagicsError) -> None:
        """The kernel could not be reached; no further attempt is made."""

    def link_lost(self) -> None:
        """A proved connection closed; ``link_up`` or ``link_gone`` follows."""

    def link_gone(self, finding: Finding) -> None:
        """Nothing answers any more; no further attempt is made."""

    def link_way_lost(self) -> None:
        """The way to it needs the user. The owner may close the link; if not, ``link_up`` follows
        once the user has seen to it."""

    def link_message(self, channel: Channel, message: Message) -> None:
        """A verified message, proof of the key or not."""

    def link_pong(self) -> None:
        """A sign of life."""

    def link_rejected(self, error: MessageRejected) -> None:
        """Bytes on a proved connection that were no message of this kernel."""


class Link:
    """The connection of one kernel; also the listener of its current transport.

    ``exit_status`` tells how a process of ours ended: None while it lives, and for a kernel that is
    not ours. ``way`` is what the connection goes through, None when it goes straight: while it is
    down nothing can be learnt about the kernel, so that time does not count.
    """

    def __init__(
        self,
        name: str,
        reactor: Reactor,
        connect: Callable[[], Transport],
        session: Session,
        owner: Owner,
        exit_status: Callable[[], int | None],
        way: Way | None = None,
    ) -> None:
        self.name = name
        self.state = LinkState.DOWN
        self._reactor = reactor
        self._connect = connect
        self._session = session
        self._owner = owner
        self._exit_status = exit_status
        self._way = way
        self._health = Health()
        self._transport: Transport | None = None
        self._proof: Handshake | None = None
        self._timer: Timer | None = None
        self._deadline: float | None = None
        self._retry = False
        self._way_told = False  # that the way needs the user
        self._opened_at = 0.0
        self._old_identity = False  # of a connection that the way has lost

    @property
    def encrypted(self) -> bool:
        """Nobody else can read along on the current connection."""
        return self._transport is not None and self._transport.encrypted

    def open(self, patience: float, *, retry: bool) -> None:
        """Connect and prove, within ``patience`` seconds.

        ``retry`` is for a kernel that is just starting: that nobody listens yet is no failure then.
        """
        self.close()
        self._health.forgive()
        self._retry, self._way_told = retry, False
        self._deadline = self._reactor.now + patience
        self.state = LinkState.CONNECTING
        self._attempt()

    def close(self) -> None:
        """Let go, at once and without a word to the owner."""
        self.state = LinkState.DOWN
        self._drop_transport()
        if self._timer is not None:
            self._timer.cancel()

    def send(self, channel: Channel, message: Message) -> None:
        """Send over a proved connection; the owner asks :attr:`state` first."""
        assert self._transport is not None
        self._transport.send(channel, message)

    def subscribe(self, topic: str) -> bool:
        """Have the kernel welcome one more topic, if transport and kernel can."""
        return self._transport is not None and self._transport.subscribe(topic)

    def renew(self) -> None:
        """Connect under another identity, if this one may still be taken by the connection before.

        Some kernels (xeus) do not hand it over: they ignore who comes with the identity of somebody
        that is there, and if they are busy, of somebody who has just gone. Replies that they owe to
        the old one are given up.
        """
        if not self._old_identity:
            return
        self._session.renew_identity()
        if self.state is LinkState.UP:
            self.lost("it does not hear who was there before")
        else:
            self._drop_transport()
            self._attempt()
        self._old_identity = False

    def ping(self) -> None:
        """Ask for a sign of life; ``link_pong`` tells of it."""
        if self._transport is not None:
            self._transport.ping()

    # The transport's listener.

    def connected(self) -> None:
        """The proof counts only once all channels are there, whichever of them gave it."""
        if self._proof is not None and self._proof.done:
            self._proved(self._proof)

    def closing(self) -> None:
        """Send nothing more, before it is known what that means."""
        if self.state is LinkState.UP:
            self.state = LinkState.CLOSING

    def pong(self) -> None:
        """Pass it on."""
        self._owner.link_pong()

    def received(self, channel: Channel, message: Message) -> None:
        """Pass a message on, and look whether it completes the proof."""
        proof = self._proof
        if proof is not None:
            proof.receive(channel, message)
            if proof.done and self._transport and self._transport.state is State.CONNECTED:
                self._proved(proof)
        self._owner.link_message(channel, message)

    def rejected(self, channel: Channel, error: MessageRejected) -> None:
        """A wrong signature before the proof means a wrong key; after it, somebody else's bytes."""
        if self._proof is None:
            self._owner.link_rejected(error)
        elif error.forged and channel != "stdin":
            self._fail(AuthenticationError(self.name))

    def lost(self, reason: str) -> None:
        """Open the connection again, or give up."""
        was_up = self.state in (LinkState.UP, LinkState.CLOSING)
        self._drop_transport()
        if was_up:
            self.state = LinkState.CONNECTING
            self._retry, self._deadline = True, None
            self._health.lost(self._reactor.now)
            self._owner.link_lost()
            self._old_identity = self._way is not None
        if self._is_over():
            return
        if self._retry:
            self._again(0.0 if was_up else RETRY, self._attempt)
        else:
            self._fail(KernelUnreachable(self.name, reason))

    def _attempt(self) -> None:
        if self._is_over():
            return
        if self._way is not None and not self._way.up:
            self._again(RETRY, self._attempt)
            return
        self.state = LinkState.CONNECTING
        self._opened_at = self._reactor.now
        self._transport = self._connect()
        self._proof = Handshake(self._session, f"km-{secrets.token_hex(8)}", self._reactor.now)
        self._transport.open(self)
        self._transport.subscribe(self._proof.topic)
        self._tick()

    def _tick(self) -> None:
        """Go on with the handshake, as time passes."""
        if self._is_over() or self._proof is None or self._transport is None:
            return
        for request in self._proof.tick(self._reactor.now):
            self._transport.send(request.channel, request.message)
        silent = self._reactor.now - self._opened_at
        if (
            silent >= UNPROVED_AFTER
            and self.state is LinkState.CONNECTING
            and self._transport.state is State.CONNECTED
            and not (self._retry or self._health.waiting)
        ):
            self.state = LinkState.UNPROVED
            self._deadline = None
            self._owner.link_unproved()
        if silent >= UNPROVED_AFTER and self._health.waiting and self._way_is_stale():
            self.renew()
            return
        self._again(TICK if silent < UNPROVED_AFTER else 10 * TICK, self._tick)

    def _is_over(self) -> bool:
        """Tell the owner once the process, the grace or the caller's patience has ended."""
        if self._way is not None and not self._way.up:
            self._health.postpone(self._reactor.now)
            told, self._way_told = self._way_told, self._way.hopeless
            if self._way_told and not told:
                self._owner.link_way_lost()
            return self.state is LinkState.DOWN
        self._way_told = False
        if self._way is not None and self._is_connected():
            self._health.postpone(self._reactor.now)  # it was the way that broke, not the kernel
        if (status := self._exit_status()) is not None:
            finding: Finding | None = self._health.exited(status)
        else:
            finding = self._health.check(self._reactor.now)
        if finding is not None:
            self.close()
            self._owner.link_gone(finding)
            return True
        if self._deadline is not None and self._reactor.now >= self._deadline:
            self._fail(KernelUnreachable(self.name, "it did not answer in time"))
            return True
        return False

    def _is_connected(self) -> bool:
        return self._transport is not None and self._transport.state is State.CONNECTED

    def _way_is_stale(self) -> bool:
        return self._way is not None and self._way.stale and self._is_connected()

    def _proved(self, proof: Handshake) -> None:
        self._proof = self._deadline = None
        if self._timer is not None:
            self._timer.cancel()
        self.state = LinkState.UP
        self._owner.link_up(proof, self._health.proved(proof.remote_session))

    def _fail(self, error: KernelMagicsError) -> None:
        self.close()
        if self._health.waiting:
            self._owner.link_gone(self._health.replaced())
        else:
            self._owner.link_failed(error)

    def _again(self, delay: float, callback: Callable[[], None]) -> None:
        self._timer = self._reactor.call_later(delay, callback)

    def _drop_transport(self) -> None:
        if self._transport is not None:
            self._transport.close()
        self._transport = self._proof = None
