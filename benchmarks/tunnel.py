"""What ssh adds: the time to the first answer, and to each cell; and what a long way adds."""

from __future__ import annotations

import os
import shutil
import time
from functools import partial

from kernel_magics.kernels.kernel import Kernel
from kernel_magics.kernels.pool import KernelPool
from tests.support import parts
from tests.support.relay import Line, Relay
from tests.support.sshd import HOST, ssh_server

from .measure import Row, Table, Target, compare, in_unit, row, take_turns
from .parts import Bench

FIRST_ANSWER = Target("<=", 500.0, of="median")
ADDED = Target("<=", 1.0, of="median")
FAR = Target("<=", 1.2)

DELAY = 0.1
"""Seconds, each way."""

FAR_ROUNDS = 20
TUNNELS = 20


def measure(rounds: int) -> list[Table]:
    """Through a real sshd on this machine, and through a relay that takes its time."""
    if parts.sshd() is None:
        missing = row("kernels over ssh", [], "ms", note="not measured: no sshd here")
        return [Table("kernels over ssh", [missing])]
    return [_over_ssh(rounds), _far_away()]


def _over_ssh(rounds: int) -> Table:
    known: list[float] = []
    found: list[float] = []
    with Bench() as bench, ssh_server(bench.sandbox.root / "sshd") as server:
        near, far = bench.ipykernel(), bench.ipykernel()
        shutil.copy(far.connection_file, server.runtime / far.connection_file.name)
        path = os.environ["PATH"]
        os.environ["PATH"] = f"{server.bin}{os.pathsep}{path}"
        pool = KernelPool()
        try:
            for _ in range(TUNNELS):
                for file, seconds in (
                    (str(far.connection_file), known),
                    (far.connection_file.stem, found),
                ):
                    begin = time.perf_counter()
                    kernel = pool.tunnel(HOST, file, "far")
                    seconds.append(time.perf_counter() - begin)
                    pool.detach(kernel.name)
            direct = pool.attach(near.connection_file, "near")
            tunnelled = pool.tunnel(HOST, far.connection_file.stem, "far")
            samples = take_turns(
                {"direct": partial(_pass, direct), "over ssh": partial(_pass, tunnelled)}, rounds
            )
        finally:
            pool.close()
            os.environ["PATH"] = path
    pairs = zip(samples["direct"], samples["over ssh"], strict=True)
    added = in_unit([there - here for here, there in pairs], 1000)
    rows: list[Row] = [
        row("login, forwards, first answer", in_unit(known, 1000), "ms", target=FIRST_ANSWER),
        row("and the file is read there", in_unit(found, 1000), "ms"),
        *compare(samples, "direct"),
        row("added by ssh", added, "ms", target=ADDED),
    ]
    return Table("a kernel over ssh, loopback; round trip of `pass`", rows)


def _far_away() -> Table:
    """One round trip of the line and the kernel's own time is all that a cell may take."""
    with Bench() as bench:
        near, far = bench.ipykernel(), bench.ipykernel()
        with Relay(far.info, bench.sandbox.runtime, Line(delay=DELAY)) as relay:
            pool = KernelPool()
            try:
                direct = pool.attach(near.connection_file, "near")
                kernel = pool.attach(relay.connection_file, "far")
                samples = take_turns(
                    {"direct": partial(_pass, direct), "far": partial(_pass, kernel)},
                    FAR_ROUNDS,
                    warm_up=3,
                )
            finally:
                pool.close()
    least = [2 * DELAY + seconds for seconds in samples["direct"]]
    rows = compare(
        {"round trip and kernel": least, "Kernel.run": samples["far"]},
        "round trip and kernel",
        {"Kernel.run": FAR},
    )
    return Table(f"{DELAY * 1000:.0f} ms away each way; round trip of `pass`", rows)


def _pass(kernel: Kernel) -> None:
    kernel.run("pass")
