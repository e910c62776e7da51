"""The magics that bring variables over, in a notebook and in a terminal."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests import frontend
from tests.frontend import Desk, error_lines, terminal_with
from tests.support.hosts import CellRun, TerminalHost
from tests.support.kernels import HandKernel

desk, lasting_desk = frontend.desk, frontend.lasting_desk_newest_first


def said(run: CellRun) -> str:
    """The error as the front end shows it."""
    assert run.status == "error"
    return "\n".join([*error_lines(run), run.stderr])


def test_variables_go_there_and_come_back(desk: Desk) -> None:
    desk.run("a = [1, 2]; b = 'x'").ok()
    run = desk.run("%kernel_push k a b total=sum(a)").ok()
    assert run.outputs == []

    desk.remote("c = (a, b, total)").ok()
    desk.run("%kernel_pull k c --as d").ok()

    assert desk.value("d") == ([1, 2], "x", 3)
    desk.run("%kernel_pull k e=len(c) b").ok()
    assert desk.value("(e, b)") == (3, "x")


def test_a_remote_cell_takes_variables_and_gives_some_back(desk: Desk) -> None:
    desk.run("p = 20; q = 22").ok()

    run = desk.remote("r = p + q; print(r); s = -r", "-i p,q", "-o r,s")

    assert run.ok().stdout == "42\n"
    assert desk.value("(r, s)") == (42, -42)
    desk.run("%remote -i p -o t k t = p * 2").ok()
    assert desk.value("t") == 40


def test_nothing_comes_back_from_a_cell_that_failed(desk: Desk) -> None:
    desk.run("kept = 'old'").ok()

    assert desk.remote("kept = 'new'; 1 / 0", "-o kept").status == "error"
    desk.remote("1 / 0", "-o kept", "--no-raise-error").ok()

    assert desk.value("kept") == "old"


def test_a_cell_does_not_run_whose_variables_did_not_arrive(desk: Desk) -> None:
    desk.remote("ran = False").ok()

    assert "no_such_name" in said(desk.remote("ran = True", "-i no_such_name"))

    assert desk.remote("print(ran)").ok().stdout == "False\n"


@pytest.mark.parametrize(
    "line, words",
    [
        ("%kernel_push k no_such_name", "no_such_name: not transferred (k): NameError"),
        ("%kernel_push k x=1/0", "x: not transferred (k): ZeroDivisionError"),
        ("%kernel_push k for=1", "no variable of Python can be called so"),
        ("%kernel_push k a.b", "not transferred"),
        ("%kernel_pull k no_such_name", "not transferred (k): NameError"),
        ("%kernel_pull k x=1/0", "1/0: not transferred (k): ZeroDivisionError"),
        ("%kernel_pull k a b --as c", "--as c names one value, not 2"),
        ("%kernel_push k x=", "neither a name nor NAME=EXPRESSION"),
        ("%kernel_push nobody a", "no kernel matches 'nobody'"),
        ("%kernel_push k", "the following arguments are required: NAME"),
    ],
)
def test_what_is_wrong_is_one_line(desk: Desk, line: str, words: str) -> None:
    run = desk.run(line)

    shown = said(run)
    assert words in shown
    assert "kernel_magics/" not in shown


def test_braces_and_dollars_are_python_and_not_ipythons(desk: Desk) -> None:
    desk.run("name = 'x'").ok()

    desk.run("%kernel_push k \"w={name: '$name'}\"").ok()

    assert desk.remote("print(w)").ok().stdout == "{'x': '$name'}\n"


@pytest.mark.full
def test_values_pass_from_kernel_to_kernel(
    desk: Desk, hand_kernel: Callable[..., HandKernel]
) -> None:
    with desk.attached(hand_kernel()) as other:
        desk.remote("v = list(range(5))", kernel=other).ok()

        desk.run(f"%kernel_push k v n=len(v) --from {other}").ok()

        assert desk.remote("print(v, n)").ok().stdout == "[0, 1, 2, 3, 4] 5\n"
        assert desk.run("'v' in globals()").result == "False"


@pytest.mark.full
def test_a_long_transfer_shows_how_far_it_is(desk: Desk) -> None:
    desk.run("import kernel_magics.frontend.variables as _v; _v.SHOWN_AFTER = 0.0").ok()
    try:
        run = desk.run("%kernel_push k big=bytes(30_000_000)").ok()
    finally:
        desk.run("_v.SHOWN_AFTER = 1.0").ok()

    (first, *more) = [one.content["data"]["text/plain"] for one in run.outputs]
    assert first.startswith("big to k: ")
    assert (more or [first])[-1].startswith("big to k: 30 of 30 MB")


@pytest.mark.full
def test_ctrl_c_ends_a_transfer_and_sets_nothing(desk: Desk) -> None:
    desk.remote("slow = 1; import time").ok()
    desk.run("answer = 'old'").ok()

    with desk.kernel.busy():
        run = desk.host.start("%kernel_pull k answer=slow")
        desk.host.wait_for(lambda: "is busy" in run.stderr, what=lambda: f"{run}")
        desk.host.interrupt()
        run.wait()

    assert "TransferInterrupted" in said(run)
    assert desk.value("answer") == "old"
    assert desk.value("__import__('kernel_magics').pool['k'].pull('slow')") == 1


def test_a_terminal_does_the_same(
    terminal_host: Callable[..., TerminalHost], hand_kernel: Callable[..., HandKernel]
) -> None:
    terminal = terminal_with(terminal_host(), hand_kernel())

    terminal.run("x = 6")
    assert terminal.run("%kernel_push k x") == ""
    assert terminal.run("%%remote -o y k\ny = x * 7\n") == ""

    assert "42" in terminal.run("y")
    assert "NameError" in terminal.run("%kernel_pull k nothing_there")
