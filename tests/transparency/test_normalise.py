"""The judge, judged: what may differ is accepted, and every real difference is reported."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
from nbformat import NotebookNode, v4

from .compare import differences
from .normalise import EXCLUSIONS, normalise


def output(kind: str, **fields: Any) -> NotebookNode:
    made: NotebookNode = v4.new_output(kind, **fields)
    return made


def stream(text: str, name: str = "stdout") -> NotebookNode:
    return output("stream", name=name, text=text)


def display(metadata: dict[str, Any] | None = None, **mimes: Any) -> NotebookNode:
    data = {f"text/{name}": value for name, value in mimes.items()}
    return output("display_data", data=data, metadata=metadata or {})


def data(**json: Any) -> NotebookNode:
    return output("display_data", data={"application/json": json})


def result(text: str, count: int = 1) -> NotebookNode:
    return output("execute_result", data={"text/plain": text}, execution_count=count)


def error(*traceback: str, ename: str = "ValueError", evalue: str = "no") -> NotebookNode:
    return output("error", ename=ename, evalue=evalue, traceback=list(traceback))


def notebook(
    *outputs: NotebookNode, status: str = "ok", payload: Sequence[dict[str, object]] = ()
) -> NotebookNode:
    """A markdown cell and one executed code cell."""
    cell = v4.new_code_cell("code", outputs=list(outputs), execution_count=1)
    reply = {"status": status, "ename": None, "payload": list(payload)}
    cell.metadata["execute_reply"] = reply
    made: NotebookNode = v4.new_notebook(cells=[v4.new_markdown_cell("text"), cell])
    return made


PID_1 = "/tmp/km-x/tmp/ipykernel_123/3603175717.py"
PID_2 = "/tmp/km-x/tmp/ipykernel_4567/3603175717.py"
TIMEIT = "{} ± {} per loop (mean ± std. dev. of {} runs, {} loops each)\n"
STYLER = (
    '<style type="text/css">\n#T_{0}_row3_col1 {{}}\n</style><table id="T_{0}"><th class="x" />'
)

ACCEPTED = {
    "stream pieces": ([stream("a"), stream("b\n")], [stream("ab\n")]),
    "head line": ([error("-----", "boom")], [error("\x1b[1m[far]\x1b[0m", "-----", "boom")]),
    "addresses": ([result("<X at 0x7f53a3aa7850>")], [result("<X at 0x7f1fe41ae210>")]),
    "process id in cell files": ([stream(f"{PID_1}:1: W")], [stream(f"{PID_2}:1: W")]),
    "%time": (
        [stream("CPU times: user 12 μs, sys: 0 ns, total: 1e+03 ms\nWall time: 17.9 us\n")],
        [stream("CPU times: user 1min 3s, sys: 2.5 ms, total: 1 s\nWall time: 2h 5min 1s\n")],
    ),
    "compiling times": ([stream("Compiler : 130 ms\nend\n")], [stream("end\n")]),
    "%timeit": (
        [stream(TIMEIT.format("13.1 μs", "0 ns", 7, "100,000"))],
        [stream(TIMEIT.format("1min 2s", "14.2 ms", 7, "10"))],
    ),
    "%timeit, caching": (
        [stream("The slowest run took 6.39 times longer than the fastest. This could mean.\nx")],
        [stream("x")],
    ),
    "pandas style ids": (
        [display(html=STYLER.format("3e08d"))],
        [display(html=STYLER.format("a1b2c"))],
    ),
}


def test_every_exclusion_is_shown_by_an_example() -> None:
    assert [exclusion.name for exclusion in EXCLUSIONS] == list(ACCEPTED)


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_an_exclusion_names_may_differ(name: str) -> None:
    here, there = ACCEPTED[name]
    assert differences(notebook(*here), notebook(*there)) == []


@pytest.mark.parametrize("name", ACCEPTED)
def test_no_exclusion_is_idle(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = ACCEPTED[name]
    others = [exclusion for exclusion in EXCLUSIONS if exclusion.name != name]
    monkeypatch.setattr(f"{normalise.__module__}.EXCLUSIONS", others)
    assert differences(notebook(*here), notebook(*there))


# What is next to an exclusion and yet a difference.
REPORTED: dict[str, tuple[list[NotebookNode], list[NotebookNode], str]] = {
    "a lost line": ([stream("1\n2\n3\n")], [stream("1\n3\n")], "text"),
    "a lost newline at the end": ([stream("1\n")], [stream("1")], "text"),
    "another line end": ([stream("1\r\n")], [stream("1\n")], "text"),
    "a resolved carriage return": ([stream("1 %\r2 %")], [stream("2 %")], "text"),
    "a lost stream": ([stream("out"), display(plain="x")], [display(plain="x")], "missing stdout"),
    "a lost result": ([stream("out"), result("1")], [stream("out")], "missing execute_result"),
    "a doubled output": ([result("1")], [result("1"), result("1")], "additional execute_result"),
    "an error shown twice": ([error("x")], [error("x"), error("x")], "additional error"),
    "stderr as stdout": ([stream("x", "stderr")], [stream("x")], "stdout instead of stderr"),
    "stdout after the display": (
        [stream("x"), display(plain="y")],
        [display(plain="y"), stream("x")],
        "order of outputs",
    ),
    "stdout and stderr in another order": (
        [stream("a"), stream("b", "stderr")],
        [stream("b", "stderr"), stream("a")],
        "order of outputs",
    ),
    "stdout joined across stderr": (
        [stream("a"), stream("b", "stderr"), stream("c")],
        [stream("ac"), stream("b", "stderr")],
        "text",
    ),
    "an error before its figure": (
        [error("x"), display(plain="figure")],
        [display(plain="figure"), error("x")],
        "order of outputs",
    ),
    "a result as a display": (
        [result("1")],
        [display(plain="1")],
        "display_data instead of execute_result",
    ),
    "another mime type": ([display(html="x")], [display(markdown="x")], "missing data[text/html]"),
    "a lost mime type": (
        [display(html="x", plain="x")],
        [display(plain="x")],
        "missing data[text/html]",
    ),
    "an additional mime type": (
        [display(plain="x")],
        [display(html="x", plain="x")],
        "additional data[text/html]",
    ),
    "a missing update": ([display(plain="new")], [display(plain="old")], "data[text/plain]"),
    "lost metadata": (
        [display({"text/html": {"isolated": True}}, html="x")],
        [display(html="x")],
        "missing metadata[text/html]",
    ),
    "changed metadata": (
        [display({"a": 1}, html="x")],
        [display({"a": 2}, html="x")],
        "metadata[a]",
    ),
    "a number as its text": (
        [data(a=1)],
        [data(a="1")],
        "data[application/json]",
    ),
    "a truth value as a number": ([data(a=True)], [data(a=1)], "data[application/json]"),
    "a float as an integer": ([data(a=1.0)], [data(a=1)], "data[application/json]"),
    "json as its text": (
        [output("display_data", data={"application/json": 1})],
        [output("display_data", data={"application/json": "1"})],
        "data[application/json]",
    ),
    "another prompt number": ([result("1", 1)], [result("1", 3)], "execution_count"),
    "another exception": ([error("x")], [error("x", ename="RemoteError")], "ename"),
    "another message": ([error("x")], [error("x", evalue="[far] no")], "evalue"),
    "a lost traceback line": ([error("x", "y", "z")], [error("[far]", "x", "z")], "traceback"),
    "two head lines": ([error("x")], [error("[far]", "[far]", "x")], "traceback"),
    "a head line of two lines": ([error("x")], [error("[far]\nmore", "x")], "traceback"),
    "a head line for another kernel": ([error("x")], [error("[farther]", "x")], "traceback"),
    "a head line that is not the first": ([error("x")], [error("x", "[far]")], "traceback"),
    "traceback elements joined": ([error("x", "y")], [error("x\ny")], "traceback"),
    "a name for the address": (
        [result("<X at 0x7f53a3aa7850>")],
        [result("<X>")],
        "data[text/plain]",
    ),
    "a hexadecimal number": (
        [result("0x7f53a3aa7850")],
        [result("0x7f53a3aa7851")],
        "data[text/plain]",
    ),
    "another cell's file": (
        [stream(f"{PID_1}:1: W")],
        [stream(f"{PID_1}:1: W".replace("3603175717", "3603175718"))],
        "text",
    ),
    "another line of the cell": ([stream(f"{PID_1}:1: W")], [stream(f"{PID_2}:2: W")], "text"),
    "lost timing": ([stream("x\nWall time: 17.9 us\n")], [stream("x\n")], "text"),
    "another number of runs": (
        [stream(TIMEIT.format("1 s", "1 s", 7, "10"))],
        [stream(TIMEIT.format("1 s", "1 s", 3, "10"))],
        "text",
    ),
    "a time nobody measured": ([stream("took 3 ms\n")], [stream("took 4 ms\n")], "text"),
    "addresses in data": (
        [data(a=" at 0x7f53a3aa7850")],
        [data(a=" at 0x7f53a3aa7851")],
        "data[application/json]",
    ),
}


@pytest.mark.parametrize("name", REPORTED)
def test_a_real_difference_is_reported(name: str) -> None:
    here, there, what = REPORTED[name]
    found = differences(notebook(*here), notebook(*there))
    assert what in [each.what for each in found]
    assert all(each.cell == 1 for each in found)
    assert all("\n-" in each.diff or "\n+" in each.diff for each in found)


def test_a_cell_that_wrongly_succeeds_is_reported_although_it_shows_the_same() -> None:
    here, there = notebook(stream("x"), status="error"), notebook(stream("x"), status="ok")
    assert [each.what for each in differences(here, there)] == ["how the cell ended"]


PAGE = {"source": "page", "start": 0, "data": {"text/plain": f"File: {PID_1}"}}
NEXT = {"source": "set_next_input", "text": "x = 1", "replace": False}


@pytest.mark.parametrize(
    "here, there, what",
    [
        ([PAGE], [], "missing payload"),
        ([NEXT, PAGE], [PAGE], "missing payload"),
        ([PAGE], [PAGE | {"start": 1}], "start"),
        ([PAGE], [PAGE | {"data": {"text/plain": "File: "}}], "data[text/plain]"),
        ([NEXT], [NEXT | {"text": "%%remote far\nx = 1"}], "data[text/plain]"),
        ([NEXT], [NEXT | {"replace": True}], "replace"),
        ([NEXT], [NEXT | {"source": "page"}], "source"),
    ],
)
def test_a_payload_that_differs_is_reported(
    here: list[dict[str, object]], there: list[dict[str, object]], what: str
) -> None:
    found = differences(notebook(payload=here), notebook(payload=there))
    assert what in [each.what for each in found]


def test_a_payload_names_files_of_cells_as_outputs_do() -> None:
    other = PAGE | {"data": {"text/plain": f"File: {PID_2}"}}
    assert differences(notebook(payload=[PAGE]), notebook(payload=[other])) == []


def test_not_a_number_is_like_itself() -> None:
    assert differences(notebook(data(a=float("nan"))), notebook(data(a=float("nan")))) == []


def test_only_a_remote_run_may_have_a_head_line() -> None:
    here, there = notebook(error("[far]", "x")), notebook(error("x"))
    assert [each.what for each in differences(here, there)] == ["traceback"]


def test_a_lost_output_is_one_difference_and_does_not_shift_what_follows() -> None:
    outputs = [display(plain=str(i)) for i in range(50)]
    found = differences(notebook(*outputs), notebook(*outputs[:20], *outputs[21:]))
    assert [(each.output, each.what) for each in found] == [(20, "missing display_data")]


def test_a_diff_of_very_long_texts_stays_short() -> None:
    text = "x" * 1_000_000
    [found] = differences(notebook(stream(text + "1")), notebook(stream(text + "2")))
    assert len(str(found)) < 2_000


def test_different_notebooks_cannot_be_compared() -> None:
    other = v4.new_notebook(cells=[v4.new_code_cell("other")])
    with pytest.raises(ValueError, match="not the same notebook"):
        differences(notebook(), other)


def test_normalising_leaves_the_notebook_alone() -> None:
    original = notebook(stream("a"), stream("b"), error("[far]"))
    before = copy.deepcopy(original)
    normalise(original, kernel="far")
    assert original == before
