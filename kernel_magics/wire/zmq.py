"""A kernel's channels as ZeroMQ sockets over tcp or ipc, optionally with CurveZMQ.

The sockets never reconnect by themselves: with libzmq's automatic reconnection a request that was
sent to a dead kernel runs later in whatever opens that port next."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from ..errors import MessageRejected
from ..protocol.message import CUT_SHORT, Message, Part, Signer, frames_of, receive
from ..protocol.secret import Secret
from .frames import SURE, frames_behind, receive_frames, send_frames
from .reactor import Reactor, Reader
from .transport import Channel, Listener, State

log = logging.getLogger("kernel_magics.wire")

CHANNELS: dict[Channel, int] = {
    "iopub": zmq.SUB,
    "shell": zmq.DEALER,
    "control": zmq.DEALER,
    "stdin": zmq.DEALER,
}

CLOSE_TOGETHER: frozenset[Channel] = frozenset({"shell", "iopub"})
"""When both of these are closed the kernel is gone: after a kill shell closes at once, while iopub
still has output in flight."""

GONE = (
    zmq.EVENT_CLOSED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)

NEVER = 10**9
"""Milliseconds before libzmq reconnects: 11 days, and we close a lost socket at once. The value
that means never, -1, makes libzmq drop with the connection what arrived but was not read yet: of
20,000 messages 0 were left to a reader who came after the sender had died (libzmq 4.3.5, tcp and
ipc)."""

BATCH = 256
"""Messages read from one socket in a turn, so that a flood from one kernel does not starve
others."""

FEW = 8
"""Messages of a turn before each of which the socket is asked whether there is one: to be told by
an exception that there is none takes three times as long, but happens once."""

READ_TOGETHER: tuple[tuple[Channel, ...], ...] = (("iopub", "shell"), ("control",), ("stdin",))
"""Who hears from one of them looks at the others at once: what ends a cell comes on two, nearly at
the same time. In this order, because outputs belong before the reply that ends them."""

SETTLE = 0.3
"""Seconds without output after which a half-closed connection counts as lost as a whole."""


def asyncio_context() -> Any:
    """Return a context for the control sockets that `jupyter_client`'s managers make for
    themselves."""
    import zmq.asyncio

    return zmq.asyncio.Context()


@dataclass(frozen=True)
class Endpoints:
    """Where a kernel's channels are, and the server's public key if they are encrypted."""

    urls: dict[Channel, str]
    heartbeat: str
    curve_server_key: Secret | None = None
    curve_keys: tuple[Secret, Secret] | None = None
    """Our own public and secret key; the connection file's, as `jupyter_client` uses them."""


class ZmqTransport:
    """Shell, control, stdin and iopub of one kernel; see :class:`Transport` for the methods."""

    def __init__(
        self, reactor: Reactor, endpoints: Endpoints, signer: Signer, identity: bytes
    ) -> None:
        self._reactor = reactor
        self._endpoints = endpoints
        self._signer = signer
        self._identity = identity
        self._sockets: dict[Channel, zmq.Socket[bytes]] = {}
        self._monitors: dict[Channel, zmq.Socket[bytes]] = {}
        self._readers: list[Reader] = []
        self._heartbeat: zmq.Socket[bytes] | None = None
        self._listener: Listener | None = None
        self._state = State.NEW
        self._there: set[Channel] = set()
        self._gone: set[Channel] = set()
        self._traffic = 0
        self._lost_as = ""

    @property
    def state(self) -> State:
        """Where it is in its life."""
        return self._state

    @property
    def encrypted(self) -> bool:
        """Curve, or a Unix socket that only this user can open."""
        urls = self._endpoints.urls.values()
        return self._endpoints.curve_server_key is not None or all(
            url.startswith("ipc:") for url in urls
        )

    def open(self, listener: Listener) -> None:
        """Create the sockets and begin to connect them."""
        self._listener = listener
        self._state = State.CONNECTING
        for channel, kind in CHANNELS.items():
            sock = self._reactor.context.socket(kind)
            self._sockets[channel] = sock
            self._configure(sock)
            if kind == zmq.SUB:
                sock.subscribe(b"")
            # Each of them: firewalls forget the connection that is not used, and a prompt or an
            # interrupt would go nowhere without a word.
            monitor = sock.get_monitor_socket(GONE | zmq.EVENT_HANDSHAKE_SUCCEEDED)
            self._monitors[channel] = monitor
            self._reactor.watch(monitor, partial(self._monitored, channel, monitor))
            sock.connect(self._endpoints.urls[channel])
        for channels in READ_TOGETHER:
            reader = self._reader(channels)
            self._readers.append(reader)
            for channel in channels:
                self._reactor.watch(self._sockets[channel], reader)

    def send(self, channel: Channel, message: Message) -> None:
        """Sign and send; a message to a peer that is gone vanishes and ``lost`` follows.

        Never waits: a socket that connects has a queue from the first moment, and no limit here.
        """
        if not self._is_open():
            return
        if log.isEnabledFor(logging.DEBUG):
            log.debug("> %s %s %s", channel, message.type, message.msg_id)
        sock = self._sockets[channel]
        send_frames(sock, frames_of(message, self._signer))
        self._reactor.used(sock)

    def subscribe(self, topic: str) -> bool:
        """Subscribe to one more topic; the kernel's welcome for it follows all it sent before."""
        if self._is_open():
            self._sockets["iopub"].subscribe(topic.encode())
            self._reactor.used(self._sockets["iopub"])
        return True

    def ping(self) -> None:
        """Send one heartbeat; the channel is opened by the first."""
        if not self._is_open():
            return
        if self._heartbeat is None:
            # Not a REQ socket: that would refuse a second ping until the first was answered.
            sock = self._reactor.context.socket(zmq.DEALER)
            self._configure(sock)
            sock.connect(self._endpoints.heartbeat)
            self._reactor.watch(sock, partial(self._pong, sock))
            self._heartbeat = sock
        self._heartbeat.send_multipart([b"", b"ping"], zmq.NOBLOCK)
        self._reactor.used(self._heartbeat)

    def close(self) -> None:
        """Close the sockets."""
        self._state = State.CLOSED
        if self._heartbeat is not None:
            self._reactor.unwatch(self._heartbeat)
            self._heartbeat.close(linger=0)
            self._heartbeat = None
        for monitor in self._monitors.values():
            self._reactor.unwatch(monitor)
        for sock in self._sockets.values():
            self._reactor.unwatch(sock)
            sock.disable_monitor()
            sock.close(linger=0)
        for monitor in self._monitors.values():
            monitor.close(linger=0)
        self._sockets.clear()
        self._monitors.clear()
        self._readers = []

    def _is_open(self) -> bool:
        return self._state in (State.CONNECTING, State.CONNECTED)

    def _configure(self, sock: zmq.Socket[bytes]) -> None:
        sock.setsockopt(zmq.LINGER, 0)
        sock.setsockopt(zmq.RCVHWM, 0)
        sock.setsockopt(zmq.SNDHWM, 0)
        sock.setsockopt(zmq.RECONNECT_IVL, NEVER)
        sock.setsockopt(zmq.IPV6, 1)
        if sock.type != zmq.SUB:
            sock.setsockopt(zmq.IDENTITY, self._identity)
        if self._endpoints.curve_server_key is not None:
            public, secret = self._endpoints.curve_keys or map(Secret, zmq.curve_keypair())
            sock.setsockopt(zmq.CURVE_SERVERKEY, self._endpoints.curve_server_key.reveal())
            sock.setsockopt(zmq.CURVE_PUBLICKEY, public.reveal())
            sock.setsockopt(zmq.CURVE_SECRETKEY, secret.reveal())

    def _reader(self, channels: Sequence[Channel]) -> Reader:
        """Return what reads these sockets, one after the other."""
        readers = [self._read_of(channel, self._sockets[channel]) for channel in channels]

        def read() -> bool:
            more = False
            for reader in readers:
                more = reader() or more
            return more

        return read

    def _read_of(self, channel: Channel, sock: zmq.Socket[bytes]) -> Reader:
        """Return what reads one socket; closed over, because it runs for every message."""
        listener, signer, open_sockets = self._listener, self._signer, self._sockets
        assert listener is not None
        poll, items, signed = zmq.zmq_poll, [(sock, zmq.POLLIN)], signer.signs

        def read() -> bool:
            debug = log.isEnabledFor(logging.DEBUG)
            for number in range(BATCH):
                if not open_sockets:  # closed by what the last message led to
                    return False
                if number < FEW and not poll(items, 0):
                    return False
                try:
                    frames = receive_frames(sock, signed=signed)
                except zmq.Again:
                    return False
                self._traffic += 1
                try:
                    message = receive(frames, signer)
                except MessageRejected as error:
                    self._rejected(channel, frames, error)
                else:
                    if debug:
                        log.debug("< %s %s of %s", channel, message.type, message.parent_id)
                    listener.received(channel, message)
            return True

        return read

    def _rejected(self, channel: Channel, frames: list[Part], error: MessageRejected) -> None:
        """Tell of it, and take what came together with it."""
        assert self._listener is not None
        for _ in range(1 + SURE):  # more than one may have been cut short
            frames = frames_behind(frames)
            if frames:
                error = MessageRejected(CUT_SHORT)
            log.debug("! %s %s", channel, error)
            self._listener.rejected(channel, error)
            if not (frames and self._is_open()):
                return
            try:
                message = receive(frames, self._signer)
            except MessageRejected as another:
                error = another
            else:
                self._listener.received(channel, message)
                return

    def _pong(self, sock: zmq.Socket[bytes]) -> bool:
        while not sock.closed:
            try:
                sock.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            assert self._listener is not None
            self._listener.pong()
        return False

    def _monitored(self, channel: Channel, monitor: zmq.Socket[bytes]) -> bool:
        while not monitor.closed and monitor.poll(0):
            event = recv_monitor_message(monitor)["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._opened(channel)
            else:
                self._closed(channel, event)
        return False

    def _opened(self, channel: Channel) -> None:
        self._there.add(channel)
        if self._there.issuperset(CHANNELS):
            self._state = State.CONNECTED
            assert self._listener is not None
            self._listener.connected()

    def _closed(self, channel: Channel, event: int) -> None:
        if not self._gone:
            self._lost_as = _reason(event, connected=self._state is State.CONNECTED)
            log.debug("= %s %s", channel, self._lost_as)
            assert self._listener is not None
            self._listener.closing()
        self._gone.add(channel)
        self._settle()

    def _settle(self) -> None:
        """Report the loss once nothing more can come."""
        if self._state is State.CONNECTING or self._gone >= CLOSE_TOGETHER:
            # The closing of a connection is told after the last bytes that came over it.
            self._reactor.soon(self._report_loss)
        else:
            self._reactor.call_later(SETTLE, partial(self._settled, self._traffic))

    def _settled(self, traffic_before: int) -> None:
        if not self._is_open():
            return
        if self._traffic == traffic_before:
            self._report_loss()
        else:
            self._reactor.call_later(SETTLE, partial(self._settled, self._traffic))

    def _report_loss(self) -> None:
        if not self._is_open():
            return
        for read in self._readers:
            before = -1
            while self._is_open() and before != self._traffic:
                before = self._traffic
                read()
        if self._is_open():
            self.close()
            self._state = State.LOST
            assert self._listener is not None
            self._listener.lost(self._lost_as)


def _reason(event: int, *, connected: bool) -> str:
    if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        return "the kernel refused our encryption keys"
    if event & (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL):
        return "what listens there does not speak ZeroMQ, or wants other encryption keys"
    return "the connection closed" if connected else "nothing listens there"
