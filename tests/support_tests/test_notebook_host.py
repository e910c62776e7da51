"""nbclient runs cells in a real kernel, inside the test's sandbox."""

import pytest
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook

from tests.support.hosts import run_notebook
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.full


@pytest.mark.quick
def test_cells_run_after_their_prologue_and_keep_their_outputs(sandbox: Sandbox) -> None:
    result = run_notebook(["print(x)", "x + 1"], sandbox, prologue=["x = 1"])
    assert [cell.source for cell in result.cells] == ["x = 1", "print(x)", "x + 1"]
    assert result.cells[1].outputs[0].text == "1\n"
    assert result.cells[2].outputs[0].data["text/plain"] == "2"


def test_a_failing_cell_stops_the_notebook_unless_errors_are_allowed(sandbox: Sandbox) -> None:
    cells = ["1 / 0", "print('on')"]
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        run_notebook(cells, sandbox)
    result = run_notebook(cells, sandbox, allow_errors=True)
    assert result.cells[0].outputs[0].ename == "ZeroDivisionError"
    assert result.cells[1].outputs[0].text == "on\n"


def test_the_kernel_lives_in_the_sandbox(sandbox: Sandbox) -> None:
    cell = "import os, tests; from jupyter_core.paths import jupyter_runtime_dir as where\n"
    notebook = new_notebook(cells=[new_code_cell(cell + "print(where(), os.getcwd())")])
    result = run_notebook(notebook, sandbox)
    assert result.cells[0].outputs[0].text == f"{sandbox.runtime} {sandbox.work}\n"
