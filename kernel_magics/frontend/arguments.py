"""What was typed on a magic's line: options, words, and where the code begins."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, lru_cache, partial, wraps
from typing import Any, cast

from IPython.core.error import UsageError
from IPython.core.magic_arguments import argument, construct_parser
from IPython.utils.process import arg_split  # type: ignore[attr-defined]

from ..errors import BadName, ConnectionFileError, KernelNotFound, NoSuchJob, NotOwned

TARGETS = ("-t", "--targets")
"""Options that name the kernels, so that no word in front of the code does."""

TAKE_VALUES = (
    "--timeout",
    "--unresponsive-after",
    "--save",
    "-i",
    "-o",
    "--group-outputs",
    "--progress-after",
    *TARGETS,
)
"""Options of `%remote` that take the next word with them."""

GROUPINGS = ("kernel", "order", "type", "first", "merge")


def magic_arguments(name: str | None = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """As IPython's; but parser and help are made when somebody wants them. Making those of all our
    magics took half of `%load_ext`."""

    def decorate(magic: Any) -> Callable[..., Any]:
        if name is not None:
            magic.argcmd_name = name
        magic.getdoc = partial(_help, magic)  # what `?` asks first
        return cast(Callable[..., Any], magic)

    return decorate


def parser_of(magic: Any) -> Any:
    """Return the `argparse` parser of a magic."""
    return _parser(getattr(magic, "__func__", magic))


@cache
def _parser(magic: Any) -> Any:
    if not hasattr(magic, "decorators"):
        magic.decorators = []  # it has no arguments
    return construct_parser(magic)


def _help(magic: Any) -> str:
    _parser(magic)  # this writes the help as well
    return str(magic.__doc__)


def is_ours(magic: object) -> bool:
    """Whether this package has defined a registered magic."""
    owner = getattr(magic, "__self__", None)
    return type(owner).__module__.startswith(f"{__package__}.")


def parse(magic: Callable[..., Any], line: str) -> Any:
    """Parse a magic's line.

    Raises:
        UsageError: with one line that says what is wrong with it, an open quote included.
    """
    try:
        return _parse(parser_of(magic), line)
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
    rest, takes_value, named = line, False, False
    while rest.strip():
        word, _, after = rest.lstrip().partition(" ")
        if takes_value:
            takes_value = False
        elif word.startswith("-"):
            takes_value = word in TAKE_VALUES
            named = named or word.partition("=")[0] in TARGETS
        elif named:
            return line[: len(line) - len(rest)], rest.lstrip()
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


def fan_out_options(magic: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that only count for several kernels."""
    found = (
        argument(
            "--timeline", action="store_true", help="show afterwards who ran when, as a drawing"
        ),
        argument(
            "--progress-after",
            type=float,
            default=2.0,
            metavar="SECONDS",
            help="show how far they are, in one line, when it takes longer than this (2)",
        ),
        argument(
            "--no-stream",
            dest="stream",
            action="store_false",
            help="show nothing before all are through",
        ),
        argument(
            "--stream",
            action="store_true",
            default=True,
            help="show what the grouping allows as soon as it comes (the default)",
        ),
        argument(
            "--group-outputs",
            choices=GROUPINGS,
            default="kernel",
            help="kernel: all of the first, then all of the second, ...; order: what each said "
            "first, then what each said second, ...; type: all stdout, all stderr, all displays, "
            "all errors; first: the first one's, and others only if they say something else; "
            "merge: line by line as they come, each with its kernel's name",
        ),
        argument(
            "--fail-fast", action="store_true", help="when one fails, interrupt all the others"
        ),
        argument("--local", action="store_true", help="run it in this session too"),
    )
    for option in found:
        magic = option(magic)
    return magic
