"""Each file's tests stay together, and those of a folder that shares more."""

import pytest

from tests.support.sandbox import CHECKOUT
from tests.support.workers import LONGEST, TOGETHER, unit


def test_a_file_is_one_worker_s() -> None:
    assert unit("tests/kernels/test_pool.py::test_a[1::2]") == "tests/kernels/test_pool.py"


@pytest.mark.parametrize("folder", TOGETHER)
def test_a_folder_that_shares_more_is_one_worker_s(folder: str) -> None:
    files = sorted((CHECKOUT / folder).glob("test_*.py"))
    assert len(files) > 1
    assert {unit(f"{folder}/{file.name}::test_it") for file in files} == {folder}


@pytest.mark.parametrize("file", LONGEST)
def test_what_takes_longest_is_there(file: str) -> None:
    assert unit(f"{file}::test_it") == file
    assert (CHECKOUT / file).is_file()
