"""Waiting for conditions, with deadlines: no test sleeps for a fixed time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds for what always comes, on a machine that may be very busy. Not a performance claim."""

PAUSE = 0.005
"""Seconds between two looks at a condition that nobody announces."""


class Deadline:
    """A moment, made once and passed down, so that nested waits do not add up."""

    def __init__(self, seconds: float = PATIENCE) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds until then; never negative."""
        return max(0.0, self._end - time.monotonic())

    @property
    def passed(self) -> bool:
        return self.left == 0.0


def as_deadline(timeout: float | Deadline) -> Deadline:
    """Take what callers find natural, seconds, as well as a deadline that is running already."""
    return timeout if isinstance(timeout, Deadline) else Deadline(timeout)


def wait_until(
    condition: Callable[[], T | None],
    timeout: float | Deadline = PATIENCE,
    *,
    what: str | Callable[[], str],
) -> T:
    """Look until ``condition()`` is true and return what it gave.

    ``what`` names the condition in the error; a function is asked only then, so that it can tell
    how far things had come.

    Raises:
        TimeoutError: it did not become true in time. It has been looked at after the deadline.
    """
    deadline = as_deadline(timeout)
    while True:
        # The order matters: a look that follows the deadline is fair to a slow machine.
        late = deadline.passed
        if value := condition():
            return value
        if late:
            name = what() if callable(what) else what
            raise TimeoutError(f"not within {deadline.seconds:g} s: {name}")
        time.sleep(PAUSE)  # between looks; how long it takes decides nothing
