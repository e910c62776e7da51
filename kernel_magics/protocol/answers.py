"""What a kernel says about code that is being typed, checked before anybody relies on it.

Offsets count characters (code points), as the messaging specification does since 5.2."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from ..errors import ProtocolError
from .message import Message

TYPED_MATCHES = "_jupyter_types_experimental"
"""Where ipykernel says what each match is; front ends show these instead of the plain ones."""

LARGEST_ANSWER = 4_000_000
"""Bytes. Somebody waits at a prompt; ipykernel's longest answers have some 50,000."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What may stand in place of ``code[start:end]``. ``metadata`` is as the kernel sent it."""

    matches: list[str]
    start: int
    end: int
    metadata: dict[str, Any] = field(default_factory=dict)

    def moved(self, by: int) -> Completion:
        """Return the same for code that stands ``by`` characters further on."""
        metadata = dict(self.metadata)
        if TYPED_MATCHES in metadata:
            metadata[TYPED_MATCHES] = [
                one | {"start": one["start"] + by, "end": one["end"] + by}
                for one in metadata[TYPED_MATCHES]
            ]
        return Completion(self.matches, self.start + by, self.end + by, metadata)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is known of the name at the cursor: a MIME bundle; not ``found``, an empty one."""

    found: bool
    data: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Completeness:
    """Whether code can be run as it is: ``complete``, ``incomplete`` (then ``indent`` begins the
    next line), ``invalid`` or ``unknown``."""

    status: str
    indent: str = ""


def completion_of(reply: Message, code: str, cursor: int) -> Completion:
    """Read a ``complete_reply``. Nothing to complete is no error.

    Raises:
        ProtocolError: it does not fit together, or not with the code.
    """
    content = _content(reply)
    matches = _strings(content.get("matches", []))
    if content.get("status", "ok") != "ok" or not matches:
        return Completion([], cursor, cursor)
    start: Any = content.get("cursor_start")
    end: Any = content.get("cursor_end")
    if not _is_span(start, end, code):
        raise ProtocolError(f"complete_reply for {start!r} to {end!r} of {len(code)} characters")
    metadata = _object(content, "metadata")
    typed = metadata.pop(TYPED_MATCHES, None)
    if isinstance(typed, list) and all(_is_typed(one, code) for one in typed):
        metadata[TYPED_MATCHES] = typed
    return Completion(matches, start, end, metadata)


def inspection_of(reply: Message) -> Inspection:
    """Read an ``inspect_reply``.

    Raises:
        ProtocolError: it is no proper one.
    """
    content = _content(reply)
    data = _object(content, "data")
    if content.get("status", "ok") != "ok" or content.get("found") is not True or not data:
        return Inspection(False)
    return Inspection(True, data, _object(content, "metadata"))


def completeness_of(reply: Message) -> Completeness:
    """Read an ``is_complete_reply``.

    Raises:
        ProtocolError: it is no proper one.
    """
    content = _content(reply)
    status, indent = content.get("status"), content.get("indent", "")
    if status not in ("complete", "incomplete", "invalid", "unknown"):
        raise ProtocolError(f"is_complete_reply with status {status!r}")
    if not isinstance(indent, str) or indent.strip():
        raise ProtocolError(f"is_complete_reply with indent {indent!r}")
    return Completeness(status, indent)


def _content(reply: Message) -> dict[str, Any]:
    """Return the content as it can be sent on: without NaN and lone surrogates."""
    if reply.nbytes > LARGEST_ANSWER:
        raise ProtocolError(f"{reply.type} of {reply.nbytes} bytes")
    try:
        text = json.dumps(reply.content, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"{reply.type}: {error}") from None
    content: dict[str, Any] = json.loads(text.encode("utf-8", "replace"))
    return content


def _strings(value: object) -> list[str]:
    if not (isinstance(value, list) and all(isinstance(one, str) for one in value)):
        raise ProtocolError("complete_reply whose matches are no list of strings")
    return value


def _object(content: dict[str, Any], name: str) -> dict[str, Any]:
    value = content.get(name, {})
    if not isinstance(value, dict):
        raise ProtocolError(f"{name} is {type(value).__name__}, not an object")
    return value


def _is_span(start: object, end: object, code: str) -> bool:
    # Not isinstance: True is an int.
    return type(start) is int and type(end) is int and 0 <= start <= end <= len(code)


def _is_typed(one: object, code: str) -> bool:
    return (
        isinstance(one, dict)
        and _is_span(one.get("start"), one.get("end"), code)
        and all(isinstance(one.get(key, ""), str) for key in ("text", "type", "signature"))
        and bool(one.get("text"))
    )
