"""Several kernels as one: who is meant, what each returned, what went wrong where."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack

import pytest

from kernel_magics.errors import (
    BadName,
    ItemErrors,
    KernelDied,
    KernelMagicsError,
    KernelNotFound,
    RemoteError,
    RemoteErrors,
)
from kernel_magics.kernels.group import Group
from kernel_magics.kernels.pool import KernelPool
from tests.support import parts, steps
from tests.support.fake import FakeKernel
from tests.support.kernels import HandKernel
from tests.support.sandbox import Sandbox
from tests.support.waiting import wait_until

StartHand = Callable[..., HandKernel]
StartFake = Callable[..., FakeKernel]


@pytest.fixture(scope="module")
def three(shared_sandbox: Sandbox) -> Generator[dict[str, HandKernel]]:
    """Kernels for tests that do them no harm."""
    with ExitStack() as stack:
        kernels = {
            name: stack.enter_context(HandKernel("tcp", shared_sandbox))
            for name in ("gpu-1", "gpu-2", "cpu")
        }
        for kernel in kernels.values():
            kernel.wait_until_listening()
            kernel.ask("1")
        yield kernels


@pytest.fixture
def held(pool: KernelPool, three: dict[str, HandKernel]) -> KernelPool:
    """A pool that has attached them."""
    for name, kernel in three.items():
        pool.attach(kernel.connection_file, name).run(f"ME = {name!r}")
    return pool


# Who is meant.


@pytest.mark.full
@pytest.mark.parametrize(
    "targets, names",
    [
        ("all", ["gpu-1", "gpu-2", "cpu"]),
        ("gpu-*", ["gpu-1", "gpu-2"]),
        ("gpu-[2-9],gpu-?", ["gpu-2", "gpu-1"]),
        ("cpu, gpu-1 ,cpu", ["cpu", "gpu-1"]),
        ("cpu,all", ["cpu", "gpu-1", "gpu-2"]),
        ("cpu", ["cpu"]),
    ],
)
def test_targets_are_each_once_in_the_order_given(
    held: KernelPool, targets: str, names: list[str]
) -> None:
    assert held.select(targets).names == names


def test_a_fragment_is_attached_and_is_the_same_as_its_name(
    pool: KernelPool, hand_kernel: StartHand
) -> None:
    fragment = hand_kernel().name
    group = pool.select(f"{fragment},{fragment}")
    assert len(group) == len(pool) == 1
    assert pool.select(f"{fragment},{group.names[0]},*").names == group.names


@pytest.mark.parametrize(
    "targets, error, said",
    [
        ("tpu-*", KernelNotFound, "searched the attached kernels (gpu-1, gpu-2, cpu). %kernel_"),
        ("cpu,", BadName, "nothing between two of its commas"),
        ("", BadName, "nothing between two of its commas"),
    ],
)
def test_what_means_nobody_is_an_error(
    held: KernelPool, targets: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=None) as raised:
        held.select(targets)
    assert said in str(raised.value)


def test_all_of_none_says_how_to_attach_some(pool: KernelPool) -> None:
    with pytest.raises(KernelNotFound, match="%kernel_attach adds one"):
        pool.select("all")


# Running.


def test_each_has_its_own_result_in_the_order_given(held: KernelPool) -> None:
    results = held.select("cpu,gpu-*").run("print(ME); ME")
    assert {name: result.stdout for name, result in results.items()} == {
        "cpu": "cpu\n", "gpu-1": "gpu-1\n", "gpu-2": "gpu-2\n",
    }  # fmt: skip
    assert list(results) == ["cpu", "gpu-1", "gpu-2"]
    assert results.errors == {}


def test_they_run_at_the_same_time(held: KernelPool, sandbox: Sandbox) -> None:
    code = f"""\
import pathlib, time
here = pathlib.Path({str(sandbox.work)!r})
(here / ME).touch()
while len(list(here.glob('[cg]pu*'))) < 3: time.sleep(0.01)"""
    held.select("all").run(code, timeout=20)


def test_what_went_wrong_is_told_by_name_and_the_rest_is_there(held: KernelPool) -> None:
    with pytest.raises(RemoteErrors) as raised:
        held.select("all").run("print(ME)\nif ME != 'cpu': raise ValueError(ME)")
    error = raised.value
    assert str(error) == (
        "2 of 3 kernels failed. gpu-1: ValueError: gpu-1; gpu-2: ValueError: gpu-2"
    )
    assert isinstance(error.errors["gpu-2"], RemoteError)
    assert [result.status for result in error.results.values()] == ["error", "error", "ok"]
    assert error.results["gpu-1"].stdout == "gpu-1\n"
    results = held.select("all").run("1 / (ME != 'cpu')", raise_error=False)
    assert list(results.errors) == ["cpu"]


def test_one_that_dies_fails_alone(pool: KernelPool, hand_kernel: StartHand) -> None:
    victim, other = (hand_kernel() for _ in range(2))
    pool.attach(victim.connection_file, "victim")
    pool.attach(other.connection_file, "other")
    group = pool.select("victim,other")
    with pytest.raises(RemoteErrors) as raised:
        group.run(f"import os, signal\nif os.getpid() == {victim.pid}: os.kill({victim.pid}, 9)")
    (died,) = raised.value.errors.values()
    assert isinstance(died, KernelDied)
    assert died.may_have_run
    assert list(raised.value.results) == ["other"]
    with pytest.raises(RemoteErrors, match=r"1 of 2 kernels failed\. victim: KernelDied"):
        group.run("1")  # it is still one of them, until it is detached


def test_fail_fast_names_the_culprit_first(held: KernelPool) -> None:
    began = time.monotonic()
    with pytest.raises(RemoteErrors) as raised:
        held.select("all").run(
            "import time\nif ME == 'gpu-2': time.sleep(0.2); raise ValueError\ntime.sleep(30)",
            fail_fast=True,
        )
    assert time.monotonic() - began < 5
    assert list(raised.value.errors) == ["gpu-2", "gpu-1", "cpu"]


def test_a_prompt_is_asked_in_its_kernel_s_name(held: KernelPool) -> None:
    results = held.select("all").run("print(input('? '))", ask=lambda prompt, password: prompt)
    assert {name: r.stdout for name, r in results.items()} == {
        name: f"[{name}] ? \n" for name in ("gpu-1", "gpu-2", "cpu")
    }


def test_a_kernel_of_another_kind_takes_part(
    held: KernelPool, fake_kernel: StartFake, sandbox: Sandbox
) -> None:
    fake = fake_kernel(steps.cell(steps.stream("fake\n")))
    held.attach(fake.connection_file, "fake")
    assert held.select("cpu,fake").run("print(ME)")["fake"].stdout == "fake\n"


# Many items.


def test_results_are_in_the_order_of_the_items(held: KernelPool) -> None:
    group = held.select("all")
    assert group.map("lambda item: 2 * item", range(20)) == [2 * i for i in range(20)]
    assert group.map("lambda pair: {'sum': sum(pair)}", [[1, 2], [3, 4]]) == [
        {"sum": 3},
        {"sum": 7},
    ]
    assert group.map("str.upper", ["ü", "a'b\"\n"]) == ["Ü", "A'B\"\n"]
    assert group.map("str", []) == []


def test_functions_of_this_session_and_what_json_has_not_travel_as_they_are(
    held: KernelPool,
) -> None:
    parts.require("cloudpickle")
    factor = 2 + 1j
    group = held.select("all")
    assert group.map(lambda item: factor * item, range(6)) == [factor * i for i in range(6)]
    assert group.map(len, [b"abc", {1, 2}]) == [3, 2]
    with pytest.raises(ItemErrors, match="1 of 3 items failed"):
        group.map(lambda item: 1 / item, range(3))


def test_who_is_free_takes_the_next_item(held: KernelPool) -> None:
    slow = "lambda i: __import__('time').sleep(1 if i == 0 else 0.01) or ME"
    who = held.select("all").map(slow, range(20))
    assert who.count(who[0]) == 1
    assert len(set(who)) == 3


def test_items_that_fail_stand_among_the_results(held: KernelPool) -> None:
    group = held.select("all")
    with pytest.raises(ItemErrors, match=r"1 of 4 items failed\. 2 on .*: ZeroDivisionError") as it:
        group.map("lambda i: 1 / (i - 2)", range(4))
    assert it.value.results[3] == 1.0
    results = group.map("lambda i: 1 / (i - 2)", range(4), raise_error=False)
    assert isinstance(results[2], RemoteError)
    assert results[3] == 1.0


@pytest.mark.parametrize(
    "function, said",
    [
        (threading.Lock().acquire, "cannot pickle"),
        ("no such thing", "SyntaxError"),
        ("no_such_name", "NameError"),
    ],
)
def test_a_function_that_cannot_be_sent_is_said_once(
    held: KernelPool, function: object, said: str
) -> None:
    with pytest.raises(KernelMagicsError) as raised:
        held.select("all").map(function, range(3))  # type: ignore[arg-type]
    assert said in f"{type(raised.value).__name__}: {raised.value}"


@pytest.mark.full
def test_an_item_under_which_its_kernel_dies_is_not_run_again(
    pool: KernelPool, hand_kernel: StartHand, sandbox: Sandbox
) -> None:
    for name in ("a", "b"):
        pool.attach(hand_kernel().connection_file, name)
    runs = sandbox.work / "runs"
    function = f"""lambda i: (
        open({str(runs)!r}, 'a').write(f'{{i}} '),
        __import__('os').kill(__import__('os').getpid(), 9) if i == 3 else i)[1]"""
    results = pool.select("a,b").map(function, range(10), raise_error=False)
    assert isinstance(results[3], KernelDied)
    assert results[3].may_have_run
    assert [r for i, r in enumerate(results) if i != 3] == [i for i in range(10) if i != 3]
    assert sorted(map(int, runs.read_text().split())) == list(range(10))


@pytest.mark.full
def test_what_nobody_is_left_for_is_said(pool: KernelPool, hand_kernel: StartHand) -> None:
    pool.attach(hand_kernel().connection_file, "a")
    die = "lambda i: __import__('os').kill(__import__('os').getpid(), 9)"
    with pytest.raises(ItemErrors) as raised:
        pool.select("a").map(die, range(3))
    assert [type(e).__name__ for e in raised.value.errors.values()] == [
        "KernelDied", "Aborted", "Aborted",
    ]  # fmt: skip


def test_ctrl_c_stops_all_items(held: KernelPool, sandbox: Sandbox) -> None:
    mark = sandbox.work / "begun"
    sleep = f"lambda i: (open({str(mark)!r}, 'a').write('x'), __import__('time').sleep(30))"

    def press() -> None:
        wait_until(lambda: mark.exists() and len(mark.read_text()) == 3, what="three items run")
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(ItemErrors, match="9 of 9 items failed"):
        held.select("all").map(sleep, range(9))
    presser.join()
    assert len(mark.read_text()) == 3


def test_a_group_shows_who_is_in_it(held: KernelPool) -> None:
    group = held.select("gpu-*")
    assert (repr(group), len(group)) == ("<Group gpu-1, gpu-2>", 2)
    assert [kernel.name for kernel in group] == group.names
    assert Group([]).run("1") == {}
