"""One cell in several kernels: `%%remote a,b`."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
import uuid
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from ..errors import Abandoned, Closed, KernelGone, RemoteError, RemoteErrors, error_line
from ..kernels.ctrl_c import CtrlC
from ..kernels.events import Ask, Sink
from ..kernels.execution import Execution
from ..kernels.group import Group, GroupExecution
from ..kernels.kernel import Kernel
from ..kernels.options import Limits, Turn
from ..kernels.result import Ended
from ..protocol.message import Message, Session
from .display_ids import DisplayIds
from .late import late_sink
from .output import Presenter, RawRelay, presenter, raw_relay
from .page import Page
from .payloads import among_outputs
from .terminal import one_line

if TYPE_CHECKING:
    from .comms import KernelComms
    from .session import LocalSession

BACKLOG = 200
"""Outputs that wait for the thread that shows them, before more of them are held back."""

NAMED = 3
"""Kernels that the progress line names."""


def fan_out(
    session: LocalSession,
    kernels: list[Kernel],
    code: str,
    header: str | None,
    args: Any,
    text_limit: int | None,
) -> None:
    """Run a cell in several kernels, and here too with ``--local``; show what comes, in order.

    ``header`` is as for `payloads.present`.

    Raises:
        RemoteErrors: it failed in one or more.
        UsageError: one of the kernels waits for this very cell.
        Abandoned: at the second Ctrl-C.
    """
    via = session.via()
    waiting = [kernel.name for kernel in kernels if via and kernel.info.fingerprint in via]
    if waiting:
        raise UsageError(
            f"{', '.join(waiting)} is waiting for this very cell; it would wait for itself for ever"
        )
    with CtrlC() as ctrl_c:  # before it is sent: an interrupt in between must not be lost
        _FanOut(session, kernels, args, ctrl_c).run(
            code,
            allow_stdin=session.asker() is not None,
            metadata={"km_via": via} if via else {},
            limits=Limits(text_limit and text_limit // len(kernels), args.unresponsive_after),
            turn=Turn(keep_going=args.keep_going),
            subshell=args.subshell,
            passive=args.no_html,
            quiet=args.quiet,
            payload_shown=partial(among_outputs, header=header),
        )


class _FanOut:
    def __init__(
        self, session: LocalSession, kernels: list[Kernel], args: Any, ctrl_c: CtrlC
    ) -> None:
        self._session = session
        self._args = args
        self._ctrl_c = ctrl_c
        self._group = Group(kernels)
        self._reactor = kernels[0].reactor
        self._running = GroupExecution(fail_fast=args.fail_fast, over=self._over)
        self._screen = _Screen(session, kernels)
        relay = raw_relay(session, self._reactor)
        comms = {each.name: session.comms_with(each) for each in kernels}
        self._outlet: _Queue | _Notebook = (
            _Queue(self._running, self._late_sinks(kernels))
            if relay is None
            # What the cell shows of its own cannot be drawn anew.
            else _Notebook(relay, comms, can_clear=not args.local)
        )
        ids = DisplayIds() if session.iopub is None else session.iopub.display_ids
        self._page = Page(
            self._reactor,
            self._outlet,
            self._group.names,
            args.group_outputs,
            ids,
            stream=args.stream and not args.local,
        )
        self._progress_shown = False
        self._failed: list[str] = []  # on the I/O thread

    def run(self, code: str, **options: Any) -> None:
        args, errors = self._args, {}
        try:
            self._group.submit(code, self._sink, running=self._running, **options)
            if args.local:
                errors = self._run_here(code)
            try:
                self._running.wait(
                    show=self._screen.show,
                    asks=self._asker,
                    timeout=args.timeout,
                    ctrl_c=self._ctrl_c,
                    tick=self._tick,
                )
            except RemoteErrors as error:
                errors |= error.errors
                if not args.local:
                    self._raise(error)
                    return
            if errors:
                self._raise(RemoteErrors(errors, len(self._group) + 1))
        except Abandoned:
            self._outlet.silence()
            raise
        finally:
            self._end()

    def _sink(self, name: str) -> Sink:
        return _Silent() if self._args.quiet else self._page.parts[name]

    def _late_sinks(self, kernels: list[Kernel]) -> dict[str, Sink]:
        return {kernel.name: late_sink(self._session, kernel) for kernel in kernels}

    def _raise(self, error: RemoteErrors) -> None:
        first = next((e for e in error.errors.values() if isinstance(e, RemoteError)), None)
        quiet = self._args.quiet
        error.shown = not quiet and (first is None or first.explained)
        ours = [e for e in error.errors.values() if not isinstance(e, RemoteError)]
        if ours or not self._args.no_raise_error:
            raise error
        if not (error.shown or quiet):
            self._session.shell.showtraceback((type(error), error, None))

    def _run_here(self, code: str) -> dict[str, BaseException]:
        """Run the cell in this session as well, while it runs in the others."""
        try:
            with self._ctrl_c.raising():
                result = self._session.shell.run_cell(code)
            error = result.error_before_exec or result.error_in_exec
        except KeyboardInterrupt as pressed:
            error = pressed
        if isinstance(error, KeyboardInterrupt):
            self._ctrl_c.press()  # it was meant for all
        if self._args.stream:
            self._reactor.post(self._page.release)
        return {} if error is None else {"local": error}

    def _asker(self, name: str) -> Ask | None:
        ask = self._session.asker(name)
        if ask is None:
            return None

        def asking(prompt: str, password: bool) -> str:
            self._screen.erase()
            return ask(prompt, password)

        return asking

    # How far they are.

    def _over(self, execution: Execution, ended: Ended) -> None:
        """One kernel is through; on the I/O thread."""
        if ended.failed:
            self._failed.append(execution.kernel)
        # Who still waits for the others has to know at once; all else is among the outputs.
        if isinstance(ended.error, KernelGone) and self._running.running and not self._args.quiet:
            self._page.said(f"[{execution.kernel}] {error_line(ended.error)}")

    def _tick(self) -> None:
        args = self._args
        if args.quiet or time.monotonic() - self._running.started < args.progress_after:
            return
        self._progress_shown = True
        self._reactor.post(lambda: self._page.progress(self._how_far()))

    def _how_far(self) -> str:
        seconds = time.monotonic() - self._running.started
        running = self._running.running
        parts = self._page.parts
        named = [
            f"{name} ({one_line(line)})" if (line := parts[name].last_line) else name
            for name in running[:NAMED]
        ]
        more = f" and {len(running) - NAMED} more" if len(running) > NAMED else ""
        total = len(parts)
        failed = f", {len(self._failed)} failed" if self._failed else ""
        return (
            f"{total - len(running)} of {total} kernels are through after {seconds:.0f} s{failed}; "
            f"waiting for {', '.join(named)}{more}"
        )

    def _how_it_ended(self) -> str:
        executions = self._running.executions.values()
        ends = [each.ended_at or time.monotonic() for each in executions]
        seconds = max(ends) - self._running.started
        running = self._running.running
        good = len(ends) - len(running) - len(self._failed)
        failed = f", {len(self._failed)} failed ({', '.join(self._failed)})" if self._failed else ""
        on = f", {len(running)} run on ({', '.join(running)})" if running else ""
        return f"{len(ends)} kernels, {seconds:.1f} s: {good} well{failed}{on}"

    def _end(self) -> None:
        """Show all that is held, and how it ended."""
        if not self._args.quiet:
            with contextlib.suppress(Closed):  # the pool was, meanwhile
                if self._running.running:  # nobody waits for them any more
                    self._reactor.ask(self._page.finish)
                if self._progress_shown:
                    self._reactor.ask(lambda: self._page.progress(self._how_it_ended()))
            self._running.show_posted(self._screen.show)
            self._outlet.closed = True
            self._screen.keep()
            if self._session.iopub is not None:
                self._session.iopub.settle()
        if self._args.timeline:
            from IPython.display import display

            from .timeline import Timeline

            display(Timeline.of(self._running))


class _Silent:
    """A sink that shows nothing."""

    def output(self, message: Message) -> None: ...

    def notice(self, text: str) -> None: ...

    def finish(self) -> None: ...


class _Notebook:
    """The iopub channel of this kernel."""

    full = False  # its limit is lifted
    closed = False  # what comes late finds its cell

    def __init__(
        self, relay: RawRelay, comms: dict[str, KernelComms | None], *, can_clear: bool
    ) -> None:
        self.can_clear = can_clear
        self._relay = relay
        self._comms = comms
        self._session = Session()
        self._progress_id = ""

    def silence(self) -> None:
        """What comes late stands in its cell and bothers nobody."""

    def text(self, kernel: str, stream: str, text: str) -> None:
        self._emit("stream", {"name": stream, "text": text})

    def message(self, kernel: str, message: Message) -> None:
        self._relay.emit(message, self._relay.changed(message, kernel))

    def comm(self, kernel: str, message: Message) -> None:
        if (comms := self._comms[kernel]) is not None:
            # `Output` captures by cell, and this cell is that of others too.
            comms.received(message, self._relay, capture=False)

    def clear(self, *, wait: bool) -> None:
        self._emit("clear_output", {"wait": wait})
        self._progress_id = ""

    def progress(self, text: str) -> None:
        msg_type = "update_display_data" if self._progress_id else "display_data"
        self._progress_id = self._progress_id or uuid.uuid4().hex
        transient = {"display_id": self._progress_id}
        data = {"text/plain": text}
        self._emit(msg_type, {"data": data, "metadata": {}, "transient": transient})

    def flush(self) -> None:
        self._relay.publish()

    def _emit(self, msg_type: str, content: dict[str, Any]) -> None:
        self._relay.emit(self._session.message(msg_type, content))


@dataclass(frozen=True, slots=True)
class _Shown:
    kernel: str
    message: Message


@dataclass(frozen=True, slots=True)
class _Progress:
    text: str


class _Queue:
    """The thread that waits for the cell, which shows it on a :class:`_Screen`."""

    can_clear = False

    def __init__(self, running: GroupExecution, late: dict[str, Sink]) -> None:
        self.closed = False
        """Nobody waits any more; what comes now goes to the late sinks, by kernel."""
        self._late = late
        self._running = running
        self._session = Session()

    @property
    def full(self) -> bool:
        return self._running.backlog > BACKLOG

    def text(self, kernel: str, stream: str, text: str) -> None:
        self.message(kernel, self._session.message("stream", {"name": stream, "text": text}))

    def message(self, kernel: str, message: Message) -> None:
        if not self.closed:
            self._running.post(_Shown(kernel, message))
        elif kernel in self._late:  # else a heading of the page, or a sentence: they name it
            self._late[kernel].output(message)

    def silence(self) -> None:
        """The prompt was asked back, and is not for this cell's text."""
        self._late = {}

    def comm(self, kernel: str, message: Message) -> None:
        self.message(kernel, message)

    def clear(self, *, wait: bool) -> None:
        """Nothing can be taken back."""

    def progress(self, text: str) -> None:
        self._running.post(_Progress(text))

    def flush(self) -> None:
        """All has been handed over."""


class _Screen:
    """Shows what is posted, through what is in place; on the waiting thread.

    In a real terminal the last line may be the progress line, which gives way to all else.
    """

    def __init__(self, session: LocalSession, kernels: list[Kernel]) -> None:
        self._presenters = {each.name: presenter(session, each) for each in kernels}
        self._presenters[""] = Presenter("", session.shell)  # for what we say ourselves
        in_terminal = getattr(session.shell, "kernel", None) is None and sys.stdout.isatty()
        self._draws = in_terminal and os.environ.get("TERM", "dumb") != "dumb"
        self._progress = ""
        self._drawn = False
        self._new_line = True

    def show(self, item: object) -> None:
        """Show one thing that was posted."""
        if isinstance(item, _Progress):
            self._progress = item.text
            self._draw()
        elif isinstance(item, _Shown):
            self.erase()
            self._presenters[item.kernel](item.message)
            if item.message.type == "stream":
                self._new_line = str(item.message.content["text"]).endswith("\n")

    def erase(self) -> None:
        """Make room for something else."""
        if self._drawn:
            self._drawn = False
            print("\r\x1b[2K", end="", flush=True)

    def keep(self) -> None:
        """It is over: the progress line stays, if there was one."""
        if self._draws and self._progress:
            self.erase()
            print(("" if self._new_line else "\n") + self._progress, flush=True)

    def _draw(self) -> None:
        if self._draws and self._new_line:
            self.erase()
            width = shutil.get_terminal_size().columns - 1
            print(self._progress[:width], end="", flush=True)
            self._drawn = True
