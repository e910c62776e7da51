"""``python -m tests.fuzz [--count N] [--seed S] [TARGET...]``: fuzz until a count is reached.

A failure names the seed of its one input: ``--count 1 --seed THAT TARGET`` repeats it.
"""

from __future__ import annotations

import argparse
import random
import sys
import time

from .targets import TARGETS


def fuzz(target: str, count: int, seed: int) -> None:
    """Run one target on ``count`` inputs.

    Raises:
        AssertionError: with the seed of the input that broke it.
    """
    for number in range(seed, seed + count):
        try:
            TARGETS[target](random.Random(number))
        except BaseException as error:
            raise AssertionError(f"{target}: seed {number}: {error!r}") from error


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=sorted(TARGETS), metavar="TARGET")
    parser.add_argument("--count", type=int, default=25_000, help="inputs for each target")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for target in args.targets:
        started = time.monotonic()
        fuzz(target, args.count, args.seed)
        print(f"{target}: {args.count} inputs, {time.monotonic() - started:.1f} s, nothing broke")
    return 0


if __name__ == "__main__":
    sys.exit(main())
