"""Sleeping until one of many file descriptors can be read.

`selectors` does that everywhere, but takes three times as long as the one call that it makes; and
the I/O thread goes to sleep two or three times for every cell."""

from __future__ import annotations

import select
import selectors
from typing import Protocol


class Sleeper(Protocol):
    """Knows the descriptors that wake it up."""

    def add(self, descriptor: int) -> None:
        """Wake up for one more."""

    def remove(self, descriptor: int) -> None:
        """Wake up for it no longer; to be said before it is closed."""

    def sleep(self, seconds: float) -> list[tuple[int, int]]:
        """Sleep until some can be read, but no longer than that; return those, each with an event.

        Meanwhile another thread may add some, or remove them, also such as are returned then.
        """

    def close(self) -> None:
        """Let go of what it takes to sleep."""


class AnySleeper:
    """Wherever Python runs."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def add(self, descriptor: int) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ)

    def remove(self, descriptor: int) -> None:
        self._selector.unregister(descriptor)

    def sleep(self, seconds: float) -> list[tuple[int, int]]:
        return [(key.fd, event) for key, event in self._selector.select(seconds)]

    def close(self) -> None:
        self._selector.close()


class LinuxSleeper:
    """Where there is `epoll`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.sleep = self._epoll.poll

    def add(self, descriptor: int) -> None:
        self._epoll.register(descriptor, select.EPOLLIN)

    def remove(self, descriptor: int) -> None:
        self._epoll.unregister(descriptor)

    def close(self) -> None:
        self._epoll.close()


def make_sleeper() -> Sleeper:
    """Return the quickest there is."""
    return LinuxSleeper() if hasattr(select, "epoll") else AnySleeper()
