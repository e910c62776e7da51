"""The magics: parse, call, show. Anything longer belongs below, where it is testable without
IPython."""

from __future__ import annotations

import builtins
import contextlib
import getpass
import json
import os
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments
from IPython.display import display
from IPython.utils.process import arg_split  # type: ignore[attr-defined]
from traitlets import Integer

from ..errors import (
    BadName,
    ConnectionFileError,
    KernelNotFound,
    NotOwned,
    RemoteError,
    sendable,
)
from .output import LocalIOPub, choose
from .terminal import one_line, safe

if TYPE_CHECKING:  # the rest is loaded with the first kernel: loading the extension has to be quick
    from IPython.core.interactiveshell import InteractiveShell

    from ..connect.info import ConnectionInfo
    from ..kernels.execution import Ask, Show, Sink
    from ..kernels.kernel import Kernel
    from ..kernels.pool import KernelPool

TRUST = "take any value from it, as its pickle: that lets it run code here"

INTERRUPT_WAIT = 2.0
"""Seconds `%kernel_interrupt` watches what became of the kernel."""


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
    return parser.parse_args(_words(line))


def _words(line: str) -> list[str]:
    words: list[str] = arg_split(line, posix=os.name == "posix")
    return words


def usage(magic: Callable[..., Any]) -> Callable[..., Any]:
    """Turn errors about what was typed into IPython's one line for that."""

    @wraps(magic)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return magic(*args, **kwargs)
        except (KernelNotFound, ConnectionFileError, BadName, NotOwned) as error:
            raise UsageError(str(error)) from None

    return wrapper


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
        argument("-i", dest="inputs", metavar="NAMES", help="send these variables first: a,b"),
        argument("-o", dest="outputs", metavar="NAMES", help="bring these back afterwards: c,d"),
        argument("kernel", help="an attached kernel, or a fragment of a connection file's name"),
    )
    for option in options:
        magic = option(magic)
    return magic


@magics_class
class KernelMagics(Magics):
    """Magics that run cells in other kernels and look after those kernels."""

    text_limit = Integer(
        10_000_000,
        allow_none=True,
        help="Bytes of printed text that one remote cell may show; the rest goes to a file.",
    ).tag(config=True)

    def __init__(self, shell: InteractiveShell, pool: KernelPool, iopub: LocalIOPub | None) -> None:
        super().__init__(shell)
        self._shell = shell
        self._pool = pool
        self._iopub = iopub

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
        options, code = _split_code(line)
        self._run(parse(self.remote_line, options), code)

    @magic_arguments()
    @argument(
        "--show-key", action="store_true", help="show the key, with which anybody can run code"
    )
    @argument("--json", action="store_true", help="print the bare dictionary, as in the file")
    @argument(
        "kernel", nargs="?", help="an attached kernel; without it, the kernel of this session"
    )
    @line_magic
    @usage
    def connection_info(self, line: str) -> None:
        """Show where a kernel is and how to connect to it.

        ::

            %connection_info
            %connection_info gpu --json --show-key
        """
        from ..protocol.secret import HIDDEN

        args = parse(self.connection_info, line)
        info = self._pool[args.kernel].info if args.kernel else self._own()
        entries = info.as_dict(show_key=args.show_key)
        if args.json:
            print(json.dumps(entries, indent=2))
            return
        width = max(map(len, entries))
        for name, value in entries.items():
            hint = "  (--show-key shows it)" if value == HIDDEN else ""
            print(f"{name:{width}}  {value}{hint}")
        if info.path is not None:
            print(
                f"\nConnect to it from elsewhere on this machine:\n"
                f"  %kernel_attach {info.path}\n"
                f"  jupyter console --existing {info.path}"
            )

    @magic_arguments()
    @argument(
        "kernel", nargs="?", help="an attached kernel; without it, the kernel of this session"
    )
    @argument("args", nargs="...", help="options for qtconsole, such as --style=monokai")
    @line_magic
    @usage
    def connect_qtconsole(self, line: str) -> None:
        """Open a Qt console, a window of its own, on a kernel.

        ::

            %connect_qtconsole
            %connect_qtconsole gpu --style=monokai

        It also shows what others run there. Closing it leaves the kernel running.
        """
        from ..connect.qtconsole import open_window

        name, options = _split_kernel(line)
        info = self._own() if name is None else self._living(name).info
        if info.path is None:
            raise UsageError(f"{info.name} has no connection file, which a Qt console has to read")
        process = open_window(info.path, options)
        print(f"opened a Qt console on {name or info.name} (pid {process.pid})")

    @magic_arguments()
    @argument(
        "--all", action="store_true", help="also the kernels found here that could be attached"
    )
    @line_magic
    @usage
    def kernels(self, line: str) -> None:
        """Show the attached kernels: state, name, language, where, process, what runs.

        ::

            %kernels
            %kernels --all
        """
        from ..connect import find
        from . import view

        args = parse(self.kernels, line)
        attached = list(self._pool)
        display(view.kernels_table(attached))
        if args.all:
            found = list(find.running())
            display(view.found_table(found, attached))

    @magic_arguments()
    @argument("--name", help="what to call it; otherwise the connection file's name")
    @argument("--insecure", action="store_true", help="also over plain TCP to another machine")
    @argument("--trust", action="store_true", help=TRUST)
    @argument("what", help="a connection file's path, its id, or four characters or more of that")
    @line_magic
    @usage
    def kernel_attach(self, line: str) -> None:
        """Attach a kernel that runs already, here or wherever its connection file leads.

        ::

            %kernel_attach 6759 --name gpu
            %kernel_attach ~/kernel-of-a-colleague.json
            %kernel_attach ssh://gpubox/6759
        """
        args = parse(self.kernel_attach, line)
        kernel = self._pool.attach(
            args.what, args.name, insecure=args.insecure, ask=self._asker(), trust=args.trust
        )
        self._say("attached", kernel)

    @magic_arguments()
    @argument("--sshkey", metavar="FILE", help="a private key; otherwise as ssh is configured")
    @argument("--name", help="what to call it; otherwise the connection file's name")
    @argument(
        "--tcp", action="store_true", help="local TCP ports, which all users here can connect to"
    )
    @argument("--trust", action="store_true", help=TRUST)
    @argument("--list", action="store_true", help="show what runs there")
    @argument("host", metavar="[USER@]HOST[:PORT]", help="as for ssh, aliases included")
    @argument("kernel", nargs="?", help="a connection file here or there, or a fragment of it")
    @line_magic
    @usage
    def kernel_tunnel(self, line: str) -> None:
        """Attach a kernel of another machine, over ssh.

        ::

            %kernel_tunnel gpubox kernel-6759.json --name gpu
            %kernel_tunnel me@gpubox:2222 6759 --sshkey ~/.ssh/id_gpu
            %kernel_tunnel gpubox --list

        What ssh asks is asked here. When the connection breaks it is opened again, and cells that
        run there go on.
        """
        from . import view

        args = parse(self.kernel_tunnel, line)
        if args.list == (args.kernel is not None):
            raise UsageError("which kernel there? Name one, or let --list show them")
        ask = self._asker()
        if args.list:
            with self._pool.login(args.host, key=args.sshkey, ask=ask) as tunnel:
                display(view.far_table(tunnel.kernels(), args.host))
            return
        kernel = self._pool.tunnel(
            args.host,
            args.kernel,
            args.name,
            key=args.sshkey,
            tcp=args.tcp,
            ask=ask,
            trust=args.trust,
        )
        self._say("attached", kernel)

    @magic_arguments()
    @argument("--name", help="what to call it; otherwise the kernelspec's name")
    @argument("--python", metavar="PATH", help="an interpreter or environment that has ipykernel")
    @argument("--cwd", metavar="FOLDER", help="where it runs; otherwise here")
    @argument(
        "--env", metavar="K=V", action="append", default=[], help="one more environment variable"
    )
    @argument("--keep", action="store_true", help="let it run on when this session ends")
    @argument(
        "spec", nargs="?", default="python3", help="a kernelspec, as `jupyter kernelspec list`"
    )
    @line_magic
    @usage
    def kernel_start(self, line: str) -> None:
        """Start a kernel. It ends with this session, unless it is kept.

        ::

            %kernel_start python3 --name gpu
            %kernel_start --python ~/envs/torch --cwd /data --env CUDA_VISIBLE_DEVICES=1
        """
        from ..connect.launch import LaunchOptions

        args = parse(self.kernel_start, line)
        options = LaunchOptions(
            args.spec, args.python, args.cwd, dict(map(_assignment, args.env)), args.keep
        )
        kernel = self._pool.start(options, args.name)
        self._say("started", kernel)

    @magic_arguments()
    @argument("kernel", help="an attached kernel")
    @line_magic
    @usage
    def kernel_detach(self, line: str) -> None:
        """Let go of a kernel. It runs on if somebody else started it, or with --keep; ours end.

        ::

            %kernel_detach gpu
        """
        kernel = self._pool.detach(parse(self.kernel_detach, line).kernel)
        ended = kernel.owned is not None and not kernel.owned.options.keep
        print(f"detached {kernel.name}; it {'was ours and has ended' if ended else 'runs on'}")

    @magic_arguments()
    @argument("kernel", help="an attached kernel")
    @line_magic
    @usage
    def kernel_interrupt(self, line: str) -> None:
        """Interrupt what runs in a kernel, whoever started it.

        ::

            %kernel_interrupt gpu
        """
        kernel = self._pool[parse(self.kernel_interrupt, line).kernel]
        kernel.interrupt()
        kernel.request("control", "kernel_info_request", timeout=INTERRUPT_WAIT)
        if kernel.alive:
            print(f"asked {kernel.name} to interrupt what runs there; it is {kernel.state.value}")
        else:
            assert kernel.finding is not None
            print(f"{kernel.name} {kernel.finding.reason}")

    @magic_arguments()
    @argument("kernel", help="a kernel that was started here")
    @line_magic
    @usage
    def kernel_restart(self, line: str) -> None:
        """Restart a kernel that was started here: the same name, with nothing in it.

        ::

            %kernel_restart gpu
        """
        kernel = self._pool[parse(self.kernel_restart, line).kernel]
        kernel.restart()
        print(f"restarted {kernel.name} (pid {kernel.pid})")

    @magic_arguments()
    @argument("kernel", help="an attached kernel")
    @line_magic
    @usage
    def kernel_shutdown(self, line: str) -> None:
        """End a kernel, whoever started it.

        ::

            %kernel_shutdown gpu
        """
        kernel, ended = self._pool.shutdown(parse(self.kernel_shutdown, line).kernel)
        if ended:
            print(f"{kernel.name} has ended")
        else:
            print(f"asked {kernel.name} to end, but it has not yet; detached from it")

    def _run(self, args: Any, code: str) -> None:
        from ..kernels.execution import Limits
        from . import variables

        kernel, new = self._pool.get_or_attach(args.kernel)
        if new:
            self._say("attached", kernel)
        via = self._via()
        if kernel.info.fingerprint in via:
            raise UsageError(
                f"{kernel.name} is waiting for this very cell; it would wait for itself for ever"
            )
        if args.inputs:
            variables.push(self._shell, kernel, variables.names_in(args.inputs))
        sink: Sink | None = None
        show: Show | None = _ignore
        if not args.quiet:
            sink, show = choose(kernel.name, self._shell, self._iopub, kernel.reactor)
        try:
            kernel.run(
                code,
                sink=sink,
                show=show,
                ask=self._asker(kernel.name),
                timeout=args.timeout,
                limits=Limits(self.text_limit, args.unresponsive_after),
                metadata={"km_via": via} if via else {},
            )
        except RemoteError as error:
            error.shown = error.explained and not args.quiet
            if not args.no_raise_error:
                raise
            if not (error.shown or args.quiet):
                self._shell.showtraceback()
            return
        finally:
            if sink is not None and self._iopub is not None:
                self._iopub.settle()
        if args.outputs:
            variables.pull(self._shell, kernel, variables.names_in(args.outputs))

    def _via(self) -> list[str]:
        """Return the kernels that wait for this cell: ours, and those whose cells led to it."""
        local: Any = getattr(self._shell, "kernel", None)
        own: ConnectionInfo | None = None
        with contextlib.suppress(ConnectionFileError):  # a broken file of ours breaks no cell
            own = self._pool.own()
        if local is None or own is None:
            return []
        before = local.get_parent("shell").get("metadata", {}).get("km_via")
        return [*(before if isinstance(before, list) else []), own.fingerprint]

    def _asker(self, name: str = "ssh") -> Ask | None:
        """Return what asks this session's user in somebody's name; None when the front end takes
        no input."""
        local = getattr(self._shell, "kernel", None)
        if local is not None and not getattr(local, "_allow_stdin", False):
            return None

        def ask(prompt: str, password: bool) -> str:
            prompt = safe(prompt) if local is None else sendable(prompt)
            question = f"[{name}] {prompt}"
            return getpass.getpass(question) if password else builtins.input(question)

        return ask

    def _living(self, name: str) -> Kernel:
        kernel = self._pool[name]
        if not kernel.alive and kernel.finding is not None:
            raise UsageError(f"{kernel.name} {kernel.finding.reason}")
        return kernel

    def _own(self) -> ConnectionInfo:
        own = self._pool.own()
        if own is None:
            raise UsageError(
                "this session is not a kernel; name an attached one (%kernels lists them)"
            )
        return own

    @staticmethod
    def _say(what: str, kernel: Kernel) -> None:
        from .view import where

        number = kernel.look_up_pid()
        pid = f", pid {number}" if number else ""
        silent = "" if kernel.kernel_info else "; it is busy and has not answered yet"
        about = f"{one_line(kernel.language) or 'unknown'}{pid}, {where(kernel)}"
        print(f"{what} {kernel.name} ({about}){silent}")


def _ignore(item: object) -> None:
    """Show nothing."""


def _split_code(line: str) -> tuple[str, str]:
    """Split ``[options] KERNEL CODE`` behind the kernel; the code is taken as it stands."""
    rest, takes_value = line, False
    while rest.strip():
        word, _, after = rest.lstrip().partition(" ")
        if takes_value:
            takes_value = False
        elif word.startswith("-"):
            takes_value = word in ("--timeout", "--unresponsive-after", "-i", "-o")
        else:
            end = len(line) - len(after)
            return line[:end], after
        rest = after
    return line, ""


def _split_kernel(line: str) -> tuple[str | None, list[str]]:
    """Split ``[KERNEL] ARGS``. Not by argparse: ``--style monokai`` names no kernel."""
    try:
        words = _words(line)
    except ValueError as error:
        raise UsageError(f"{error} in {line!r}") from None
    if words and not words[0].startswith("-"):
        return words[0], words[1:]
    return None, words


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise UsageError(f"--env wants NAME=VALUE, not {text!r}")
    return name, value
