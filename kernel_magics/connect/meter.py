"""What processes of this machine use of it, each together with those that it has started."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import psutil
from psutil import Process

SHORTEST = 0.1
"""Seconds over which is measured, at least, how busy a process is."""


@dataclass(frozen=True, slots=True)
class Reading:
    """``cpu`` is in percent of one core, ``memory`` in bytes."""

    cpu: float
    memory: int


class Meter:
    """Reads time and again: how busy a process is, is said of the time since it was read last."""

    def __init__(self) -> None:
        self._before: dict[Process, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def read(self, pids: Iterable[int]) -> dict[int, Reading]:
        """Return the readings of those that live.

        It takes ``SHORTEST`` seconds if one of them is new or was read just now.
        """
        families = _families(pids)
        with self._lock:
            before = self._since(families)
            readings, self._before = {}, {}
            for family in families:
                process, (then, busy_then) = family[0], before[family[0]]
                now, busy = time.monotonic(), _busy_for(family)
                cpu = 100 * max(0.0, busy - busy_then) / (now - then)
                readings[process.pid] = Reading(cpu, _memory_of(family))
                self._before[process] = now, busy
        return readings

    def _since(self, families: list[list[Process]]) -> dict[Process, tuple[float, float]]:
        """Return for how long each had worked at some time before, ``SHORTEST`` ago at least."""
        now = time.monotonic()
        known = {
            process: (then, busy)
            for process, (then, busy) in self._before.items()
            if now - then >= SHORTEST
        }
        new = {family[0]: (now, _busy_for(family)) for family in families if family[0] not in known}
        if new:
            time.sleep(SHORTEST)
        return known | new


def _families(pids: Iterable[int]) -> list[list[Process]]:
    """Return these processes, each followed by all that descend from it."""
    children = defaultdict(list)
    for process in psutil.process_iter(["ppid"]):
        children[process.info["ppid"]].append(process)
    families = []
    for pid in pids:
        with suppress(psutil.Error):
            family = [Process(pid)]
            for member in family:  # which grows meanwhile
                family += children[member.pid]
            families.append(family)
    return families


def _busy_for(family: list[Process]) -> float:
    """Return the seconds that a core has worked for them, and for those of them that have ended."""
    seconds = 0.0
    for process in family:
        with suppress(psutil.Error):
            seconds += sum(process.cpu_times()[:4])  # its own, and its ended children's
    return seconds


def _memory_of(family: list[Process]) -> int:
    """Return the bytes that they hold; what they share counts once, where that can be told."""
    size = 0
    for process in family:
        with suppress(psutil.Error):
            full = process.memory_full_info()
            size += getattr(full, "pss", full.rss)
    return size
