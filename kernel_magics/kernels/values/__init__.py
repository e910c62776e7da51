"""Values between kernels: whole or not at all, and never as text of a program.

What a value becomes on the other side depends on the language there; each has a file of its own,
and others can be added by the entry point group ``kernel_magics.languages``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import TransferError
from .asking import ask_kernels
from .language import Language, language_of

if TYPE_CHECKING:
    from ..kernel import Kernel


@dataclass(frozen=True, slots=True)
class Progress:
    """Who is told how a transfer gets on, on the thread that waits for it."""

    moved: Callable[[int, int], None] = lambda done, total: None
    """Bytes that have been moved, and bytes to move."""
    say: Callable[[str], None] = lambda text: None
    """A sentence about the kernel: that it is busy, or silent."""


def push(
    kernel: Kernel, values: Mapping[str, Any], source: Kernel | None, progress: Progress | None
) -> None:
    """Set variables in a kernel: all of them, or none.

    With ``source`` the values are expressions of that kernel's language.

    Raises:
        TransferError: a value cannot be packed, sent or made there, or has a name that no variable
            there can have.
        TransferInterrupted: by Ctrl-C.
    """
    progress = progress or Progress()
    there = _language(kernel, list(values), progress)
    for name in values:
        if not there.is_name(name):
            raise TransferError(name, kernel.name, f"no variable of {there.name} can be called so")
    if not values:
        return
    if source is None:
        there.push(kernel, values, progress)
    else:
        _pass_on(source, kernel, values, progress, there)


def pull(kernel: Kernel, expressions: Sequence[str], progress: Progress | None) -> list[Any]:
    """Return what expressions are worth in a kernel.

    Raises:
        TransferError, TransferInterrupted: as :func:`push`.
    """
    if not expressions:
        return []
    progress = progress or Progress()
    return _language(kernel, expressions, progress).pull(kernel, expressions, progress)


def _language(kernel: Kernel, names: Sequence[str], progress: Progress) -> Language:
    """Return the kernel's language; one that was busy so far has yet to tell it."""
    if not kernel.language:
        with ask_kernels(names, [kernel], progress.say) as (far,):
            far.run("")
    return language_of(kernel)


def _pass_on(
    source: Kernel,
    kernel: Kernel,
    values: Mapping[str, Any],
    progress: Progress,
    there: Language,
) -> None:
    from .python import Python

    here = _language(source, list(values), progress)
    if isinstance(here, Python) and isinstance(there, Python):
        there.pass_on(source, kernel, values, progress)
    else:
        found = here.pull(source, list(values.values()), progress)
        there.push(kernel, dict(zip(values, found, strict=True)), progress)
