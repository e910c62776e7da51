"""The notebooks that come with the package run."""

import json
import subprocess
import sys

import pytest

from tests.frontend import NEWEST_FIRST, Age
from tests.support import parts
from tests.support.sandbox import CHECKOUT, Sandbox

pytestmark = pytest.mark.full

NOTEBOOKS = ["tour", "connecting"]

SHOWN = {
    "tour": ["hello from process True", "ZeroDivisionError", "25% done"],
    # The old recipe first, then what each of the classic calls has become.
    "connecting": [
        "a = 5: succeeded",
        "b = 0: succeeded",
        "c = a / b: failed",
        "ZeroDivisionError: division by zero",
        "(True, 'idle', 'python', 'ipython')",
        "ok ['stream', 'execute_result'] 6 times 5",
        "hello Ada",
        "['import']",
        "incomplete",
        "through the classic client",
        "kernel_info_reply",
        "<Kernel kernel-long-job-6759 detached> None",
        "'key': '(hidden)'",
        "restarted restarted",
        "False hello",
        "'error'",
        "died False",
        "SIGKILL",
        "restarted restarted",
        "back again",
        "True False True",
        "<Kernel python3 detached> []",
    ],
}
"""What has to be among the outputs, in this order."""


@pytest.mark.parametrize("age", NEWEST_FIRST)
@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_a_notebook_runs_from_beginning_to_end(sandbox: Sandbox, notebook: str, age: Age) -> None:
    if age == "floor":
        parts.require("floor")
    python = parts.floor_python() if age == "floor" else sys.executable
    done = subprocess.run(
        [str(python), "tools/run_notebook.py", f"notebooks/{notebook}.ipynb"],
        env=sandbox.environment(), cwd=CHECKOUT, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    lines = done.stdout.splitlines()
    assert "all as expected" in lines[-1]
    outputs = iter(line for line in lines if line[7:10] == " | ")
    for text in SHOWN[notebook]:
        assert any(text in line for line in outputs), f"{text}: {done.stdout}"


@pytest.mark.quick
@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_a_notebook_is_stored_without_outputs(notebook: str) -> None:
    stored = json.loads((CHECKOUT / "notebooks" / f"{notebook}.ipynb").read_text("utf-8"))
    cells = [cell for cell in stored["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 5
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
