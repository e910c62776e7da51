"""What a kernel says about code that is being typed, and what it may not say."""

from typing import Any

import pytest

from kernel_magics.errors import ProtocolError
from kernel_magics.protocol import answers
from kernel_magics.protocol.answers import (
    TYPED_MATCHES,
    Completeness,
    Completion,
    Inspection,
    completeness_of,
    completion_of,
    inspection_of,
)
from kernel_magics.protocol.message import Message, Session, parse

CODE = "é😀 = os.pa"
"""Of 9 characters; some are more than one unit elsewhere."""

GOOD = {"status": "ok", "matches": ["path"], "cursor_start": 8, "cursor_end": 10, "metadata": {}}


def said(content: dict[str, Any]) -> Message:
    """As it comes off the wire."""
    return parse(Session().message("a_reply", content).parts)


def raw(content: bytes) -> Message:
    parts = Session().message("a_reply", {}).parts
    return parse((*parts[:3], content))


def typed(**more: Any) -> dict[str, Any]:
    return {"start": 8, "end": 10, "text": "path", "type": "module", "signature": "", **more}


def test_a_completion_says_what_may_stand_where() -> None:
    assert completion_of(said(GOOD), CODE, 10) == Completion(["path"], 8, 10)


def test_a_moved_completion_has_moved_whole() -> None:
    content = GOOD | {"metadata": {TYPED_MATCHES: [typed()], "other": 1}}
    moved = completion_of(said(content), CODE, 10).moved(5)
    assert (moved.start, moved.end) == (13, 15)
    assert moved.metadata == {TYPED_MATCHES: [typed(start=13, end=15)], "other": 1}
    assert Completion(["a"], 0, 1).moved(1) == Completion(["a"], 1, 2)


@pytest.mark.parametrize("content", [{}, GOOD | {"matches": []}, GOOD | {"status": "error"}])
def test_nothing_to_complete_is_no_error(content: dict[str, Any]) -> None:
    assert completion_of(said(content), CODE, 3) == Completion([], 3, 3)


LIES: list[dict[str, Any]] = [
    {"matches": "path"},
    {"matches": {"path": 1}},
    {"matches": ["path", 1]},
    {"matches": [None]},
    {"cursor_start": -1},
    {"cursor_start": 11},
    {"cursor_end": 11},
    {"cursor_start": 9, "cursor_end": 8},
    {"cursor_start": "8"},
    {"cursor_start": 8.0},
    {"cursor_start": True},
    {"cursor_end": None},
    {"metadata": []},
    {"metadata": "x"},
]


@pytest.mark.parametrize("lie", LIES, ids=str)
def test_a_completion_that_cannot_be_one_is_refused(lie: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        completion_of(said(GOOD | lie), CODE, 10)


@pytest.mark.parametrize(
    "entries",
    [
        "x",
        {},
        [1],
        [typed(start=-1)],
        [typed(end=99)],
        [typed(text=1)],
        [typed(text="")],
        [typed(type=None)],
        [typed(), typed(signature=[])],
    ],
    ids=str,
)
def test_types_that_cannot_be_are_left_out(entries: Any) -> None:
    content = GOOD | {"metadata": {TYPED_MATCHES: entries}}
    assert completion_of(said(content), CODE, 10) == Completion(["path"], 8, 10)


def test_a_lone_surrogate_is_replaced() -> None:
    content = GOOD | {"matches": ["a\ud800b"]}
    assert completion_of(said(content), CODE, 10).matches == ["a?b"]


@pytest.mark.parametrize(
    "content",
    [
        b'{"matches": ["x"], "cursor_start": NaN}',
        b'{"data": {"text/plain": Infinity}}',
        b"[]",
        b"{",
        b'{"matches": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=lambda content: content[:20].decode(),
)
def test_what_is_no_json_object_is_refused(content: bytes) -> None:
    for read in (lambda reply: completion_of(reply, CODE, 10), inspection_of, completeness_of):
        with pytest.raises(ProtocolError):
            read(raw(content))


def test_an_answer_beyond_all_measure_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "LARGEST_ANSWER", 1000)
    with pytest.raises(ProtocolError, match="bytes"):
        completion_of(said(GOOD | {"matches": ["x" * 1000]}), CODE, 10)


def test_an_inspection_has_a_mime_bundle() -> None:
    content = {"status": "ok", "found": True, "data": {"text/plain": "help"}, "metadata": {"a": 1}}
    assert inspection_of(said(content)) == Inspection(True, {"text/plain": "help"}, {"a": 1})


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"found": False, "data": {"text/plain": "x"}},
        {"found": True, "data": {}},
        {"found": "yes", "data": {"text/plain": "x"}},
        {"status": "error", "found": True, "data": {"text/plain": "x"}},
    ],
    ids=str,
)
def test_nothing_known_is_no_error(content: dict[str, Any]) -> None:
    assert inspection_of(said(content)) == Inspection(False)


@pytest.mark.parametrize("lie", [{"data": "x"}, {"data": {"a": "b"}, "metadata": 1}], ids=str)
def test_an_inspection_that_cannot_be_one_is_refused(lie: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        inspection_of(said({"found": True, **lie}))


@pytest.mark.parametrize("status", ["complete", "invalid", "unknown"])
def test_code_is_complete_or_not(status: str) -> None:
    assert completeness_of(said({"status": status})) == Completeness(status)


def test_incomplete_code_has_an_indent() -> None:
    content = {"status": "incomplete", "indent": "    "}
    assert completeness_of(said(content)) == Completeness("incomplete", "    ")


@pytest.mark.parametrize(
    "lie",
    [{}, {"status": "maybe"}, {"status": 1}, {"indent": 4}, {"indent": "rm -r"}],
    ids=str,
)
def test_a_completeness_that_cannot_be_one_is_refused(lie: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        completeness_of(said({"status": "incomplete", **lie} if lie else {}))
