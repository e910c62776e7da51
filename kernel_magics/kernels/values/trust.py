"""Whose values may be unpickled: unpickling what a kernel sends is running its code.

A kernel is trusted if we started it, if its user said so, or if the process that listens behind
its connection file is this user's own kernel on this machine. A loopback address is no proof: it
may be the end of a tunnel. So the process is looked up by the sockets it holds, and it has to have
been started with this connection file: no tunnel is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ...connect.info import ConnectionInfo
from ...connect.processes import own_process

if TYPE_CHECKING:
    from ..kernel import Kernel

_looked_up: WeakKeyDictionary[Kernel, tuple[dict[str, Any], bool]] = WeakKeyDictionary()
"""Reading the table of sockets takes 10 ms, and who sits at the end of a connection stays."""


def is_trusted(kernel: Kernel) -> bool:
    """Whether what comes from it may be unpickled."""
    if kernel.trust:
        return True
    if kernel.way is not None:
        return False
    about, verdict = _looked_up.get(kernel, ({}, False))
    if about is not kernel.kernel_info:  # which is made anew with each connection
        verdict = is_own_process(kernel.info, kernel.pid)
        _looked_up[kernel] = kernel.kernel_info, verdict
    return verdict


def forget(kernel: Kernel) -> None:
    """Look it up anew the next time."""
    _looked_up.pop(kernel, None)


def is_own_process(info: ConnectionInfo, pid: int | None = None) -> bool:
    """Whether that is so; ``pid`` is where to look first, and is not believed."""
    return own_process(info, pid) is not None
