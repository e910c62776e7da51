"""Deaths and restarts: whoever wants to know is told, once, in order, on a thread of its own."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from functools import partial

import pytest

from kernel_magics.connect.launch import LaunchOptions
from kernel_magics.errors import KernelGone, KernelMagicsError, LaunchError
from kernel_magics.kernels.callbacks import Callbacks
from kernel_magics.kernels.kernel import Kernel
from kernel_magics.kernels.pool import KernelPool
from tests.support.fake import FakeKernel
from tests.support.kernels import HandKernel
from tests.support.sandbox import Sandbox
from tests.support.sockets import KINDS
from tests.support.tiers import full
from tests.support.waiting import PATIENCE, wait_until

StartFake = Callable[..., FakeKernel]
StartHand = Callable[..., HandKernel]


class Diary:
    """What was called, in order; ``noting("x")`` is a callback."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.threads: set[threading.Thread] = set()

    def note(self, entry: str) -> None:
        self.threads.add(threading.current_thread())
        self.entries.append(entry)

    def noting(self, entry: str) -> Callable[[], None]:
        return partial(self.note, entry)

    def of(self, kernel: Kernel) -> None:
        """Take down what happens to a kernel."""
        kernel.add_restart_callback(self.noting("restart"))
        kernel.add_restart_callback(self.noting("dead"), "dead")

    def wait_for(self, *entries: str) -> None:
        wait_until(lambda: len(self.entries) >= len(entries), what=lambda: f"{self.entries}")
        assert self.entries == list(entries)


def settled(callbacks: Callbacks) -> bool:
    """Nothing is to be called any more."""
    return not callbacks._calling


@pytest.fixture
def diary() -> Diary:
    return Diary()


# By themselves.


def test_callbacks_are_called_in_order_and_events_one_after_another(diary: Diary) -> None:
    callbacks, go = Callbacks("k"), threading.Event()
    callbacks.add("dead", lambda: go.wait(PATIENCE))
    for entry in ("first", "second"):
        callbacks.add("dead", diary.noting(entry))
    callbacks.add("restart", diary.noting("later"))
    callbacks.fire("dead")
    callbacks.fire("restart")
    callbacks.fire("dead")
    assert diary.entries == []
    go.set()
    diary.wait_for("first", "second", "later", "first", "second")


def test_the_thread_is_there_only_while_something_is_called(diary: Diary) -> None:
    callbacks = Callbacks("k")
    callbacks.fire("dead")
    assert settled(callbacks)
    callbacks.add("dead", diary.noting("told"))
    for told in (["told"], ["told", "told"]):
        callbacks.fire("dead")
        diary.wait_for(*told)
        wait_until(partial(settled, callbacks), what="all was called")
    assert threading.current_thread() not in diary.threads
    wait_until(lambda: not any(each.is_alive() for each in diary.threads), what="it has ended")


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, KeyboardInterrupt])
def test_what_one_raises_is_logged_and_does_not_hold_back_the_next(
    diary: Diary, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    def fail() -> None:
        raise error("a mistake")

    callbacks = Callbacks("gpu")
    callbacks.add("dead", fail)
    callbacks.add("dead", diary.noting("next"))
    with caplog.at_level(logging.ERROR, "kernel_magics"):
        callbacks.fire("dead")
        diary.wait_for("next")
        callbacks.fire("dead")
        diary.wait_for("next", "next")
    assert "gpu" in caplog.text
    assert "a mistake" in caplog.text


def test_a_removed_one_is_not_called_any_more_also_not_for_what_has_happened(diary: Diary) -> None:
    callbacks, begun, go = Callbacks("k"), threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        go.wait(PATIENCE)

    callbacks.add("dead", hold)
    callbacks.add("dead", removed := diary.noting("removed"))
    callbacks.add("dead", diary.noting("stays"))
    callbacks.fire("dead")
    assert begun.wait(PATIENCE)
    callbacks.remove("dead", removed)
    go.set()
    diary.wait_for("stays")


def test_what_was_added_twice_is_called_twice_and_has_to_be_removed_twice(diary: Diary) -> None:
    callbacks, note = Callbacks("k"), diary.noting("told")
    callbacks.add("dead", note)
    callbacks.add("dead", note)
    callbacks.fire("dead")
    diary.wait_for("told", "told")
    callbacks.remove("dead", note)
    callbacks.fire("dead")
    diary.wait_for("told", "told", "told")
    for _ in range(2):
        callbacks.remove("dead", note)
    callbacks.fire("dead")
    assert settled(callbacks)


def test_an_event_that_does_not_exist_is_an_error_that_names_those_that_do() -> None:
    callbacks = Callbacks("k")
    for verb in (callbacks.add, callbacks.remove):
        with pytest.raises(KernelMagicsError, match=r"'died'.*'restart' and 'dead'"):
            verb("died", print)  # type: ignore[arg-type]


# Of real kernels.


def test_a_kernel_of_ours_that_is_killed_is_dead_once(pool: KernelPool, diary: Diary) -> None:
    kernel = pool.start()
    diary.of(kernel)
    kernel.signal(signal.SIGKILL)
    diary.wait_for("dead")
    assert not kernel.alive
    with pytest.raises(KernelGone):  # which looks whether it is there again
        kernel.run("1")
    kernel.detach()
    assert diary.entries == ["dead"]


@pytest.mark.parametrize("now", [True, *full(False)])
def test_a_restart_from_here_is_told_once_and_nothing_has_died(
    pool: KernelPool, diary: Diary, now: bool
) -> None:
    kernel = pool.start()
    diary.of(kernel)
    kernel.restart(now=now)
    diary.wait_for("restart")
    assert kernel.run("print('new')").stdout == "new\n"
    kernel.detach()
    assert diary.entries == ["restart"]


@pytest.mark.full
def test_a_restart_that_fails_is_a_death(pool: KernelPool, diary: Diary, sandbox: Sandbox) -> None:
    kernel = pool.start()
    assert kernel.owned is not None
    diary.of(kernel)
    kernel.owned.options = LaunchOptions(cwd=str(sandbox.work / "no such folder"))
    with pytest.raises(LaunchError, match="no such folder"):
        kernel.restart(now=True)
    diary.wait_for("dead")
    with pytest.raises(LaunchError):  # it is dead already
        kernel.restart(now=True)
    kernel.owned.options = LaunchOptions()
    kernel.restart()
    diary.wait_for("dead", "restart")


@pytest.mark.full
def test_the_death_of_somebody_elses_kernel_is_told(
    pool: KernelPool, hand_kernel: StartHand, diary: Diary
) -> None:
    hand = hand_kernel("tcp")
    kernel = pool.attach(hand.connection_file)
    diary.of(kernel)
    hand.kill()
    diary.wait_for("dead")
    assert not kernel.alive


@pytest.mark.parametrize("times", [1, 3])
def test_a_restart_by_somebody_else_is_told_each_time(
    pool: KernelPool, fake_kernel: StartFake, diary: Diary, times: int
) -> None:
    # Within the grace, so that it is no death: a fake kernel is there again at once.
    fake = fake_kernel()
    kernel = pool.attach(fake.connection_file)
    diary.of(kernel)
    for number in range(times):
        fake.do(FakeKernel.restart)
        diary.wait_for(*["restart"] * (number + 1))
    assert kernel.alive


def cut(fake: FakeKernel) -> None:
    """Close all its connections; it is the same kernel that listens again."""
    for channel in KINDS:
        fake.sockets.unbind(channel)
    for channel in KINDS:
        fake.sockets.bind(channel)


@pytest.mark.full
def test_a_cut_is_neither(pool: KernelPool, fake_kernel: StartFake, diary: Diary) -> None:
    fake = fake_kernel()
    kernel = pool.attach(fake.connection_file)
    diary.of(kernel)
    asked = [each.type for each in fake.requests].count("kernel_info_request")
    fake.do(cut)
    fake.wait_for("kernel_info_request", asked + 1)  # the proof is wanted again
    assert kernel.run("1").status == "ok"
    fake.close()
    diary.wait_for("dead")


@pytest.mark.full
@pytest.mark.parametrize("verb", ["shutdown", "detach", "close"])
def test_an_end_that_was_wanted_is_no_death(pool: KernelPool, diary: Diary, verb: str) -> None:
    kernel = pool.start()
    diary.of(kernel)
    getattr(pool if verb == "close" else kernel, verb)()
    assert not kernel.alive
    pool.close()
    assert diary.entries == []


@pytest.mark.full
def test_a_callback_may_use_the_kernel(pool: KernelPool, diary: Diary) -> None:
    kernel = pool.start()

    def restart_and_tell() -> None:
        kernel.restart()
        diary.note(kernel.run("print('restarted')").stdout.strip())

    kernel.add_restart_callback(restart_and_tell, "dead")
    kernel.add_restart_callback(diary.noting("after it"), "dead")
    kernel.add_restart_callback(diary.noting("restart"))
    for _ in range(2):
        kernel.signal(signal.SIGKILL)
        diary.wait_for("restarted", "after it", "restart")
        diary.entries.clear()


def test_a_kernel_that_dies_at_each_start_is_not_restarted_for_ever(
    pool: KernelPool, diary: Diary
) -> None:
    kernel = pool.start()
    assert kernel.owned is not None
    diary.of(kernel)

    def restart() -> None:
        with pytest.raises(KernelMagicsError):
            kernel.restart()
        diary.note("gave up")

    kernel.add_restart_callback(restart, "dead")
    kernel.owned.options = LaunchOptions(env={"PYTHONHOME": "/no/such/folder"})
    assert kernel.pid is not None
    os.kill(kernel.pid, signal.SIGKILL)
    diary.wait_for("dead", "gave up")
    wait_until(partial(settled, kernel._life.callbacks), what="nothing more is called")
    assert diary.entries == ["dead", "gave up"]


def test_a_pool_can_be_closed_by_a_callback(pool: KernelPool, diary: Diary) -> None:
    kernel = pool.start()
    kernel.add_restart_callback(pool.close, "dead")
    kernel.add_restart_callback(diary.noting("closed"), "dead")
    kernel.signal(signal.SIGKILL)
    diary.wait_for("closed")
    assert pool.names == []
