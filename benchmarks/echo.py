"""An echo kernel that adds as little as possible to what is measured, and that can flood.

The tests' own echo kernel builds every message with care, for 0.4 ms a cell, and would hide what a
client costs; this one fills in forms. ``burst N`` publishes N small displays, all of them signed
before the first is sent, so that the sockets set their rate. What is no cell is left to the tests'.
Run as ``python -m benchmarks.echo -f FILE``.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import zmq

from tests.support.connection import write_info
from tests.support.echo import Speaker, answer
from tests.support.sockets import KernelSockets
from tests.support.wire import DELIMITER, BadFrames, unpack

BUSY, IDLE = (b'{"execution_state": "%s"}' % state for state in (b"busy", b"idle"))
DISPLAY = b'{"data": {"text/plain": "%d"}, "metadata": {}, "transient": {}}'
INPUT = b'{"code": "", "execution_count": %d}'
REPLY = b'{"status": "ok", "execution_count": %d, "user_expressions": {}, "payload": []}'


class Echo:
    """One kernel."""

    def __init__(self, sockets: KernelSockets) -> None:
        self._sockets = sockets
        self._speaker = Speaker(sockets)
        self._mac = hmac.new(sockets.key, digestmod=hashlib.sha256)
        self._count = 0
        self._said = 0
        self._id = uuid.uuid4().hex.encode()
        self._form = (
            b'{"msg_id": "%s_%d", "msg_type": "%s", "username": "echo", "session": "%s", '
            b'"date": "%s.%06dZ", "version": "5.3"}'
        )

    def take(self, sock: zmq.Socket[bytes], channel: str) -> bool:
        """Answer what one channel has; return False when it was the last."""
        match channel:
            case "hb":
                self._sockets.echo_heartbeat()
            case "iopub":
                if (topic := self._sockets.receive_subscription()) is not None:
                    self._sockets.welcome(topic, self._speaker.session)
            case _:
                return self._answer(sock.recv_multipart(), channel)
        return True

    def _answer(self, frames: list[bytes], channel: str) -> bool:
        """Answer one request; return False when it was the last."""
        border = frames.index(DELIMITER)
        signature, header, parent, metadata, content = frames[border + 1 : border + 6]
        if not hmac.compare_digest(signature, self._sign((header, parent, metadata, content))):
            return True
        if b'"execute_request"' in header:
            self._execute(frames[:border], header, content)
            return True
        try:
            request = unpack(frames, self._sockets.key)
        except BadFrames:
            return True
        answer(self._speaker, request, channel)
        return request.type != "shutdown_request"

    def _execute(self, identities: list[bytes], parent: bytes, content: bytes) -> None:
        iopub = self._sockets["iopub"]
        self._count += 1
        iopub.send_multipart([b"status", *self._message(b"status", parent, BUSY)])
        told = self._message(b"execute_input", parent, INPUT % self._count)
        iopub.send_multipart([b"execute_input", *told])
        if b"burst " in content:
            number = int(json.loads(content)["code"].split()[1])
            burst = [
                [b"display_data", *self._message(b"display_data", parent, DISPLAY % each)]
                for each in range(number)
            ]
            for frames in burst:
                iopub.send_multipart(frames)
        reply = self._message(b"execute_reply", parent, REPLY % self._count)
        self._sockets["shell"].send_multipart([*identities, *reply])
        iopub.send_multipart([b"status", *self._message(b"status", parent, IDLE)])

    def _message(self, kind: bytes, parent: bytes, content: bytes) -> list[bytes]:
        """Fill in the form of one message and sign it."""
        self._said += 1
        now = time.time()
        date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)).encode()
        identity = self._id
        header = self._form % (identity, self._said, kind, identity, date, now % 1 * 1_000_000)
        parts = (header, parent, b"{}", content)
        return [DELIMITER, self._sign(parts), *parts]

    def _sign(self, parts: Sequence[bytes]) -> bytes:
        mac = self._mac.copy()
        for part in parts:
            mac.update(part)
        return mac.hexdigest().encode()


def main() -> None:
    """Serve the connection files named on the command line, with free ports where they have none,
    until one of the kernels is asked to end."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.echo", description=__doc__)
    parser.add_argument(
        "-f", dest="files", type=Path, required=True, action="append",
        help="connection file; several make as many kernels in one process",
    )  # fmt: skip
    with ExitStack() as stack:
        echoes: dict[zmq.Socket[bytes], tuple[Echo, str]] = {}
        poller = zmq.Poller()
        for path in parser.parse_args().files:
            info = json.loads(path.read_text())
            sockets = stack.enter_context(closing(KernelSockets(info)))
            write_info(path, info)
            echo = Echo(sockets)
            for sock, channel in sockets.channels.items():
                echoes[sock] = echo, channel
                poller.register(sock, zmq.POLLIN)
        while True:
            for sock, _ in poller.poll():
                echo, channel = echoes[sock]
                if not echo.take(sock, channel):
                    return


if __name__ == "__main__":
    main()
