"""Values and kernels of this machine: who comes to the meeting, and what they may say there."""

from __future__ import annotations

import json
import re
import socket
import stat
import struct
import threading
import zlib
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernel_magics.errors import KernelDied, TransferError
from kernel_magics.kernels.comms import Comm
from kernel_magics.kernels.kernel import Kernel
from kernel_magics.kernels.pool import KernelPool
from kernel_magics.kernels.values import Progress, nearby, pipe
from kernel_magics.kernels.values.pipe import Damaged, Pipe
from tests.support.echo import KERNEL_INFO
from tests.support.fake import FakeKernel, Request
from tests.support.kernels import HandKernel
from tests.support.waiting import wait_until

StartHand = Callable[..., HandKernel]
StartFake = Callable[..., FakeKernel]


@pytest.fixture
def meetings(monkeypatch: pytest.MonkeyPatch) -> list[nearby.Meeting]:
    """The meetings that there were."""
    found: list[nearby.Meeting] = []
    enter = nearby.Meeting.__enter__

    def note(meeting: nearby.Meeting) -> nearby.Meeting:
        found.append(meeting)
        return enter(meeting)

    monkeypatch.setattr(nearby.Meeting, "__enter__", note)
    return found


@pytest.fixture
def no_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """No value may go as messages."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a comm was opened")

    monkeypatch.setattr(Comm, "open", refuse)


def threads() -> list[str]:
    """The threads that wait for kernels to come."""
    return [each.name for each in threading.enumerate() if each.name == "kernel_magics values"]


# Who comes.


@pytest.mark.usefixtures("no_messages")
@pytest.mark.parametrize("kind", ["tcp", "ipc", "curve", "floor", "xpython"])
def test_a_kernel_of_this_user_here_takes_values_without_messages(
    pool: KernelPool, hand_kernel: StartHand, kind: Any
) -> None:
    kernel = pool.attach(hand_kernel(kind).connection_file)
    value = np.arange(1_000_000)

    kernel.push({"v": value, "w": "small"})
    found, small = kernel.pull(["v", "w"])

    np.testing.assert_array_equal(found, value)
    assert small == "small"


def test_one_that_cannot_come_gets_messages(
    pool: KernelPool, hand_kernel: StartHand, meetings: list[nearby.Meeting]
) -> None:
    kernel = pool.attach(hand_kernel().connection_file)
    # As on another machine: the file is not there.
    kernel.run(
        "import socket\n"
        "class Elsewhere(socket.socket):\n"
        "    def connect(self, path): super().connect(path + '.elsewhere')\n"
        "socket.socket = Elsewhere"
    )
    value = np.arange(1_000_000)

    kernel.push({"v": value})
    np.testing.assert_array_equal(kernel.pull("v"), value)

    assert [each.came for each in meetings] == [False, False]
    assert threads() == []


def test_where_no_meeting_can_be_values_go_as_messages(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, meetings: list[Any]
) -> None:
    long = tmp_path / ("long" * 30)  # the name of a Unix socket has 107 bytes
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))

    kernel.push({"v": 1})

    assert kernel.pull("v") == 1
    assert [each.path for each in meetings] == ["", ""]
    assert list(long.iterdir()) == []


def test_the_place_is_this_users_alone_and_gone_afterwards(
    kernel: Kernel, meetings: list[nearby.Meeting]
) -> None:
    modes = []

    def look(done: int, total: int) -> None:
        modes.append(stat.S_IMODE(Path(meetings[0].path).parent.stat().st_mode))

    kernel.push({"v": np.zeros(20_000_000, np.uint8)}, progress=Progress(moved=look))

    assert modes[0] == 0o700
    assert not Path(meetings[0].path).parent.exists()
    assert threads() == []


def test_progress_is_told_where_it_is_waited_for_and_ends_with_all(kernel: Kernel) -> None:
    told: list[tuple[int, int, bool]] = []
    main = threading.get_ident()

    def moved(done: int, total: int) -> None:
        told.append((done, total, threading.get_ident() == main))

    kernel.push({"v": np.zeros(50_000_000, np.uint8)}, progress=Progress(moved=moved))
    pushed, told[:] = list(told), []
    kernel.pull("v", progress=Progress(moved=moved))

    for each in (pushed, told):
        assert len(each) > 4
        assert sorted(each) == each
        assert all(there for _, _, there in each)
        done, total, _ = each[-1]
        assert done == total >= 50_000_000


# Who lies.


class Visitor:
    """A script: a kernel of Python that comes, and does there what it was told to do."""

    def __init__(self, do: Callable[[socket.socket], None]) -> None:
        self._do = do

    def __call__(self, kernel: FakeKernel, request: Request) -> None:
        if request.type == "kernel_info_request":
            language = {**KERNEL_INFO["language_info"], "name": "python"}
            about = {**KERNEL_INFO, "language_info": language}
            kernel.status("busy", request.message)
            kernel.reply(request.message, about, channel=request.channel)
            kernel.status("idle", request.message)
            return
        path = re.search(r'"(/[^"]*/values)"', str(request.content.get("code", "")))
        if request.type == "execute_request" and path is not None:
            with closing(socket.socket(socket.AF_UNIX)) as sock:
                sock.connect(path[1])
                self._do(sock)
                kernel.answer(request)
        else:
            kernel.answer(request)


def say(sock: socket.socket, about: Any) -> None:
    text = json.dumps(about).encode()
    sock.sendall(struct.pack("!Q", len(text)) + text)


def described(*sizes: int, **more: Any) -> dict[str, Any]:
    return {
        "values": [{"kind": "data", "readonly": [], "sizes": list(sizes), **more}],
        "sum": False,
    }


HONEST = b'"abcdef"'


def test_what_is_honest_arrives(pool: KernelPool, fake_kernel: StartFake) -> None:
    def give(sock: socket.socket) -> None:
        say(sock, described(len(HONEST)))
        sock.sendall(HONEST + struct.pack("!Q", zlib.crc32(HONEST)))
        assert sock.recv(100).endswith(b'"well"')

    kernel = pool.attach(fake_kernel(Visitor(give)).connection_file)

    assert kernel.pull("v") == "abcdef"


LIES: dict[str, list[Any]] = {
    "says nothing": [],
    "no length": [b"\0\0\0"],
    "an endless description": [b"\xff" * 8],
    "no JSON": [b"\0\0\0\0\0\0\0\1{"],
    "no dictionary": [[1]],
    "no checksums": [{**described(1), "sum": 5}],
    "a negative size": [described(-1)],
    "more than the machine has": [described(2**50)],
    "another kind": [described(1, kind="pickle")],
    "too few values": [{"values": [], "sum": False}],
    "no values": [{"sum": False}],
    "too few bytes": [described(len(HONEST)), HONEST[:-1]],
    "no checksum": [described(len(HONEST)), HONEST],
    "a wrong checksum": [described(len(HONEST)), HONEST + b"\0" * 8],
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_ends_the_transfer_and_no_more(
    pool: KernelPool, fake_kernel: StartFake, name: str
) -> None:
    def lie(sock: socket.socket) -> None:
        for what in LIES[name]:
            sock.sendall(what) if isinstance(what, bytes) else say(sock, what)

    kernel = pool.attach(fake_kernel(Visitor(lie)).connection_file)

    with pytest.raises(TransferError) as caught:
        kernel.pull("v")

    assert caught.value.value == "v"
    assert kernel.alive
    assert threads() == []


@pytest.mark.parametrize("let_in", ["at once", "late"])
def test_one_that_says_it_is_done_and_is_not_is_told(
    pool: KernelPool, fake_kernel: StartFake, monkeypatch: pytest.MonkeyPatch, let_in: str
) -> None:
    monkeypatch.setattr(nearby, "OVERTAKEN_AFTER", 0.5)
    if let_in == "late":
        let_in_after_the_cell(monkeypatch)
    held: list[socket.socket] = []

    def stay(sock: socket.socket) -> None:
        say(sock, {"sum": False})
        held.append(sock.dup())

    kernel = pool.attach(fake_kernel(Visitor(stay)).connection_file)

    with pytest.raises(TransferError, match="said that it was done"):
        kernel.push({"v": bytes(100_000_000)})

    held[0].close()
    assert threads() == []


def let_in_after_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the thread that waits for kernels begin only when the kernel has said it was done."""
    over = threading.Event()
    wait, knock = nearby.Meeting._wait, nearby.Meeting._knock

    def wait_late(meeting: nearby.Meeting) -> None:
        over.wait(10.0)
        wait(meeting)

    def knock_and_go_on(meeting: nearby.Meeting) -> None:
        knock(meeting)
        over.set()

    monkeypatch.setattr(nearby.Meeting, "_wait", wait_late)
    monkeypatch.setattr(nearby.Meeting, "_knock", knock_and_go_on)


@pytest.mark.full
def test_one_that_dies_at_the_meeting_is_told(
    pool: KernelPool, hand_kernel: StartHand, meetings: list[nearby.Meeting]
) -> None:
    hand = hand_kernel()
    kernel = pool.attach(hand.connection_file)
    kernel.run("v = bytes(60_000_000)")

    def kill(done: int, total: int) -> None:
        if hand.process.alive:
            hand.kill()

    with pytest.raises(TransferError, match="the kernel died") as caught:
        kernel.pull("v", progress=Progress(moved=kill))

    assert isinstance(caught.value.__cause__, KernelDied)
    assert [each.came for each in meetings] == [True]
    assert threads() == []


def test_an_interrupt_of_somebody_else_is_told_and_leaves_nothing_there(
    kernel: Kernel, shared_kernel: HandKernel
) -> None:
    kernel.run("interrupted_value = 'old'; import psutil; here = psutil.Process()")
    before = kernel.pull("here.memory_info().rss")

    def interrupt(done: int, total: int) -> None:
        if done < total:
            kernel.interrupt()
            wait_until(lambda: not kernel.running, what="the cell is over")

    with pytest.raises(TransferError, match="KeyboardInterrupt"):
        kernel.push(
            {"interrupted_value": np.ones(200_000_000, np.uint8)},
            progress=Progress(moved=interrupt),
        )

    assert kernel.pull("interrupted_value") == "old"
    assert kernel.pull("here.memory_info().rss") - before < 100_000_000


# The pipe alone.


@pytest.fixture
def ends() -> Generator[tuple[Pipe, Pipe]]:
    one, other = map(Pipe, socket.socketpair())
    with one, other:
        yield one, other


@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("size", [0, 1, 7, pipe.STRETCH - 1, pipe.STRETCH, 3 * pipe.STRETCH + 5])
def test_parts_arrive_whole(ends: tuple[Pipe, Pipe], size: int, summed: bool) -> None:
    sent = [memoryview((b"0123456789abcdef" * (size // 16 + 1))[:size]), memoryview(b"end")]
    there = [memoryview(bytearray(part.nbytes)) for part in sent]
    moved: list[int] = []
    sender = threading.Thread(target=lambda: ends[0].send(sent, summed=summed))

    sender.start()
    ends[1].fill(there, summed=summed, moved=moved.append)
    sender.join()

    assert there == sent
    assert sum(moved) == size + 3


def test_what_changed_on_its_way_is_refused(ends: tuple[Pipe, Pipe]) -> None:
    ends[0].send([memoryview(b"abcdefghij")], summed=False)

    with pytest.raises(Damaged, match="checksum"):
        ends[1].fill([memoryview(bytearray(10))], summed=True)


@pytest.mark.parametrize("path", ["", "/nowhere/values", "/dev/null"])
def test_where_nobody_listens_there_is_no_way(path: str) -> None:
    assert pipe.connect(path) is None
