"""Who ran when, as a small drawing: one row for each kernel, time from left to right."""

from __future__ import annotations

import html
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ..kernels.group import GroupExecution
from .terminal import one_line

WIDTH, ROW, LABELS = 480, 16, 120
"""Pixels: of all the time, of a row, of the names before it."""

COLUMNS = 40
"""Characters of all the time, where there are no pixels."""

WAITED, RAN, FAILED, RUNS = "waited", "ran", "failed", "runs on"

COLOURS = {WAITED: "#9e9e9e", RAN: "#388e3c", FAILED: "#c62828", RUNS: "#b26a00"}
SIGNS = {WAITED: ".", RAN: "=", FAILED: "x", RUNS: ">"}


@dataclass(frozen=True)
class Span:
    """A time in which one thing went on; seconds since the start of all."""

    what: str
    begin: float
    end: float


@dataclass(frozen=True)
class Timeline:
    """Rows of a name and its spans, over ``seconds``. A snapshot: it does not change."""

    rows: Sequence[tuple[str, Sequence[Span]]]
    seconds: float

    @classmethod
    def of(cls, running: GroupExecution) -> Timeline:
        """Draw one cell in several kernels: until a kernel began, and from then on."""
        start, now = running.started, time.monotonic()
        rows = []
        for name, execution in running.executions.items():
            end = execution.ended_at or now
            begun = end if execution.begun_at is None else execution.begun_at
            what = RUNS if not execution.done else FAILED if execution.failed else RAN
            spans = [Span(WAITED, 0.0, begun - start), Span(what, begun - start, end - start)]
            rows.append((name, spans))
        return cls(rows, max((spans[-1].end for _, spans in rows), default=0.0))

    def __str__(self) -> str:
        width = max((len(name) for name, _ in self.rows), default=0)
        lines = [f"{name:{width}}  {self._text(spans)}" for name, spans in self.rows]
        said = ", ".join(f"{sign} {what}" for what, sign in SIGNS.items())
        return "\n".join([*lines, f"{'':{width}}  {self.seconds:.2f} s; {said}"])

    def __repr__(self) -> str:
        return str(self)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": str(self), "image/svg+xml": self.svg()}

    def svg(self) -> str:
        """Return the drawing. Names are somebody else's: they are escaped."""
        height = ROW * (len(self.rows) + 1) + 4
        drawn = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{LABELS + WIDTH + 60}" '
            f'height="{height}" font-family="sans-serif" font-size="11">'
        ]
        for number, (name, spans) in enumerate(self.rows):
            y = number * ROW
            label = html.escape(one_line(name))
            drawn.append(f'<text x="0" y="{y + 12}" fill="#757575">{label}</text>')
            for span in spans:
                x, width = (self._share(each) * WIDTH for each in (span.begin, span.end))
                width = max(width - x, 1.0)
                title = f"{span.what} {span.end - span.begin:.2f} s"
                drawn.append(
                    f'<rect x="{LABELS + x:.1f}" y="{y + 3}" width="{width:.1f}" height="{ROW - 5}"'
                    f' fill="{COLOURS[span.what]}"><title>{label}: {title}</title></rect>'
                )
        y = len(self.rows) * ROW + 12
        drawn.append(f'<text x="{LABELS}" y="{y}" fill="#757575">0</text>')
        drawn.append(
            f'<text x="{LABELS + WIDTH}" y="{y}" fill="#757575">{self.seconds:.2f} s</text></svg>'
        )
        return "".join(drawn)

    def _share(self, seconds: float) -> float:
        return min(1.0, max(0.0, seconds / self.seconds)) if self.seconds else 0.0

    def _text(self, spans: Sequence[Span]) -> str:
        drawn = ""
        for span in spans:
            columns = round(self._share(span.end) * COLUMNS) - len(drawn)
            drawn += SIGNS[span.what] * max(columns, 0)
        return drawn
