"""Sticky mode: every cell goes to one kernel, until it is ended.

The cell's own text is what moves: it becomes the body of a `%%autoremote` cell before IPython reads
it. So `await`, `!ls` and `%time` are the other kernel's, and the history keeps what was typed."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from IPython.core.inputtransformer2 import EscapedCommand, MagicAssign

from .arguments import split_code

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_LOCAL = re.compile(r"%%local\s*")
_MAGIC = re.compile(
    r"(?: [\w.,\s\[\]'\"*]+ = \s* )? [?]{0,2} %{1,2} (\w+) | %? (autoremote) \s+ off \s* $",
    re.VERBOSE,
)
_ABOUT_US = re.compile(r"%(?:(?:un|re)?load_ext\s+kernel_magics|config\s+KernelMagics)\b")


class Sticky:
    """Where the cells of one shell go. It transforms their text, also while none is moved.

    ``ours`` tells which magics are this package's; a cell that begins with one of them stays.
    """

    has_side_effects = True
    """Keeps it out of IPython's judgement whether a cell is complete: that is about what was typed,
    and a cell magic would need a blank line to end it."""

    def __init__(self, shell: InteractiveShell, ours: Callable[[str], bool]) -> None:
        self.target: str | None = None
        """What `%autoremote` was given; None while cells run here."""
        self._shell = shell
        self._ours = ours

    def __call__(self, lines: list[str]) -> list[str]:
        """Transform the lines of a cell. IPython does this twice or more for each."""
        if lines and _LOCAL.fullmatch(lines[0]):
            return lines[1:] or ["\n"]
        if self.target is None or self.stays(lines) or self._nested():
            return lines
        return [f"%%autoremote {self.target}\n", *lines]

    def stays(self, lines: list[str]) -> bool:
        """Whether a cell runs here although all go elsewhere."""
        first = next((line.strip() for line in lines if _says_something(line)), "")
        if not first or _ABOUT_US.match(first):
            return True
        found = _MAGIC.match(first)
        return found is not None and self._ours(found[1] or found[2])

    def _nested(self) -> bool:
        """Whether this is asked in the middle of a cell that runs here, as for the body of a
        `%%time` below a `%%local`: that has gone nowhere else, and so stays."""
        frame: Any = sys._getframe()
        while frame is not None:
            if frame.f_code.co_name == "run_code" and frame.f_locals.get("self") is self._shell:
                return True
            frame = frame.f_back
        return False


def _says_something(line: str) -> bool:
    text = line.strip()
    return bool(text) and not text.startswith("#")


class RemoteHelp(EscapedCommand):
    """Has ``%remote K foo?`` ask that kernel what foo is; IPython would look for a foo here."""

    priority = 4  # before IPython's own help

    @classmethod
    def find(cls, tokens_by_line: Any) -> Any:
        """Return where the first such line is."""
        for line in tokens_by_line:
            tokens = [token for token in line if token.string.strip()]
            if [token.string for token in tokens[:2]] != ["%", "remote"]:
                continue
            text = tokens[0].line[tokens[1].end[1] :].strip()
            if text.endswith("?") and split_code(text)[1]:
                return cls(tokens[0].start)
        return None


class RemoteAssign(MagicAssign):
    """Has ``x = %remote K EXPRESSION`` ask for the value, by an option of the magic.

    A magic cannot see whether anybody takes what it returns; whatever it returned otherwise would
    be shown a second time.
    """

    priority = 9  # before IPython's own, which knows nothing of the option

    @classmethod
    def find(cls, tokens_by_line: Any) -> Any:
        """Return where the first assignment of a magic is, if it is one of `%remote`."""
        found: Any = super().find(tokens_by_line)  # type: ignore[no-untyped-call]
        if found is None:
            return None
        place = (found.start_line + 1, found.start_col)
        for line in tokens_by_line:
            for sign, name in itertools.pairwise(line):
                if sign.start == place:
                    return found if name.string == "remote" else None
        return None

    def transform(self, lines: list[str]) -> Any:
        """Put the option in."""
        line = lines[self.start_line]
        end = self.start_col + len("%remote")
        asked = [*lines]
        asked[self.start_line] = f"{line[:end]} --value{line[end:]}"
        return super().transform(asked)
