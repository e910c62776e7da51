"""What having it costs: ``%load_ext`` in a new kernel, ``import`` in a new interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from tempfile import TemporaryDirectory
from typing import Any

from .measure import Row, Table, Target, in_unit, row
from .parts import Bench

TARGET = Target("<=", 15.0, of="median")
NOT_AT_ONCE = ("IPython", "ipykernel", "zmq", "jupyter_client")

IMPORT = """
import sys, time
begin = time.perf_counter()
import {module}
took = time.perf_counter() - begin
came = [name for name in {unwanted} if name in sys.modules]
sys.stdout.write(__import__("json").dumps({{"took": took, "came": came}}))
"""


def measure(rounds: int) -> list[Table]:
    """Ten new kernels; a new interpreter for each import."""
    walls, cpus = [], []
    with TemporaryDirectory() as cache:
        # As installed, whatever the environment of this run says about compiled modules.
        env = {"PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}
        for number in range(-1, max(10, rounds // 30)):
            with Bench() as bench:
                took: dict[str, float] = bench.local(**env).ask("load()")
            if number >= 0:  # the first one compiles
                walls.append(took["wall"])
                cpus.append(took["cpu"])
        imports = _imports(max(20, rounds // 10), env)
    rows = [
        row("%load_ext kernel_magics", in_unit(walls, 1000), "ms", target=TARGET),
        row("%load_ext kernel_magics, cpu", in_unit(cpus, 1000), "ms"),
    ]
    return [Table("loading", rows + imports)]


def _imports(rounds: int, env: dict[str, str]) -> list[Row]:
    took: dict[str, list[float]] = {"json": [], "kernel_magics": []}
    came: set[str] = set()
    for number in range(-1, rounds):
        for module, seconds in took.items():
            found = _import(module, env)
            if number >= 0:
                seconds.append(found["took"])
                came.update(found["came"])
    json_ms, ours_ms = (in_unit(seconds, 1000) for seconds in took.values())
    return [
        row("import json", json_ms, "ms"),
        row("import kernel_magics", ours_ms, "ms", to=json_ms),
        Row(
            "modules that import brought in",
            median=float(len(came)),
            target=Target("<=", 0, of="median"),
            note=f"of {', '.join(NOT_AT_ONCE)}: {', '.join(sorted(came)) or 'none'}",
        ),
    ]


def _import(module: str, env: dict[str, str]) -> dict[str, Any]:
    code = IMPORT.format(module=module, unwanted=NOT_AT_ONCE)
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(run.stdout)
    return found
