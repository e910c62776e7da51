"""The promise, measured: every cell of every notebook shows remotely what it shows here."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator

import nbformat
import pytest
from nbformat import NotebookNode, v4

from tests.support import parts

from .compare import CHECKOUT, PrologueFailed, differences, place, run_direct, run_remote
from .normalise import WIDGETS, models_of

NOTEBOOKS = {path.stem: path for path in (CHECKOUT / "notebooks/transparency").glob("*.ipynb")}

# One for each way an output can go wrong, none that imports numpy: about 4 s each.
QUICK = ["errors", "updates"]

full = pytest.mark.full
EVERY = [
    pytest.param(name, marks=() if name in QUICK else full, id=name) for name in sorted(NOTEBOOKS)
]


@pytest.fixture(scope="module", autouse=True)
def folder_of_all_runs() -> None:
    """Direct runs are shared, so their folder is not the first test's to clear up."""
    place()


@functools.cache
def read(name: str) -> NotebookNode:
    notebook: NotebookNode = nbformat.read(NOTEBOOKS[name], as_version=4)
    return notebook


def spec(name: str) -> str:
    """The kernelspec that a notebook was written for; the test is skipped if it is not here."""
    wanted = str(read(name).metadata.kernelspec.name)
    if wanted in parts.PARTS:
        parts.require(wanted)
    return wanted


@functools.cache
def direct(name: str) -> NotebookNode:
    """The direct run that all tests of a notebook are measured against."""
    return run_direct(read(name), spec=spec(name))


def differing(name: str, there: NotebookNode) -> str:
    """Say how a run of a notebook differs from its direct run; "" for not at all."""
    found = differences(direct(name), there)
    if found:
        direct.cache_clear()  # run again, a test would be measured against the same direct run
    return "\n\n".join(map(str, found))


@pytest.mark.parametrize("name", EVERY)
def test_a_remote_run_shows_what_a_direct_run_shows(name: str) -> None:
    assert differing(name, run_remote(read(name), spec=spec(name))) == ""


@full
@pytest.mark.parametrize("name", sorted(NOTEBOOKS))
def test_two_direct_runs_show_the_same(name: str) -> None:
    assert differing(name, run_direct(read(name), spec=spec(name))) == ""


def spoilt(cell: NotebookNode) -> Iterator[tuple[str, NotebookNode]]:
    """Copies of an executed cell, each with one thing lost; and what that is."""
    for position, output in enumerate(cell.outputs):
        for what in ("output", "text", "metadata", "data"):
            copied = copy.deepcopy(cell)
            changing = copied.outputs[position]
            if what == "output":
                del copied.outputs[position]
            elif what == "text" and output.get("text", "").count("\n") > 1:
                changing.text = output.text.split("\n", 1)[1]
            elif what == "metadata" and output.get("metadata"):
                changing.metadata.popitem()
            elif what == "data" and output.get("data"):
                changing.data.popitem()
            else:
                continue
            yield f"{what} of output {position}", copied
    for position in range(len(cell.metadata["execute_reply"]["payload"])):
        copied = copy.deepcopy(cell)
        del copied.metadata["execute_reply"]["payload"][position]
        yield f"payload {position}", copied


@pytest.mark.parametrize("name", EVERY)
def test_whatever_gets_lost_in_it_is_reported(name: str) -> None:
    unseen = []
    for index, cell in enumerate(direct(name).cells):
        if cell.cell_type == "code":
            few = copy.deepcopy(cell)
            few.outputs = few.outputs[:10]  # of 200 like displays in a row, ten stand for all
            alone = v4.new_notebook(cells=[few])
            for what, lost in spoilt(few):
                if not differences(alone, v4.new_notebook(cells=[lost])):
                    unseen.append(f"cell {index}, {what}")
    assert unseen == []


@full
def test_whatever_gets_lost_of_a_widget_is_reported() -> None:
    here = direct("widgets_output")
    unseen = []
    for model_id, model in models_of(here).items():
        gone, changed = copy.deepcopy(here), copy.deepcopy(here)
        del gone.metadata.widgets[WIDGETS]["state"][model_id]
        key = sorted(model["state"])[-1]
        del changed.metadata.widgets[WIDGETS]["state"][model_id]["state"][key]
        unseen += [model["model_name"] for each in (gone, changed) if not differences(here, each)]
    assert unseen == []
    assert any(model["state"].get("outputs") for model in models_of(here).values())


def test_a_prologue_that_fails_is_an_error_of_the_measurement() -> None:
    with pytest.raises(PrologueFailed, match="no-such-spec"):
        run_remote(v4.new_notebook(cells=[v4.new_code_cell("1")]), spec="no-such-spec")


@pytest.mark.parametrize("name", sorted(NOTEBOOKS))
def test_a_notebook_is_committed_without_outputs_and_with_stable_ids(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert 6 <= len(notebook.cells) <= 15
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
