"""What one cell shows of several kernels: their parts in order, labelled, each by itself.

A page only grows, at its end, because that is all that every front end can do. A kernel whose turn
has not come is held back. When one clears what is already shown, the page is drawn anew without
it where that is possible, and there only. All of it on the I/O thread."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

from ..errors import ProtocolError, error_line, remote_error
from ..protocol.message import Message
from ..wire.reactor import Reactor, Timer
from . import grouping
from .display_ids import DisplayIds
from .grouping import LinePart, Order, Part, Unit

BURST = 200
REFILL = 100.0
JOIN_FOR = 0.05
"""As for one kernel, see `output`: outputs shown one by one, the same a second, and the seconds for
which they are collected when there are more."""

HOLD_LIMIT = 64 * 2**20
"""Bytes that may wait for their turn; beyond that the order is given up."""

KEEP_LIMIT = 64 * 2**20
"""Bytes that were shown and are kept; beyond that nothing that was shown is taken back."""

REDRAW_PAUSE = 0.1
"""Seconds between two drawings at least."""

REDRAW_RATE = 400_000.0
"""Bytes a second that drawing anew may cost; jupyter_server passes 1 MB/s by default."""


class Outlet(Protocol):
    """Where a page goes. Must never block and never raise."""

    can_clear: bool
    """What was shown can be taken back."""

    @property
    def full(self) -> bool:
        """It has enough for a while."""

    def text(self, kernel: str, stream: str, text: str) -> None:
        """Text of a kernel, or of ours if ``kernel`` is empty."""

    def message(self, kernel: str, message: Message) -> None:
        """Any other output of a kernel."""

    def comm(self, kernel: str, message: Message) -> None:
        """A message of a widget of a kernel."""

    def clear(self, *, wait: bool) -> None:
        """Clear all, or with ``wait`` as soon as something follows."""

    def progress(self, text: str) -> None:
        """One line that replaces the one before it."""

    def flush(self) -> None:
        """Nothing more for now."""


class Page:
    """The outputs of one cell in several kernels.

    ``order`` is one of ``arguments.GROUPINGS``. Without ``stream`` nothing is shown before all are
    over. ``parts`` are the sinks, by kernel.
    """

    def __init__(
        self,
        reactor: Reactor,
        outlet: Outlet,
        names: Sequence[str],
        order: str,
        ids: DisplayIds,
        *,
        stream: bool = True,
    ) -> None:
        self._reactor = reactor
        self._outlet = outlet
        self._order_name = order
        self._stream = stream
        self._ids = ids
        self.parts: dict[str, Part] = {name: Part(name, self) for name in names}
        if order == "merge":
            width = max(map(len, names)) + len("[] ")
            for name in names:
                self.parts[name] = LinePart(name, self, f"[{name}]".ljust(width))
        self._nopen = len(names)  # parts that are not complete
        self.newest: Unit | None = None
        self._arrived: list[Unit] = []
        self._order = self._new_order()
        self._current: Unit | None = None  # the last that was shown; it may have grown
        self._updates: dict[str, Unit] = {}  # the last of each display
        self._held = 0.0  # bytes that wait for their turn; text is limited by others
        self._kept = 0  # bytes that were shown and are kept, to draw anew or to compare with
        self._keeps = outlet.can_clear or order == "first"
        self._notices: list[str] = []
        self._progress = ""
        self._labelled = ""
        self._new_line = True  # the next text begins a line
        self._error_shown = False
        self._redraw = False
        self._redraw_at = -math.inf
        self._timer: Timer | None = None
        self._soon = False
        self._tokens = float(BURST)
        self._refilled = reactor.now
        self._shown = 0  # outputs, ever

    # What the parts tell.

    def display_id(self, kernel: str, theirs: str) -> str:
        return self._ids.here(kernel, theirs)

    def arrived(self, unit: Unit) -> None:
        self.newest = unit
        if self._order_name == "merge":
            self._arrived.append(unit)
        if unit.text is None:
            self._held += unit.nbytes
            self._check_held()

    def changed(self) -> None:
        if self._timer is not None or self._soon:
            return
        now = self._reactor.now
        self._tokens = min(BURST, self._tokens + (now - self._refilled) * REFILL)
        self._refilled = now
        if self._tokens >= 1:
            self._soon = True
            self._reactor.soon(self._pump)
        else:
            self._timer = self._reactor.call_later(JOIN_FOR, self._pump)

    def taken_back(self, part: Part) -> None:
        was_shown = any(unit.shown and not unit.is_void for unit in part.units)
        self._held -= sum(u.nbytes for u in part.units if u.text is None and not u.shown)
        if was_shown and self._outlet.can_clear and self._keeps:
            part.restart()
            self._redraw = True
            self.newest = None
        else:
            part.void()

    def update(self, unit: Unit, *, held: bool) -> None:
        if not self._outlet.can_clear:
            if not held:  # nothing changes any more where it stands
                unit.part.units.append(unit)
                self.arrived(unit)
            return
        # Also if it is held: the same display may stand in an earlier cell.
        key = unit.display_id or str(id(unit))
        self._updates.pop(key, None)
        self._updates[key] = unit

    def comm(self, kernel: str, message: Message) -> None:
        self._outlet.comm(kernel, message)  # at once: its view comes later, if it has to wait

    def said(self, text: str) -> None:
        self._notices.append(text)
        self._say(text)
        self._outlet.flush()

    def over(self) -> None:
        self._nopen -= 1
        if self._nopen > 0:
            self.changed()
        else:
            self.finish()

    # What the one who waits asks, on the I/O thread.

    def finish(self) -> None:
        """Show all there is; what comes later is shown as it comes."""
        self._pump(last=True)
        self._order = grouping.as_they_come(list(self.parts.values()))
        self._pump(last=True)
        self._keeps, self._stream = False, True
        for part in self.parts.values():
            part.restart()
        self._arrived, self._current, self.newest = [], None, None
        self._order = grouping.as_they_come(list(self.parts.values()))

    def release(self) -> None:
        """Begin to show, where that had to wait."""
        self._stream = True
        self.changed()

    def progress(self, text: str) -> None:
        """Show how far they are, in one line that takes the place of the one before."""
        if text != self._progress:
            self._progress = text
            self._outlet.progress(text)
            self._outlet.flush()

    # Showing.

    def _new_order(self) -> Order:
        parts = list(self.parts.values())
        orders: dict[str, Callable[[], Order]] = {
            "kernel": lambda: grouping.by_kernel(parts),
            "order": lambda: grouping.by_order(parts),
            "type": lambda: grouping.by_type(parts),
            "first": lambda: grouping.first_of_all(parts),
            "merge": lambda: grouping.in_turn(self._arrived),
        }
        return orders[self._order_name]()

    def _pump(self, *, last: bool = False) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._soon = False
        before = self._shown
        if self._redraw:
            if not last and (wait := self._redraw_at - self._reactor.now) > 0:
                self._timer = self._reactor.call_later(wait, self._pump)
                return
            self._draw_anew(last)
        elif self._stream or last:
            self._go_on(last)
        updates, self._updates = self._updates, {}
        for unit in updates.values():
            self._outlet.message(unit.part.name, _message(unit))
            self._shown += 1
        self._outlet.flush()
        self._tokens = max(0.0, self._tokens - (self._shown - before))

    def _go_on(self, last: bool) -> None:
        if self._current is not None:
            self._show(self._current)
        for unit in self._order:
            if unit is None:
                break
            self._current = unit
            self._show(unit)
            if self._outlet.full and not last:
                self._timer = self._reactor.call_later(JOIN_FOR, self._pump)
                break
        else:
            self._name_folded()

    def _name_folded(self) -> None:
        folded = [part.name for part in self.parts.values() if part.folded and part.units]
        if folded and self._current is not None:
            self._current = None
            self._heading(f"[{', '.join(folded)}] the same")

    def _draw_anew(self, last: bool) -> None:
        self._redraw = False
        self._outlet.clear(wait=True)
        for part in self.parts.values():
            part.units = [unit for unit in part.units if not unit.is_void]
            part.first, part.folded = 0, False
            for unit in part.units:
                if unit.shown and unit.text is None:
                    self._held += unit.nbytes
                unit.show_again()
        there = {id(unit) for part in self.parts.values() for unit in part.units}
        self._arrived = [unit for unit in self._arrived if id(unit) in there]
        if id(self.newest) not in there:
            self.newest = None
        self._kept = 0
        self._order, self._current = self._new_order(), None
        self._labelled, self._new_line, self._error_shown = "", True, False
        before = self._shown
        if self._progress:
            self._outlet.progress(self._progress)
            self._shown += 1
        for text in self._notices:
            self._say(text)
        self._go_on(last)
        if self._shown == before:
            self._outlet.clear(wait=False)
        self._redraw_at = self._reactor.now + max(REDRAW_PAUSE, self._kept / REDRAW_RATE)

    def _show(self, unit: Unit) -> None:
        if unit.text is not None:
            if text := unit.take_text():
                self._label(unit)
                self._print(unit.part.name, unit.type, text)
                unit.shown = True
                self._keep(unit, len(text))
        elif not unit.shown:
            self._label(unit)
            unit.shown = True
            self._held -= unit.nbytes
            self._outlet.message(unit.part.name, self._folded(unit))
            self._new_line = True
            self._shown += 1
            self._keep(unit, unit.nbytes)

    def _keep(self, unit: Unit, nbytes: int) -> None:
        self._kept += nbytes
        if not self._keeps:
            unit.forget()
        elif self._kept > KEEP_LIMIT:
            self._keeps = False
            for part in self.parts.values():
                for each in part.units:
                    if each.shown:
                        each.forget()

    def _label(self, unit: Unit) -> None:
        """Name the kernel, unless the line above does; errors name it themselves."""
        name = unit.part.name
        label = f"{grouping.type_name(unit)}:{name}" if self._order_name == "type" else name
        marked = self._order_name == "merge" and unit.text is not None
        if label != self._labelled and not marked and unit.type != "error":
            self._heading(f"[{label}]")
        self._labelled = "" if marked else label

    def _heading(self, line: str) -> None:
        self._print("", "stdout", ("" if self._new_line else "\n") + line + "\n")

    def _say(self, text: str) -> None:
        self._print("", "stderr", ("" if self._new_line else "\n") + text + "\n")
        self._labelled = ""

    def _print(self, kernel: str, stream: str, text: str) -> None:
        self._outlet.text(kernel, stream, text)
        self._new_line = text.endswith("\n")
        self._shown += 1

    def _folded(self, unit: Unit) -> Message:
        """Return what to show of it: all, but of errors only the first one's traceback."""
        message = _message(unit)
        if unit.type != "error" or not self._error_shown:
            self._error_shown = self._error_shown or unit.type == "error"
            return message
        try:
            said = message.content
        except ProtocolError:
            return message
        ename, evalue = (str(said.get(key) or "") for key in ("ename", "evalue"))
        line = error_line(remote_error(unit.part.name, ename, evalue, []))
        return message.with_content(said | {"traceback": [line]})

    def _check_held(self) -> None:
        if self._held > HOLD_LIMIT and self._stream and self._order_name != "merge":
            # Whoever is waited for may run for hours; memory comes first.
            self.said(
                f"more than {HOLD_LIMIT / 2**20:.0f} MB wait for their turn; from here on outputs "
                "are shown as they come"
            )
            self._order = grouping.as_they_come(list(self.parts.values()))
            self._held = -math.inf


def _message(unit: Unit) -> Message:
    return unit.message if unit.content is None else unit.message.with_content(unit.content)
