"""What this machine's process table says about kernels, and signals to them.

The table is empty where there is no ``/proc``."""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from .info import PORTS, ConnectionInfo

PROC = Path("/proc")
LISTEN = "0A"
"""As /proc/net/tcp has it."""


@dataclass(frozen=True)
class Serving:
    """A process that was started with a connection file.

    ``folder`` is its working directory, ``notebook`` the path of the document that a Jupyter server
    started it for; each None when it cannot be told.
    """

    pid: int
    folder: Path | None
    notebook: Path | None


def serving() -> dict[Path, Serving]:
    """Return the processes of this user that name a connection file as an argument, by that
    file."""
    found: dict[Path, Serving] = {}
    for pid in _pids():
        words = _words(pid, "cmdline")
        # `-f FILE`, and the spellings of traitlets: --f=FILE, --IPKernelApp.connection_file=FILE.
        for word in words[1:]:
            path = Path(word.rpartition("=")[2])
            if path.suffix == ".json" and path.is_absolute():
                found.setdefault(path, Serving(pid, _folder(pid), _notebook(pid)))
    return found


def own_process(info: ConnectionInfo, pid: int | None = None) -> int | None:
    """Return the process of this user that listens on all five ends, and was started with this
    file; None if there is none.

    ``pid`` is where to look first: the kernel may have told it, and is not believed. Always None
    where there is no /proc.
    """
    if info.path is None or not (PROC / "net").is_dir():
        return None
    wanted = _unix_sockets(info) if info.transport == "ipc" else _tcp_sockets(info)
    if wanted is None:
        return None
    found = (each for each in _started_with(info.path, pid) if wanted <= _sockets_of(each))
    return next(map(int, found), None)


def survives_interrupt(pid: int) -> bool:
    """Whether the process handles or ignores SIGINT; True where that cannot be told."""
    if sys.platform != "linux":
        return True
    try:
        status = (PROC / str(pid) / "status").read_text()
    except OSError:
        return False
    bit = 1 << (signal.SIGINT - 1)
    masks = (line.split()[1] for line in status.splitlines() if line[:6] in ("SigIgn", "SigCgt"))
    return any(int(mask, 16) & bit for mask in masks)


def interrupt(pid: int) -> None:
    """Send SIGINT to a process, and to those of its group if it leads one, as a terminal does."""
    with suppress(ProcessLookupError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGINT)
        else:
            os.kill(pid, signal.SIGINT)


def _pids() -> Iterator[int]:
    if not PROC.is_dir():
        return
    mine = os.getuid()
    for folder in PROC.iterdir():
        if folder.name.isdecimal():
            try:
                if folder.stat().st_uid == mine:
                    yield int(folder.name)
            except OSError:
                continue  # it has ended meanwhile


def _words(pid: int, what: str) -> list[str]:
    try:
        raw = (PROC / str(pid) / what).read_bytes()
    except OSError:
        return []
    return [os.fsdecode(word) for word in raw.split(b"\0")]


def _folder(pid: int) -> Path | None:
    try:
        return (PROC / str(pid) / "cwd").readlink()
    except OSError:
        return None


def _notebook(pid: int) -> Path | None:
    for word in _words(pid, "environ"):
        name, _, value = word.partition("=")
        if name == "JPY_SESSION_NAME" and value:
            return Path(value)
    return None


def _unix_sockets(info: ConnectionInfo) -> set[str] | None:
    paths = {f"{info.ip}-{getattr(info, port)}" for port in PORTS}
    found = {}
    for line in _lines("net/unix"):
        words = line.split()
        # Flags have the bit of a socket that listens; the path comes last.
        if len(words) == 8 and int(words[3], 16) & 0x10000:
            found[words[7]] = words[6]
    return {found[path] for path in paths} if paths <= found.keys() else None


def _tcp_sockets(info: ConnectionInfo) -> set[str] | None:
    ports = {int(getattr(info, port)) for port in PORTS}
    try:
        wanted = {each[4][0] for each in socket.getaddrinfo(info.address, None)}
    except OSError:
        return None
    found: dict[int, str] = {}
    for table in ("net/tcp", "net/tcp6"):
        for line in _lines(table):
            words = line.split()
            if len(words) < 10 or words[3] != LISTEN or words[7] != str(os.getuid()):
                continue
            address, _, port = words[1].partition(":")
            number = int(port, 16)
            if number in ports and _address(address) in {*wanted, "0.0.0.0", "::"}:
                if number in found:
                    return None  # two listen there, and which of them answers nobody knows
                found[number] = words[9]
    return set(found.values()) if ports <= found.keys() else None


def _address(text: str) -> str:
    raw = bytes.fromhex(text)
    words = struct.unpack(f"={len(raw) // 4}I", raw)
    packed = struct.pack(f">{len(words)}I", *words)
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, packed)


def _started_with(file: Path, first: int | None) -> Iterator[str]:
    """Yield this user's processes whose arguments name the connection file."""
    wanted = os.path.realpath(file)
    for entry in chain([PROC / str(first)] if first else [], PROC.iterdir()):
        if not entry.name.isdigit():
            continue
        with suppress(OSError):  # it has ended, or is not ours to look into
            if entry.stat().st_uid != os.getuid():
                continue
            folder = (entry / "cwd").readlink()
            arguments = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            for argument in arguments[1:]:
                path = argument.rpartition("=")[2]  # -f FILE, --f=FILE
                if path.endswith(".json") and (
                    os.path.realpath(os.path.join(folder, path)) == wanted  # noqa: PTH118
                ):
                    yield entry.name
                    break


def _sockets_of(pid: str) -> set[str]:
    found = set()
    with suppress(OSError):
        for descriptor in (PROC / pid / "fd").iterdir():
            with suppress(OSError):
                target = str(descriptor.readlink())
                if target.startswith("socket:["):
                    found.add(target[8:-1])
    return found


def _lines(name: str) -> list[str]:
    with suppress(OSError):
        return (PROC / name).read_text().splitlines()[1:]
    return []
