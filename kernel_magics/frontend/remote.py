"""The main job: `%%remote` and `%remote`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from ..errors import RemoteError
from .arguments import fan_out_options, parse, split_code, usage
from .output import choose

if TYPE_CHECKING:  # the rest is loaded with the first kernel: loading the extension has to be quick
    from ..kernels.execution import Show, Sink
    from .magics import KernelMagics
    from .session import LocalSession


def _cell_options(magic: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that `%%remote` and `%remote` share."""
    options = (
        argument(
            "-q", "--quiet", action="store_true", help="show no output; errors are still raised"
        ),
        argument(
            "--timeout",
            type=float,
            metavar="SECONDS",
            help="stop waiting after this long; the code runs on there",
        ),
        argument(
            "--unresponsive-after",
            type=float,
            metavar="SECONDS",
            help="give up when the kernel has been completely silent for this long",
        ),
        argument(
            "--no-raise-error",
            action="store_true",
            help="show a remote error but let this cell succeed, so that Run All goes on",
        ),
        argument(
            "-t",
            "--targets",
            metavar="KERNELS",
            help="the same as KERNELS alone, for those who know it from %%%%px",
        ),
        argument(
            "kernels",
            nargs="?",
            metavar="KERNELS",
            help="an attached kernel, or a fragment of a connection file's name; several with "
            "commas between them, patterns (gpu-*), or `all`",
        ),
    )
    for option in options:
        magic = option(magic)
    return fan_out_options(magic)


@magics_class
class RemoteMagics(Magics):
    """Magics that run cells in other kernels. ``settings`` are what `%config` knows."""

    def __init__(self, session: LocalSession, settings: KernelMagics) -> None:
        super().__init__(session.shell)
        self._session = session
        self._settings = settings

    @magic_arguments()
    @_cell_options
    @cell_magic
    @usage
    def remote(self, line: str, cell: str) -> None:
        """Run this cell in another kernel; its outputs, prompts and errors appear here.

        ::

            %%remote gpu
            model.fit(data)

        Ctrl-C (or the stop button) interrupts that kernel; a second one gives the prompt back.

        ::

            %%remote gpu-* --group-outputs order
            loss.plot()

        Several kernels run at once, and what they show is grouped, also while it comes in. It
        fails if it failed in one of them, and the error names each.
        """
        # IPython ends every cell with a newline that its front end did not send; with it the remote
        # would name the cell's file differently.
        self._run(parse(self.remote, line), cell.removesuffix("\n"))

    @magic_arguments("remote")
    @_cell_options
    @argument("code", nargs="...", help="what to run, to the end of the line")
    @no_var_expand
    @line_magic("remote")  # type: ignore[arg-type]  # IPython's decorators are half typed
    @usage
    def remote_line(self, line: str) -> None:
        """Run one line in another kernel.

        ::

            %remote gpu !nvidia-smi
        """
        options, code = split_code(line)
        self._run(parse(self.remote_line, options), code)

    def _run(self, args: Any, code: str) -> None:
        from ..kernels.execution import Limits
        from ..kernels.targets import resolve

        session = self._session
        targets = args.targets or args.kernels
        if targets is None or (args.targets and args.kernels):
            raise UsageError("required: kernel, or several with commas between them, or -t KERNELS")
        kernels = resolve(session.pool, targets, partial(session.say, "attached"))
        if len(kernels) > 1 or args.local:
            from .fanout import fan_out

            fan_out(session, kernels, code, args, self._settings.text_limit)
            return
        (kernel,) = kernels
        via = session.via()
        if kernel.info.fingerprint in via:
            raise UsageError(
                f"{kernel.name} is waiting for this very cell; it would wait for itself for ever"
            )
        sink: Sink | None = None
        show: Show | None = _ignore
        if not args.quiet:
            sink, show = choose(kernel.name, session.shell, session.iopub, kernel.reactor)
        try:
            kernel.run(
                code,
                sink=sink,
                show=show,
                ask=session.asker(kernel.name),
                timeout=args.timeout,
                limits=Limits(self._settings.text_limit, args.unresponsive_after),
                metadata={"km_via": via} if via else {},
            )
        except RemoteError as error:
            error.shown = error.explained and not args.quiet
            if not args.no_raise_error:
                raise
            if not (error.shown or args.quiet):
                session.shell.showtraceback()
        finally:
            if sink is not None and session.iopub is not None:
                session.iopub.settle()


def _ignore(item: object) -> None:
    """Show nothing."""
