"""Whole notebooks, run by nbclient in a fresh kernel, as papermill or a docs build would."""

import asyncio
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat
import zmq
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from tests.support.sandbox import Sandbox

LOOKED_AGAIN = 0.1
"""Seconds between looks for a reply of which no word has come."""


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
        execute(client, env=sandbox.environment(), cwd=str(sandbox.work))
    )
    return result


async def execute(client: NotebookClient, **how: Any) -> NotebookNode:
    """Run its notebook, and miss no reply."""
    looking = asyncio.create_task(_look_again(client))
    try:
        return await client.async_execute(**how)
    finally:
        looking.cancel()


async def _look_again(client: NotebookClient) -> None:
    """Have nbclient find the reply that it would wait for in vain.

    While it waits for one, its `Output` widgets send on the same socket behind asyncio's back; the
    one signal that a message has come, which libzmq gives, may be taken by that.
    """
    while True:
        await asyncio.sleep(LOOKED_AGAIN)
        if client.kc is not None:
            client.kc.shell_channel.socket.get(zmq.EVENTS)


def _as_notebook(notebook: NotebookNode | Path | Iterable[str]) -> NotebookNode:
    if isinstance(notebook, NotebookNode):
        return notebook
    if isinstance(notebook, Path):
        read: NotebookNode = nbformat.read(notebook, as_version=4)
        return read
    made: NotebookNode = new_notebook(cells=[new_code_cell(cell) for cell in notebook])
    return made
