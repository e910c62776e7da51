"""What a kernel says after the end of the cell: where that is shown, if nobody shows the rest."""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING, Any

from ..kernels.inbox import Inbox
from .output import RawRelay, count, presenter

if TYPE_CHECKING:
    from ..kernels.events import Show, Sink
    from ..kernels.kernel import Kernel
    from ..protocol.message import Message
    from .session import LocalSession

log = logging.getLogger("kernel_magics")

STAYS_FOR = 1.0
"""Seconds without anything to print after which the thread that prints ends."""


def late_sink(session: LocalSession, kernel: Kernel) -> Sink:
    """Return what takes late output of the cell that runs now, which a capture or a terminal shows
    until its end."""
    iopub, shell = session.iopub, session.shell
    local: Any = getattr(shell, "kernel", None)
    if iopub is not None and (parent := local.get_parent("shell").get("header")):
        comms = session.comms_with(kernel)
        return RawRelay(kernel.name, iopub, kernel.reactor, parent, count(shell), comms)
    return LateLines(kernel.name, presenter(session, kernel, alone=False))


class LateLines:
    """A sink that prints, each line with the kernel's name: above the prompt in a terminal.

    By a thread of its own, because a terminal can be slow, or stopped by Ctrl-S.
    """

    def __init__(self, name: str, show: Show) -> None:
        self._name = name
        self._show = show
        self._inbox = Inbox()
        self._printing = False
        self._lock = threading.Lock()

    def output(self, message: Message) -> None:
        """Print it soon."""
        self._put(message)

    def notice(self, text: str) -> None:
        """Print it soon."""
        self._put(text)

    def finish(self) -> None:
        """Nothing is kept."""

    def _put(self, item: Message | str) -> None:
        with self._lock:
            self._inbox.put(item)
            if not self._printing:
                self._printing = True
                name = f"kernel_magics late output of {self._name}"
                threading.Thread(target=self._print, name=name, daemon=True).start()

    def _print(self) -> None:
        while True:
            try:
                item = self._inbox.get(STAYS_FOR)
            except queue.Empty:
                with self._lock:
                    try:
                        item = self._inbox.get(0)
                    except queue.Empty:
                        self._printing = False
                        return
            try:
                self._show(item)
            except Exception:
                log.exception("late output of %s could not be shown", self._name)
