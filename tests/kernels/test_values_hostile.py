"""Kernels that lie when values are fetched: one clear error, and no trace of what they sent."""

from __future__ import annotations

import json
import pickle
import signal
import threading
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from kernel_magics.errors import KernelDied, TransferError, TransferInterrupted
from kernel_magics.kernels.pool import KernelPool
from kernel_magics.kernels.values import Progress, packing, plain, wire
from tests.support.echo import KERNEL_INFO
from tests.support.fake import FakeKernel, Request

StartFake = Callable[..., FakeKernel]


class Liar:
    """A script: a kernel of Python whose helper says what it was told to say.

    ``about`` is what it says of the one value, ``parts`` what it then sends; each answer may be
    changed by ``spoil``, which gets the data and the buffers and returns what is sent instead.
    """

    def __init__(
        self,
        about: Any,
        parts: Sequence[bytes] = (),
        spoil: Callable[[dict[str, Any], list[bytes]], tuple[Any, list[bytes]]] | None = None,
        *,
        mute: bool = False,
    ) -> None:
        self.about, self.parts, self.mute = about, parts, mute
        self.spoil = spoil or (lambda data, buffers: (data, buffers))
        self.taken = 0

    def __call__(self, kernel: FakeKernel, request: Request) -> None:
        match request.type:
            case "kernel_info_request":
                language = {**KERNEL_INFO["language_info"], "name": "python"}
                about = {**KERNEL_INFO, "language_info": language}
                kernel.status("busy", request.message)
                kernel.reply(request.message, about, channel=request.channel)
                kernel.status("idle", request.message)
            case "comm_open":
                self._say(kernel, request, {"values": [self.about], "sum": False}, [])
            case "comm_msg" if not self.mute:
                asked = request.content["data"]
                if "send" not in asked:
                    self.taken += sum(map(len, request.message.buffers))
                    self._say(kernel, request, {"done": sum(map(len, request.message.buffers))}, [])
                    return
                chunks = [self.parts[part][at : at + size] for part, at, size in asked["send"]]
                at = [
                    [part, offset, zlib.crc32(chunk)]
                    for (part, offset, _), chunk in zip(asked["send"], chunks, strict=True)
                ]
                self._say(kernel, request, {"at": at, "sum": False}, chunks)
            case "comm_msg" | "comm_close":
                pass
            case _:
                kernel.answer(request)

    def _say(
        self, kernel: FakeKernel, request: Request, data: dict[str, Any], buffers: list[bytes]
    ) -> None:
        data, buffers = self.spoil(data, buffers)
        content = {"comm_id": request.content["comm_id"], "data": data}
        kernel.reply(request.message, content, msg_type="comm_msg", buffers=tuple(buffers))


def described(
    *parts: bytes, kind: str = "data", readonly: Sequence[bool] = ()
) -> tuple[dict[str, Any], Sequence[bytes]]:
    """What is said of a value of these parts, and the parts."""
    about = {"kind": kind, "readonly": list(readonly), "sizes": [len(part) for part in parts]}
    return about, parts


def tree(node: Any) -> bytes:
    return json.dumps(node).encode()


class Evil:
    """Its pickle writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_is_never_opened_that_was_not_asked_for(
    pool: KernelPool, fake_kernel: StartFake, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    evil = pickle.dumps(Evil(trace))
    kernel = pool.attach(fake_kernel(Liar(*described(evil, kind="pickle"))).connection_file)

    with pytest.raises(TransferError, match="described"):
        kernel.pull("v")

    assert not trace.exists()


def test_a_pickle_that_is_called_data_is_not_opened(
    pool: KernelPool, fake_kernel: StartFake, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    kernel = pool.attach(fake_kernel(Liar(*described(pickle.dumps(Evil(trace))))).connection_file)

    with pytest.raises(TransferError, match="not JSON"):
        kernel.pull("v")

    assert not trace.exists()


def test_what_is_honest_arrives(pool: KernelPool, fake_kernel: StartFake) -> None:
    parts = described(b"\1\0\2\0", tree(["d", ["a", ["a", "<u2", [2], "C", 0]]]), readonly=[False])
    kernel = pool.attach(fake_kernel(Liar(*parts)).connection_file)

    assert kernel.pull("v")["a"].tolist() == [1, 2]


ARRAY = ["a", "<u2", [2], "C", 0]

LIES: dict[str, Any] = {
    "object array": ["a", "|O8", [2], "C", 0],
    "record array": ["a", "[('x', '<i4')]", [1], "C", 0],
    "a type that is no text": ["a", 5, [2], "C", 0],
    "an enormous item": ["a", "|S999999999", [2], "C", 0],
    "false length": ["a", "<u2", [3], "C", 0],
    "negative length": ["a", "<u2", [-1, -2], "C", 0],
    "enormous shape": ["a", "<u2", [2**62, 2**62], "C", 0],
    "shape of floats": ["a", "<u2", [2.0], "C", 0],
    "shape of booleans": ["a", "<u2", [True, 2], "C", 0],
    "too many dimensions": ["a", "<u2", [1] * 60 + [2], "C", 0],
    "no order": ["a", "<u2", [2], "A", 0],
    "no such buffer": ["a", "<u2", [2], "C", 7],
    "negative buffer": ["a", "<u2", [2], "C", -1],
    "too few words": ["a", "<u2"],
    "unknown letter": ["x", 1],
    "a list without a letter": [1, 2],
    "an empty list": [],
    "a bare dictionary": {"a": 1},
    "a key that is no text": ["d", [1, 2]],
    "a key that is a list": ["d", [["l"], 2]],
    "a pair that is none": ["d", ["a"]],
    "NaN as a key": ["d", [["f", "nan"], 2]],
    "a float by another name": ["f", "__import__('os')"],
    "a frame of nonsense": ["t", 5, ["r", 0, 2, 1]],
    "a frame of unequal columns": ["t", [["a", ["l", 1, 2]], ["b", ["l", 1]]], ["r", 0, 2, 1]],
    "a range of nonsense": ["r", "a", 2, 1],
    "a table that is none": ["w", 0],
    "too deep": None,
}


def nested(depth: int) -> bytes:
    return b'["l",' * depth + b"1" + b"]" * depth


@pytest.mark.parametrize("name", LIES)
def test_a_lie_about_a_value_is_refused(name: str) -> None:
    # The codec alone, as both sides use it: 28 kernels would take their time.
    description = nested(5_000) if name == "too deep" else tree(LIES[name])
    parts = [memoryview(bytearray(b"\1\0\2\0")), memoryview(bytearray(description))]

    with pytest.raises(packing.CannotUnpack):
        plain.unpack_plain([False], parts)


@pytest.mark.parametrize("text", [b"NaN", b'["l", Infinity]', b"{", b"\xff", b"", b"1" * 5_000])
def test_a_description_that_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(packing.CannotUnpack):
        plain.unpack_plain([], [memoryview(bytearray(text))])


@pytest.mark.parametrize(
    "about",
    [
        None,
        [],
        {},
        {"kind": "data", "readonly": [], "sizes": [-1]},
        {"kind": "data", "readonly": [], "sizes": [1.5]},
        {"kind": "data", "readonly": [], "sizes": [True]},
        {"kind": "data", "readonly": [False], "sizes": []},
        {"kind": "data", "readonly": [0], "sizes": [1]},
        {"kind": "data", "readonly": [], "sizes": "12"},
        {"kind": "data", "readonly": [], "sizes": [2**63]},
        {"kind": "data", "readonly": [], "sizes": [2**40] * 1000},
        {"kind": "PICKLE", "readonly": [], "sizes": [1]},
    ],
)
def test_a_description_that_makes_no_sense_is_refused_before_memory_is_taken(
    pool: KernelPool, fake_kernel: StartFake, about: Any
) -> None:
    kernel = pool.attach(fake_kernel(Liar(about)).connection_file)

    with pytest.raises(TransferError) as caught:
        kernel.pull("v")

    assert caught.value.value == "v"


def shorter(data: dict[str, Any], buffers: list[bytes]) -> tuple[Any, list[bytes]]:
    return data, [each[:-1] for each in buffers]


def longer(data: dict[str, Any], buffers: list[bytes]) -> tuple[Any, list[bytes]]:
    return data, [each + b"x" for each in buffers]


def elsewhere(data: dict[str, Any], buffers: list[bytes]) -> tuple[Any, list[bytes]]:
    return ({**data, "at": [[0, 10**9, 0]]} if buffers else data), buffers


def other_bytes(data: dict[str, Any], buffers: list[bytes]) -> tuple[Any, list[bytes]]:
    return data, [bytes(len(each)) for each in buffers]


def more(data: dict[str, Any], buffers: list[bytes]) -> tuple[Any, list[bytes]]:
    return data, buffers * 2


def nothing(data: dict[str, Any], buffers: list[bytes]) -> tuple[Any, list[bytes]]:
    return data, []


def no_dictionary(data: dict[str, Any], buffers: list[bytes]) -> tuple[Any, list[bytes]]:
    return ([1] if buffers else data), buffers


def an_error(data: dict[str, Any], buffers: list[bytes]) -> tuple[Any, list[bytes]]:
    return {"error": "\x1b[2J no more"}, []


def texts_for_sums(data: dict[str, Any], buffers: list[bytes]) -> tuple[Any, list[bytes]]:
    return ({**data, "at": [[0, 0, "x"]]} if buffers else data), buffers


@pytest.mark.parametrize(
    "spoil",
    [
        shorter,
        longer,
        elsewhere,
        other_bytes,
        more,
        nothing,
        no_dictionary,
        an_error,
        texts_for_sums,
    ],
)
def test_what_was_not_asked_for_ends_the_transfer(
    pool: KernelPool, fake_kernel: StartFake, spoil: Any
) -> None:
    kernel = pool.attach(fake_kernel(Liar(*described(b'"abcdef"'), spoil)).connection_file)

    with pytest.raises(TransferError) as caught:
        kernel.pull("v")

    assert "\x1b" not in str(caught.value)
    assert kernel.alive


@pytest.mark.full
def test_one_that_never_answers_is_told_once_it_has_answered_something_later(
    pool: KernelPool, fake_kernel: StartFake
) -> None:
    kernel = pool.attach(fake_kernel(Liar(*described(b"1"), mute=True)).connection_file)

    with pytest.raises(TransferError, match="never said"):
        kernel.pull("v")


@pytest.mark.full
def test_one_that_never_grants_a_credit_is_told(pool: KernelPool, fake_kernel: StartFake) -> None:
    fake = fake_kernel(Liar({}, mute=True))
    kernel = pool.attach(fake.connection_file)

    with pytest.raises(TransferError, match="never said"):
        kernel.push({"v": bytes(3 * wire.WINDOW * wire.BATCH * wire.PIECE)})

    sent = sum(
        sum(map(len, each.message.buffers)) for each in fake.requests if each.type == "comm_msg"
    )
    assert sent <= wire.WINDOW * wire.BATCH * wire.PIECE <= 64 * 1024 * 1024


def test_ctrl_c_leaves_one_that_is_silent(pool: KernelPool, fake_kernel: StartFake) -> None:
    fake = fake_kernel(Liar(*described(b"1")))
    kernel = pool.attach(fake.connection_file)
    main = threading.get_ident()
    presser = threading.Timer(0.5, signal.pthread_kill, (main, signal.SIGINT))
    with fake.frozen():
        presser.start()
        with pytest.raises(TransferInterrupted):
            kernel.pull("v")
    presser.join()


@pytest.mark.full
def test_one_that_dies_in_between_is_told(pool: KernelPool, fake_kernel: StartFake) -> None:
    fake = fake_kernel(Liar(*described(b'"' + bytes(64 * 1024 * 1024) + b'"')))
    kernel = pool.attach(fake.connection_file)
    closed: list[int] = []

    def die(done: int, total: int) -> None:
        if not closed:
            closed.append(done)
            fake.close()

    with pytest.raises(TransferError, match="died") as caught:
        kernel.pull("v", progress=Progress(moved=die))

    assert isinstance(caught.value.__cause__, KernelDied)
