"""What runs inside the local kernel: called there by name, answers with what JSON can carry.

The floor client and the peers are measured in this very process, next to the magic.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from IPython.core.getipython import get_ipython

from tests.support.connection import read_info

from .floor import FloorClient, FloorClients
from .measure import Samples, take_turns
from .peers import AsyncPeers, Peer

_peers: dict[str, Peer] = {}


def attach(**files: str) -> list[str]:
    """Load the extension and attach kernels: ``name="connection file"``."""
    shell = _shell()
    shell.extension_manager.load_extension("kernel_magics")
    for name, file in files.items():
        shell.run_line_magic("kernel_attach", f"{file} --name {name}")
    return list(files)


def magic(name: str, code: str) -> None:
    """Run a cell through the magic, as the notebook's own cell would."""
    _shell().run_cell_magic("remote", name, code)


def connect_peer(file: str) -> None:
    """Connect what :func:`peer` uses. Unlimited, or it would wait for an idle that was dropped."""
    _peers[file] = Peer(Path(file), unlimited=True)


def peer(file: str, code: str) -> None:
    """Run code by ``execute_interactive`` with its own way to relay outputs, from this kernel."""
    _peers[file].run(code)


def round_trips(bare: str, others: str, name: str, rounds: int, code: str = "pass") -> Samples:
    """Time floor, peer, Python API and magic, taking turns in this process.

    ``bare`` and ``others`` are the connection files for the first two, ``name`` is the kernel that
    was attached here.
    """
    from kernel_magics import pool

    with FloorClient(read_info(Path(bare)) or {}) as floor, Peer(Path(others)) as other:
        contenders: dict[str, Callable[[], object]] = {
            "floor": partial(floor.run, code),
            "jupyter_client": partial(other.run, code),
            "Kernel.run": partial(pool[name].run, code),
            "%%remote": partial(magic, name, code),
        }
        return take_turns(contenders, rounds)


def fan_outs(
    bare: list[str], others: list[str], names: list[str], cluster: str | None, rounds: int
) -> Samples:
    """Time one cell in many kernels by all contenders, taking turns in this process.

    ``bare`` and ``others`` are connection files, ``names`` the kernels that were attached here,
    ``cluster`` the file of ipyparallel's, or None without it. As many of each take part.
    """
    from kernel_magics import pool

    code = "pass"
    with FloorClients(bare) as floor, AsyncPeers([Path(file) for file in others]) as peers:
        contenders: dict[str, Callable[[], object]] = {
            "floor": partial(floor.run, code),
            "jupyter_client async": partial(peers.run, code),
            "Group.run": partial(pool.select(",".join(names)).run, code),
            "%%remote": partial(magic, "all" if len(names) > 1 else names[0], code),
        }
        if cluster is not None:
            contenders["%%px"] = partial(_connect_engines(cluster, len(names)), code)
        return take_turns(contenders, rounds, warm_up=5)


def _connect_engines(cluster: str, number: int) -> Callable[[str], object]:
    import ipyparallel

    client = ipyparallel.Cluster.from_file(cluster).connect_client_sync()
    view = client[client.ids[:number]]
    view.block = True  # else it is over when it was sent
    view.activate()
    return partial(_shell().run_cell_magic, "px", "")


def load() -> dict[str, Any]:
    """Load the extension and tell how long that took."""
    manager = _shell().extension_manager
    cpu, wall = time.thread_time(), time.perf_counter()
    manager.load_extension("kernel_magics")
    return {"wall": time.perf_counter() - wall, "cpu": time.thread_time() - cpu}


def _shell() -> Any:
    return get_ipython()
