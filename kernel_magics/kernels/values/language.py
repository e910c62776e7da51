"""What a language has to offer so that values can be brought to its kernels and from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol

from ...errors import TransferError

if TYPE_CHECKING:
    from ..kernel import Kernel
    from . import Progress

GROUP = "kernel_magics.languages"
"""Entry points by language name in lower case, as in ``language_info``; each is a class without
arguments that offers what :class:`Language` does."""

OWN = {
    "python": "python:Python",
    "r": "r:R",
    "javascript": "javascript:JavaScript",
    "typescript": "javascript:JavaScript",
    "bash": "bash:Bash",
}


class Language(Protocol):
    """One language."""

    name: str
    """As people write it."""

    def is_name(self, name: str) -> bool:
        """Whether a variable can have this name there."""

    def push(self, kernel: Kernel, values: Mapping[str, Any], progress: Progress) -> None:
        """Set all variables, or none."""

    def pull(self, kernel: Kernel, expressions: Sequence[str], progress: Progress) -> list[Any]:
        """Return what the expressions are worth."""


def language_of(kernel: Kernel) -> Language:
    """Return how to speak to a kernel.

    Raises:
        TransferError: nobody has said how, or the kernel has not told its language yet.
    """
    language = kernel.language.lower()
    found = _named(language)
    if found is None:
        known = ", ".join(sorted({*OWN, *(each.name for each in entry_points(group=GROUP))}))
        what = f"its language is {language}" if language else "it has not told its language yet"
        raise TransferError("values", kernel.name, f"{what}; values are known for {known}")
    return found


@cache
def _named(language: str) -> Language | None:
    for entry in entry_points(group=GROUP):
        if entry.name == language:
            offered: Language = entry.load()()
            return offered
    if language not in OWN:
        return None
    module, _, name = OWN[language].partition(":")
    own: Language = getattr(import_module(f".{module}", __package__), name)()
    return own
