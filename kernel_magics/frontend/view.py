"""What people look at: tables of kernels, as text and as HTML.

An object here is a snapshot with its time in it: shown again, it does not pretend to be news.
Whatever comes from a kernel or a file is escaped."""

from __future__ import annotations

import html
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..connect.far import FarKernel
from ..connect.find import FoundKernel
from ..connect.processes import serving
from ..kernels.jobs import Job
from ..kernels.kernel import Kernel
from ..kernels.life import KernelState
from ..kernels.usage import Usage
from .background import LOOKS, duration, status_of
from .terminal import one_line

GLYPHS = {
    KernelState.STARTING: ("○", "inherit"),
    KernelState.IDLE: ("●", "var(--jp-success-color1, #388e3c)"),
    KernelState.BUSY: ("◐", "var(--jp-warn-color1, #b26a00)"),
    KernelState.SILENT: ("◌", "var(--jp-warn-color1, #b26a00)"),
    KernelState.LOST: ("▲", "var(--jp-warn-color1, #b26a00)"),
    KernelState.AWAY: ("▲", "var(--jp-error-color1, #c62828)"),
    KernelState.DEAD: ("✕", "var(--jp-error-color1, #c62828)"),
    KernelState.DETACHED: ("○", "inherit"),
}


NOTHING = "-"

OPTIONAL = frozenset({"queue", "cpu", "memory"})


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


def after_interrupt(kernel: Kernel) -> str:
    """Say what became of a kernel that was interrupted: nobody but itself knows more than that."""
    if kernel.finding is not None:
        return f"{kernel.name} {kernel.finding.reason}"
    became = kernel.state.value
    if kernel.state is KernelState.BUSY:
        became = "busy still"
        if kernel.owned is not None:
            became += f" (%kernel_restart {kernel.name} would end it)"
    return f"asked {kernel.name} to interrupt what runs there; it is {became}"


def kernels_table(kernels: Sequence[Kernel], usages: Mapping[str, Usage] | None = None) -> Table:
    """Return the attached kernels; ``usages`` is what they use of their machines, by name."""
    columns = ("state", "name", "language", "where", "pid", "runs", "queue", "cpu", "memory")
    rows = [_row(kernel, (usages or {}).get(kernel.name, Usage())) for kernel in kernels]
    # What nobody has anything to say about would only make the others narrow.
    told = [
        column
        for column, name in enumerate(columns)
        if name not in OPTIONAL or any(row[column] != NOTHING for row in rows)
    ]
    return Table(
        caption=_caption(
            len(kernels), "attached kernel", "%kernel_start or %kernel_attach adds one"
        ),
        columns=[columns[i] for i in told],
        rows=[[row[i] for i in told] for row in rows],
        colours=[GLYPHS[kernel.state][1] for kernel in kernels],
    )


def jobs_table(jobs: Sequence[Job]) -> Table:
    """Return the background cells, the latest first."""
    return Table(
        caption=_caption(len(jobs), "background cell", "%%remote KERNEL --bg starts one"),
        columns=("state", "job", "kernel", "code"),
        rows=[
            (
                f"{LOOKS[job.state][0]} {status_of(job)}",
                str(job.number),
                job.kernel.name,
                _first_line(job.code),
            )
            for job in reversed(jobs)
        ],
        colours=[LOOKS[job.state][1] for job in reversed(jobs)],
    )


def found_table(found: Sequence[FoundKernel], attached: Sequence[Kernel]) -> Table:
    """Return the kernels of this machine that could be attached, youngest first."""
    names = {kernel.info.name: kernel.name for kernel in attached}
    processes = serving()
    now = time.time()
    rows = []
    for each in sorted(found, key=lambda each: -each.modified):
        process = processes.get(each.info.path) if each.info.path else None
        folder, notebook = (process.folder, process.notebook) if process else (None, None)
        rows.append(
            (
                each.name,
                one_line(each.info.kernel_name) or NOTHING,
                _age(max(0.0, now - each.modified)),
                NOTHING if folder is None else one_line(_short(folder)),
                NOTHING if notebook is None else one_line(notebook.name),
                names.get(each.name, NOTHING),
            )
        )
    return Table(
        caption=_caption(len(found), "kernel found here", "none left a connection file"),
        columns=("connection file", "kernel", "age", "folder", "notebook", "attached as"),
        rows=rows,
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
                one_line(each.info.kernel_name) or NOTHING,
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


def _row(kernel: Kernel, usage: Usage) -> tuple[str, ...]:
    return (
        f"{GLYPHS[kernel.state][0]} {kernel.state.value}",
        kernel.name,
        one_line(kernel.language) or NOTHING,
        where(kernel),
        str(kernel.pid or NOTHING),
        _runs(kernel),
        str(kernel.queued or NOTHING),
        NOTHING if usage.cpu is None else f"{usage.cpu:.0f} %",
        NOTHING if usage.memory is None else f"{usage.memory / 1e6:.0f} MB",
    )


def _runs(kernel: Kernel) -> str:
    if kernel.finding is not None:
        return kernel.finding.reason
    running = kernel.running
    if running is None:
        return NOTHING
    return f"{_first_line(running.code)} ({duration(running.seconds)})"


def _short(folder: Path) -> str:
    """Write a path of the user's own as from home."""
    home = Path.home()
    return f"~/{folder.relative_to(home)}" if folder.is_relative_to(home) else str(folder)


def _first_line(code: str) -> str:
    return one_line(code.strip().partition("\n")[0])


def _caption(count: int, what: str, when_none: str) -> str:
    now = time.strftime("%H:%M:%S")
    if count == 0:
        return f"no {what}s at {now}; {when_none}"
    return f"{count} {what}{'' if count == 1 else 's'} at {now}"
