"""Whose values may be unpickled: unpickling what a kernel sends is running its code.

A kernel is trusted if we started it, if its user said so, or if the process that listens behind
its connection file is this user's own kernel on this machine. A loopback address is no proof: it
may be the end of a tunnel. So the process is looked up by the sockets it holds, and it has to have
been started with this connection file: no tunnel is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..kernel import Kernel


def is_trusted(kernel: Kernel) -> bool:
    """Whether what comes from it may be unpickled."""
    return kernel.trust or kernel.local_pid is not None
