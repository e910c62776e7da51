"""What takes long says what it is doing, and what is quick says nothing."""

from __future__ import annotations

import threading
import time

import pytest

from kernel_magics.frontend import progress
from kernel_magics.frontend.progress import Progress
from tests.support.waiting import wait_until


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SAY_AFTER", 0.1)


def test_what_is_quick_says_nothing(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SAY_AFTER", 60.0)
    with Progress(said.append) as doing:
        doing.step("connecting")
        doing.step("looking")
    assert said == []


def test_a_slow_step_is_told_once(said: list[str]) -> None:
    with Progress(said.append) as doing:
        doing.step("connecting")
        wait_until(lambda: said, what="a word")
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > 0.3, what="no other word")
    assert said == ["connecting ..."]


def test_each_step_that_is_slow_is_told(said: list[str]) -> None:
    with Progress(said.append) as doing:
        for step in ("connecting", "looking", "waiting"):
            doing.step(step)
            wait_until(lambda step=step: f"{step} ..." in said, what="a word")
    assert said == ["connecting ...", "looking ...", "waiting ..."]


def test_nothing_is_said_while_the_user_is_asked(said: list[str]) -> None:
    with Progress(said.append) as doing:
        doing.step("connecting")
        with doing.pause():
            began = time.monotonic()
            wait_until(lambda: time.monotonic() - began > 0.3, what="a user who thinks")
        assert said == []
        wait_until(lambda: said, what="a word afterwards")
    assert said == ["connecting ..."]


def test_an_error_ends_its_thread(said: list[str]) -> None:
    def fail() -> None:
        with Progress(said.append) as doing:
            doing.step("dividing")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not any(each.name == "kernel_magics progress" for each in threading.enumerate())
