"""How long a cell takes that does nothing.

Every side has a kernel of its own: what one side's cells publish on a shared kernel would wake the
others' threads, and slow down whoever is being timed.
"""

from __future__ import annotations

from functools import partial

from kernel_magics.api import pool

from .measure import Samples, Table, Target, compare, take_turns
from .parts import Bench
from .peers import Peer

API = Target("<=", 1.3)
MAGIC_ON_ECHO = Target("<=", 1.6)
MAGIC_ON_REAL = Target("<=", 1.15)


def measure(rounds: int) -> list[Table]:
    """Echo kernel and real kernel, from a plain process and from inside a notebook's kernel."""
    tables = []
    for title, real in (("echo kernel", False), ("ipykernel", True)):
        with Bench() as bench:
            kernels = [bench.ipykernel() if real else bench.echo() for _ in range(3)]
            bare, others, ours = (kernel.connection_file for kernel in kernels)
            floor = bench.floor(kernels[0])
            attached = pool.attach(ours)
            with Peer(others) as peer:
                plain = take_turns(
                    {
                        "floor": partial(floor.run, "pass"),
                        "jupyter_client": partial(peer.run, "pass"),
                        "Kernel.run": partial(attached.run, "pass"),
                    },
                    rounds,
                )
            pool.close()
            floor.close()
            local = bench.local()
            local.ask(f"attach(far={str(ours)!r})")
            inner: Samples = local.ask(
                f"round_trips({str(bare)!r}, {str(others)!r}, 'far', {rounds})"
            )
        api = {} if real else {"Kernel.run": API}
        magic = api | {"%%remote": MAGIC_ON_REAL if real else MAGIC_ON_ECHO}
        what = f"round trip of `pass`, {title}"
        tables.append(Table(f"{what}, from a script", compare(plain, "floor", api)))
        tables.append(Table(f"{what}, from a notebook", compare(inner, "floor", magic)))
    return tables
