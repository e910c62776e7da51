"""How the tests are shared out among the workers of pytest-xdist; `make test` has two."""

from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

TOGETHER = ("tests/faults",)
"""Folders whose files share what is dear to make."""

LONGEST = (
    "tests/kernels/test_tunnel.py",
    "tests/transparency/test_transparency.py",
    "tests/front_ends/test_lab.py",
    "tests/kernels/test_far_start.py",
    "tests/kernels/test_leaks.py",
)
"""Files that take minutes in the full tier: begun first, so that at the end no worker is idle."""


def unit(nodeid: str) -> str:
    """What goes to one worker as a whole, and with it what its tests share."""
    file = nodeid.partition("::")[0]
    folder = file.rpartition("/")[0]
    return folder if folder in TOGETHER else file


class ByFile(LoadFileScheduling):
    """Hands out files in the order in which they were collected; the next to whoever is ready."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # how many tests it has says not how long it takes

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)
