"""One cell's life: what its messages mean, when it is over, and how it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel_magics.errors import ProtocolError
from kernel_magics.protocol.execution import (
    FENCE_TIMEOUT,
    IDLE_GRACE,
    REPLY_GRACE,
    Check,
    Event,
    Execution,
    Finished,
    Output,
    Prompt,
    belongs,
    is_output,
)
from kernel_magics.protocol.message import Message, pack

MOMENT = 0.001
LONG = 1e9

# A busy machine may take long over a single example.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def said(msg_type: str, /, *, parent: str = "m1", **content: Any) -> Message:
    return raw(msg_type, pack(content), parent=parent)


def raw(msg_type: str, content: bytes, *, parent: str = "m1") -> Message:
    header = {"msg_id": "x", "msg_type": msg_type}
    return Message(header, {"msg_id": parent}, (b"{}", b"{}", b"{}", content))


def error(ename: str = "ValueError", evalue: str = "v", **more: Any) -> Message:
    return said("error", ename=ename, evalue=evalue, traceback=[f"{ename}: {evalue}"], **more)


def failed(ename: str = "ValueError", evalue: str = "v", **more: Any) -> Message:
    content = {"ename": ename, "evalue": evalue, "traceback": [f"{ename}: {evalue}"], **more}
    return said("execute_reply", status="error", **content)


OK: dict[str, Any] = {"status": "ok", "execution_count": 7}
BUSY = said("status", execution_state="busy")
IDLE = said("status", execution_state="idle")
REPLY = said("execute_reply", **OK)
FAILED = failed()
ABORTED = said("execute_reply", status="aborted")
TEXT = said("stream", name="stdout", text="one")
FIGURE = said("display_data", data={"image/png": ""})
ERROR = error()


@pytest.fixture
def cell() -> Execution:
    return Execution("m1", 0.0)


def feed(cell: Execution, *messages: Message, now: float = 0.0) -> list[Event]:
    return [event for message in messages for event in cell.receive(message, now)]


def finished(events: list[Event]) -> Finished:
    [found] = [event for event in events if isinstance(event, Finished)]
    return found


# The end.


@pytest.mark.parametrize("first, last", [(REPLY, IDLE), (IDLE, REPLY)], ids=["reply", "idle"])
def test_a_cell_is_over_once_both_reply_and_idle_have_arrived(
    cell: Execution, first: Message, last: Message
) -> None:
    assert cell.receive(first, 0.0) == []
    assert not cell.done
    assert cell.receive(last, 0.0) == [Finished("ok", OK)]
    assert cell.done


def test_busy_is_not_the_end(cell: Execution) -> None:
    assert feed(cell, REPLY, BUSY, said("status")) == []


@pytest.mark.parametrize("again", [REPLY, FAILED, IDLE, BUSY])
def test_a_cell_ends_once(cell: Execution, again: Message) -> None:
    feed(cell, REPLY, IDLE)
    assert feed(cell, again) == []


@pytest.mark.parametrize("heard", [(), (TEXT,), (REPLY,), (IDLE,)])
def test_what_ended_during_a_cut_ends_once_nothing_more_is_heard(
    cell: Execution, heard: tuple[Message, ...]
) -> None:
    cell.missed(10.0)
    feed(cell, *heard, now=11.0)
    assert cell.tick((11.0 if heard else 10.0) + FENCE_TIMEOUT - MOMENT) in ([], [Check.OVERTAKE])
    end = finished(cell.tick((11.0 if heard else 10.0) + FENCE_TIMEOUT))
    assert (end.status, end.complete) == (("ok", False) if REPLY in heard else ("lost", True))


def test_the_first_reply_counts(cell: Execution) -> None:
    assert feed(cell, REPLY, FAILED, IDLE) == [Finished("ok", OK)]


@pytest.mark.parametrize(
    "content, status",
    [
        pytest.param({"status": "ok"}, "ok", id="ok"),
        pytest.param({"status": "error"}, "error", id="error"),
        pytest.param({"status": "aborted"}, "aborted", id="aborted"),
        pytest.param({"status": "abort"}, "aborted", id="abort of IRkernel and bash_kernel"),
        pytest.param({}, "ok", id="none at all"),
    ],
)
def test_the_reply_says_how_it_ended(cell: Execution, content: dict[str, Any], status: str) -> None:
    assert feed(cell, said("execute_reply", **content), IDLE) == [Finished(status, content)]


INPUT = said("execute_input", code="1", execution_count=7)


@pytest.mark.parametrize("sign", [INPUT, TEXT, FIGURE], ids=lambda message: message.type)
@pytest.mark.parametrize("reply_first", [False, True], ids=["reply last", "reply first"])
def test_an_aborted_cell_that_has_shown_a_sign_of_life_had_begun(
    cell: Execution, sign: Message, reply_first: bool
) -> None:
    # As IRkernel and bash_kernel reply for a cell that is interrupted.
    messages = [ABORTED, sign] if reply_first else [sign, ABORTED]
    assert finished(feed(cell, BUSY, *messages, IDLE)).begun


@pytest.mark.parametrize("before", [[], [BUSY]], ids=["nothing", "busy"])
def test_an_aborted_cell_of_which_nothing_was_heard_did_not_run(
    cell: Execution, before: list[Message]
) -> None:
    assert not finished(feed(cell, *before, ABORTED, IDLE)).begun


UNKNOWN_STATUS = [
    pytest.param(b'{"status": "done"}', id="a word"),
    pytest.param(b'{"status": null}', id="null"),
    pytest.param(b'{"status": ["ok"]}', id="a list"),
]


@pytest.mark.parametrize("content", [*UNKNOWN_STATUS, pytest.param(b"{", id="unreadable")])
def test_a_reply_that_says_nothing_known_is_the_end_with_a_problem(
    cell: Execution, content: bytes
) -> None:
    # Outputs may still be under way, so that it ends with idle like any other.
    assert feed(cell, raw("execute_reply", content)) == []
    *outputs, end = feed(cell, TEXT, REPLY, IDLE)
    assert outputs == [Output(TEXT)]
    assert isinstance(end, Finished)
    assert (end.status, end.reply) == ("lost", {})
    assert "execute_reply" in str(end.problem)


def test_a_status_that_cannot_be_read_is_a_protocol_error(cell: Execution) -> None:
    with pytest.raises(ProtocolError, match="status"):
        cell.receive(raw("status", b"{"), 0.0)


@pytest.mark.parametrize("message", [TEXT, REPLY, IDLE, ERROR, BUSY])
def test_a_message_of_another_request_is_refused(message: Message) -> None:
    with pytest.raises(ProtocolError, match="belongs to m1, not m2"):
        Execution("m2", 0.0).receive(message, 0.0)


@pytest.mark.parametrize(
    "channel, msg_type",
    [
        ("shell", "execute_reply"),
        ("stdin", "input_request"),
        ("iopub", "stream"),
        ("iopub", "status"),
        ("iopub", "execute_input"),
        ("iopub", "shutdown_reply"),
        ("iopub", "something_new"),
    ],
)
def test_a_message_on_its_channel_may_answer_a_request(channel: str, msg_type: str) -> None:
    assert belongs(channel, msg_type)


@pytest.mark.parametrize(
    "channel, msg_type",
    [
        ("shell", "complete_reply"),
        ("shell", "stream"),
        ("shell", "status"),
        ("stdin", "stream"),
        ("stdin", "execute_reply"),
        ("iopub", "execute_reply"),
        ("iopub", "input_request"),
        ("control", "execute_reply"),
        ("control", "stream"),
        ("", "stream"),
    ],
)
def test_a_message_on_another_channel_answers_nothing(channel: str, msg_type: str) -> None:
    assert not belongs(channel, msg_type)


# Outputs and prompts.


@pytest.mark.parametrize(
    "msg_type",
    [
        "stream",
        "display_data",
        "update_display_data",
        "execute_result",
        "clear_output",
        "comm_open",
        "comm_msg",
        "comm_close",
        "something_new",
    ],
)
def test_what_a_kernel_publishes_is_output(cell: Execution, msg_type: str) -> None:
    message = said(msg_type)
    assert is_output(msg_type)
    assert feed(cell, message) == [Output(message)]


@pytest.mark.parametrize("msg_type", ["stream", "error", "display_data", "something_new"])
@pytest.mark.parametrize("content", [b"not JSON", b"[1]", b'{"text": "\xff"}', b'{"x": NaN}'])
def test_output_that_nobody_can_read_changes_nothing(
    cell: Execution, msg_type: str, content: bytes
) -> None:
    with pytest.raises(ProtocolError, match=msg_type):
        cell.receive(raw(msg_type, content), 0.0)
    assert not finished(feed(cell, FAILED, IDLE)).explained


@pytest.mark.parametrize(
    "msg_type", ["execute_input", "iopub_welcome", "shutdown_reply", "debug_event", "interrupt"]
)
def test_what_no_cell_shows_is_not_output(cell: Execution, msg_type: str) -> None:
    assert feed(cell, said(msg_type)) == []
    assert not is_output(msg_type)


def test_what_answers_somebody_is_not_output_either() -> None:
    assert not is_output("status")
    assert not is_output("execute_reply")


@pytest.mark.parametrize("before", [(), (REPLY,), (IDLE,), (REPLY, IDLE)])
def test_output_may_come_before_between_and_after(
    cell: Execution, before: tuple[Message, ...]
) -> None:
    feed(cell, *before)
    assert feed(cell, TEXT, FIGURE) == [Output(TEXT), Output(FIGURE)]


@pytest.mark.parametrize(
    "content, prompt",
    [
        ({"prompt": "name? ", "password": False}, Prompt("name? ", False)),
        ({"prompt": "secret? ", "password": True}, Prompt("secret? ", True)),
        ({}, Prompt("", False)),
    ],
)
def test_an_input_request_is_a_prompt(
    cell: Execution, content: dict[str, Any], prompt: Prompt
) -> None:
    assert feed(cell, said("input_request", **content)) == [prompt]


# An error is an output like any other; the reply is the verdict.


@pytest.mark.parametrize("reply", [REPLY, FAILED, ABORTED], ids=["ok", "error", "aborted"])
@pytest.mark.parametrize("position", range(4))
def test_an_error_keeps_its_place_wherever_the_reply_comes(
    cell: Execution, reply: Message, position: int
) -> None:
    messages = [TEXT, ERROR, FIGURE]
    messages.insert(position, reply)
    assert feed(cell, *messages) == [Output(TEXT), Output(ERROR), Output(FIGURE)]


def test_an_error_does_not_make_a_cell_fail(cell: Execution) -> None:
    assert finished(feed(cell, ERROR, REPLY, IDLE)).status == "ok"


def test_a_cell_may_fail_without_an_error(cell: Execution) -> None:
    assert finished(feed(cell, FAILED, IDLE)).status == "error"


def test_the_reply_says_what_failed(cell: Execution) -> None:
    reply = failed("KeyError", "the key")
    end = finished(feed(cell, error("ValueError", "shown"), reply, IDLE))
    assert end.reply == reply.content


BARE = said("execute_reply", status="error", execution_count=1)  # as tslab replies


@pytest.mark.parametrize("field", ["ename", "evalue", "traceback"])
@pytest.mark.parametrize("reply", [BARE, failed("", "", traceback=[])], ids=["bare", "empty"])
def test_what_the_reply_lacks_is_taken_from_the_error_message(
    cell: Execution, field: str, reply: Message
) -> None:
    end = finished(feed(cell, ERROR, reply, IDLE))
    assert end.reply[field] == ERROR.content[field]


def test_of_two_errors_the_last_completes_the_reply(cell: Execution) -> None:
    end = finished(feed(cell, error("KeyError"), ERROR, BARE, IDLE))
    assert end.reply["ename"] == "ValueError"


def test_an_error_that_follows_the_reply_completes_it(cell: Execution) -> None:
    assert finished(feed(cell, BARE, ERROR, IDLE)).reply["ename"] == "ValueError"


def test_a_bare_reply_without_an_error_message_stays_bare(cell: Execution) -> None:
    assert feed(cell, BARE, IDLE) == [Finished("error", BARE.content)]


@pytest.mark.parametrize("field", ["ename", "evalue", "traceback"])
def test_an_error_message_may_lack_as_much_as_the_reply(cell: Execution, field: str) -> None:
    assert not finished(feed(cell, said("error"), BARE, IDLE)).reply[field]


@pytest.mark.parametrize("content", [b"{", b"null", b"[]", b"\xff"])
def test_an_error_that_cannot_be_read_does_not_keep_a_cell_from_ending(
    cell: Execution, content: bytes
) -> None:
    with pytest.raises(ProtocolError, match="error"):
        cell.receive(raw("error", content), 0.0)
    end = finished(feed(cell, FAILED, IDLE))
    assert (end.status, end.reply) == ("error", FAILED.content)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(ERROR, id="an error message"),
        pytest.param(said("stream", name="stderr", text="no such magic"), id="text on stderr"),
        pytest.param(raw("stream", b'{"text":"e","name":"stderr"}'), id="in any form"),
    ],
)
@pytest.mark.parametrize("others", [(), (TEXT,)], ids=["first", "after other text"])
def test_what_says_why_it_failed_explains_the_end(
    cell: Execution, others: tuple[Message, ...], message: Message
) -> None:
    assert finished(feed(cell, *others, message, TEXT, FAILED, IDLE)).explained


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(FIGURE, id="a figure"),
        pytest.param(said("display_data", data={"text/plain": "stderr"}), id="other output"),
        pytest.param(said("stream", name="stdout", text="one"), id="text on stdout"),
        pytest.param(said("stream", name="stdout", text='"stderr"'), id="quoted on stdout"),
        pytest.param(said("stream", name="stdout", text="stderr"), id="the word on stdout"),
    ],
)
def test_what_does_not_say_why_it_failed_leaves_the_end_unexplained(
    cell: Execution, message: Message
) -> None:
    assert not finished(feed(cell, message, FAILED, IDLE)).explained


NAMED = f"\x1b[31m{FAILED.content['ename']}\x1b[0m: as a handler of their own shows it"


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(said("display_data", data={"text/plain": NAMED, "image/png": ""}), id="shown"),
        pytest.param(said("stream", name="stdout", text=NAMED), id="printed"),
    ],
)
def test_a_last_output_that_names_the_error_explains_the_end(
    cell: Execution, message: Message
) -> None:
    assert finished(feed(cell, TEXT, message, FAILED, IDLE)).explained
    other = Execution("m1", 0.0)
    assert not finished(feed(other, message, TEXT, FAILED, IDLE)).explained


@pytest.mark.parametrize(
    "data", [{"text/html": NAMED}, {"text/plain": [NAMED]}, [NAMED], None], ids=str
)
def test_what_has_no_plain_text_names_no_error(cell: Execution, data: object) -> None:
    message = said("display_data", data=data)
    assert not finished(feed(cell, message, FAILED, IDLE)).explained


@pytest.mark.parametrize("ename", ["", "on", "n", 7, None, "one" * 100], ids=str)
def test_what_is_no_name_or_only_a_part_of_a_word_names_no_error(
    cell: Execution, ename: object
) -> None:
    text = said("stream", name="stdout", text="one" * 100 + " one 7 None")
    odd = said("execute_reply", status="error", ename=ename)
    assert not finished(feed(cell, text, odd, IDLE)).explained


# Ended from outside.


def test_closing_ends_the_cell(cell: Execution) -> None:
    cell.close()
    assert cell.done
    assert feed(cell, REPLY, IDLE) == []


@pytest.mark.parametrize("message", [TEXT, ERROR])
def test_late_output_of_a_closed_cell_is_still_output(cell: Execution, message: Message) -> None:
    cell.close()
    assert feed(cell, message) == [Output(message)]


def test_a_closed_cell_asks_nothing(cell: Execution) -> None:
    feed(cell, REPLY)
    cell.close()
    assert cell.tick(LONG) == []


@pytest.mark.parametrize("answer", [Execution.fence_passed, Execution.overtaken])
@pytest.mark.parametrize("message", [REPLY, IDLE], ids=["reply", "idle"])
def test_an_answer_about_a_closed_cell_means_nothing(
    cell: Execution, message: Message, answer: Callable[[Execution], list[Event]]
) -> None:
    feed(cell, message)
    cell.close()
    assert answer(cell) == []


# Silence.


@pytest.mark.parametrize("end", [(REPLY, IDLE), (IDLE, REPLY)], ids=["idle last", "reply last"])
def test_a_cell_of_a_kernel_that_talks_on_is_over_once_it_is_quiet(
    cell: Execution, end: tuple[Message, Message]
) -> None:
    # As Deno, whose idle comes before what its cell has printed.
    cell.quiet = 0.1
    assert feed(cell, BUSY, end[0]) == []
    assert cell.ends_at is None
    assert feed(cell, end[1]) == []
    assert cell.ends_at == 0.1
    assert feed(cell, TEXT, now=0.08) == [Output(TEXT)]
    assert cell.tick(0.15) == []
    assert cell.tick(0.2) == [Finished("ok", OK, begun=True)]
    assert cell.ends_at is None


def test_a_question_about_idle_does_not_end_a_cell_that_only_has_to_be_quiet(
    cell: Execution,
) -> None:
    cell.quiet = 0.1
    feed(cell, REPLY)
    assert cell.tick(IDLE_GRACE) == [Check.FENCE]
    feed(cell, IDLE, now=IDLE_GRACE)
    assert cell.fence_passed() == []
    assert cell.tick(IDLE_GRACE + 0.1) == [Finished("ok", OK)]


def test_silence_does_not_end_a_cell(cell: Execution) -> None:
    feed(cell, BUSY, TEXT)
    assert cell.tick(LONG) == []


def test_when_idle_is_missing_it_is_asked_whether_everything_has_arrived(cell: Execution) -> None:
    feed(cell, REPLY, now=10.0)
    assert cell.tick(10.0 + IDLE_GRACE - MOMENT) == []
    assert cell.tick(10.0 + IDLE_GRACE) == [Check.FENCE]


def test_it_is_asked_once(cell: Execution) -> None:
    feed(cell, REPLY)
    cell.tick(IDLE_GRACE)
    assert cell.tick(IDLE_GRACE + MOMENT) == []


def test_traffic_postpones_the_question(cell: Execution) -> None:
    feed(cell, REPLY)
    feed(cell, TEXT, now=IDLE_GRACE - MOMENT)
    assert cell.tick(2 * IDLE_GRACE - 2 * MOMENT) == []
    assert cell.tick(2 * IDLE_GRACE) == [Check.FENCE]


def test_when_everything_has_arrived_without_idle_the_cell_is_over_but_incomplete(
    cell: Execution,
) -> None:
    feed(cell, REPLY)
    assert cell.fence_passed() == [Finished("ok", OK, complete=False)]


def test_an_incomplete_cell_may_have_failed(cell: Execution) -> None:
    feed(cell, FAILED)
    assert cell.fence_passed() == [Finished("error", FAILED.content, complete=False)]


def test_idle_while_the_question_is_open_completes_the_cell(cell: Execution) -> None:
    feed(cell, REPLY)
    cell.tick(IDLE_GRACE)
    assert feed(cell, IDLE, now=IDLE_GRACE) == [Finished("ok", OK, complete=True)]


def test_a_question_that_nobody_answers_is_answered_by_time(cell: Execution) -> None:
    feed(cell, REPLY)
    cell.tick(IDLE_GRACE)
    assert cell.tick(IDLE_GRACE + FENCE_TIMEOUT - MOMENT) == []
    assert cell.tick(IDLE_GRACE + FENCE_TIMEOUT) == [Finished("ok", OK, complete=False)]


def test_a_slow_link_that_still_brings_output_is_not_answered_by_time(cell: Execution) -> None:
    feed(cell, REPLY)
    cell.tick(IDLE_GRACE)
    feed(cell, TEXT, now=IDLE_GRACE + FENCE_TIMEOUT - MOMENT)
    assert cell.tick(IDLE_GRACE + FENCE_TIMEOUT) == []


@pytest.mark.parametrize("messages", [(), (IDLE,), (REPLY, IDLE)])
def test_an_answer_about_idle_that_is_not_needed_means_nothing(
    cell: Execution, messages: tuple[Message, ...]
) -> None:
    feed(cell, *messages)
    assert cell.fence_passed() == []


def test_when_the_reply_is_missing_it_is_asked_whether_later_requests_are_answered(
    cell: Execution,
) -> None:
    feed(cell, IDLE, now=10.0)
    assert cell.tick(10.0 + REPLY_GRACE - MOMENT) == []
    assert cell.tick(10.0 + REPLY_GRACE) == [Check.OVERTAKE]


def test_a_reply_that_was_overtaken_is_lost(cell: Execution) -> None:
    feed(cell, IDLE)
    assert cell.overtaken() == [Finished("lost", {})]


def test_a_missing_reply_is_not_declared_lost_by_time(cell: Execution) -> None:
    feed(cell, IDLE)
    cell.tick(REPLY_GRACE)
    assert cell.tick(LONG) == []


def test_a_reply_while_the_question_is_open_ends_the_cell(cell: Execution) -> None:
    feed(cell, IDLE)
    cell.tick(REPLY_GRACE)
    assert feed(cell, REPLY, now=REPLY_GRACE) == [Finished("ok", OK)]


@pytest.mark.parametrize("messages", [(), (REPLY,), (REPLY, IDLE)])
def test_an_answer_about_the_reply_that_is_not_needed_means_nothing(
    cell: Execution, messages: tuple[Message, ...]
) -> None:
    feed(cell, *messages)
    assert cell.overtaken() == []


def test_after_the_end_nothing_is_asked(cell: Execution) -> None:
    feed(cell, REPLY, IDLE)
    assert cell.tick(LONG) == []


# Any order, any pace.


@dataclass(frozen=True)
class Script:
    """A cell as a kernel may run it, and as two sockets and a clock may deliver it."""

    outputs: list[Message]
    late: list[Message]  # after idle
    reply: Message
    arrivals: list[tuple[float, Message]]


def some_outputs(draw: st.DrawFn, most: int) -> list[Message]:
    kinds = draw(st.lists(st.sampled_from(["stream", "display_data", "error"]), max_size=most))
    return [said(kind, text=str(number)) for number, kind in enumerate(kinds)]


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    outputs, late = some_outputs(draw, 6), some_outputs(draw, 2)
    published = [BUSY, said("execute_input"), *outputs, IDLE, *late]
    reply = draw(st.sampled_from([REPLY, FAILED, ABORTED]))
    position = draw(st.integers(0, len(published)))
    now, arrivals = 0.0, []
    for message in [*published[:position], reply, *published[position:]]:
        # Never silent for so long that the cell is given up.
        now += draw(st.sampled_from([0.0, MOMENT, REPLY_GRACE, IDLE_GRACE - MOMENT]))
        arrivals.append((now, message))
    return Script(outputs, late, reply, arrivals)


def play(script: Script) -> list[Event]:
    cell = Execution("m1", 0.0)
    events: list[Event] = []
    for now, message in script.arrivals:
        events += cell.tick(now)
        events += cell.receive(message, now)
    return events


@given(scripts())
@patient
def test_in_any_order_a_cell_ends_once_and_as_its_reply_says(script: Script) -> None:
    end = finished(play(script))
    assert (end.status, end.complete) == (script.reply.content["status"], True)


@given(scripts())
@patient
def test_in_any_order_all_outputs_are_shown_in_order(script: Script) -> None:
    shown = [event.message for event in play(script) if isinstance(event, Output)]
    assert shown == [*script.outputs, *script.late]


@given(scripts())
@patient
def test_in_any_order_nothing_but_late_output_follows_the_end(script: Script) -> None:
    events = play(script)
    rest = events[events.index(finished(events)) + 1 :]
    assert all(isinstance(event, Output) and event.message in script.late for event in rest)


@given(scripts(), st.integers(0, 12), st.sampled_from([Check.FENCE, Check.OVERTAKE]))
@patient
def test_a_cell_ends_once_even_if_questions_are_answered_at_odd_times(
    script: Script, moment: int, check: Check
) -> None:
    cell = Execution("m1", 0.0)
    events: list[Event] = []
    for number, (now, message) in enumerate(script.arrivals):
        if number == moment:
            events += cell.fence_passed() if check is Check.FENCE else cell.overtaken()
        events += cell.receive(message, now)
    assert finished(events).status in (script.reply.content["status"], "lost")
