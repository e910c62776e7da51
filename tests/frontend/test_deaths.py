"""A kernel that ends under its cell ends the cell: soon, with a name, with what it had printed."""

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests import frontend
from tests.frontend import (
    NEWEST_FIRST,
    Age,
    Desk,
    begun,
    error_lines,
    remotely,
    terminal_with,
    transcript,
)
from tests.support import parts
from tests.support.hosts import TerminalHost
from tests.support.kernels import HandKernel
from tests.support.tiers import full

new_desk = frontend.new_desk

ATTACHED_WITHIN, OWNED_WITHIN = 3.0, 2.0
"""Seconds from the end of a process to that of the cell: somebody else's, one of ours."""

FILES = """\
import os, time
from pathlib import Path
for i in range(20): print(i, flush=True)
print('beg' + 'un', flush=True)
while not Path({end!r}).exists(): time.sleep(0.005)
os._exit(0)"""

SHOWN = "".join(f"{i}\n" for i in range(20)) + "begun\n"


@pytest.fixture(params=NEWEST_FIRST)
def desk(
    request: pytest.FixtureRequest, new_desk: Callable[..., Desk], shared_kernel: HandKernel
) -> Desk:
    """With a second kernel attached as ``other``."""
    age: Age = request.param
    made = new_desk(age)
    made.attach(shared_kernel.connection_file, "other")
    return made


def others_work(desk: Desk) -> None:
    assert desk.remote("6 * 7", kernel="other").ok().result == "42"


@pytest.mark.parametrize("how", ["killed", *full("ends itself")])
def test_an_attached_kernel_s_death_ends_its_cell(desk: Desk, tmp_path: Path, how: str) -> None:
    end = tmp_path / "end"
    run = desk.start(FILES.format(end=str(end)))
    begun(desk, run)
    died = time.monotonic()
    if how == "killed":
        desk.kernel.kill()
    else:
        end.touch()
    run.wait()
    assert time.monotonic() - died < ATTACHED_WITHIN
    assert transcript(run) == SHOWN + "<error>\n"
    (line,) = error_lines(run)
    assert line.startswith("KernelDied: kernel k died: ")
    assert line.endswith("; the code may have run, in part or whole")
    others_work(desk)
    assert desk.remote("1").reply["ename"] == "KernelDied"


@pytest.mark.full
@pytest.mark.parametrize("how", ["killed", *full("ends itself")])
def test_an_owned_kernel_s_death_ends_its_cell(desk: Desk, tmp_path: Path, how: str) -> None:
    end = tmp_path / "end"
    with desk.owned():
        pid = int(desk.remote("__import__('os').getpid()", kernel="own").ok().result or 0)
        run = desk.start(FILES.format(end=str(end)), kernel="own")
        begun(desk, run)
        died = time.monotonic()
        if how == "killed":
            psutil.Process(pid).kill()
        else:
            end.touch()
        run.wait()
        assert time.monotonic() - died < OWNED_WITHIN
        assert transcript(run) == SHOWN + "<error>\n"
        (line,) = error_lines(run)
        status = "was ended by SIGKILL" if how == "killed" else "ended with exit code 0"
        assert line.startswith(f"KernelDied: kernel own died: its process {status} ")
        others_work(desk)
        desk.run("%kernel_restart own").ok()
        assert desk.remote("6 * 7", kernel="own").ok().result == "42"


def test_a_restart_behind_the_same_ports_ends_the_cell(desk: Desk, tmp_path: Path) -> None:
    desk.remote("x = 1").ok()
    run = desk.start(FILES.format(end=str(tmp_path / "end")))
    begun(desk, run)
    restarted = time.monotonic()
    desk.kernel.restart_behind_same_ports()
    run.wait()
    assert time.monotonic() - restarted < ATTACHED_WITHIN
    assert transcript(run) == SHOWN + "<error>\n"
    # Whether it answers in time decides what it is called.
    (line,) = error_lines(run)
    assert line.startswith(("KernelRestarted: kernel k ", "KernelDied: kernel k "))
    others_work(desk)
    assert desk.remote("'x' in globals()").ok().result == "False"


@pytest.mark.full
def test_a_flood_that_a_kernel_sent_before_its_death_is_shown(desk: Desk, tmp_path: Path) -> None:
    end = tmp_path / "end"
    run = desk.start(FILES.format(end=str(end)).replace("range(20)", "range(900)"))
    desk.host.wait_for(lambda: "begun" in run.stdout, what="the cell runs")
    end.touch()
    run.wait()
    assert run.stdout.splitlines() == [*(str(i) for i in range(900)), "begun"]
    assert run.reply["ename"] == "KernelDied"


@pytest.mark.full
def test_cells_that_wait_behind_a_dead_kernel_s_are_not_sent(desk: Desk, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    run = desk.start("print('begun', flush=True); __import__('time').sleep(600)")
    begun(desk, run)
    desk.kernel.kill()
    run.wait()
    after = desk.remote(f"open({str(ran)!r}, 'w')")
    (line,) = error_lines(after)
    assert line.endswith("; the code did not run")
    desk.kernel.restart_behind_same_ports()
    assert desk.remote("6 * 7").ok().result == "42"
    assert not ran.exists()


# In a terminal.


@pytest.fixture(params=NEWEST_FIRST)
def terminal(
    request: pytest.FixtureRequest,
    terminal_host: Callable[..., TerminalHost],
    shared_kernel: HandKernel,
) -> TerminalHost:
    """With a kernel attached as ``other``."""
    python = None
    if request.param == "floor":
        parts.require("floor")
        python = parts.floor_python()
    terminal = terminal_with(terminal_host(python=python), None)
    terminal.run(f"%kernel_attach {shared_kernel.connection_file} --name other")
    return terminal


@pytest.mark.full
@pytest.mark.parametrize(
    "how", ["killed", "restarted", pytest.param("ends itself", marks=pytest.mark.full)]
)
def test_a_terminal_s_cell_ends_with_an_attached_kernel(
    terminal: TerminalHost, hand_kernel: Callable[..., HandKernel], tmp_path: Path, how: str
) -> None:
    end, kernel = tmp_path / "end", hand_kernel()
    terminal.run(f"%kernel_attach {kernel.connection_file} --name k")
    terminal.start(remotely(FILES.format(end=str(end))))
    shown = terminal.expect("begun")
    died = time.monotonic()
    match how:
        case "killed":
            kernel.kill()
        case "ends itself":
            end.touch()
        case _:
            kernel.restart_behind_same_ports()
    (line,) = terminal.finish().splitlines()
    assert time.monotonic() - died < ATTACHED_WITHIN
    assert shown.split() == [str(i) for i in range(20)]
    assert line.startswith(("KernelDied: kernel k ", "KernelRestarted: kernel k "))
    assert terminal.run("%remote other 6 * 7").endswith(": 42")
    if how == "restarted":
        assert terminal.run("%remote k 6 * 7").endswith(": 42")


@pytest.mark.full
@pytest.mark.parametrize("how", ["killed", *full("ends itself")])
def test_a_terminal_s_cell_ends_with_an_owned_kernel(
    terminal: TerminalHost, tmp_path: Path, how: str
) -> None:
    end = tmp_path / "end"
    terminal.run("%kernel_start --name own")
    pid = int(terminal.run("%remote own __import__('os').getpid()").rsplit(" ", 1)[1])
    terminal.start(remotely(FILES.format(end=str(end)), kernel="own"))
    terminal.expect("begun")
    died = time.monotonic()
    if how == "killed":
        psutil.Process(pid).kill()
    else:
        end.touch()
    (line,) = terminal.finish().splitlines()
    assert time.monotonic() - died < OWNED_WITHIN
    assert line.startswith("KernelDied: kernel own died: its process ")
    assert terminal.run("%remote other 6 * 7").endswith(": 42")
    terminal.run("%kernel_shutdown own")
