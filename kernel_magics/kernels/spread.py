"""One function, many items, several kernels: each item goes to whichever is free.

No item runs twice. One whose kernel died under it may have run, so that it gets that error and is
not given to another; one that certainly was not sent is."""

from __future__ import annotations

import ast
import json
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ..errors import (
    Abandoned,
    Aborted,
    ItemErrors,
    KernelGone,
    KernelMagicsError,
    RemoteError,
)
from .ctrl_c import CtrlC
from .kernel import Kernel

FUNCTION, ITEM, RESULT = "__km_function", "__km_item", "__km_result"
"""What they are called there meanwhile."""


class Carrier(Protocol):
    """How a function, an item and what came of it travel. Called by one thread for each kernel."""

    def bring(self, kernel: Kernel, function: object, timeout: float | None) -> None:
        """Make the function known there, once."""

    def call(self, kernel: Kernel, item: object, timeout: float | None) -> Any:
        """Call it there with one item and return what it returned."""


class JsonCarrier:
    """For kernels that run Python: the function as text, an expression that is worth one there
    (``"math.sqrt"``, ``"lambda x: x"``); items and results as JSON. One round trip for each."""

    def bring(self, kernel: Kernel, function: object, timeout: float | None) -> None:
        kernel.run(f"{FUNCTION} = ({function})", store_history=False, timeout=timeout)

    def call(self, kernel: Kernel, item: object, timeout: float | None) -> Any:
        try:
            sent = json.dumps(item)
        except (TypeError, ValueError) as error:
            raise KernelMagicsError(
                f"an item cannot be sent: {error}. Beside a function that is text items are JSON"
            ) from None
        result = kernel.run(
            f"{RESULT} = __import__('json').dumps({FUNCTION}(__import__('json').loads({sent!r})))",
            user_expressions={"result": RESULT},
            store_history=False,
            timeout=timeout,
        )
        answer = result.user_expressions.get("result")
        text = answer.get("data", {}).get("text/plain") if isinstance(answer, dict) else None
        try:
            return json.loads(ast.literal_eval(str(text)))
        except (ValueError, SyntaxError, TypeError):
            raise KernelMagicsError(
                f"{kernel.name} did not say what the function returned, but {str(text)[:80]!r}"
            ) from None


class ValueCarrier:
    """For kernels that run Python: function, items and results as variables travel (`values`), so
    that functions of this session go as they are, with what they have closed over."""

    def bring(self, kernel: Kernel, function: object, timeout: float | None) -> None:
        kernel.push({FUNCTION: function})

    def call(self, kernel: Kernel, item: object, timeout: float | None) -> Any:
        kernel.push({ITEM: item})
        code = f"{RESULT} = {FUNCTION}({ITEM})"
        kernel.run(code, store_history=False, timeout=timeout)
        return kernel.pull(RESULT)


class _Work:
    """The items that wait, and what came of the others; shared by the threads."""

    def __init__(self, items: Sequence[object]) -> None:
        self.items = items
        self.results: list[Any] = [None] * len(items)
        self.errors: dict[int, tuple[str, BaseException]] = {}
        self.waiting = deque(range(len(items)))
        self.lock = threading.Lock()
        self.why_not = "no kernel was left"

    def take(self) -> int | None:
        with self.lock:
            return self.waiting.popleft() if self.waiting else None

    def give_back(self, index: int) -> None:
        with self.lock:
            self.waiting.appendleft(index)

    def stop(self, why: str) -> None:
        """Hand out no more."""
        with self.lock:
            self.why_not = why
            for index in self.waiting:
                self.errors[index] = "-", Aborted("nobody", why)
            self.waiting.clear()


def spread(
    kernels: Sequence[Kernel],
    function: object,
    items: Sequence[object],
    *,
    timeout: float | None,
    raise_error: bool,
    carrier: Carrier,
) -> list[Any]:
    """Return what the function made of each item, in their order; see :meth:`Group.map`."""
    work = _Work(items)
    deadline = None if timeout is None else time.monotonic() + timeout
    over: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def left() -> float | None:
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    def serve(kernel: Kernel) -> None:
        try:
            _serve(kernel, function, work, carrier, left)
        except BaseException as error:  # handed to the caller, whatever it is
            over.put(error)
        else:
            over.put(None)

    def stop() -> None:
        work.stop("it was interrupted before")
        for kernel in kernels:
            kernel.interrupt()

    with CtrlC() as ctrl_c:
        threads = [
            threading.Thread(target=serve, args=(kernel,), name=f"items for {kernel.name}")
            for kernel in kernels
        ]
        for thread in threads:
            thread.daemon = True  # abandoned, one may wait for ever
            thread.start()
        try:
            ctrl_c.call_first(stop)
            wrong = [error for error in (_wait(over) for _ in threads) if error is not None]
        except KeyboardInterrupt:
            stop()
            raise Abandoned(", ".join(kernel.name for kernel in kernels)) from None
    if wrong:
        raise wrong[0]
    work.stop(work.why_not)
    return _collect(work, raise_error=raise_error)


def _wait(over: queue.SimpleQueue[BaseException | None]) -> BaseException | None:
    while True:
        try:
            return over.get(timeout=0.5)  # an untimed wait cannot be interrupted everywhere
        except queue.Empty:
            continue


def _serve(
    kernel: Kernel,
    function: object,
    work: _Work,
    carrier: Carrier,
    left: Callable[[], float | None],
) -> None:
    try:
        carrier.bring(kernel, function, left())
    except RemoteError:
        work.stop("the function cannot be made known")
        raise
    except KernelGone:
        return  # the others do its share
    while (index := work.take()) is not None:
        try:
            work.results[index] = carrier.call(kernel, work.items[index], left())
        except KernelMagicsError as error:
            if isinstance(error, KernelGone) and not error.may_have_run:
                work.give_back(index)
                return
            work.errors[index] = kernel.name, error
            if isinstance(error, KernelGone):
                return


def _collect(work: _Work, *, raise_error: bool) -> list[Any]:
    for index, (_, error) in work.errors.items():
        work.results[index] = error
    if work.errors and raise_error:
        errors = {f"{index} on {name}": e for index, (name, e) in sorted(work.errors.items())}
        raise ItemErrors(errors, len(work.items), dict(enumerate(work.results)))
    return work.results
