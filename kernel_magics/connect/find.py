"""From a name to a connection file.

The magics' rule, stricter than `jupyter_client.find_connection_file`: a path; else the exact id;
else the one file that contains the fragment and whose kernel listens. Several are an error that
lists them: guessing would run somebody's code in the wrong kernel."""

from __future__ import annotations

import fnmatch
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jupyter_core.paths import jupyter_runtime_dir

from ..errors import AmbiguousKernel, ConnectionFileError, KernelNotFound
from .info import ConnectionInfo

SHORTEST_FRAGMENT = 4
"""Characters. Fewer match by accident."""

PROBE_TIMEOUT = 0.25
"""Seconds to wait for a kernel's port; one on this machine answers or refuses within 1 ms."""


@dataclass(frozen=True)
class FoundKernel:
    """A connection file of a kernel that listens. ``modified`` is the file's time, in epoch
    seconds."""

    info: ConnectionInfo
    modified: float

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.info.name


def runtime_dir() -> Path:
    """Where this user's kernels leave their connection files."""
    return Path(jupyter_runtime_dir())


def find(wanted: str) -> ConnectionInfo:
    """Return the connection info that ``wanted`` stands for: a path, an id or a fragment of one.

    Raises:
        KernelNotFound: nothing matches, or only kernels that are gone.
        AmbiguousKernel: several kernels match a fragment.
        ConnectionFileError: the one file that matches cannot be used.
    """
    if os.sep in wanted or (wanted.endswith(".json") and _is_file(Path(wanted))):
        return ConnectionInfo.from_file(_expanded(wanted))
    folder = runtime_dir()
    for name in (wanted, f"kernel-{wanted}", f"{wanted}.json", f"kernel-{wanted}.json"):
        if name.endswith(".json") and _is_file(folder / name):
            return ConnectionInfo.from_file(folder / name)
    fragment = wanted.removesuffix(".json")
    if len(fragment) < SHORTEST_FRAGMENT:
        raise KernelNotFound(
            wanted,
            ["the attached kernels"],
            f"A fragment of a connection file needs {SHORTEST_FRAGMENT} characters",
        )
    return _only_match(wanted, fragment, folder)


def running(folder: Path | None = None) -> Iterator[FoundKernel]:
    """Yield the kernels whose connection files are in ``folder`` (the runtime directory) and that
    listen.

    Files that cannot be used are passed over: stale and foreign ones are normal there.
    """
    for path in _files(folder or runtime_dir()):
        try:
            info = ConnectionInfo.from_file(path, warn=False)
            modified = path.stat().st_mtime
        except (ConnectionFileError, OSError):
            continue
        if listens(info):
            yield FoundKernel(info, modified)


def fragments() -> list[str]:
    """Return what names the connection files of this user: their names without what all have in
    common. Whether their kernels still run is not looked at."""
    return [path.stem.removeprefix("kernel-") for path in _files(runtime_dir())]


def listens(info: ConnectionInfo) -> bool:
    """Whether anybody listens on the kernel's shell channel. Proves no more than that."""
    try:
        if info.transport == "ipc":
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.settimeout(PROBE_TIMEOUT)
                sock.connect(f"{info.ip}-{info.shell_port}")
        else:
            address = (info.address, info.shell_port)
            socket.create_connection(address, timeout=PROBE_TIMEOUT).close()
    except (TimeoutError, BlockingIOError):
        # A far kernel behind a slow link, or one too busy to accept; neither is dead.
        return True
    except (OSError, ValueError):
        return False
    return True


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:  # ~somebody whom this machine does not know
        return Path(path)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _only_match(wanted: str, fragment: str, folder: Path) -> ConnectionInfo:
    pattern = fragment if any(mark in fragment for mark in "*?[") else f"*{fragment}*"
    paths = [path for path in _files(folder) if fnmatch.fnmatchcase(path.stem, pattern)]
    if not paths:
        raise KernelNotFound(wanted, ["the attached kernels", str(folder)])
    broken: ConnectionFileError | None = None
    alive: list[ConnectionInfo] = []
    for path in paths:
        try:
            info = ConnectionInfo.from_file(path)
        except ConnectionFileError as error:
            broken = error
        else:
            if listens(info):
                alive.append(info)
    if len(alive) > 1:
        raise AmbiguousKernel(wanted, sorted(info.name for info in alive))
    if alive:
        return alive[0]
    if broken is not None and len(paths) == 1:
        raise broken
    raise KernelNotFound(
        wanted,
        ["the attached kernels", str(folder)],
        f"{_plural(len(paths), 'file matches', 'files match')}, but no kernel listens there",
    )


def _files(folder: Path) -> list[Path]:
    try:
        paths = sorted(folder.iterdir())
    except OSError:
        return []
    # What else lies there (jpserver-*.json, nbserver-*.json) is of servers, not of kernels.
    return [
        path
        for path in paths
        if path.suffix == ".json" and not path.name.startswith(("jpserver-", "nbserver-"))
    ]


def _plural(count: int, one: str, many: str) -> str:
    return f"1 {one}" if count == 1 else f"{count} {many}"
