"""Ends our kernels when this process ends, however it ends.

ipykernel watches its parent by itself, most kernels do not, and nothing removes sockets and
connection files after a `kill -9`. So one small child process holds the other end of a pipe: when
the pipe closes, it ends the kernels it was told of and removes their files. Run as a script, it
imports nothing but the standard library; it starts in some 10 ms and costs one process for any
number of kernels."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

POLITE = 1.0
"""Seconds between SIGTERM and SIGKILL."""


class Watcher:
    """The end of the pipe that this process holds. Starts the child with the first kernel."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._watched: dict[int, bytes] = {}
        if hasattr(os, "register_at_fork"):
            forget = weakref.WeakMethod(self._forget_in_fork)
            os.register_at_fork(after_in_child=lambda: (method := forget()) and method())

    def watch(self, pid: int, paths: Sequence[str | Path]) -> None:
        """End process group ``pid`` with us, and remove ``paths``: files, or folders with all in
        them."""
        about = {"watch": pid, "started": start_time(pid), "paths": [str(p) for p in paths]}
        with self._lock:
            self._watched[pid] = _line(about)
            try:
                self._tell(self._watched[pid])
            except OSError:
                # Somebody has ended the child; the next one has to know all of them.
                self._drop_child()
                self._tell(b"".join(self._watched.values()))

    def forget(self, pid: int) -> None:
        """The kernel was ended in the ordinary way."""
        with self._lock:
            if self._watched.pop(pid, None) is not None and self._child is not None:
                with contextlib.suppress(OSError):  # no child, nothing to forget
                    self._tell(_line({"forget": pid}))
                if not self._watched:
                    self._drop_child()

    def close(self) -> None:
        """Let the child see the end of the pipe, and wait for it."""
        with self._lock:
            self._drop_child()
            self._watched.clear()

    def _tell(self, lines: bytes) -> None:
        if self._child is None:
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                cwd="/",
                start_new_session=True,  # Ctrl-C in the terminal is not for it
            )
        assert self._child.stdin is not None
        self._child.stdin.write(lines)

    def _drop_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            assert child.stdin is not None
            child.stdin.close()
            child.wait()

    def _forget_in_fork(self) -> None:
        # A forked child holds the pipe open as well, and would keep our kernels alive after us.
        child, self._child = self._child, None
        self._lock = threading.Lock()  # another thread may have held it when the process forked
        if child is not None and child.stdin is not None:
            child.stdin.close()
            child.returncode = 0  # not this process's child: its Popen must not wait for it


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped (SIGSTOP, a debugger); False where that is unknown."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] in ("T", "t")


def start_time(pid: int) -> str:
    """Return what tells a process from a later one of the same number.

    Empty for one that has ended, collected or not, and where that cannot be known.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()  # from field 3 of proc(5) on, behind the name
    return "" if fields[0] in "ZX" else fields[19]


def main() -> None:
    """Read what to watch; at the end of the pipe, end it all."""
    watched: dict[int, dict[str, Any]] = {}
    for line in sys.stdin.buffer:
        try:
            message = json.loads(line)
        except ValueError:
            break  # our process ended in the middle of a line
        if "watch" in message:
            watched[message["watch"]] = message
        else:
            watched.pop(message["forget"], None)
    ours = [pid for pid, about in watched.items() if start_time(pid) == about["started"]]
    _signal(ours, signal.SIGTERM)
    deadline = time.monotonic() + POLITE
    while time.monotonic() < deadline and any(
        start_time(pid) == watched[pid]["started"] for pid in ours
    ):
        time.sleep(0.02)
    # The whole groups: a kernel that ended may have left children that did not listen.
    _signal(ours, signal.SIGKILL)
    for about in watched.values():
        for path in about["paths"]:
            with contextlib.suppress(OSError):
                if Path(path).is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    Path(path).unlink(missing_ok=True)


def _signal(groups: list[int], signum: signal.Signals) -> None:
    for group in groups:
        with contextlib.suppress(OSError):  # it is gone, or was never a group's leader
            os.killpg(group, signum)


if __name__ == "__main__":
    main()
