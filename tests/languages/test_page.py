"""The page in the documentation is what the rows say."""

from collections import Counter

from tests.languages.kernels import KERNELS, NEXT, ROWS
from tests.languages.rows import PAGE, page


def test_each_row_has_a_name_of_its_own() -> None:
    names = Counter(row.name for row in ROWS)
    assert [name for name in names if names[name] > 1] == []


def test_each_kernel_has_rows_and_a_cell_that_works_after_each() -> None:
    assert {about.name for about in KERNELS} == {row.kernel for row in ROWS} == set(NEXT)


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(KERNELS, ROWS), "python -m tests.languages writes it anew"
