"""A short, seeded form of ``python -m tests.fuzz``."""

from __future__ import annotations

import pytest

from .__main__ import fuzz
from .targets import TARGETS


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_a_thousand_damaged_inputs_break_nothing(target: str) -> None:
    fuzz(target, 1_000, seed=20_261_121)


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("target", sorted(TARGETS))
def test_twenty_five_thousand_damaged_inputs_break_nothing(target: str) -> None:
    fuzz(target, 25_000, seed=0)


def test_a_broken_rule_is_found_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: object) -> None:
        raise ValueError("no")

    monkeypatch.setitem(TARGETS, "message", fails)

    with pytest.raises(AssertionError, match="message: seed 7"):
        fuzz("message", 1, seed=7)
