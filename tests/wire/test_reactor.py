"""The one I/O thread: what others hand it, the time it served, and its end."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import pytest
import zmq

from kernel_magics.errors import Closed
from kernel_magics.wire.reactor import LATE, LONGEST_POLL, Reactor, Reader
from tests.support.sandbox import Sandbox
from tests.support.waiting import PATIENCE, wait_until

STALL = LATE + LONGEST_POLL + 0.5
"""Seconds: certainly longer than what a late turn may count."""


@pytest.fixture
def reactor() -> Generator[Reactor]:
    reactor = Reactor("reactor under test")
    yield reactor
    reactor.close()


@contextmanager
def held(reactor: Reactor) -> Generator[None]:
    """The I/O thread sits in a callback until the block ends: it serves nobody."""
    begun, finish = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        assert finish.wait(PATIENCE)

    reactor.post(hold)
    assert begun.wait(PATIENCE)
    try:
        yield
    finally:
        finish.set()


def turned(reactor: Reactor) -> None:
    """Return when all that was posted before has run."""
    reactor.ask(lambda: None)


# Posting.


def test_it_costs_no_thread_before_the_first_post() -> None:
    before = threading.active_count()
    reactor = Reactor()
    assert threading.active_count() == before
    reactor.close()


def test_everything_runs_on_one_thread_of_its_own(reactor: Reactor) -> None:
    threads = {reactor.ask(threading.current_thread) for _ in range(10)}
    assert len(threads) == 1
    assert threading.current_thread() not in threads


def test_what_each_thread_posts_runs_once_and_in_its_order(reactor: Reactor) -> None:
    ran: list[tuple[int, int]] = []

    def post(thread: int) -> None:
        for number in range(2000):
            reactor.post(partial(ran.append, (thread, number)))

    threads = [threading.Thread(target=post, args=[each]) for each in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    turned(reactor)
    assert len(ran) == 8 * 2000
    for thread in range(8):
        assert [number for who, number in ran if who == thread] == list(range(2000))


def test_a_post_wakes_the_thread_out_of_its_poll(reactor: Reactor) -> None:
    # A wake-up that got lost would cost a poll's whole length, each time.
    turned(reactor)
    slowest = 0.0
    for _ in range(2000):
        began = time.monotonic()
        turned(reactor)
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < 0.8 * LONGEST_POLL


def test_a_signal_handler_may_post_while_the_thread_it_interrupts_is_posting(
    reactor: Reactor,
) -> None:
    from_handler: list[int] = []
    from_thread: list[int] = []
    sent: list[int] = []

    def handle(signum: int, frame: object) -> None:
        number = len(sent)  # not its own: one signal may interrupt the handler of another
        sent.append(number)
        reactor.post(partial(from_handler.append, number))

    turned(reactor)
    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        number = 0
        deadline = time.monotonic() + PATIENCE
        while len(sent) < 200 and time.monotonic() < deadline:
            reactor.post(partial(from_thread.append, number))
            number += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    turned(reactor)
    assert len(sent) >= 200
    assert sorted(from_handler) == sorted(sent)
    assert from_thread == list(range(number))


# Running at once.


def asleep(reactor: Reactor) -> Reactor:
    """The reactor, once its thread has nothing to do."""
    turned(reactor)
    wait_until(lambda: reactor._polling and not reactor._turn.locked(), what="it sleeps")
    return reactor


def test_what_is_run_at_once_runs_here_if_the_thread_sleeps(reactor: Reactor) -> None:
    ran: list[threading.Thread] = []
    asleep(reactor).run_or_post(lambda: ran.append(threading.current_thread()))
    assert ran == [threading.current_thread()]


def test_what_is_run_at_once_waits_its_turn_if_the_thread_is_at_work(reactor: Reactor) -> None:
    ran: list[str] = []
    with held(reactor):
        reactor.post(lambda: ran.append("posted"))
        reactor.run_or_post(lambda: ran.append("at once"))
        assert ran == []
    turned(reactor)
    assert ran == ["posted", "at once"]


def test_the_first_thing_to_run_at_once_starts_the_thread(reactor: Reactor) -> None:
    ran: list[str] = []
    reactor.run_or_post(lambda: ran.append("ran"))
    turned(reactor)
    assert ran == ["ran"]


def test_what_is_run_at_once_raises_here_and_the_thread_goes_on(reactor: Reactor) -> None:
    with pytest.raises(ZeroDivisionError):
        asleep(reactor).run_or_post(lambda: [1 / 0])  # type: ignore[arg-type, return-value]
    assert reactor.ask(lambda: "goes on") == "goes on"


def test_what_is_run_at_once_is_refused_if_it_is_closed_meanwhile(
    reactor: Reactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ClosedFirst:
        """The lock of one who has closed it before we get it."""

        def locked(self) -> bool:
            return False

        def __enter__(self) -> None:
            reactor._closing = True

        def __exit__(self, *exc: object) -> None:
            reactor._closing = False

    asleep(reactor)
    monkeypatch.setattr(reactor, "_turn", ClosedFirst())
    with pytest.raises(Closed):
        reactor.run_or_post(lambda: pytest.fail("it ran"))
    monkeypatch.undo()


def test_what_is_run_at_once_may_leave_something_for_soon(reactor: Reactor) -> None:
    order: list[str] = []

    def at_once() -> None:
        reactor.soon(lambda: order.append("soon"))
        order.append("at once")

    asleep(reactor).run_or_post(at_once)
    assert order == ["at once", "soon"]


def test_a_timer_that_is_set_at_once_does_not_wait_for_the_sleep_to_end(reactor: Reactor) -> None:
    ran = threading.Event()
    began = time.monotonic()
    asleep(reactor).run_or_post(lambda: [reactor.call_later(0.01, ran.set)])  # type: ignore[arg-type, return-value]
    assert ran.wait(PATIENCE)
    assert time.monotonic() - began < LONGEST_POLL


def test_what_arrives_while_something_runs_at_once_is_read(reactor: Reactor, pair: Pair) -> None:
    here, there = pair
    got: list[bytes] = []
    reactor.ask(lambda: reactor.watch(here, reading(here, got)))

    def eat() -> None:
        there.send(b"unnoticed")
        assert here.getsockopt(zmq.EVENTS) & zmq.POLLIN
        reactor.used(here)

    asleep(reactor).run_or_post(eat)
    wait_until(lambda: got, what="it was read")


def test_time_has_passed_for_what_is_run_at_once(reactor: Reactor) -> None:
    before = reactor.ask(lambda: reactor.now)
    asleep(reactor)
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 0.1, what="some time")
    now: list[float] = []
    reactor.run_or_post(lambda: now.append(reactor.now))
    assert now[0] - before >= 0.1


def test_threads_that_run_something_at_once_take_turns(reactor: Reactor) -> None:
    inside: list[str] = []

    def alone(name: str) -> None:
        assert not inside
        inside.append(name)
        sum(range(1000))
        inside.clear()
        done.append(name)

    done: list[str] = []
    names = [f"{n}" for n in range(4)]

    def work(name: str) -> None:
        for _ in range(200):
            reactor.run_or_post(partial(alone, name))

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    turned(reactor)
    assert sorted(done) == sorted(names * 200)


# Asking.


def test_ask_waits_as_long_as_it_takes(reactor: Reactor) -> None:
    with held(reactor):
        answers: list[int] = []
        asking = threading.Thread(target=lambda: answers.append(reactor.ask(lambda: 42)))
        asking.start()
        asking.join(LONGEST_POLL + 0.2)
        assert answers == []
    asking.join(PATIENCE)
    assert answers == [42]


def test_ask_gives_the_result(reactor: Reactor) -> None:
    assert reactor.ask(lambda: 6 * 7) == 42


def test_ask_raises_what_was_raised(reactor: Reactor) -> None:
    with pytest.raises(ZeroDivisionError):
        reactor.ask(lambda: 1 / 0)


def test_ask_on_the_thread_itself_does_not_wait_for_itself(reactor: Reactor) -> None:
    assert reactor.ask(lambda: reactor.ask(lambda: "inner")) == "inner"


def test_soon_is_after_everything_that_was_posted_already(reactor: Reactor) -> None:
    order: list[str] = []
    with held(reactor):
        reactor.post(lambda: reactor.soon(lambda: order.append("soon")))
        reactor.post(lambda: order.append("posted"))
    turned(reactor)
    turned(reactor)
    assert order == ["posted", "soon"]


# Mistakes.


def raising() -> None:
    raise RuntimeError("a mistake on purpose")


HAND_OVER: dict[str, Callable[[Reactor], object]] = {
    "posted": lambda reactor: reactor.post(raising),
    "soon": lambda reactor: reactor.post(lambda: reactor.soon(raising)),
    "timer": lambda reactor: reactor.ask(lambda: reactor.call_later(0, raising)),
}


@pytest.mark.parametrize("way", HAND_OVER)
def test_an_exception_in_a_callback_is_logged_and_the_thread_goes_on(
    reactor: Reactor, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    with caplog.at_level(logging.ERROR, "kernel_magics.wire"):
        HAND_OVER[way](reactor)
        wait_until(lambda: caplog.records, what="the mistake is logged")
    assert "a mistake on purpose" in caplog.text
    assert reactor.ask(lambda: "goes on") == "goes on"


def test_an_exception_in_one_callback_does_not_hold_back_the_next(
    reactor: Reactor, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[str] = []
    with held(reactor):
        reactor.post(raising)
        reactor.post(lambda: ran.append("next"))
    turned(reactor)
    assert ran == ["next"]


# Timers.


def test_timers_run_in_the_order_of_their_times(reactor: Reactor) -> None:
    ran: list[float] = []

    def set_all() -> None:
        for delay in (0.03, 0.01, 0.02):
            reactor.call_later(delay, partial(ran.append, delay))

    reactor.post(set_all)
    wait_until(lambda: len(ran) == 3, what="three timers ran")
    assert ran == [0.01, 0.02, 0.03]


def test_timers_of_one_moment_run_in_the_order_of_their_making(reactor: Reactor) -> None:
    ran: list[int] = []

    def set_all() -> None:
        for number in range(50):
            reactor.call_later(0.01, partial(ran.append, number))

    reactor.post(set_all)
    wait_until(lambda: len(ran) == 50, what="fifty timers ran")
    assert ran == list(range(50))


def test_a_timer_never_runs_early(reactor: Reactor) -> None:
    waited: list[float] = []

    def set_one(delay: float) -> None:
        began = reactor.now
        reactor.call_later(delay, lambda: waited.append(reactor.now - began - delay))

    for delay in (0.0, 0.001, 0.01, 0.1):
        reactor.post(partial(set_one, delay))
    wait_until(lambda: len(waited) == 4, what="four timers ran")
    assert min(waited) >= 0


def test_a_timer_runs_once(reactor: Reactor) -> None:
    ran: list[str] = []
    reactor.ask(lambda: reactor.call_later(0.01, lambda: ran.append("once")))
    reactor.ask(lambda: reactor.call_later(0.05, lambda: ran.append("later")))
    wait_until(lambda: "later" in ran, what="the later timer ran")
    assert ran == ["once", "later"]


def test_a_cancelled_timer_does_not_run(reactor: Reactor) -> None:
    ran: list[str] = []
    timer = reactor.ask(lambda: reactor.call_later(0.02, lambda: ran.append("cancelled")))
    reactor.ask(lambda: reactor.call_later(0.04, lambda: ran.append("kept")))
    timer.cancel()
    wait_until(lambda: ran, what="the later timer ran")
    assert ran == ["kept"]


def test_a_timer_may_be_cancelled_by_another_one_of_the_same_moment(reactor: Reactor) -> None:
    ran: list[str] = []

    def set_all() -> None:
        def cancel_second() -> None:
            ran.append("first")
            second.cancel()

        reactor.call_later(0.01, cancel_second)
        second = reactor.call_later(0.01, lambda: ran.append("second"))
        reactor.call_later(0.02, lambda: ran.append("third"))

    reactor.post(set_all)
    wait_until(lambda: "third" in ran, what="the last timer ran")
    assert ran == ["first", "third"]


def test_a_cancelled_timer_does_not_wake_the_thread(reactor: Reactor) -> None:
    timer = reactor.ask(lambda: reactor.call_later(PATIENCE, lambda: None))
    timer.cancel()
    turned(reactor)
    assert reactor.ask(lambda: reactor._timers) == []


def test_cancelling_twice_or_too_late_is_fine(reactor: Reactor) -> None:
    ran: list[str] = []
    timer = reactor.ask(lambda: reactor.call_later(0, lambda: ran.append("ran")))
    wait_until(lambda: ran, what="the timer ran")
    timer.cancel()
    timer.cancel()


def test_a_timer_may_set_the_next_one(reactor: Reactor) -> None:
    ran: list[int] = []

    def again() -> None:
        ran.append(len(ran))
        if len(ran) < 5:
            reactor.call_later(0.001, again)

    reactor.post(again)
    wait_until(lambda: len(ran) == 5, what="five in a row")


# Time that counts.


def test_time_goes_on_while_nothing_happens(reactor: Reactor) -> None:
    before = reactor.ask(lambda: reactor.now)
    wait_until(
        lambda: reactor.ask(lambda: reactor.now) - before >= 0.2, timeout=5, what="0.2 s served"
    )


@pytest.mark.full
def test_a_stall_counts_as_little(reactor: Reactor) -> None:
    before = reactor.ask(lambda: reactor.now)
    began = time.monotonic()
    with held(reactor):
        # Nothing but time can make a stall long.
        wait_until(lambda: time.monotonic() - began >= STALL, what="a long stall")
    assert reactor.ask(lambda: reactor.now) - before < STALL - LATE


def test_an_hour_asleep_counts_as_late_and_no_more(
    reactor: Reactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = 0.0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + ahead)
    monkeypatch.setattr("kernel_magics.wire.reactor.time", clock)
    began = time.monotonic()
    before = reactor.ask(lambda: reactor.now)
    ahead = 3600.0
    after = reactor.ask(lambda: reactor.now)
    took = time.monotonic() - began  # that passed as well, before and after the hour
    assert after - before <= LATE + LONGEST_POLL + took


def test_a_timer_still_waits_its_full_time_after_a_stall(
    reactor: Reactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = 0.0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + ahead)
    monkeypatch.setattr("kernel_magics.wire.reactor.time", clock)
    ran: list[str] = []
    delay = LATE + LONGEST_POLL + 0.2
    reactor.ask(lambda: reactor.call_later(delay, lambda: ran.append("late")))
    ahead = 3600.0
    turned(reactor)
    turned(reactor)
    assert ran == []
    wait_until(lambda: ran, timeout=delay + 5, what="it runs in its time")


# Sockets.


@pytest.fixture
def pair(reactor: Reactor) -> tuple[zmq.Socket[bytes], zmq.Socket[bytes]]:
    """Two joined sockets; both belong to the I/O thread."""

    def make() -> tuple[zmq.Socket[bytes], zmq.Socket[bytes]]:
        here, there = reactor.context.socket(zmq.PAIR), reactor.context.socket(zmq.PAIR)
        here.bind("inproc://pair")
        there.connect("inproc://pair")
        return here, there

    return reactor.ask(make)


Pair = tuple[zmq.Socket[bytes], zmq.Socket[bytes]]


def reading(sock: zmq.Socket[bytes], got: list[bytes], at_most: int = 1000) -> Reader:
    """A reader that keeps what it reads, and leaves the rest for the next turn."""

    def read() -> bool:
        for _ in range(at_most):
            if not sock.getsockopt(zmq.EVENTS) & zmq.POLLIN:
                return False
            got.append(sock.recv())
        return True

    return read


def test_a_watched_socket_is_read_when_there_is_something_to_read(
    reactor: Reactor, pair: Pair
) -> None:
    here, there = pair
    got: list[bytes] = []
    reactor.post(lambda: reactor.watch(here, reading(here, got)))
    for number in range(3):
        reactor.ask(partial(there.send, b"%d" % number))
    wait_until(lambda: len(got) == 3, what="three messages")
    assert got == [b"0", b"1", b"2"]


def test_a_reader_that_leaves_something_unread_is_called_again(
    reactor: Reactor, pair: Pair
) -> None:
    here, there = pair
    got: list[bytes] = []
    reactor.ask(lambda: [there.send(b"") for _ in range(5)])
    reactor.post(lambda: reactor.watch(here, reading(here, got, at_most=1)))
    wait_until(lambda: len(got) == 5, what="five turns")


def test_a_reader_that_fails_is_called_again(reactor: Reactor, pair: Pair) -> None:
    here, there = pair
    got: list[bytes] = []

    def read() -> bool:
        if here.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            got.append(here.recv())
            raise ValueError("a mistake of ours")
        return False

    reactor.ask(lambda: [there.send(b"") for _ in range(5)])
    reactor.post(lambda: reactor.watch(here, read))
    wait_until(lambda: len(got) == 5, what="all were read")


def test_a_message_whose_signal_was_eaten_is_read(reactor: Reactor, pair: Pair) -> None:
    # Sending, or asking for an option, makes libzmq take note of what has arrived meanwhile.
    here, there = pair
    got: list[bytes] = []
    reactor.ask(lambda: reactor.watch(here, reading(here, got)))

    def eat() -> None:
        there.send(b"unnoticed")
        assert here.getsockopt(zmq.EVENTS) & zmq.POLLIN
        reactor.used(here)

    turned(reactor)
    reactor.ask(eat)
    wait_until(lambda: got, what="it was read")


def test_an_unwatched_socket_is_left_alone(reactor: Reactor, pair: Pair) -> None:
    here, there = pair
    got: list[bytes] = []

    def change() -> None:
        reactor.watch(here, reading(here, got))
        reactor.unwatch(here)
        reactor.unwatch(here)
        there.send(b"unheard")

    reactor.ask(change)
    turned(reactor)
    turned(reactor)
    assert got == []


def test_a_socket_that_another_callback_closed_in_the_same_turn_is_not_read(
    reactor: Reactor, caplog: pytest.LogCaptureFixture
) -> None:
    read: list[str] = []

    def make() -> None:
        sockets = {}
        for name, other in (("a", "b"), ("b", "a")):
            here, there = reactor.context.socket(zmq.PAIR), reactor.context.socket(zmq.PAIR)
            here.bind(f"inproc://{name}")
            there.connect(f"inproc://{name}")
            there.send(b"")
            sockets[name] = here

            def close_other(name: str = name, other: str = other) -> bool:
                read.append(name)
                reactor.unwatch(sockets[name])
                reactor.unwatch(sockets[other])
                sockets[other].close(linger=0)
                return False

            reactor.watch(here, close_other)

    reactor.ask(make)
    wait_until(lambda: read, what="one of them was read")
    turned(reactor)
    assert len(read) == 1
    assert caplog.text == ""


def test_soon_is_after_everything_readable_was_read(reactor: Reactor) -> None:
    order: list[str] = []

    def make() -> None:
        for number in range(3):
            here, there = reactor.context.socket(zmq.PAIR), reactor.context.socket(zmq.PAIR)
            here.bind(f"inproc://{number}")
            there.connect(f"inproc://{number}")
            there.send(b"")

            def read(here: zmq.Socket[bytes] = here) -> bool:
                while here.getsockopt(zmq.EVENTS) & zmq.POLLIN:
                    here.recv()
                    order.append("read")
                    reactor.soon(lambda: order.append("soon"))
                return False

            reactor.watch(here, read)

    reactor.ask(make)
    wait_until(lambda: len(order) == 6, what="three were read")
    assert order == ["read"] * 3 + ["soon"] * 3


# The end.


def test_closing_twice_is_fine(reactor: Reactor) -> None:
    turned(reactor)
    reactor.close()
    reactor.close()


def test_closing_what_was_never_used_is_fine() -> None:
    Reactor().close()


def test_threads_may_close_it_together(reactor: Reactor) -> None:
    turned(reactor)
    threads = [threading.Thread(target=reactor.close) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(PATIENCE)
    assert not any(each.is_alive() for each in threads)


def test_a_second_start_changes_nothing(reactor: Reactor) -> None:
    # As when two threads post the first thing at the same time.
    turned(reactor)
    thread = reactor._thread
    reactor._start()
    assert reactor._thread is thread


def test_in_another_process_it_refuses(reactor: Reactor, monkeypatch: pytest.MonkeyPatch) -> None:
    turned(reactor)
    monkeypatch.setattr(reactor, "_pid", -1)
    for use in (reactor.post, reactor.run_or_post):
        with pytest.raises(Closed, match="forked"):
            use(lambda: None)
    monkeypatch.undo()


def test_closing_ends_the_thread(reactor: Reactor) -> None:
    thread = reactor.ask(threading.current_thread)
    reactor.close()
    assert not thread.is_alive()


def test_closing_closes_sockets_that_were_left(reactor: Reactor, pair: Pair) -> None:
    reactor.close()
    assert [each.closed for each in pair] == [True, True]


@pytest.mark.parametrize("used", [True, False], ids=["used", "unused"])
def test_after_closing_everything_is_refused(reactor: Reactor, used: bool) -> None:
    if used:
        turned(reactor)
    reactor.close()
    with pytest.raises(Closed):
        reactor.post(lambda: None)
    with pytest.raises(Closed):
        reactor.ask(lambda: None)


def test_who_asks_while_it_closes_is_not_left_waiting(reactor: Reactor) -> None:
    ended = threading.Event()
    outcome: list[object] = []

    def ask() -> None:
        try:
            outcome.append(reactor.ask(lambda: "answered"))
        except Closed as error:
            outcome.append(error)
        ended.set()

    asking = threading.Thread(target=ask, daemon=True)
    closing = threading.Thread(target=reactor.close, daemon=True)
    with held(reactor):
        asking.start()
        wait_until(lambda: reactor._posted, what="it was asked")
        closing.start()
        wait_until(lambda: reactor._closing, what="it is being closed")
    closing.join(PATIENCE)
    assert ended.wait(2), "asked for ever"
    asking.join()


FORK = """
import os, sys
from kernel_magics.errors import Closed
from kernel_magics.wire.reactor import Reactor

reactor = Reactor()
assert reactor.ask(lambda: "parent") == "parent"
child = os.fork()
if child == 0:
    for use in (reactor.post, reactor.ask):
        try:
            use(lambda: None)
        except Closed as error:
            print("refused:", error, flush=True)
    reactor.close()
    reactor.close()
    os._exit(7)
_, status = os.waitpid(child, 0)
print("child ended with", os.waitstatus_to_exitcode(status))
print("the parent goes on:", reactor.ask(lambda: "parent"))
reactor.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_in_a_forked_child_it_is_closed_and_the_parent_does_not_notice(sandbox: Sandbox) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK],
        env=sandbox.environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    refused = "refused: kernels cannot be used in a forked process; attach them again there"
    assert ran.stdout.splitlines() == [
        refused,
        refused,
        "child ended with 7",
        "the parent goes on: parent",
    ], ran.stderr
    assert ran.returncode == 0
