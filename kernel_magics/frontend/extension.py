"""Loading and unloading: what is put into a shell, and how it is taken out again."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..api import pool
from ..connect.info import ConnectionInfo
from .magics import KernelMagics
from .output import local_iopub

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_ATTRIBUTE = "_kernel_magics"
"""Where a shell keeps what has to be undone; also what tells that the extension is loaded."""


@dataclass
class _Loaded:
    magics: KernelMagics
    replaced: list[tuple[str, str, Callable[..., Any]]]
    restore_limit: Callable[[], None]


def load(shell: InteractiveShell) -> None:
    """Register the magics; a second time does nothing."""
    if getattr(shell, _ATTRIBUTE, None) is not None:
        return
    iopub = local_iopub(shell)
    pool.own = lambda: own_connection(shell)
    magics = KernelMagics(shell, pool, iopub)
    replaced = _existing(shell, magics)
    for kind, name, _ in replaced:
        sign = "%%" if kind == "cell" else "%"
        warnings.warn(
            f"{sign}{name} existed already and is kernel_magics' now; %unload_ext restores it",
            stacklevel=2,
        )
    shell.register_magics(magics)
    restore = iopub.lift_limit() if iopub is not None else lambda: None
    setattr(shell, _ATTRIBUTE, _Loaded(magics, replaced, restore))


def unload(shell: InteractiveShell) -> None:
    """Detach all kernels, end those started here, and put the shell back as it was."""
    loaded: _Loaded | None = getattr(shell, _ATTRIBUTE, None)
    if loaded is None:
        return
    delattr(shell, _ATTRIBUTE)
    pool.close()
    pool.own = lambda: None
    registered = shell.magics_manager.magics
    for kind, names in loaded.magics.magics.items():
        for name in names:
            registered[kind].pop(name, None)
    for kind, name, function in loaded.replaced:
        registered[kind][name] = function
    shell.magics_manager.registry.pop(type(loaded.magics).__name__, None)
    configurables: list[Any] = shell.configurables
    if loaded.magics in configurables:
        configurables.remove(loaded.magics)
    loaded.restore_limit()


def own_connection(shell: InteractiveShell) -> ConnectionInfo | None:
    """Return where this session's own kernel is; None in a terminal and for an embedded kernel."""
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return None
    # The kernel's own application, not IPKernelApp.instance(): terminals have one of those too.
    from ipykernel.connect import get_connection_file

    app = kernel.parent
    if not hasattr(app, "connection_file"):
        return None
    return ConnectionInfo.from_file(get_connection_file(app))


def _existing(
    shell: InteractiveShell, magics: KernelMagics
) -> list[tuple[str, str, Callable[..., Any]]]:
    registered = shell.magics_manager.magics
    return [
        (kind, name, registered[kind][name])
        for kind, names in magics.magics.items()
        for name in names
        if name in registered[kind]
    ]
