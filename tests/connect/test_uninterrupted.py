"""Ctrl-C held back, and let in: real signals to this process."""

# ruff: noqa: PT012 - where in a block it strikes is what these are about

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Generator
from functools import partial

import pytest

from kernel_magics.connect.uninterrupted import interruptible, uninterrupted


def press() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def pythons_own_handler() -> Generator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


def test_it_strikes_at_the_end_and_once() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt):
        with uninterrupted():
            press()
            press()
            done.append("all of it")
        done.append("not this")
    assert done == ["all of it"]
    with uninterrupted():
        pass  # nothing is left of it


def test_it_strikes_in_a_wait() -> None:
    with uninterrupted(), pytest.raises(KeyboardInterrupt), interruptible():
        press()
        pytest.fail("it did not strike")


def test_one_from_before_strikes_when_the_wait_begins() -> None:
    waited = False
    with uninterrupted():
        press()
        with pytest.raises(KeyboardInterrupt), interruptible():
            waited = True
        with interruptible():
            pass  # it has struck already
    assert not waited


def test_what_begins_within_a_wait_is_uninterrupted_again() -> None:
    done = []
    with uninterrupted(), pytest.raises(KeyboardInterrupt), interruptible():
        with uninterrupted():
            press()
            done.append("all of it")
        pytest.fail("it did not strike")
    assert done == ["all of it"]


def test_nested_it_strikes_at_the_outer_end() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        with uninterrupted():
            press()
        done.append("behind the inner one")
    assert done == ["behind the inner one"]


def test_an_error_is_not_lost_to_it() -> None:
    with pytest.raises(KeyboardInterrupt) as raised, uninterrupted():
        press()
        raise ValueError("the disk is full")
    assert isinstance(raised.value.__context__, ValueError)


def test_whoever_handled_it_before_is_asked() -> None:
    calls: list[int] = []
    before = signal.signal(signal.SIGINT, lambda signum, frame: calls.append(signum))
    try:
        with uninterrupted():
            press()
            assert calls == []
        assert calls == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with uninterrupted(), interruptible():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            press()
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_changes_nothing() -> None:
    def other() -> None:
        with uninterrupted(), interruptible():
            seen.append(signal.getsignal(signal.SIGINT))

    seen: list[object] = []
    with uninterrupted():
        ours = signal.getsignal(signal.SIGINT)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert seen == [ours]


def test_no_child_is_orphaned_while_it_is_born() -> None:
    press_here = partial(os.kill, os.getpid(), signal.SIGINT)
    child: subprocess.Popen[bytes] | None = None
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        # Run in the child before its `exec`, for which the constructor waits.
        child = subprocess.Popen(["sleep", "60"], preexec_fn=press_here)
    assert child is not None
    child.kill()
    child.wait()
