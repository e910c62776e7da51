"""Completion and help for what belongs to another kernel, and for the lines of our own magics.

Whoever presses Tab gets what that kernel's own front end would show, or nothing: never a name of
this kernel instead, never an exception, and never later than the kernel's deadline allows."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..errors import KernelMagicsError
from ..protocol.answers import TYPED_MATCHES, Completeness, Completion, Inspection
from ..protocol.passive import passive_data
from .arguments import parser_of, words
from .typed import MagicLine, MagicName, Reader, RemoteCode

if TYPE_CHECKING:
    from ..kernels.kernel import Kernel
    from ..kernels.pool import KernelPool

log = logging.getLogger("kernel_magics")

NAMES_A_KERNEL = frozenset({"kernel", "kernels", "target", "targets"})
"""What arguments of our magics are called that stand for an attached kernel, or several."""

ELSEWHERE = frozenset({"python", "cwd", "sshkey"})
"""What arguments are called that are paths, which IPython completes."""


class Assistant:
    """Answers for one shell; each answer is None where only IPython knows."""

    def __init__(self, pool: KernelPool, reader: Reader) -> None:
        self._pool = pool
        self._reader = reader

    def complete(self, cell: str, cursor: int) -> Completion | None:
        """Return what may stand at the cursor."""
        nothing = Completion([], cursor, cursor)
        try:
            match self._reader.read(cell, cursor):
                case RemoteCode(target, code, start):
                    kernel = self._kernel(target)
                    found = kernel and kernel.complete(code, cursor - start)
                    return found.moved(start) if found else nothing
                case MagicLine(magic, before):
                    return self._complete_line(magic, before, cursor)
        except Exception as error:
            _note(error)
            return nothing
        return None

    def inspect(self, cell: str, cursor: int, detail_level: int) -> Inspection | str | None:
        """Return what is known of the name at the cursor; a text is one to inspect here instead."""
        try:
            match self._reader.read(cell, cursor):
                case RemoteCode(target, code, start, passive):
                    kernel = self._kernel(target)
                    found = kernel and kernel.inspect(code, cursor - start, detail_level)
                    if found and passive:
                        found = Inspection(found.found, passive_data(found.data))
                    return found or Inspection(False)
                case MagicName(text):
                    return text
                case MagicLine():
                    # What stands there is a kernel's name or an option, not a variable of ours.
                    return Inspection(False)
        except Exception as error:
            _note(error)
            return Inspection(False)
        return None

    def is_complete(self, cell: str) -> Completeness | None:
        """Return whether a cell that goes elsewhere because all do can be run as it is."""
        if not self._reader.is_moved(cell):
            return None
        try:
            kernel = self._kernel(self._reader.target)
            if kernel is None or kernel.language == "python":
                return None  # IPython judges that here, and at once
            return kernel.is_complete(cell) or Completeness("unknown")
        except Exception as error:
            _note(error)
            return None

    def _kernel(self, target: str | None) -> Kernel | None:
        """Return the attached kernel that answers for a target; the first of several."""
        if target is None:
            return None
        if not target:
            return self._pool.last
        first = target.split(",")[0]
        if (known := self._pool.known(first)) is not None:
            return known
        pattern = "*" if first == "all" else first
        return next((each for each in self._pool if fnmatch.fnmatchcase(each.name, pattern)), None)

    # The lines of our magics.

    def _complete_line(self, magic: Any, before: str, cursor: int) -> Completion | None:
        ended = not before or before[-1].isspace()
        try:
            typed = words(before)
        except ValueError:  # an open quote: a path, most likely
            return None
        current = "" if ended else typed.pop()
        argument = _argument(magic, typed, current)
        if argument in ELSEWHERE or current.startswith(("~", "/", ".")):
            return None
        choices, word = self._choices(argument, magic), current
        if argument in NAMES_A_KERNEL:
            word = current.rpartition(",")[2]
        matches = [one for one in choices if one.startswith(word)]
        start = cursor - len(word)
        kind = "option" if argument == "-" else "kernel"
        typed_matches = [
            {"start": start, "end": cursor, "text": one, "type": kind, "signature": ""}
            for one in matches
        ]
        return Completion(matches, start, cursor, {TYPED_MATCHES: typed_matches})

    def _choices(self, argument: str, magic: Any) -> Iterable[str]:
        if argument == "-":
            return sorted(
                one for one in parser_of(magic)._option_string_actions if one.startswith("--")
            )
        if argument in NAMES_A_KERNEL:
            more = ["off"] if magic.__name__ == "autoremote" else []
            return [*self._pool.names, *more]
        if argument == "spec":
            from ..connect.launch import kernelspecs

            return kernelspecs()
        if argument == "what":
            from ..connect.find import fragments

            return fragments()
        return []


def _argument(magic: Any, typed: list[str], current: str) -> str:
    """Return what the argument at the cursor is called; ``-`` for an option itself, empty when none
    belongs there."""
    if current.startswith("-"):
        return "-"
    parser = parser_of(magic)
    places = 0
    takes_next: Any = None
    for word in typed:
        if takes_next is not None:
            takes_next = None
        elif word.startswith("-"):
            option = parser._option_string_actions.get(word)
            takes_next = option if option is not None and option.nargs != 0 else None
        else:
            places += 1
    if takes_next is not None:
        return str(takes_next.dest)
    positional = parser._get_positional_actions()
    if places < len(positional):
        return str(positional[places].dest)
    return ""


def _note(error: Exception) -> None:
    """For whoever looks for it; at a prompt nobody does."""
    lies = isinstance(error, KernelMagicsError)
    log.debug("no completion or help: %s", error, exc_info=not lies)
