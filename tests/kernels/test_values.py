"""Values to Python kernels and back, in real kernels: what arrives, and what goes wrong."""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp

from kernel_magics.errors import (
    KernelDied,
    TransferError,
    TransferInterrupted,
)
from kernel_magics.kernels.kernel import Kernel, KernelState
from kernel_magics.kernels.pool import KernelPool
from kernel_magics.kernels.values import Progress, language, nearby, packing, trust, wire
from kernel_magics.kernels.values.packing import OUT_OF_BAND, PIECE
from tests.support import parts
from tests.support.kernels import HandKernel
from tests.support.waiting import wait_until

StartHand = Callable[..., HandKernel]

HELD = "sum(len(m._transfers) for n, m in __import__('sys').modules.items() if n.startswith(\
'_kernel_magics_') and n.endswith('.far'))"
"""How many transfers the helper keeps."""


@pytest.fixture
def by_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values go as to a kernel that is not near."""
    monkeypatch.setattr(nearby, "can_meet", lambda kernel: False)


@pytest.fixture(params=["near", "by messages"])
def route(request: pytest.FixtureRequest) -> None:
    """Each way that values can go."""
    if request.param == "by messages":
        request.getfixturevalue("by_messages")


def held(kernel: Kernel) -> int:
    """Return how many transfers the kernel keeps something for.

    Asked by a transfer, which is counted only once it has been evaluated: what a client of another
    connection asks may overtake the end of our last one.
    """
    found: int = kernel.pull(HELD)
    return found


# What arrives.

VALUES: dict[str, Any] = {
    "none": None,
    "true": True,
    "integer": -(2**200),
    "float": 0.1,
    "complex": 1 + 2j,
    "text": "a 'b' \"c\"\\\n{x} $y %z ü € \U0001f600\0",
    "bytes": bytes(range(256)),
    "bytearray": bytearray(b"xyz"),
    "tuple": (1, (2, [3])),
    "set": {1, 2},
    "dict": {1: "a", "b": [None]},
    "range": range(5),
    "ellipsis": ...,
    "date": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    "decimal": decimal.Decimal("1.10"),
    "counter": collections.Counter("aab"),
    "path": Path("/tmp/x"),
    "uuid": uuid.UUID(int=5),
    "array": array.array("d", [1.5, 2.5]),
    "type": int,
    "function of a library": datetime.datetime.fromisoformat,
    "error": ValueError("x"),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_value_comes_back_equal_and_of_the_same_type(kernel: Kernel, name: str) -> None:
    value = VALUES[name]

    kernel.push({"v": value})
    found = kernel.pull("v")

    assert type(found) is type(value)
    assert repr(found) == repr(value)


def test_several_values_are_set_at_once_and_come_in_order(kernel: Kernel) -> None:
    kernel.push({"one": 1, "two": [2], "three": "3"})

    assert kernel.pull(["three", "one", "two[0] + 1"]) == ["3", 1, 3]


@pytest.mark.parametrize(
    "size", [0, 1, OUT_OF_BAND - 1, OUT_OF_BAND, PIECE, PIECE + 1, 3 * PIECE + 7]
)
@pytest.mark.parametrize("kind", [bytes, bytearray, np.uint8])
@pytest.mark.usefixtures("route")
def test_sizes_round_the_limits_arrive_whole(kernel: Kernel, size: int, kind: Any) -> None:
    data = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    value = np.frombuffer(data, np.uint8) if kind is np.uint8 else kind(data)

    kernel.push({"v": value})
    found = kernel.pull("v")

    assert type(found) is type(value)
    assert bytes(found) == data


@pytest.mark.usefixtures("route")
def test_writable_arrays_arrive_writable_and_readonly_ones_need_not(kernel: Kernel) -> None:
    writable = np.arange(100_000)
    fixed = np.arange(100_000)
    fixed.flags.writeable = False

    kernel.push({"writable": writable, "fixed": fixed})
    kernel.run("writable[0] = 5; was_fixed = not fixed.flags.writeable")
    first, second, was_fixed = kernel.pull(["writable", "fixed", "was_fixed"])

    first[1] = 7
    assert (first[0], first[1], was_fixed, second.flags.writeable) == (5, 7, True, False)
    assert writable[0] == 0


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_order_in_memory_is_kept(kernel: Kernel, order: Any) -> None:
    value = np.asarray(np.arange(120_000.0).reshape(300, 400), order=order)

    kernel.push({"v": value})
    found = kernel.pull("v")

    assert (found.flags.c_contiguous, found.flags.f_contiguous) == (order == "C", order == "F")
    np.testing.assert_array_equal(found, value)


def test_a_frame_comes_back_equal(kernel: Kernel) -> None:
    frame = pd.DataFrame(
        {
            "x": np.arange(50_000),
            "y": np.linspace(0, 1, 50_000),
            "when": pd.date_range("2026-01-01", periods=50_000, freq="s"),
            "word": ["a", "b"] * 25_000,
            "kind": pd.Categorical(["u", "v"] * 25_000),
        }
    )

    kernel.push({"v": frame})

    pd.testing.assert_frame_equal(kernel.pull("v"), frame)


def test_what_is_the_same_object_stays_the_same_object(kernel: Kernel) -> None:
    inner = [1]
    loop: list[Any] = [inner, inner]
    loop.append(loop)

    kernel.push({"v": loop})
    found = kernel.pull("v")

    assert found[0] is found[1]
    assert found[2] is found


QUICK = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    | st.datetimes() | st.decimals() | st.complex_numbers(),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner)
    | st.dictionaries(st.text() | st.integers(), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip
KINDS = stnp.scalar_dtypes() | stnp.unicode_string_dtypes() | stnp.byte_string_dtypes()
ARRAYS = stnp.arrays(
    # numpy's own pickle makes some foreign byte orders native ones (2.4); the values are the same.
    KINDS.filter(lambda one: one.isnative),
    stnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
)


@QUICK
@given(value=ANYTHING)
def test_python_values_go_there_and_back(kernel: Kernel, value: Any) -> None:
    kernel.push({"v": value})

    assert repr(kernel.pull("v")) == repr(value)


@QUICK
@given(value=ARRAYS, data=st.data())
def test_arrays_go_there_and_back(kernel: Kernel, value: Any, data: st.DataObject) -> None:
    if value.ndim > 1 and data.draw(st.booleans()):
        value = value.T[::-1]

    kernel.push({"v": value})
    found = kernel.pull("v")

    assert (found.dtype, found.shape) == (value.dtype, value.shape)
    np.testing.assert_array_equal(found, value)


# Names, expressions, and what cannot go.


@pytest.mark.parametrize("name", ["a b", "1a", "a-b", "", "for", "a.b", "a=1;b"])
def test_a_name_that_is_none_is_refused_before_anything_is_sent(kernel: Kernel, name: str) -> None:
    with pytest.raises(TransferError, match="called so") as caught:
        kernel.push({"fine_before": 1, name: 2})

    assert caught.value.value == name
    with pytest.raises(TransferError, match="NameError"):
        kernel.pull("fine_before")


def test_an_expression_that_fails_there_is_told_with_its_reason(kernel: Kernel) -> None:
    with pytest.raises(TransferError) as caught:
        kernel.pull(["1", "1 / 0"])

    assert (caught.value.value, caught.value.reason) == (
        "1 / 0",
        "ZeroDivisionError: division by zero",
    )


@pytest.mark.parametrize("expression", ["threading_lock", "(x for x in ())"])
def test_what_cannot_be_packed_there_is_told(kernel: Kernel, expression: str) -> None:
    kernel.run("import threading; threading_lock = threading.Lock()")

    with pytest.raises(TransferError, match="pickle"):
        kernel.pull(expression)


def test_what_cannot_be_packed_here_is_told_and_nothing_is_set(kernel: Kernel) -> None:
    with pytest.raises(TransferError, match="pickle") as caught:
        kernel.push({"good": 1, "bad": threading.Lock()})

    assert caught.value.value == "bad"
    with pytest.raises(TransferError, match="NameError"):
        kernel.pull("good")


@pytest.mark.usefixtures("route")
def test_what_needs_what_is_missing_there_is_told_and_nothing_is_set(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "only_here.py").write_text("class Thing: pass")
    monkeypatch.syspath_prepend(tmp_path)
    only_here: Any = __import__("only_here")

    with pytest.raises(TransferError, match="needs the module only_here") as caught:
        kernel.push({"good_thing": 1, "thing": only_here.Thing()})

    assert caught.value.value == "thing"
    with pytest.raises(TransferError, match="NameError"):
        kernel.pull("good_thing")


def test_functions_of_a_session_need_cloudpickle_and_say_so(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)  # as if it were not installed
    kernel.run("import sys; sys.modules['cloudpickle'] = None\ndef own_function(): return 1")
    try:
        with pytest.raises(TransferError, match="travel only with cloudpickle"):
            kernel.pull("own_function")
        with pytest.raises(TransferError, match="travel only with cloudpickle"):
            kernel.push({"f": eval("lambda: 1", {"__name__": "__main__"})})
    finally:
        kernel.run("del sys.modules['cloudpickle']")


OWN = """
class Own:
    def __init__(self, value): self.value = value
    def double(self): return Own(2 * self.value)
def make(value): return Own(value).double()
"""


def test_functions_and_classes_of_a_session_travel_with_cloudpickle(kernel: Kernel) -> None:
    parts.require("cloudpickle")
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(OWN, names)
    kernel.run(OWN.replace("Own", "Theirs").replace("make", "make_theirs"))

    kernel.push({"sent": names["make"], "own": names["Own"](3)})
    make_theirs, theirs = kernel.pull(["make_theirs", "Theirs(5)"])

    assert kernel.pull(["sent(4).value", "own.double().value"]) == [8, 6]
    assert (make_theirs(4).value, theirs.double().value) == (8, 10)


def test_what_was_sent_by_value_needs_cloudpickle_there_and_says_so(kernel: Kernel) -> None:
    parts.require("cloudpickle")
    kernel.run(
        "import sys; sys.modules.update({'cloudpickle': None, 'cloudpickle.cloudpickle': None})"
    )
    try:
        with pytest.raises(TransferError, match="cloudpickle, which is not installed"):
            kernel.push({"f": eval("lambda: 1", {"__name__": "__main__"})})
    finally:
        kernel.run("del sys.modules['cloudpickle'], sys.modules['cloudpickle.cloudpickle']")


def hide_processes(monkeypatch: pytest.MonkeyPatch, *kernels: Kernel) -> None:
    """Have the processes of these kernels not be found, of all if none is named."""
    seen = Kernel.local_pid.fget
    assert seen is not None
    hidden = property(lambda self: None if not kernels or self in kernels else seen(self))
    monkeypatch.setattr(Kernel, "local_pid", hidden)


def test_an_arrow_table_comes_back_equal_trusted_or_not(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.require("pyarrow")
    pyarrow: Any = __import__("pyarrow")
    table = pyarrow.table({"x": range(50_000), "word": ["a", None] * 25_000})

    kernel.push({"v": table})

    assert kernel.pull("v").equals(table)
    hide_processes(monkeypatch)
    assert kernel.pull("v").equals(table)


def test_a_tensor_goes_by_its_numpy_view(kernel: Kernel) -> None:
    parts.require("torch")
    torch: Any = __import__("torch")
    tensor = torch.arange(100_000, dtype=torch.float32).reshape(100, 1000)

    kernel.push({"v": tensor})
    found = kernel.pull("v")

    assert torch.equal(found, tensor)
    found[0, 0] = 5  # writable
    for other in (tensor.clone().requires_grad_(), tensor.to(torch.bfloat16), tensor.to_sparse()):
        kernel.push({"v": other})
        assert torch.equal(kernel.pull("v").to_dense(), other.to_dense())


class Exploding:
    """Its pickling raises something of its own."""

    def __reduce__(self) -> Any:
        raise ZeroDivisionError("on purpose")


def test_an_error_of_the_objects_own_is_told(kernel: Kernel) -> None:
    with pytest.raises(TransferError, match="ZeroDivisionError: on purpose"):
        kernel.push({"v": Exploding()})


def test_a_value_nested_beyond_reason_is_refused(kernel: Kernel) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]

    with pytest.raises(TransferError, match="nested"):
        kernel.push({"v": deep})


def test_nothing_of_ours_is_seen_there_and_shadowed_builtins_do_no_harm(
    kernel: Kernel, shared_kernel: HandKernel
) -> None:
    count = kernel.run("1").execution_count
    names = "sorted(n for n in dir() if not n.startswith('_'))"
    kernel.run("len = 5; import sys as json; exec = print = eval = zip = memoryview = None; v = 0")
    before = kernel.pull(names)
    try:
        kernel.push({"v": np.arange(100_000)})
        assert kernel.pull("v[-1]") == 99_999
        assert kernel.pull(names) == before
        assert shared_kernel.value("In[-1]").startswith("len = 5")
    finally:
        kernel.run("del len, json, exec, print, eval, zip, memoryview")
    after = kernel.run("1").execution_count
    assert isinstance(count, int)
    assert after == count + 3


def test_values_go_from_one_kernel_to_another_without_being_made_here(
    pool: KernelPool, kernel: Kernel, hand_kernel: StartHand
) -> None:
    other = pool.attach(hand_kernel().connection_file, "other")
    other.run("import numpy as np; a = np.arange(3_000_000); a[5] = -1; b = {'x': a[:10]}")

    kernel.push({"there": "a", "some": "b['x'].sum()"}, source=other)

    assert kernel.pull(["int(there[5])", "there.size", "int(some)"]) == [-1, 3_000_000, 39]
    with pytest.raises(TransferError, match="NameError"):
        kernel.push({"v": "no_such_thing"}, source=other)


def test_what_nobody_trusts_passes_on_plain_data_only(
    pool: KernelPool, kernel: Kernel, hand_kernel: StartHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = pool.attach(hand_kernel().connection_file, "source")
    source.run("import numpy; a = numpy.arange(300_000); b = object()")
    hide_processes(monkeypatch, source)

    kernel.push({"passed": "{'a': a}"}, source=source)

    assert kernel.pull("passed['a'].sum().item()") == 299_999 * 150_000
    with pytest.raises(TransferError, match="neither JSON"):
        kernel.push({"passed": "b"}, source=source)


def test_a_kernel_without_autoawait_is_no_different(kernel: Kernel) -> None:
    kernel.run("%autoawait off")
    try:
        kernel.push({"v": np.arange(100_000)})
        assert kernel.pull("v").sum() == 99_999 * 50_000
    finally:
        kernel.run("%autoawait on")


# What goes wrong on the way.


@pytest.mark.full
@pytest.mark.usefixtures("route")
def test_one_that_dies_while_values_are_sent_is_told_as_the_reason(
    pool: KernelPool, hand_kernel: StartHand
) -> None:
    hand = hand_kernel()
    kernel = pool.attach(hand.connection_file, "dying")
    value = np.zeros(50_000_000, np.uint8)

    def kill(done: int, total: int) -> None:
        if done > total // 3 and hand.process.alive:
            hand.kill()

    with pytest.raises(TransferError, match="the kernel died") as caught:
        kernel.push({"v": value}, progress=Progress(moved=kill))

    assert caught.value.value == "v"
    assert isinstance(caught.value.__cause__, KernelDied)


@pytest.mark.full
@pytest.mark.usefixtures("route")
def test_one_that_is_restarted_while_values_are_fetched_is_told(
    pool: KernelPool, hand_kernel: StartHand
) -> None:
    hand = hand_kernel()
    kernel = pool.attach(hand.connection_file, "restarted")
    kernel.run("v = bytes(60_000_000)")
    done_once = []

    def restart(done: int, total: int) -> None:
        if not done_once:
            done_once.append(done)
            hand.restart_behind_same_ports()

    with pytest.raises(TransferError, match=r"another process|restarted|died|broke"):
        kernel.pull("v", progress=Progress(moved=restart))

    kernel.push({"v": 1})  # the helper is sent again
    assert kernel.pull("v") == 1


@pytest.mark.usefixtures("route")
def test_ctrl_c_ends_a_transfer_sets_nothing_and_frees_the_memory_there(
    kernel: Kernel, shared_kernel: HandKernel
) -> None:
    value = np.zeros(40_000_000, np.uint8)
    kernel.run("interrupted_value = 'old'; big = bytes(40_000_000)")

    def press(done: int, total: int) -> None:
        if done < total // 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(TransferInterrupted):
        kernel.push({"interrupted_value": value}, progress=Progress(moved=press))
    with pytest.raises(TransferInterrupted):
        kernel.pull("big", progress=Progress(moved=press))

    assert kernel.pull("interrupted_value") == "old"
    assert held(kernel) == 0


@pytest.mark.usefixtures("route")
def test_ctrl_c_interrupts_what_is_evaluated_there(
    kernel: Kernel, shared_kernel: HandKernel
) -> None:
    kernel.run("import time, os, threading, signal")
    main = threading.get_ident()
    kernel.push({"mark": str(shared_kernel.connection_file) + ".begun"})
    mark = Path(str(shared_kernel.connection_file) + ".begun")

    def press() -> None:
        wait_until(mark.exists, what="it is evaluated")
        wait_until(lambda: kernel.state is KernelState.BUSY, what="that is known here")
        signal.pthread_kill(main, signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    begin = time.monotonic()
    try:
        with pytest.raises(TransferInterrupted):
            kernel.pull("open(mark, 'w').close() or time.sleep(60)")
    finally:
        presser.join()
        mark.unlink(missing_ok=True)

    assert time.monotonic() - begin < 30
    assert kernel.pull("1") == 1


@pytest.mark.usefixtures("route")
def test_a_transfer_waits_for_a_busy_kernel_says_so_and_ctrl_c_leaves_that_cell_alone(
    pool: KernelPool, kernel: Kernel, shared_kernel: HandKernel
) -> None:
    said: list[str] = []
    main = threading.get_ident()

    def say(text: str) -> None:
        said.append(text)
        signal.pthread_kill(main, signal.SIGINT)

    with shared_kernel.busy(), pytest.raises(TransferInterrupted):
        kernel.push({"never_set": 1}, progress=Progress(say=say))

    assert "is busy" in said[0]
    with pytest.raises(TransferError, match="NameError"):
        kernel.pull("never_set")
    assert held(kernel) == 0


@pytest.mark.usefixtures("by_messages")
def test_a_transfer_goes_on_when_somebodys_cell_came_in_between(
    pool: KernelPool, kernel: Kernel, shared_kernel: HandKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "QUIET_AFTER", 0.1)
    monkeypatch.setattr(wire, "BUSY_AFTER", 0.2)
    value = np.arange(12_000_000)
    said: list[tuple[str, threading.Thread]] = []
    busy = ExitStack()
    over = threading.Timer(0.6, busy.close)
    began: list[int] = []

    def occupy(done: int, total: int) -> None:
        if not began:
            began.append(done)
            busy.enter_context(shared_kernel.busy())  # returns when that cell runs
            over.start()

    def say(text: str) -> None:
        said.append((text, threading.current_thread()))

    kernel.push({"v": value}, progress=Progress(moved=occupy, say=say))
    over.join()

    assert "is busy" in said[0][0]
    assert said[0][1] is threading.main_thread()
    assert kernel.pull("v.sum()") == value.sum()


@pytest.mark.usefixtures("route")
def test_two_transfers_at_once_do_not_disturb_each_other(kernel: Kernel) -> None:
    values = {f"v{number}": np.full(5_000_000, number, np.uint8) for number in range(4)}
    found: dict[str, Any] = {}

    def both(name: str) -> None:
        kernel.push({name: values[name]})
        found[name] = kernel.pull(name)

    threads = [threading.Thread(target=both, args=(name,)) for name in values]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {name: (each.min(), each.max()) for name, each in found.items()} == {
        name: (each[0], each[0]) for name, each in values.items()
    }


@pytest.mark.usefixtures("route")
def test_a_value_that_changes_while_it_is_sent_is_told_or_whole(
    kernel: Kernel, shared_kernel: HandKernel
) -> None:
    value = np.zeros(60_000_000, np.uint8)

    def change(done: int, total: int) -> None:
        value[: done + 30_000_000] += 1  # also what is under way

    kernel.run("changing = 'old'")
    with suppress(TransferError):
        kernel.push({"changing": value}, progress=Progress(moved=change))
        return
    assert kernel.pull("changing") == "old"
    assert held(kernel) == 0


@pytest.mark.usefixtures("route")
def test_the_pull_of_a_kernel_with_a_running_background_thread_is_whole(kernel: Kernel) -> None:
    kernel.run(
        "import threading; go = threading.Event(); chatter = threading.Thread(target=lambda: ["
        "print('x') for _ in iter(go.is_set, True)]); chatter.start()"
    )
    try:
        assert len(kernel.pull("bytes(5_000_000)")) == 5_000_000
    finally:
        kernel.run("go.set(); chatter.join()")


# Whose pickles are opened.


def test_this_users_own_kernel_on_this_machine_is_trusted(kernel: Kernel) -> None:
    assert trust.is_trusted(kernel)


def test_one_that_was_started_here_is_trusted(pool: KernelPool) -> None:
    assert pool.start(name="owned").trust


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_what_only_forwards_is_not_trusted(
    pool: KernelPool, fake_kernel: Any, transport: str
) -> None:
    # Its sockets are this process's own, which was not started with that connection file.
    kernel = pool.attach(fake_kernel(transport=transport).connection_file)

    assert not trust.is_trusted(kernel)


def test_one_behind_a_tunnel_is_not_trusted_though_it_may_be_here(kernel: Kernel) -> None:
    kernel.way = Anywhere()
    try:
        assert not trust.is_trusted(kernel)
    finally:
        kernel.way = None


class Anywhere:
    """A way that leads nobody knows where."""

    up, hopeless, reason = True, False, ""

    def leave(self, info: Any) -> None:
        """Nothing is to be closed."""


def test_one_that_was_started_with_another_file_is_not_trusted(
    pool: KernelPool, shared_kernel: HandKernel, tmp_path: Path
) -> None:
    copy = tmp_path / "kernel-copied.json"
    copy.write_bytes(shared_kernel.connection_file.read_bytes())
    copy.chmod(0o600)

    assert not trust.is_trusted(pool.attach(copy))


def test_the_caller_can_trust_any(pool: KernelPool, fake_kernel: Any) -> None:
    fake = fake_kernel()

    assert not pool.attach(fake.connection_file).trust
    assert pool.attach(fake.connection_file, trust=True).trust


@pytest.fixture
def untrusted(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    hide_processes(monkeypatch)
    monkeypatch.setattr(packing.pickle, "Unpickler", None)  # what must never be used here
    return kernel


PLAIN: dict[str, Any] = {
    "scalars": [None, True, 5, 0.25, "ü", -(2**80)],
    "not finite": [float("inf"), float("-inf")],
    "nested": {"a": [1, (2, {"b": b"xyz"})]},
    "array": np.arange(100_000).reshape(100, 1000, order="F"),
    "small array": np.array([1 + 2j]),
    "texts": np.array(["a", "bcd"]),
    "times": np.array(["2026-01-01", "NaT"], "M8[ns]"),
    "empty": np.zeros((0, 3)),
    "frame": pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [0.5, float("nan")]}, index=[3, 9]),
    "series": pd.Series([1.5, 2.5], name="s"),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_data_comes_from_whom_nobody_trusts(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    kernel.push({"v": PLAIN[name]})
    kernel.run("import pandas")
    hide_processes(monkeypatch)
    monkeypatch.setattr(packing.pickle, "Unpickler", None)

    found = kernel.pull("v")

    if isinstance(found, pd.DataFrame):
        pd.testing.assert_frame_equal(found, PLAIN[name])
    elif isinstance(found, pd.Series):
        pd.testing.assert_series_equal(found, PLAIN[name])
    elif isinstance(found, np.ndarray):
        np.testing.assert_array_equal(found, PLAIN[name])
        assert found.dtype == PLAIN[name].dtype
        assert found.flags.f_contiguous == PLAIN[name].flags.f_contiguous
    else:
        assert repr(found) == repr(PLAIN[name])


@pytest.mark.parametrize(
    "expression",
    [
        "object()",
        "{1}",
        "{1: 2}",
        "{float('nan'): 1}",
        "[print]",
        "__import__('datetime').date.max",
    ],
)
def test_what_is_no_plain_data_does_not_come_from_whom_nobody_trusts(
    untrusted: Kernel, expression: str
) -> None:
    with pytest.raises(TransferError) as caught:
        untrusted.pull(expression)

    assert caught.value.value == expression


def test_a_value_that_holds_itself_does_not_come_from_whom_nobody_trusts(
    untrusted: Kernel,
) -> None:
    untrusted.run("loop = []; loop.append(loop)")

    with pytest.raises(TransferError, match="nested deeper"):
        untrusted.pull("loop")


# What one side lacks, and what it costs.


@pytest.mark.full
@pytest.mark.usefixtures("route")
def test_arrays_for_a_kernel_without_numpy_are_refused_and_say_why(
    pool: KernelPool, hand_kernel: StartHand
) -> None:
    kernel = pool.attach(hand_kernel("floor").connection_file, "floor")
    kernel.run("import sys; sys.modules['numpy'] = None  # as where it is not installed")

    kernel.push({"v": bytes(20_000_000)})
    with pytest.raises(TransferError, match="needs the module numpy"):
        kernel.push({"w": np.zeros(10)})

    assert kernel.pull("len(v)") == 20_000_000


def peak(pid: int | str) -> int:
    """Return the most memory a process has had since ``forget_peak``, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def forget_peak(pid: int | str) -> int:
    """Let the peak begin anew, and return it."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak(pid)


@pytest.mark.full
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
@pytest.mark.parametrize("kind", ["array", "bytes"])
@pytest.mark.usefixtures("route")
def test_a_transfer_takes_little_memory_beside_the_value(
    pool: KernelPool, hand_kernel: StartHand, kind: str
) -> None:
    hand = hand_kernel()
    kernel = pool.attach(hand.connection_file, "measured")
    kernel.push({"v": np.zeros(20_000_000)})  # what is loaded once
    kernel.pull("v.nbytes")
    nbytes, beside = 400_000_000, 64 * 1024 * 1024
    value: Any = np.ones(nbytes, np.uint8) if kind == "array" else b"\1" * nbytes

    here, there = forget_peak("self"), forget_peak(hand.pid)
    kernel.push({"v": value})
    assert peak("self") - here <= beside
    assert peak(hand.pid) - there <= nbytes + beside

    here, there = forget_peak("self"), forget_peak(hand.pid)
    found = kernel.pull("v")
    assert peak("self") - here <= nbytes + beside
    assert peak(hand.pid) - there <= beside
    assert len(found) == nbytes


# Other languages.


class Offered:
    """An entry point, as a package would declare it."""

    name = "echo"

    def load(self) -> type:
        return Echo


class Echo:
    """A language in which everything is what was sent last."""

    name = "Echo"
    kept: dict[str, Any] = {}  # noqa: RUF012

    def is_name(self, name: str) -> bool:
        return name.isalpha()

    def push(self, kernel: Kernel, values: Any, progress: Progress) -> None:
        self.kept.update(values)

    def pull(self, kernel: Kernel, expressions: Any, progress: Progress) -> list[Any]:
        return [self.kept[one] for one in expressions]


def test_another_package_can_add_a_language(
    pool: KernelPool, fake_kernel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = pool.attach(fake_kernel().connection_file)
    with pytest.raises(TransferError, match="its language is echo; values are known for bash, jav"):
        kernel.push({"v": 1})

    monkeypatch.setattr(language, "entry_points", lambda group: [Offered()])
    language._named.cache_clear()
    try:
        kernel.push({"v": 1})
        assert kernel.pull("v") == 1
        with pytest.raises(TransferError, match="no variable of Echo"):
            kernel.push({"v1": 1})
    finally:
        language._named.cache_clear()
