"""What the shell that holds a far kernel says, when that is not what we wrote."""

import subprocess

import pytest

from kernel_magics.connect.far_launch import _Session
from kernel_magics.errors import LaunchError


def session(*lines: str) -> _Session:
    """One whose shell says these lines."""
    child = subprocess.Popen(
        ["printf", "%s\\n", *lines], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    return _Session(child, "mark")


@pytest.mark.parametrize(
    "line", ["log\tkilled", "log\tf", "pid\tsoon", "ended\t", "pid\t1\t2", "more"]
)
def test_a_damaged_line_is_words_and_what_follows_is_heard(line: str) -> None:
    damaged = session(f"mark\t{line}", "mark\tlog\t6869", "mark\tended\t130")

    with pytest.raises(LaunchError, match=line.split("\t")[0]):
        damaged.wait_for_pid("far")

    assert damaged.over.wait(5.0)
    assert (damaged.log, damaged.status) == ("hi", -2)
