"""``python -m tests.soak [--cells N] [--seconds S] [--seed S]``: soak, and report."""

from __future__ import annotations

import argparse
import sys
import time

from tests.support.sandbox import Sandbox, short_temporary_folder

from .run import Soak


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=None)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    sandbox = Sandbox.make(short_temporary_folder())
    started = time.monotonic()
    try:
        report = Soak(sandbox, args.cells, args.seconds, args.seed).run()
    finally:
        sandbox.remove()
    print(f"{report.cells} cells in {time.monotonic() - started:.0f} s")
    print("ended as", dict(report.ended.most_common()))
    print("faults", dict(report.faults.most_common()))
    for line in report.broken:
        print("BROKEN", line)
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
