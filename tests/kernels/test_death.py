"""Kernels that die, restart or fall out of reach under a cell."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import zmq

from kernel_magics.errors import (
    KernelDied,
    KernelGone,
    KernelMagicsError,
    KernelRestarted,
    ReplyLost,
)
from kernel_magics.kernels import link as link_module
from kernel_magics.kernels.execution import Execution
from kernel_magics.kernels.kernel import Kernel
from kernel_magics.kernels.life import KernelState
from kernel_magics.kernels.pool import KernelPool
from kernel_magics.kernels.result import Result
from kernel_magics.protocol.health import LOST_GRACE, Health
from kernel_magics.protocol.message import Message
from tests.support import steps
from tests.support.fake import FakeKernel
from tests.support.kernels import HandKernel, Kind
from tests.support.sandbox import Sandbox
from tests.support.sockets import KINDS
from tests.support.waiting import PATIENCE, wait_until

StartFake = Callable[..., FakeKernel]
StartHand = Callable[..., HandKernel]

WITHIN = {"owned": 2.0, "attached": 3.0}
"""Seconds from a death to the end of the cell. The process of a kernel of ours tells; of others we
only see the connection close, which may be a restart."""


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what follows a death, not of how soon it is certain."""
    monkeypatch.setattr(link_module, "Health", partial(Health, 0.4))


@dataclass
class Cell:
    """A cell that has printed, counted itself in a file, and waits for ``go`` to end itself."""

    kernel: Kernel
    sandbox: Sandbox
    ends_with: str = "pass"
    shown: list[Message | str] = field(default_factory=list)
    error: BaseException | None = None
    result: Result | None = None
    took_from: float = 0.0
    ended_at: float = 0.0

    def __post_init__(self) -> None:
        self.go = self.sandbox.work / "go"
        self.runs = self.sandbox.work / "runs"
        code = (
            "import os, pathlib, time\n"
            f"with open({str(self.runs)!r}, 'a') as runs: runs.write('x')\n"
            "for number in range(100): print('before', number, flush=True)\n"
            f"while not pathlib.Path({str(self.go)!r}).exists(): time.sleep(0.005)\n"
            f"{self.ends_with}"
        )
        self.execution: Execution = self.kernel.submit(code)
        self._thread = threading.Thread(target=self._wait)
        self._thread.start()
        # What it printed has left its process once it is here; only then may that be killed.
        wait_until(lambda: "before 99" in self.stdout, what="the cell has printed")

    @property
    def stdout(self) -> str:
        messages = [each for each in list(self.shown) if isinstance(each, Message)]
        return "".join(str(each.content.get("text", "")) for each in messages)

    @property
    def seconds(self) -> float:
        """From :meth:`dying` to the end."""
        return self.ended_at - self.took_from

    @contextmanager
    def dying(self) -> Generator[None]:
        """What happens within is the death; afterwards the cell has ended."""
        self.took_from = time.monotonic()
        yield
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the cell waits for ever"

    def _wait(self) -> None:
        try:
            self.result = self.execution.wait(show=self.shown.append)
        except BaseException as error:
            self.error = error
        self.ended_at = time.monotonic()


@pytest.fixture(params=["owned", "tcp", pytest.param("ipc", marks=pytest.mark.full)])
def real(
    request: pytest.FixtureRequest, pool: KernelPool, hand_kernel: StartHand
) -> tuple[Kernel, str]:
    """A real kernel that may be killed, and whether it is ours or was attached."""
    if request.param == "owned":
        return pool.start(name="it"), "owned"
    return pool.attach(hand_kernel(request.param).connection_file, "it"), "attached"


Real = tuple[Kernel, str]


def pid_of(kernel: Kernel) -> int:
    return wait_until(kernel.look_up_pid, what="its process is known")


# Deaths.


@pytest.mark.parametrize("how", ["killed", "exits"])
def test_a_cell_whose_kernel_dies_ends_at_once_and_keeps_its_output(
    real: Real, sandbox: Sandbox, how: str
) -> None:
    kernel, whose = real
    cell = Cell(kernel, sandbox, "os._exit(0)")
    with cell.dying():
        if how == "killed":
            os.kill(pid_of(kernel), signal.SIGKILL)
        else:
            cell.go.touch()
    assert isinstance(cell.error, KernelDied)
    assert cell.error.may_have_run
    assert cell.seconds < WITHIN[whose]
    assert cell.stdout == "".join(f"before {number}\n" for number in range(100))
    assert (kernel.state, kernel.alive) == (KernelState.DEAD, False)
    if whose == "owned":
        assert ("SIGKILL" if how == "killed" else "exit code 0") in cell.error.reason
    assert cell.runs.read_text() == "x"


@pytest.mark.full
def test_an_idle_kernel_that_dies_is_known_to_be_dead(real: Real) -> None:
    kernel, whose = real
    kernel.run("1")
    os.kill(pid_of(kernel), signal.SIGKILL)
    wait_until(lambda: not kernel.alive, WITHIN[whose], what="known to be dead")
    assert kernel.finding is not None


@pytest.mark.usefixtures("short_grace")
def test_cells_that_wait_behind_the_one_that_dies_end_as_well(
    pool: KernelPool, hand_kernel: StartHand, sandbox: Sandbox
) -> None:
    hand = hand_kernel("tcp")
    cell = Cell(pool.attach(hand.connection_file), sandbox)
    behind = [cell.kernel.submit("1") for _ in range(5)]
    with cell.dying():
        hand.kill()
    for execution in behind:
        with pytest.raises(KernelDied):
            execution.wait()


@pytest.mark.full
@pytest.mark.usefixtures("short_grace")
def test_a_cell_for_a_dead_kernel_ends_at_once_and_did_not_run(real: Real) -> None:
    kernel, whose = real
    os.kill(pid_of(kernel), signal.SIGKILL)
    wait_until(lambda: not kernel.alive, WITHIN[whose], what="known to be dead")
    for _ in range(3):
        began = time.monotonic()
        with pytest.raises(KernelDied) as caught:
            kernel.run("1")
        assert not caught.value.may_have_run
        assert time.monotonic() - began < 1.0


@pytest.mark.usefixtures("short_grace")
def test_a_cell_submitted_right_after_the_death_ends_and_did_not_run(
    pool: KernelPool, fake_kernel: StartFake
) -> None:
    fake = fake_kernel()
    kernel = pool.attach(fake.connection_file)
    fake.close()
    wait_until(lambda: kernel.state is KernelState.LOST, what="the connection is lost")
    with pytest.raises(KernelDied) as caught:
        kernel.run("1")
    assert not caught.value.may_have_run


@pytest.mark.usefixtures("short_grace")
def test_a_prompt_is_left_when_the_kernel_dies(pool: KernelPool, hand_kernel: StartHand) -> None:
    hand = hand_kernel("tcp")
    kernel = pool.attach(hand.connection_file)
    at_prompt = threading.Event()

    def ask(prompt: str, password: bool) -> str:
        at_prompt.set()
        assert not threading.Event().wait(PATIENCE), "nobody gets out of this but by a signal"
        return "too late"

    def kill() -> None:
        assert at_prompt.wait(PATIENCE)
        hand.kill()

    killing = threading.Thread(target=kill)
    killing.start()
    with pytest.raises(KernelDied):
        kernel.run("input('stuck? ')", ask=ask)
    killing.join()


@pytest.mark.usefixtures("short_grace")
def test_other_kernels_do_not_notice(
    pool: KernelPool, hand_kernel: StartHand, shared_kernel: HandKernel, sandbox: Sandbox
) -> None:
    hand = hand_kernel("tcp")
    other = pool.attach(shared_kernel.connection_file, "other")
    cell = Cell(pool.attach(hand.connection_file), sandbox)
    during = other.submit("import time; time.sleep(0.5); print('during')")
    with cell.dying():
        hand.kill()
        assert other.run("print('meanwhile')").stdout == "meanwhile\n"
    assert during.wait().stdout == "during\n"
    assert other.run("print('afterwards')").stdout == "afterwards\n"


# Restarts.


@pytest.mark.parametrize("kind", ["tcp", "ipc", pytest.param("curve", marks=pytest.mark.full)])
def test_a_cell_whose_kernel_is_restarted_behind_the_same_ports_ends_and_never_runs_again(
    pool: KernelPool, hand_kernel: StartHand, sandbox: Sandbox, kind: Kind
) -> None:
    hand = hand_kernel(kind)
    kernel = pool.attach(hand.connection_file, "it")
    kernel.run("x = 1")
    cell = Cell(kernel, sandbox)
    with cell.dying():
        hand.restart_behind_same_ports()
        back_after = time.monotonic() - cell.took_from
    assert isinstance(cell.error, KernelGone)
    assert cell.error.may_have_run
    if back_after < LOST_GRACE / 2:  # else it counts as dead first
        assert isinstance(cell.error, KernelRestarted)
    assert cell.stdout == "".join(f"before {number}\n" for number in range(100))
    # The name works again, with the new process behind it.
    assert kernel.run("print('x' in globals())").stdout == "False\n"
    assert pool["it"] is kernel
    assert cell.runs.read_text() == "x"


def test_a_restart_that_is_quick_is_told_from_a_death(
    pool: KernelPool, fake_kernel: StartFake
) -> None:
    fake = fake_kernel({"execute_request": [steps.busy(), steps.stream("before")]})
    kernel = pool.attach(fake.connection_file)
    execution = kernel.submit("1")
    fake.wait_for("execute_request")
    fake.do(lambda kernel: kernel.restart())
    with pytest.raises(KernelRestarted) as caught:
        execution.wait()
    assert caught.value.may_have_run
    wait_until(lambda: kernel.state is not KernelState.LOST, what="it is there again")
    assert kernel.alive
    assert [each.type for each in fake.requests].count("execute_request") == 1


@pytest.mark.full
@pytest.mark.usefixtures("short_grace")
def test_a_name_works_again_once_a_kernel_answers_on_its_ports(
    pool: KernelPool, hand_kernel: StartHand
) -> None:
    hand = hand_kernel("tcp")
    kernel = pool.attach(hand.connection_file, "it")
    hand.kill()
    wait_until(lambda: not kernel.alive, WITHIN["attached"], what="known to be dead")
    with pytest.raises(KernelDied):
        pool["it"].run("1")
    hand.restart_behind_same_ports()
    shown: list[Message | str] = []
    pool["it"].run("print('again')", show=shown.append)
    assert any(isinstance(each, str) and "variables are gone" in each for each in shown)
    assert pool["it"].run("print('again')").stdout == "again\n"
    assert (kernel.alive, kernel.finding) == (True, None)


def test_a_cell_that_waited_while_the_kernel_was_gone_does_not_run_in_its_successor(
    pool: KernelPool, fake_kernel: StartFake
) -> None:
    fake = fake_kernel()
    kernel = pool.attach(fake.connection_file)
    for channel in KINDS:
        fake.do(unbinding(channel))
    wait_until(lambda: kernel.state is KernelState.LOST, what="the connection is lost")
    execution = kernel.submit("counts on variables that are gone")
    fake.do(lambda fake: fake.restart())
    with pytest.raises(KernelRestarted) as caught:
        execution.wait()
    assert not caught.value.may_have_run
    assert "execute_request" not in [
        each.type for each in fake.requests if not each.content.get("silent")
    ]


def unbinding(channel: str) -> Callable[[FakeKernel], None]:
    return lambda fake: fake.sockets.unbind(channel)


# The ghost.


@contextmanager
def stranger(hand: HandKernel) -> Generator[list[bytes]]:
    """Somebody else's ZeroMQ sockets on the ports of a kernel; gives all frames they receive."""
    frames: list[bytes] = []
    over = threading.Event()
    listening = threading.Event()

    def listen() -> None:
        with zmq.Context() as context, ExitStack() as stack:
            poller = zmq.Poller()
            for channel, kind in KINDS.items():
                sock = stack.enter_context(context.socket(kind))
                sock.linger = 0
                url = f"tcp://127.0.0.1:{hand.info[f'{channel}_port']}"
                wait_until(partial(bound, sock, url), what=f"{url} is free")
                poller.register(sock, zmq.POLLIN)
            listening.set()
            while not over.is_set():
                for sock, _ in poller.poll(20):
                    frames.extend(sock.recv_multipart())

    thread = threading.Thread(target=listen)
    thread.start()
    assert listening.wait(PATIENCE)
    try:
        yield frames
    finally:
        over.set()
        thread.join()


def bound(sock: zmq.Socket[bytes], url: str) -> bool:
    with suppress(zmq.ZMQError):
        sock.bind(url)
        return True
    return False


@pytest.mark.usefixtures("short_grace")
def test_whoever_takes_the_ports_of_a_dead_kernel_never_sees_code(
    pool: KernelPool, hand_kernel: StartHand, sandbox: Sandbox
) -> None:
    hand = hand_kernel("tcp")
    kernel = pool.attach(hand.connection_file, "it")
    cell = Cell(kernel, sandbox)
    with cell.dying():
        hand.kill()
        with stranger(hand) as frames, pytest.raises(KernelMagicsError):
            kernel.run("secret = 'do not read'", timeout=PATIENCE)
    # They may see who asks, signed with a key they do not have.
    assert any(b"kernel_info_request" in frame for frame in frames)
    assert not [frame for frame in frames if b"do not read" in frame or b"before" in frame]


# Out of reach for a moment.


def cut(fake: FakeKernel) -> None:
    """Close all connections of the same process, and listen again."""
    for channel in KINDS:
        fake.sockets.unbind(channel)
    for channel in KINDS:
        fake.sockets.bind(channel)


def test_a_cell_survives_a_cut_and_is_told_of_it(pool: KernelPool, fake_kernel: StartFake) -> None:
    fake = fake_kernel({"execute_request": [steps.busy(), steps.stream("before")]})
    kernel = pool.attach(fake.connection_file)
    execution = kernel.submit("1")
    request = fake.wait_for("execute_request")
    shown: list[Message | str] = []

    def cut_and_go_on() -> None:
        fake.do(cut)
        wait_until(lambda: any(isinstance(each, str) for each in list(shown)), what="a notice")
        end = [steps.stream("after"), steps.reply(), steps.idle()]
        fake.do(lambda fake: fake.play(end, request))

    cutting = threading.Thread(target=cut_and_go_on)
    cutting.start()
    assert execution.wait(show=shown.append).status == "ok"
    cutting.join()
    before, notice, after = shown
    assert isinstance(before, Message)
    assert isinstance(after, Message)
    assert (before.content["text"], after.content["text"]) == ("before", "after")
    assert "out of reach" in str(notice)


@pytest.mark.full
def test_a_cell_whose_end_was_said_during_a_cut_ends_here_as_well(
    pool: KernelPool, fake_kernel: StartFake
) -> None:
    noticed = threading.Event()
    cell = [
        *[steps.busy(), steps.close_channels(), steps.hold(noticed)],
        *[steps.reply(), steps.idle(), lambda fake, request: cut(fake)],
    ]
    fake = fake_kernel({"execute_request": cell})
    kernel = pool.attach(fake.connection_file)
    execution = kernel.submit("1")
    wait_until(lambda: kernel.state is KernelState.LOST, what="the cut is noticed")
    noticed.set()
    with pytest.raises(ReplyLost):
        execution.wait(timeout=5)


@pytest.mark.full
@pytest.mark.parametrize("seconds", [0.0, 1.0], ids=["short", "long"])
def test_a_reply_that_was_said_during_a_cut_is_missed_here_as_well(
    pool: KernelPool, fake_kernel: StartFake, seconds: float
) -> None:
    idle_came, back = threading.Event(), threading.Event()
    cell = [
        *[steps.busy(), steps.idle(), steps.hold(idle_came)],
        *[steps.close_channels(), steps.hold(back), lambda fake, request: cut(fake)],
    ]
    fake = fake_kernel({"execute_request": cell})
    kernel = pool.attach(fake.connection_file)
    execution = kernel.submit("1")
    wait_until(lambda: kernel.state is KernelState.IDLE and execution.sent, what="idle was said")
    idle_came.set()
    # Longer than the reply is waited for: the question is due while nobody can be asked.
    threading.Timer(seconds, back.set).start()
    with pytest.raises(ReplyLost):
        execution.wait(timeout=5)


@pytest.mark.full
def test_a_kernel_that_is_stopped_for_a_while_does_not_lose_its_cell(
    pool: KernelPool, hand_kernel: StartHand, sandbox: Sandbox
) -> None:
    hand = hand_kernel("tcp")
    cell = Cell(pool.attach(hand.connection_file), sandbox, "print('after')")
    began = time.monotonic()
    with hand.stopped():
        wait_until(lambda: time.monotonic() - began > 3 * LOST_GRACE, what="long enough")
        assert not cell.execution.done
    with cell.dying():
        cell.go.touch()
    assert cell.error is None
    assert cell.stdout.endswith("after\n")


@pytest.mark.full
@pytest.mark.parametrize("whose", ["owned", "attached"])
def test_deaths_and_restarts_in_a_row(
    pool: KernelPool, hand_kernel: StartHand, sandbox: Sandbox, whose: str
) -> None:
    hand = hand_kernel("tcp") if whose == "attached" else None
    kernel = pool.attach(hand.connection_file) if hand else pool.start()
    for number in range(10):
        folder = sandbox.work / str(number)
        folder.mkdir()
        cell = Cell(kernel, Sandbox(folder_of(folder)))
        with cell.dying():
            if hand:
                hand.kill()
            else:
                os.kill(pid_of(kernel), signal.SIGKILL)
        assert isinstance(cell.error, KernelDied)
        if hand:
            hand.restart_behind_same_ports()
        else:
            kernel.restart()
        assert kernel.run("print('again')").stdout == "again\n"
        assert cell.runs.read_text() == "x"


def folder_of(folder: Path) -> Path:
    """A root whose working folder exists, for the files of one cell."""
    (folder / "cwd").mkdir()
    return folder
