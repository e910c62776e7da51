"""Frames to messages and back: signing, verifying, packing.

Owns the wire format of the messaging specification ("The wire protocol"): after the delimiter come
a signature and four packed parts - header, parent header, metadata, content - and any raw buffers.
Everything here is judged byte for byte against ``jupyter_client.session.Session`` in the tests.
Content stays packed until somebody asks: a relay forwards it without ever reading it. Must not know
sockets, channels or kernels."""

from __future__ import annotations

import codecs
import copy
import hashlib
import itertools
import json
import os
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from hmac import compare_digest
from typing import Any

from ..errors import MessageRejected, ProtocolError

DELIMITER = b"<IDS|MSG>"
"""Stands between the routing identities (or the iopub topic) and the signature."""

PROTOCOL_VERSION = "5.3"
"""What our headers claim. 5.3 is what ipykernel itself says; nothing we send needs more."""

SIGNATURE_SCHEMES = ("hmac-sha256", "hmac-sha384", "hmac-sha512")

HMAC_PADS = (0x36, 0x5C)

REPLAY_WINDOW = 2**16
"""Verified signatures remembered, as in ``Session.digest_history_size``."""

HEADER_LIMIT = 64 * 1024
"""Bytes of a header or parent header we are willing to parse; real ones have some 200."""

FULL_CHECK = 1024 * 1024
"""Bytes of content up to which it is unpacked before it is passed on."""

LONGEST_BLANK = 64
"""Bytes of blanks before a value that are looked at when a content is not unpacked."""

_PLAIN = re.compile(r"[\w.-]*", re.ASCII).fullmatch
"""Text that stands in JSON as it is."""

_VALUE_BEGINS = re.compile(rb"[:\[,]\s*-?\Z")

JOIN_BELOW = 4096
"""Bytes of all parts below which they are joined to be signed."""

FRAMES_LIMIT = 10_000
"""Frames of one message: each buffer is one, and each costs some microseconds."""

CUT_SHORT = "it was cut short"
"""Why a message is rejected that lacks frames."""

Part = bytes | memoryview

_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_decoder = json.JSONDecoder()
_decode = _decoder.decode
_scan = _decoder.scan_once  # type: ignore[attr-defined]  # what `decode` is a frame around


class Signer:
    """Signs and verifies for one kernel.

    The replay window holds the last ``REPLAY_WINDOW`` *verified* signatures. A signature is
    recorded after it was verified, never before: `Session` does it the other way round, so that a
    forged copy which arrives first gets the true message refused."""

    def __init__(self, key: bytes, scheme: str = "hmac-sha256") -> None:
        if scheme not in SIGNATURE_SCHEMES:
            raise ProtocolError(f"unknown signature scheme {scheme!r}")
        # HMAC (RFC 2104) from its two hashes, begun once: a cell takes five signatures, and `hmac`
        # wraps every step of each in calls of its own.
        begin = getattr(hashlib, scheme.removeprefix("hmac-"))
        block = begin().block_size
        padded = (key if len(key) <= block else begin(key).digest()).ljust(block, b"\0")
        self._inner, self._outer = (
            begin(bytes(byte ^ pad for byte in padded)) for pad in HMAC_PADS
        )
        self.signs = bool(key)
        """There is a key."""
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def sign(self, parts: Sequence[Part]) -> bytes:
        """Return the hex signature of the four packed parts; empty when there is no key."""
        if not self.signs:
            return b""
        inner, outer = self._inner.copy(), self._outer.copy()
        if sum(map(len, parts)) < JOIN_BELOW:  # each call of its own costs more than the copy
            inner.update(b"".join(parts))
        else:
            for part in parts:
                inner.update(part)
        outer.update(inner.digest())
        return bytes(outer.hexdigest(), "ascii")

    def verify(self, signature: bytes, parts: Sequence[Part]) -> None:
        """Accept a signature once.

        Raises:
            MessageRejected: it is not this key's signature of these parts, or was seen before.
        """
        if not compare_digest(self.sign(parts), signature):
            raise MessageRejected("the signature does not match", forged=True)
        if not signature:
            return  # a kernel without a key: nothing can be proved, so nothing can be replayed
        if signature in self._seen:
            raise MessageRejected("a message that was received before")
        self._seen[signature] = None
        if len(self._seen) > REPLAY_WINDOW:
            self._seen.popitem(last=False)


class Message:
    """One message: header and parent parsed, metadata and content packed until asked for.

    Immutable by convention. ``parts`` are the four packed parts as they were (or will be) on the
    wire, ``buffers`` the raw frames behind them. ``parent_id`` and ``parent_session`` are empty
    strings for a message nobody asked for."""

    __slots__ = (
        "_content",
        "_header",
        "_metadata",
        "_parent",
        "buffers",
        "msg_id",
        "parent_id",
        "parts",
        "type",
    )

    def __init__(
        self,
        header: Mapping[str, Any],
        parent: Mapping[str, Any],
        parts: tuple[bytes, ...],
        buffers: tuple[Part, ...] = (),
    ) -> None:
        self.type: str = header["msg_type"]
        self.msg_id: str = header["msg_id"]
        parent_id = parent.get("msg_id")
        self.parent_id: str = parent_id if isinstance(parent_id, str) else ""
        self._header = header
        self._parent = parent
        self.parts = parts
        self.buffers = buffers
        self._content: dict[str, Any] | None = None
        self._metadata: dict[str, Any] | None = None

    # What few ask is looked up when they ask: every message is made, on the way of every cell.

    @property
    def session(self) -> str:
        """Whose message it is."""
        return _text(self._header, "session")

    @property
    def date(self) -> str:
        """When it was made, by its sender's clock."""
        return _text(self._header, "date")

    @property
    def parent_session(self) -> str:
        """Who asked for it."""
        return _text(self._parent, "session")

    @property
    def parent_type(self) -> str:
        """What was asked."""
        return _text(self._parent, "msg_type")

    @property
    def of_a_cell(self) -> bool:
        """A cell led to it, and one that was for no subshell."""
        parent = self._parent
        return parent.get("msg_type") == "execute_request" and not parent.get("subshell_id")

    @property
    def content(self) -> dict[str, Any]:
        """The content, unpacked on first use.

        Raises:
            ProtocolError: the packed bytes are not a JSON object.
        """
        if self._content is None:
            self._content = self._unpack(3, "content")
        return self._content

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata, unpacked on first use; errors as for :attr:`content`."""
        if self._metadata is None:
            self._metadata = self._unpack(2, "metadata")
        return self._metadata

    def with_content(self, content: dict[str, Any]) -> Message:
        """Return the same message saying something else; for content of our own making."""
        other = copy.copy(self)
        other.parts = (*self.parts[:3], pack(content))
        other._content = content
        return other

    def saying_only(self, content: dict[str, Any]) -> Message:
        """Return the same without metadata and buffers, saying something else."""
        other = self.with_content(content)
        other.parts, other._metadata = (*other.parts[:2], b"{}", other.parts[3]), None
        other.buffers = ()
        return other

    def to_subshell(self, subshell: str) -> Message:
        """Return the same request, to be handled by a subshell; for one of our own making."""
        other = copy.copy(self)
        other.parts = (pack(unpack(self.parts[0]) | {"subshell_id": subshell}), *self.parts[1:])
        return other

    def check(self) -> None:
        """Make sure that metadata and content can be passed on: whoever gets them takes them for
        JSON.

        Small ones are unpacked. Of large ones, which would be copied twice by that, only the ends
        and the encoding are looked at.

        Raises:
            ProtocolError: they are not what they should be.
        """
        for index, name in ((2, "metadata"), (3, "content")):
            if self.parts[index] != b"{}":
                self._check_part(index, name)

    def _check_part(self, index: int, name: str) -> None:
        packed = self.parts[index]
        if not packed.isascii():
            decoder = codecs.getincrementaldecoder("utf-8")()
            try:
                for start in range(0, len(packed), FULL_CHECK):
                    decoder.decode(packed[start : start + FULL_CHECK])
            except UnicodeDecodeError:
                raise ProtocolError(f"{self.type}: {name} is not UTF-8") from None
        if len(packed) > FULL_CHECK:
            if not (packed.startswith(b"{") and packed.endswith(b"}")):
                raise ProtocolError(f"{self.type}: {name} is not an object")
        else:
            getattr(self, name)
        if _may_hold_constant(packed):
            try:
                json.loads(packed, parse_constant=_refuse)
            except ValueError as error:
                raise ProtocolError(f"{self.type}: {name} is not JSON ({error})") from None

    @property
    def nbytes(self) -> int:
        """Size of content and buffers in bytes."""
        return len(self.parts[3]) + sum(memoryview(buffer).nbytes for buffer in self.buffers)

    def _unpack(self, index: int, name: str) -> dict[str, Any]:
        try:
            value = unpack(self.parts[index])
        except (ValueError, RecursionError) as error:
            raise ProtocolError(f"{self.type}: {name} is not JSON ({error})") from None
        if not isinstance(value, dict):
            raise ProtocolError(f"{self.type}: {name} is {type(value).__name__}, not an object")
        return value

    def __repr__(self) -> str:
        return f"<Message {self.type} {self.msg_id} of {self.parent_id or 'nobody'}>"


def receive(frames: Sequence[Part], signer: Signer) -> Message:
    """Verify and parse the frames of one multipart message, identities or topic included.

    Raises:
        MessageRejected: whatever is wrong with them; never anything else.
    """
    try:
        begin = frames.index(DELIMITER, 0, 8) + 1  # behind a topic or a few identities
    except ValueError:
        raise MessageRejected("no delimiter") from None
    count, end = len(frames), begin + 5
    if count > FRAMES_LIMIT:
        raise MessageRejected(f"{count} frames, more than {FRAMES_LIMIT}")
    if count < end:
        raise MessageRejected(CUT_SHORT)
    # A large one comes as a view, where buffers stand if there is no topic.
    signature, *parts = map(bytes, frames[begin:end])
    signer.verify(signature, parts)
    return parse(tuple(parts), tuple(frames[end:]))


def parse(parts: tuple[bytes, ...], buffers: tuple[Part, ...] = ()) -> Message:
    """Make a message of its packed parts: header, parent header, metadata and content.

    Raises:
        MessageRejected: a header that cannot be one.
    """
    packed, packed_parent = parts[0], parts[1]
    if len(packed) > HEADER_LIMIT or len(packed_parent) > HEADER_LIMIT:
        raise MessageRejected(f"a header larger than {HEADER_LIMIT} bytes")
    try:
        header, parent = unpack(packed), _unpack_parent(packed_parent)
    except (ValueError, RecursionError):
        raise MessageRejected("a header that is not JSON") from None
    if not isinstance(header, dict):
        raise MessageRejected("a header that is not an object")
    kind = header.get("msg_type")
    if not (isinstance(kind, str) and isinstance(header.get("msg_id"), str)):
        raise MessageRejected("a header without msg_id and msg_type")
    if not kind.isascii():
        # It becomes an iopub topic, which a lone surrogate cannot.
        header["msg_type"] = kind.encode("utf-8", "replace").decode()
    return Message(header, parent, parts, buffers)


def frames_of(message: Message, signer: Signer) -> list[Part]:
    """Return the frames of a message, from the delimiter on, signed for one kernel."""
    return [DELIMITER, signer.sign(message.parts), *message.parts, *message.buffers]


def _encoding() -> Callable[[Any], str]:
    """Return what does as the encoder's `encode`, which makes the part in C anew for each value."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return _encoder.encode
    quote, default = json.encoder.encode_basestring, _encoder.default
    chunks = make(None, default, quote, None, ": ", ", ", False, False, False)
    return lambda value: "".join(chunks(value, 0))


_encoded = _encoding()


def pack(value: Any) -> bytes:
    """Pack one part exactly as `Session` with its standard JSON packer does.

    Raises:
        ProtocolError: the value has no JSON form.
    """
    try:
        text = _encoded(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise ProtocolError(f"cannot be sent: {error}") from None
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8, but it has an escape; the kernel then says what it thinks.
        return json.dumps(value, allow_nan=False).encode()


def unpack(part: bytes) -> Any:
    """Unpack one part as leniently as `Session`: bytes that are not UTF-8 are replaced.

    Raises:
        ValueError, RecursionError: it is not JSON, or nested beyond reason.
    """
    text = part.decode("utf-8", "replace")
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        return _decode(text)
    # `decode` looks for blanks before and behind by regular expressions, which take as long again.
    return value if end == len(text) else _decode(text)


@lru_cache(maxsize=32)
def _unpack_parent(part: bytes) -> Mapping[str, Any]:
    # All that a kernel says about one request bears the same bytes; unpacking them each time took
    # a fifth of the whole reading. Some kernels send null where the specification says {}.
    parent = unpack(part)
    return parent if isinstance(parent, dict) else {}


class Session:
    """Makes messages in one session: fresh ids, one username, packed at once.

    May be used from any thread: a count of `itertools` never hands out a number twice.
    """

    def __init__(self, session: str | None = None, username: str = "") -> None:
        # A session that is shared with others, who count as well, gets ids of its own form.
        self.id = secrets.token_hex(16) if session is None else session
        self._prefix = self.id if session is None else f"{session}_{secrets.token_hex(4)}"
        self.username = username or os.environ.get("USER", "username")
        self._count = itertools.count()
        self._identity = self.id.encode()
        packed = pack({"username": self.username, "session": self.id})[1:-1]
        self._packed_self = packed.decode("utf-8", "surrogateescape")
        self._is_plain = _PLAIN(self._prefix) is not None

    @property
    def identity(self) -> bytes:
        """The routing identity; the same on shell and stdin, or prompts would not find us."""
        return self._identity

    def renew_identity(self) -> None:
        """Be somebody else from the next connection on; replies to the one before are given up."""
        self._identity = f"{self.id}-{secrets.token_hex(4)}".encode()

    def header(self, msg_type: str) -> dict[str, Any]:
        """Return a fresh header. Its order of keys is `Session`'s."""
        return {
            "msg_id": f"{self._prefix}_{os.getpid()}_{next(self._count)}",
            "msg_type": msg_type,
            "username": self.username,
            "session": self.id,
            "date": _now(),
            "version": PROTOCOL_VERSION,
        }

    def message(
        self,
        msg_type: str,
        content: Mapping[str, Any],
        *,
        metadata: Mapping[str, Any] | None = None,
        buffers: Sequence[Part] = (),
    ) -> Message:
        """Make a request, packed and ready to be signed."""
        header = self.header(msg_type)
        packed = self._pack_header(header)
        parts = (packed, b"{}", pack(metadata) if metadata else b"{}", pack(content))
        message = Message(header, {}, parts, tuple(buffers))
        message._content = dict(content)  # else a cell's flags would be unpacked again, for 20 us
        return message

    def copy_of(
        self, message: Message, packed_parent: bytes, content: bytes | None = None
    ) -> list[Part]:
        """Return the parts and buffers of ``message`` re-sent in this session under another parent.

        The header is new: front ends take ``header.session`` of what they receive for the kernel's,
        and refuse signatures they saw. Metadata, content and buffers are the bytes that came.
        """
        _, _, metadata, packed = message.parts
        header = self._pack_header(self.header(message.type))
        body = packed if content is None else content
        return [header, packed_parent, metadata, body, *message.buffers]

    def _pack_header(self, header: dict[str, Any]) -> bytes:
        """Do what :func:`pack` does, in a third of the time."""
        msg_type = header["msg_type"]
        if not (self._is_plain and _PLAIN(msg_type)):
            return pack(header)
        return (
            f'{{"msg_id": "{header["msg_id"]}", "msg_type": "{msg_type}", {self._packed_self}, '
            f'"date": "{header["date"]}", "version": "{PROTOCOL_VERSION}"}}'
        ).encode("utf-8", "surrogateescape")


def _now() -> str:
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    return f"{_to_the_second(seconds)}.{rest // 1000:06d}Z"


@lru_cache(maxsize=1)
def _to_the_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _may_hold_constant(packed: bytes) -> bool:
    """Whether NaN or Infinity, which Python reads and nobody else, may stand there as a value.

    Quick, also with 200 MB of base64, in which the letters occur by chance.
    """
    for word in (b"NaN", b"Infinity"):
        position = packed.find(word)
        while position >= 0:
            if _VALUE_BEGINS.search(packed, max(0, position - LONGEST_BLANK), position):
                return True
            position = packed.find(word, position + 1)
    return False


def _refuse(constant: str) -> None:
    raise ValueError(f"it holds {constant}")


def _text(header: Mapping[str, Any], field: str) -> str:
    value = header.get(field)
    return value if isinstance(value, str) else ""
