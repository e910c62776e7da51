"""What people look at: tables of kernels, as text and as HTML.

An object here is a snapshot with its time in it: shown again, it does not pretend to be news.
Whatever comes from a kernel or a file is escaped."""

from __future__ import annotations

import html
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ..connect.far import FarKernel
from ..connect.find import FoundKernel
from ..kernels.kernel import Kernel, KernelState
from .terminal import one_line

GLYPHS = {
    KernelState.STARTING: ("○", "inherit"),
    KernelState.IDLE: ("●", "var(--jp-success-color1, #388e3c)"),
    KernelState.BUSY: ("◐", "var(--jp-warn-color1, #b26a00)"),
    KernelState.SILENT: ("◌", "var(--jp-warn-color1, #b26a00)"),
    KernelState.LOST: ("▲", "var(--jp-warn-color1, #b26a00)"),
    KernelState.DEAD: ("✕", "var(--jp-error-color1, #c62828)"),
    KernelState.DETACHED: ("○", "inherit"),
}


@dataclass(frozen=True)
class Table:
    """Rows of text under a caption; ``colours`` has one CSS colour per row, for its first cell."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    colours: Sequence[str]

    def __str__(self) -> str:
        lines = [list(self.columns), *(list(row) for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        text = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
        return "\n".join([self.caption, *(line.rstrip() for line in text if self.rows)])

    def __repr__(self) -> str:
        return str(self)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": self._html()}

    def _html(self) -> str:
        def row(tag: str, cells: Sequence[str], colour: str = "inherit") -> str:
            first = f'<{tag} style="text-align:left;color:{colour}">{html.escape(cells[0])}</{tag}>'
            rest = (f'<{tag} style="text-align:left">{html.escape(c)}</{tag}>' for c in cells[1:])
            return f"<tr>{first}{''.join(rest)}</tr>"

        head = row("th", self.columns) if self.rows else ""
        rows = (row("td", r, c) for r, c in zip(self.rows, self.colours, strict=True))
        caption = f'<caption style="text-align:left">{html.escape(self.caption)}</caption>'
        return f"<table>{caption}{head}{''.join(rows)}</table>"


def kernels_table(kernels: Sequence[Kernel]) -> Table:
    """Return the attached kernels."""
    columns = ("state", "name", "language", "where", "pid", "runs")
    return Table(
        caption=_caption(
            len(kernels), "attached kernel", "%kernel_start or %kernel_attach adds one"
        ),
        columns=columns,
        rows=[_row(kernel) for kernel in kernels],
        colours=[GLYPHS[kernel.state][1] for kernel in kernels],
    )


def found_table(found: Sequence[FoundKernel], attached: Sequence[Kernel]) -> Table:
    """Return the kernels of this machine that could be attached, youngest first."""
    names = {kernel.info.name: kernel.name for kernel in attached}
    youngest_first = sorted(found, key=lambda each: -each.modified)
    return Table(
        caption=_caption(len(found), "kernel found here", "none left a connection file"),
        columns=("connection file", "kernel", "since", "attached as"),
        rows=[
            (
                each.name,
                one_line(each.info.kernel_name) or "-",
                time.strftime("%Y-%m-%d %H:%M", time.localtime(each.modified)),
                names.get(each.name, "-"),
            )
            for each in youngest_first
        ],
        colours=["inherit"] * len(found),
    )


def far_table(found: Sequence[FarKernel], host: str) -> Table:
    """Return the kernels of another machine, youngest first."""
    state = {True: "running", False: "ended?", None: "-"}
    return Table(
        caption=_caption(len(found), f"kernel on {host}", "no connection file there"),
        columns=("state", "connection file", "kernel", "age"),
        rows=[
            (
                state[each.runs],
                one_line(each.name),
                one_line(each.info.kernel_name) or "-",
                _age(each.age),
            )
            for each in found
        ],
        colours=["inherit"] * len(found),
    )


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def where(kernel: Kernel) -> str:
    """Say where a kernel is, how it is reached and whose it is."""
    info = kernel.info
    owner = "" if kernel.owned is None else (", kept" if kernel.owned.options.keep else ", ours")
    if kernel.way is not None:
        return f"{kernel.way}{owner}"
    place = "ipc" if info.transport == "ipc" else f"tcp {info.address}"
    secrecy = "" if info.transport == "ipc" else (" encrypted" if kernel.encrypted else " plain")
    return f"{place}{secrecy}{owner}"


def _row(kernel: Kernel) -> tuple[str, ...]:
    code = kernel.code_running
    first_line = "-" if code is None else one_line(code.strip().partition("\n")[0])
    return (
        f"{GLYPHS[kernel.state][0]} {kernel.state.value}",
        kernel.name,
        one_line(kernel.language) or "-",
        where(kernel),
        str(kernel.pid or "-"),
        first_line if kernel.finding is None else kernel.finding.reason,
    )


def _caption(count: int, what: str, when_none: str) -> str:
    now = time.strftime("%H:%M:%S")
    if count == 0:
        return f"no {what}s at {now}; {when_none}"
    return f"{count} {what}{'' if count == 1 else 's'} at {now}"
