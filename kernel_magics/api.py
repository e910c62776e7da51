"""The verbs as functions, on the one pool of this process."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .kernels.pool import KernelPool

if TYPE_CHECKING:
    from .connect.ssh import Ask
    from .kernels.kernel import Kernel

pool = KernelPool()
"""The kernels of this process; the magics use it as well."""


def attach(what: str | os.PathLike[str], name: str | None = None, *, trust: bool = False) -> Kernel:
    """Attach a kernel that runs already; see :meth:`KernelPool.attach`."""
    return pool.attach(what, name, trust=trust)


def tunnel(
    host: str,
    what: str,
    name: str | None = None,
    *,
    key: str | None = None,
    tcp: bool = False,
    ask: Ask | None = None,
    trust: bool = False,
) -> Kernel:
    """Attach a kernel of another machine over ssh; see :meth:`KernelPool.tunnel`."""
    return pool.tunnel(host, what, name, key=key, tcp=tcp, ask=ask, trust=trust)


def start(
    spec: str = "python3",
    name: str | None = None,
    *,
    python: str | None = None,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    keep: bool = False,
    key: str | None = None,
    ask: Ask | None = None,
) -> Kernel:
    """Start a kernel, here or at ``ssh://HOST/SPEC``; see :class:`LaunchOptions` and
    :meth:`KernelPool.start`."""
    from .connect.launch import LaunchOptions

    options = LaunchOptions(spec=spec, python=python, cwd=cwd, env=env or {}, keep=keep)
    return pool.start(options, name, key=key, ask=ask)
