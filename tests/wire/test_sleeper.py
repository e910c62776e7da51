"""Sleeping until a descriptor can be read: the quickest way, and the one that works everywhere."""

import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing

import pytest

from kernel_magics.wire.sleeper import AnySleeper, LinuxSleeper, Sleeper, make_sleeper

LONG = 30.0


@pytest.fixture(params=[AnySleeper, LinuxSleeper])
def sleeper(request: pytest.FixtureRequest) -> Generator[Sleeper]:
    make: Callable[[], Sleeper] = request.param
    with closing(make()) as sleeper:
        yield sleeper


@pytest.fixture
def pair() -> Generator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    with here, there:
        yield here, there


Pair = tuple[socket.socket, socket.socket]


def test_the_quickest_is_taken() -> None:
    with closing(make_sleeper()) as sleeper:
        assert isinstance(sleeper, LinuxSleeper)


def test_with_nothing_to_wait_for_it_sleeps_as_long_as_it_may(sleeper: Sleeper) -> None:
    begin = time.monotonic()
    assert sleeper.sleep(0.0105) == []
    assert time.monotonic() - begin >= 0.0105


def awake(sleeper: Sleeper, seconds: float = LONG) -> list[int]:
    """The descriptors for which it woke up."""
    return [descriptor for descriptor, _ in sleeper.sleep(seconds)]


def test_what_can_be_read_is_named_until_it_was_read(sleeper: Sleeper, pair: Pair) -> None:
    here, there = pair
    sleeper.add(there.fileno())
    assert awake(sleeper, 0) == []
    here.send(b"x")
    assert awake(sleeper) == [there.fileno()]
    assert awake(sleeper) == [there.fileno()]
    there.recv(1)
    assert awake(sleeper, 0) == []


def test_all_that_can_be_read_are_named(sleeper: Sleeper, pair: Pair) -> None:
    for each, other in (pair, pair[::-1]):
        sleeper.add(each.fileno())
        other.send(b"x")
    assert set(awake(sleeper)) == {each.fileno() for each in pair}


def test_one_that_was_removed_wakes_nobody(sleeper: Sleeper, pair: Pair) -> None:
    here, there = pair
    sleeper.add(there.fileno())
    here.send(b"x")
    sleeper.remove(there.fileno())
    assert awake(sleeper, 0) == []


def test_one_that_another_thread_adds_wakes_who_sleeps_already(
    sleeper: Sleeper, pair: Pair
) -> None:
    here, there = pair
    here.send(b"x")
    adding = threading.Timer(0.02, sleeper.add, (there.fileno(),))
    adding.start()
    assert awake(sleeper) == [there.fileno()]
    adding.join()
