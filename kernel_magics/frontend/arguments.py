"""What was typed on a magic's line: options, words, and where the code begins."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

from IPython.core.error import UsageError
from IPython.utils.process import arg_split  # type: ignore[attr-defined]

from ..errors import BadName, ConnectionFileError, KernelNotFound, NoSuchJob, NotOwned

TAKE_VALUES = ("--timeout", "--unresponsive-after", "--save")
"""Options of `%remote` that take the next word with them."""


def parse(magic: Callable[..., Any], line: str) -> Any:
    """Parse a magic's line.

    Raises:
        UsageError: with one line that says what is wrong with it, an open quote included.
    """
    try:
        return _parse(magic.parser, line)  # type: ignore[attr-defined]
    except ValueError as error:
        raise UsageError(f"{error} in {line!r}") from None


@lru_cache(maxsize=256)
def _parse(parser: Any, line: str) -> Any:
    # Once for each line: argparse takes longer than the whole way to a kernel. And not with
    # parse_argstring, which leaves the quotes round a path with blanks.
    return parser.parse_args(words(line))


def words(line: str) -> list[str]:
    """Split a line as a shell does, quotes taken off.

    Raises:
        ValueError: an open quote.
    """
    split: list[str] = arg_split(line, posix=os.name == "posix")
    return split


def usage(magic: Callable[..., Any]) -> Callable[..., Any]:
    """Turn errors about what was typed into IPython's one line for that."""

    @wraps(magic)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return magic(*args, **kwargs)
        except (KernelNotFound, ConnectionFileError, BadName, NoSuchJob, NotOwned) as error:
            raise UsageError(str(error)) from None

    return wrapper


def split_code(line: str) -> tuple[str, str]:
    """Split ``[options] KERNEL CODE`` behind the kernel; the code is taken as it stands."""
    rest, takes_value = line, False
    while rest.strip():
        word, _, after = rest.lstrip().partition(" ")
        if takes_value:
            takes_value = False
        elif word.startswith("-"):
            takes_value = word in TAKE_VALUES
        else:
            end = len(line) - len(after)
            return line[:end], after
        rest = after
    return line, ""


def split_kernel(line: str) -> tuple[str | None, list[str]]:
    """Split ``[KERNEL] ARGS``. Not by argparse: ``--style monokai`` names no kernel."""
    try:
        found = words(line)
    except ValueError as error:
        raise UsageError(f"{error} in {line!r}") from None
    if found and not found[0].startswith("-"):
        return found[0], found[1:]
    return None, found


def assignment(text: str) -> tuple[str, str]:
    """Split ``NAME=VALUE``.

    Raises:
        UsageError: it is something else.
    """
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise UsageError(f"--env wants NAME=VALUE, not {text!r}")
    return name, value
