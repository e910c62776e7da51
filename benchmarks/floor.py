"""The floor: what a client written by hand for one purpose costs.

A DEALER and a SUB socket and blocking reads; signs, verifies, waits for the reply *and* for idle,
and does nothing else. Shares no code with ``kernel_magics``.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import zmq

Json = dict[str, Any]
Observer = Callable[[Sequence[bytes]], None]
"""Sees the frames of every iopub message of the request, unverified."""

PATIENCE_MS = 120_000
"""Longest silence before a measurement is given up."""


class FloorClient:
    """A client of one kernel over tcp, for one thread; ``close()`` ends it.

    ``context`` is one that many of them share; whoever made it ends it.
    """

    def __init__(self, info: Json, context: zmq.Context[zmq.Socket[bytes]] | None = None) -> None:
        self._info = info
        self._mac = hmac.new(str(info["key"]).encode(), digestmod=hashlib.sha256)
        self._session = uuid.uuid4().hex
        self._count = 0
        self._shares = context is not None
        self._context: zmq.Context[zmq.Socket[bytes]] = context or zmq.Context()
        self.shell = self._connect(zmq.DEALER, info, "shell")
        self.iopub = self._connect(zmq.SUB, info, "iopub")
        self.iopub.subscribe(b"")
        self._become_ready()

    def run(self, code: str) -> Json:
        """Run code; return the reply's content once idle was seen too."""
        return self.end(self.send("execute_request", code))

    def end(self, msg_id: str) -> Json:
        """Wait for the end of a cell that was sent; return the reply's content."""
        while True:
            parent, content = self._read(self.shell)
            if json.loads(parent).get("msg_id") == msg_id:
                break
        mark = msg_id.encode()
        while True:
            parent, status = self._read(self.iopub)
            if mark in parent and b'"idle"' in status:
                reply: Json = json.loads(content)
                return reply

    def observe(self, code: str, observer: Observer) -> Json:
        """Run code as :meth:`run` does, showing what is published on the way."""
        msg_id = self.send("execute_request", code)
        mark = msg_id.encode()
        while True:
            frames = self.iopub.recv_multipart()
            parts = frames[-4:] if b"<IDS|MSG>" in frames else []
            if parts and mark in parts[1]:
                observer(frames)
                if b'"execution_state"' in parts[3] and b'"idle"' in parts[3]:
                    break
        while True:
            parent, content = self._read(self.shell)
            if json.loads(parent).get("msg_id") == msg_id:
                reply: Json = json.loads(content)
                return reply

    def attach(self) -> float:
        """Connect once more, to control and iopub; return the seconds until both have answered.

        Who wants proof of the key, and may not miss output, needs a reply on control and a
        message on iopub, which the subscription to a topic of its own provokes.
        """
        begin = time.perf_counter()
        control = self._connect(zmq.DEALER, self._info, "control")
        iopub = self._connect(zmq.SUB, self._info, "iopub")
        try:
            iopub.subscribe(b"")
            iopub.subscribe(uuid.uuid4().hex.encode())
            self.send("kernel_info_request", "", control)
            self._read(control)
            self._read(iopub)
            return time.perf_counter() - begin
        finally:
            control.close(linger=0)
            iopub.close(linger=0)

    def send(self, msg_type: str, code: str, sock: zmq.Socket[bytes] | None = None) -> str:
        """Sign and send a request, on shell unless told otherwise; return its id."""
        self._count += 1
        msg_id = f"{self._session}_{self._count}"
        header = {
            "msg_id": msg_id,
            "msg_type": msg_type,
            "username": "floor",
            "session": self._session,
            "date": datetime.now(UTC).isoformat(),
            "version": "5.3",
        }
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": False,
        }
        parts = [json.dumps(header).encode(), b"{}", b"{}", json.dumps(content).encode()]
        (sock or self.shell).send_multipart([b"<IDS|MSG>", self._sign(parts), *parts])
        return msg_id

    def close(self) -> None:
        """Close both sockets."""
        if self._shares:
            self.shell.close(linger=0)
            self.iopub.close(linger=0)
        else:
            self._context.destroy(linger=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _connect(self, kind: int, info: Json, channel: str) -> zmq.Socket[bytes]:
        sock = self._context.socket(kind)
        sock.setsockopt(zmq.RCVHWM, 0)
        sock.setsockopt(zmq.RCVTIMEO, PATIENCE_MS)
        sock.connect(f"tcp://{info['ip']}:{info[f'{channel}_port']}")
        return sock

    def _sign(self, parts: Sequence[bytes]) -> bytes:
        mac = self._mac.copy()
        for part in parts:
            mac.update(part)
        return mac.hexdigest().encode()

    def _read(self, sock: zmq.Socket[bytes]) -> tuple[bytes, bytes]:
        """Receive and verify; return the packed parent header and content."""
        frames = sock.recv_multipart()
        start = frames.index(b"<IDS|MSG>") + 1
        parts = frames[start + 1 : start + 5]
        if not hmac.compare_digest(self._sign(parts), frames[start]):
            raise ValueError("a wrong signature")
        return parts[1], parts[3]

    def _become_ready(self) -> None:
        """Ask until something is published: only then is the subscription in force."""
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while time.monotonic() < deadline:
            msg_id = self.send("kernel_info_request", "")
            if not self.iopub.poll(500):
                continue
            while msg_id.encode() not in self._read(self.shell)[0]:
                pass
            while self.iopub.poll(100):
                parent, status = self._read(self.iopub)
                if msg_id.encode() in parent and b'"idle"' in status:
                    return
        raise TimeoutError("the kernel publishes nothing")


class FloorClients:
    """Clients of several kernels, in one context: sends to all, then reads one after another."""

    def __init__(self, files: Sequence[str]) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.max_sockets = 4096
        self._clients = [
            FloorClient(json.loads(Path(file).read_text()), self._context) for file in files
        ]

    def run(self, code: str) -> list[Json]:
        """Run code in all; return the contents of the replies."""
        sent = [(client, client.send("execute_request", code)) for client in self._clients]
        return [client.end(msg_id) for client, msg_id in sent]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._context.destroy(linger=0)
