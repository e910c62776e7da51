"""What no row can show: kernels that die of an interrupt, and other requests beside a cell."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing

import pytest

from kernel_magics.connect.launch import LaunchOptions
from kernel_magics.kernels.kernel import Kernel
from kernel_magics.kernels.pool import KernelPool
from tests import frontend
from tests.frontend import Desk, plain
from tests.support import languages, parts
from tests.support.sandbox import Sandbox
from tests.support.waiting import PATIENCE, wait_until

new_desk = frontend.new_desk

DIES = """\
import signal, time
signal.signal(signal.SIGINT, signal.SIG_DFL)
print('begun', flush=True)
time.sleep(600)"""
"""A cell after which an interrupt ends ipykernel."""


@pytest.mark.full
@pytest.mark.parametrize("whose", ["own", "k"])
def test_a_kernel_that_dies_of_an_interrupt_is_said_to_have_died(
    new_desk: Callable[..., Desk], whose: str
) -> None:
    desk = new_desk()
    if whose == "own":
        desk.run("%kernel_start --name own").ok()
    job = desk.start(DIES, "--bg", kernel=whose)
    frontend.begun(desk, job)
    said = plain(desk.run(f"%kernel_interrupt {whose}").ok().stdout)
    assert said.startswith(f"{whose} died: ")
    assert "interrupt" not in said


# tslab.


@pytest.fixture
def jslab(sandbox: Sandbox) -> Generator[Kernel]:
    parts.require("jslab")
    with closing(KernelPool()) as pool:
        yield pool.start(LaunchOptions(**languages.kernelspec("jslab", sandbox)), "k")


@pytest.mark.full
def test_a_request_that_is_answered_while_a_cell_awaits_does_not_end_the_cell(
    jslab: Kernel,
) -> None:
    cell = jslab.submit(
        "console.log('begun');\n"
        "await new Promise(done => setTimeout(done, 3000)); console.log('end')"
    )
    wait_until(lambda: cell.running, what="it runs")
    answer = jslab.request("shell", "kernel_info_request", timeout=PATIENCE)
    assert answer is not None
    assert not cell.done
    result = cell.wait(timeout=PATIENCE)
    assert (result.status, result.stdout) == ("ok", "begun\nend\n")


@pytest.mark.full
def test_a_reply_is_known_by_its_request_whatever_it_calls_itself(jslab: Kernel) -> None:
    answer = jslab.request("shell", "comm_info_request", timeout=PATIENCE)
    assert answer is not None
    assert jslab.run("console.log('next')").stdout == "next\n"
