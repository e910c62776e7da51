"""Taking turns, and what is made of the figures.

Knows numbers and names only. Contenders take turns within each round, each round in another order,
so that the machine's moods hit all of them alike; medians are compared, never
single runs. Load adds to both sides and so flatters the slower one: the best five percent, "quiet",
are compared as well.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Contender = Callable[[], object]
Samples = dict[str, list[float]]

WARM_UP = 30
"""Rounds that are run and not counted."""


def take_turns(contenders: Mapping[str, Contender], rounds: int, warm_up: int = WARM_UP) -> Samples:
    """Time every contender once a round; return the seconds of each, in order of rounds.

    In a random order, the same in every run: who always came after the same neighbour would always
    find what that one leaves behind, cold caches and a kernel that still sends.
    """
    names = list(contenders)
    shuffled = random.Random(0)
    seconds: Samples = {name: [] for name in names}
    for number in range(-warm_up, rounds):
        for name in shuffled.sample(names, len(names)):
            contender = contenders[name]
            begin = time.perf_counter()
            contender()
            took = time.perf_counter() - begin
            if number >= 0:
                seconds[name].append(took)
    return seconds


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure has to be at most or at least."""

    kind: Literal["<=", ">="]
    value: float
    of: Literal["ratio", "median"] = "ratio"

    def met(self, row: Row) -> bool | None:
        """Whether the row meets it; None when it has no such figure."""
        figure = row.ratio if self.of == "ratio" else row.median
        if figure is None:
            return None
        return figure <= self.value if self.kind == "<=" else figure >= self.value

    def __str__(self) -> str:
        return f"{self.kind} {self.value:.3g}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    ``ratio`` is this line's median to that of the line it is compared with, ``quiet`` the same of
    ``best``. ``best`` and ``worst`` are the percentiles 5 and 95, for rates turned round.
    """

    name: str
    unit: str = ""
    best: float | None = None
    median: float | None = None
    worst: float | None = None
    samples: int = 0
    ratio: float | None = None
    quiet: float | None = None
    target: Target | None = None
    note: str = ""

    @property
    def ok(self) -> bool | None:
        """Whether the target is met; None when there is none."""
        return None if self.target is None else self.target.met(self)


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one measurement."""

    title: str
    rows: list[Row]


def row(
    name: str,
    samples: Sequence[float],
    unit: str,
    *,
    to: Sequence[float] | None = None,
    target: Target | None = None,
    rate: bool = False,
    note: str = "",
) -> Row:
    """Make a line of samples that are in ``unit`` already; ``to`` are those to compare with."""
    if not samples:
        return Row(name, unit, note=note or "not measured", target=target)
    median = statistics.median(samples)
    best = _percentile(samples, 5, rate=rate)
    return Row(
        name,
        unit,
        best,
        median,
        _percentile(samples, 95, rate=rate),
        len(samples),
        median / statistics.median(to) if to else None,
        best / _percentile(to, 5, rate=rate) if to else None,
        target,
        note,
    )


def _percentile(samples: Sequence[float], percent: int, *, rate: bool) -> float:
    ordered = sorted(samples, reverse=rate)
    return ordered[min(len(ordered) - 1, percent * len(ordered) // 100)]


def in_unit(samples: Sequence[float], factor: float) -> list[float]:
    """Return the samples in another unit: seconds times 1000 are milliseconds."""
    return [sample * factor for sample in samples]


def compare(samples: Samples, floor: str, targets: Mapping[str, Target] | None = None) -> list[Row]:
    """Make rows in milliseconds, each with its ratio to the floor."""
    return [
        row(
            name,
            in_unit(seconds, 1000),
            "ms",
            to=None if name == floor else in_unit(samples[floor], 1000),
            target=(targets or {}).get(name),
        )
        for name, seconds in samples.items()
    ]


def render(table: Table) -> str:
    """Return the table as text."""
    head = ("", "best", "median", "worst", "unit", "n", "ratio", "quiet", "target", "")
    lines = [head, *map(_cells, table.rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    text = [f"\n{table.title}"]
    for line in lines:
        cells = [
            cell.ljust(width) if column in (0, 4) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=False))
        ]
        text.append("  " + "  ".join([*cells, line[-1]]).rstrip())
    return "\n".join(text)


def _cells(line: Row) -> tuple[str, ...]:
    verdict = {True: "ok", False: "MISSED", None: ""}[line.ok]
    return (
        line.name,
        _figure(line.best),
        _figure(line.median),
        _figure(line.worst),
        line.unit,
        str(line.samples or ""),
        "" if line.ratio is None else f"{line.ratio:.2f}",
        "" if line.quiet is None else f"{line.quiet:.2f}",
        "" if line.target is None else str(line.target),
        "  ".join(filter(None, [verdict, line.note])),
    )


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
