"""What a kernel may write to a real terminal.

A notebook shows escape sequences as colours or not at all; a terminal obeys them, and a hostile or
confused kernel could rename its window, fill its clipboard, switch its character set or write over
what was there before. Colours, carriage return, backspace, erasing the line and going up within the
cell's own lines pass, because progress bars are made of them. Everything else is made visible."""

from __future__ import annotations

import re
from functools import cache

_UNFINISHED = re.compile(r"\x1b(\[[0-9;:]*)?\Z")

LONGEST_SEQUENCE = 32
"""Characters of an unfinished sequence that are kept for the next piece; more is no colour."""


LONGEST_NAME = 40

LINE_ENDS = ("\n", "\r", "\r\n")
_LINE_ENDS = re.compile(r"(\r?\n|\r)")


@cache
def _sequence() -> re.Pattern[str]:
    """Match passing sequences, or one character that a terminal could obey; C1 controls, lone
    surrogates and the marks that reverse the direction of text included. Tab, newline, CR and BS
    are in neither. Made when it is needed: that takes 0.8 ms, and a notebook needs it rarely."""
    return re.compile(
        r"\x1b\[(?P<parameters>[0-9;:]*)(?P<final>[mKA])"
        r"|(?P<other>[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069])"
    )


class TerminalFilter:
    """Makes one cell's text safe, piece by piece. With ``alone`` False others write between its
    pieces, so that it may not go up at all."""

    def __init__(self, *, alone: bool = True) -> None:
        self._alone = alone
        self._lines = 0  # lines below the cell's first one: so far the cursor may go up
        self._kept = ""

    def __call__(self, text: str) -> str:
        """Return the text that may be written; an unfinished sequence waits for the next piece."""
        text, self._kept = self._kept + text, ""
        unfinished = _UNFINISHED.search(text)
        if unfinished is not None and len(unfinished[0]) <= LONGEST_SEQUENCE:
            text, self._kept = text[: unfinished.start()], unfinished[0]
        parts: list[str] = []
        position = 0
        for match in _sequence().finditer(text):
            plain = text[position : match.start()]
            self._lines += plain.count("\n")
            parts += plain, self._allowed(match)
            position = match.end()
        rest = text[position:]
        self._lines += rest.count("\n")
        return "".join([*parts, rest])

    def _allowed(self, match: re.Match[str]) -> str:
        if match["other"]:
            return visible(match["other"])
        if match["final"] == "A":
            number = match["parameters"] or "1"
            far = number.isdecimal() and 0 < int(number[:6]) <= self._lines
            if not (far and self._alone):
                return visible(match[0])
            self._lines -= int(number)
        return match[0]


def safe(text: str) -> str:
    """Return a text of a kernel, whole, as it may be written to a terminal."""
    return TerminalFilter()(text + "\x1b[0m").removesuffix("\x1b[0m")


def one_line(text: str, longest: int = LONGEST_NAME) -> str:
    """Return a name that somebody else gave, as it may stand in a table: one line, not too long."""
    text = visible(text)
    return text if len(text) <= longest else text[: longest - 1] + "…"


class LinePrefix:
    """Begins every line of a text with the same words, also where a progress bar begins it again.

    The text comes piece by piece.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._begins = True  # with the next character

    def __call__(self, text: str) -> str:
        """Return a piece with the prefix in it."""
        parts = []
        for part in _LINE_ENDS.split(text):
            if part and self._begins and part not in LINE_ENDS:
                parts.append(self._prefix)
            if part:
                self._begins = part in LINE_ENDS
            parts.append(part)
        return "".join(parts)


def visible(text: str) -> str:
    """Write control characters out, as ``\\x1b``."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
