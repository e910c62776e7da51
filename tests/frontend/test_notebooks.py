"""The notebooks that come with the package run."""

import subprocess
import sys

import pytest

from tests.frontend import NEWEST_FIRST, Age
from tests.support import parts
from tests.support.sandbox import CHECKOUT, Sandbox


@pytest.mark.parametrize("age", NEWEST_FIRST)
def test_the_tour_runs_from_beginning_to_end(sandbox: Sandbox, age: Age) -> None:
    if age == "floor":
        parts.require("floor")
    python = parts.floor_python() if age == "floor" else sys.executable
    done = subprocess.run(
        [str(python), "tools/run_notebook.py", "notebooks/tour.ipynb"],
        env=sandbox.environment(), cwd=CHECKOUT, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "all as expected" in done.stdout.splitlines()[-1]
