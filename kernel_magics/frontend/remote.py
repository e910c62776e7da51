"""The main job: `%%remote` and `%remote`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument

from ..errors import RemoteError
from .arguments import fan_out_options, magic_arguments, parse, split_code, usage
from .late import late_sink
from .output import choose, comms_only
from .payloads import present

if TYPE_CHECKING:  # the rest is loaded with the first kernel: loading the extension has to be quick
    from ..kernels.events import Show, Sink
    from ..kernels.kernel import Kernel
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
            "--no-html",
            action="store_true",
            help="show only what no front end executes: text, png, jpeg, gif, webp and bmp images, "
            "JSON as data. HTML, JavaScript, SVG, Markdown, LaTeX, widgets and all else of that "
            "kernel are left out, for the text that comes with them",
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
        argument("-i", dest="inputs", metavar="NAMES", help="send these variables first: a,b"),
        argument("-o", dest="outputs", metavar="NAMES", help="bring these back afterwards: c,d"),
        argument(
            "--subshell",
            action="store_true",
            help="run beside what keeps the kernel busy; Ctrl-C cannot interrupt this one",
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
            "commas between them, patterns (gpu-*), or `all`; the one that was named last without",
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
        args = parse(self.remote, line)
        self._run(args, cell.removesuffix("\n"), f"%%remote {line}".rstrip())

    @magic_arguments("remote")
    @_cell_options
    @argument(
        "--value",
        action="store_true",
        help="return the value and show nothing; `x = %%remote K EXPRESSION` does this",
    )
    @argument("code", nargs="...", help="what to run, to the end of the line")
    @no_var_expand
    @line_magic("remote")  # type: ignore[arg-type]  # IPython's decorators are half typed
    @usage
    def remote_line(self, line: str) -> Any:
        """Run one line in another kernel.

        ::

            %remote gpu !nvidia-smi
            loss = %remote gpu model.loss
        """
        options, code = split_code(line)
        args = parse(self.remote_line, options)
        if args.value:
            return self._value(args, code)
        self._run(args, code, f"%%remote {options}".rstrip())
        return None

    def run_in(self, line: str, code: str, *, header: str | None) -> None:
        """Run code as a cell headed ``%%remote LINE``.

        ``header`` is the first line that a cell needs to get there as well, None if all do.
        """
        self._run(parse(self.remote, line), code, header)

    def _value(self, args: Any, expression: str) -> Any:
        """Return what an expression is worth there."""
        return self._only(args, "--value").pull(expression)

    def _kernels(self, args: Any) -> list[Kernel]:
        """Return the kernels that were named; without a name the last one, which is said."""
        from ..kernels.targets import resolve

        pool = self._session.pool
        if args.targets and args.kernels:
            raise UsageError(f"which kernels, -t {args.targets} or {args.kernels}? Say it once")
        targets = args.targets or args.kernels
        if targets is None:
            if pool.last is None:
                raise UsageError("which kernel? None was named before; %kernels lists them")
            print(f"[{pool.last.name}]", file=sys.stderr, flush=True)
            return [pool.last]
        return resolve(pool, targets, partial(self._session.say, "attached"))

    def _only(self, args: Any, option: str) -> Kernel:
        """Return the one kernel that was named, where it can only be one."""
        kernels = self._kernels(args)
        if len(kernels) > 1:
            names = ", ".join(kernel.name for kernel in kernels)
            raise UsageError(f"{option} is for one kernel; this names {names}")
        return kernels[0]

    def _run(self, args: Any, code: str, header: str | None) -> None:
        if args.save and not args.save.isidentifier():
            raise UsageError(f"--save wants a name for a variable, not {args.save!r}")
        for option, given in (("--timeout", args.timeout), ("-o", args.outputs)):
            if args.background and given is not None:
                raise UsageError(f"{option} is for a cell that is waited for, without --bg")
        one = {"--bg": args.background, "--save": args.save, "-i": args.inputs, "-o": args.outputs}
        for option, given in one.items():
            if given:
                self._run_in_one(self._only(args, option), args, code, header)
                return
        kernels = self._kernels(args)
        if len(kernels) > 1 or args.local:
            from .fanout import fan_out

            session = self._session.without_comms() if args.no_html else self._session
            fan_out(session, kernels, code, header, args, self._settings.text_limit)
        else:
            self._run_in_one(kernels[0], args, code, header)

    def _run_in_one(self, kernel: Kernel, args: Any, code: str, header: str | None) -> None:
        from ..kernels.options import Limits, Turn
        from . import background, variables

        session = self._session.without_comms() if args.no_html else self._session
        via = session.via()
        if kernel.info.fingerprint in via:
            raise UsageError(
                f"{kernel.name} is waiting for this very cell; it would wait for itself for ever"
            )
        if args.inputs:
            variables.push(session.shell, kernel, variables.names_in(args.inputs))
        options: dict[str, Any] = {
            "limits": Limits(self._settings.text_limit, args.unresponsive_after),
            "metadata": {"km_via": via} if via else {},
            "turn": Turn(keep_going=args.keep_going, told=not args.background),
            "subshell": args.subshell,
            "passive": args.no_html,
            "quiet": args.quiet,
        }
        job = session.pool.jobs.new(kernel, code) if args.save or args.background else None
        if job is not None and args.save:
            session.shell.user_ns[args.save] = job
        if job is not None and args.background:
            background.start(session, job, header=header, **options)
            return
        sink: Sink | None
        show: Show | None
        late: Sink | None = None
        if args.quiet:
            sink, show = comms_only(session, kernel), _ignore
        else:
            sink, show = choose(session, kernel)
            late = late_sink(session, kernel) if sink is None else None
        if job is not None:
            sink = job.recording(sink) if sink is not None else None
            show = job.recorded(show) if show is not None else None
            late = job.recording(late) if late is not None else None
            options |= {"begun": job.begun, "then": job.ended}
        payload: list[dict[str, Any]] = []
        try:
            result = kernel.run(
                code,
                sink=sink,
                late=late,
                show=show,
                ask=session.asker(kernel.name),
                login=session.asker() if kernel.way is not None else None,
                timeout=args.timeout,
                **options,
            )
            payload = result.payload
        except RemoteError as error:
            payload = error.payload
            error.shown = error.explained and not args.quiet
            if not args.no_raise_error:
                raise
            if not (error.shown or args.quiet):
                session.shell.showtraceback()
            return
        finally:
            if sink is not None and session.iopub is not None:
                session.iopub.settle()
            if args.quiet:
                payload = [each for each in payload if each.get("source") != "page"]
            present(session.shell, kernel.name, payload, header)
        if args.outputs:
            variables.pull(session.shell, kernel, variables.names_in(args.outputs))


def _ignore(item: object) -> None:
    """Show nothing."""
