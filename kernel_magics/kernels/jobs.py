"""Cells that are kept: those that run in the background, and those whose outcome got a name."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, wait
from typing import Any

from ..errors import Aborted, KernelMagicsError, NoSuchJob, ProtocolError
from ..protocol.message import Message
from ..protocol.outputs import Output, Outputs
from .events import Show, Sink
from .execution import Execution
from .kernel import Kernel
from .result import Result

log = logging.getLogger("kernel_magics")

REMEMBERED = 100
"""Jobs that are over and can still be asked for by number; a name keeps one for ever."""


class Job:
    """One cell and what became of it. May be asked from any thread, and awaited.

    ``number`` counts the jobs of this process from 1.
    """

    def __init__(self, number: int, kernel: Kernel, code: str) -> None:
        self.number = number
        self.kernel = kernel
        self.code = code
        self._record = Outputs()
        self._execution: Execution | None = None
        self._future: Future[Result] = Future()
        # So that nobody who awaits it, and is cancelled, cancels it for the others.
        self._future.set_running_or_notify_cancel()

    def __repr__(self) -> str:
        return f"<Job {self.number} on {self.kernel.name}: {self.state}>"

    def __await__(self) -> Generator[Any, None, Result]:
        return asyncio.wrap_future(self._future).__await__()

    @property
    def done(self) -> bool:
        """It is over, and its outputs are complete."""
        return self._future.done()

    @property
    def state(self) -> str:
        """One word: ``queued``, ``running``, ``done``, ``failed`` or ``aborted`` (never ran)."""
        if not self.done:
            sent = self._execution is not None and self._execution.sent
            return "running" if sent else "queued"
        error = self.error
        if error is None:
            return "done"
        return "aborted" if isinstance(error, Aborted) else "failed"

    @property
    def error(self) -> BaseException | None:
        """What :meth:`result` raises; None while it is not over, and if it ended well."""
        return self._future.exception() if self.done else None

    @property
    def place(self) -> int:
        """How many cells come before it; 0 once it was sent."""
        execution = self._execution
        return 0 if execution is None or execution.sent else execution.place

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return 0.0 if self._execution is None else self._execution.seconds

    @property
    def outputs(self) -> list[Output]:
        """What it has shown so far, as a notebook file keeps it (nbformat 4)."""
        return self._record.as_list()

    def result(self, timeout: float | None = None) -> Result:
        """Wait for its end, at most ``timeout`` seconds. Ctrl-C ends the waiting, not the job.

        Raises:
            RemoteError, Aborted, ReplyLost, KernelGone: how it ended, if not well.
            TimeoutError: it is not over.
        """
        try:
            return self._future.result(timeout)
        except TimeoutError:
            if self.done:
                raise
            raise TimeoutError(f"job {self.number} is {self.state} after {timeout:g} s") from None

    def wait(self) -> None:
        """Wait for its end, however it ends. Ctrl-C ends the waiting, not the job."""
        wait([self._future])

    def interrupt(self) -> None:
        """Interrupt it if it runs, take it back if it waits for its turn."""
        if self._execution is not None:
            self._execution.interrupt()

    # For who starts it.

    def recording(self, sink: Sink) -> Sink:
        """Return a sink that keeps what it hands on to ``sink``."""
        return _Recorder(self._record, sink)

    def recorded(self, show: Show) -> Show:
        """Return the same for who shows outputs while waiting."""

        def keep_and_show(item: Message | str) -> None:
            _record(self._record, item)
            show(item)

        return keep_and_show

    def begun(self, execution: Execution) -> None:
        """That is how it runs."""
        self._execution = execution

    def ended(self, execution: Execution) -> None:
        """It is over, and so are its outputs."""
        self._execution = execution
        try:
            result = execution.outcome()
        except KernelMagicsError as error:
            self._future.set_exception(error)
        else:
            self._future.set_result(result)

    def run(self, sink: Sink, ended: Callable[[Job], None], options: dict[str, Any]) -> None:
        """Start it; nobody waits for it, and all is done on the I/O thread."""

        def over(execution: Execution) -> None:
            self.ended(execution)
            ended(self)

        sink = self.recording(sink)
        self._execution = self.kernel.submit(self.code, sink, then=over, **options)

    def run_on_thread(
        self, show: Show, ended: Callable[[Job], None], options: dict[str, Any]
    ) -> None:
        """Start it, and have a thread of its own wait for it."""
        self._execution = execution = self.kernel.submit(self.code, **options)
        present = self.recorded(_guarded(show, self.number))

        def attend() -> None:
            # How it ended is told by `ended`, whatever it was.
            with contextlib.suppress(KernelMagicsError):
                execution.wait(show=present, raise_error=False)
            self.ended(execution)
            ended(self)

        # What redirects outputs may be bound to the context of the cell, as in ipykernel.
        context = contextvars.copy_context()
        name = f"kernel_magics job {self.number}"
        threading.Thread(target=context.run, args=(attend,), name=name, daemon=True).start()


class Jobs:
    """Jobs by number, the oldest first."""

    def __init__(self) -> None:
        self._jobs: dict[int, Job] = {}
        self._count = 0
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Job]:
        return iter(list(self._jobs.values()))

    def __len__(self) -> int:
        return len(self._jobs)

    def __getitem__(self, number: int) -> Job:
        """Return one by its number.

        Raises:
            NoSuchJob: there is none of that number, or not any more.
        """
        try:
            return self._jobs[number]
        except KeyError:
            raise NoSuchJob(number, list(self._jobs)) from None

    def last(self) -> Job:
        """Return the one begun last.

        Raises:
            NoSuchJob: there was none yet.
        """
        if not self._jobs:
            raise NoSuchJob(None, [])
        return self[max(self._jobs)]

    def new(self, kernel: Kernel, code: str) -> Job:
        """Return one with the next number; it is known under that once it is started."""
        with self._lock:
            self._count += 1
            return Job(self._count, kernel, code)

    def start(
        self,
        job: Job,
        *,
        sink: Sink | None,
        show: Show | None,
        ended: Callable[[Job], None],
        **options: Any,
    ) -> None:
        """Start a job's cell and return at once; ``options`` are those of :meth:`Kernel.submit`.

        Outputs go to ``sink`` on the I/O thread. Without one they go to ``show`` on a thread of
        its own, in the context of this call. ``ended`` is called on the same thread after the last
        of them.

        Raises:
            as :meth:`Kernel.submit`; there is no such job then.
        """
        self._add(job)
        try:
            if sink is not None:
                job.run(sink, ended, options)
            else:
                assert show is not None
                job.run_on_thread(show, ended, options)
        except BaseException:
            self._jobs.pop(job.number, None)
            raise

    def forget(self) -> None:
        """Forget all of them."""
        self._jobs.clear()

    def _add(self, job: Job) -> None:
        with self._lock:
            self._jobs[job.number] = job
            over = [number for number, each in self._jobs.items() if each.done]
            for number in over[: max(0, len(over) - REMEMBERED)]:
                del self._jobs[number]


def _guarded(show: Show, number: int) -> Show:
    """Show what can be shown: a stream that is closed must not keep the job from ending."""

    def show_or_log(item: Message | str) -> None:
        try:
            show(item)
        except Exception:
            log.exception("an output of job %d could not be shown", number)

    return show_or_log


class _Recorder:
    """A sink that keeps and hands on."""

    def __init__(self, record: Outputs, inner: Sink) -> None:
        self._record = record
        self._inner = inner

    def output(self, message: Message) -> None:
        """Keep it, and hand it on."""
        _record(self._record, message)
        self._inner.output(message)

    def notice(self, text: str) -> None:
        """Keep it, and hand it on."""
        _record(self._record, text)
        self._inner.notice(text)

    def finish(self) -> None:
        """Hand it on."""
        self._inner.finish()


def _record(record: Outputs, item: Message | str) -> None:
    if isinstance(item, str):
        record.add_text("stderr", item + "\n")
        return
    try:
        record.add(item)
    except ProtocolError as error:
        record.add_text("stderr", f"{item.type} that cannot be read: {error}\n")
