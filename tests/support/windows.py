"""Windows without a screen: an X server of a test's own, what is seen on it, who opened what."""

import os
import re
import signal
import uuid
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from queue import Empty
from types import TracebackType
from typing import Self

import psutil

from tests.support.connection import Info
from tests.support.kernels import connected
from tests.support.processes import Process, guard
from tests.support.sandbox import Sandbox
from tests.support.waiting import Deadline, wait_until

Colour = tuple[int, int, int]
"""Red, green, blue."""

SIZE = (1000, 700)
"""Pixels of a display."""


class Display:
    """One Xvfb; ``close()`` ends it, and with it every window that it shows."""

    def __init__(self, sandbox: Sandbox) -> None:
        """Start it on a number that nobody uses, and wait until it takes windows."""
        screen = "{}x{}x24".format(*SIZE)
        with ExitStack() as stack:
            self._process = stack.enter_context(
                Process(
                    # It chooses the number itself, and writes it once it is ready.
                    ["Xvfb", "-displayfd", "1", "-screen", "0", screen, "-nolisten", "tcp"],
                    env=sandbox.environment(),
                    cwd=sandbox.work,
                    log=sandbox.work / f"xvfb-{uuid.uuid4().hex[:8]}.log",
                )
            )
            stack.callback(self._end)
            self.name = wait_until(self._number, what=lambda: f"Xvfb runs\n{self._process.output}")
            self._close = stack.pop_all().close

    def count(self, colour: Colour) -> int:
        """Take a screenshot and count the pixels that have exactly this colour."""
        from PIL import ImageGrab

        shot = ImageGrab.grab(xdisplay=self.name).convert("RGB")
        assert shot.size == SIZE
        return sum(number for number, seen in shot.getcolors(SIZE[0] * SIZE[1]) if seen == colour)

    def save(self, path: Path) -> None:
        """Take a screenshot for people to look at."""
        from PIL import ImageGrab

        ImageGrab.grab(xdisplay=self.name).save(path)

    def close(self) -> None:
        """End the server; idempotent."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _number(self) -> str | None:
        if not self._process.alive:
            raise RuntimeError(f"Xvfb ended at once:\n{self._process.output}")
        found = re.search(r"^(\d+)\n", self._process.output, re.MULTILINE)
        return f":{found[1]}" if found else None

    def _end(self) -> None:
        """Politely: it then removes its lock and its socket, which are in the system's folders."""
        if self._process.alive:
            self._process.send(signal.SIGTERM)
            self._process.wait()


def qt_variables(sandbox: Sandbox, display: Display | None = None) -> dict[str, str]:
    """What a process needs for its windows: to be seen on a display, or drawn into memory."""
    where = {"QT_QPA_PLATFORM": "offscreen"}
    if display is not None:
        where = {"QT_QPA_PLATFORM": "xcb", "DISPLAY": display.name}
    cache = {"XDG_CACHE_HOME": str(sandbox.root / "cache"), "XDG_RUNTIME_DIR": str(sandbox.root)}
    return {**where, **cache}


def stand_in(folder: Path, code: str) -> dict[str, str]:
    """Write a program that is taken for qtconsole, for what the real one does not do on demand.

    Returns the variables by which a child finds it; for this process ``folder`` has to be in
    ``sys.path`` as well.
    """
    for package in ("qtconsole", "PySide6"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").touch()
    (folder / "qtconsole" / "__main__.py").write_text(code)
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths)}


@contextmanager
def window(pid: int) -> Generator[psutil.Process]:
    """A window that somebody has opened; afterwards it is ended, by force."""
    guard.watch(pid)
    process = psutil.Process(pid)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if process.is_running():
                os.killpg(pid, signal.SIGKILL)
        wait_until(lambda: ended(process), what=f"window {pid} is gone")
        guard.forget(pid)


def ended(process: psutil.Process) -> bool:
    """Whether it runs no more; an orphan may wait for ever to be collected."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    return True


class Listener:
    """One more client, which only listens to what a kernel publishes; see ``listening``."""

    def __init__(self, get_message: Callable[[float], Info]) -> None:
        self._get_message = get_message

    def console_session(self) -> str:
        """Wait until a console has asked the kernel for its history; return its session.

        Nobody else does that here: kernel_magics never, `jupyter_client` not by itself.
        """
        return self.session_of("history_request")

    def session_of(self, msg_type: str) -> str:
        """Wait until the kernel works on a request of a type; return whose it is."""
        deadline = Deadline()
        while True:
            try:
                parent = self._get_message(deadline.left)["parent_header"]
            except Empty:
                raise TimeoutError(f"nobody has sent a {msg_type}") from None
            if parent.get("msg_type") == msg_type:
                return str(parent["session"])


@contextmanager
def listening(info: Info) -> Generator[Listener]:
    """Listen to a kernel; nothing that is published from here on is missed."""
    with connected(info, "iopub", "shell") as client:

        def heard() -> bool:
            # A subscription takes effect at some time: ask until an answer is seen.
            client.kernel_info()
            with suppress(Empty):
                return bool(client.iopub_channel.get_msg(timeout=0.1))
            return False

        wait_until(heard, what="the kernel is heard")

        yield Listener(lambda timeout: client.iopub_channel.get_msg(timeout=timeout))
