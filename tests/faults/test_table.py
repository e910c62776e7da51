"""The table in the documentation is what the rows say."""

from collections import Counter

from tests.faults.faces import BOTH
from tests.faults.rows import QUICK, TABLE, all_rows, table

ROWS = [(file, row) for file, rows in all_rows().items() for row in rows]


def test_there_are_rows_enough() -> None:
    assert len(ROWS) >= 60


def test_each_row_has_a_name_of_its_own() -> None:
    names = Counter(row.name for _, row in ROWS)
    assert [name for name in names if names[name] > 1] == []


def test_each_fault_is_described_once() -> None:
    faults = Counter((row.what, row.hosts) for _, row in ROWS)
    assert [fault for fault in faults if faults[fault] > 1] == []


def test_most_rows_are_played_in_both_hosts() -> None:
    assert sum(tuple(row.hosts) == BOTH for _, row in ROWS) >= 60


def test_the_slow_rows_of_the_quick_tier_are_there() -> None:
    assert {row.name for _, row in ROWS if row.slow and not row.full} > QUICK


def test_the_table_is_up_to_date() -> None:
    assert TABLE.read_text() == table(), "python -m tests.faults writes it anew"
