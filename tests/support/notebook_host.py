"""Whole notebooks, run by nbclient in a fresh kernel, as papermill or a docs build would."""

import asyncio
import uuid
from collections.abc import Iterable
from pathlib import Path

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from tests.support.sandbox import Sandbox


def run_notebook(
    notebook: NotebookNode | Path | Iterable[str],
    sandbox: Sandbox,
    *,
    prologue: Iterable[str] = (),
    allow_errors: bool = False,
    timeout: float = 60.0,
) -> NotebookNode:
    """Run a notebook, a file or the sources of cells; return the notebook with its outputs.

    ``prologue`` are cells run before the others in the same kernel; they stay in the result,
    at its beginning. ``timeout`` is for each cell, in seconds.

    Raises:
        CellExecutionError: a cell failed, and ``allow_errors`` is not set.
    """
    ours = _as_notebook(notebook)
    ours.cells = [*map(new_code_cell, prologue), *ours.cells]
    client = NotebookClient(ours, timeout=int(timeout), allow_errors=allow_errors)
    # Set afterwards: nbclient does not end the kernel of a manager that it was made with.
    client.km = AsyncKernelManager(
        kernel_name="python3",
        connection_file=str(sandbox.runtime / f"kernel-{uuid.uuid4()}.json"),
    )
    result: NotebookNode = asyncio.run(
        client.async_execute(env=sandbox.environment(), cwd=str(sandbox.work))
    )
    return result


def _as_notebook(notebook: NotebookNode | Path | Iterable[str]) -> NotebookNode:
    if isinstance(notebook, NotebookNode):
        return notebook
    if isinstance(notebook, Path):
        read: NotebookNode = nbformat.read(notebook, as_version=4)
        return read
    made: NotebookNode = new_notebook(cells=[new_code_cell(cell) for cell in notebook])
    return made
