"""Sleeping until one of many file descriptors can be read.

`selectors` does that everywhere, but takes three times as long as the one call that it makes; and
the I/O thread goes to sleep two or three times for every cell."""

from __future__ import annotations

import select
import selectors
from typing import Any, Protocol


class Sleeper(Protocol):
    """Knows descriptors, and of each what it stands for to whoever sleeps."""

    def add(self, descriptor: int, what: Any) -> None:
        """Wake up for one more."""

    def remove(self, descriptor: int) -> None:
        """Wake up for it no longer; to be said before it is closed."""

    def sleep(self, seconds: float) -> list[Any]:
        """Sleep until some can be read, but no longer than that; return what those stand for.

        Meanwhile another thread may add some, or remove them.
        """

    def close(self) -> None:
        """Let go of what it takes to sleep."""


class AnySleeper:
    """Wherever Python runs."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def add(self, descriptor: int, what: Any) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, what)

    def remove(self, descriptor: int) -> None:
        self._selector.unregister(descriptor)

    def sleep(self, seconds: float) -> list[Any]:
        return [key.data for key, _ in self._selector.select(seconds)]

    def close(self) -> None:
        self._selector.close()


class LinuxSleeper:
    """Where there is `epoll`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._what: dict[int, Any] = {}

    def add(self, descriptor: int, what: Any) -> None:
        self._what[descriptor] = what  # first: another thread may be asleep, and wake at once
        self._epoll.register(descriptor, select.EPOLLIN)

    def remove(self, descriptor: int) -> None:
        del self._what[descriptor]
        self._epoll.unregister(descriptor)

    def sleep(self, seconds: float) -> list[Any]:
        known = self._what
        ready = self._epoll.poll(seconds, len(known) or 1)
        return [known[each] for each, _ in ready if each in known]

    def close(self) -> None:
        self._epoll.close()


def make_sleeper() -> Sleeper:
    """Return the quickest there is."""
    return LinuxSleeper() if hasattr(select, "epoll") else AnySleeper()
