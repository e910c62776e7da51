"""Push and pull of arrays, against what the machine can do and what others do.

The raw contenders send into memory that exists already (one ZeroMQ message: into ZeroMQ's own), and
check nothing; nobody could be faster. The others allocate the array on arrival, as they have to."""

from __future__ import annotations

import importlib
import logging
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import zmq

from kernel_magics.kernels.pool import KernelPool
from tests.support.processes import Process
from tests.support.sandbox import CHECKOUT

from .far_end import new_memory, receive, send
from .measure import Contender, Row, Samples, Table, Target, row, take_turns
from .parts import Bench

SIZES = (8, 80, 800)
"""Megabytes."""
AIMED_FROM = 80
"""Megabytes: less is ruled by the way to a kernel and back, which the raw contenders do not go."""
RAW = Target(">=", 0.45)
IPYPARALLEL = Target(">=", 3.0)
WORKERS_PATIENCE = 60.0
TOUCHED = "new memory, touched once"
"""What everybody pays on arrival who allocates, and the raw contenders do not."""
FIRST_TOUCH = 16_000_000_000
"""Bytes that are touched before anything is timed, if so many are free. The host of a virtual
machine finds a page when it is touched for the first time, ten times more slowly than it is given
out again; who is the first to meet one is chance."""
REPORTING = Path("/sys/module/page_reporting/parameters/page_reporting_order")
LARGEST_ORDER = 10
"""Of Linux's free blocks; with a larger one there no freed memory goes back to the host."""
FREE_PART = 0.7
"""Of the free memory that this may take."""

Peer = Callable[[ExitStack, Bench, Any], tuple[Contender, Contender]]
"""Makes what pushes and what pulls an array."""


def measure(rounds: int) -> list[Table]:
    """One table for each size."""
    try:
        numpy: Any = importlib.import_module("numpy")
    except ImportError:
        return [Table("values", [row("numpy is not installed", [], "GB/s")])]
    _touch_machine(numpy)
    return [_table(numpy, megabytes, rounds) for megabytes in SIZES]


def _touch_machine(numpy: Any) -> None:
    nbytes = min(FIRST_TOUCH, int(FREE_PART * psutil.virtual_memory().available))
    piece = 500_000_000
    pieces = [numpy.empty(piece, "u1") for _ in range(nbytes // piece)]
    for each in pieces:
        each.fill(1)


def _table(numpy: Any, megabytes: int, rounds: int) -> Table:
    nbytes = megabytes * 1_000_000
    array = numpy.random.default_rng(0).integers(0, 256, nbytes, dtype="u1")
    pushes: dict[str, Contender] = {}
    pulls: dict[str, Contender] = {}
    missing: dict[str, str] = {}
    with ExitStack() as stack, Bench() as bench:
        makers: dict[str, Peer] = {
            "raw TCP": _raw,
            "raw TCP into new memory": partial(_raw, over="new"),
            "one ZeroMQ message": partial(_raw, over="zmq"),
            "kernel_magics": _ours,
            "kernel_magics, by messages": partial(_ours, near=False),
            "ipyparallel": _ipyparallel,
            "Dask": _dask,
        }
        for name, make in makers.items():
            try:
                pushes[name], pulls[name] = make(stack, bench, array)
            except ImportError as error:
                missing[name] = f"not measured: {error.name} is not installed (--group peers)"
        turns = max(5, min(rounds // 10, 8000 // megabytes))
        pushed = take_turns(pushes, turns, warm_up=2)
        pulled = take_turns(pulls, turns, warm_up=2)
        touched = take_turns({TOUCHED: partial(_touch, numpy, nbytes)}, turns, warm_up=2)
    return Table(
        f"an array of {megabytes} MB{_host_takes_back()}",
        [
            row(TOUCHED, _rates(touched[TOUCHED], nbytes), "GB/s", rate=True),
            *_rows("push", pushed, missing, megabytes),
            *_rows("pull", pulled, missing, megabytes),
        ],
    )


def _host_takes_back() -> str:
    try:
        takes = int(REPORTING.read_text()) <= LARGEST_ORDER
    except (OSError, ValueError):
        return ""
    return " (freed memory may go back to this machine's host: docs/design.md)" if takes else ""


def _rows(what: str, samples: Samples, missing: dict[str, str], megabytes: int) -> list[Row]:
    rates = {name: _rates(seconds, megabytes * 1_000_000) for name, seconds in samples.items()}
    aimed = megabytes >= AIMED_FROM
    rows = [
        row(
            f"{what}: {name}",
            rate,
            "GB/s",
            to=None if name == "raw TCP" else rates["raw TCP"],
            target=RAW if aimed and name == "kernel_magics" else None,
            rate=True,
        )
        for name, rate in rates.items()
    ]
    rows += [row(f"{what}: {name}", [], "GB/s", note=note) for name, note in missing.items()]
    if "ipyparallel" in rates:
        rows.append(
            row(
                f"{what}: kernel_magics to ipyparallel",
                rates["kernel_magics"],
                "GB/s",
                to=rates["ipyparallel"],
                target=IPYPARALLEL if aimed else None,
                rate=True,
            )
        )
    return rows


def _rates(seconds: list[float], nbytes: int) -> list[float]:
    return [nbytes / each / 1e9 for each in seconds]


def _touch(numpy: Any, nbytes: int) -> None:
    numpy.empty(nbytes, "u1").fill(1)


def _raw(
    stack: ExitStack, bench: Bench, array: Any, over: str = "tcp"
) -> tuple[Contender, Contender]:
    context = zmq.Context()
    stack.callback(context.destroy, linger=0)
    pair = context.socket(zmq.PAIR)
    zmq_port = pair.bind_to_random_port("tcp://127.0.0.1")
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    port = listener.getsockname()[1]
    argv = [sys.executable, "-m", "benchmarks.far_end", str(port), str(zmq_port), str(array.nbytes)]
    process = Process(
        argv, env=bench.sandbox.environment(), cwd=CHECKOUT, log=bench.sandbox.work / over
    )
    stack.callback(process.close)
    sock, _ = listener.accept()
    stack.enter_context(sock)
    outgoing, incoming = memoryview(array), memoryview(bytearray(array.nbytes))

    def push() -> None:
        if over != "zmq":
            sock.sendall(b"r" if over == "tcp" else b"n")
            send(sock, outgoing)
        else:
            sock.sendall(b"R")
            pair.send(outgoing, copy=False)
        sock.recv(1)

    def pull() -> None:
        if over != "zmq":
            sock.sendall(b"s")
            receive(sock, incoming if over == "tcp" else new_memory(array.nbytes))
        else:
            sock.sendall(b"S")
            pair.recv(copy=False)

    return push, pull


def _ours(
    stack: ExitStack, bench: Bench, array: Any, *, near: bool = True
) -> tuple[Contender, Contender]:
    """With a kernel that is known to be near, or with one that may be anywhere."""
    pool = KernelPool()
    stack.callback(pool.close)
    kernel = pool.attach(bench.ipykernel().connection_file)
    if not near:
        # As on another machine, where the socket's file is not there.
        kernel.run("import socket; del socket.AF_UNIX")
    kernel.push({"x": array})
    return partial(kernel.push, {"x": array}), partial(kernel.pull, "x")


def _ipyparallel(stack: ExitStack, bench: Bench, array: Any) -> tuple[Contender, Contender]:
    ipyparallel: Any = importlib.import_module("ipyparallel")
    folder = bench.sandbox.root / "ipp"
    folder.mkdir(exist_ok=True)
    cluster = ipyparallel.Cluster(
        n=1, ipython_dir=str(folder), log_level=logging.ERROR, engine_timeout=WORKERS_PATIENCE
    )
    client = cluster.start_and_connect_sync(activate=False)
    stack.callback(cluster.stop_cluster_sync)
    stack.callback(client.close)
    view = client[:]
    view.push({"x": array}, block=True)
    return (
        lambda: view.push({"x": array}, block=True),
        lambda: view.pull("x", block=True),
    )


def _dask(stack: ExitStack, bench: Bench, array: Any) -> tuple[Contender, Contender]:
    distributed: Any = importlib.import_module("distributed")
    cluster = distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=True,
        memory_limit=0,
        dashboard_address=None,
        local_directory=str(bench.sandbox.work),
        silence_logs=logging.ERROR,
    )
    stack.callback(cluster.close)
    client = distributed.Client(cluster)
    stack.callback(client.close)
    held = client.scatter(array, direct=True, hash=False)

    def push() -> None:
        client.scatter(array, direct=True, hash=False)

    def pull() -> None:
        client.gather(held, direct=True)

    return push, pull
