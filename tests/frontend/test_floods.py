"""Very much output: all of it arrives, in order, once; and nobody else has to wait for it."""

import itertools
import statistics
import threading
import time
from collections.abc import Callable
from datetime import datetime

import pytest
import zmq

from kernel_magics.kernels.pool import KernelPool
from tests import frontend
from tests.frontend import LOAD, Desk, joined, kinds, remotely, terminal_with, transcript
from tests.support import steps
from tests.support.hosts import CellRun, KernelHost, TerminalHost, run_notebook
from tests.support.kernels import HandKernel
from tests.support.sandbox import Sandbox
from tests.support.waiting import wait_until

pytestmark = pytest.mark.full

desk, lasting_desk = frontend.desk, frontend.lasting_desk_newest_first

full = pytest.mark.full
LINES = pytest.mark.parametrize("lines", [5_000, pytest.param(20_000, marks=full)])

START = "%kernel_start --name own"

SERVER_LIMIT = 1000
"""Messages a second that jupyter_server passes on by default; it drops the rest."""


def printing(lines: int) -> str:
    return f"for i in range({lines}): print(i, flush=True)"


def numbered(lines: int) -> list[str]:
    return [str(i) for i in range(lines)]


@pytest.mark.quick
@LINES
def test_a_notebook_gets_every_line_once_and_in_order(desk: Desk, lines: int) -> None:
    with desk.owned():
        run = desk.remote(printing(lines), kernel="own").ok()
        assert run.stdout.splitlines() == numbered(lines)
        assert run.idle
        assert desk.remote("6 * 7", kernel="own").ok().result == "42"


@LINES
def test_a_capture_gets_every_line_once_and_in_order(desk: Desk, lines: int) -> None:
    with desk.owned():
        magic = f"get_ipython().run_cell_magic('remote', 'own', {printing(lines)!r})"
        assert desk.run(f"%%capture taken\n{magic}").ok().outputs == []
        assert desk.value("taken.stdout").splitlines() == numbered(lines)


@LINES
def test_a_terminal_gets_every_line_once_and_in_order(
    terminal_host: Callable[..., TerminalHost], lines: int
) -> None:
    terminal = terminal_with(terminal_host(), None)
    terminal.run(START)
    printed = terminal.run(remotely(printing(lines), kernel="own"), timeout=60.0)
    assert printed.splitlines() == numbered(lines)
    assert terminal.run("%remote own 6 * 7").endswith(": 42")


@LINES
def test_nbclient_gets_every_line_once_and_in_order(sandbox: Sandbox, lines: int) -> None:
    cells = [remotely(printing(lines), kernel="own"), remotely("6 * 7", kernel="own")]
    notebook = run_notebook(cells, sandbox, prologue=[LOAD, START])
    flood, after = notebook.cells[2:]
    text = "".join(output.text for output in flood.outputs)
    assert text.splitlines() == numbered(lines)
    assert after.outputs[0].data["text/plain"] == "42"


def most_in_a_second(run: CellRun) -> int:
    """The most stream messages that were published within one second, by their dates."""
    dates: list[datetime] = [
        message["header"]["date"] for message in run.messages if message["msg_type"] == "stream"
    ]
    seconds = [date.timestamp() for date in dates]
    return max(
        sum(1 for _ in itertools.takewhile(lambda end, start=start: end < start + 1.0, seconds[i:]))  # type: ignore[misc]
        for i, start in enumerate(seconds)
    )


def test_a_fast_loop_stays_below_what_a_server_passes_on(desk: Desk) -> None:
    run = desk.remote(printing(10_000)).ok()
    assert run.stdout.splitlines()[-1] == "9999"
    assert most_in_a_second(run) < SERVER_LIMIT


def test_two_streams_in_turn_stay_below_it_too(desk: Desk) -> None:
    code = (
        "import sys\n"
        "for i in range(3000): print(i, file=(sys.stdout, sys.stderr)[i % 2], flush=True)"
    )
    run = desk.remote(code).ok()
    assert run.stdout.splitlines() == [str(i) for i in range(0, 3000, 2)]
    assert run.stderr.splitlines() == [str(i) for i in range(1, 3000, 2)]


def test_slow_text_is_not_joined_and_not_held_back(desk: Desk) -> None:
    texts = [steps.stream(f"{i}\n") for i in range(100)]
    with desk.fake(steps.cell(*texts)):
        run = desk.remote("x", kernel="fake").ok()
    assert [output.content["text"] for output in run.outputs] == [f"{i}\n" for i in range(100)]


def test_joined_text_arrives_while_the_cell_still_runs(desk: Desk) -> None:
    texts = [steps.stream(f"{i}\n") for i in range(3000)]
    go = threading.Event()
    with desk.fake([steps.busy(), *texts, steps.hold(go), steps.reply(), steps.idle()]):
        try:
            run = desk.start("x", kernel="fake")
            desk.host.wait_for(lambda: run.stdout.endswith("\n2999\n"), what="all lines")
            assert not run.done
        finally:
            go.set()
        run.wait().ok()
    assert run.stdout.splitlines() == numbered(3000)


def test_displays_in_a_flood_are_never_joined(desk: Desk) -> None:
    code = """\
from IPython.display import display
for i in range(600):
    for j in range(5): print(i, j, flush=True)
    display(i)"""
    with desk.owned():
        run = desk.remote(code, kernel="own").ok()
    expected = [line for i in range(600) for line in (*(f"{i} {j}" for j in range(5)), f"<{i}>")]
    assert transcript(run).splitlines() == expected
    assert kinds(run) == ["stream", "display_data"] * 600


def test_a_flood_of_displays_arrives_whole(desk: Desk) -> None:
    displays = [steps.display(str(i), display_id=f"d{i}") for i in range(3000)]
    with desk.fake(steps.cell(*displays), transport="ipc"):
        run = desk.remote("x", kernel="fake").ok()
    shown = [output.content["data"]["text/plain"] for output in run.outputs]
    assert shown == numbered(3000)
    assert run.idle


def test_both_streams_keep_their_order_in_a_flood(desk: Desk) -> None:
    names = ("stdout", "stderr", "stdout", "stdout")
    texts = [steps.stream(f"{i}\n", names[i % 4]) for i in range(3000)]
    with desk.fake(steps.cell(*texts)):
        run = desk.remote("x", kernel="fake").ok()
    text = "".join(output.content["text"] for output in run.outputs)
    assert text.splitlines() == numbered(3000)
    by_line = [
        (output.content["name"], line)
        for output in joined(run)
        for line in output.content["text"].splitlines()
    ]
    assert by_line == [(names[i % 4], str(i)) for i in range(3000)]


def test_the_notebook_is_interruptible_in_a_flood(desk: Desk) -> None:
    run = desk.start("i = 0\nwhile True: print(i, flush=True); i += 1")
    desk.host.wait_for(lambda: len(run.stdout) > 20_000, what="the flood")
    pressed = time.monotonic()
    desk.host.interrupt()
    run.wait()
    assert time.monotonic() - pressed < 3.0
    assert run.status == "error"
    lines = [line for line in run.stdout.splitlines() if line.isdigit()]
    assert lines == numbered(len(lines))
    assert desk.remote("6 * 7").ok().result == "42"


@pytest.mark.quick
def test_text_beyond_the_limit_goes_to_a_file_that_the_notebook_names(desk: Desk) -> None:
    desk.run("%config KernelMagics.text_limit = 100_000").ok()
    try:
        texts = [steps.stream(f"{i:0999}\n") for i in range(300)]
        with desk.fake(steps.cell(*texts)):
            run = desk.remote("x", kernel="fake").ok()
    finally:
        desk.run("%config KernelMagics.text_limit = 10_000_000").ok()
    (file,) = desk.sandbox.temporary.glob("km-output-*.txt")
    try:
        lines = run.stdout.splitlines() + file.read_text().splitlines()
        assert [int(line) for line in lines] == list(range(300))
        assert str(file) in run.stderr
        assert file.stat().st_mode & 0o077 == 0
    finally:
        file.unlink()


@full
def test_a_slow_reader_of_a_flood_does_not_slow_another_kernel(
    hand_kernel: Callable[..., HandKernel],
) -> None:
    pool = KernelPool()
    try:
        flooding = pool.attach(hand_kernel().connection_file)
        other = pool.attach(hand_kernel().connection_file)
        shown: list[str] = []

        def show(item: object) -> None:
            # Busy, as somebody's display hook would be; a sleep would leave the others alone.
            until = time.perf_counter() + 0.0005
            while time.perf_counter() < until:
                pass
            shown.append(item if isinstance(item, str) else getattr(item, "content", {})["text"])

        flood = threading.Thread(
            target=flooding.run, args=(printing(30_000),), kwargs={"show": show}
        )
        flood.start()
        took = []
        while flood.is_alive():
            started = time.perf_counter()
            other.run("1")
            took.append(time.perf_counter() - started)
        flood.join()
        assert len(took) > 5
        assert statistics.median(took) < 0.05, f"{len(took)} cells"
        assert "".join(shown).splitlines()[-1] == "29999"
    finally:
        pool.close()


@pytest.mark.parametrize("when", ["before", "after"], ids=["before loading", "after loading"])
def test_a_reader_of_this_kernel_that_stalls_holds_nobody_up(
    kernel_host: Callable[..., KernelHost], shared_kernel: HandKernel, when: str
) -> None:
    host = kernel_host()
    with zmq.Context() as context, context.socket(zmq.SUB) as stalled:
        stalled.setsockopt(zmq.RCVHWM, 1)
        stalled.setsockopt(zmq.LINGER, 0)
        stalled.subscribe(b"")
        address = f"tcp://{host.info['ip']}:{host.info['iopub_port']}"
        if when == "before":
            stalled.connect(address)
        host.run(LOAD).ok()
        host.run(f"%kernel_attach {shared_kernel.connection_file} --name k").ok()
        if when == "after":
            stalled.connect(address)
        # It is subscribed once something waits for it; it reads nothing.
        wait_until(lambda: host.run("0").ok() and stalled.poll(200), what="it is subscribed")
        run = host.run(remotely("for i in range(3000): display(i)")).ok()
        assert len(run.of_type("display_data")) == 3000
        assert host.run("6 * 7").ok().result == "42"
