"""Messages to frames and back, by hand: standard library only, to judge other codecs by."""

import hmac
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

DELIMITER = b"<IDS|MSG>"
PROTOCOL_VERSION = "5.3"  # what ipykernel 7.4 puts into its headers

Json = dict[str, Any]


class BadFrames(ValueError):
    """Frames that are no message, or not one signed with this key."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the Jupyter protocol, with its routing prefix and its buffers."""

    header: Json
    parent_header: Json = field(default_factory=dict)
    metadata: Json = field(default_factory=dict)
    content: Json = field(default_factory=dict)
    identities: tuple[bytes, ...] = ()
    buffers: tuple[bytes, ...] = ()

    @property
    def type(self) -> str:
        return str(self.header["msg_type"])

    @property
    def id(self) -> str:
        return str(self.header["msg_id"])

    @property
    def parent_id(self) -> str | None:
        """The request that this belongs to; None if it belongs to none."""
        return self.parent_header.get("msg_id")


def make_header(msg_type: str, session: str) -> Json:
    """A header as a kernel with this session would write it now."""
    return {
        "msg_id": str(uuid.uuid4()),
        "msg_type": msg_type,
        "username": "tests",
        "session": session,
        "date": datetime.now(UTC).isoformat(),
        "version": PROTOCOL_VERSION,
    }


def sign(key: bytes, parts: Sequence[bytes]) -> bytes:
    """The signature of the four JSON parts; empty if there is no key."""
    if not key:
        return b""
    return hmac.digest(key, b"".join(parts), "sha256").hex().encode()


def pack(message: Message, key: bytes) -> list[bytes]:
    """Serialise and sign."""
    dictionaries = (message.header, message.parent_header, message.metadata, message.content)
    parts = [json.dumps(part, separators=(",", ":")).encode() for part in dictionaries]
    return [*message.identities, DELIMITER, sign(key, parts), *parts, *message.buffers]


def unpack(frames: Sequence[bytes], key: bytes) -> Message:
    """Check the signature and parse.

    Raises:
        BadFrames: no delimiter, too few parts, a wrong signature or no JSON.
    """
    try:
        border = list(frames).index(DELIMITER)
        signature, *parts = frames[border + 1 : border + 6]
        if not hmac.compare_digest(signature, sign(key, parts)):
            raise BadFrames("wrong signature")
        header, parent, metadata, content = map(json.loads, parts)
    except BadFrames:
        raise
    except ValueError as error:
        raise BadFrames(str(error)) from error
    return Message(
        header, parent, metadata, content, tuple(frames[:border]), tuple(frames[border + 6 :])
    )
