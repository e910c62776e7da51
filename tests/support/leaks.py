"""What a test has left behind: threads, processes, descriptors, files.

Linux only where it looks into ``/proc``; elsewhere threads and files are still compared.
"""

import gc
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.sandbox import MARK, Sandbox
from tests.support.waiting import wait_until

GRACE = 2.0
"""Seconds for what ends in the background: ZeroMQ closes sockets on a thread of its own."""

PERMANENT_THREADS: dict[str, str] = {}
"""Threads that one test may start for all that follow: the beginning of the name, and why."""

BROWSERS = ("chromium", "chrome", "headless_shell")
"""Their helpers come and go with what a page does, and late on a busy machine; they end with the
browser, which belongs to a whole module."""

PROBE = re.compile(r"[a-z0-9_]{8}")
"""The file by which Python's ``tempfile`` finds out whether it can write there, before it gives it
names of its own: a process that is killed just then leaves it."""

PROC = Path("/proc")


@dataclass(frozen=True)
class Snapshot:
    """What there was before a test."""

    sandbox: Sandbox
    threads: frozenset[threading.Thread]
    processes: frozenset[int]
    descriptors: frozenset[tuple[int, str]]
    files: frozenset[Path]

    @classmethod
    def take(cls, sandbox: Sandbox) -> "Snapshot":
        return cls(
            sandbox,
            frozenset(threading.enumerate()),
            frozenset(_all_processes()),
            frozenset(_descriptors()),
            frozenset(_files(sandbox)),
        )

    def leftovers(self, grace: float = GRACE) -> list[str]:
        """Wait until nothing is left; name exactly what still is when the grace has passed."""
        left: list[str] = []

        def nothing() -> bool:
            left[:] = self._left()
            return not left

        with suppress(TimeoutError):
            wait_until(nothing, grace, what="nothing is left")
        if left:
            # Only to tell the author more: garbage collection comes when it likes.
            gc.collect()
            still = set(self._left())
            left = [one if one in still else f"{one} (until garbage collection)" for one in left]
        return left

    def kill_leftover_processes(self) -> None:
        """End what was started in this sandbox, so that it cannot disturb later tests."""
        for pid in self._new_processes():
            if _marked(pid, self.sandbox):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _left(self) -> list[str]:
        return [
            *(f"thread {thread.name!r}" for thread in self._new_threads()),
            *(f"process {_described_process(pid)}" for pid in self._new_processes()),
            *(_described_descriptor(*one) for one in sorted(_descriptors() - self.descriptors)),
            *(f"file {path}" for path in sorted(_files(self.sandbox) - self.files)),
        ]

    def _new_threads(self) -> list[threading.Thread]:
        return [
            thread
            for thread in threading.enumerate()
            if thread not in self.threads and not thread.name.startswith(tuple(PERMANENT_THREADS))
        ]

    def _new_processes(self) -> list[int]:
        """Our descendants, and orphans that still carry our mark in their environment."""
        return [
            pid
            for pid in sorted(_all_processes() - self.processes)
            if (_descends(pid) or _marked(pid, self.sandbox)) and not self._helps_browser(pid)
        ]

    def _helps_browser(self, pid: int) -> bool:
        """Whether it belongs to a browser that was there before."""
        with suppress(psutil.Error):
            return any(
                parent.pid in self.processes and parent.name() in BROWSERS
                for parent in psutil.Process(pid).parents()
            )
        return False


def _all_processes() -> set[int]:
    """The numbers of all processes, as quickly as possible: this runs twice for each test."""
    if not PROC.is_dir():
        return set(psutil.pids())
    return {int(name) for name in os.listdir(PROC) if name.isdigit()}  # noqa: PTH208 - names only


def _descends(pid: int) -> bool:
    with suppress(psutil.Error):
        return any(parent.pid == os.getpid() for parent in psutil.Process(pid).parents())
    return False


def _marked(pid: int, sandbox: Sandbox) -> bool:
    """Whether its environment says that it was started in this sandbox, at whatever depth."""
    ours = f"{MARK}={sandbox.root}".encode()
    with suppress(OSError):
        return ours in (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    return False


def _described_process(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return f"{pid}: {process.name()}, ended but nobody has waited for it"
        return f"{pid}: {' '.join(process.cmdline())}"
    except psutil.Error:
        return f"{pid}: just ended"


def _descriptors() -> set[tuple[int, str]]:
    """Our open descriptors and what each is: sockets and pipes by their unique numbers."""
    return set(_read_descriptors()) if PROC.is_dir() else set()


def _read_descriptors() -> Iterator[tuple[int, str]]:
    folder = PROC / "self" / "fd"
    for name in os.listdir(folder):  # noqa: PTH208 - names only
        # One of them is the descriptor of this very listing; it is closed by now.
        with suppress(OSError):
            yield int(name), os.readlink(folder / name)  # noqa: PTH115 - not always a path


def _described_descriptor(number: int, target: str) -> str:
    if target.startswith("socket:"):
        with suppress(psutil.Error):
            for one in psutil.Process().net_connections("all"):
                if one.fd == number:
                    kind = "unix" if one.family == socket.AF_UNIX else "tcp"
                    return f"socket {number}: {kind} {one.laddr} {one.raddr} {one.status}"
    return f"descriptor {number}: {target}"


def _files(sandbox: Sandbox) -> set[Path]:
    """What is in the folders that a test has to leave empty.

    Whoever asks ``tempfile`` for a place, here or in a child, gets one in there: the system's own
    folder need not be watched, where other programs come and go.
    """
    return {
        Path(folder, name)
        for top in (sandbox.runtime, sandbox.temporary)
        for folder, folders, files in os.walk(top)  # which does not mind that some go meanwhile
        for name in (*folders, *files)
        if folder != str(sandbox.temporary) or not PROBE.fullmatch(name)
    }
