"""The main job: `%%remote` and `%remote`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from ..errors import RemoteError
from .arguments import parse, split_code, usage
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
            "-a",
            "--bg",
            "--noblock",
            dest="background",
            action="store_true",
            help="return at once; outputs land in this cell as they come",
        ),
        argument(
            "--keep-going",
            action="store_true",
            help="run it even if a cell that it waits for fails",
        ),
        argument("--save", metavar="NAME", help="keep how it ends, with its outputs, as NAME"),
        argument("kernel", help="an attached kernel, or a fragment of a connection file's name"),
    )
    for option in options:
        magic = option(magic)
    return magic


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
        from ..kernels.execution import Limits, Turn
        from . import background

        if args.save and not args.save.isidentifier():
            raise UsageError(f"--save wants a name for a variable, not {args.save!r}")
        session = self._session
        kernel, new = session.pool.get_or_attach(args.kernel)
        if new:
            session.say("attached", kernel)
        via = session.via()
        if kernel.info.fingerprint in via:
            raise UsageError(
                f"{kernel.name} is waiting for this very cell; it would wait for itself for ever"
            )
        options: dict[str, Any] = {
            "limits": Limits(self._settings.text_limit, args.unresponsive_after),
            "metadata": {"km_via": via} if via else {},
            "turn": Turn(keep_going=args.keep_going, told=not args.background),
        }
        job = session.pool.jobs.new(kernel, code) if args.save or args.background else None
        if job is not None and args.save:
            session.shell.user_ns[args.save] = job
        if job is not None and args.background:
            if args.timeout is not None:
                raise UsageError("--timeout is for who waits; JOB.result(timeout) has one too")
            background.start(session, job, quiet=args.quiet, **options)
            return
        sink: Sink | None = None
        show: Show | None = _ignore
        if not args.quiet:
            sink, show = choose(kernel.name, session.shell, session.iopub, kernel.reactor)
        if job is not None:
            sink = job.recording(sink) if sink is not None else None
            show = job.recorded(show) if show is not None else None
            options["then"] = job.ended
        try:
            kernel.run(
                code,
                sink=sink,
                show=show,
                ask=session.asker(kernel.name),
                login=session.asker() if kernel.way is not None else None,
                timeout=args.timeout,
                **options,
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
