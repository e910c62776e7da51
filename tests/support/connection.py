"""Connection files, written and read by hand."""

import json
import os
import socket
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any

CHANNELS = ("shell", "iopub", "stdin", "control", "hb")

Info = dict[str, Any]
"""The content of a connection file, as the messaging specification names its fields."""


def tcp_info() -> Info:
    """Loopback TCP, with port 0 everywhere: the kernel binds free ports and writes them back.

    Ports chosen before the kernel runs could be taken in the meantime by someone else.
    """
    ports = {f"{channel}_port": 0 for channel in CHANNELS}
    return {"transport": "tcp", "ip": "127.0.0.1", **ports, **_key()}


def chosen_info() -> Info:
    """Loopback TCP on free ports, for kernels that cannot choose their own (xeus)."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in CHANNELS]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        numbers = [each.getsockname()[1] for each in sockets]
    ports = {f"{name}_port": number for name, number in zip(CHANNELS, numbers, strict=True)}
    return tcp_info() | ports


def ipc_info(folder: Path) -> Info:
    """Unix sockets ``folder/k-1`` to ``folder/k-5``: over ipc, ports are parts of file names."""
    ports = {f"{channel}_port": number for number, channel in enumerate(CHANNELS, start=1)}
    return {"transport": "ipc", "ip": str(folder / "k"), **ports, **_key()}


def curve_info() -> Info:
    """TCP, encrypted with a fresh key pair."""
    import zmq

    public, secret = zmq.curve_keypair()
    keys = {"curve_publickey": public.decode(), "curve_secretkey": secret.decode()}
    return {**tcp_info(), **keys}


def _key() -> Info:
    return {"key": str(uuid.uuid4()), "signature_scheme": "hmac-sha256"}


def write_info(path: Path, info: Info) -> None:
    """Write a connection file that only its owner can read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(info, file, indent=2)


def read_info(path: Path) -> Info | None:
    """Read a connection file; None while it is not there, half written, or without ports yet."""
    try:
        info: Info = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return info if all(info.get(f"{channel}_port") for channel in CHANNELS) else None


def endpoint(info: Info, channel: str) -> str:
    """Where a channel is, in ZeroMQ's words."""
    separator = ":" if info["transport"] == "tcp" else "-"
    return f"{info['transport']}://{info['ip']}{separator}{info[f'{channel}_port']}"
