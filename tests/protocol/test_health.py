"""What a lost connection, an answer and the time say about a kernel."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from kernel_magics.protocol.health import (
    LOST_GRACE,
    PING_AFTER,
    SILENT_AFTER,
    Finding,
    Health,
    Silence,
    Verdict,
    describe_exit,
)

MOMENT = 0.001


@pytest.fixture
def health() -> Health:
    """Of a kernel that has been proved once."""
    health = Health()
    health.proved("first")
    return health


def verdict(finding: Finding | None) -> Verdict | None:
    return finding.verdict if finding else None


def test_the_first_proof_of_all_is_no_news() -> None:
    assert Health().proved("first") is None


def test_a_proof_without_a_loss_is_no_news(health: Health) -> None:
    assert health.proved("first") is None


def test_the_session_is_that_of_the_last_proof(health: Health) -> None:
    health.proved("second")
    assert health.session == "second"


def test_silence_proves_nothing(health: Health) -> None:
    assert health.check(1e9) is None


def test_a_lost_connection_proves_nothing_yet(health: Health) -> None:
    health.lost(10.0)
    assert health.check(10.0 + LOST_GRACE - MOMENT) is None
    assert health.waiting


def test_a_kernel_that_does_not_answer_again_in_time_has_died(health: Health) -> None:
    health.lost(10.0)
    assert verdict(health.check(10.0 + LOST_GRACE)) is Verdict.DIED


def test_the_grace_is_the_owners_choice() -> None:
    health = Health(grace=60.0)
    health.lost(0.0)
    assert health.check(60.0 - MOMENT) is None
    assert health.check(60.0) == Finding(
        Verdict.DIED, "died: its connection closed and nothing answered there for 60 s"
    )


def test_the_grace_counts_from_the_first_loss(health: Health) -> None:
    health.lost(10.0)
    health.lost(10.0 + LOST_GRACE - MOMENT)
    assert verdict(health.check(10.0 + LOST_GRACE)) is Verdict.DIED


def test_a_death_is_told_once(health: Health) -> None:
    health.lost(0.0)
    health.check(LOST_GRACE)
    assert health.check(LOST_GRACE) is None


def test_the_same_session_after_a_loss_is_the_same_kernel(health: Health) -> None:
    health.lost(0.0)
    assert verdict(health.proved("first")) is Verdict.RESUMED


def test_another_session_after_a_loss_is_a_restart(health: Health) -> None:
    health.lost(0.0)
    assert verdict(health.proved("second")) is Verdict.RESTARTED


@pytest.mark.parametrize("before, after", [(None, None), ("first", None), (None, "first")])
def test_a_session_that_cannot_be_told_after_a_loss_is_taken_for_a_restart(
    before: str | None, after: str | None
) -> None:
    # Cells that were running would otherwise wait for ever.
    health = Health()
    health.proved(before)
    health.lost(0.0)
    assert verdict(health.proved(after)) is Verdict.RESTARTED


def test_a_proof_ends_the_waiting(health: Health) -> None:
    health.lost(0.0)
    health.proved("first")
    assert not health.waiting
    assert health.check(1e9) is None


def test_after_a_proof_a_second_loss_has_its_own_grace(health: Health) -> None:
    health.lost(0.0)
    health.proved("first")
    health.lost(100.0)
    assert health.check(100.0 + LOST_GRACE - MOMENT) is None
    assert verdict(health.check(100.0 + LOST_GRACE)) is Verdict.DIED


def test_a_loss_that_its_owner_forgives_is_no_death(health: Health) -> None:
    health.lost(0.0)
    health.forgive()
    assert not health.waiting
    assert health.check(1e9) is None


def test_a_process_of_ours_that_ended_is_dead_at_once(health: Health) -> None:
    assert health.exited(-9) == Finding(Verdict.DIED, "died: its process was ended by SIGKILL")


def test_somebody_else_in_its_place_is_its_death(health: Health) -> None:
    assert verdict(health.replaced()) is Verdict.DIED


@pytest.mark.parametrize("end", [lambda health: health.exited(0), Health.replaced])
def test_after_a_death_nothing_is_waited_for(
    health: Health, end: Callable[[Health], Finding]
) -> None:
    health.lost(0.0)
    end(health)
    assert not health.waiting
    assert health.check(1e9) is None


@pytest.mark.parametrize(
    "status, words",
    [
        (0, "ended with exit code 0"),
        (3, "ended with exit code 3"),
        (-signal.SIGKILL, "was ended by SIGKILL"),
        (-signal.SIGSEGV, "was ended by SIGSEGV"),
        (-200, "was ended by signal 200"),
    ],
)
def test_an_exit_is_described_in_words(status: int, words: str) -> None:
    assert describe_exit(status) == words


# Silence.


def silent_since(busy: Callable[[], bool]) -> Silence:
    silence = Silence(busy)
    silence.expect(10.0)
    return silence


@pytest.fixture
def silence() -> Silence:
    """Of a kernel that owes an answer since 10 s past the beginning of all time."""
    return silent_since(lambda: True)


def test_silence_lasts_from_when_something_was_owed(silence: Silence) -> None:
    assert silence.lasts(13.0) == 3.0


def test_silence_lasts_from_the_last_sign_of_life(silence: Silence) -> None:
    silence.heard(12.0)
    assert silence.lasts(13.0) == 1.0


def test_a_silent_kernel_is_asked_once(silence: Silence) -> None:
    times = [10.0 + PING_AFTER - MOMENT, 10.0 + PING_AFTER, 10.0 + PING_AFTER + MOMENT, 1e9]
    assert [silence.ping_is_due(now) for now in times] == [False, True, False, False]


def test_a_kernel_that_falls_silent_again_is_asked_again(silence: Silence) -> None:
    silence.ping_is_due(10.0 + PING_AFTER)
    silence.heard(100.0)
    assert not silence.ping_is_due(100.0)
    assert silence.ping_is_due(100.0 + PING_AFTER)


def notices(silence: Silence, begin: int, end: int) -> list[int]:
    """The whole seconds at which the user is told, counted from the begin."""
    return [now - begin for now in range(begin, end) if silence.notice_is_due(float(now))]


def test_the_user_is_told_ever_more_rarely(silence: Silence) -> None:
    assert notices(silence, 10, 100) == [5, 10, 20, 40, 80]


def test_the_user_is_told_of_each_silence_from_its_beginning(silence: Silence) -> None:
    notices(silence, 10, 100)
    silence.heard(100.0)
    assert notices(silence, 100, 130) == [5, 10, 20]


def asked_and_answered(silence: Silence) -> None:
    """It is asked for a sign of life and gives it."""
    assert silence.ping_is_due(10.0 + PING_AFTER)
    silence.heard(10.0 + PING_AFTER)
    silence.expect(100.0)


def test_silence_of_a_kernel_that_answers_while_it_computes_is_strange(silence: Silence) -> None:
    asked_and_answered(silence)
    silence.ping_is_due(100.0 + PING_AFTER)
    assert not silence.is_strange(100.0 + SILENT_AFTER - MOMENT)
    assert silence.is_strange(100.0 + SILENT_AFTER)


def test_silence_is_not_strange_before_it_was_asked(silence: Silence) -> None:
    asked_and_answered(silence)
    assert not silence.is_strange(1e9)


@pytest.mark.parametrize("busy", [True, False])
def test_silence_of_a_kernel_never_heard_when_asked_is_not_strange(busy: bool) -> None:
    silence = silent_since(lambda: busy)
    silence.heard(11.0)  # output, say
    silence.ping_is_due(11.0 + PING_AFTER)
    assert not silence.is_strange(1e9)


def test_an_answer_between_cells_says_nothing_about_those_within() -> None:
    silence = silent_since(lambda: False)
    asked_and_answered(silence)
    silence.ping_is_due(100.0 + PING_AFTER)
    assert not silence.is_strange(1e9)


def test_a_sign_of_life_ends_a_strange_silence(silence: Silence) -> None:
    asked_and_answered(silence)
    silence.ping_is_due(100.0 + PING_AFTER)
    silence.heard(200.0)
    assert not silence.is_strange(1e9)


def test_time_in_which_nothing_could_be_heard_does_not_count() -> None:
    health = Health()
    health.lost(10.0)
    health.postpone(100.0)
    assert health.check(100.0 + LOST_GRACE - 0.001) is None
    finding = health.check(100.0 + LOST_GRACE)
    assert finding is not None
    assert finding.verdict is Verdict.DIED


def test_there_is_nothing_to_postpone_while_it_is_well() -> None:
    health = Health()
    health.postpone(100.0)
    assert not health.waiting
    assert health.check(1000.0) is None
