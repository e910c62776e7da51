"""How many messages a second reach the notebook.

Counted by the notebook's own subscriber: from the first display to the last, so that neither the
request nor the producer's preparations count. Displays and not streams: nothing may be joined.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import psutil

from .floor import FloorClient
from .measure import Samples, Table, Target, row
from .parts import Bench, check

COUNT = 5_000
RATE = Target(">=", 3.0)
COST = Target("<=", 1 / 3)
"""Where the producer is slower than either relay, its rate says nothing; the work done does."""
NONE, PEER, OURS = "no relay", "execute_interactive", "%%remote"

DISPLAY = f"""
from IPython.display import display
for i in range({COUNT}): display({{"text/plain": str(i)}}, raw=True)
"""

LIFT_LIMIT = """
import zmq
thread = get_ipython().kernel.iopub_socket.io_thread
thread.schedule(lambda: thread.socket.setsockopt(zmq.SNDHWM, 0))
"""


def measure(rounds: int) -> list[Table]:
    """A real kernel as the producer, and one that is faster than any relay."""
    turns = max(3, rounds // 50)
    return [
        _measure("ipykernel", DISPLAY, turns),
        _measure("fast producer", f"burst {COUNT}", turns),
    ]


def _measure(producer: str, code: str, turns: int) -> Table:
    rates: Samples = {NONE: [], PEER: [], OURS: []}
    costs: Samples = {NONE: [], PEER: [], OURS: []}
    with Bench() as bench:
        kernel = bench.ipykernel() if producer == "ipykernel" else bench.echo()
        direct, local = bench.floor(kernel), bench.local()
        file = str(kernel.connection_file)
        local.ask(f"attach(far={file!r})")
        local.ask(f"connect_peer({file!r})")
        if producer == "ipykernel":
            # This is about speed. Last, because it holds for those who are connected already.
            check(direct.run(LIFT_LIMIT))
        process = psutil.Process(local.kernel.pid)
        ways = {
            NONE: (direct, code),
            PEER: (local.front_end, f"inside.peer({file!r}, {code!r})"),
            OURS: (local.front_end, f"inside.magic('far', {code!r})"),
        }
        for number in range(-1, turns):
            for name, (client, request) in ways.items():
                before = sum(process.cpu_times()[:2])
                rate = _rate(client, request)
                if number >= 0:
                    rates[name].append(rate)
                    costs[name].append((sum(process.cpu_times()[:2]) - before) / COUNT * 1e6)
    limited = producer == "ipykernel"
    return Table(
        f"relaying {COUNT:,} displays, {producer}",
        [
            row(NONE, rates[NONE], "msg/s", rate=True),
            row(PEER, rates[PEER], "msg/s", rate=True),
            row(
                OURS, rates[OURS], "msg/s",
                to=rates[PEER], target=None if limited else RATE, rate=True,
            ),
            row(f"{PEER}, cpu", costs[PEER], "us/msg"),
            row(
                f"{OURS}, cpu", costs[OURS], "us/msg",
                to=costs[PEER], target=COST if limited else None,
            ),
        ],
    )  # fmt: skip


def _rate(client: FloorClient, code: str) -> float:
    """Return the displays a second that arrive.

    Raises:
        RuntimeError: some were lost; then there is no rate.
    """
    times: list[float] = []

    def see(frames: Sequence[bytes]) -> None:
        if b'"display_data"' in frames[-4]:
            times.append(time.perf_counter())

    check(client.observe(code, see))
    if len(times) != COUNT:
        raise RuntimeError(f"{len(times)} of {COUNT} displays arrived: {code[:60]!r}")
    return (COUNT - 1) / (times[-1] - times[0])
