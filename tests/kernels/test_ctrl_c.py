"""What Ctrl-C means while somebody waits for a kernel; with real signals."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Generator

import pytest

from kernel_magics.kernels.ctrl_c import CtrlC
from tests.support.waiting import PATIENCE


def press() -> None:
    """What a terminal does: a signal for the process, which its main thread handles."""
    os.kill(os.getpid(), signal.SIGINT)
    # The handler runs between two bytecodes of this thread; a signal to oneself is not late.


@pytest.fixture(autouse=True)
def python_handler() -> Generator[None]:
    """Python's own handler, whatever the test run does with SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def calls() -> list[str]:
    return []


def test_the_first_press_calls_and_does_not_raise(calls: list[str]) -> None:
    with CtrlC() as ctrl_c:
        ctrl_c.call_first(lambda: calls.append("called"))
        press()
        assert (calls, ctrl_c.pressed) == (["called"], 1)


def test_the_second_press_raises_and_does_not_call_again(calls: list[str]) -> None:
    with CtrlC() as ctrl_c:
        ctrl_c.call_first(lambda: calls.append("called"))
        press()
        with pytest.raises(KeyboardInterrupt):
            press()
        assert (calls, ctrl_c.pressed) == (["called"], 2)


def test_every_further_press_raises() -> None:
    with CtrlC() as ctrl_c:
        ctrl_c.call_first(lambda: None)
        press()
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                press()
        assert ctrl_c.pressed == 4


def test_nothing_is_raised_while_a_cell_is_sent(calls: list[str]) -> None:
    with CtrlC() as ctrl_c:
        press()
        press()
        with pytest.raises(KeyboardInterrupt):
            ctrl_c.call_first(lambda: calls.append("called"))
    assert calls == ["called"]


def test_a_press_before_there_was_anything_to_call_is_not_lost(calls: list[str]) -> None:
    with CtrlC() as ctrl_c:
        press()
        ctrl_c.call_first(lambda: calls.append("called"))
        assert calls == ["called"]


def test_without_a_press_nothing_is_called(calls: list[str]) -> None:
    with CtrlC() as ctrl_c:
        ctrl_c.call_first(lambda: calls.append("called"))
    assert calls == []


def test_a_press_by_hand_counts_like_a_signal(calls: list[str]) -> None:
    with CtrlC() as ctrl_c:
        ctrl_c.call_first(lambda: calls.append("called"))
        ctrl_c.press()
        assert calls == ["called"]
        with pytest.raises(KeyboardInterrupt):
            press()


def test_in_a_prompt_the_first_press_raises_at_once(calls: list[str]) -> None:
    with CtrlC() as ctrl_c:
        ctrl_c.call_first(lambda: calls.append("called"))
        with pytest.raises(KeyboardInterrupt), ctrl_c.raising():
            press()
        # Whoever sat in the prompt says whether it was a press at all.
        assert (calls, ctrl_c.pressed) == ([], 0)


def test_after_the_prompt_a_press_calls_again(calls: list[str]) -> None:
    with CtrlC() as ctrl_c:
        ctrl_c.call_first(lambda: calls.append("called"))
        with ctrl_c.raising():
            pass
        press()
        assert calls == ["called"]


def test_a_press_reaches_who_waits_in_a_queue(calls: list[str]) -> None:
    events: queue.SimpleQueue[str] = queue.SimpleQueue()
    with CtrlC() as ctrl_c:
        ctrl_c.call_first(lambda: events.put("interrupted"))
        pressing = threading.Timer(0.1, press)
        pressing.start()
        began = time.monotonic()
        assert events.get(timeout=PATIENCE) == "interrupted"
        assert time.monotonic() - began < 5
        pressing.join()


def test_afterwards_the_handler_of_before_is_back() -> None:
    with CtrlC():
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        press()


def test_after_an_error_the_handler_of_before_is_back() -> None:
    with pytest.raises(ZeroDivisionError), CtrlC():
        _ = 1 / 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_within_another_the_inner_one_has_the_presses(calls: list[str]) -> None:
    with CtrlC() as outer:
        outer.call_first(lambda: calls.append("outer"))
        with CtrlC() as inner:
            inner.call_first(lambda: calls.append("inner"))
            press()
        press()
    assert calls == ["inner", "outer"]


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_a_process_that_does_not_want_to_hear_of_it_does_not(handler: signal.Handlers) -> None:
    # As under nohup, or in a job of a shell without job control.
    signal.signal(signal.SIGINT, handler)
    try:
        with CtrlC():
            assert signal.getsignal(signal.SIGINT) is handler
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_in_another_thread_it_touches_nothing(calls: list[str]) -> None:
    inside, leave = threading.Event(), threading.Event()
    handlers: list[object] = []

    def wait_there() -> None:
        with CtrlC() as ctrl_c:
            ctrl_c.call_first(lambda: calls.append("called"))
            handlers.append(signal.getsignal(signal.SIGINT))
            inside.set()
            leave.wait(PATIENCE)

    thread = threading.Thread(target=wait_there)
    thread.start()
    assert inside.wait(PATIENCE)
    try:
        with pytest.raises(KeyboardInterrupt):
            press()
    finally:
        leave.set()
        thread.join()
    assert handlers == [signal.default_int_handler]
    assert calls == []
