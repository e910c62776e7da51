"""What may differ between two runs of one notebook, and nothing else.

Every tolerance of the transparency measurement is one entry of ``EXCLUSIONS``: what is taken out of
the comparison, and why no implementation could keep it equal. A tolerance anywhere else would be a
claim that nobody can check. The rule for a new entry: two *direct* runs of the same notebook differ
by it, or (one case, the head line) the design promises the difference.

This file knows notebooks as data. It runs nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nbformat import NotebookNode

Output = dict[str, Any]

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class Exclusion:
    """One thing that is taken out of the comparison.

    ``apply`` gets the outputs of one cell, which it may change in place, and the name of the remote
    kernel (None for a direct run); it returns the outputs that are left.
    """

    name: str
    why: str
    apply: Callable[[list[Output], str | None], list[Output]]


@dataclass(frozen=True, slots=True)
class Cell:
    """A code cell in its comparable form.

    ``reply`` is how the kernel said it ended: its status and, for an error, the exception's name.
    What the reply wants of the front end (its payload) stands behind the outputs, as outputs of
    type ``payload``.
    """

    source: str
    execution_count: int | None
    outputs: list[Output]
    reply: dict[str, str | None] | None = None


def _join_neighbouring_streams(outputs: list[Output], kernel: str | None) -> list[Output]:
    joined: list[Output] = []
    for output in outputs:
        before = joined[-1] if joined else None
        if (
            before is not None
            and output["output_type"] == before["output_type"] == "stream"
            and output["name"] == before["name"]
        ):
            before["text"] += output["text"]
        else:
            joined.append(output)
    return joined


def _drop_head_line(outputs: list[Output], kernel: str | None) -> list[Output]:
    if kernel is not None:
        for output in outputs:
            if output["output_type"] == "error" and output["traceback"]:
                head = _ANSI.sub("", output["traceback"][0]).strip()
                if "\n" not in head and re.search(rf"(?<![\w-]){re.escape(kernel)}(?![\w-])", head):
                    del output["traceback"][0]
    return outputs


def _in_texts(pattern: str, replacement: str) -> Callable[[list[Output], str | None], list[Output]]:
    """An ``apply`` for what is shown as text: streams, plain, html, errors; never other data."""
    search = re.compile(pattern, re.MULTILINE)

    def edit(value: Any) -> Any:
        return search.sub(replacement, value) if isinstance(value, str) else value

    def apply(outputs: list[Output], kernel: str | None) -> list[Output]:
        for output in outputs:
            if output["output_type"] == "stream":
                output["text"] = edit(output["text"])
            elif output["output_type"] == "error":
                output["evalue"] = edit(output["evalue"])
                output["traceback"] = [edit(line) for line in output["traceback"]]
            else:
                for mime in {"text/plain", "text/html"} & output["data"].keys():
                    output["data"][mime] = edit(output["data"][mime])
        return outputs

    return apply


# A duration as IPython writes it (execution.py: _format_time): "12 ns", "1e+03 ns", "1min 3s".
# The sign in front of the s is, by version, a micro sign or a Greek mu, or a u for poor terminals.
_TIME = r"(?:\d+(?:d|h|min) )*\d[\d.]*(?:e[+-]?\d+)? ?(?:d|h|min|s|ms|[\u00b5\u03bcu]s|ns)"

# In this order: the first makes whole texts of the pieces, which the patterns need.
EXCLUSIONS: list[Exclusion] = [
    Exclusion(
        "stream pieces",
        "the kernel flushes its streams on a timer, so where one text is cut into messages is "
        "chance; neighbours with the same name are joined, and the order of stdout, stderr and "
        "displays stays (it is chance too where nothing was flushed between the two streams, since "
        "the timer of an earlier cell may be due: so notebooks flush there)",
        _join_neighbouring_streams,
    ),
    Exclusion(
        "head line",
        "by design a remote error begins with one extra line that names the kernel; only the first "
        "traceback element, only one line long, only with the name as a whole word, only in a "
        "remote run",
        _drop_head_line,
    ),
    Exclusion(
        "addresses",
        "where an object lies in memory differs in every process; only after ' at ', as in "
        "<object at 0x7f...>",
        _in_texts(r"(?<= at )0x[0-9a-f]{6,16}\b", "0x..."),
    ),
    Exclusion(
        "process id in cell files",
        "ipykernel names a cell's code TMP/ipykernel_PID/HASH.py in warnings and plain "
        "tracebacks; only the PID is taken out: the hash stays, since a remote cell can have the "
        "same source to the last newline, and so does the line number",
        _in_texts(r"\bipykernel_\d+(?=/\d+\.py\b)", "ipykernel_..."),
    ),
    Exclusion(
        "%time",
        "durations are measured; the lines and their labels stay",
        _in_texts(
            rf"^(CPU times: user |Wall time: ){_TIME}(?:(, sys: ){_TIME}(, total: ){_TIME})?$",
            r"\1...\2\3",
        ),
    ),
    Exclusion(
        "compiling times",
        "the lines 'Compiler :', 'Parser   :' (%time) and 'Compiler time:' (%timeit) appear only "
        "when that took more than 0.1 s",
        _in_texts(rf"^(?:Compiler :|Parser   :|Compiler time:) {_TIME}\n", ""),
    ),
    Exclusion(
        "%timeit",
        "durations are measured, and the number of loops is chosen by them; how many runs, and "
        "that there is exactly this sentence, stays",
        _in_texts(
            rf"{_TIME} ± {_TIME} (per loop \(mean ± std\. dev\. of \d+ runs?, )[\d,]+ loops? each",
            r"... \1...",
        ),
    ),
    Exclusion(
        "%timeit, caching",
        "the hint 'The slowest run took ...' appears only when the measured runs vary widely",
        _in_texts(r"^The slowest run took [\d.]+ times longer than the fastest\..*\n", ""),
    ),
    Exclusion(
        "pandas style ids",
        "a Styler without a given uuid marks its table with five random hexadecimal digits",
        _in_texts(r"(?<=[\"#]T_)[0-9a-f]{5}(?=[\"_ ])", "....."),
    ),
]


WIDGETS = "application/vnd.jupyter.widget-state+json"

MODEL_IDS = (
    "a widget's model has a random id of 32 hexadecimal digits; in texts, views and states it is "
    "replaced by its number in order of creation, so that what refers to what stays"
)
"""The one exclusion that is about the notebook as a whole."""


def normalise(notebook: NotebookNode, *, kernel: str | None = None) -> list[Cell]:
    """Return the code cells of an executed notebook in their comparable form.

    One more cell follows, with the states of its widgets, if it has any. The notebook itself is
    left alone. ``kernel`` is the remote kernel's name if it ran remotely.
    """
    notebook = with_numbered_models(notebook)
    cells = []
    for cell in notebook["cells"]:
        cell = NotebookNode(cell)
        if cell.cell_type == "code":
            reply = _plain(cell.metadata.get("execute_reply")) or {}
            shown = [_plain(output) for output in cell.outputs]
            shown += [_as_output(payload) for payload in reply.pop("payload", [])]
            outputs = _excluded(shown, kernel)
            cells.append(Cell(cell.source, cell.execution_count, outputs, reply))
    if models := models_of(notebook):
        for model in models.values():
            if captured := model["state"].get("outputs"):  # of an Output widget
                model["state"]["outputs"] = _excluded(captured, kernel)
        outputs = [
            {"output_type": "widget", "name": name, "data": model} for name, model in models.items()
        ]
        cells.append(Cell("(the widgets)", None, outputs))
    return cells


def _excluded(outputs: list[Output], kernel: str | None) -> list[Output]:
    for exclusion in EXCLUSIONS:
        outputs = exclusion.apply(outputs, kernel)
    return outputs


def models_of(notebook: Any) -> dict[str, Any]:
    """Return the widgets that an executed notebook keeps, by model id."""
    states: dict[str, Any] = notebook["metadata"].get("widgets", {}).get(WIDGETS, {})
    return dict(states.get("state", {}))


def with_numbered_models(notebook: NotebookNode) -> Any:
    """Return a copy with a number in place of each random model id; see ``MODEL_IDS``."""
    text = json.dumps(_plain(notebook))
    for number, model_id in enumerate(models_of(notebook), start=1):
        if re.fullmatch("[0-9a-f]{32}", model_id):
            text = text.replace(model_id, f"model-{number}")
    return json.loads(text)


def _as_output(payload: dict[str, Any]) -> Output:
    """Texts where texts of outputs are; the rest as it is."""
    text = payload.pop("text", None)
    data = payload.pop("data", {}) if text is None else {"text/plain": text}
    return {"output_type": "payload", "data": data, **payload}


def _plain(node: Any) -> Any:
    """Copy NotebookNodes to plain dicts, so that equality asks for values and not for classes."""
    if isinstance(node, dict):
        return {key: _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    return node
