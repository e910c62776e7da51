"""Silent cells on behalf of a transfer, and what Ctrl-C means while one is under way.

A cell of ours may stand in line behind somebody else's. Ctrl-C then leaves the line and does not
touch what runs; only a cell of ours that runs is interrupted."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from ...errors import (
    Aborted,
    Closed,
    ExecutionTimeout,
    KernelGone,
    KernelUnreachable,
    RemoteError,
    ReplyLost,
    TransferError,
    TransferInterrupted,
)
from ..ctrl_c import CtrlC
from ..options import Turn
from ..result import Result
from .packing import CannotPack, CannotUnpack
from .wire import BUSY_AFTER, IS_BUSY, Broken

if TYPE_CHECKING:
    from ...wire.reactor import Timer
    from ..execution import Execution
    from ..kernel import Kernel


ABORTED_FOR = 1.0
ABORTED_AGAIN = 0.05
"""Seconds for which, and after which, a cell is sent again that certainly did not run: kernels
abort what follows an error of anybody's too closely, tslab for 0.2 s."""


class _Left(BaseException):
    """Ctrl-C; not a KeyboardInterrupt, on which a cell interrupts the kernel."""


class Leaving(CtrlC):
    """What Ctrl-C does during a transfer: end it, at the next moment where nothing is half done."""

    def __init__(self) -> None:
        super().__init__()
        self._execution: Execution | None = None
        self._ends: list[Callable[[], None]] = []

    @contextmanager
    def watching(self, execution: Execution) -> Iterator[None]:
        """A cell is waited for: interrupt it if it runs, else leave."""
        self._execution = execution
        try:
            yield
        finally:
            self._execution = None

    def call_first(self, callback: Callable[[], None]) -> None:
        """The cell has been sent: what was pressed meanwhile counts now."""
        self._first = callback
        if self.pressed:
            self._act()

    def press(self) -> None:
        """Count a press, and do what it means now."""
        self.pressed += 1
        self._act()

    def _act(self) -> None:
        execution = self._execution
        if execution is None:
            for interrupt in self._ends:
                interrupt()
        elif self._first is None or execution.done:
            return  # it is being sent, or over: that is looked at in a moment
        elif execution.running and self.pressed == 1:
            execution.interrupt()
        else:
            raise _Left

    def _handle(self, signum: int, frame: object) -> None:
        self.press()

    def ends(self, interrupt: Callable[[], None]) -> None:
        """Between cells, call this as well."""
        self._ends.append(interrupt)
        if self.pressed:
            interrupt()

    def check(self) -> None:
        """Leave if it was pressed before."""
        if self.pressed:
            raise _Left


class Asking:
    """The cells of one transfer with one kernel."""

    def __init__(self, kernel: Kernel, ctrl_c: Leaving, say: Callable[[str], None]) -> None:
        self.kernel = kernel
        self._ctrl_c = ctrl_c
        self._say = say
        self._execution: Execution | None = None  # the cell that is waited for

    @property
    def leaving(self) -> bool:
        """Ctrl-C was pressed."""
        return self._ctrl_c.pressed > 0

    def call(self, callback: Callable[[], None]) -> None:
        """Have the thread that waits for our cell call it; from any thread."""
        if self._execution is not None:
            self._execution.call(callback)

    def check(self) -> None:
        """Leave if Ctrl-C was pressed."""
        self._ctrl_c.check()

    def interrupted_by(self, interrupt: Callable[[], None]) -> None:
        """From now on Ctrl-C, between cells, calls this."""
        self._ctrl_c.ends(interrupt)

    def run(self, code: str, *, silent: bool = True) -> Result:
        """Run code there, unseen.

        Raises:
            RemoteError, KernelGone, ...: as :meth:`Kernel.run`.
        """
        deadline = time.monotonic() + ABORTED_FOR
        while time.monotonic() < deadline:
            try:
                return self._run(code, silent)
            except Aborted as error:
                if error.may_have_run:
                    raise
            time.sleep(ABORTED_AGAIN)
        return self._run(code, silent)

    def _run(self, code: str, silent: bool) -> Result:
        self._ctrl_c.check()
        # In its turn: cells of ours that wait may set what is asked for, or use what is to be set.
        execution = self.kernel.submit(
            code, silent=silent, store_history=False, turn=Turn(keep_going=True, told=False)
        )
        self._execution = execution
        reactor = self.kernel.reactor

        def look() -> None:
            if not (execution.running or execution.done):
                execution.notice(IS_BUSY)

        timers: list[Timer] = []
        reactor.post(lambda: timers.append(reactor.call_later(BUSY_AFTER, look)))
        kept = []

        def show(item: Any) -> None:
            if isinstance(item, str):
                self._say(item)
            else:
                kept.append(item)

        try:
            with self._ctrl_c.watching(execution):
                result = execution.wait(show=show, ctrl_c=self._ctrl_c)
        except RemoteError as error:
            if self._ctrl_c.pressed:
                raise _Left from error
            raise
        finally:
            with suppress(Closed):
                reactor.post(lambda: timers.pop().cancel())
        return Result(**{**_fields(result), "outputs": kept})


@contextmanager
def ask_kernels(
    names: Sequence[str], kernels: Sequence[Kernel], say: Callable[[str], None]
) -> Iterator[list[Asking]]:
    """Ask kernels, one after another; whatever goes wrong becomes the one error of a transfer.

    Raises:
        TransferError: with the name of the value if it is known, else all names.
        TransferInterrupted: by Ctrl-C.
    """
    values, where = ", ".join(names), ", ".join(each.name for each in kernels)
    try:
        ctrl_c = Leaving()
        with ctrl_c:
            yield [Asking(kernel, ctrl_c, say) for kernel in kernels]
    except (_Left, KeyboardInterrupt):
        raise TransferInterrupted(values, where) from None
    except RemoteError as error:
        name, reason = _refused(error)
        raise TransferError(name or values, error.kernel, reason) from None
    except (Broken, CannotPack, CannotUnpack, Aborted, ReplyLost) as error:
        raise TransferError(values, where, printable(str(error))) from None
    except KernelGone as error:
        raise TransferError(values, error.kernel, f"the kernel {error.reason}") from error
    except (KernelUnreachable, ExecutionTimeout, Closed) as error:
        raise TransferError(values, where, printable(str(error))) from error


def printable(text: str, limit: int = 1000) -> str:
    """Return what a kernel said, without what a terminal would obey."""
    shown = "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text[:limit])
    return shown if len(text) <= limit else shown + "..."


def kind_of(error: RemoteError) -> str:
    """Return the bare name of the remote error's class; xeus-python says ``<class 'a.B'>``."""
    words: list[str] = re.findall(r"\w+", error.ename)
    return words[-1] if words else ""


def _refused(error: RemoteError) -> tuple[str, str]:
    if kind_of(error) == "Refused":
        try:
            name, reason = json.loads(error.evalue)
        except (ValueError, RecursionError):
            pass
        else:
            if isinstance(name, str) and isinstance(reason, str):
                return printable(name), printable(reason)
    return "", printable(f"{kind_of(error)}: {error.evalue}".removeprefix(": "))


def _fields(result: Result) -> dict[str, Any]:
    return {name: getattr(result, name) for name in Result.__dataclass_fields__}
