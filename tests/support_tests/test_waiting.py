"""Waiting is the base of all other tests: it has to end, and to say what it waited for."""

import pytest

from tests.support.waiting import Deadline, wait_until


def test_a_condition_that_comes_true_gives_its_value() -> None:
    answers = iter([None, [], ["found"]])
    assert wait_until(lambda: next(answers), what="found") == ["found"]


def test_a_condition_that_stays_false_ends_in_an_error_that_names_it() -> None:
    with pytest.raises(TimeoutError, match=r"not within 0.02 s: the moon is blue"):
        wait_until(lambda: False, 0.02, what="the moon is blue")


def test_a_condition_is_looked_at_once_more_after_the_deadline() -> None:
    assert wait_until(lambda: True, Deadline(0.0), what="anything")
