"""Functions of the user that are called when something has happened to a kernel.

What they do is theirs: they may block, raise, restart the kernel or end it. So they run on a thread
of their own, which is there only while one of them has to be called."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Literal, get_args

from ..errors import KernelMagicsError

log = logging.getLogger("kernel_magics")

Callback = Callable[[], object]

Event = Literal["restart", "dead"]
"""Another process answers behind the kernel's name; nobody does any more."""


class Callbacks:
    """The functions that wait for the events of one kernel."""

    def __init__(self, kernel: str) -> None:
        self._kernel = kernel
        self._added: dict[str, list[Callback]] = {event: [] for event in get_args(Event)}
        self._due: deque[tuple[Event, Callback]] = deque()
        self._calling = False  # the thread is there
        # May be entered again: a signal handler may add one while another is being added.
        self._lock = threading.RLock()

    def add(self, event: Event, callback: Callback) -> None:
        """Have it called at each such event; added twice it is called twice.

        Raises:
            KernelMagicsError: there is no such event.
        """
        with self._lock:
            self._of(event).append(callback)

    def remove(self, event: Event, callback: Callback) -> None:
        """Never call it again, not even for what has happened already; one that was not added is
        fine.

        Raises:
            KernelMagicsError: there is no such event.
        """
        with self._lock:
            added = self._of(event)
            if callback in added:
                added.remove(callback)
            if callback not in added:
                self._due = deque(each for each in self._due if each != (event, callback))

    def fire(self, event: Event) -> None:
        """Have them called, in the order in which they were added and after those of earlier
        events; returns at once."""
        with self._lock:
            self._due.extend((event, callback) for callback in self._of(event))
            if self._due and not self._calling:
                name = f"kernel_magics callbacks of {self._kernel}"
                threading.Thread(target=self._call_all, name=name, daemon=True).start()
                self._calling = True

    def _of(self, event: Event) -> list[Callback]:
        if event not in self._added:
            known = " and ".join(map(repr, self._added))
            raise KernelMagicsError(f"a kernel has no event {event!r}; there are {known}")
        return self._added[event]

    def _call_all(self) -> None:
        while True:
            with self._lock:
                if not self._due:
                    self._calling = False
                    return
                event, callback = self._due.popleft()
            try:
                callback()
            except BaseException:  # also SystemExit: the next one is to be called all the same
                log.exception("%r failed at event %r of %s", callback, event, self._kernel)
