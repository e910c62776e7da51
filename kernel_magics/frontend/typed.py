"""What is being typed, and whose it is: code for another kernel, a line of one of our magics, or
something that is only IPython's business."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from IPython.core.error import UsageError

from .arguments import is_ours, parse, split_code
from .sticky import Sticky

_CELL_MAGIC = re.compile(r"[^\S\n]*%%(\w+)[^\S\n]*([^\n]*)\n?")
_BLANK = re.compile(r"(?:[^\S\n]*\n)+")
# Possessive, or a line of many blanks would be gone through once for each of them.
_LINE_MAGIC = re.compile(r"[^\S\n]*+(?:[\w.,\s\[\]'\"*]+=\s*)?%(\w+)([^\S\n]+)")

RUN_THEIR_BODY = frozenset({"capture", "prun", "time", "timeit"})
"""IPython's cell magics whose body is a cell again, which may be remote."""


@dataclass(frozen=True, slots=True)
class RemoteCode:
    """Code for another kernel. ``target`` is what names the kernel, None if nothing does;
    ``start`` is where the code begins in what is typed, in characters. With ``passive`` the kernel
    may show nothing that a front end would execute."""

    target: str | None
    code: str
    start: int
    passive: bool = False


@dataclass(frozen=True, slots=True)
class MagicLine:
    """The line of one of our magics. ``before`` is what stands between its name and the cursor."""

    magic: Any
    before: str


@dataclass(frozen=True, slots=True)
class MagicName:
    """The name of a magic of ours that heads a cell; ``text`` is it with its signs."""

    text: str


class Reader:
    """Reads what is typed into one shell. ``magics`` are those registered there, by kind."""

    def __init__(self, magics: dict[str, dict[str, Any]], sticky: Sticky) -> None:
        self._magics = magics
        self._sticky = sticky

    def read(self, cell: str, cursor: int) -> RemoteCode | MagicLine | MagicName | None:
        """Return what the cursor is in; None for what is IPython's business."""
        start, moved = 0, self._sticky.target
        while True:
            if blank := _BLANK.match(cell, start):
                start = blank.end()
            if not (head := _CELL_MAGIC.match(cell, start)):
                break
            name, line = head[1], head[2]
            stays = self._is_ours("cell", name) and name != "autoremote"
            if moved is not None and not stays:
                return self._moved(cell, start, cursor)
            if cursor <= head.end(2):
                if not self._is_ours("cell", name):
                    return None
                if cursor <= head.end(1):
                    return MagicName(f"%%{name}")
                return MagicLine(
                    self._magics["cell"][name], cell[min(head.start(2), cursor) : cursor]
                )
            if name == "remote":
                target, passive = self._named(self._magics["cell"][name], line)
                return RemoteCode(target, cell[head.end() :], head.end(), passive)
            if name == "local":
                moved = None
            elif name not in RUN_THEIR_BODY:
                return None
            start = head.end()
        if moved is not None and not self._sticky.stays(cell[start:].splitlines()):
            return self._moved(cell, start, cursor)
        return self._line(cell, cursor)

    @property
    def target(self) -> str | None:
        """Where all cells go; None while they run here."""
        return self._sticky.target

    def is_moved(self, cell: str) -> bool:
        """Whether the cell goes elsewhere because all do."""
        return self._sticky.target is not None and not self._sticky.stays(cell.splitlines())

    def _moved(self, cell: str, start: int, cursor: int) -> RemoteCode | None:
        if cursor < start:
            return None
        return RemoteCode(self._sticky.target, cell[start:], start)

    def _line(self, cell: str, cursor: int) -> RemoteCode | MagicLine | None:
        start = cell.rfind("\n", 0, cursor) + 1
        end = cell.find("\n", cursor)
        line = cell[start:] if end < 0 else cell[start:end]
        head = _LINE_MAGIC.match(line)
        if head is None or not self._is_ours("line", head[1]) or cursor < start + head.end():
            return None
        magic = self._magics["line"][head[1]]
        if head[1] == "remote":
            options, code = split_code(line[head.end() :])
            begins = start + head.end() + len(options)
            # Only a blank behind it finishes the kernel's name.
            if cursor >= begins and options[-1:].isspace():
                target, passive = self._named(magic, options)
                if target:
                    return RemoteCode(target, code, begins, passive)
        return MagicLine(magic, line[head.end() : cursor - start])

    def _is_ours(self, kind: str, name: str) -> bool:
        return is_ours(self._magics[kind].get(name))

    @staticmethod
    def _named(magic: Any, line: str) -> tuple[str | None, bool]:
        """Return the kernel that a line names, and whether what it shows has to be passive."""
        try:
            args = parse(magic, line)
        except (UsageError, SystemExit):
            return None, True
        return (args.targets or args.kernels or "").partition(",")[0], args.no_html
