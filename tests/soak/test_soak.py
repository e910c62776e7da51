"""A short, seeded form of ``python -m tests.soak``."""

from __future__ import annotations

import pytest

from tests.support.sandbox import Sandbox

from .run import Soak


@pytest.mark.timeout(300)
def test_thirty_cells_among_faults_end_and_show_only_their_own(sandbox: Sandbox) -> None:
    report = Soak(sandbox, cells=30, seconds=120, seed=7).run()

    assert not report.broken
    assert report.cells == 30


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_hundred_cells_among_faults_end_and_show_only_their_own(sandbox: Sandbox) -> None:
    report = Soak(sandbox, cells=102, seconds=300, seed=2026).run()

    assert not report.broken
    assert report.cells >= 60
    assert sum(report.faults.values()) >= 5
