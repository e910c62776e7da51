"""Several kernels as one: the same code on all of them, at once."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from ..errors import (
    Abandoned,
    Closed,
    ExecutionTimeout,
    KernelMagicsError,
    RemoteErrors,
)
from ..protocol.message import Message
from .ctrl_c import CtrlC
from .events import Ask, Event, Sink
from .execution import Execution
from .kernel import Kernel
from .result import Ended, Result

TICK = 0.5
"""Seconds between calls of ``tick`` while somebody waits. An untimed wait cannot be interrupted on
every platform."""

_WAKE = object()
"""Nothing to show; something to look at."""

Over = Callable[[Execution, Ended], None]
"""Told on the I/O thread that one kernel is through. Must never block and never raise."""


class GroupResult(dict[str, Result]):
    """How a cell ended in each kernel, by name, in the order given.

    A kernel that died has no result. ``errors`` has what went wrong, by name; empty if nothing did.
    ``seconds`` is the time from submission to the last end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.errors: dict[str, BaseException] = {}
        self.seconds = 0.0


class Group:
    """Some kernels, in an order; from :meth:`KernelPool.select`. Iterates over the kernels."""

    def __init__(self, kernels: Sequence[Kernel]) -> None:
        self._kernels = list(kernels)

    def __iter__(self) -> Iterator[Kernel]:
        return iter(self._kernels)

    def __len__(self) -> int:
        return len(self._kernels)

    def __repr__(self) -> str:
        return f"<Group {', '.join(self.names)}>"

    @property
    def names(self) -> list[str]:
        """The kernels' names."""
        return [kernel.name for kernel in self._kernels]

    def submit(
        self,
        code: str,
        sinks: Callable[[str], Sink | None] = lambda name: None,
        *,
        fail_fast: bool = False,
        running: GroupExecution | None = None,
        **options: Any,
    ) -> GroupExecution:
        """Start a cell on all kernels and return at once.

        ``sinks`` gives the sink for the kernel of a name; None keeps its outputs in the result.
        ``fail_fast`` interrupts all others as soon as one fails. ``running`` is what to return, for
        a caller whose sinks have to know it. The options are those of :meth:`Kernel.submit`.

        Raises:
            ProtocolError: the code cannot be put into a message.
            Closed: the pool was closed.
        """
        running = GroupExecution(fail_fast=fail_fast) if running is None else running
        cells = []
        for kernel in self._kernels:
            lane = _Lane(running)
            lane.execution = kernel.prepare(code, sinks(kernel.name), events=lane, **options)
            running.executions[kernel.name] = lane.execution
            cells.append((kernel, lane.execution))

        def begin() -> None:
            for kernel, execution in cells:
                kernel.begin(execution)

        if cells:
            reactor = self._kernels[0].reactor
            try:
                reactor.run_or_post(begin)
            except Closed:
                raise
            except BaseException:
                for kernel, execution in cells:
                    reactor.post(partial(kernel.torn, execution))
                raise
        return running

    def run(
        self,
        code: str,
        *,
        ask: Ask | None = None,
        timeout: float | None = None,
        raise_error: bool = True,
        fail_fast: bool = False,
        **options: Any,
    ) -> GroupResult:
        """Run a cell on all kernels and wait for all; see :meth:`submit` and
        :meth:`GroupExecution.wait`. ``ask`` is given prompts with the kernel's name before them."""
        with CtrlC() as ctrl_c:  # before it is sent: an interrupt in between must not be lost
            running = self.submit(code, fail_fast=fail_fast, allow_stdin=ask is not None, **options)

            def asks(name: str) -> Ask | None:
                return ask and (lambda prompt, password: ask(f"[{name}] {prompt}", password))

            return running.wait(asks=asks, timeout=timeout, raise_error=raise_error, ctrl_c=ctrl_c)

    def map(
        self,
        function: Callable[[Any], Any] | str,
        items: Iterable[Any],
        *,
        timeout: float | None = None,
        raise_error: bool = True,
    ) -> list[Any]:
        """Return ``function(item)`` of all items, in their order; each is computed by whichever
        kernel is free.

        A function that is text goes as it is, with items and results as JSON; any other one goes
        with them as variables do (:meth:`Kernel.push`). What is printed is not shown. An
        item whose kernel dies under it is not given to another, because it may have run; the other
        kernels do the rest.

        Raises:
            RemoteError: the function could not be made known there.
            ItemErrors: some items failed, the time limit included. Without ``raise_error`` the
                errors stand among the results.
            Abandoned: at the second Ctrl-C; the first one interrupts all.
        """
        from .spread import JsonCarrier, ValueCarrier, spread

        return spread(
            self._kernels,
            function,
            list(items),
            timeout=timeout,
            raise_error=raise_error,
            carrier=JsonCarrier() if isinstance(function, str) else ValueCarrier(),
        )

    def interrupt(self) -> None:
        """Interrupt what runs in each; returns at once."""
        for kernel in self._kernels:
            kernel.interrupt()


class _Lane:
    """Brings one cell's events into the one queue that the waiting thread reads."""

    __slots__ = ("_running", "execution")

    def __init__(self, running: GroupExecution) -> None:
        self._running = running
        self.execution: Execution

    def put(self, event: Event, /) -> None:
        self._running.take(self.execution, event)


class GroupExecution:
    """One cell in several kernels, from submission to the last end. Made by :meth:`Group.submit`.

    The I/O thread puts in, the thread that waits takes out. What :meth:`post` put in goes to
    ``show``, in order with the rest.
    """

    def __init__(self, *, fail_fast: bool = False, over: Over | None = None) -> None:
        self.executions: dict[str, Execution] = {}
        """By the kernel's name, in the order given."""
        self.started = time.monotonic()
        self._fail_fast = fail_fast
        self._first_failed: str | None = None  # which the others were stopped for
        self._stopped = False  # they were interrupted, by whomever
        self._over = over
        self._ended: dict[str, Ended] = {}
        self._queue: queue.SimpleQueue[tuple[Execution | None, Any]] = queue.SimpleQueue()

    @property
    def running(self) -> list[str]:
        """The names of those that are not over."""
        return [name for name, each in self.executions.items() if not each.done]

    @property
    def done(self) -> bool:
        """All are over."""
        return not self.running

    @property
    def backlog(self) -> int:
        """How much nobody has looked at yet."""
        return self._queue.qsize()

    def interrupt(self) -> None:
        """Interrupt the kernels whose cell still runs."""
        self._stopped = True
        for execution in self.executions.values():
            execution.interrupt()

    def wait(
        self,
        *,
        show: Callable[[Any], None] = lambda item: None,
        asks: Callable[[str], Ask | None] = lambda name: None,
        timeout: float | None = None,
        raise_error: bool = True,
        ctrl_c: CtrlC | None = None,
        tick: Callable[[], None] = lambda: None,
    ) -> GroupResult:
        """Wait for all; answer prompts meanwhile, one after another. Once, from one thread.

        ``asks`` gives who answers the prompts of the kernel of a name. ``tick`` is called some
        times a second. The other arguments are those of :meth:`Execution.wait`; Ctrl-C means the
        same, for all kernels.

        Raises:
            RemoteErrors: something went wrong in one kernel or more (unless ``raise_error`` is
                False), the time limit included; it names each.
            Abandoned: at the second Ctrl-C; it is a KeyboardInterrupt. The code runs on.
        """
        kept: dict[str, list[Message]] = {name: [] for name in self.executions}

        def take(execution: Execution | None, event: Any, ctrl_c: CtrlC, answer: bool) -> None:
            if execution is None:
                if event is not _WAKE:
                    show(event)
            else:
                outputs = kept[execution.kernel]
                execution.handle(
                    event,
                    lambda item: outputs.append(item) if isinstance(item, Message) else None,
                    asks(execution.kernel) if answer else None,
                    ctrl_c,
                )

        def attend(ctrl_c: CtrlC) -> None:
            ctrl_c.call_first(self.interrupt)
            deadline = float("inf") if timeout is None else self.started + timeout
            next_tick = time.monotonic() + TICK
            while len(self._ended) < len(self.executions) and (now := time.monotonic()) < deadline:
                if now >= next_tick:
                    next_tick = now + TICK
                    tick()
                with contextlib.suppress(queue.Empty):
                    until = max(0.0, min(next_tick, deadline) - now)
                    take(*self._queue.get(timeout=until), ctrl_c, answer=True)
            for execution, event in self._waiting():  # what came before the last end
                take(execution, event, ctrl_c, answer=False)

        try:
            if ctrl_c is not None:
                attend(ctrl_c)
            else:
                with CtrlC() as own:
                    attend(own)
        except KeyboardInterrupt:
            # The press that gives up interrupts as well, see `Execution.wait`.
            running = self.running
            self.interrupt()
            raise Abandoned(", ".join(running)) from None
        finally:
            for execution in self.executions.values():
                execution.leave()
        return self._result(dict(self._ended), kept, timeout, raise_error=raise_error)

    def post(self, item: object) -> None:
        """Have the waiting thread show something; from any thread."""
        self._queue.put((None, item))

    def show_posted(self, show: Callable[[Any], None]) -> None:
        """Show what was posted since; for whoever has waited."""
        for execution, event in self._waiting():
            if execution is None and event is not _WAKE:
                show(event)

    def _waiting(self) -> Iterator[tuple[Execution | None, Any]]:
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._queue.get_nowait()

    def take(self, execution: Execution, event: Event) -> None:
        """Pass an event on; on the I/O thread."""
        if isinstance(event, Ended):
            # Once, and not after somebody else did: they may be cleaning up after that.
            if self._fail_fast and event.failed and not self._stopped:
                self._first_failed = execution.kernel
                self.interrupt()
            if self._over is not None:
                self._over(execution, event)
            # The waiting thread is woken by the last one only: each time costs both threads.
            self._ended[execution.kernel] = event
            if len(self._ended) == len(self.executions):
                self._queue.put((None, _WAKE))
        else:
            self._queue.put((execution, event))

    def _result(
        self,
        ended: dict[str, Ended],
        kept: dict[str, list[Message]],
        timeout: float | None,
        *,
        raise_error: bool,
    ) -> GroupResult:
        results = GroupResult()
        errors: dict[str, BaseException] = {}
        for name, execution in self.executions.items():
            try:
                if name not in ended:
                    assert timeout is not None
                    raise ExecutionTimeout(name, timeout)
                results[name] = execution.result(ended[name], kept[name], raise_error=False)
                if ended[name].failed:
                    execution.result(ended[name], [], raise_error=True)
            except KernelMagicsError as error:
                errors[name] = error
        # Why it all ended comes first.
        first = [name for name in errors if name == self._first_failed]
        results.errors = {name: errors[name] for name in (*first, *errors)}
        results.seconds = time.monotonic() - self.started
        if errors and raise_error:
            raise RemoteErrors(results.errors, len(self.executions), results)
        return results
