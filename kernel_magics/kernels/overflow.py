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
        if self._file.closed:  # a thread that outlives its cell
            self._append(piece[1])
        else:
            self._file.write(piece[1])
        return False

    def _append(self, text: str) -> None:
        assert self.path is not None
        # If it was removed meanwhile, it is made anew, and not for others to read.
        descriptor = os.open(
            self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600
        )
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)

    def close(self) -> None:
        """Finish the file, if there is one; what comes later is added to it."""
        if self._file is not None:
            self._file.close()
