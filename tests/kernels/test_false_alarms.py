"""Kernels, and a host, that give no sign of life for long: every cell ends as if they had.

The cases take up to 40 s by their nature, so all that are wanted are played side by side. What
somebody else's kernel does when it is stopped, or held by C code, is played in ``tests/faults``.
"""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from kernel_magics.connect.launch import LaunchOptions
from kernel_magics.kernels.execution import Execution
from kernel_magics.kernels.kernel import Kernel
from kernel_magics.kernels.pool import KernelPool
from kernel_magics.protocol.message import Message
from tests.support import languages, parts
from tests.support.hosts import KernelHost
from tests.support.kernels import HandKernel, Kind
from tests.support.sandbox import Sandbox
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.full, pytest.mark.timeout(200)]

LONG = 40
"""Seconds that a cell of another language takes."""

HELD = 30
"""Seconds in which nothing but C code runs in a kernel, or nothing at all in the host."""

STOPPED = 8
"""Seconds that a kernel of ours is stopped: it counts as unresponsive after 10."""

END_WITHIN = 100.0
"""Seconds after which a cell has to have ended in some way."""

SILENT = "has been silent for"

LINES = 100
"""tslab drops what a cell prints beyond some 500 lines, with every client."""


@dataclass(frozen=True)
class Case:
    """One kind of long silence; ``play`` does it and judges how the cells ended."""

    play: Callable[[Sandbox], None]
    part: str | None = None


@dataclass(frozen=True)
class Ended:
    """How a cell ended that raised no error here."""

    status: str
    stdout: str
    notices: list[str]


def ended(execution: Execution) -> Ended:
    """Wait for a cell and take all that it showed."""
    shown: list[Message | str] = []
    result = execution.wait(show=shown.append, timeout=END_WITHIN)
    messages = [each for each in shown if isinstance(each, Message)]
    assert {each.type for each in messages} <= {"stream"}, messages
    stdout = "".join(each.content["text"] for each in messages if each.content["name"] == "stdout")
    return Ended(result.status, stdout, [each for each in shown if isinstance(each, str)])


def last(seconds: float) -> None:
    """Let the silence last for so long; nothing is waited for."""
    threading.Event().wait(seconds)


# Kernels of other languages, which answer nothing while they compute.

R_LINES = f"for (i in 1:{LINES}) cat('line ', i, '\\n', sep = '')"

R_SLEEPS = f"cat('begun\\n')\nSys.sleep({LONG})\n{R_LINES}"

R_COMPUTES = (
    f"cat('begun\\n')\nend <- Sys.time() + {LONG}\nwhile (Sys.time() < end) {{}}\n{R_LINES}"
)

JS_COMPUTES = f"""\
console.log('begun');
const end = Date.now() + {LONG}000;
while (Date.now() < end) {{}}
for (let i = 1; i <= {LINES}; i++) console.log('line ' + i);"""

WHOLE = "begun\n" + "".join(f"line {i}\n" for i in range(1, LINES + 1))


@contextmanager
def kernel_of(language: str, home: Sandbox) -> Generator[Kernel]:
    """A kernel of ours."""
    with closing(KernelPool()) as pool:
        yield pool.start(LaunchOptions(**languages.kernelspec(language, home)))


def r_sleeps(home: Sandbox) -> None:
    with kernel_of("ir", home) as kernel:
        judge_long(ended(kernel.submit(R_SLEEPS)))


def r_is_stopped_for_a_moment(home: Sandbox) -> None:
    with kernel_of("ir", home) as kernel:
        execution = kernel.submit(R_SLEEPS)
        last(13)  # it has been mute for longer than a stopped process may be stopped
        assert kernel.pid is not None
        os.kill(kernel.pid, signal.SIGSTOP)
        last(2)
        os.kill(kernel.pid, signal.SIGCONT)
        judge_long(ended(execution))


def r_of_somebody_else_computes(home: Sandbox) -> None:
    with kernel_of("ir", home) as theirs, closing(KernelPool()) as pool:
        assert theirs.info.path is not None
        kernel = pool.attach(theirs.info.path)
        assert kernel.owned is None
        judge_long(ended(kernel.submit(R_COMPUTES)))


def javascript_computes(home: Sandbox) -> None:
    with kernel_of("jslab", home) as kernel:
        judge_long(ended(kernel.submit(JS_COMPUTES)))


def judge_long(cell: Ended) -> None:
    """Ok, all of its output, and told of the silence, without which nothing was tried here."""
    assert (cell.status, cell.stdout) == ("ok", WHOLE)
    assert cell.notices
    assert all(SILENT in notice for notice in cell.notices), cell.notices


# Python kernels of ours.


def begins(begun: Path, code: str) -> str:
    """A cell that says that it has begun by a file."""
    return f"print('begun', flush=True)\n{touch(begun)}\n{code}"


def touch(path: Path) -> str:
    """Code that makes a file."""
    return f"import pathlib; pathlib.Path({str(path)!r}).touch()"


def until(go: Path) -> str:
    """Code that waits for a file."""
    return f"import time\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)"


def held_by_c_code(home: Sandbox) -> None:
    with closing(KernelPool()) as pool:
        kernel = pool.start()
        code = f"import ctypes\nctypes.PyDLL(None).sleep({HELD})\nprint('ended')"
        cell = ended(kernel.submit(begins(home.work / "held", code)))
    # Heartbeats need no interpreter, so there is nothing to tell.
    assert cell == Ended("ok", "begun\nended\n", [])


def stopped(home: Sandbox) -> None:
    begun, go = home.work / "stopped", home.work / "go on"
    with closing(KernelPool()) as pool:
        kernel = pool.start()
        assert kernel.pid is not None
        process = psutil.Process(kernel.pid)
        execution = kernel.submit(begins(begun, f"{until(go)}\nprint('ended')"))
        wait_until(begun.exists, what="the cell runs")
        process.suspend()
        wait_until(lambda: process.status() == psutil.STATUS_STOPPED, what="it is stopped")
        last(STOPPED)
        process.resume()
        go.touch()
        cell = ended(execution)
    assert (cell.status, cell.stdout) == ("ok", "begun\nended\n")
    assert len(cell.notices) == 1
    assert SILENT in cell.notices[0]


# The host.

THEIRS: dict[str, Kind] = {"tcp": "tcp", "tcp2": "tcp", "ipc": "ipc"}
OWN = ("own", "own2")

WHILE_STOPPED = ("tcp", "own")
"""Those that print while the host is stopped, and whose cells end meanwhile."""

AFTERWARDS = ("ipc",)
"""The one that prints meanwhile, and whose cell ends afterwards; all others say nothing until
then."""

COUNTS = "import time\nfor n in range(100):\n    print(n, flush=True); time.sleep(0.1)"

COUNTED = "".join(f"{n}\n" for n in range(100))

RUN_ALL = """\
executions = [km.pool[name].submit(code) for name, code in {codes!r}.items()]
print('began', flush=True)
for execution in executions:
    result = execution.wait()
    print(result.kernel, result.status, repr(result.stdout))"""


def host_stopped(home: Sandbox) -> None:
    go = home.work / "host goes on"
    begun = {name: home.work / f"{name} has begun" for name in (*THEIRS, *OWN)}
    over = {name: home.work / f"{name} is over" for name in WHILE_STOPPED}
    codes, printed = {}, {}
    for name in (*THEIRS, *OWN):
        counts = name in (*WHILE_STOPPED, *AFTERWARDS)
        printed[name] = f"begun\n{COUNTED if counts else ''}ended\n"
        lines = [COUNTS if counts else "", "" if name in over else until(go)]
        lines += ["print('ended', flush=True)", touch(over[name]) if name in over else ""]
        codes[name] = begins(begun[name], "\n".join(lines))
    with ExitStack() as stack:
        hands = {name: stack.enter_context(HandKernel(kind, home)) for name, kind in THEIRS.items()}
        host = stack.enter_context(KernelHost(home))
        host.run("%load_ext kernel_magics\nimport kernel_magics as km").ok()
        for name in OWN:
            host.run(f"%kernel_start --name {name}").ok()
        for name, hand in hands.items():
            hand.wait_until_listening()
            host.run(f"%kernel_attach {hand.connection_file} --name {name}").ok()
        cell = host.start(RUN_ALL.format(codes=codes))
        host.wait_for(lambda: "began" in cell.stdout, what=lambda: f"{cell}")
        wait_until(lambda: all(each.exists() for each in begun.values()), what="all cells run")
        assert not any(each.exists() for each in over.values())
        os.kill(host.pid, signal.SIGSTOP)
        last(HELD)
        assert all(each.exists() for each in over.values()), "some end while the host is stopped"
        os.kill(host.pid, signal.SIGCONT)
        go.touch()
        cell.wait(END_WITHIN).ok()
        results = [f"{name} ok {text!r}" for name, text in printed.items()]
        assert cell.stdout.splitlines() == ["began", *results]
        assert cell.stderr == ""
        host.run("%unload_ext kernel_magics").ok()


# All of them at once.

CASES = {
    "an R kernel of ours sleeps": Case(r_sleeps, "ir"),
    "an R kernel of ours is stopped for a moment": Case(r_is_stopped_for_a_moment, "ir"),
    "an R kernel of somebody else computes": Case(r_of_somebody_else_computes, "ir"),
    "a JavaScript kernel computes": Case(javascript_computes, "jslab"),
    "C code holds the interpreter of a kernel of ours": Case(held_by_c_code),
    "a kernel of ours is stopped and goes on": Case(stopped),
    "the host is stopped while five kernels run cells": Case(host_stopped),
}


class Outcomes:
    """How the cases went that were played in a place."""

    def __init__(self, home: Sandbox) -> None:
        self._home = home
        self._played: dict[str, Future[None]] = {}

    def play(self, names: Sequence[str]) -> None:
        """Play cases side by side."""
        with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(len(names) or 1) as threads:
            for name, value in self._home.variables.items():
                patch.setenv(name, value)
            patch.setattr(tempfile, "tempdir", str(self._home.temporary))
            for name in names:
                self._played[name] = threads.submit(CASES[name].play, self._home)
            for each in self._played.values():
                each.exception()

    def check(self, name: str) -> None:
        """Raise what a case that was played has raised; asked again, play it again."""
        if name not in self._played:
            self.play([name])
        outcome = self._played[name]
        if outcome.exception() is not None:
            del self._played[name]
        outcome.result()


def without_history(home: Sandbox) -> None:
    """Keep IPython from storing what is typed: so many that begin at once lock each other out of
    the database, and say so in whichever cell runs then."""
    profile = home.jupyter["IPYTHONDIR"] / "profile_default"
    profile.mkdir()
    (profile / "ipython_config.py").write_text("c.HistoryManager.enabled = False\n")


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, run_folder: Path, complaints: list[str]
) -> Generator[Outcomes]:
    """How each case that is to be tested went; all have been played."""
    callspecs = [getattr(item, "callspec", None) for item in request.session.items]
    names = [spec.params.get("case") for spec in callspecs if spec is not None]
    cases = {name: CASES[name] for name in names if name in CASES}
    for name, case in list(cases.items()):
        if case.part is not None and not parts.PARTS[case.part][0]():
            del cases[name]
    home = Sandbox.make(run_folder / "alarms")
    without_history(home)
    outcomes = Outcomes(home)
    outcomes.play([*reversed(cases)])  # the host takes longest: it has six processes to start
    yield outcomes
    left = [str(path) for path in home.runtime.rglob("*")]
    left += [str(path) for path in home.temporary.rglob("*")]
    home.remove()
    assert left == []


@pytest.fixture(scope="module")
def complaints() -> Generator[list[str]]:
    """What is logged while the cases are played, where no user looks."""
    heard: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(logging.Formatter().format(record))

    listener = Listener(logging.WARNING)
    logging.getLogger("kernel_magics").addHandler(listener)
    yield heard
    logging.getLogger("kernel_magics").removeHandler(listener)


@pytest.mark.parametrize("case", CASES)
def test_a_long_silence_is_no_error(case: str, outcomes: Outcomes, complaints: list[str]) -> None:
    if part := CASES[case].part:
        parts.require(part)
    outcomes.check(case)
    heard, complaints[:] = complaints[:], []
    assert heard == []
