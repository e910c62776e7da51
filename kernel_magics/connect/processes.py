"""What this machine's process table says about kernels. Empty where there is no ``/proc``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


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
