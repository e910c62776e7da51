"""How a cell is run: what its kernel is told, and what whoever started it wants of it here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from .events import Events, PayloadShown, Sink

if TYPE_CHECKING:
    from .execution import Execution


@dataclass(frozen=True, slots=True)
class Limits:
    """What one cell may do to the one who waits for it; None means without limit.

    ``text`` is in bytes of stream messages, see :class:`TextLimit`. ``unresponsive_after`` is in
    seconds of complete silence of the kernel, after which the cell ends with `KernelUnresponsive`.
    """

    text: int | None = None
    unresponsive_after: float | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """That a cell waits until all cells before it are over, which were sent from here.

    When one of those fails it is aborted, unless it is to run all the same (``keep_going``).
    ``told`` says whether it tells its user when that takes long. Cells in subshells neither wait
    nor are waited for.
    """

    keep_going: bool = False
    told: bool = True


NO_LIMITS = Limits()


class CellOptions(TypedDict, total=False):
    """How a cell is run; the first five as the messaging specification has it ("Execute")."""

    silent: bool
    store_history: bool
    allow_stdin: bool
    user_expressions: dict[str, str] | None
    metadata: dict[str, Any] | None
    limits: Limits | None
    """What it may do to the one who waits for it."""
    turn: Turn | None
    """It waits here until our earlier ones are over; without, they meet in the kernel's queue."""
    then: Callable[[Execution], None] | None
    """Called with it on the reactor's thread when it is over."""
    subshell: bool | str
    """It runs beside whatever runs there, in a subshell of ours or in the one that has this id,
    and cannot be interrupted. If the kernel has none, it ends with :class:`NoSubshell`."""
    events: Events | None
    """Takes what happens in place of the queue that :meth:`Execution.wait` reads."""
    passive: bool
    """Its outputs hold nothing that a front end would execute, see `protocol.passive`."""
    late: Sink | None
    """Takes what comes without a sink when nobody waits any more: after the end, from threads."""
    quiet: bool
    """Nothing of it is shown. What comes late, and may be any cell's, is not taken for its."""
    payload_shown: PayloadShown | None
    """What of its payload is shown among its outputs, where nobody waits who could act on it."""
