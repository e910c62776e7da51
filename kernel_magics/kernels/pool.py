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
    KernelDied,
    KernelMagicsError,
    KernelNotFound,
    KernelUnreachable,
    LaunchError,
)

if (
    TYPE_CHECKING
):  # all of it is loaded with the first kernel: loading the extension has to be quick
    from ..connect.info import ConnectionInfo
    from ..connect.launch import LaunchOptions, Lifecycle, OwnedKernel
    from ..wire.reactor import Reactor
    from .kernel import Kernel

RESERVED = frozenset({"all", "local", "off"})

DESCRIPTORS_PER_KERNEL = 32
"""Open files to have in reserve before one more kernel; out of them, libzmq ends the whole
process."""

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
        self._lock = threading.RLock()
        self._reactor: Reactor | None = None
        self._lifecycle: Lifecycle | None = None

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

    def attach(self, what: str | os.PathLike[str], name: str | None = None) -> Kernel:
        """Attach a kernel that runs already.

        ``what`` is the path of a connection file, the id in its name, or a fragment of that. A
        kernel that is attached already is returned as it is.

        Raises:
            KernelNotFound, AmbiguousKernel, ConnectionFileError: no one file answers to that.
            KernelUnreachable, AuthenticationError: nobody there, or not the file's kernel.
            BadName: it cannot be called that.
        """
        from ..connect.find import find
        from .kernel import Kernel

        self._leave_parent()
        wanted = os.fspath(what)
        info = find(wanted)
        own: ConnectionInfo | None = None
        with contextlib.suppress(ConnectionFileError):  # ours is not what was asked for
            own = self.own()
        if own is not None and own.is_same_kernel(info):
            raise KernelMagicsError(
                f"{info.name} is the kernel this cell runs in; it would wait for itself for ever"
            )
        with self._lock:
            for kernel in self:
                if kernel.info.is_same_kernel(info):
                    known = True
                    break
            else:
                known = False
                kernel = Kernel(self._free_name(name or info.name), self._io(), info)
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
        self.last = kernel
        return kernel

    def start(self, options: LaunchOptions | None = None, name: str | None = None) -> Kernel:
        """Start a kernel; it ends with this process unless its options say otherwise.

        Interrupted while it starts, nothing of it is left.

        Raises:
            LaunchError: the process could not be started or did not come up; with its last words.
            BadName: it cannot be called that.
        """
        from ..connect.launch import LaunchOptions, Lifecycle, OwnedKernel

        self._leave_parent()
        options = options or LaunchOptions()
        with self._lock:
            self._io()
            if self._lifecycle is None:
                self._lifecycle = Lifecycle()
            owned = OwnedKernel(self._lifecycle, options)
            name = self._free_name(name or ("python" if options.python else options.spec))
            self._starting.add(owned)
        try:
            kernel = self._bring_up(owned, name)
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

    def detach(self, name: str) -> Kernel:
        """Let go of a kernel. One that we started is shut down, unless it is kept.

        Raises:
            KernelNotFound: none of that name.
        """
        kernel = self[name]
        self._drop(kernel)
        _let_go(kernel)
        return kernel

    def shutdown(self, name: str) -> tuple[Kernel, bool]:
        """End a kernel, whoever started it; return it, and whether it has ended.

        Raises:
            KernelNotFound: none of that name.
        """
        kernel = self[name]
        self._drop(kernel)
        return kernel, kernel.shutdown()

    def close(self) -> None:
        """Detach all kernels, end ours, stop the threads. May be called twice."""
        with self._lock:
            kernels, starting = list(self), list(self._starting)
            reactor, lifecycle = self._reactor, self._lifecycle
            self._kernels.clear()
            self._aliases.clear()
            self.last = self._reactor = self._lifecycle = None
        atexit.unregister(self.close)
        if reactor is None or reactor.is_foreign:
            return  # nothing to end, or not ours to end: this process was forked from theirs
        # Side by side: each may take its time to end politely.
        endings = [threading.Thread(target=partial(_let_go, kernel)) for kernel in kernels] + [
            threading.Thread(target=partial(owned.shutdown, now=True)) for owned in starting
        ]
        for ending in endings:
            ending.start()
        for ending in endings:
            ending.join()
        reactor.close()
        if lifecycle is not None:
            lifecycle.close()

    def _leave_parent(self) -> None:
        """In a process forked from the one that used the pool: forget what is the parent's."""
        if self._reactor is not None and self._reactor.is_foreign:
            self._lock = threading.RLock()  # somebody there may have held it
            self._kernels, self._aliases, self._starting = {}, {}, set()
            self.last = self._reactor = self._lifecycle = None

    def _io(self) -> Reactor:
        if self._reactor is None:
            from ..wire.reactor import Reactor

            self._reactor = Reactor()
            atexit.register(self.close)
        _reserve_descriptors()
        return self._reactor

    def _bring_up(self, owned: OwnedKernel, name: str) -> Kernel:
        from .kernel import START_PATIENCE, Kernel

        info = owned.start()
        with self._lock:
            kernel = Kernel(self._free_name(name), self._io(), info, owned)
            self._kernels[kernel.name] = kernel
        try:
            kernel.connect(START_PATIENCE, retry=True)
        except BaseException:
            self._drop(kernel)
            kernel.close()
            raise
        return kernel

    def _drop(self, kernel: Kernel) -> None:
        with self._lock:
            if self._kernels.get(kernel.name) is kernel:
                del self._kernels[kernel.name]
            self._aliases = {k: v for k, v in self._aliases.items() if v is not kernel}
            if self.last is kernel:
                self.last = None

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


def _let_go(kernel: Kernel) -> None:
    """End a kernel of ours, unless it is kept; leave all others alone."""
    if kernel.owned is not None and not kernel.owned.options.keep:
        kernel.shutdown()
        return
    kernel.close()
    if kernel.owned is not None:
        kernel.owned.release()


def _reserve_descriptors() -> None:
    """Make room for one more kernel's sockets, raising the soft limit only on need.

    Raises:
        KernelMagicsError: the hard limit leaves none.
    """
    try:
        import resource

        in_use = sum(1 for _ in Path("/proc/self/fd").iterdir())
    except (ImportError, OSError):
        return  # not Linux; libzmq's own check is all there is
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = in_use + DESCRIPTORS_PER_KERNEL
    if needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise KernelMagicsError(
            f"no room for one more kernel: {in_use} files are open and {hard} allowed (ulimit -Hn)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
