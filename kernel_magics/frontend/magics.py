"""The magics that look after kernels: parse, call, show. Anything longer belongs below, where it is
testable without IPython."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class
from IPython.core.magic_arguments import argument
from IPython.display import display
from traitlets import Integer

from .arguments import assignment, magic_arguments, parse, split_kernel, usage
from .progress import Progress
from .terminal import one_line

if TYPE_CHECKING:  # the rest is loaded with the first kernel: loading the extension has to be quick
    from .session import LocalSession
    from .view import Table

TRUST = "take any value from it, as its pickle: that lets it run code here"

INTERRUPT_WAIT = 2.0
"""Seconds `%kernel_interrupt` watches what became of the kernel."""


@magics_class
class KernelMagics(Magics):
    """Magics that find, start and end kernels. What `%config` knows of this package is here."""

    text_limit = Integer(
        10_000_000,
        allow_none=True,
        help="Bytes of printed text that one remote cell may show; the rest goes to a file.",
    ).tag(config=True)

    def __init__(self, session: LocalSession) -> None:
        super().__init__(session.shell)
        self._session = session
        self._pool = session.pool

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
        info = self._pool[args.kernel].info if args.kernel else self._session.own()
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

        name, options = split_kernel(line)
        info = self._session.own() if name is None else self._session.living(name).info
        if info.path is None:
            raise UsageError(f"{info.name} has no connection file, which a Qt console has to read")
        process = open_window(info.path, options)
        print(f"opened a Qt console on {name or info.name} (pid {process.pid})")

    @magic_arguments()
    @argument("--watch", action="store_true", help="keep it up to date until Ctrl-C")
    @argument(
        "--all", action="store_true", help="also the kernels found here that could be attached"
    )
    @line_magic
    @usage
    def kernels(self, line: str) -> None:
        """Show the attached kernels: state, name, language, where, process, what runs there and how
        long, what waits for that, what they use of their machine.

        ::

            %kernels
            %kernels --all
            %kernels --watch
        """
        from ..connect import find
        from . import view
        from .watch import watch

        args = parse(self.kernels, line)
        if args.watch:
            watch(self._session.shell, self._table)
            return
        attached = list(self._pool)
        display(self._table())
        if args.all:
            found = list(find.running())
            display(view.found_table(found, attached))

    def _table(self) -> Table:
        from ..kernels.usage import usages_of
        from . import view

        attached = list(self._pool)
        return view.kernels_table(attached, usages_of(attached))

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
        session = self._session
        with Progress() as progress:
            kernel = self._pool.attach(
                *(args.what, args.name),
                insecure=args.insecure,
                ask=session.asker(progress=progress),
                step=progress.step,
                trust=args.trust,
            )
        session.say("attached", kernel)

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
        with Progress() as progress:
            ask, step = self._session.asker(progress=progress), progress.step
            if args.list:
                with self._pool.login(args.host, key=args.sshkey, ask=ask, step=step) as tunnel:
                    step(f"looking at what runs on {args.host}")
                    found = tunnel.kernels()
            else:
                kernel = self._pool.tunnel(
                    *(args.host, args.kernel, args.name),
                    key=args.sshkey,
                    tcp=args.tcp,
                    ask=ask,
                    step=step,
                    trust=args.trust,
                )
        if args.list:
            display(view.far_table(found, args.host))
        else:
            self._session.say("attached", kernel)

    @magic_arguments()
    @argument("--name", help="what to call it; otherwise the kernelspec's name")
    @argument("--python", metavar="PATH", help="an interpreter or environment that has ipykernel")
    @argument("--cwd", metavar="FOLDER", help="where it runs; otherwise here")
    @argument(
        "--env", metavar="K=V", action="append", default=[], help="one more environment variable"
    )
    @argument("--keep", action="store_true", help="let it run on when this session ends")
    @argument("--sshkey", metavar="FILE", help="a private key for ssh://; otherwise as configured")
    @argument(
        "spec",
        nargs="?",
        default="python3",
        help="a kernelspec, as `jupyter kernelspec list`; there: ssh://[USER@]HOST[:PORT]/SPEC",
    )
    @line_magic
    @usage
    def kernel_start(self, line: str) -> None:
        """Start a kernel. It ends with this session, unless it is kept.

        ::

            %kernel_start python3 --name gpu
            %kernel_start --python ~/envs/torch --cwd /data --env CUDA_VISIBLE_DEVICES=1
            %kernel_start ssh://gpubox/python3 --name far --keep

        On another machine it needs ssh, a POSIX shell and Jupyter kernels. One that is not kept
        ends there with the login that holds it, also when the network breaks.
        """
        from ..connect.launch import LaunchOptions

        args = parse(self.kernel_start, line)
        options = LaunchOptions(
            args.spec, args.python, args.cwd, dict(map(assignment, args.env)), args.keep
        )
        session = self._session
        with Progress() as progress:
            progress.step(f"starting {one_line(options.label)}")
            ask = session.asker(progress=progress)
            kernel = self._pool.start(options, args.name, key=args.sshkey, ask=ask)
        session.say("started", kernel)

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
        from .view import after_interrupt

        kernel = self._pool[parse(self.kernel_interrupt, line).kernel]
        kernel.interrupt_and_watch(INTERRUPT_WAIT)
        print(after_interrupt(kernel))

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
