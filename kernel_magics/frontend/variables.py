"""The magics that bring variables to a kernel and from it, and how their progress is shown."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument
from IPython.display import display

from ..errors import TransferError
from .arguments import magic_arguments, parse, usage
from .terminal import safe

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from ..kernels.kernel import Kernel
    from ..kernels.values import Progress
    from .session import LocalSession

SHOWN_AFTER = 1.0
"""Seconds after which it is shown how far a transfer is."""

SHOWN_EVERY = 0.2
"""Seconds between two such figures."""


@magics_class
class VariableMagics(Magics):
    """Magics that bring variables to other kernels and from them."""

    def __init__(self, session: LocalSession) -> None:
        super().__init__(session.shell)
        self._shell = session.shell
        self._pool = session.pool

    @magic_arguments()
    @argument(
        "--from",
        dest="source",
        metavar="KERNEL",
        help="take them from that kernel; they do not come to this session",
    )
    @argument("kernel", help="an attached kernel: where they go")
    @argument("what", nargs="+", metavar="NAME", help="a variable, or NAME=EXPRESSION")
    @no_var_expand
    @line_magic
    @usage
    def kernel_push(self, line: str) -> None:
        """Set variables in a kernel: all of them, or none.

        ::

            %kernel_push gpu data labels
            %kernel_push gpu small=data[:1000]
            %kernel_push gpu model --from trainer
        """
        args = parse(self.kernel_push, line)
        kernel = self._pool[args.kernel]
        if args.source is None:
            push(self._shell, kernel, args.what)
            return
        source = self._pool[args.source]
        with shown(f"{source.name} to {kernel.name}", self._shell) as progress:
            kernel.push(dict(map(_named, args.what)), source=source, progress=progress)

    @magic_arguments()
    @argument("--as", dest="name", help="what to call it here")
    @argument("kernel", help="an attached kernel: where they are")
    @argument("what", nargs="+", metavar="NAME", help="a variable there, or NAME=EXPRESSION")
    @no_var_expand
    @line_magic
    @usage
    def kernel_pull(self, line: str) -> None:
        """Set variables here to what they are in a kernel: all of them, or none.

        ::

            %kernel_pull gpu result
            %kernel_pull gpu result --as first_result
            %kernel_pull gpu mean=data.mean()
        """
        args = parse(self.kernel_pull, line)
        what = args.what
        if args.name is not None:
            if len(what) != 1:
                raise UsageError(f"--as {args.name} names one value, not {len(what)}")
            what = [f"{args.name}={_named(what[0])[1]}"]
        pull(self._shell, self._pool[args.kernel], what)


def push(shell: InteractiveShell, kernel: Kernel, what: list[str]) -> None:
    """Send what names, or ``NAME=EXPRESSION``, stand for in this session.

    Raises:
        TransferError: one of them does not exist here, or cannot be sent.
    """
    values = {}
    for name, expression in map(_named, what):
        try:
            values[name] = eval(expression, shell.user_global_ns, shell.user_ns)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise TransferError(name, kernel.name, reason) from error
    with shown(f"{', '.join(values)} to {kernel.name}", shell) as progress:
        kernel.push(values, progress=progress)


def pull(shell: InteractiveShell, kernel: Kernel, what: list[str]) -> None:
    """Set names of this session to what they, or the expressions behind them, are there.

    Raises:
        TransferError: one of them does not exist there, or cannot be brought.
    """
    names = dict(map(_named, what))
    for name in names:
        if not name.isidentifier():
            raise TransferError(name, kernel.name, "no variable here can be called so")
    with shown(f"{', '.join(names)} from {kernel.name}", shell) as progress:
        values = kernel.pull(list(names.values()), progress=progress)
    shell.user_ns.update(zip(names, values, strict=True))


def names_in(text: str | None) -> list[str]:
    """Split what follows ``-i`` or ``-o``: names with commas between them."""
    return [name for name in map(str.strip, (text or "").split(",")) if name]


@contextmanager
def shown(what: str, shell: InteractiveShell) -> Iterator[Progress]:
    """Show how far a transfer is, once it takes long."""
    from ..kernels.values import Progress

    line = _Line(what, in_terminal=getattr(shell, "kernel", None) is None)
    try:
        yield Progress(line.moved, line.say)
    finally:
        line.end()


class _Line:
    """One line that is written anew while bytes move, and that stays as it was last."""

    def __init__(self, what: str, *, in_terminal: bool) -> None:
        self._what = what
        self._in_terminal = in_terminal
        self._began = self._last = time.monotonic()
        self._text = ""
        self._handle: Any = None

    def moved(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._began < SHOWN_AFTER or (
            now - self._last < SHOWN_EVERY and self._text and done < total
        ):
            return
        self._last = now
        rate = done / (now - self._began)
        self._text = (
            f"{self._what}: {done / 1e6:,.0f} of {total / 1e6:,.0f} MB, {rate / 1e6:,.0f} MB/s"
        )
        if self._in_terminal:
            print(f"\r{safe(self._text)}\x1b[K", end="", file=sys.stderr, flush=True)
        elif self._handle is None:
            self._handle = display({"text/plain": self._text}, raw=True, display_id=True)
        else:
            self._handle.update({"text/plain": self._text}, raw=True)

    def say(self, text: str) -> None:
        self.end()
        print(safe(text) if self._in_terminal else text, file=sys.stderr, flush=True)

    def end(self) -> None:
        """What comes next stands on a line of its own."""
        if self._text and self._in_terminal:
            print(file=sys.stderr, flush=True)
            self._text = ""


def _named(text: str) -> tuple[str, str]:
    """Split ``NAME=EXPRESSION``; a name alone is its own expression."""
    name, equals, expression = text.partition("=")
    name = name.strip()
    if not equals:
        return name, name
    if not expression.strip() or not name.isidentifier():
        raise UsageError(f"{text!r} is neither a name nor NAME=EXPRESSION")
    return name, expression.strip()
