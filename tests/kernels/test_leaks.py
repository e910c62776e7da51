"""What attaching, starting, abandoning and unloading leave behind: nothing.

Counted in a process of its own, where nobody else opens files, starts threads or takes memory.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.support.hosts import KernelHost
from tests.support.kernels import HandKernel
from tests.support.processes import Process
from tests.support.sandbox import MARK, Sandbox
from tests.support.tiers import full
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc"),
]

StartHand = Callable[..., HandKernel]

MEGABYTE = 1_000_000

ALLOWED = 5 * MEGABYTE
"""Bytes of memory that may come on top. What only one round in ten leaves would be seen: each has
500 kB of output."""

WARM_UP = 20
"""Rounds before the first count: modules are imported, caches filled, the heap finds its size."""

LEFT_WITHIN = 5.0
"""Seconds after unloading in which everything of ours is gone."""

ROUNDS = r"""
import gc, json, os, signal, sys, threading, time
from collections import Counter
from pathlib import Path
import psutil
from kernel_magics.errors import Abandoned, KernelDetached
from kernel_magics.kernels.pool import KernelPool

how, file, folder, warm_up, rounds = sys.argv[1], *map(Path, sys.argv[2:4]), *map(int, sys.argv[4:])
process = psutil.Process()
PATIENCE = 60
OUTPUT = "print('x' * 500_000)\n"


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def touch(name):
    return f"import pathlib; pathlib.Path({str(folder / name)!r}).touch()\n"


def stays(number):
    '''A cell that prints, and runs on until it is told; an interrupt makes a file.'''
    return (
        OUTPUT
        + f"import signal\ndef noticed(*_):\n    {touch(f'interrupted{number}')}"
        + "signal.signal(signal.SIGINT, noticed)\nprint('begun', flush=True)\n"
        + touch(f"begun{number}")
        + f"while not pathlib.Path({str(folder / f'go{number}')!r}).exists():\n"
        + "    __import__('time').sleep(0.002)"
    )


def let_go(number):
    (folder / f"go{number}").touch()


def attach_run_detach(number):
    kernel = pool.attach(file, "k")
    assert kernel.run(OUTPUT).stdout == "x" * 500_000 + "\n"
    pool.detach("k")


def attach_and_abandon(number):
    kernel = pool.attach(file, "k")
    running, queued = kernel.submit(stays(number)), kernel.submit(OUTPUT)
    begun = threading.Event()

    def show(item):
        if not isinstance(item, str) and "begun" in item.content.get("text", ""):
            begun.set()

    def wait():
        try:
            running.wait(show=show)
        except KernelDetached as error:
            ended.append(error.may_have_run)

    ended = []
    waiting = threading.Thread(target=wait)
    waiting.start()
    assert begun.wait(PATIENCE)
    pool.detach("k")
    waiting.join(PATIENCE)
    assert ended == [True]
    assert queued.done
    let_go(number)


def abandon_by_ctrl_c(number):
    kernel = pool.attach(file, "k")

    def press_twice():
        until((folder / f"begun{number}").exists)
        os.kill(os.getpid(), signal.SIGINT)
        until((folder / f"interrupted{number}").exists)
        os.kill(os.getpid(), signal.SIGINT)

    pressing = threading.Thread(target=press_twice)
    pressing.start()
    try:
        kernel.run(stays(number), show=lambda item: None)
    except Abandoned:
        pass
    else:
        raise AssertionError("the cell ended by itself")
    finally:
        let_go(number)
    pressing.join(PATIENCE)
    pool.detach("k")


def with_magics(number):
    for line in (
        f"%kernel_attach {file} --name k",
        f"%%capture\n%remote k {OUTPUT}",
        "%remote -q k 1 / 0",
        "%kernel_detach k",
    ):
        result = shell.run_cell(line)
        assert result.success == ("1 / 0" not in line), line
    # IPython keeps all that a session has printed, captured or not, since version 9.
    getattr(shell.history_manager, "outputs", {}).clear()


def start_and_shut_down(number):
    kernel = pool.start(name="k")
    assert kernel.run(OUTPUT).status == "ok"
    pool.shutdown("k")


def count():
    '''What there is when all has come to rest: ZeroMQ closes sockets on a thread of its own.

    The least that is seen in a second counts.
    '''
    least = None
    for _ in range(50):
        gc.collect()
        now = Counter(str(type(one).__module__) + "." + type(one).__name__
                      for one in gc.get_objects())
        now = Counter({name: n for name, n in now.items() if name.startswith("kernel_magics.")})
        now |= {"descriptors": process.num_fds(), "threads": process.num_threads()}
        least = now if least is None else least & now
        time.sleep(0.02)
    return {**least, "memory": process.memory_info().rss}


if how == "with_magics":
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    shell = InteractiveShell(config=Config(HistoryManager={"enabled": False}))
    shell.run_line_magic("load_ext", "kernel_magics")
    from kernel_magics import pool
else:
    pool = KernelPool()
play = globals()[how]
for number in range(warm_up):
    play(number)
before = count()
for number in range(warm_up, warm_up + rounds):
    play(number)
after = count()
(folder / "counted").write_text(json.dumps([before, after]))
pool.close()
"""


def left(
    how: str, hand: HandKernel, sandbox: Sandbox, rounds: int, *, warm_up: int = WARM_UP
) -> dict[str, int]:
    """Play rounds in a process of their own; return what it has more than after the warm-up.

    Counted are descriptors, threads, the objects of each of our classes, and bytes of memory if
    they are more than is allowed.
    """
    argv = [sys.executable, "-c", ROUNDS, how, hand.connection_file, sandbox.work, warm_up, rounds]
    with Process(
        list(map(str, argv)),
        env=sandbox.environment(),
        cwd=sandbox.work,
        log=sandbox.work / "rounds.log",
    ) as process:
        assert process.wait(100) == 0, process.output[-3000:]
    before, after = json.loads((sandbox.work / "counted").read_text())
    assert after["kernel_magics.wire.reactor.Reactor"] == 1  # the count counts
    more = {name: number - before.get(name, 0) for name, number in after.items()}
    if more["memory"] <= ALLOWED:
        del more["memory"]
    return {name: number for name, number in more.items() if number > 0}


@pytest.mark.full
@pytest.mark.quick
@pytest.mark.parametrize("rounds", [20, *full(100)])
@pytest.mark.parametrize(
    "how", ["with_magics", *full("attach_run_detach", "attach_and_abandon", "abandon_by_ctrl_c")]
)
def test_kernels_that_were_let_go_of_leave_nothing(
    hand_kernel: StartHand, sandbox: Sandbox, how: str, rounds: int
) -> None:
    assert left(how, hand_kernel("tcp"), sandbox, rounds) == {}


@pytest.mark.full
def test_kernels_of_ours_that_were_shut_down_leave_nothing(
    hand_kernel: StartHand, sandbox: Sandbox
) -> None:
    assert left("start_and_shut_down", hand_kernel("tcp"), sandbox, 15, warm_up=5) == {}


# The end of a session is played in tests/faults/test_hosts.py, that of a process in test_owned.py.


def started_in(sandbox: Sandbox) -> set[int]:
    """The processes that were started in a sandbox, at whatever depth, and live."""
    found = set()
    for process in psutil.process_iter():
        try:
            if (
                process.environ().get(MARK) == str(sandbox.root)
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.add(process.pid)
        except psutil.Error:
            continue
    return found


def files_in(sandbox: Sandbox) -> set[Path]:
    return {path for folder in (sandbox.runtime, sandbox.temporary) for path in folder.iterdir()}


BUSY = "import pathlib; pathlib.Path({begun!r}).touch()\nwhile True: pass"


@pytest.mark.full
@pytest.mark.quick
def test_unloading_while_cells_run_leaves_nothing(
    hand_kernel: StartHand, kernel_host: Callable[..., KernelHost], sandbox: Sandbox
) -> None:
    hand, host = hand_kernel("tcp"), kernel_host()
    processes, files = started_in(sandbox), files_in(sandbox)
    assert {hand.pid, host.pid} <= processes
    assert {hand.connection_file, host.connection_file} <= files
    host.run("%load_ext kernel_magics\nimport kernel_magics as km").ok()
    host.run(f"%kernel_attach {hand.connection_file} --name theirs").ok()
    host.run("%kernel_start --name own").ok()
    assert started_in(sandbox) > processes
    assert files_in(sandbox) > files
    for name in ("theirs", "own"):
        begun = sandbox.work / f"{name} has begun"
        host.run(f"km.pool[{name!r}].submit({BUSY.format(begun=str(begun))!r})").ok()
        wait_until(begun.exists, what=f"a cell runs in {name}")

    host.run("%unload_ext kernel_magics").ok()

    wait_until(
        lambda: started_in(sandbox) == processes and files_in(sandbox) == files,
        LEFT_WITHIN,
        what=lambda: f"{started_in(sandbox) - processes}, {files_in(sandbox) ^ files}",
    )
