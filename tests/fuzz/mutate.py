"""Small damage to good input: what comes out is nearly right, which is where parsers break."""

from __future__ import annotations

import json
import random
from typing import Any

ODD_VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 65535, 65536, 2**63, 10**400, 0.5, float("nan"), "", "0",
    "x" * 300, "\x00", "\ud800", "\x1b]0;t\x07", "../../etc", "-oProxyCommand=x",
    [], {}, [[]], {"a": {}},
]  # fmt: skip


def damaged_bytes(rng: random.Random, data: bytes) -> bytes:
    """Return the bytes with a few of them changed, lost, doubled or added."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(out))
        match rng.randint(0, 5):
            case 0:
                out[at:at] = rng.randbytes(rng.randint(1, 8))
            case 1:
                del out[at : at + rng.randint(1, 16)]
            case 2 if at < len(out):
                out[at] ^= 1 << rng.randint(0, 7)
            case 3:
                out[at:at] = out[at : at + rng.randint(1, 32)]
            case 4:
                out[at:at] = rng.choice([b"{", b"[", b'"', b"\\u", b"\xff", b"null", b"[" * 2000])
            case _:
                del out[at:]
    return bytes(out)


def damaged_value(rng: random.Random, value: Any, depth: int = 0) -> Any:
    """Return a JSON value with something in it replaced, removed or added."""
    if isinstance(value, dict) and value and rng.random() < 0.8 and depth < 4:
        out = dict(value)
        key = rng.choice(sorted(out))
        match rng.randint(0, 3):
            case 0:
                del out[key]
            case 1:
                out[str(rng.choice(ODD_VALUES))] = rng.choice(ODD_VALUES)
            case _:
                out[key] = damaged_value(rng, out[key], depth + 1)
        return out
    if isinstance(value, list) and value and rng.random() < 0.5 and depth < 4:
        out_list = list(value)
        at = rng.randrange(len(out_list))
        out_list[at] = damaged_value(rng, out_list[at], depth + 1)
        return out_list
    return rng.choice(ODD_VALUES)


def packed(value: Any) -> bytes:
    """Pack a damaged value as a careless kernel would, NaN and lone surrogates included."""
    return json.dumps(value).encode("utf-8", "surrogatepass")


def damaged_text(rng: random.Random, text: str) -> str:
    """Return the text with odd pieces in it."""
    pieces = list(text)
    for _ in range(rng.randint(1, 5)):
        piece = rng.choice(
            [
                "\x1b", "\x1b[", "\x1b[31m", "\x1b[5A", "\x1b]52;c;QUJD\x07", "\x9b2J", "\r",
                "\x08", "\n", "\x1b[?1049h", "\u202e", "'", '"', "\\", " -", "--", "--timeout",
                "$x", "{y}", "\ud83d", ";",
            ]
        )  # fmt: skip
        pieces.insert(rng.randint(0, len(pieces)), piece)
    return "".join(pieces)
