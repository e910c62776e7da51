"""Children that certainly end: with their context, with the test run, and if that is killed too."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.support.waiting import PATIENCE

WATCH = """
import os, shutil, signal, sys
groups = set()
for line in sys.stdin:
    sign, group = line[0], int(line[1:])
    (groups.add if sign == "+" else groups.discard)(group)
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass
for folder in sys.argv[1:]:
    shutil.rmtree(folder, ignore_errors=True)
"""


class Guard:
    """A small process that outlives a killed test run just long enough to end what it left.

    It reads on a pipe which process groups live; the pipe closes when the test process ends,
    in whatever way (a ``SIGKILL`` by CI, ``os._exit`` by pytest-timeout).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self, *folders: Path) -> None:
        """Start it; it removes ``folders`` at the end. Called again it does nothing."""
        with self._lock:
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-S", "-c", WATCH, *map(str, folders)],
                    stdin=subprocess.PIPE,
                    text=True,
                    start_new_session=True,  # a Ctrl-C for pytest is not for the guard
                )

    def watch(self, group: int) -> None:
        self.start()
        self._tell(f"+{group}\n")

    def forget(self, group: int) -> None:
        self._tell(f"-{group}\n")

    def close(self) -> None:
        """End it, and with it all that it still watches and the folders."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.communicate(timeout=PATIENCE)

    def _tell(self, line: str) -> None:
        with self._lock:
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.write(line)
                self._process.stdin.flush()


guard = Guard()
"""One for the whole test run; ``conftest`` starts and closes it."""


class Process:
    """A child in a session of its own; ``close()`` ends the whole session.

    A person who starts a kernel by hand gets a process group too: a shell makes one for each job.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
    ) -> None:
        """Start it, with stdout and stderr appended to ``log`` and nothing on stdin."""
        self.argv, self.log = list(argv), log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                self.argv,
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        guard.watch(self.pid)

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs. Its corpse is kept, for ``close()`` to find what it left."""
        if self.popen.returncode is not None:
            return False
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    @property
    def output(self) -> str:
        """What it has printed until now."""
        return self.log.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process only."""
        os.kill(self.pid, number)

    def send_group(self, number: signal.Signals) -> None:
        """Send a signal to it and its children, as Jupyter servers do with their kernels."""
        os.killpg(self.pid, number)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait for its end and return its exit code (negative: the signal that ended it)."""
        return self.popen.wait(timeout)

    def close(self) -> None:
        """Kill it and its group, and wait for the end. It may be gone already."""
        if self.popen.returncode is None:
            # Before the corpse is collected the number cannot have passed to a stranger.
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.popen.wait(PATIENCE)
        guard.forget(self.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def ssh_below(pid: int | None = None) -> dict[psutil.Process, list[str]]:
    """The ssh processes that a process (by default this one) has started, directly or not, with
    their command lines. One that ends meanwhile is none."""
    found = {}
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if process.name() == "ssh":
                found[process] = process.cmdline()
    return found
