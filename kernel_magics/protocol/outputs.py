"""The outputs of a cell as a notebook file keeps them.

The forms are those of nbformat 4 ("Code cell outputs"); what updates and clears do to earlier
outputs is in the messaging specification ("Update Display Data", "Clear Output")."""

from __future__ import annotations

import threading
from typing import Any

from .message import Message

Output = dict[str, Any]
"""One output: ``output_type``, and what belongs to that type."""


class Outputs:
    """Grows on one thread, is read on any."""

    def __init__(self) -> None:
        self._outputs: list[Output] = []
        self._texts: list[str] = []  # of the last output, while that is a stream
        self._displays: dict[str, list[Output]] = {}
        self._clear_next = False
        self._lock = threading.Lock()

    def add(self, message: Message) -> None:
        """Take one output message; of other types nothing is kept.

        Raises:
            ProtocolError: it cannot be read.
        """
        content = message.content
        with self._lock:
            match message.type:
                case "stream":
                    self._stream(str(content.get("name", "stdout")), str(content.get("text", "")))
                case "display_data" | "execute_result" | "error":
                    self._append(_output(message.type, content))
                    if name := _display_id(content):
                        self._displays.setdefault(name, []).append(self._outputs[-1])
                        self._update(name, content)
                case "update_display_data":
                    self._update(_display_id(content), content)
                case "clear_output":
                    self._clear_next = bool(content.get("wait"))
                    if not self._clear_next:
                        self._clear()

    def add_text(self, name: str, text: str) -> None:
        """Take text of our own, for the stream of that name."""
        with self._lock:
            self._stream(name, text)

    def as_list(self) -> list[Output]:
        """Return what there is so far, streams joined; the caller's own list."""
        with self._lock:
            self._join()
            return [dict(each) for each in self._outputs]

    def _stream(self, name: str, text: str) -> None:
        if self._clear_next or not self._texts or self._outputs[-1]["name"] != name:
            self._append({"output_type": "stream", "name": name, "text": ""})
        self._texts.append(text)

    def _append(self, output: Output) -> None:
        if self._clear_next:
            self._clear()
        self._join()
        self._texts.clear()
        self._outputs.append(output)

    def _update(self, name: str, content: dict[str, Any]) -> None:
        """A display that is shown once more under its name changes where it was shown before."""
        for shown in self._displays.get(name, ()):
            shown.update(_bundle(content))

    def _join(self) -> None:
        if self._texts:
            self._outputs[-1]["text"] = "".join(self._texts)
            self._texts[:] = [self._outputs[-1]["text"]]

    def _clear(self) -> None:
        self._clear_next = False
        self._outputs.clear()
        self._texts.clear()
        self._displays.clear()


def _output(kind: str, content: dict[str, Any]) -> Output:
    if kind == "error":
        lines = content.get("traceback")
        return {
            "output_type": "error",
            "ename": str(content.get("ename") or ""),
            "evalue": str(content.get("evalue") or ""),
            "traceback": [str(line) for line in lines] if isinstance(lines, list) else [],
        }
    output = {"output_type": kind, **_bundle(content)}
    if kind == "execute_result":
        output["execution_count"] = content.get("execution_count")
    return output


def _bundle(content: dict[str, Any]) -> dict[str, Any]:
    return {key: value if isinstance(value := content.get(key), dict) else {} for key in _KEYS}


_KEYS = ("data", "metadata")


def _display_id(content: dict[str, Any]) -> str:
    transient = content.get("transient")
    name = transient.get("display_id") if isinstance(transient, dict) else None
    return name if isinstance(name, str) else ""
