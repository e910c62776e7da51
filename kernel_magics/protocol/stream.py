"""Text of a cell: reading stream messages, and making one of many.

The only messages that are ever joined are neighbouring pieces of one stream; a front end shows the
same for them. Everything else stays as the kernel sent it."""

from __future__ import annotations

import re

from ..errors import ProtocolError
from .message import FULL_CHECK, Message

ENDS = 64
"""Bytes at both ends of a large content; the name stands before or behind the text."""

_STDERR = re.compile(rb'"name"\s*:\s*"stderr"')


def text_of(message: Message) -> tuple[str, str] | None:
    """Return name and text of a ``stream`` message; None if it is not one, or an odd one."""
    if message.type != "stream":
        return None
    try:
        name, text = message.content.get("name"), message.content.get("text")
    except ProtocolError:
        return None
    return (name, text) if isinstance(name, str) and isinstance(text, str) else None


def is_on_stderr(message: Message) -> bool:
    """Whether a ``stream`` message is text on stderr; a large one is not unpacked for that."""
    packed = message.parts[3]
    if len(packed) > FULL_CHECK:
        return (
            _STDERR.search(packed[:ENDS]) is not None or _STDERR.search(packed[-ENDS:]) is not None
        )
    piece = text_of(message)
    return piece is not None and piece[0] == "stderr"


class TextRun:
    """Neighbouring stream messages of one name, as one."""

    __slots__ = ("_first", "_name", "_pieces")

    def __init__(self, first: Message, name: str, text: str) -> None:
        self._first = first
        self._name = name
        self._pieces = [text]

    def take(self, name: str, text: str) -> bool:
        """Add a piece if it is of the same stream; return whether it was."""
        if name == self._name:
            self._pieces.append(text)
        return name == self._name

    def message(self) -> Message:
        """Return them as one message."""
        if len(self._pieces) == 1:
            return self._first
        return self._first.with_content({"name": self._name, "text": "".join(self._pieces)})
