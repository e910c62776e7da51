"""How long it takes until a kernel that runs already can be used, and that it survives it."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager

import zmq

from kernel_magics.kernels.pool import KernelPool
from kernel_magics.wire.reactor import Reactor
from tests.support.kernels import HandKernel

from .floor import FloorClient
from .measure import Row, Table, Target, in_unit, row
from .parts import Bench
from .peers import attach_seconds

TARGET = Target("<=", 6.0, of="median")
COMPUTING = Target("<=", 2.0)
"""Relative to the floor, which itself needs 6 ms where three threads take turns at one lock."""
NONE_DIED = Target("<=", 0, of="median")
PEER_EVERY = 4
"""Rounds between two turns of the peer, which takes a hundred times as long."""
BUSY_PEER_TURNS = 2
PEER_PATIENCE = 3.0
"""Seconds it may wait for a busy kernel; it has none by default."""
SETTLE = 0.04
"""Seconds between turns on a busy kernel, for what is sent on attaching besides the proof."""
SILENCE_MS = 3_000
"""An idle kernel that says nothing for so long has ended."""


def measure(rounds: int) -> list[Table]:
    """Idle, computing and sleeping."""
    rows: list[Row] = []
    with _reactor() as reactor:
        rows += _idle(reactor, rounds)
        for state, spin in (("busy in a loop", True), ("busy in sleep", False)):
            rows += _busy(reactor, rounds, state, spin=spin)
    return [Table("attaching an ipykernel", rows)]


def _idle(reactor: Reactor, rounds: int) -> list[Row]:
    floor: list[float] = []
    ours: list[float] = []
    theirs: list[float | None] = []
    died = 0
    with Bench() as bench:
        kernel, check = _new(bench)
        for number in range(-5, rounds):
            try:
                least = check.attach()
                check.run("pass")
                seconds = _attach(reactor, kernel)
                # What was sent on attaching has to be worked off before the next turn.
                check.run("pass")
                if number >= 0:
                    floor.append(least)
                    ours.append(seconds)
                    if number % PEER_EVERY == 0:
                        theirs.append(attach_seconds(kernel.connection_file, PEER_PATIENCE))
                        check.run("pass")
            except zmq.Again:
                if kernel.process.alive:
                    raise
                died += 1
                kernel, check = _new(bench)
    deaths = Row(
        "kernels that died of it", median=float(died), samples=rounds, target=NONE_DIED
    )  # fmt: skip
    return [*_rows("idle", floor, ours, theirs), deaths]


def _busy(reactor: Reactor, rounds: int, state: str, *, spin: bool) -> list[Row]:
    floor: list[float] = []
    ours: list[float] = []
    theirs: list[float | None] = []
    with Bench() as bench:
        kernel, check = _new(bench)
        with kernel.busy(spin=spin):
            for number in range(-5, rounds):
                least = check.attach()
                time.sleep(SETTLE)
                seconds = _attach(reactor, kernel)
                time.sleep(SETTLE)
                if number >= 0:
                    floor.append(least)
                    ours.append(seconds)
                    if number < BUSY_PEER_TURNS:
                        theirs.append(attach_seconds(kernel.connection_file, PEER_PATIENCE))
    return _rows(state, floor, ours, theirs, COMPUTING if spin else TARGET)


def _rows(
    state: str,
    floor: list[float],
    ours: list[float],
    theirs: list[float | None],
    target: Target = TARGET,
) -> list[Row]:
    done = in_unit([seconds for seconds in theirs if seconds is not None], 1000)
    failed = len(theirs) - len(done)
    note = f"failed {failed} of {len(theirs)} within {PEER_PATIENCE:g} s" if failed else ""
    least = in_unit(floor, 1000)
    return [
        row(f"floor, {state}", least, "ms"),
        row(f"wait_for_ready, {state}", done, "ms", to=least, note=note),
        row(f"pool.attach, {state}", in_unit(ours, 1000), "ms", to=least, target=target),
    ]


def _attach(reactor: Reactor, kernel: HandKernel) -> float:
    """Attach by a new pool on a thread that runs already, as any kernel but the first is."""
    pool = KernelPool()
    pool._reactor = reactor
    begin = time.perf_counter()
    attached = pool.attach(kernel.connection_file)
    seconds = time.perf_counter() - begin
    if not attached.kernel_info:
        raise RuntimeError("attached without a proof")
    attached.close()
    return seconds


def _new(bench: Bench) -> tuple[HandKernel, FloorClient]:
    kernel = bench.ipykernel()
    client = bench.floor(kernel)
    client.shell.setsockopt(zmq.RCVTIMEO, SILENCE_MS)
    return kernel, client


@contextmanager
def _reactor() -> Generator[Reactor]:
    reactor = Reactor()
    reactor.ask(lambda: None)
    try:
        yield reactor
    finally:
        reactor.close()
