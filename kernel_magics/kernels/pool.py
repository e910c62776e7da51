"""The kernels we hold, by name."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import (
    BadName,
    ConnectionFileError,
    ExposedKernel,
    KernelDied,
    KernelMagicsError,
    KernelNotFound,
    KernelUnreachable,
    LaunchError,
)
from .descriptors import reserve_descriptors

if (
    TYPE_CHECKING
):  # all of it is loaded with the first kernel: loading the extension has to be quick
    from ..connect.info import ConnectionInfo
    from ..connect.launch import LaunchOptions, Lifecycle, Owned, OwnedKernel
    from ..connect.ssh import Ask, Destination
    from ..connect.tunnel import Tunnel
    from ..wire.reactor import Reactor
    from .group import Group
    from .jobs import Jobs
    from .kernel import Kernel
    from .link import Way

SSH = "ssh://"

RESERVED = frozenset({"all", "local", "off"})

_NAME = re.compile(r"[A-Za-z0-9._-]+")


class KernelPool:
    """Kernels by name; attaches and starts them, and ends what is its own.

    Costs nothing until the first kernel: threads start then. After :meth:`close` it may be used
    again. ``own`` tells which kernel this process itself is, None if it is none; running a cell in
    it from one of its own cells would wait for itself for ever."""

    def __init__(self, own: Callable[[], ConnectionInfo | None] = lambda: None) -> None:
        self.own = own
        self.last: Kernel | None = None
        """The kernel that was named last."""
        self._kernels: dict[str, Kernel] = {}
        self._aliases: dict[str, Kernel] = {}
        self._starting: set[OwnedKernel] = set()
        self._tunnels: dict[Destination, Tunnel] = {}
        self._lock = threading.RLock()
        self._reactor: Reactor | None = None
        self._lifecycle: Lifecycle | None = None
        self._jobs: Jobs | None = None

    def __iter__(self) -> Iterator[Kernel]:
        return iter(list(self._kernels.values()))

    def __len__(self) -> int:
        return len(self._kernels)

    def __contains__(self, name: object) -> bool:
        return name in self._kernels

    def __getitem__(self, name: str) -> Kernel:
        """Return an attached kernel by its name, or by the fragment it was attached with.

        Raises:
            KernelNotFound: none of that name.
        """
        kernel = self._kernels.get(name)
        if kernel is None and (alias := self._aliases.get(name)) is not None and alias.alive:
            kernel = alias  # a fragment must not stick to a kernel that has died
        if kernel is None:
            raise KernelNotFound(
                name, [f"the attached kernels ({', '.join(self._kernels) or '-'})"]
            )
        self.last = kernel
        return kernel

    def known(self, name: str) -> Kernel | None:
        """Return the attached kernel of that name, without counting as naming it; None if there is
        none."""
        return self._kernels.get(name) or self._aliases.get(name)

    @property
    def jobs(self) -> Jobs:
        """The cells that were started in the background."""
        if self._jobs is None:
            from .jobs import Jobs

            self._jobs = Jobs()
        return self._jobs

    @property
    def names(self) -> list[str]:
        """The names, in order of attaching."""
        return list(self._kernels)

    def get_or_attach(self, wanted: str) -> tuple[Kernel, bool]:
        """Return the kernel that ``wanted`` names, attaching it if need be; and whether that was
        so.

        Raises:
            KernelNotFound, AmbiguousKernel, ConnectionFileError, KernelUnreachable: as they say.
        """
        with contextlib.suppress(KernelNotFound):
            return self[wanted], False
        before = len(self)
        kernel = self.attach(wanted)
        return kernel, len(self) > before

    def select(self, targets: str) -> Group:
        """Return several kernels as one; see :func:`~kernel_magics.kernels.targets.resolve`.

        Raises:
            KernelNotFound, AmbiguousKernel, ConnectionFileError, KernelUnreachable: as they say.
            BadName: it names nothing between two commas.
        """
        from .group import Group
        from .targets import resolve

        return Group(resolve(self, targets))

    def attach(
        self,
        what: str | os.PathLike[str],
        name: str | None = None,
        *,
        insecure: bool = False,
        ask: Ask | None = None,
        step: Callable[[str], None] = lambda text: None,
        trust: bool = False,
    ) -> Kernel:
        """Attach a kernel that runs already.

        ``what`` is the path of a connection file, the id in its name, or a fragment of that; or
        ``ssh://HOST/FRAGMENT``, see :meth:`tunnel`. A kernel that is attached already is returned
        as it is. ``trust`` lets it run code here, by the pickles of values that are pulled from
        it.

        Raises:
            KernelNotFound, AmbiguousKernel, ConnectionFileError: no one file answers to that.
            KernelUnreachable, AuthenticationError: nobody there, or not the file's kernel.
            ExposedKernel: it is on another machine, over plain TCP, and ``insecure`` is not set.
            SshError: there is no way to that host.
            BadName: it cannot be called that.
        """
        from ..connect.find import find
        from ..connect.uninterrupted import uninterrupted
        from .kernel import Kernel

        self._leave_parent()
        wanted = os.fspath(what)
        if wanted.startswith(SSH):
            host, _, fragment = wanted.removeprefix(SSH).partition("/")
            return self.tunnel(host, fragment, name, ask=ask, step=step, trust=trust)
        info = find(wanted)
        own: ConnectionInfo | None = None
        with contextlib.suppress(ConnectionFileError):  # ours is not what was asked for
            own = self.own()
        if own is not None and own.is_same_kernel(info):
            raise KernelMagicsError(
                f"{info.name} is the kernel this cell runs in; it would wait for itself for ever"
            )
        if not insecure and info.is_exposed:
            raise ExposedKernel(info.name, info.address, str(info.path or "FILE"))
        with uninterrupted():
            with self._lock:
                for kernel in self:
                    if kernel.info.is_same_kernel(info):
                        known = True
                        break
                else:
                    known = False
                    name = self._free_name(name or info.name)
                    kernel = Kernel(name, self._io(), info, forget=self._drop)
                    self._kernels[kernel.name] = kernel
            try:
                if not (known and kernel.alive):
                    kernel.connect()
            except BaseException:
                if not known:
                    self._drop(kernel)
                    kernel.close()
                raise
            self._aliases[wanted] = kernel
            kernel.trust = kernel.trust or trust
            self.last = kernel
            return kernel

    def tunnel(
        self,
        host: str,
        what: str,
        name: str | None = None,
        *,
        key: str | None = None,
        tcp: bool = False,
        ask: Ask | None = None,
        step: Callable[[str], None] = lambda text: None,
        trust: bool = False,
    ) -> Kernel:
        """Attach a kernel of another machine over ssh; ``host`` is ``[USER@]HOST[:PORT]``.

        ``what`` is a connection file: one that is here, or what :func:`~kernel_magics.connect.find`
        would take, among the files there. ``key`` is a private key's file. ``tcp`` makes the local
        ends TCP ports, which every user of this machine can connect to. What ssh asks is asked by
        ``ask``, on this thread; without it, ssh fails where it would ask. ``step`` is told what is
        done now, on this thread too. ``trust`` is as in :meth:`attach`.

        Raises:
            SshError: the login failed or broke; with ssh's own last words.
            others: as :meth:`attach`.
        """
        from ..connect.info import ConnectionInfo
        from .kernel import Kernel

        self._leave_parent()
        with self.login(host, key=key, ask=ask, step=step) as tunnel:
            here = Path(what).expanduser()
            is_here = what.endswith(".json") and here.is_file()
            step(f"looking for {what} on {host}")
            far = ConnectionInfo.from_file(here) if is_here else tunnel.find(what)
            for kernel in self:
                if kernel.info.key == far.key:
                    if not kernel.alive:
                        kernel.connect()
                    kernel.trust = kernel.trust or trust
                    self.last = kernel
                    return kernel
            self._free_name(name or far.name)  # so that a bad one costs no forwards
            step(f"opening the way to {far.name}")
            local = tunnel.add(far, tcp=tcp)
            try:
                with self._lock:
                    name = self._free_name(name or far.name)
                    kernel = Kernel(name, self._io(), local, way=tunnel, forget=self._drop)
                    self._kernels[kernel.name] = kernel
                step(f"waiting for {far.name} to answer")
                try:
                    kernel.connect()
                except BaseException:
                    self._drop(kernel)
                    kernel.close()
                    raise
            except BaseException:
                tunnel.leave(local)  # an interrupt may come before there is a kernel that would
                raise
        self._aliases[f"{SSH}{host}/{what}"] = kernel
        kernel.trust = trust
        self.last = kernel
        return kernel

    @contextlib.contextmanager
    def login(
        self,
        host: str,
        *,
        key: str | None = None,
        ask: Ask | None = None,
        step: Callable[[str], None] = lambda text: None,
    ) -> Iterator[Tunnel]:
        """The login to a host, opened if there is none that stands; what no kernel uses afterwards
        is closed. The block is uninterrupted but for what waits in it.

        Raises:
            SshError: it cannot be had.
        """
        from ..connect.ssh import Destination
        from ..connect.tunnel import Tunnel
        from ..connect.uninterrupted import uninterrupted

        destination = Destination.parse(host, key)
        with uninterrupted():
            with self._lock:
                self._io()
                tunnel = self._tunnels.get(destination)
                if tunnel is None:
                    tunnel = Tunnel(destination, self._processes().watcher, self._close_unused)
                    self._tunnels[destination] = tunnel
                tunnel.held += 1
            try:
                step(f"connecting to {host}")
                tunnel.open(ask)
                yield tunnel
            finally:
                with self._lock:
                    tunnel.held -= 1
                self._close_unused(tunnel)

    def start(
        self,
        options: LaunchOptions | None = None,
        name: str | None = None,
        *,
        key: str | None = None,
        ask: Ask | None = None,
    ) -> Kernel:
        """Start a kernel; it ends with this process unless its options say otherwise.

        Interrupted while it starts, nothing of it is left. ``key`` and ``ask`` are for one on
        another machine, as in :meth:`tunnel`.

        Raises:
            LaunchError: the process could not be started or did not come up; with its last words.
            SshError: there is no way to that host.
            BadName: it cannot be called that.
        """
        from ..connect.launch import LaunchOptions, OwnedKernel
        from ..connect.uninterrupted import uninterrupted

        self._leave_parent()
        options = options or LaunchOptions()
        if options.spec.startswith(SSH):
            return self._start_there(options, name, key, ask)
        with uninterrupted():
            with self._lock:
                self._io()
                owned = OwnedKernel(self._processes(), options)
                name = name or ("python" if options.python else options.spec)
                self._free_name(name)  # so that a bad one is refused before anything is started
                self._starting.add(owned)
            try:
                kernel = self._bring_up(owned, owned.start(), name)
            except (KernelDied, KernelUnreachable) as error:
                log = owned.log_tail()
                owned.shutdown(now=True)
                raise LaunchError(options.label, error.reason, log) from None
            except BaseException:
                owned.shutdown(now=True)
                raise
            finally:
                self._starting.discard(owned)
        self.last = kernel
        return kernel

    def _start_there(
        self, options: LaunchOptions, name: str | None, key: str | None, ask: Ask | None
    ) -> Kernel:
        from ..connect import far_specs
        from ..connect.far_launch import FarKernelProcess, Held

        host, _, spec = options.spec.removeprefix(SSH).partition("/")
        spec = spec or "python3"
        far_specs.check(options, spec)
        name = name or ("python" if options.python else spec)
        self._free_name(name)
        with self.login(host, key=key, ask=ask) as tunnel:
            process = FarKernelProcess(tunnel, options, spec)
            local: ConnectionInfo | None = None
            try:
                local = process.start()
                way = tunnel if options.keep else Held(tunnel)
                kernel = self._bring_up(process, local, name, way)
            except BaseException as error:
                try:
                    process.shutdown(now=True)
                finally:  # also after a second interrupt
                    if local is not None:
                        tunnel.leave(local)
                if isinstance(error, KernelDied | KernelUnreachable):
                    raise LaunchError(options.label, error.reason, process.log_tail()) from None
                raise
        self.last = kernel
        return kernel

    def detach(self, name: str) -> Kernel:
        """Let go of a kernel. One that we started is shut down, unless it is kept.

        Raises:
            KernelNotFound: none of that name.
        """
        kernel = self[name]
        kernel.detach()
        return kernel

    def shutdown(self, name: str) -> tuple[Kernel, bool]:
        """End a kernel, whoever started it; return it, and whether it has ended.

        Raises:
            KernelNotFound: none of that name.
        """
        kernel = self[name]
        there = kernel.owned is None and kernel.way is not None
        return kernel, self._shutdown_there(kernel) if there else kernel.shutdown()

    def close(self) -> None:
        """Detach all kernels, end ours, stop the threads. May be called twice."""
        with self._lock:
            kernels, starting = list(self), list(self._starting)
            tunnels = list(self._tunnels.values())
            self._tunnels.clear()
            reactor, lifecycle = self._reactor, self._lifecycle
            self._kernels.clear()
            self._aliases.clear()
            self.last = self._reactor = self._lifecycle = None
        atexit.unregister(self.close)
        if reactor is None or reactor.is_foreign:
            return  # nothing to end, or not ours to end: this process was forked from theirs
        # Side by side: each may take its time to end politely.
        endings = [threading.Thread(target=kernel.detach) for kernel in kernels] + [
            threading.Thread(target=partial(owned.shutdown, now=True)) for owned in starting
        ]
        for ending in endings:
            ending.start()
        for ending in endings:
            ending.join()
        for tunnel in tunnels:
            tunnel.close()
        reactor.close()
        if lifecycle is not None:
            lifecycle.close()

    def _leave_parent(self) -> None:
        """In a process forked from the one that used the pool: forget what is the parent's."""
        if self._reactor is not None and self._reactor.is_foreign:
            self._lock = threading.RLock()  # somebody there may have held it
            self._kernels, self._aliases, self._starting = {}, {}, set()
            self._tunnels = {}
            self.last = self._reactor = self._lifecycle = None

    def _processes(self) -> Lifecycle:
        if self._lifecycle is None:
            from ..connect.launch import Lifecycle

            self._lifecycle = Lifecycle()
        return self._lifecycle

    def _io(self) -> Reactor:
        if self._reactor is None:
            from ..wire.reactor import Reactor

            self._reactor = Reactor()
            atexit.register(self.close)
        reserve_descriptors()
        return self._reactor

    def _bring_up(
        self, owned: Owned, info: ConnectionInfo, name: str, way: Way | None = None
    ) -> Kernel:
        from ..connect.uninterrupted import strike_now
        from .kernel import Kernel
        from .life import START_PATIENCE

        with self._lock:
            name = self._free_name(name)
            kernel = Kernel(name, self._io(), info, owned, way, forget=self._drop)
            self._kernels[kernel.name] = kernel
        try:
            kernel.connect(START_PATIENCE, retry=True)
            owned.settle()
            strike_now()  # a Ctrl-C of the last moment leaves nothing either
        except BaseException:
            self._drop(kernel)
            kernel.close()
            raise
        return kernel

    def _drop(self, kernel: Kernel) -> None:
        self._leave_parent()
        with self._lock:
            if self._kernels.get(kernel.name) is kernel:
                del self._kernels[kernel.name]
            self._aliases = {k: v for k, v in self._aliases.items() if v is not kernel}
            if self.last is kernel:
                self.last = None

    def _shutdown_there(self, kernel: Kernel) -> bool:
        """Also remove what it leaves there, if it was started from here once and kept."""
        from ..connect.far_launch import remove_files
        from ..connect.tunnel import Tunnel

        tunnel = kernel.way
        assert isinstance(tunnel, Tunnel)
        far = tunnel.far_end(kernel.info)
        with self._lock:
            tunnel.held += 1
        try:
            ended = kernel.shutdown()
            if ended and far is not None and tunnel.up:
                remove_files(tunnel, far)
            return ended
        finally:
            with self._lock:
                tunnel.held -= 1
            self._close_unused(tunnel)

    def _close_unused(self, tunnel: Tunnel) -> None:
        with self._lock:
            if tunnel.used or self._tunnels.get(tunnel.destination) is not tunnel:
                return
            del self._tunnels[tunnel.destination]
        tunnel.close()

    def _free_name(self, name: str) -> str:
        """Return the name, or with ``-2`` behind it the second of that name.

        Raises:
            BadName: it cannot be one.
        """
        if name in RESERVED:
            raise BadName(name, "it is reserved")
        if not _NAME.fullmatch(name):
            raise BadName(name, "it has other characters" if name else "it is empty")
        candidate, number = name, 2
        while candidate in self._kernels:
            candidate, number = f"{name}-{number}", number + 1
        return candidate
