"""Loading and unloading: what is put into a shell, and how it is taken out again."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics

from ..api import pool
from ..errors import ConnectionFileError, ConnectionFileNotFound, RemoteError, RemoteErrors
from .arguments import is_ours
from .autoremote import StickyMagics, mark_prompt
from .comms import local_comms
from .complete import install
from .jobs import JobMagics
from .magics import KernelMagics
from .output import keeps_errors, local_iopub
from .remote import RemoteMagics
from .session import LocalSession
from .sticky import RemoteAssign, RemoteHelp, Sticky
from .terminal import safe
from .variables import VariableMagics

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.core.magic import Magics

    from ..connect.info import ConnectionInfo
    from .assistant import Assistant

_ATTRIBUTE = "_kernel_magics"
"""Where a shell keeps what has to be undone; also what tells that the extension is loaded."""


class _Loaded:
    def __init__(
        self,
        magics: list[Magics],
        replaced: list[tuple[str, str, Callable[..., Any]]],
        undo: list[Callable[[], None]],
    ) -> None:
        self.magics = magics
        self.replaced = replaced
        self.undo = undo


def load(shell: InteractiveShell) -> None:
    """Register the magics; a second time does nothing."""
    if getattr(shell, _ATTRIBUTE, None) is not None:
        return
    iopub = local_iopub(shell)
    pool.own = cache(lambda: own_connection(shell))
    comms = local_comms(shell, iopub)
    session = LocalSession(shell, pool, iopub, comms)
    settings = KernelMagics(session)
    registered = shell.magics_manager.magics
    sticky = Sticky(
        shell, lambda name: any(is_ours(each.get(name)) for each in registered.values())
    )
    remote = RemoteMagics(session, settings)
    magics: list[Magics] = [
        *(settings, remote),
        *(StickyMagics(session, remote, sticky), JobMagics(session), VariableMagics(session)),
    ]
    replaced = _existing(shell, magics)
    for kind, name, _ in replaced:
        sign = "%%" if kind == "cell" else "%"
        warnings.warn(
            f"{sign}{name} existed already and is kernel_magics' now; %unload_ext restores it",
            stacklevel=2,
        )
    shell.register_magics(*magics)
    undo = [
        _silence_shown_errors(shell),
        _transform(shell, sticky),
        mark_prompt(shell, sticky),
        install(shell, cache(lambda: _assistant(registered, sticky))),
    ]
    if iopub is not None:
        iopub.lift_limit()
    if comms is not None:
        undo.append(comms.install())
    setattr(shell, _ATTRIBUTE, _Loaded(magics, replaced, undo))


def unload(shell: InteractiveShell) -> None:
    """Detach all kernels, end those started here, and put the shell back as it was."""
    loaded: _Loaded | None = getattr(shell, _ATTRIBUTE, None)
    if loaded is None:
        return
    delattr(shell, _ATTRIBUTE)
    pool.close()
    pool.own = lambda: None
    registered = shell.magics_manager.magics
    for magics, kind, name in _names(loaded.magics):
        # Not what somebody has defined under that name since.
        if getattr(registered[kind].get(name), "__self__", None) is magics:
            del registered[kind][name]
    for kind, name, function in loaded.replaced:
        registered[kind].setdefault(name, function)
    configurables: list[Any] = shell.configurables
    for magics in loaded.magics:
        shell.magics_manager.registry.pop(type(magics).__name__, None)
        if magics in configurables:
            configurables.remove(magics)
    for step in loaded.undo:
        step()


def own_connection(shell: InteractiveShell) -> ConnectionInfo | None:
    """Return where this session's own kernel is; None in a terminal and for an embedded kernel."""
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return None
    # The kernel's own application, not IPKernelApp.instance(): terminals have one of those too.
    from ..connect.classic import get_connection_file
    from ..connect.info import ConnectionInfo

    app = getattr(kernel, "parent", None)
    try:
        if hasattr(app, "connection_file"):
            return ConnectionInfo.from_file(get_connection_file(app))
        if keeps_errors(shell) and (file := _file_of(sys.orig_argv)):
            return ConnectionInfo.from_file(file)
    except ConnectionFileNotFound as error:
        raise ConnectionFileError(error.wanted, "is gone") from None
    return None


def _file_of(argv: list[str]) -> str | None:
    """Return the connection file that a kernel was started with, as kernelspecs hand it over."""
    for option, value in pairwise(argv):
        if option in ("-f", "--connection-file"):
            return value
    return None


def _assistant(registered: dict[str, dict[str, Any]], sticky: Sticky) -> Assistant:
    from .assistant import Assistant
    from .typed import Reader

    return Assistant(pool, Reader(registered, sticky))


def _transform(shell: InteractiveShell, sticky: Sticky) -> Callable[[], None]:
    """Have IPython pass the text of cells through ours; return what takes that out again."""
    manager: Any = shell.input_transformer_manager
    manager.cleanup_transforms.append(sticky)
    manager.token_transformers += [RemoteAssign, RemoteHelp]

    def restore() -> None:
        for transforms, ours in (
            (manager.cleanup_transforms, sticky),
            (manager.token_transformers, RemoteAssign),
            (manager.token_transformers, RemoteHelp),
        ):
            if ours in transforms:
                transforms.remove(ours)

    return restore


def _silence_shown_errors(shell: InteractiveShell) -> Callable[[], None]:
    """Let a remote error that was shown in its place fail the cell without a second traceback.

    IPython has one hook for that, shared by all; who holds it already keeps their share. Returns
    what puts it back.
    """
    types, other = shell.custom_exceptions, shell.CustomTB

    def handler(
        shell: Any, etype: type, value: BaseException, tb: Any, tb_offset: int | None = None
    ) -> Any:
        if not isinstance(value, RemoteError | RemoteErrors):
            return other(etype, value, tb, tb_offset)
        if getattr(shell, "kernel", None) is None:
            each = [value] if isinstance(value, RemoteError) else value.errors.values()
            for error in each:
                if isinstance(error, RemoteError):
                    error.ename, error.evalue = safe(error.ename), safe(error.evalue)
                    error.traceback = [safe(line) for line in error.traceback]
        if isinstance(value, RemoteError) and value.shown and not keeps_errors(shell):
            shell._last_traceback = value.traceback  # what ipykernel puts into the reply
        else:
            shell.showtraceback((etype, value, tb), tb_offset)
        return None

    shell.set_custom_exc((*types, RemoteError, RemoteErrors), handler)
    ours = shell.CustomTB

    def restore() -> None:
        if shell.CustomTB == ours:
            shell.custom_exceptions = types
            shell.CustomTB = other

    return restore


def _names(magics: list[Magics]) -> Iterator[tuple[Magics, str, str]]:
    """All that they define: by whom, whether a line or a cell magic, and its name."""
    for each in magics:
        for kind, names in each.magics.items():
            for name in names:
                yield each, kind, name


def _existing(
    shell: InteractiveShell, magics: list[Magics]
) -> list[tuple[str, str, Callable[..., Any]]]:
    registered = shell.magics_manager.magics
    return [
        (kind, name, registered[kind][name])
        for _, kind, name in _names(magics)
        if name in registered[kind]
    ]
