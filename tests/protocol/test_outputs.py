"""Outputs as a notebook file keeps them, judged by nbformat and by nbclient's own bookkeeping."""

from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbclient import NotebookClient

from kernel_magics.errors import ProtocolError
from kernel_magics.protocol.message import Message, Session, parse
from kernel_magics.protocol.outputs import Outputs

SESSION = Session()


def message(kind: str, **content: Any) -> Message:
    return SESSION.message(kind, content)


def bundle(text: str, name: str | None = None) -> dict[str, Any]:
    transient = {} if name is None else {"display_id": name}
    return {"data": {"text/plain": text}, "metadata": {}, "transient": transient}


TEXTS = st.sampled_from(["", "a", "b\n", "ü"])
NAMES = st.sampled_from(["x", "y"])
MESSAGES = st.one_of(
    st.builds(
        lambda n, t: ("stream", {"name": n, "text": t}),
        st.sampled_from(["stdout", "stderr"]),
        TEXTS,
    ),
    st.builds(lambda t: ("display_data", bundle(t)), TEXTS),
    st.builds(lambda t, n: ("display_data", bundle(t, n)), TEXTS, NAMES),
    st.builds(lambda t, n: ("update_display_data", bundle(t, n)), TEXTS, NAMES),
    st.builds(lambda t: ("execute_result", bundle(t) | {"execution_count": 3}), TEXTS),
    st.just(("error", {"ename": "E", "evalue": "v", "traceback": ["a", "b"]})),
    st.builds(lambda w: ("clear_output", {"wait": w}), st.booleans()),
)


def joined(outputs: list[Any]) -> list[dict[str, Any]]:
    """With neighbouring text of one stream as one output, as the front ends save it."""
    result: list[dict[str, Any]] = []
    for output in map(dict, outputs):
        if (
            result
            and output["output_type"] == "stream"
            and output["name"] == result[-1].get("name")
        ):
            result[-1]["text"] += output["text"]
        else:
            result.append(output)
    return result


@given(st.lists(MESSAGES, max_size=12))
def test_it_keeps_what_nbclient_would_put_into_the_file(messages: list[tuple[str, Any]]) -> None:
    ours = Outputs()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x")])
    client, cell = NotebookClient(notebook), notebook.cells[0]
    client.reset_execution_trackers()
    client.clear_before_next_output = False
    for kind, content in messages:
        ours.add(message(kind, **content))
        header = {"msg_type": kind}
        theirs = {"header": header, "msg_type": kind, "content": content, "parent_header": {}}
        client.process_message(theirs, cell, 0)
    assert ours.as_list() == joined(cell.outputs)
    for output in ours.as_list():
        nbformat.validate(nbformat.from_dict(output), ref="output", version=4)


def test_text_of_our_own_joins_the_stream() -> None:
    outputs = Outputs()
    outputs.add(message("stream", name="stderr", text="a"))
    outputs.add_text("stderr", "b\n")
    assert outputs.as_list() == [{"output_type": "stream", "name": "stderr", "text": "ab\n"}]


def test_a_list_once_given_does_not_change() -> None:
    outputs = Outputs()
    outputs.add(message("display_data", **bundle("old", "x")))
    before = outputs.as_list()
    outputs.add(message("update_display_data", **bundle("new", "x")))
    outputs.add_text("stdout", "more")
    assert [each["data"]["text/plain"] for each in before] == ["old"]
    assert outputs.as_list()[0]["data"]["text/plain"] == "new"


@pytest.mark.parametrize("kind", ["display_data", "execute_result", "error", "stream"])
def test_parts_of_the_wrong_type_become_empty_ones(kind: str) -> None:
    outputs = Outputs()
    outputs.add(message(kind, data=1, metadata=None, transient=[], traceback=5, ename=None))
    (kept,) = outputs.as_list()
    nbformat.validate(nbformat.from_dict(kept), ref="output", version=4)


def test_what_is_no_output_leaves_no_trace() -> None:
    outputs = Outputs()
    outputs.add(message("comm_open", comm_id="1", target_name="t", data={}))
    assert outputs.as_list() == []


def test_what_cannot_be_read_is_an_error() -> None:
    broken = parse((b'{"msg_id": "1", "msg_type": "stream"}', b"{}", b"{}", b"[1]"))
    with pytest.raises(ProtocolError):
        Outputs().add(broken)
