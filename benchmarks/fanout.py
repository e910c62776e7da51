"""How long one cell takes that does nothing, in several kernels at once.

Simulated kernels are echo kernels, 32 in a process: with more processes than cores the scheduler
would be measured. Every side has kernels of its own, as in `roundtrip`. `%%px` of ipyparallel,
which drives its own engines, takes part where it is installed (the dependency group ``peers``).
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from tests.support.kernels import HandKernel
from tests.support.sandbox import Sandbox

from .measure import Row, Samples, Table, Target, compare
from .parts import Bench

REAL = (1, 8, 32)
SIMULATED = (1, 8, 32, 64, 256)

OURS = "%%remote"
PX = "%%px"
TARGETS = {
    ("real", 32): Target("<=", 1.15),
    ("simulated", 256): Target("<=", 1.5),
}
FASTER = Target("<=", 1.0)

WAVE = 8
"""Kernels that start at once."""

PATIENCE = 120.0


def measure(rounds: int) -> list[Table]:
    """Real and simulated kernels, from a notebook."""
    return [*_measure_simulated(rounds), *_measure_real(rounds)]


def _measure_simulated(rounds: int) -> list[Table]:
    tables = []
    for number in SIMULATED:
        with Bench() as bench:
            sides = [bench.echoes(number) for _ in range(3)]
            tables.append(_measure("simulated", number, bench, sides, None, rounds))
    return tables


def _measure_real(rounds: int) -> list[Table]:
    with Bench() as bench:
        sides = [_start(bench, max(REAL)) for _ in range(3)]
        with _engines(bench.sandbox, max(REAL)) as cluster:
            return [
                _measure("real", each, bench, [s[:each] for s in sides], cluster, rounds)
                for each in REAL
            ]


def _measure(
    kind: str, number: int, bench: Bench, sides: list[list[Path]], cluster: str | None, rounds: int
) -> Table:
    bare, others, ours = ([str(file) for file in side] for side in sides)
    local = bench.local()
    names = local.ask(f"attach(**{ {f'far{i}': file for i, file in enumerate(ours)}!r})")
    turns = max(10, rounds // 8 if number > 8 else rounds // 2)
    samples: Samples = local.ask(f"fan_outs({bare!r}, {others!r}, {names!r}, {cluster!r}, {turns})")
    local.kernel.close()
    target = TARGETS.get((kind, number))
    rows = compare(samples, "floor", {OURS: target} if target else {})
    if kind == "real":
        rows.append(_against_px(samples, number))
    kernels = f"{number} {kind} kernel{'' if number == 1 else 's'}"
    return Table(f"`pass` in {kernels}, from a notebook", rows)


def _against_px(samples: Samples, number: int) -> Row:
    name = f"{OURS} to {PX}"
    if PX not in samples:
        return Row(name, note="ipyparallel is not installed: pip install --group peers")
    (row,) = (
        each
        for each in compare(
            {PX: samples[PX], OURS: samples[OURS]}, PX, {OURS: FASTER} if number == 32 else {}
        )
        if each.name == OURS
    )
    return Row(name, row.unit, row.best, row.median, row.worst, row.samples, row.ratio, row.quiet,
               row.target)  # fmt: skip


def _start(bench: Bench, number: int) -> list[Path]:
    """Start ipykernels, some at a time, and wait until each has answered."""
    files: list[Path] = []
    while len(files) < number:
        wave: list[HandKernel] = [bench.starting() for _ in range(min(WAVE, number - len(files)))]
        for kernel in wave:
            kernel.wait_until_listening(PATIENCE)
            kernel.ask("1", timeout=PATIENCE)
        files += [kernel.connection_file for kernel in wave]
    return files


@contextmanager
def _engines(sandbox: Sandbox, number: int) -> Generator[str | None]:
    """ipyparallel's engines; yields the file of their cluster, None where it is not installed."""
    if find_spec("ipyparallel") is None:
        yield None
        return
    import ipyparallel

    before = os.environ.get("IPYTHONDIR")
    os.environ["IPYTHONDIR"] = str(sandbox.root / "ipython-of-engines")
    try:
        cluster = ipyparallel.Cluster(n=number, log_level=40)
        cluster.start_cluster_sync()
        try:
            cluster.connect_client_sync().wait_for_engines(
                number, timeout=PATIENCE, interactive=False
            )
            yield str(cluster.cluster_file)
        finally:
            cluster.stop_cluster_sync()
    finally:
        del os.environ["IPYTHONDIR"]
        if before is not None:
            os.environ["IPYTHONDIR"] = before
