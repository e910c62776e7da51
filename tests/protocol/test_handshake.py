"""The proof that a kernel holds the key and publishes to us, before any code is sent."""

from __future__ import annotations

from itertools import pairwise

import pytest

from kernel_magics.protocol.handshake import (
    FIRST_REPEAT,
    LONGEST_REPEAT,
    SHELL_AFTER,
    Handshake,
    Request,
)
from kernel_magics.protocol.message import Message, Session, pack

MOMENT = 0.001


@pytest.fixture
def proof() -> Handshake:
    return Handshake(Session("ours"), "topic", 0.0)


def message(msg_type: str, asked: Message | None = None, *, session: str = "theirs") -> Message:
    header = {"msg_id": "x", "msg_type": msg_type, "session": session}
    parent = {"msg_id": asked.msg_id, "session": asked.session} if asked else {}
    return Message(header, parent, (pack(header), pack(parent), b"{}", b"{}"))


def reply_to(request: Request, *, session: str = "theirs") -> Message:
    return message("kernel_info_reply", request.message, session=session)


WELCOME = message("iopub_welcome")


def asked(proof: Handshake, now: float = 0.0) -> Request:
    """The request on control that is due first."""
    request, *_ = proof.tick(now)
    return request


def asked_on_shell(proof: Handshake) -> Request:
    return next(each for each in proof.tick(SHELL_AFTER) if each.channel == "shell")


def times_of_requests(proof: Handshake, until: float) -> list[tuple[float, str]]:
    """When requests are made, and on which channel, if the clock is read each millisecond."""
    times = [number * MOMENT for number in range(round(until / MOMENT) + 1)]
    return [(round(now, 3), each.channel) for now in times for each in proof.tick(now)]


# One round trip.


def test_the_first_question_goes_to_control_at_once(proof: Handshake) -> None:
    [request] = proof.tick(0.0)
    assert (request.channel, request.message.type) == ("control", "kernel_info_request")


def test_a_reply_and_a_welcome_are_enough(proof: Handshake) -> None:
    proof.receive("control", reply_to(asked(proof)))
    proof.receive("iopub", WELCOME)
    assert proof.done


def test_the_welcome_may_come_first(proof: Handshake) -> None:
    request = asked(proof)
    proof.receive("iopub", WELCOME)
    proof.receive("control", reply_to(request))
    assert proof.done


def test_a_reply_alone_proves_the_key_but_not_the_subscription(proof: Handshake) -> None:
    proof.receive("control", reply_to(asked(proof)))
    assert (proof.proved, proof.subscribed, proof.done) == (True, False, False)


def test_a_welcome_alone_proves_the_subscription_but_not_the_key(proof: Handshake) -> None:
    proof.receive("iopub", WELCOME)
    assert (proof.proved, proof.subscribed, proof.done) == (False, True, False)


def test_the_reply_is_kept(proof: Handshake) -> None:
    proof.receive("control", reply := reply_to(asked(proof)))
    assert proof.info is reply


def test_the_first_of_two_replies_is_kept(proof: Handshake) -> None:
    first, second = asked(proof), asked(proof, FIRST_REPEAT)
    proof.receive("control", reply := reply_to(first))
    proof.receive("control", reply_to(second))
    assert proof.info is reply


def test_when_done_nothing_more_is_asked(proof: Handshake) -> None:
    proof.receive("control", reply_to(asked(proof)))
    proof.receive("iopub", WELCOME)
    assert proof.tick(1e9) == []


def test_the_topic_is_known_to_who_subscribes(proof: Handshake) -> None:
    assert proof.topic == "topic"


# Repeated until it succeeds.


def test_it_is_asked_again_ever_more_slowly(proof: Handshake) -> None:
    times = [now for now, channel in times_of_requests(proof, 3.0) if channel == "control"]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    doubled = [FIRST_REPEAT * 2**number for number in range(5)]
    assert gaps == pytest.approx([*doubled, *[LONGEST_REPEAT] * 4], abs=3 * MOMENT)


def test_shell_is_asked_once_only(proof: Handshake) -> None:
    # A busy kernel would find a queue of questions there, and answer them all.
    times = [now for now, channel in times_of_requests(proof, 10.0) if channel == "shell"]
    assert len(times) == 1


def test_shell_is_asked_only_when_control_is_slow(proof: Handshake) -> None:
    [time] = [now for now, channel in times_of_requests(proof, 10.0) if channel == "shell"]
    assert time >= SHELL_AFTER


def test_every_question_has_an_id_of_its_own(proof: Handshake) -> None:
    requests = [each for now in range(20) for each in proof.tick(float(now))]
    assert len({each.message.msg_id for each in requests}) == len(requests) == 21


@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
def test_any_of_the_questions_may_be_the_one_that_is_answered(
    proof: Handshake, first: bool
) -> None:
    requests = [asked(proof), asked(proof, FIRST_REPEAT)]
    proof.receive("control", reply_to(requests[0 if first else 1]))
    assert proof.proved


# What does not prove the key.


def test_a_reply_to_somebody_else_proves_nothing(proof: Handshake) -> None:
    asked(proof)
    other = Session("other").message("kernel_info_request", {})
    proof.receive("control", message("kernel_info_reply", other))
    assert not proof.proved


def test_a_reply_to_nobody_proves_nothing(proof: Handshake) -> None:
    asked(proof)
    proof.receive("control", message("kernel_info_reply"))
    assert not proof.proved


def test_another_answer_to_the_question_proves_nothing(proof: Handshake) -> None:
    proof.receive("control", message("status", asked(proof).message))
    assert not proof.proved


# Kernels that do less.


def test_without_a_welcome_any_published_message_proves_the_subscription(
    proof: Handshake,
) -> None:
    # ipykernel 6 says busy and idle around each request, also around those on control.
    request = asked(proof)
    proof.receive("control", reply_to(request))
    proof.receive("iopub", message("status", request.message))
    assert proof.done


def test_without_a_welcome_it_is_asked_until_something_is_published(proof: Handshake) -> None:
    proof.receive("control", reply_to(asked(proof)))
    assert asked(proof, FIRST_REPEAT).channel == "control"


def test_a_kernel_that_is_silent_on_control_is_proved_by_shell(proof: Handshake) -> None:
    # As IRkernel does, which publishes busy before it answers.
    request = asked_on_shell(proof)
    proof.receive("iopub", message("status", request.message))
    proof.receive("shell", reply_to(request))
    assert proof.done


def test_it_is_known_which_channels_answer(proof: Handshake) -> None:
    on_shell = asked_on_shell(proof)
    proof.receive("shell", reply_to(on_shell))
    assert (proof.control_answers, proof.shell_answers) == (False, True)


def test_it_is_known_when_only_control_answers(proof: Handshake) -> None:
    proof.receive("control", reply_to(asked(proof)))
    assert (proof.control_answers, proof.shell_answers) == (True, False)


def test_a_channel_that_answers_after_the_other_is_known_as_well(proof: Handshake) -> None:
    on_control, on_shell = proof.tick(SHELL_AFTER)
    proof.receive("control", reply_to(on_control))
    proof.receive("shell", reply_to(on_shell))
    assert (proof.control_answers, proof.shell_answers) == (True, True)


# Who answered.


def test_the_session_of_the_kernel_is_that_of_its_reply(proof: Handshake) -> None:
    proof.receive("control", reply_to(asked(proof), session="theirs"))
    assert proof.remote_session == "theirs"


def test_before_a_reply_nobody_has_a_session(proof: Handshake) -> None:
    proof.receive("iopub", WELCOME)
    assert proof.remote_session is None


@pytest.mark.parametrize("session", ["ours", ""])
def test_a_kernel_that_answers_without_a_session_of_its_own_cannot_be_told_apart(
    proof: Handshake, session: str
) -> None:
    proof.receive("control", reply_to(asked(proof), session=session))
    assert proof.proved
    assert proof.remote_session is None
