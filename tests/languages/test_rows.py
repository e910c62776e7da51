"""Every row with its real kernel, behind a real notebook's."""

import pytest

from tests.languages.kernels import NEXT, ROWS
from tests.languages.rows import Row, Whose, matches
from tests.languages.stage import Stage, seen

QUICK = ("python3", "xpython")
"""Kernels that come with pip and start quickly. All others belong to the full tier."""

CASES = [
    pytest.param(
        row,
        whose,
        id=f"{row.name}-{whose}",
        marks=[] if row.kernel in QUICK and row.act is None else [pytest.mark.full],
    )
    for row in ROWS
    for whose in row.whose
]


@pytest.mark.parametrize("row, whose", CASES)
def test_row(stage: Stage, row: Row, whose: Whose) -> None:
    name = stage.kernel(row.kernel, whose)

    lines = row.act(stage, name, row.code) if row.act else seen(stage.remote(name, row.code))

    assert matches(row.shows, lines, name), lines
    if stage.has(name):  # else the row has ended it
        code, printed = NEXT[row.kernel]
        run = stage.remote_soon(name, code).ok()
        assert printed in (run.stdout, run.stdout.strip(), run.result), run
    if name in stage.spoilt:
        stage.forget(name)
