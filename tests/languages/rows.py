"""What a row is, and the page that is made of all rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tests.languages.stage import Stage

PAGE = Path(__file__).resolve().parents[2] / "docs" / "languages.md"

Whose = Literal["ours", "theirs"]
"""Whether the kernel was started here, or by somebody else and attached."""

OURS: tuple[Whose, ...] = ("ours",)
BOTH: tuple[Whose, ...] = ("ours", "theirs")


@dataclass(frozen=True)
class About:
    """One kernel, as the page introduces it."""

    name: str
    """As in ``tests.support.languages``, or what starts it."""
    title: str
    start: str
    """What is typed to start it."""
    words: str = ""
    """What else has to be known."""


@dataclass(frozen=True)
class Row:
    """One thing that is done in one kernel, and what is seen of it here.

    In texts ``{k}`` is the kernel's name, and ``…`` anything at all.
    """

    kernel: str
    topic: str
    code: str
    """What is typed, behind the ``%%remote`` that names the kernel."""
    shows: Sequence[str]
    """What is seen, in order; see `stage.seen`."""
    act: Callable[[Stage, str, str], list[str]] | None = None
    """Does it instead of running the code: with the kernel's name and the code."""
    remark: str = ""
    """What it means, where that is not plain; for the page."""
    whose: tuple[Whose, ...] = OURS

    @property
    def name(self) -> str:
        """For the test's name."""
        words = re.sub(r"[^a-z0-9]+", "_", self.topic.lower()).strip("_")
        return f"{self.kernel}-{words}"


def pattern(text: str, kernel: str) -> re.Pattern[str]:
    """What a line of a row stands for."""
    pieces = text.replace("{k}", kernel).split("…")
    return re.compile(".*?".join(map(re.escape, pieces)), re.DOTALL)


def matches(shows: Sequence[str], seen: Sequence[str], kernel: str) -> bool:
    """Whether that, and nothing else, was seen."""
    return len(shows) == len(seen) and all(
        pattern(expected, kernel).fullmatch(line) is not None
        for expected, line in zip(shows, seen, strict=True)
    )


INTRODUCTION = """\
# Kernels of other languages

Made from the rows of `tests/languages` by `python -m tests.languages`; do not edit it here. Each
row is a test with the real kernel: the code runs below `%%remote k` in a notebook, and exactly
what stands beside it is seen there, in this order. `…` stands for anything at all. *ours* is a
kernel that was started with `%kernel_start`, *theirs* one that somebody else started on this
machine and that was attached; where nothing is said it is ours.

What holds for all of them:

- Outputs come as the kernel sends them, whole and in order.
- Whether a cell has failed is what the kernel's reply says. Where a kernel calls a failed cell ok,
  it is ok here too, and Run All goes on.
- An interrupt never ends a kernel that could be known to end by it, and `%kernel_interrupt` says
  what was asked and what the kernel does then, never that a cell was interrupted.
- R and JavaScript give no sign of life while they compute; a cell of 40 s ends ok all the same
  (`tests/kernels/test_false_alarms.py`).

`docs/variables.md` has what becomes of variables, `docs/faults.md` what faulty kernels do.
"""


def page(kernels: Sequence[About], rows: Sequence[Row]) -> str:
    """The whole text of ``docs/languages.md``."""
    lines = [INTRODUCTION]
    for about in kernels:
        lines += [f"## {about.title}", "", f"`{about.start}`", ""]
        if about.words:
            lines += [about.words, ""]
        lines += ["| | what is typed | what is seen | |", "| --- | --- | --- | --- |"]
        lines += [_line(row) for row in rows if row.kernel == about.name]
        lines.append("")
    lines += [
        "The tests are `tests/languages/test_rows.py::test_row[KERNEL-TOPIC-WHOSE]`, where",
        "the topic is the words of the first column, joined by `_`.",
        "",
    ]
    return "\n".join(lines)


def _line(row: Row) -> str:
    seen = "; ".join(_code(each.replace("{k}", "k")) for each in row.shows) or "nothing"
    whose = " and ".join(row.whose) if row.whose != OURS else ""
    remark = ", ".join(filter(None, [whose, row.remark]))
    return f"| {row.topic} | {_code(row.code)} | {seen} | {remark} |"


def _code(text: str) -> str:
    """As code in a cell of a table, on one line."""
    text = text.strip("\n").replace("\n", " ⏎ ").replace("|", "\\|")
    fence = "``" if "`" in text else "`"
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"
