"""What a kernel says, without what a front end would execute: `%%remote --no-html`.

Allow-lists, of types of messages, of MIME types and of fields: whatever is not known to be passive
is left out, so that what a front end learns to execute next year is left out as well."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from .message import Message

_BASE64 = re.compile(r"[A-Za-z0-9+/=\s]*")

_ACTIVE = re.compile(
    r"\x1b(?!\[[0-9;:]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)
"""Control characters other than tab and newline, and escapes that begin anything but a colour."""


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_base64(value: object) -> bool:
    # Some front ends write it into a page as it is.
    return isinstance(value, str) and _BASE64.fullmatch(value) is not None


PASSIVE: dict[str, Callable[[object], bool]] = {
    "text/plain": _is_text,
    "image/png": _is_base64,
    "image/jpeg": _is_base64,
    "image/gif": _is_base64,
    "image/webp": _is_base64,
    "image/bmp": _is_base64,
    "application/json": lambda value: True,
}
"""MIME types that are only shown, and what their value has to be. Not among them: LaTeX and
Markdown, which may hold links and HTML; SVG, which may hold scripts; PDF, tables and plots of other
makers, whose viewers are programs."""


def passive_output(message: Message) -> Message | None:
    """Return an output message with only what is passive in it; None when nothing is.

    Raises:
        ProtocolError: it cannot be read.
    """
    content = message.content
    said: dict[str, Any]
    match message.type:
        case "stream":
            name = "stderr" if content.get("name") == "stderr" else "stdout"
            said = {"name": name, "text": _text(content, "text")}
        case "display_data" | "update_display_data" | "execute_result":
            said = _shown(content)
        case "error":
            said = _error(content)
        case "clear_output":
            said = {"wait": bool(content.get("wait"))}
        case _:  # widgets, and what nobody knows
            return None
    return message.saying_only(said)


def passive_data(data: object) -> dict[str, Any]:
    """Return what is passive in a MIME bundle; where nothing is, a text that says what there was.

    Empty for what is no bundle, or an empty one.
    """
    if not isinstance(data, dict) or not data:
        return {}
    kept = {mime: data[mime] for mime, fits in PASSIVE.items() if mime in data and fits(data[mime])}
    return kept or {"text/plain": f"[{', '.join(map(only_colours, data))}: left out by --no-html]"}


def passive_reply(reply: dict[str, Any]) -> dict[str, Any]:
    """Return the content of an ``execute_reply`` with only what is passive in its error, and in
    the pages that it wants shown."""
    passive = dict(reply)
    if reply.get("status") == "error":
        passive |= _error(reply)
    if isinstance(payload := reply.get("payload"), list):
        passive["payload"] = [
            each | {"data": passive_data(each.get("data"))} if _is_page(each) else each
            for each in payload
        ]
    return passive


def only_colours(text: str) -> str:
    """Return a text with control characters written out, as ``\\x1b``, but for colours."""
    return _ACTIVE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def _error(content: dict[str, Any]) -> dict[str, Any]:
    lines = content.get("traceback")
    return {
        "ename": only_colours(_text(content, "ename")),
        "evalue": only_colours(_text(content, "evalue")),
        "traceback": [only_colours(str(line)) for line in lines] if isinstance(lines, list) else [],
    }


def _is_page(payload: object) -> bool:
    return isinstance(payload, dict) and payload.get("source") == "page"


def _shown(content: dict[str, Any]) -> dict[str, Any]:
    data = passive_data(content.get("data"))
    metadata, transient = (
        value if isinstance(value := content.get(name), dict) else {}
        for name in ("metadata", "transient")
    )
    said: dict[str, Any] = {"data": data, "metadata": _sizes(data, metadata)}
    if isinstance(name := transient.get("display_id"), str):
        said["transient"] = {"display_id": name}
    if isinstance(count := content.get("execution_count"), int):
        said["execution_count"] = count
    return said


def _sizes(data: dict[str, Any], metadata: dict[str, Any]) -> dict[str, Any]:
    """Return how large pictures are to be drawn: all that is known to be passive in metadata."""
    found = {
        mime: {name: about[name] for name in _SIZE if isinstance(about.get(name), int | float)}
        for mime in data
        if isinstance(about := metadata.get(mime), dict)
    }
    return {mime: sizes for mime, sizes in found.items() if sizes}


_SIZE = ("width", "height")


def _text(content: dict[str, Any], name: str) -> str:
    value = content.get(name)
    return value if isinstance(value, str) else ""
