"""What the I/O thread has for whoever waits for a cell, and what takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from ..protocol.execution import Prompt
from ..protocol.message import Message
from .result import Ended


@dataclass(frozen=True, slots=True)
class Notice:
    text: str


@dataclass(frozen=True, slots=True)
class LogIn:
    """The way to the kernel needs the user."""


@dataclass(frozen=True, slots=True)
class Call:
    """Another thread works for this cell, and has something to tell on the waiting one."""

    callback: Callable[[], None]


Event = Message | Prompt | Notice | LogIn | Call | Ended
"""What the I/O thread has for the one who waits."""


class Events(Protocol):
    """Takes the events of a cell, on the I/O thread. Must never block and never raise."""

    def put(self, event: Event, /) -> None: ...


class Sink(Protocol):
    """Takes outputs on the reactor's thread, as they come. Must never block and never raise."""

    def output(self, message: Message) -> None:
        """One output message of the kernel."""

    def notice(self, text: str) -> None:
        """A sentence of ours that belongs among the outputs."""

    def finish(self) -> None:
        """No more outputs before the cell's end: hand on whatever is still kept."""


Show = Callable[[Message | str], None]
"""Takes an output message, or a sentence of ours, on the waiting thread."""

Ask = Callable[[str, bool], str]
"""Asks the user for a line: the prompt, and whether it is a password."""


PayloadShown = Callable[[list[dict[str, Any]]], Iterable[Message | str]]
"""Makes outputs, and sentences without the kernel's name, of a payload; on the reactor's thread."""
