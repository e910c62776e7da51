"""The magics of sticky mode: `%autoremote` and `%%local`, and what an outsider sees of it."""

from __future__ import annotations

import html
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import argument
from IPython.display import display

from ..errors import KernelGone, KernelNotFound
from .arguments import magic_arguments, parse, usage

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from .remote import RemoteMagics
    from .session import LocalSession
    from .sticky import Sticky

WAY_OUT = "`%autoremote off` ends that, and `%%local` above a cell runs that one here"


@magics_class
class StickyMagics(Magics):
    """Magics that move all cells to another kernel, and back."""

    def __init__(self, session: LocalSession, remote: RemoteMagics, sticky: Sticky) -> None:
        super().__init__(session.shell)
        self._session = session
        self._remote = remote
        self._sticky = sticky

    @magic_arguments()
    @argument(
        "kernel", nargs="?", help="as for %%%%remote; `off` ends it, nothing says how things are"
    )
    @line_magic
    @usage
    def autoremote(self, line: str) -> None:
        """Run every cell from now on in another kernel, until `%autoremote off`.

        ::

            %autoremote gpu
            model.fit(data)          # in gpu, as is every cell from here on
            %autoremote off

        In between, `%%local` above a cell runs that one here, and this package's own magics
        (`%kernels`, `%%remote other`) stay here too. A terminal names the kernel in its prompt, a
        notebook above the outputs.
        """
        args = parse(self.autoremote, line)
        sticky = self._sticky
        if args.kernel == "off":
            print(f"cells run here again, no longer in {sticky.target}" if sticky.target else HERE)
            sticky.target = None
        elif args.kernel is not None:
            kernel, new = self._session.pool.get_or_attach(args.kernel)
            if new:
                self._session.say("attached", kernel)
            sticky.target = kernel.name
            print(f"every cell now runs in {kernel.name}; {WAY_OUT}")
        else:
            print(f"every cell runs in {sticky.target}; {WAY_OUT}" if sticky.target else HERE)

    @cell_magic("autoremote")  # type: ignore[arg-type]  # IPython's decorators are half typed
    @usage
    def autoremote_cell(self, line: str, cell: str) -> None:
        """Run a cell of sticky mode; what is typed after `%autoremote KERNEL` becomes this."""
        if getattr(self._session.shell, "kernel", None) is not None:
            display(KernelLabel(line))
        try:
            self._remote.run_in(line, cell.removesuffix("\n"), header=None)
        except KernelNotFound as error:
            raise UsageError(f"{error}. Every cell goes to {line}: {WAY_OUT}") from None
        except KernelGone:
            print(f"every cell still goes to {line}: {WAY_OUT}", file=sys.stderr, flush=True)
            raise

    @cell_magic
    def local(self, line: str, cell: str) -> None:
        """Run this cell here although `%autoremote` moves all cells elsewhere.

        ::

            %%local
            plot(result)
        """
        # The header is taken off before IPython reads the cell; here is what was not like that.
        if line.strip():
            raise UsageError(f"%%local takes nothing behind it, not {line.strip()!r}")
        self._session.shell.run_cell(cell)


HERE = "cells run here; `%autoremote KERNEL` has them run elsewhere"


class KernelLabel:
    """Names the kernel that the outputs below it are of."""

    def __init__(self, kernel: str) -> None:
        self.kernel = kernel

    def __repr__(self) -> str:
        return f"[{self.kernel}]"

    def _repr_html_(self) -> str:
        return f'<small style="opacity: 0.6">[{html.escape(self.kernel)}]</small>'


def mark_prompt(shell: InteractiveShell, sticky: Sticky) -> Callable[[], None]:
    """Have a terminal's prompt name the kernel that cells go to; return what undoes that."""
    from .complete import replace

    prompts: Any = getattr(shell, "prompts", None)
    if prompts is None:
        return lambda: None
    plain = prompts.in_prompt_tokens

    def in_prompt_tokens() -> list[tuple[Any, str]]:
        """Return the tokens that IPython's prompt is made of."""
        tokens: list[tuple[Any, str]] = plain()
        if sticky.target and tokens:
            tokens = [(tokens[0][0], f"[{sticky.target}] "), *tokens]
        return tokens

    return replace(prompts, "in_prompt_tokens", in_prompt_tokens)
