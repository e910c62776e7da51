"""Kernels of another machine that is not entered without the user, after the connection broke:
whoever waits is asked, and nobody else."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing, suppress

import psutil
import pytest

from kernel_magics.connect import tunnel as tunnel_module
from kernel_magics.connect.tunnel import Tunnel
from kernel_magics.errors import KernelDetached, KernelDied, KernelUnreachable, TunnelDown
from kernel_magics.kernels.kernel import Kernel, KernelState
from kernel_magics.kernels.pool import KernelPool
from kernel_magics.protocol.message import Message
from tests.support import logins, parts
from tests.support.kernels import HandKernel
from tests.support.logins import PASSWORD, Asking, Kind
from tests.support.processes import ssh_below
from tests.support.sandbox import Sandbox
from tests.support.sshd import HOST, Secrets, network, ssh_server
from tests.support.tiers import full
from tests.support.waiting import wait_until

pytestmark = pytest.mark.full

COUNT = """\
import itertools, pathlib, time
for number in itertools.count():
    print(number, flush=True)
    if pathlib.Path({mark!r}).exists():
        break
    time.sleep(0.1)
"""
"""Goes on until there is such a file: it must not end while nobody can hear it."""

TOLD_WITHIN = 5.0
"""Seconds from a cut until it is known that the user is needed."""

WATCHED = 2.0
"""Seconds in which nobody may try to log in; the second attempt of our own would come after 1 s."""

Answer = str | BaseException


class User:
    """Answers what ssh asks on this way, or first from a list."""

    def __init__(self, way: Asking, *answers: Answer) -> None:
        self._right = {question.text: question.answer for question in way.questions}
        self._answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, text: str, secret: bool) -> str:
        assert secret
        self.asked.append(text)
        if self._answers:
            answer = self._answers.pop(0)
            if isinstance(answer, BaseException):
                raise answer
            return answer
        return next(right for known, right in self._right.items() if text.startswith(known))


class Far:
    """A kernel there, reached over a login that asks."""

    def __init__(self, way: Asking, hand: HandKernel, pool: KernelPool) -> None:
        self.way, self.hand, self.pool = way, hand, pool
        self.name = hand.connection_file.stem
        shutil.copy(hand.connection_file, way.server.runtime)
        user = User(way)
        self.kernel: Kernel = pool.tunnel(HOST, self.name, "far", ask=user)
        assert len(user.asked) == len(way.questions)

    @property
    def tunnel(self) -> Tunnel:
        assert isinstance(self.kernel.way, Tunnel)
        return self.kernel.way

    def cut(self) -> None:
        """End the login, and wait until it is known that the user has to log in."""
        self.way.servers[0].cut()
        wait_until(
            lambda: self.kernel.state is KernelState.AWAY, TOLD_WITHIN, what="the user is needed"
        )

    def connections(self) -> int:
        """How often anybody has connected to the first server on the way."""
        return self.way.servers[0].log.count("Connection from ")


NewFar = Callable[..., Far]


@pytest.fixture
def new_far(
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    closing: ExitStack,
    hand_kernel: Callable[..., HandKernel],
) -> Generator[NewFar]:
    """Reach a kernel: ``new_far(kind="password")``."""
    pools = ExitStack()

    def reach(kind: Kind = "password") -> Far:
        way = closing.enter_context(logins.asking(kind, sandbox.root / "sshd"))
        monkeypatch.setenv("PATH", f"{way.server.bin}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        pool = KernelPool()
        pools.callback(pool.close)
        return Far(way, hand_kernel("tcp"), pool)

    with pools:
        yield reach


def numbers_in(shown: list[Message | str]) -> list[int]:
    text = "".join(str(each.content["text"]) for each in shown if isinstance(each, Message))
    return [int(line) for line in text.split()]


WAYS = ["password", *full("passphrase", "codes", "jump")]


@pytest.mark.parametrize("kind", WAYS)
def test_a_cell_that_waits_asks_and_goes_on(new_far: NewFar, sandbox: Sandbox, kind: Kind) -> None:
    far = new_far(kind)
    user, shown = User(far.way), list[Message | str]()
    mark = sandbox.work / "healed"

    def show(item: Message | str) -> None:
        shown.append(item)
        if len(shown) == 4:
            far.way.servers[0].cut()
        if "was out of reach for a moment" in str(item):
            mark.touch()

    execution = far.kernel.submit(COUNT.format(mark=str(mark)))
    assert execution.wait(show=show, login=user, timeout=60).status == "ok"
    assert len(user.asked) == len(far.way.questions)
    numbers = numbers_in(shown)
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 0
    assert numbers[-1] > 3  # what it printed after the heal
    (told,) = [each for each in shown if "until you log in again" in str(each)]
    assert str(told).startswith("[far] is out of reach until you log in again (")
    assert far.kernel.run("print('next')").stdout == "next\n"
    far.pool.close()
    assert far.way.failures() == []


@pytest.mark.parametrize("kind", WAYS)
def test_a_new_cell_asks_and_nobody_tries_before(new_far: NewFar, kind: Kind) -> None:
    far = new_far(kind)
    far.kernel.run("a = 5")
    far.cut()
    before, began = far.connections(), time.monotonic()
    wait_until(lambda: time.monotonic() - began > WATCHED, what="a while later")
    assert far.connections() == before
    user = User(far.way)
    assert far.kernel.run("print(a)", login=user, timeout=30).stdout == "5\n"
    assert len(user.asked) == len(far.way.questions)
    assert far.kernel.state is KernelState.IDLE
    far.pool.close()
    assert far.way.failures() == []


def refusals() -> list[Answer]:
    return [KeyboardInterrupt(), EOFError(), ""]


@pytest.mark.parametrize("refusal", refusals(), ids=["interrupt", "end of file", "empty"])
def test_refusing_ends_the_cell_and_the_next_one_asks_again(
    new_far: NewFar, refusal: Answer
) -> None:
    far = new_far()
    execution = far.kernel.submit("import time; time.sleep(2); print('over')")
    wait_until(lambda: execution.running, what="it runs")
    far.cut()
    user = User(far.way, refusal, refusal)
    with pytest.raises(
        TunnelDown,
        match=r"password:\" was not answered.*%kernel_tunnel logs in again, and so does the next",
    ) as caught:
        execution.wait(login=user, timeout=30)
    assert caught.value.may_have_run
    with pytest.raises(TunnelDown, match="the code did not run"):
        far.kernel.run("1", login=user, timeout=30)
    assert far.kernel.run("print('there')", login=user, timeout=30).stdout == "there\n"
    assert len(user.asked) == 3
    far.pool.close()
    assert far.way.failures() == []


def test_who_cannot_be_asked_is_told_what_to_do(new_far: NewFar) -> None:
    far = new_far()
    far.cut()
    before, began = far.connections(), time.monotonic()
    with pytest.raises(TunnelDown, match=r"Permission denied.*%kernel_tunnel logs in") as caught:
        far.kernel.run("1", timeout=30)
    assert time.monotonic() - began < 1.0
    assert not caught.value.may_have_run
    with pytest.raises(KernelUnreachable, match="it is waiting for a login"):
        far.kernel.request("shell", "kernel_info_request", timeout=1.0)
    assert far.connections() == before
    again = User(far.way)
    assert far.pool.tunnel(HOST, far.name, ask=again) is far.kernel
    assert far.kernel.run("print('there')").stdout == "there\n"


def test_a_cell_that_nobody_waits_for_asks_nobody_until_somebody_does(new_far: NewFar) -> None:
    far = new_far()
    execution = far.kernel.submit("print('before', flush=True); import time; time.sleep(1); 'over'")
    wait_until(lambda: execution.running, what="it runs")
    far.cut()
    before, began = far.connections(), time.monotonic()
    wait_until(lambda: time.monotonic() - began > WATCHED, what="a while later")
    assert not execution.done
    assert far.connections() == before
    user = User(far.way)
    execution.wait(login=user, timeout=30, raise_error=False)
    assert len(user.asked) == 1


def test_two_cells_that_wait_ask_once(
    new_far: NewFar, hand_kernel: Callable[..., HandKernel]
) -> None:
    far = new_far()
    hand = hand_kernel("tcp")
    shutil.copy(hand.connection_file, far.way.server.runtime)
    other = far.pool.tunnel(HOST, hand.connection_file.stem, "other")
    far.cut()
    wait_until(lambda: other.state is KernelState.AWAY, what="both know")
    user, outputs = User(far.way), dict[str, str]()

    def run(kernel: Kernel) -> None:
        outputs[kernel.name] = kernel.run("print('there')", login=user, timeout=30).stdout

    threads = [threading.Thread(target=run, args=(kernel,)) for kernel in (far.kernel, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == {"far": "there\n", "other": "there\n"}
    assert len(user.asked) == 1


def test_three_wrong_answers_end_the_cell_with_ssh_s_words(new_far: NewFar) -> None:
    far = new_far()
    far.cut()
    user = User(far.way, "wrong", "worse", "worst")
    with pytest.raises(TunnelDown, match="Permission denied"):
        far.kernel.run("1", login=user, timeout=30)
    far.pool.close()
    assert len(far.way.failures()) == 3


def test_a_network_that_is_gone_when_the_user_would_be_asked_is_waited_for(
    new_far: NewFar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel_module, "LONGEST_RETRY", 0.5)
    far = new_far()
    far.cut()
    server = far.way.server
    config = server.config.read_text()
    server.config.write_text(config.replace(f"Port {server.port}", "Port 1"))
    user = User(far.way)

    def mend() -> None:
        wait_until(lambda: "refused" in far.tunnel.reason, what="nobody is there")
        assert user.asked == []
        server.config.write_text(config)

    mending = threading.Thread(target=mend)
    mending.start()
    assert far.kernel.run("print('there')", login=user, timeout=60).stdout == "there\n"
    mending.join()
    assert len(user.asked) == 1


def test_a_kernel_that_died_meanwhile_has_died(new_far: NewFar) -> None:
    far = new_far()
    execution = far.kernel.submit("import time; time.sleep(60)")
    wait_until(lambda: execution.running, what="it runs")
    far.cut()
    far.hand.kill()
    with pytest.raises(KernelDied):
        execution.wait(login=User(far.way), timeout=30)


def test_letting_go_at_the_question_ends_the_cell(new_far: NewFar) -> None:
    far = new_far()
    far.cut()

    def user(text: str, secret: bool) -> str:
        threading.Thread(target=far.kernel.detach).start()
        threading.Event().wait(30)  # until the signal that gets us out of a prompt
        raise AssertionError("nobody got us out of the prompt")

    with pytest.raises(KernelDetached):
        far.kernel.run("1", login=user, timeout=60)


def test_the_pool_can_be_closed_while_the_user_is_needed(new_far: NewFar) -> None:
    far = new_far()
    far.cut()
    with closing(far.pool):
        pass
    assert far.way.failures() == []


@pytest.mark.full
@pytest.mark.timeout(200)
def test_nobody_is_asked_before_the_network_is_back(
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    hand_kernel: Callable[..., HandKernel],
) -> None:
    parts.require("accounts")
    parts.require("netns")
    mark, plugged, asked = sandbox.work / "healed", threading.Event(), list[bool]()
    hand = hand_kernel("ipc")
    shown: list[Message | str] = []
    begun = threading.Event()

    def user(text: str, secret: bool) -> str:
        asked.append(plugged.is_set())
        return PASSWORD

    def show(item: Message | str) -> None:
        shown.append(item)
        begun.set()
        if "was out of reach for a moment" in str(item):
            mark.touch()

    with (
        network() as there,
        ssh_server(sandbox.root / "sshd", where=there, secrets=Secrets(PASSWORD)) as server,
        closing(KernelPool()) as pool,
    ):
        monkeypatch.setenv("PATH", f"{server.bin}{os.pathsep}{os.environ['PATH']}")
        shutil.copy(hand.connection_file, server.runtime)
        kernel = pool.tunnel(HOST, hand.connection_file.stem, "far", ask=lambda *_: PASSWORD)
        tunnel = kernel.way
        assert isinstance(tunnel, Tunnel)
        execution = kernel.submit(COUNT.format(mark=str(mark)))

        def pull() -> None:
            begun.wait()
            there.plug(in_=False)
            wait_until(lambda: not tunnel.up, what="the cut is noticed")
            for ssh in ssh_below():  # else the login might go on where it was
                with suppress(psutil.NoSuchProcess):
                    ssh.kill()
            gone = (
                "refused",
                "No route",
                "timed out",
                "unreachable",
            )  # as the machine's routes are
            wait_until(
                lambda: any(words in tunnel.reason for words in gone),
                what=lambda: f"it was tried: {tunnel.reason}",
            )
            plugged.set()
            there.plug(in_=True)

        pulling = threading.Thread(target=pull)
        pulling.start()
        assert execution.wait(show=show, login=user, timeout=120).status == "ok"
        pulling.join()
        assert asked == [True]
        pool.close()
        assert "Failed " not in server.log
