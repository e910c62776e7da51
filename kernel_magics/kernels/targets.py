"""Which kernels a line means: the one place that knows names, lists, patterns and `all`."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from ..errors import BadName, KernelNotFound

if TYPE_CHECKING:
    from .kernel import Kernel
    from .pool import KernelPool

ALL = "all"

HOW_TO_ATTACH = "%kernel_start or %kernel_attach adds one, %kernels --all lists what runs here"


def means_several(targets: str) -> bool:
    """Whether it is written as more than one name; it may mean one kernel all the same."""
    return targets == ALL or "," in targets or _is_pattern(targets)


def resolve(
    pool: KernelPool, targets: str, attached: Callable[[Kernel], object] = lambda kernel: None
) -> list[Kernel]:
    """Return the kernels that ``targets`` means, each once, in the order given.

    ``targets`` is names with commas between them. Each is an attached kernel's name; a fragment of
    a connection file's, which is attached (and given to ``attached``, which may say so); a pattern
    (``gpu-*``, ``gpu-[0-3]``, ``?``) for attached kernels; or ``all`` attached kernels. Whatever
    can be refused is refused before anything is attached.

    Raises:
        KernelNotFound, AmbiguousKernel, ConnectionFileError, KernelUnreachable: as they say; a
            pattern that no kernel matches, and `all` of none, are errors, too.
        BadName: there is nothing between two commas.
    """
    if targets in pool:
        return [pool[targets]]
    names: dict[str, None] = {}
    for word in targets.split(","):
        for name in _expand(pool, word.strip(), targets):
            names[name] = None
    kernels: dict[str, Kernel] = {}  # two words may mean one kernel: a name and a fragment
    for name in names:
        kernel, new = pool.get_or_attach(name)
        if new:
            attached(kernel)
        kernels[kernel.name] = kernel
    return list(kernels.values())


def _expand(pool: KernelPool, word: str, targets: str) -> list[str]:
    if not word:
        raise BadName(targets, "there is nothing between two of its commas; write a,b,c")
    if word in pool:
        return [word]
    if word == ALL:
        if not pool.names:
            raise KernelNotFound(ALL, [], HOW_TO_ATTACH)
        return pool.names
    if not _is_pattern(word):
        return [word]
    found = [name for name in pool.names if fnmatchcase(name, word)]
    if not found:
        attached = ", ".join(pool.names) or "-"
        raise KernelNotFound(word, [f"the attached kernels ({attached})"], HOW_TO_ATTACH)
    return found


def _is_pattern(word: str) -> bool:
    # A path or an address is none, whatever is in it.
    return "/" not in word and any(character in word for character in "*?[")
