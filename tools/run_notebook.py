"""Run a notebook in a real kernel and print each cell with its outputs as it finishes.

    python tools/run_notebook.py notebooks/tour.ipynb

The kernel is the ``python3`` of the interpreter that runs this file, whatever the user has
configured or installed elsewhere. Two cell tags change what is expected of a cell:

``raises-exception``
    the cell must fail.
``interrupt-me``
    the kernel is interrupted, as by the stop button, once the cell has shown something; the
    cell must then fail.

The exit code is 0 if every cell did what was expected of it. The first that did not ends the run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError

MUST_FAIL = "raises-exception"
INTERRUPT = "interrupt-me"

_ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class TourClient(NotebookClient):
    """A client that presses the stop button and remembers how each cell ended."""

    def __init__(self, notebook: nbformat.NotebookNode, **options: Any) -> None:
        super().__init__(notebook, **options)
        self.interrupts: dict[int, asyncio.Task[None]] = {}
        self.statuses: dict[int, str] = {}
        self.on_cell_executed = self._take_status

    def _take_status(self, cell_index: int, execute_reply: dict[str, Any], **_: Any) -> None:
        self.statuses[cell_index] = execute_reply["content"]["status"]

    def process_message(
        self, msg: dict[str, Any], cell: nbformat.NotebookNode, cell_index: int
    ) -> nbformat.NotebookNode | None:
        output = super().process_message(msg, cell, cell_index)
        if (
            INTERRUPT in tags(cell)
            and cell_index not in self.interrupts
            and msg["msg_type"] in ("stream", "display_data", "execute_result")
        ):
            self.interrupts[cell_index] = asyncio.create_task(self.interrupt())
        return output

    async def interrupt(self) -> None:
        assert isinstance(self.km, AsyncKernelManager)
        await self.km.interrupt_kernel()

    async def run_cell(self, index: int) -> str | None:
        """Execute one cell; return what was wrong with it, if anything."""
        cell = self.nb.cells[index]
        try:
            await self.async_execute_cell(cell, index)
        except DeadKernelError:
            # nbclient takes a cancelled wait (Ctrl-C in here) for a dead kernel.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError from None
            return "the kernel died"
        except CellTimeoutError:
            return f"no end after {self.timeout} s"
        if INTERRUPT in tags(cell):
            if index not in self.interrupts:
                return "it ended before it had shown anything, so it was not interrupted"
            await self.interrupts[index]
        status = self.statuses.get(index, "ok")  # an empty cell is not sent
        if tags(cell) & {MUST_FAIL, INTERRUPT}:
            return None if status == "error" else "it should have failed and did not"
        return None if status == "ok" else "it failed"


def tags(cell: nbformat.NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def joined(outputs: list[nbformat.NotebookNode]) -> Iterator[nbformat.NotebookNode]:
    """The outputs with neighbouring pieces of one stream made one.

    nbclient's ``coalesce_streams`` also joins over what was displayed in between.
    """
    last = None
    for output in outputs:
        if last is None:
            last = output
        elif last.output_type == output.output_type == "stream" and last.name == output.name:
            last = nbformat.NotebookNode(last, text=last.text + output.text)
        else:
            yield last
            last = output
    if last is not None:
        yield last


def describe(output: nbformat.NotebookNode) -> Iterator[str]:
    """One output as lines of text, each with its kind in front."""
    others: list[str] = []
    match output.output_type:
        case "stream":
            kind, text = output.name, output.text
        case "error":
            kind = "error"
            text = "\n".join(output.traceback) or f"{output.ename}: {output.evalue}"
        case _:
            kind = "result" if output.output_type == "execute_result" else "display"
            text = output.data.get("text/plain", "")
            others = sorted(output.data.keys() - {"text/plain"})
    for line in text.removesuffix("\n").split("\n") if text else []:
        # What follows a carriage return is painted over what was there: progress bars.
        shown = line.rstrip("\r").rsplit("\r", 1)[-1]
        yield f"{kind:>7} | {shown}"
    if others:
        yield f"{kind:>7} + {', '.join(others)}"


def show(line: str = "") -> None:
    if not sys.stdout.isatty():
        line = _ESCAPE_SEQUENCE.sub("", line)
    # Whoever reads this through a pipe sees each cell when it ends, too.
    print(line, flush=True)


async def run(path: Path, timeout: int) -> bool:
    """Run the notebook at ``path``; return whether every cell did what it should."""
    # Cancelling, unlike dying of the signal, lets the kernel and the folders be cleared away.
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)

    notebook = nbformat.read(path, as_version=4)
    manager = AsyncKernelManager(kernel_name="python3")
    client = TourClient(
        notebook,
        km=manager,
        timeout=timeout,
        iopub_timeout=timeout,
        raise_on_iopub_timeout=True,
        allow_errors=True,
    )
    started = time.monotonic()
    try:
        await manager.start_kernel(cwd=str(path.parent.resolve()))
        await client.async_start_new_kernel_client()
        for index, cell in enumerate(notebook.cells):
            number = f"{index + 1}/{len(notebook.cells)}"
            marks = ", ".join([cell.cell_type, *sorted(tags(cell))])
            show(f"---- cell {number} ({marks})")
            for line in cell.source.splitlines():
                show(f"    {line}")
            if cell.cell_type != "code":
                continue
            cell_started = time.monotonic()
            problem = await client.run_cell(index)
            for output in joined(cell.outputs):
                for line in describe(output):
                    show(line)
            if problem:
                show(f"==== {path}: cell {number}: {problem}")
                return False
            show(f"     ok   {time.monotonic() - cell_started:.1f} s")
    finally:
        if client.kc is not None:
            client.kc.stop_channels()
        if manager.has_kernel:
            await manager.shutdown_kernel()
    show(f"==== {path}: all as expected, {time.monotonic() - started:.1f} s")
    return True


def main() -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument(
        "--timeout", type=int, default=120, metavar="SECONDS", help="longest time for one cell"
    )
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="km-run-") as folder:
        # Neither the user's kernelspecs, settings and history, nor traces of ours among them.
        os.environ.pop("JUPYTER_PATH", None)
        os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            os.environ[name] = str(Path(folder, name.lower()))
        try:
            return 0 if asyncio.run(run(options.notebook, options.timeout)) else 1
        except (KeyboardInterrupt, asyncio.CancelledError):
            show("==== stopped")
            return 130


if __name__ == "__main__":
    sys.exit(main())
