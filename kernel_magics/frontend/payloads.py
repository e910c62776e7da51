"""What a remote cell wants of the front end it was typed in: a pager, the next cell, an end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from IPython.core.page import page

from ..errors import sendable
from .terminal import one_line, safe

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def present(
    shell: InteractiveShell, kernel: str, payload: list[dict[str, Any]], header: str | None
) -> None:
    """Do what can be done here, and say what cannot.

    ``header`` is the first line that a cell for that kernel needs; None when it needs none.
    """
    for each in payload:
        match each.get("source"):
            case "page":
                _page(shell, each)
            case "set_next_input":
                _next_input(shell, each, header)
            case "ask_exit":
                kept = " (its process is to stay)" if each.get("keepkernel") is True else ""
                _say(f"[{kernel}] was asked to exit{kept}; this session is still here")
            case "edit_magic":
                _say(
                    f"[{kernel}] %edit wants {one_line(str(each.get('filename')))} opened, which "
                    "is a file of that kernel; open it there"
                )


def _page(shell: InteractiveShell, wanted: dict[str, Any]) -> None:
    data, start = wanted.get("data"), wanted.get("start")
    if not isinstance(data, dict):
        return
    texts = {mime: sendable(text) for mime, text in data.items() if isinstance(text, str)}
    if getattr(shell, "kernel", None) is None:
        texts = {"text/plain": safe(texts.get("text/plain", ""))}
    if any(texts.values()):
        page(texts, start=start if type(start) is int and start > 0 else 0)


def _next_input(shell: InteractiveShell, wanted: dict[str, Any], header: str | None) -> None:
    text = wanted.get("text")
    if isinstance(text, str):
        code = sendable(text) if header is None else f"{header}\n{sendable(text)}"
        shell.set_next_input(code, replace=wanted.get("replace") is True)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
