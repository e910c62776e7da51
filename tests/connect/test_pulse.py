"""What the silence of a login means; time is passed in. With real ones: tests/kernels."""

from __future__ import annotations

from typing import cast

import pytest

from kernel_magics.connect import pulse as pulse_module
from kernel_magics.connect.pulse import (
    BEAT,
    EVERY,
    REOPEN_AFTER,
    SILENT_AFTER,
    TRICKLE,
    Pulse,
)
from kernel_magics.connect.ssh import Login


class Line:
    """What a pulse looks at; ``echoes`` whether the far side answers at once."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.heard_at = self.now
        self.traffic = 0
        self.stopped = False
        self.echoes = True
        self.asked = 0
        self.pulse_ = Pulse(cast(Login, self), self.now)

    def pulse(self) -> None:
        self.asked += 1
        if self.echoes:
            self.heard_at = self.now

    def pass_(self, seconds: float, *, traffic: int = 0) -> float:
        """Let time pass, in beats; return the silence then."""
        silence = 0.0
        for _ in range(round(seconds / BEAT)):
            self.now += BEAT
            self.traffic += traffic
            silence = self.pulse_.silence(self.now)
        return silence


@pytest.fixture
def line() -> Line:
    return Line()


def test_a_login_that_echoes_is_not_silent(line: Line) -> None:
    assert all(line.pass_(BEAT) == 0.0 for _ in range(60))
    assert line.asked == pytest.approx(60 * BEAT / (EVERY + BEAT), abs=10)


def test_silence_counts_from_what_was_asked_and_ends_with_the_echo(line: Line) -> None:
    line.echoes = False
    silence = line.pass_(SILENT_AFTER + EVERY + BEAT)
    assert SILENT_AFTER <= silence <= SILENT_AFTER + BEAT
    assert line.asked == 1  # one is enough: the line keeps it
    line.heard_at = line.now
    assert line.pass_(BEAT) == 0.0


def test_an_echo_behind_a_large_output_is_only_late(line: Line) -> None:
    line.echoes = False
    assert line.pass_(100.0, traffic=TRICKLE + 1) < SILENT_AFTER


def test_output_after_a_silence_proves_one_direction_only(line: Line) -> None:
    line.echoes = False
    before = line.pass_(EVERY + SILENT_AFTER + BEAT)
    assert line.pass_(BEAT, traffic=TRICKLE + 1) > before


def test_the_time_in_which_we_slept_does_not_count(line: Line) -> None:
    line.echoes = False
    line.pass_(EVERY + BEAT)
    line.now += 3600.0
    assert line.pass_(BEAT) <= 2 * BEAT


def test_a_stopped_ssh_is_not_replaced(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse_module, "TRAFFIC_SHOWS", True)
    assert not line.pulse_.may_be_replaced(REOPEN_AFTER - BEAT)
    assert line.pulse_.may_be_replaced(REOPEN_AFTER)
    line.stopped = True
    assert not line.pulse_.may_be_replaced(REOPEN_AFTER)


def test_without_a_look_at_the_traffic_ssh_decides_itself(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse_module, "TRAFFIC_SHOWS", False)
    assert not line.pulse_.may_be_replaced(REOPEN_AFTER)
