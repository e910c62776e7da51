"""What arrives of a flood of prints, in which order, and whether its end is noticed.

Each side has a kernel of its own: ours is asked, when attached, to queue more than 1000 messages,
and that must not help the other.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from .measure import Row, Table, Target
from .parts import Bench, check
from .peers import Peer

COUNTS = (20_000, 100_000)
SILENCE = 5.0
"""Seconds after which an idle that has not come counts as lost."""


def measure(rounds: int) -> list[Table]:
    """Ours through the magic into a notebook's kernel, theirs into a script, in turns."""
    rows: list[Row] = []
    with Bench() as bench:
        far, peer_far = bench.ipykernel(), bench.ipykernel()
        local = bench.local()
        local.ask(f"attach(far={str(far.connection_file)!r})")
        with Peer(peer_far.connection_file) as peer:
            for count in COUNTS:
                for number in range(1, max(1, rounds // 100) + 1):
                    code = f"for i in range({count}): print(i, flush=True)"
                    text: list[str] = []
                    messages = 0

                    def see(frames: Sequence[bytes], text: list[str] = text) -> None:
                        if b'"stream"' in frames[-4]:
                            text.append(json.loads(frames[-1])["text"])

                    begin = time.perf_counter()
                    check(local.front_end.observe(f"inside.magic('far', {code!r})", see))
                    messages, took = len(text), time.perf_counter() - begin
                    rows.append(
                        _row(f"%%remote, run {number}", text, count, took, messages, idle=True)
                    )
                    theirs: list[str] = []

                    def take(message: dict[str, Any], text: list[str] = theirs) -> None:
                        if message["msg_type"] == "stream":
                            text.append(message["content"]["text"])

                    begin = time.perf_counter()
                    idle = peer.collect(code, take, SILENCE)
                    took = time.perf_counter() - begin
                    rows.append(
                        _row(
                            f"jupyter_client, run {number}", theirs, count, took, len(theirs),
                            idle=idle, target=False,
                        )
                    )  # fmt: skip
                    _wait_until_free(peer)
    return [Table("flushed prints that arrive", rows)]


def _row(
    name: str,
    text: list[str],
    count: int,
    took: float,
    messages: int,
    *,
    idle: bool,
    target: bool = True,
) -> Row:
    lines = "".join(text).split()
    ordered = lines == sorted(lines, key=int)
    return Row(
        f"{count:,} prints, {name}",
        "lines",
        float(len(lines)),
        ratio=len(lines) / count,
        target=Target(">=", 1.0) if target else None,
        note=f"{'in order' if ordered else 'NOT IN ORDER'}, {'idle' if idle else 'IDLE LOST'}, "
        f"{messages:,} messages, {took:.1f} s",
    )


def _wait_until_free(peer: Peer) -> None:
    """Wait for the kernel's reply, however late, and drop what is left of its output."""
    while peer.client.get_shell_msg(timeout=120)["msg_type"] != "execute_reply":
        pass
    while peer.client.iopub_channel.msg_ready():
        peer.client.get_iopub_msg(timeout=1)
