"""Whose values may be unpickled: unpickling what a kernel sends is running its code.

A kernel is trusted if we started it, if its user said so, or if the process that listens behind
its connection file is this user's own kernel on this machine. A loopback address is no proof: it
may be the end of a tunnel. So the process is looked up by the sockets it holds, and it has to have
been started with this connection file: no tunnel is."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ...connect.info import PORTS, ConnectionInfo

if TYPE_CHECKING:
    from ..kernel import Kernel

_looked_up: WeakKeyDictionary[Kernel, tuple[dict[str, Any], bool]] = WeakKeyDictionary()
"""Reading the table of sockets takes 10 ms, and who sits at the end of a connection stays."""

PROC = Path("/proc")
LISTEN = "0A"
"""As /proc/net/tcp has it."""


def is_trusted(kernel: Kernel) -> bool:
    """Whether what comes from it may be unpickled."""
    if kernel.trust:
        return True
    if kernel.way is not None:
        return False
    about, verdict = _looked_up.get(kernel, ({}, False))
    if about is not kernel.kernel_info:  # which is made anew with each connection
        verdict = is_own_process(kernel.info, kernel.pid)
        _looked_up[kernel] = kernel.kernel_info, verdict
    return verdict


def forget(kernel: Kernel) -> None:
    """Look it up anew the next time."""
    _looked_up.pop(kernel, None)


def is_own_process(info: ConnectionInfo, pid: int | None = None) -> bool:
    """Whether one process of this user listens on all five ends, and was started with this file.

    ``pid`` is where to look first: the kernel may have told it, and is not believed. Always False
    where there is no /proc.
    """
    if info.path is None or not (PROC / "net").is_dir():
        return False
    wanted = _unix_sockets(info) if info.transport == "ipc" else _tcp_sockets(info)
    if wanted is None:
        return False
    return any(wanted <= _sockets_of(each) for each in _started_with(info.path, pid))


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
