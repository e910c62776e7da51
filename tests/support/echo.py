"""A kernel that runs nothing and says so at once: the floor below every benchmark.

Run it as ``python -m tests.support.echo -f FILE``. A missing file is written, with free ports.
"""

import argparse
import json
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import zmq

from tests.support.connection import Info, tcp_info, write_info
from tests.support.sockets import KernelSockets
from tests.support.wire import BadFrames, Json, Message, make_header, pack

KERNEL_INFO: Json = {
    "status": "ok",
    "protocol_version": "5.3",
    "implementation": "echo",
    "implementation_version": "1.0",
    "language_info": {
        "name": "echo",
        "version": "1.0",
        "mimetype": "text/plain",
        "file_extension": ".txt",
    },
    "banner": "a kernel for tests",
    "supported_features": [],
    "help_links": [],
}


class Speaker:
    """Says what a kernel says: messages on any channel, under the request they answer.

    Each method returns the frames it sent, so that a test can send them again.
    """

    def __init__(self, sockets: KernelSockets) -> None:
        self.sockets = sockets
        self.key = sockets.key
        self.session = str(uuid.uuid4())
        self.execution_count = 0
        self.last_sent: tuple[str, list[bytes]] = ("iopub", [])

    def publish(
        self,
        msg_type: str,
        content: Json,
        *,
        parent: Message | None = None,
        metadata: Json | None = None,
        buffers: tuple[bytes, ...] = (),
    ) -> list[bytes]:
        """Send on iopub."""
        topic = f"kernel.{self.session}.{msg_type}".encode()
        return self._say("iopub", msg_type, content, parent, (topic,), metadata, buffers)

    def reply(
        self,
        request: Message,
        content: Json,
        *,
        channel: str = "shell",
        msg_type: str | None = None,
        buffers: tuple[bytes, ...] = (),
    ) -> list[bytes]:
        """Answer the sender of ``request``; the type follows from the request's."""
        reply_type = msg_type or request.type.removesuffix("_request") + "_reply"
        return self._say(channel, reply_type, content, request, request.identities, {}, buffers)

    def status(self, state: str, parent: Message | None = None) -> list[bytes]:
        return self.publish("status", {"execution_state": state}, parent=parent)

    def send(self, channel: str, frames: list[bytes]) -> list[bytes]:
        """Send frames as they are. A closed channel swallows them, as a dead kernel would."""
        self.last_sent = channel, frames
        if socket := self.sockets.get(channel):
            socket.send_multipart(frames)
        return frames

    def _say(
        self,
        channel: str,
        msg_type: str,
        content: Json,
        parent: Message | None,
        identities: tuple[bytes, ...],
        metadata: Json | None,
        buffers: tuple[bytes, ...],
    ) -> list[bytes]:
        message = Message(
            make_header(msg_type, self.session),
            parent.header if parent else {},
            metadata or {},
            content,
            identities,
            buffers,
        )
        return self.send(channel, pack(message, self.key))


def answer(speaker: Speaker, request: Message, channel: str) -> None:
    """Answer as a well-behaved kernel in which every code succeeds without output.

    Types that have no sensible answer here get busy and idle only.
    """
    speaker.status("busy", request)
    if content := CONTENT.get(request.type):
        speaker.reply(request, content(speaker, request), channel=channel)
    speaker.status("idle", request)


def _execute(speaker: Speaker, request: Message) -> Json:
    if not request.content.get("silent", False):
        speaker.execution_count += 1
        told = {"code": request.content["code"], "execution_count": speaker.execution_count}
        speaker.publish("execute_input", told, parent=request)
    return {
        "status": "ok",
        "execution_count": speaker.execution_count,
        "user_expressions": {},
        "payload": [],
    }


def _complete(speaker: Speaker, request: Message) -> Json:
    position = request.content["cursor_pos"]
    return {
        "status": "ok",
        "matches": [],
        "cursor_start": position,
        "cursor_end": position,
        "metadata": {},
    }


CONTENT: dict[str, Callable[[Speaker, Message], Json]] = {
    "execute_request": _execute,
    "complete_request": _complete,
    "kernel_info_request": lambda speaker, request: KERNEL_INFO,
    "interrupt_request": lambda speaker, request: {"status": "ok"},
    "shutdown_request": lambda speaker, request: {"status": "ok", **request.content},
    "comm_info_request": lambda speaker, request: {"status": "ok", "comms": {}},
    "inspect_request": lambda speaker, request: {
        "status": "ok",
        "found": False,
        "data": {},
        "metadata": {},
    },
    "is_complete_request": lambda speaker, request: {"status": "complete"},
    "history_request": lambda speaker, request: {"status": "ok", "history": []},
}


def serve(sockets: KernelSockets) -> None:
    """Answer everything until a shutdown request has been answered."""
    speaker = Speaker(sockets)
    channels = sockets.channels
    poller = zmq.Poller()
    for socket in channels:
        poller.register(socket, zmq.POLLIN)
    while True:
        for socket, _ in poller.poll():
            match channels[socket]:
                case "hb":
                    sockets.echo_heartbeat()
                case "iopub":
                    if (topic := sockets.receive_subscription()) is not None:
                        sockets.welcome(topic, speaker.session)
                case channel:
                    try:
                        request = sockets.receive(channel)
                    except BadFrames:
                        continue  # as ipykernel: a wrong key meets silence
                    answer(speaker, request, channel)
                    if request.type == "shutdown_request":
                        return


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-f", dest="file", type=Path, required=True, help="connection file")
    path: Path = parser.parse_args(argv).file
    info: Info = json.loads(path.read_text()) if path.exists() else tcp_info()
    with closing(KernelSockets(info)) as sockets:
        write_info(path, info)
        serve(sockets)


if __name__ == "__main__":
    main()
