"""Whose display an id means.

Front ends know one set of display ids for the whole notebook: two kernels that both call theirs
"plot" would write over each other. Here an id belongs to the kernel that used it first; another
kernel's is renamed, everywhere and for good, so that a later cell's update still finds its display.
Ids that were drawn by chance are nobody's and never change."""

from __future__ import annotations

import re
from typing import Any

from ..protocol.message import FULL_CHECK, Message

WITH_ID = frozenset({"display_data", "update_display_data"})

ENDS = 512
"""Bytes at both ends of a large content in which its id is looked for; it is not unpacked."""

REMEMBERED = 100_000
"""Ids of which the owner is known; whoever makes more has made them by a counter, and they stay as
they are."""

_MENTIONED = b'"display_id"'

_DRAWN = re.compile(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}")


class DisplayIds:
    """The display ids of one front end. Kernels are known by name: one that is attached anew under
    its old name goes on where the one before it was."""

    def __init__(self) -> None:
        self._owner: dict[str, str] = {}
        self._here: dict[tuple[str, str], str] = {}

    def here(self, kernel: str, display_id: str) -> str:
        """Return the id under which a kernel's display is known here."""
        if _DRAWN.fullmatch(display_id) or len(self._here) >= REMEMBERED:
            return self._here.get((kernel, display_id), display_id)
        known = self._here.get((kernel, display_id))
        if known is None:
            known = display_id
            while self._owner.setdefault(known, kernel) != kernel:
                known += f"@{kernel}"
            self._here[kernel, display_id] = known
        return known

    def renamed(self, kernel: str, message: Message) -> dict[str, Any] | None:
        """Return the content with the id that holds here; None when nothing changes.

        Raises:
            ProtocolError: it cannot be read.
        """
        packed = message.parts[3]
        if message.type not in WITH_ID or not may_have_id(packed):
            return None
        theirs = display_id(message.content)
        if theirs is None or (ours := self.here(kernel, theirs)) == theirs:
            return None
        transient = message.content["transient"] | {"display_id": ours}
        return message.content | {"transient": transient}


def display_id(content: dict[str, Any]) -> str | None:
    """Return the display id in a content, if there is one."""
    transient = content.get("transient")
    found = transient.get("display_id") if isinstance(transient, dict) else None
    return found if isinstance(found, str) else None


def may_have_id(packed: bytes) -> bool:
    """Whether a packed content may have one; a large one is not unpacked for that."""
    if len(packed) > FULL_CHECK:
        return _MENTIONED in packed[:ENDS] or _MENTIONED in packed[-ENDS:]
    return _MENTIONED in packed
