"""What happens to a cell's text beyond what anybody reads: it goes into a private file."""

from __future__ import annotations

import os
import tempfile
from typing import IO

from ..protocol.message import Message
from ..protocol.stream import text_of


class TextLimit:
    """Lets a cell's first ``limit`` bytes of stream messages pass and writes the rest to a file.

    The file is readable by this user only and is left for them; :attr:`path` is None until there is
    one.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.path: str | None = None
        self._passed = 0
        self._file: IO[str] | None = None

    def passes(self, message: Message) -> bool:
        """Whether to show the message; if not, its text has been written to the file."""
        if message.type != "stream":
            return True
        self._passed += message.nbytes
        if self._passed <= self.limit or (piece := text_of(message)) is None:
            return True
        if self._file is None:
            descriptor, self.path = tempfile.mkstemp(prefix="km-output-", suffix=".txt")
            self._file = os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace")
        self._file.write(piece[1])
        return False

    def close(self) -> None:
        """Finish the file, if there is one."""
        if self._file is not None:
            self._file.close()
