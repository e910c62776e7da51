"""Meeting a kernel that is on this machine, and of this user, at a Unix socket.

The socket lies in a folder that only this user can open; whoever comes there could do all the same
without us. So nobody has to be asked where a kernel is: one that can come is near, for all others
the values go as messages."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

from .asking import Asking
from .packing import Packed, can_sum
from .pipe import Damaged, Pipe
from .wire import Broken, Description, Memory

if TYPE_CHECKING:
    from ..kernel import Kernel

TOLD_AFTER = 8 * 1024 * 1024
"""Bytes after which somebody is told how far it is."""

OVERTAKEN_AFTER = 1.0
"""Seconds for the rest of what was sent, once the kernel has said that all of it was."""

CUT_AGAIN = 0.1
"""Seconds before what the thread may just have begun is cut once more."""


class Work(Protocol):
    """What is done with a kernel that has come."""

    nbytes: int
    """What it is about; 0 before that is known."""

    def __call__(self, pipe: Pipe, moved: Callable[[int], None]) -> None:
        """Do all of it; ``moved`` is told of every piece that has gone."""


class Giving:
    """Values of this process, to be sent."""

    def __init__(self, values: list[Packed]) -> None:
        self._parts = [part for value in values for part in value.parts]
        self.nbytes = sum(part.nbytes for part in self._parts)

    def __call__(self, pipe: Pipe, moved: Callable[[int], None]) -> None:
        """Send them, checked as the kernel can."""
        pipe.send(self._parts, summed=_agreed(pipe.hear()), moved=moved)


class Fetching:
    """Values of the kernel, of which kinds are known, to be received into ``memory``."""

    memory: Memory

    def __init__(self, kinds: list[str]) -> None:
        self._kinds = kinds
        self.nbytes = 0

    def __call__(self, pipe: Pipe, moved: Callable[[int], None]) -> None:
        """Receive them, and say that they are here."""
        said = pipe.hear()
        summed = _agreed(said)
        self.memory = Memory(Description.read_all(said, self._kinds))
        self.nbytes = sum(part.nbytes for part in self.memory.flat)
        pipe.fill(self.memory.flat, summed=summed, moved=moved)
        self.memory.finish()
        pipe.say("well")


def _agreed(said: Any) -> bool:
    """Return whether checksums are sums, as the kernel says; it was told whether they can be."""
    summed = said.get("sum") if isinstance(said, dict) else None
    if type(summed) is not bool or (summed and not can_sum()):
        raise Broken("the kernel takes another checksum than it was asked for")
    return summed


def can_meet(kernel: Kernel) -> bool:
    """Whether it may be near, and is worth being waited for."""
    return kernel.way is None and hasattr(socket, "AF_UNIX")


class Meeting:
    """A place where a kernel may come while a cell of ours runs there; a context manager.

    ``work`` is done on a thread of its own, so that the waiting one can do what it always does.
    ``moved`` is called there with the bytes that have gone and the bytes to move; it may hold the
    work up.
    """

    def __init__(self, asker: Asking, work: Work, moved: Callable[[int, int], None]) -> None:
        self.path = ""
        """Where it is; empty where there can be none."""
        self.came = False
        """The kernel has come."""
        self._asker, self._work, self._moved = asker, work, moved
        self._done = 0
        self._told = 0
        self._may_tell = threading.Semaphore()
        self._pipe: Pipe | None = None
        self._failed: Exception | None = None
        self._left = False
        self._thread = threading.Thread(target=self._wait, name="kernel_magics values", daemon=True)
        self._stack = ExitStack()

    def __enter__(self) -> Meeting:
        if can_meet(self._asker.kernel):
            with ExitStack() as stack, suppress(OSError):  # a folder whose name is too long, say
                folder = stack.enter_context(TemporaryDirectory(prefix="km-"))
                path = str(Path(folder) / "values")
                self._listener = stack.enter_context(socket.socket(socket.AF_UNIX))
                self._listener.bind(path)
                self._listener.listen()
                self.path = path
                self._thread.start()
                stack.callback(self._leave)
                self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def check(self) -> None:
        """Raise why it failed, as far as that is not just the kernel's going away.

        Raises:
            Broken: what came makes no sense, or has no room here.
        """
        if isinstance(self._failed, (Broken, Damaged)):
            raise Broken(str(self._failed)) from None

    def finish(self) -> None:
        """The cell is over, and well; so this is, too, if the kernel has come.

        Raises:
            Broken: it is not.
        """
        if not self.path:
            return
        if not self.came:
            self._knock()  # a kernel that has come and was not let in yet is let in before
        self._thread.join(OVERTAKEN_AFTER)
        if self.came:
            self._leave()
            self.check()
            if self._failed is not None:
                raise Broken("the kernel said that it was done, and was not") from self._failed
            self._moved(self._work.nbytes, self._work.nbytes)

    def _wait(self) -> None:
        sock, name = self._listener.accept()
        with Pipe(sock) as self._pipe:
            self.came = name != self._our_name
            if self.came:
                try:
                    self._work(self._pipe, self._count)
                except Exception as error:
                    self._failed = error

    def _leave(self) -> None:
        """End the thread, wherever it is."""
        self._left = True
        self._may_tell.release()
        if self._pipe is None:
            self._knock()
        while self._thread.is_alive():
            if self._pipe is not None:
                self._pipe.cut()
            self._thread.join(CUT_AGAIN)

    @property
    def _our_name(self) -> str:
        """What we come as, when it is only to have the thread go on; kernels have no name."""
        return str(Path(self.path).with_name("end"))

    def _knock(self) -> None:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as knock:  # done already, or too late
            knock.bind(self._our_name)
            knock.connect(self.path)

    def _count(self, nbytes: int) -> None:
        """So much more has gone; on the thread of its own."""
        if self._left or self._asker.leaving:
            raise EOFError("nobody wants it any more")
        self._done += nbytes
        if self._done - self._told >= TOLD_AFTER:
            self._told = self._done
            self._may_tell.acquire()
            self._asker.call(self._tell)

    def _tell(self) -> None:
        try:
            self._moved(self._told, self._work.nbytes)
        finally:
            self._may_tell.release()
