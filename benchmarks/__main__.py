"""Run the measurements and print their tables."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from . import attach, fanout, load, loss, relay, roundtrip, tunnel, values
from .measure import Table, render

MEASUREMENTS: dict[str, Callable[[int], list[Table]]] = {
    "roundtrip": roundtrip.measure,
    "relay": relay.measure,
    "loss": loss.measure,
    "attach": attach.measure,
    "load": load.measure,
    "tunnel": tunnel.measure,
    "fanout": fanout.measure,
    "values": values.measure,
}


def main() -> int:
    """Run what was asked for; the status is 1 when a target was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MEASUREMENTS))
    parser.add_argument("--rounds", type=int, default=300, help="of a round trip; others less")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    args = parser.parse_args()
    if unknown := set(args.names) - set(MEASUREMENTS):
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")
    # So that kernels and folders go with a run that is ended early, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    tables: list[Table] = []
    about = _about()
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    for name in args.names or MEASUREMENTS:
        begin, load_before = time.monotonic(), os.getloadavg()[0]
        found = MEASUREMENTS[name](args.rounds)
        tables += found
        for table in found:
            print(render(table))
        took = time.monotonic() - begin
        print(f"  ({took:.0f} s, load average {load_before:.1f} to {os.getloadavg()[0]:.1f})")
    if args.json is not None:
        args.json.write_text(json.dumps({"about": about, "tables": _plain(tables)}, indent=2))
    missed = [row.name for table in tables for row in table.rows if row.ok is False]
    print(f"\n{len(missed)} targets missed{': ' if missed else ''}{', '.join(missed)}")
    return 1 if missed else 0


def _about() -> dict[str, Any]:
    libraries = ("ipykernel", "ipython", "jupyter_client", "pyzmq")
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in libraries},
        "cores": os.cpu_count(),
        "load": " ".join(f"{each:.1f}" for each in os.getloadavg()),
    }


def _plain(tables: list[Table]) -> list[dict[str, Any]]:
    return [
        {
            "title": table.title,
            "rows": [
                asdict(row) | {"target": str(row.target or ""), "ok": row.ok} for row in table.rows
            ],
        }
        for table in tables
    ]


if __name__ == "__main__":
    sys.exit(main())
