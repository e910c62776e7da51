"""The five sockets of a kernel, on the kernel's side."""

import zmq

from tests.support.connection import Info, endpoint
from tests.support.waiting import wait_until
from tests.support.wire import Message, make_header, pack, unpack

KINDS = {
    "shell": zmq.ROUTER,
    "control": zmq.ROUTER,
    "stdin": zmq.ROUTER,
    "hb": zmq.ROUTER,
    "iopub": zmq.XPUB,
}


class KernelSockets:
    """Bound sockets by channel, owned by one thread; ``close()`` frees everything.

    Bind again what was closed: the port stays the same.
    """

    def __init__(self, info: Info) -> None:
        """Bind all channels that ``info`` describes; ports that are 0 there become real ones."""
        self.info = info
        self.key = str(info["key"]).encode()
        self._context = zmq.Context()
        self._sockets: dict[str, zmq.Socket[bytes]] = {}
        for channel in KINDS:
            self.bind(channel)

    def __getitem__(self, channel: str) -> zmq.Socket[bytes]:
        return self._sockets[channel]

    def get(self, channel: str) -> zmq.Socket[bytes] | None:
        """The socket of a channel; None while it is closed."""
        return self._sockets.get(channel)

    @property
    def channels(self) -> dict[zmq.Socket[bytes], str]:
        """The open sockets and their names, as a poller wants them."""
        return {socket: channel for channel, socket in self._sockets.items()}

    def bind(self, channel: str) -> None:
        """Open a channel's socket."""
        socket = self._context.socket(KINDS[channel])
        self._sockets[channel] = socket
        socket.linger = 0
        # A kernel made for tests loses nothing by itself; ipykernel's limit would be 1000.
        socket.sndhwm = socket.rcvhwm = 0
        if KINDS[channel] == zmq.ROUTER:
            socket.router_handover = True  # as ipykernel: a client may come back with its identity
        if secret := self.info.get("curve_secretkey"):
            socket.curve_secretkey = secret.encode()
            socket.curve_publickey = self.info["curve_publickey"].encode()
            socket.curve_server = True
        if self.info["transport"] == "tcp" and self.info[f"{channel}_port"] == 0:
            ip = f"tcp://{self.info['ip']}"
            self.info[f"{channel}_port"] = socket.bind_to_random_port(ip)
        else:
            # ZeroMQ closes in the background: what was just closed may hold its port for a moment.
            wait_until(
                lambda: _bound(socket, endpoint(self.info, channel)),
                what=f"the {channel} port is free",
            )

    def unbind(self, channel: str) -> None:
        """Close a channel's socket; what it had not sent yet is lost."""
        if socket := self._sockets.pop(channel, None):
            socket.close()

    def receive(self, channel: str) -> Message:
        """Read one message that has arrived.

        Raises:
            BadFrames: it was not signed with our key, or was no message at all.
        """
        return unpack(self[channel].recv_multipart(), self.key)

    def echo_heartbeat(self) -> None:
        self["hb"].send_multipart(self["hb"].recv_multipart())

    def receive_subscription(self) -> bytes | None:
        """Read what a subscriber wants: a topic; None if it only ended a subscription."""
        event = self["iopub"].recv()
        return event[1:] if event[:1] == b"\x01" else None

    def welcome(self, topic: bytes, session: str) -> None:
        """Greet a subscription (JEP 65), as ipykernel 7.2 and later do: without a parent."""
        content = {"subscription": topic.decode()}
        message = Message(make_header("iopub_welcome", session), content=content)
        # Under its own topic, or the subscriber would not see it; none for the empty topic.
        self["iopub"].send_multipart([*filter(None, [topic]), *pack(message, self.key)])

    def close(self) -> None:
        """Close all sockets and end the context; idempotent."""
        for channel in list(self._sockets):
            self.unbind(channel)
        self._context.term()


def _bound(socket: "zmq.Socket[bytes]", address: str) -> bool:
    try:
        socket.bind(address)
    except zmq.ZMQError as error:
        if error.errno != zmq.EADDRINUSE:
            raise
        return False
    return True
