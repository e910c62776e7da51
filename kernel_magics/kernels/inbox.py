"""The queue between the I/O thread and the thread that waits for a cell."""

from __future__ import annotations

import queue
import threading
from collections import deque
from typing import Any

from ..protocol.message import Message
from ..protocol.stream import TextRun, text_of

JOIN_FROM = 256
"""Items waiting from which neighbouring text is joined: whoever shows it is slower than the
kernel."""


class Inbox:
    """Many writers, one reader, in order. Grows with displays, but not with pieces of text.

    A `queue.SimpleQueue` carries one token per item, because its `get` is the one that a signal
    interrupts at once and that costs a microsecond; the items themselves have to be looked at
    again."""

    __slots__ = ("_items", "_lock", "_tokens")

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._lock = threading.Lock()
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()

    def put(self, item: Any) -> None:
        """Add an item, or join a piece of text to the one that waits last."""
        with self._lock:
            if len(self._items) >= JOIN_FROM and isinstance(item, Message):
                piece = text_of(item)
                if piece is not None:
                    last = self._items[-1]
                    if isinstance(last, TextRun) and last.take(*piece):
                        return
                    item = TextRun(item, *piece)
            self._items.append(item)
        self._tokens.put(None)

    def get(self, timeout: float) -> Any:
        """Return the next item.

        Raises:
            queue.Empty: none came within ``timeout`` seconds.
        """
        self._tokens.get(True, timeout)
        with self._lock:
            item = self._items.popleft()
        return item.message() if isinstance(item, TextRun) else item
