"""Ends our kernels when this process ends, however it ends.

ipykernel watches its parent by itself, most kernels do not, and nothing removes sockets and
connection files after a `kill -9`. So one small child process holds the other end of a pipe: when
the pipe closes, it ends the kernels it was told of and removes their files. Run as a script, it
imports nothing but the standard library; it starts in some 10 ms and costs one process for any
number of kernels."""

from __future__ import annotations

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
        if hasattr(os, "register_at_fork"):
            forget = weakref.WeakMethod(self._forget_in_fork)
            os.register_at_fork(after_in_child=lambda: (method := forget()) and method())

    def watch(self, pid: int, paths: Sequence[str | Path]) -> None:
        """End process group ``pid`` and remove ``paths`` (files, or folders with all in them) with
        us."""
        self._tell({"watch": pid, "started": start_time(pid), "paths": [str(p) for p in paths]})

    def forget(self, pid: int) -> None:
        """The kernel was ended in the ordinary way."""
        self._tell({"forget": pid})

    def close(self) -> None:
        """Let the child see the end of the pipe, and wait for it."""
        with self._lock:
            child, self._child = self._child, None
        if child is not None:
            assert child.stdin is not None
            child.stdin.close()
            child.wait()

    def _forget_in_fork(self) -> None:
        # A forked child holds the pipe open as well, and would keep our kernels alive after us.
        child, self._child = self._child, None
        if child is not None and child.stdin is not None:
            child.stdin.close()
            child.returncode = 0  # not this process's child: its Popen must not wait for it

    def _tell(self, message: dict[str, Any]) -> None:
        with self._lock:
            if self._child is None:
                if "forget" in message:
                    return
                self._child = subprocess.Popen(
                    [sys.executable, "-I", "-S", __file__],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C in the terminal is not for it
                )
            assert self._child.stdin is not None
            self._child.stdin.write(json.dumps(message).encode() + b"\n")
            self._child.stdin.flush()


def start_time(pid: int) -> str:
    """Return what tells a process from a later one of the same number; empty where unknown."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]  # field 22 of proc(5), counted from behind the name


def main() -> None:
    """Read what to watch; at the end of the pipe, end it all."""
    watched: dict[int, dict[str, Any]] = {}
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if "watch" in message:
            watched[message["watch"]] = message
        else:
            watched.pop(message["forget"], None)
    alive = [pid for pid, about in watched.items() if start_time(pid) == about["started"]]
    for signum in (signal.SIGTERM, signal.SIGKILL):
        for pid in alive:
            try:
                os.killpg(pid, signum)
            except OSError:
                continue  # it is gone, or was never a group's leader
        deadline = time.monotonic() + POLITE
        while signum == signal.SIGTERM and alive and time.monotonic() < deadline:
            alive = [pid for pid in alive if start_time(pid) == watched[pid]["started"]]
            time.sleep(0.02)
    for about in watched.values():
        for path in about["paths"]:
            if Path(path).is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                Path(path).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
