"""What a remote cell wants of the front end it was typed in: a pager, the next cell, an end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from IPython.core.page import page

from ..errors import sendable
from ..protocol.message import Message, Session
from .terminal import safe, visible

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

NEXT = "the next cell is to be this; it is not filled in:"


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
            case _:
                for text in _not_done(each):
                    print(f"[{kernel}] {text}", file=sys.stderr, flush=True)


def among_outputs(
    payload: list[dict[str, Any]], header: str | None = None
) -> Iterator[Message | str]:
    """Give outputs for it, and sentences without the kernel's name.

    For cells that nobody waits for, and cells in several kernels: a pager opens once at most, and
    whoever types the next cell would find it filled by surprise.
    """
    for each in payload:
        match each.get("source"):
            case "page":
                if any((texts := _texts(each)).values()):
                    yield _display(texts)
            case "set_next_input":
                if (code := _code(each, header)) is not None:
                    yield _display({"text/plain": f"{NEXT}\n\n{code}"})
            case _:
                yield from _not_done(each)


def _page(shell: InteractiveShell, wanted: dict[str, Any]) -> None:
    texts, start = _texts(wanted), wanted.get("start")
    if getattr(shell, "kernel", None) is None:
        texts = {mime: safe(text) for mime, text in texts.items() if mime == "text/plain"}
    if texts:
        page(texts, start=start if type(start) is int and start > 0 else 0)


def _next_input(shell: InteractiveShell, wanted: dict[str, Any], header: str | None) -> None:
    if (code := _code(wanted, header)) is not None:
        shell.set_next_input(code, replace=wanted.get("replace") is True)


def _not_done(wanted: dict[str, Any]) -> Iterator[str]:
    match wanted.get("source"):
        case "ask_exit":
            kept = " (its process is to stay)" if wanted.get("keepkernel") is True else ""
            yield f"was asked to exit{kept}; this session is still here"
        case "edit_magic":
            file = visible(str(wanted.get("filename")))
            yield f"%edit wants {file} opened, which is a file of that kernel; open it there"


def _texts(wanted: dict[str, Any]) -> dict[str, str]:
    data = wanted.get("data")
    if not isinstance(data, dict):
        return {}
    return {mime: sendable(text) for mime, text in data.items() if isinstance(text, str)}


def _code(wanted: dict[str, Any], header: str | None) -> str | None:
    text = wanted.get("text")
    if not isinstance(text, str):
        return None
    return sendable(text) if header is None else f"{header}\n{sendable(text)}"


def _display(data: dict[str, str]) -> Message:
    return Session().message("display_data", {"data": data, "metadata": {}, "transient": {}})
