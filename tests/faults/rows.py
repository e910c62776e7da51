"""What a row is, and the table that is made of all rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.faces import BOTH, Kind, Seen

if TYPE_CHECKING:
    from tests.faults.stage import Scene

FILES = {
    "test_liars": "Kernels that send what they should not, or not what they should",
    "test_deaths": "Kernels that end, stop or are replaced",
    "test_connection": "The way to the kernel",
    "test_files": "The connection file",
    "test_hosts": "What happens on this side",
}
"""The test files that have rows, in the order of the table, and what each is about."""

TABLE = Path(__file__).resolve().parents[2] / "docs" / "faults.md"

SOON = 4.0
"""Seconds for what takes some 0.1 s where nothing else runs; test machines are very busy."""


QUICK = {
    "cut",
    "tunnel_to_nobody",
    "killed",
    "replaced_20_times",
    "listened_to_amid",
    "stubborn",
    "host_killed",
}
"""The slow rows of the quick tier, one of each kind; all others are of the full one."""


@dataclass(frozen=True)
class Fault:
    """One fault, and what has to be seen of it.

    In texts ``{k}`` is the kernel's name, and ``…`` anything at all.
    """

    name: str
    what: str
    """The fault, for the table."""
    act: Callable[[Scene], Seen]
    """Makes it happen; returns the cell in which it was seen."""
    shows: Sequence[str] = ("before", "after")
    """Texts that the cell shows, each once and in this order."""
    hides: Sequence[str] = ()
    """Texts that it must not show."""
    error: tuple[str, str] | None = None
    """The name and the sentence of the error that ends the cell; None if it succeeds."""
    notice: str | None = None
    """The one sentence of ours among the cell's outputs; None if there is none."""
    explained: bool = False
    """The cell's outputs say what failed, so that the error adds nothing to them."""
    asks: Sequence[str] = ()
    """The questions of the kernel that are asked here."""
    raw: Sequence[str] = ()
    """What a terminal gets to the letter, control characters included."""
    remark: str = ""
    """What else the user sees, and the row itself checks; for the table."""
    ran: bool | None = None
    """What ``may_have_run`` of the error says; None for errors that have none."""
    within: float = SOON
    """Seconds until the cell's end, from its start or from when the fault strikes."""
    hosts: Sequence[Kind] = BOTH
    ends: bool = False
    """The kernel is no more afterwards, so that the next cell runs in another."""
    host_ends: bool = False
    """The host is no more afterwards, so that there is no next cell."""
    slow: bool = False
    """It takes seconds by its nature, and is played at the same time as others."""
    full: bool = False
    """It takes even longer."""

    @property
    def in_full_tier(self) -> bool:
        """Whether it is left out of the quick one."""
        return self.full or (self.slow and self.name not in QUICK)

    @property
    def sees(self) -> str:
        """What the user sees, in words: exactly what is checked."""
        said: list[str] = []
        if self.error is not None:
            kind, sentence = self.error
            named = "an error named after it" if "…" in kind else f"`{kind}`"
            said.append(named + (f": {_readable(sentence)}" if sentence else ""))
        if self.notice is not None:
            said.append(f"all as usual and one line: {_readable(self.notice)}")
        if self.notice is not None and self.error is not None:
            said[-1] = f"one line before that: {_readable(self.notice)}"
        if not said and (self.hides or not self.remark):
            said.append("all else as usual; it is not shown" if self.hides else "all as usual")
        if self.remark:
            said.append(self.remark)
        return "; ".join(said)


class Rows(list[Fault]):
    """The rows of one file."""

    def fault(
        self, what: str, **expectations: object
    ) -> Callable[[Callable[[Scene], Seen]], Callable[[Scene], Seen]]:
        """Make a row of a function that lets the fault happen; its name is the row's."""

        def add(act: Callable[[Scene], Seen]) -> Callable[[Scene], Seen]:
            self.append(Fault(act.__name__, what, act, **expectations))  # type: ignore[arg-type]
            return act

        return add


def pattern(sentence: str, kernel: str) -> re.Pattern[str]:
    """What finds a sentence of a row in a text."""
    pieces = sentence.replace("{k}", kernel).split("…")
    return re.compile(".*?".join(map(re.escape, pieces)), re.DOTALL)


def matches(sentence: str, text: str, kernel: str) -> bool:
    """Whether the text contains the sentence."""
    return pattern(sentence, kernel).search(text) is not None


def all_rows() -> dict[str, Rows]:
    """The rows of all files, in the order of the table."""
    return {name: import_module(f"tests.faults.{name}").ROWS for name in FILES}


def table() -> str:
    """The whole text of ``docs/faults.md``."""
    lines = [
        "# What goes wrong, and what you see",
        "",
        "Made from the rows of `tests/faults` by `python -m tests.faults`; do not edit it here.",
        "Each row is a test, played in a notebook and in a terminal unless one of them is named.",
        "In every one of them, besides what the row says: what the kernel printed before and after",
        "is shown, there is at most one line of ours in a cell, no traceback but the user's own,",
        "and the next cell works, in the same kernel if it still lives.",
        "",
        "In the sentences `gpu` stands for the kernel's name and `…` for what differs each time.",
        "Seconds count from the fault to the end of the cell, and are what the test allows on a",
        "busy machine: most of it takes a tenth of that.",
        "",
    ]
    for file, rows in all_rows().items():
        lines += [f"## {FILES[file]}", "", f"`tests/faults/{file}.py::test_fault[...]`", ""]
        lines += ["| fault | what you see | within | test |", "| --- | --- | --- | --- |"]
        lines += [_line(row) for row in rows]
        lines.append("")
    return "\n".join(lines)


def _line(row: Fault) -> str:
    where = "" if tuple(row.hosts) == BOTH else f" ({', '.join(row.hosts)} only)"
    tier = " (full tier)" if row.in_full_tier else ""
    cells = (row.what + where, row.sees, f"{row.within:g} s", f"`{row.name}`{tier}")
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _readable(sentence: str) -> str:
    return f"“{sentence.replace('{k}', 'gpu')}”"
