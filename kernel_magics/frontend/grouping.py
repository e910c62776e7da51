"""What several kernels say in one cell, and in which order it is shown.

A grouping is a generator over the units that the kernels' parts hold: it yields the next one to
show, and None where it has to wait, because what comes before the next one may still come. So the
order is the same whether outputs are shown as they come or at the end. Knows no front end; all on
the I/O thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

from ..errors import ProtocolError
from ..kernels.comms import TYPES as COMM_TYPES
from ..protocol.message import Message
from ..protocol.stream import text_of
from .display_ids import WITH_ID, display_id, may_have_id

_NOTHING = Message({"msg_type": "", "msg_id": ""}, {}, (b"{}",) * 4)
"""Stands for the message of a unit that was taken back."""

LONGEST_LINE = 64 * 1024
"""Characters of an unfinished line that `merge` waits for the end of."""


class Unit:
    """What one kernel said in one go: text of one stream, or one output of another kind.

    ``text`` is None for the latter, which is ``message``, with ``content`` in place of its own
    unless that is None.
    """

    __slots__ = ("_shown_text", "content", "display_id", "message", "part", "shown", "text", "type")

    def __init__(
        self,
        part: Part,
        message: Message,
        *,
        stream: str | None = None,
        content: dict[str, Any] | None = None,
    ) -> None:
        self.part = part
        self.message = message
        self.type = stream or message.type
        self.text: list[str] | None = None if stream is None else []
        self.content = content
        self.display_id: str | None = None
        self.shown = False
        """At least in part, if it is text."""
        self._shown_text = 0

    @property
    def nbytes(self) -> int:
        """About the memory that it holds."""
        return self.message.nbytes if self.text is None else sum(map(len, self.text))

    def take_text(self) -> str:
        """Return the text that was not shown yet; from now on it was."""
        assert self.text is not None
        text = "".join(self.text[self._shown_text :])
        self._shown_text = len(self.text)
        return text

    def show_again(self) -> None:
        """It is no longer on the page, but belongs there."""
        self._shown_text = 0
        self.shown = False

    def forget(self) -> None:
        """It was shown and is not needed again; more text may still come."""
        if self.text is not None:
            del self.text[: self._shown_text]
            self._shown_text = 0
        else:
            self.message = _NOTHING
            self.content = self.display_id = None

    def void(self) -> None:
        """Forget what was not shown. The place among the units stays, for whoever counts them."""
        if self.text is not None:
            del self.text[self._shown_text :]
        elif not self.shown:
            self.message = _NOTHING
            self.content = self.display_id = None
            self.shown = True

    @property
    def is_void(self) -> bool:
        """There is nothing in it."""
        return self.message is _NOTHING or self.text == []

    def looks_like(self, other: Unit) -> bool:
        """Whether a person would take the two for the same."""
        if self.type != other.type or (self.text is None) != (other.text is None):
            return False
        if self.text is not None:
            return "".join(self.text) == "".join(other.text or ())
        return _looks(self) == _looks(other)


def _looks(unit: Unit) -> object:
    try:
        content = unit.message.content if unit.content is None else unit.content
    except ProtocolError:
        return unit.message.parts[3]
    if unit.type == "error":  # tracebacks name files and numbers of cells
        return content.get("ename"), content.get("evalue")
    return {k: v for k, v in content.items() if k not in ("transient", "execution_count")}


class Owner(Protocol):
    """The page, as its parts know it."""

    newest: Unit | None
    """The unit that was added last, whoever's."""

    def changed(self) -> None:
        """There is something to show."""

    def arrived(self, unit: Unit) -> None:
        """A unit was added to its part."""

    def taken_back(self, part: Part) -> None:
        """A part begins anew: what it said so far is to vanish."""

    def update(self, unit: Unit, *, held: bool) -> None:
        """A display of that kernel changes, wherever it is. ``held``: one that was not shown yet
        has changed already."""

    def comm(self, kernel: str, message: Message) -> None:
        """A message of a widget of that kernel, which has no place on the page."""

    def said(self, text: str) -> None:
        """A sentence of ours."""

    def over(self) -> None:
        """A part is complete."""

    def display_id(self, kernel: str, theirs: str) -> str:
        """Return the display id that holds here."""


class Part:
    """The sink for one kernel's outputs; see `Sink`."""

    def __init__(self, name: str, page: Owner) -> None:
        self.name = name
        self.units: list[Unit] = []
        self.first = 0
        """Where they begin: those before were taken back, and none of them was shown."""
        self.over = False
        self.last_line = ""
        """What it printed last, for whoever wants to see that it moves."""
        self.folded = False
        """It is shown under another's name, because it is the same."""
        self._page = page
        self._displays: dict[str, list[Unit]] = {}  # by display id
        self._clears_next = False

    @property
    def nunits(self) -> int:
        """How many there are since they begin."""
        return len(self.units) - self.first

    def restart(self) -> None:
        """Begin anew, as if nothing had been said."""
        self.units, self.first, self.folded = [], 0, False
        self.void()

    def output(self, message: Message) -> None:
        """Take one output message."""
        if message.type in COMM_TYPES:
            self._page.comm(self.name, message)
            return
        if message.type == "clear_output" and (wait := _waits(message)) is not None:
            self._clears_next = wait
            if not wait:
                self._page.taken_back(self)
        elif message.type == "update_display_data":
            self._update(message)
        else:
            if self._clears_next:  # front ends wait for the next output, whatever it is
                self._clears_next = False
                self._page.taken_back(self)
            if (piece := text_of(message)) is not None:
                self.last_line = _last_line(piece[1]) or self.last_line
                self._print(message, *piece)
            else:
                self._add(message)
        self._page.changed()

    def notice(self, text: str) -> None:
        """A sentence of ours is not among the outputs: it may not wait for their turn."""
        self._page.said(text)

    def finish(self) -> None:
        """It is complete, but for what threads of the cell may say later."""
        self.over = True
        self._page.over()

    def may_grow(self, unit: Unit) -> bool:
        """Whether more text may come to a unit."""
        return unit.text is not None and not self.over and unit is self.units[-1]

    def void(self) -> None:
        """Forget what was not shown."""
        self._displays.clear()
        if not any(unit.shown for unit in self.units[self.first :]):
            self.first = len(self.units)
        for unit in self.units:
            unit.void()

    def _print(self, message: Message, stream: str, text: str) -> None:
        last = self.units[-1] if self.units and not self.over else None
        if last is None or last.type != stream or last.text is None:
            last = Unit(self, message, stream=stream)
            self.units.append(last)
            self._page.arrived(last)
        assert last.text is not None
        last.text.append(text)

    def _add(self, message: Message) -> None:
        theirs, content = self._renamed(message)
        unit = Unit(self, message, content=content)
        if theirs is not None:
            unit.display_id = theirs
            self._displays.setdefault(theirs, []).append(unit)
        self.units.append(unit)
        self._page.arrived(unit)

    def _update(self, message: Message) -> None:
        name, content = self._renamed(message)
        held = False
        for unit in self._displays.get(name or "", ()):
            if unit.display_id == name:  # else it was taken back
                said = message.content if content is None else content
                old = unit.message.content if unit.content is None else unit.content
                unit.content = old | {key: said.get(key, {}) for key in ("data", "metadata")}
                held = held or not unit.shown
        update = Unit(self, message, content=content)
        update.display_id = name
        self._page.update(update, held=held)

    def _renamed(self, message: Message) -> tuple[str | None, dict[str, Any] | None]:
        """Return the display id that holds here, and the content with it if it is another."""
        if message.type not in WITH_ID or not may_have_id(message.parts[3]):
            return None, None
        try:
            theirs = display_id(message.content)
        except ProtocolError:
            return None, None
        if theirs is None or (here := self._page.display_id(self.name, theirs)) == theirs:
            return theirs, None
        transient = message.content["transient"] | {"display_id": here}
        return here, message.content | {"transient": transient}


class LinePart(Part):
    """A part of a page on which the lines of all kernels follow each other as they come: each
    begins with ``prefix``."""

    def __init__(self, name: str, page: Owner, prefix: str) -> None:
        super().__init__(name, page)
        self._prefix = prefix
        self._stream = ""
        self._rest: list[str] = []  # of a line that is not complete
        self._nrest = 0

    def finish(self) -> None:
        self._end_line()
        super().finish()

    def void(self) -> None:
        self._rest, self._nrest = [], 0
        super().void()

    def _print(self, message: Message, stream: str, text: str) -> None:
        if stream != self._stream:
            self._end_line()
            self._stream = stream
        lines, newline, rest = text.rpartition("\n")
        if newline:
            self._line(message, "".join([*self._rest, lines]))
            self._rest, self._nrest = [], 0
        self._rest.append(rest)
        self._nrest += len(rest)
        if self._nrest > LONGEST_LINE or self.over:
            self._end_line()
        self._last = message

    def _add(self, message: Message) -> None:
        self._end_line()
        super()._add(message)

    def _end_line(self) -> None:
        if self._nrest:
            self._line(self._last, "".join(self._rest))
        self._rest, self._nrest = [], 0

    def _line(self, message: Message, lines: str) -> None:
        """Add complete lines, each a unit's growth or a new unit if others came in between."""
        marked = "\n".join(self._marked(line) for line in lines.split("\n"))
        unit = self._page.newest
        if unit is None or unit.part is not self or unit.type != self._stream or self.over:
            unit = Unit(self, message, stream=self._stream)
            self.units.append(unit)
            self._page.arrived(unit)
        assert unit.text is not None
        unit.text.append(marked + "\n")

    def _marked(self, line: str) -> str:
        # What goes back to the beginning of the line would write over the prefix.
        end = "\r" if line.endswith("\r") else ""
        return self._prefix + line.removesuffix("\r").replace("\r", f"\r{self._prefix}") + end


Order = Iterator[Unit | None]


def by_kernel(parts: Sequence[Part]) -> Order:
    """All of the first kernel, then all of the second, and so on."""
    for part in parts:
        yield from _whole(part)


def by_order(parts: Sequence[Part]) -> Order:
    """What each kernel said first, then what each said second, and so on."""
    row = 0
    while any(part.nunits > row or not part.over for part in parts):
        for part in parts:
            while part.nunits <= row and not part.over:
                yield None
            if part.nunits > row:
                unit = part.units[part.first + row]
                yield unit
                while part.may_grow(unit):
                    yield None
        row += 1


def by_type(parts: Sequence[Part]) -> Order:
    """All stdout, then all stderr, then all displays and results, then all errors; in each of
    them, kernel by kernel."""
    for name in _NAMES:
        for part in parts:
            yield from _whole(part, partial(_is_called, name))


def first_of_all(parts: Sequence[Part]) -> Order:
    """All of the first kernel, and of the others those that say something else."""
    yield from _whole(parts[0])
    for part in parts[1:]:
        while not part.over:
            yield None
        part.folded = is_like(part, parts[0])
        if not part.folded:
            yield from _whole(part)


def as_they_come(parts: Sequence[Part]) -> Order:
    """Whatever there is, kernel by kernel; never ends."""
    positions = [len(part.units) if part.folded else 0 for part in parts]
    while True:
        for number, part in enumerate(parts):
            while positions[number] < len(part.units):
                unit = part.units[positions[number]]
                yield unit
                if part.may_grow(unit):
                    break
                positions[number] += 1
        yield None


def in_turn(arrived: Sequence[Unit]) -> Order:
    """All units in the order in which they came; never ends."""
    position = 0
    while True:
        while position < len(arrived):
            unit = arrived[position]
            yield unit
            if unit.part.may_grow(unit) and position == len(arrived) - 1:
                break
            position += 1
        yield None


def _whole(part: Part, wanted: Callable[[Unit], bool] = lambda unit: True) -> Order:
    position = 0
    while not (part.over and position >= len(part.units)):
        if position >= len(part.units):
            yield None
            continue
        unit = part.units[position]
        if wanted(unit):
            yield unit
        while part.may_grow(unit):
            yield None
        position += 1


def is_like(part: Part, other: Part) -> bool:
    """Whether two kernels said the same."""
    mine, theirs = ([unit for unit in each.units if not unit.is_void] for each in (part, other))
    return len(mine) == len(theirs) and all(
        unit.looks_like(same) for unit, same in zip(mine, theirs, strict=True)
    )


_NAMES = ("stdout", "stderr", "output", "error")


def type_name(unit: Unit) -> str:
    """Return what `type` calls a unit."""
    named = unit.type in ("stdout", "stderr") if unit.text is not None else unit.type == "error"
    return unit.type if named else "output"


def _is_called(name: str, unit: Unit) -> bool:
    return type_name(unit) == name


def _waits(message: Message) -> bool | None:
    try:
        return bool(message.content.get("wait"))
    except ProtocolError:
        return None


def _last_line(text: str) -> str:
    for line in reversed(text[-1000:].replace("\r", "\n").split("\n")):
        if line.strip():
            return line.strip()
    return ""
