"""Run a cell in any other Jupyter kernel, exactly as if it were your own.

In IPython: ``%load_ext kernel_magics``, then ``%kernel_start python3 --name gpu`` and ``%%remote
gpu``. In Python::

    import kernel_magics

    gpu = kernel_magics.attach("kernel-6759")    # a path, an id or a fragment of one
    print(gpu.run("print(6 * 7)").stdout)

Importing this module loads next to nothing; sockets and threads come with the first kernel.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from .errors import KernelMagicsError, RemoteError, RemoteErrors, TransferError

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from .api import attach, pool, start, tunnel
    from .connect.info import ConnectionInfo
    from .kernels.execution import Execution
    from .kernels.group import Group, GroupResult
    from .kernels.kernel import Kernel
    from .kernels.pool import KernelPool
    from .kernels.result import Result

__version__ = "0.1.0"

__all__ = [
    "ConnectionInfo",
    "Execution",
    "Group",
    "GroupResult",
    "Kernel",
    "KernelMagicsError",
    "KernelPool",
    "RemoteError",
    "RemoteErrors",
    "Result",
    "TransferError",
    "attach",
    "pool",
    "start",
    "tunnel",
]

_HOMES = {
    "ConnectionInfo": "connect.info",
    "Execution": "kernels.execution",
    "Group": "kernels.group",
    "GroupResult": "kernels.group",
    "Kernel": "kernels.kernel",
    "KernelPool": "kernels.pool",
    "Result": "kernels.execution",
    "attach": "api",
    "pool": "api",
    "start": "api",
    "tunnel": "api",
}


# What we log is for those who ask for it; without a handler it would be printed.
logging.getLogger("kernel_magics").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register the magics; called by ``%load_ext kernel_magics``."""
    from .frontend import extension

    extension.load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Detach every kernel, end those that were started here, and leave nothing behind."""
    from .frontend import extension

    extension.unload(shell)
