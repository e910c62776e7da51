"""Run a notebook here, run it remotely, and say where the two differ.

Both runs use nbclient in the same surroundings, so whatever differs comes from the remote cell:

* the same working and temporary folder *paths* (a name shown in a traceback is compared), emptied
  before each run; runtime, configuration and history folders fresh for each run;
* the same environment variables, of which those that depend on who runs the tests are removed.

The remote run prefixes every code cell with ``%%remote far``, preceded by a prologue that loads the
extension and starts the kernel. The prologue's traces are taken away again: its cells, the prefix
(also of the text that a cell wants the next one filled with), and its share of the execution
counts.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import copy
import difflib
import functools
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from nbclient import NotebookClient
from nbformat import NotebookNode, v4

from tests.support.notebook_host import execute

from .normalise import Output, normalise

CHECKOUT = Path(__file__).resolve().parents[2]
KERNEL = "far"
PREFIX = f"%%remote {KERNEL}\n"

_runs = itertools.count(1)


class PrologueFailed(Exception):
    """The extension did not load, or the far kernel did not start: nothing was measured."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs, after everything that may differ was taken out.

    ``cell`` counts all cells of the notebook from 0, as an editor does. ``output`` is the index in
    the cell's outputs (after neighbouring streams are joined), or None for the cell as a whole.
    """

    cell: int
    output: int | None
    what: str
    diff: str

    def __str__(self) -> str:
        where = f"cell {self.cell}" + ("" if self.output is None else f", output {self.output}")
        return f"{where}: {self.what}\n{self.diff}"


# --- running ---


def run_direct(
    notebook: NotebookNode,
    *,
    spec: str = "python3",
    files: Path | None = None,
    timeout: float | None = None,
) -> NotebookNode:
    """Run every cell in a fresh kernel of ``spec`` and return the executed copy.

    ``files`` is a folder whose content the notebook finds in its (otherwise empty) working folder.
    ``timeout`` is for one cell, in seconds. Errors of cells do not end the run.
    """
    executed = _blank(notebook)
    client = NotebookClient(
        executed, kernel_name=spec, on_cell_executed=_note_reply, **_options(timeout)
    )
    _execute(client, files)
    return executed


def run_remote(
    notebook: NotebookNode,
    *,
    spec: str = "python3",
    files: Path | None = None,
    timeout: float | None = None,
) -> NotebookNode:
    """Run every cell by ``%%remote`` in a second kernel of ``spec``; the rest as `run_direct`.

    Raises:
        PrologueFailed: there was nothing to run the cells in.
    """
    prologue = ["%load_ext kernel_magics", f"%kernel_start {spec} --name {KERNEL}"]
    executed = _blank(notebook)
    for cell in executed.cells:
        # Front ends do not run a blank cell; with the prefix it would no longer be blank.
        if cell.cell_type == "code" and cell.source.strip():
            cell.source = PREFIX + cell.source
    executed.cells = [v4.new_code_cell(source) for source in prologue] + executed.cells

    def note(cell: NotebookNode, cell_index: int, execute_reply: dict[str, Any]) -> None:
        content = execute_reply["content"]
        if cell_index < len(prologue) and content["status"] != "ok":
            raise PrologueFailed(f"{cell.source}: {content.get('ename')}: {content.get('evalue')}")
        _note_reply(cell, cell_index, execute_reply)
        for payload in cell.metadata["execute_reply"]["payload"]:
            if isinstance(payload.get("text"), str):
                payload["text"] = payload["text"].removeprefix(PREFIX)

    client = NotebookClient(
        executed, kernel_name="python3", on_cell_executed=note, **_options(timeout)
    )
    _execute(client, files)

    executed.cells = executed.cells[len(prologue) :]
    for cell in executed.cells:
        if cell.cell_type == "code":
            cell.source = cell.source.removeprefix(PREFIX)
            _uncount(cell, len(prologue))
    return executed


def _note_reply(cell: NotebookNode, cell_index: int, execute_reply: dict[str, Any]) -> None:
    """Keep what the outputs do not tell: what ends "Run All" (some errors only print a line), and
    what the front end is to open or to fill in."""
    content = execute_reply["content"]
    cell.metadata["execute_reply"] = {
        "status": content["status"],
        "ename": content.get("ename"),
        "payload": copy.deepcopy(content.get("payload") or []),
    }


def _uncount(cell: NotebookNode, prologue: int) -> None:
    """Take the prologue's cells out of the prompt numbers.

    A result shows either the far kernel's number, which has never counted the prologue, or the
    number of the cell it stands in, which has. Both are right answers, any other number is not.
    """
    counted = cell.execution_count
    if counted is not None:
        cell.execution_count = counted - prologue
        for output in cell.outputs:
            if output.get("execution_count") == counted:
                output.execution_count = counted - prologue


def _options(timeout: float | None) -> dict[str, Any]:
    # An empty history file name is nbclient's word for "leave it alone". Its own default keeps the
    # history of the kernel it starts in memory, which the far kernel would not do.
    return {
        "allow_errors": True,
        "timeout": timeout,
        "record_timing": False,
        "ipython_hist_file": "",
    }


def _blank(notebook: NotebookNode) -> NotebookNode:
    blank = copy.deepcopy(notebook)
    blank.metadata.pop("widgets", None)
    for cell in blank.cells:
        if cell.cell_type == "code":
            cell.outputs = []
            cell.execution_count = None
            cell.metadata.pop("execute_reply", None)
    return blank


@functools.cache
def place() -> Path:
    """Return the one folder of this process, made at the first call and removed at exit.

    Its path is short: ipc sockets below it have about 100 characters.
    """
    base = "/tmp" if Path("/tmp").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="tr-", dir=base)).resolve()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    # Without its font cache, matplotlib would announce in the first run that it builds one.
    subprocess.run(
        [sys.executable, "-c", "import matplotlib.font_manager"], check=False, capture_output=True
    )
    return folder


@contextlib.contextmanager
def _surroundings(files: Path | None) -> Iterator[Path]:
    """Give what runs inside fresh folders and the environment both kernels shall have."""
    work, temporary = place() / "work", place() / "tmp"
    own = place() / str(next(_runs))  # the last run's far kernel may still be removing its files
    for folder in (work, temporary):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
    for name in ("run", "config", "ipython"):
        (own / name).mkdir(parents=True)
    if files is not None:
        shutil.copytree(files, work, dirs_exist_ok=True)

    path = [str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        "PYTHONPATH": os.pathsep.join(path),
        "TMPDIR": str(temporary),
        "JUPYTER_RUNTIME_DIR": str(own / "run"),
        "JUPYTER_CONFIG_DIR": str(own / "config"),
        "IPYTHONDIR": str(own / "ipython"),
        # A kernelspec "python3" in the home folder would start another Python.
        "JUPYTER_PREFER_ENV_PATH": "1",
        # The order of a set of texts is no difference between here and there.
        "PYTHONHASHSEED": "0",
        "LC_ALL": "C.UTF-8",
    }
    # MPLBACKEND: ipykernel chooses the inline backend only if nobody chose one.
    # PYTEST_CURRENT_TEST: ipykernel does not watch file descriptors 1 and 2 if it sees this.
    # The others say how wide, how colourful, who started us and what cells are called.
    unwanted = """MPLBACKEND PYTEST_CURRENT_TEST COLUMNS LINES FORCE_COLOR NO_COLOR
        JPY_PARENT_PID JPY_SESSION_NAME IPYKERNEL_CELL_NAME"""
    with mock.patch.dict(os.environ, environment):
        for name in unwanted.split():
            os.environ.pop(name, None)  # put back by patch.dict
        try:
            yield own
        finally:
            shutil.rmtree(own, ignore_errors=True)


def _execute(client: NotebookClient, files: Path | None) -> None:
    with _surroundings(files) as own, (own / "kernel.log").open("w+") as log:
        try:
            # Not client.execute(), which would leave its event loop open.
            work = str(place() / "work")
            asyncio.run(execute(client, cwd=work, stdout=log, stderr=log))
        except Exception as error:
            log.seek(0)
            error.add_note(f"the kernel's own terminal said: {log.read()[-2000:]}")
            raise


# --- comparing ---


def differences(a: NotebookNode, b: NotebookNode, *, kernel: str = KERNEL) -> list[Difference]:
    """Return all differences of two executed copies of one notebook, ``b`` possibly run remotely.

    Raises:
        ValueError: they are not copies of one notebook.
    """
    if [(c.cell_type, c.source) for c in a.cells] != [(c.cell_type, c.source) for c in b.cells]:
        raise ValueError("not the same notebook: the cells themselves differ")
    positions = [index for index, cell in enumerate(a.cells) if cell.cell_type == "code"]
    found: list[Difference] = []
    cells, others = normalise(a), normalise(b, kernel=kernel)
    if len(cells) != len(others):
        found.append(Difference(len(a.cells), None, "widgets", "only one of the two has any"))
    # The widgets of all cells come behind them.
    for position, here, there in zip([*positions, len(a.cells)], cells, others, strict=False):
        if here.execution_count != there.execution_count:
            counts = (str(here.execution_count), str(there.execution_count))
            found.append(Difference(position, None, "execution count", _diff(*counts)))
        if here.reply != there.reply:
            what = "how the cell ended"
            found.append(Difference(position, None, what, _diff(str(here.reply), str(there.reply))))
        found.extend(_compare_outputs(position, here.outputs, there.outputs))
    return found


def _compare_outputs(cell: int, here: list[Output], there: list[Output]) -> Iterator[Difference]:
    keys, other_keys = [_key(output) for output in here], [_key(output) for output in there]
    if keys == other_keys:
        return
    if Counter(keys) == Counter(other_keys):
        yield Difference(cell, None, "order of outputs", _diff(_outline(here), _outline(there)))
        return
    # Align first, so that one lost output is one difference and does not shift all that follow.
    matcher = difflib.SequenceMatcher(None, keys, other_keys, autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag != "equal":
            changed = itertools.zip_longest(range(i1, i2), range(j1, j2))
            for i, j in changed:
                if j is None:
                    what = f"missing {_kind(here[i])}"
                    yield Difference(cell, i, what, _diff(_show(here[i]), ""))
                elif i is None:
                    what = f"additional {_kind(there[j])}"
                    yield Difference(cell, j, what, _diff("", _show(there[j])))
                else:
                    yield from _compare_output(cell, i, here[i], there[j])


def _compare_output(cell: int, index: int, here: Output, there: Output) -> Iterator[Difference]:
    if _kind(here) != _kind(there):
        what = f"{_kind(there)} instead of {_kind(here)}"
        yield Difference(cell, index, what, _diff(_show(here), _show(there)))
        return
    fields, other_fields = _fields(here), _fields(there)
    for name in dict.fromkeys([*fields, *other_fields]):
        mine, other = fields.get(name), other_fields.get(name)
        if name not in fields:
            yield Difference(cell, index, f"additional {name}", _diff("", _text(other)))
        elif name not in other_fields:
            yield Difference(cell, index, f"missing {name}", _diff(_text(mine), ""))
        elif _key(mine) != _key(other):
            # The number 1 and the text "1" look the same as texts.
            as_text = _text if _text(mine) != _text(other) else _key
            yield Difference(cell, index, name, _diff(as_text(mine), as_text(other)))


def _key(value: Any) -> str:
    """Return what is compared: JSON, in which 1, 1.0, true and "1" differ."""
    return json.dumps(value, sort_keys=True)


def _kind(output: Output) -> str:
    return str(output.get("name", output["output_type"]))


def _fields(output: Output) -> dict[str, Any]:
    """Take an output apart into named values."""
    fields: dict[str, Any] = {}
    for name, value in output.items():
        if name in ("data", "metadata"):
            fields |= {f"{name}[{key}]": each for key, each in value.items()}
        elif name == "traceback":
            # repr: where one element ends and the next begins is part of what was sent.
            fields[name] = "\n".join(map(repr, value))
        elif name not in ("output_type", "name"):
            fields[name] = value
    return fields


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, indent=1)


def _show(output: Output) -> str:
    parts = [f"({_kind(output)})"]
    for name, value in _fields(output).items():
        parts += [f"{name}:", _text(value)]
    return "\n".join(parts)


def _outline(outputs: list[Output]) -> str:
    return "\n".join(" ".join(_show(output).split())[:100] for output in outputs)


def _diff(here: str, there: str, *, width: int = 120, limit: int = 40) -> str:
    """A unified diff that stays readable for a megabyte in one line."""
    mine, other = _lines(here, width), _lines(there, width)
    # What is alike at both ends is cut away beforehand: difflib needs quadratic time.
    start = _alike(mine, other)
    end = _alike(mine[start:][::-1], other[start:][::-1])
    begin = max(start - 2, 0)
    mine = mine[begin : len(mine) - end + 2][: 4 * limit]
    other = other[begin : len(other) - end + 2][: 4 * limit]
    lines = list(difflib.unified_diff(mine, other, "direct", "remote", lineterm="", n=2))[2:]
    if len(lines) > limit:
        lines = [*lines[:limit], f"... {len(lines) - limit} more lines"]
    return "\n".join(["--- direct", "+++ remote", *lines])


def _alike(mine: list[str], other: list[str]) -> int:
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(mine, other, strict=False))
    return sum(1 for _ in pairs)


def _lines(text: str, width: int) -> list[str]:
    """Split into lines of bounded length in which control characters can be seen."""
    lines = []
    for line in text.split("\n"):
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
        lines += [shown[i : i + width] for i in range(0, max(len(shown), 1), width)]
    return lines
