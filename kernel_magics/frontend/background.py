"""Background cells: where their outputs go, and the line that says how they are doing."""

from __future__ import annotations

import html
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from .late import late_sink
from .output import Presenter, RawRelay, choose, comms_only, presenter
from .payloads import among_outputs
from .terminal import one_line

if TYPE_CHECKING:
    from ..kernels.jobs import Job
    from ..protocol.message import Message
    from ..wire.reactor import Timer
    from .session import LocalSession

LOOKS = {
    "queued": ("○", "inherit"),
    "running": ("◐", "var(--jp-warn-color1, #b26a00)"),
    "done": ("●", "var(--jp-success-color1, #388e3c)"),
    "failed": ("✕", "var(--jp-error-color1, #c62828)"),
    "aborted": ("✕", "var(--jp-warn-color1, #b26a00)"),
}
"""Glyph and CSS colour of each state; the word is always there as well."""


def start(
    session: LocalSession, job: Job, *, header: str | None, quiet: bool, **options: Any
) -> None:
    """Start a job and return at once; ``options`` as for `Kernel.submit`, ``header`` as for
    `payloads.present`."""
    kernel = job.kernel
    sink, show = choose(session, kernel)
    if isinstance(sink, RawRelay):
        status: _StatusDisplay | _StatusLines = _StatusDisplay(job, sink)
    else:
        status = _StatusLines(job)
    if quiet:
        sink = comms_only(session, kernel) if sink is not None else None
        show = _show_nothing if sink is None else None
    else:
        options |= {"payload_shown": partial(among_outputs, header=header)}
        if isinstance(show, Presenter):
            show = presenter(session, kernel, alone=False)
            options |= {"late": job.recording(late_sink(session, kernel))}
    status.begin()  # before any output: it stands above them
    session.pool.jobs.start(job, sink=sink, show=show, ended=status.end, quiet=quiet, **options)
    status.begun()


def show_again(session: LocalSession, job: Job) -> None:
    """Show the outputs of a job so far, in the cell that runs now."""
    state = status_of(job)
    presenter = Presenter(job.kernel.name, session.shell)
    for output in job.outputs:
        presenter.show(output["output_type"], output)
    print(f"[{job.kernel.name}] job {job.number}: {state}", file=sys.stderr)


def status_of(job: Job) -> str:
    """Say in a line, without the name, how a job is doing."""
    seconds = duration(job.seconds)
    match job.state:
        case "queued":
            behind = f", {job.place} before it" if job.place else ""
            text = f"queued{behind}"
        case "running":
            text = f"running for {seconds}"
        case "done":
            text = f"done in {seconds}"
        case "aborted":
            text = f"aborted: {job.error}"
        case _:
            text = f"failed after {seconds}: {type(job.error).__name__}: {job.error}"
    return one_line(text, LONGEST_STATUS)


LONGEST_STATUS = 200


class _StatusDisplay:
    """One display in the cell, changed in place; on the reactor's thread but for the begin."""

    def __init__(self, job: Job, relay: RawRelay) -> None:
        self._job = job
        self._relay = relay
        self._display_id = f"km-job-{job.number}-{id(job):x}"
        self._reactor = job.kernel.reactor
        self._timer: Timer | None = None
        self._text = ""

    def begin(self) -> None:
        """Show it for the first time."""
        self._reactor.ask(self._publish)

    def begun(self) -> None:
        """Say whether it runs or waits, and go on saying so."""
        self._reactor.post(self._tick)

    def end(self, job: Job) -> None:
        """Say for ever how it ended."""
        if self._timer is not None:
            self._timer.cancel()
        self._publish()

    def _tick(self) -> None:
        if self._job.done:
            return
        self._publish()
        # Often at first, then ever more seldom: nobody watches the seconds of an hour.
        pause = min(30.0, max(1.0, self._job.seconds / 30))
        self._timer = self._reactor.call_later(pause, self._tick)

    def _publish(self) -> None:
        text = f"[{self._job.kernel.name}] job {self._job.number}: {status_of(self._job)}"
        if text == self._text:
            return
        update, self._text = bool(self._text), text
        glyph, colour = LOOKS[self._job.state]
        data = {
            "text/plain": f"{glyph} {text}",
            "text/html": f'<div><span style="color:{colour}">{glyph}</span> '
            f"{html.escape(text)}</div>",
        }
        self._relay.display(data, self._display_id, update=update)


class _StatusLines:
    """A line at the begin and one at the end, where nothing can be changed in its place."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def begin(self) -> None:
        """Say what was begun, and how to ask for it."""
        number = self._job.number
        print(f"[{self._job.kernel.name}] job {number} begun (%remote_result {number} shows it)")

    def begun(self) -> None:
        """There is nothing to add."""

    def end(self, job: Job) -> None:
        """Say how it ended."""
        text = f"[{job.kernel.name}] job {job.number}: {status_of(job)}"
        stream = sys.stderr if job.error else sys.stdout
        stream.write(text + "\n")  # at one stroke: others print meanwhile
        stream.flush()


def _show_nothing(item: Message | str) -> None:
    """Show nothing."""


def duration(seconds: float) -> str:
    """Write seconds as people say them."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"
