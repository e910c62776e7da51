"""A kernel's connection over time: opened, proved, lost, opened again."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import pytest

from kernel_magics.connect.info import ConnectionInfo
from kernel_magics.errors import (
    AuthenticationError,
    KernelMagicsError,
    KernelUnreachable,
    MessageRejected,
)
from kernel_magics.kernels import link as link_module
from kernel_magics.kernels.link import Link, LinkState
from kernel_magics.protocol.handshake import Handshake
from kernel_magics.protocol.health import LOST_GRACE, Finding, Verdict
from kernel_magics.protocol.message import Message, Session, Signer
from kernel_magics.wire.reactor import Reactor
from kernel_magics.wire.transport import Channel
from kernel_magics.wire.zmq import ZmqTransport
from tests.support.connection import Info, tcp_info
from tests.support.fake import FakeKernel, Request
from tests.support.kernels import HandKernel, Kind
from tests.support.sockets import KINDS
from tests.support.waiting import PATIENCE, wait_until

StartFake = Callable[..., FakeKernel]
StartHand = Callable[..., HandKernel]

PROMPTLY = 1.0
"""Seconds for what takes milliseconds, on a machine that may be very busy."""

PATIENT = 10.0


class Watch:
    """An owner that keeps what its link tells it, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []
        self.messages: list[Message] = []

    def link_up(self, proof: Handshake, finding: Finding | None) -> None:
        self.told.append(("up", finding))

    def link_unproved(self) -> None:
        self.told.append(("unproved", None))

    def link_failed(self, error: KernelMagicsError) -> None:
        self.told.append(("failed", error))

    def link_lost(self) -> None:
        self.told.append(("lost", None))

    def link_gone(self, finding: Finding) -> None:
        self.told.append(("gone", finding))

    def link_message(self, channel: Channel, message: Message) -> None:
        self.messages.append(message)

    def link_pong(self) -> None:
        self.told.append(("pong", None))

    def link_rejected(self, error: MessageRejected) -> None:
        self.told.append(("rejected", error))

    @property
    def words(self) -> list[str]:
        return [word for word, _ in self.told]

    def wait_for(self, word: str, timeout: float = PATIENCE) -> Any:
        """Wait until it was told that; return what else was said."""
        wait_until(lambda: word in self.words, timeout, what=lambda: f"{word}; {self.told}")
        return dict(reversed(self.told))[word]


class Held:
    """One link under test, driven from the test's thread."""

    def __init__(self, reactor: Reactor, info: ConnectionInfo) -> None:
        self.watch, self.session = Watch(), Session()
        self.exit_status: int | None = None
        self._reactor = reactor
        signer = Signer(info.key.reveal())
        endpoints = info.endpoints()
        identity = self.session.identity
        self.link = Link(
            "it",
            reactor,
            lambda: ZmqTransport(reactor, endpoints, signer, identity),
            self.session,
            self.watch,
            lambda: self.exit_status,
        )

    @property
    def state(self) -> LinkState:
        return self.link.state

    def open(self, patience: float = PATIENT, *, retry: bool = False) -> None:
        self._reactor.ask(partial(self.link.open, patience, retry=retry))

    def up(self) -> None:
        """Open it and return when it is proved; forget what was told until then."""
        self.open()
        assert self.watch.wait_for("up") is None
        self.watch.told.clear()

    def send(self, channel: Channel, msg_type: str) -> Message:
        message = self.session.message(msg_type, {})
        self._reactor.ask(partial(self.link.send, channel, message))
        return message

    def close(self) -> None:
        self._reactor.ask(self.link.close)


@pytest.fixture
def held() -> Generator[Callable[[FakeKernel | HandKernel | Info], Held]]:
    """Make links; they are closed after the test."""
    reactor = Reactor("link under test")

    def make(kernel: FakeKernel | HandKernel | Info) -> Held:
        info = kernel if isinstance(kernel, dict) else kernel.info
        return Held(reactor, ConnectionInfo.from_dict(info))

    yield make
    reactor.close()


Hold = Callable[[FakeKernel | HandKernel | Info], Held]


@contextmanager
def reserved_ports() -> Generator[Info]:
    """Connection info whose ports nobody listens on, and nobody else can take."""
    info = tcp_info()
    with ExitStack() as stack:
        for channel in KINDS:
            sock = stack.enter_context(socket.socket())
            sock.bind(("127.0.0.1", 0))
            info[f"{channel}_port"] = sock.getsockname()[1]
        yield info


def mute(kernel: FakeKernel, request: Request) -> None:
    """A script: hear everything and say nothing."""


def deafen(kernel: FakeKernel) -> None:
    """Close all channels, so that nobody listens."""
    for channel in KINDS:
        kernel.sockets.unbind(channel)


def cut(kernel: FakeKernel) -> None:
    """Close all connections of the same process, and listen again."""
    deafen(kernel)
    for channel in KINDS:
        kernel.sockets.bind(channel)


# Opened and proved.


@pytest.mark.parametrize("transport", ["tcp", "ipc", "curve"])
@pytest.mark.parametrize("welcome", [True, False], ids=["welcome", "no-welcome"])
def test_a_kernel_that_answers_is_proved(
    fake_kernel: StartFake, held: Hold, transport: str, welcome: bool
) -> None:
    it = held(fake_kernel(transport=transport, welcome=welcome))
    it.open()
    assert it.watch.wait_for("up", PROMPTLY) is None
    assert (it.state, it.watch.words) == (LinkState.UP, ["up"])


def test_a_real_kernel_is_proved(shared_kernel: HandKernel, held: Hold) -> None:
    it = held(shared_kernel)
    it.open()
    it.watch.wait_for("up")


def test_a_kernel_that_answers_on_shell_only_is_proved(fake_kernel: StartFake, held: Hold) -> None:
    # As IRkernel does.
    def script(kernel: FakeKernel, request: Request) -> None:
        if request.channel == "shell":
            kernel.answer(request)

    it = held(fake_kernel(script, welcome=False))
    it.open()
    it.watch.wait_for("up", PROMPTLY)


def test_what_arrives_is_handed_on(fake_kernel: StartFake, held: Hold) -> None:
    it = held(fake_kernel())
    it.up()
    asked = it.send("shell", "is_complete_request")
    wait_until(
        lambda: asked.msg_id in [each.parent_id for each in it.watch.messages],
        what="the answer is handed on",
    )


def test_nothing_is_sent_but_the_handshake_until_it_is_proved(
    fake_kernel: StartFake, held: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "UNPROVED_AFTER", 0.3)
    fake = fake_kernel(mute, welcome=False)
    it = held(fake)
    it.open()
    it.watch.wait_for("unproved")
    assert {request.type for request in fake.requests} == {"kernel_info_request"}
    assert len([each for each in fake.requests if each.channel == "shell"]) <= 1


# Nobody there, or not this kernel.


def test_nobody_there_fails_at_once(held: Hold) -> None:
    with reserved_ports() as info:
        it = held(info)
        it.open()
        error = it.watch.wait_for("failed", PROMPTLY)
    assert isinstance(error, KernelUnreachable)
    assert error.reason == "nothing listens there"
    assert (it.state, it.watch.words) == (LinkState.DOWN, ["failed"])


def test_somebody_who_says_nothing_at_all_fails_when_patience_ends(held: Hold) -> None:
    with reserved_ports() as info, ExitStack() as stack:
        listening = dict(info)
        for channel in KINDS:
            sock = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            listening[f"{channel}_port"] = sock.getsockname()[1]
        it = held(listening)
        began = time.monotonic()
        it.open(0.5)
        error = it.watch.wait_for("failed")
        assert 0.5 <= time.monotonic() - began < 0.5 + PROMPTLY
    assert isinstance(error, KernelUnreachable)
    assert error.reason == "it did not answer in time"


def test_a_kernel_with_another_key_is_refused_by_name(fake_kernel: StartFake, held: Hold) -> None:
    it = held({**fake_kernel().info, "key": "s3cret"})
    it.open()
    error = it.watch.wait_for("failed", PROMPTLY)
    assert isinstance(error, AuthenticationError)
    assert it.watch.words == ["failed"]
    assert "s3cret" not in str(error)


@pytest.mark.parametrize("kind", ["tcp", "ipc", "curve"])
def test_a_real_kernel_with_another_key_is_refused_by_name(
    hand_kernel: StartHand, held: Hold, kind: Kind
) -> None:
    it = held({**hand_kernel(kind).info, "key": "another key"})
    it.open()
    assert isinstance(it.watch.wait_for("failed"), AuthenticationError)


def test_an_old_kernel_with_another_key_is_refused_as_soon_as_it_publishes_anything(
    hand_kernel: StartHand, held: Hold
) -> None:
    # ipykernel 6 does not welcome and does not answer forged requests, so it is only silent.
    kernel = hand_kernel("floor")
    it = held({**kernel.info, "key": "another key"})
    it.open()
    kernel.ask("1")
    assert isinstance(it.watch.wait_for("failed"), AuthenticationError)


# A kernel that is just starting.


def test_a_kernel_that_is_just_starting_is_waited_for(fake_kernel: StartFake, held: Hold) -> None:
    fake = fake_kernel()
    fake.do(deafen)
    it = held(fake)
    it.open(retry=True)
    wait_until(lambda: it.state is LinkState.CONNECTING, what="it tries")
    fake.do(lambda kernel: kernel.restart())
    it.watch.wait_for("up")
    assert it.watch.words == ["up"]


def test_a_kernel_that_never_comes_fails_when_patience_ends(held: Hold) -> None:
    with reserved_ports() as info:
        it = held(info)
        began = time.monotonic()
        it.open(0.5, retry=True)
        error = it.watch.wait_for("failed")
        assert 0.5 <= time.monotonic() - began < 0.5 + PROMPTLY
    assert isinstance(error, KernelUnreachable)


def test_a_process_that_ends_while_it_starts_is_not_waited_for(held: Hold) -> None:
    with reserved_ports() as info:
        it = held(info)
        it.open(PATIENCE, retry=True)
        it.exit_status = 3
        finding = it.watch.wait_for("gone", PROMPTLY)
    assert finding.verdict is Verdict.DIED
    assert "exit code 3" in finding.reason


# Silent kernels.


def test_a_kernel_that_is_connected_but_silent_is_unproved_and_proved_when_it_answers(
    fake_kernel: StartFake, held: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "UNPROVED_AFTER", 0.3)
    fake = fake_kernel(welcome=False)
    it = held(fake)
    with fake.frozen():
        it.open()
        it.watch.wait_for("unproved")
        assert it.state is LinkState.UNPROVED
    it.watch.wait_for("up")
    assert (it.state, it.watch.words) == (LinkState.UP, ["unproved", "up"])


@pytest.mark.full
def test_a_silent_kernel_is_waited_for_longer_than_any_patience(
    fake_kernel: StartFake, held: Hold
) -> None:
    fake = fake_kernel(welcome=False)
    it = held(fake)
    with fake.frozen():
        it.open(3.0)
        it.watch.wait_for("unproved")
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > 4.0, what="patience has passed twice")
        assert it.watch.words == ["unproved"]
    it.watch.wait_for("up")


# Lost.


@pytest.mark.parametrize("transport", ["tcp", "ipc", "curve"])
def test_a_connection_that_was_cut_is_opened_again_by_us(
    fake_kernel: StartFake, held: Hold, transport: str
) -> None:
    fake = fake_kernel(transport=transport)
    it = held(fake)
    it.up()
    fake.do(cut)
    finding = it.watch.wait_for("up", LOST_GRACE)
    assert finding.verdict is Verdict.RESUMED
    assert it.watch.words == ["lost", "up"]


@pytest.mark.parametrize("transport", ["tcp", "ipc", "curve"])
def test_another_process_behind_the_same_ports_is_a_restart(
    fake_kernel: StartFake, held: Hold, transport: str
) -> None:
    fake = fake_kernel(transport=transport)
    it = held(fake)
    it.up()
    fake.do(lambda kernel: kernel.restart())
    finding = it.watch.wait_for("up", LOST_GRACE)
    assert finding.verdict is Verdict.RESTARTED
    assert it.watch.words == ["lost", "up"]


def test_a_connection_survives_many_cuts(fake_kernel: StartFake, held: Hold) -> None:
    fake = fake_kernel()
    it = held(fake)
    it.up()
    for _ in range(10):
        fake.do(cut)
        assert it.watch.wait_for("up").verdict is Verdict.RESUMED
        it.watch.told.clear()


@pytest.mark.full
def test_a_kernel_that_does_not_come_back_is_dead_after_the_grace(
    fake_kernel: StartFake, held: Hold
) -> None:
    fake = fake_kernel()
    it = held(fake)
    it.up()
    began = time.monotonic()
    fake.close()
    finding = it.watch.wait_for("gone")
    assert LOST_GRACE <= time.monotonic() - began < LOST_GRACE + PROMPTLY
    assert finding.verdict is Verdict.DIED
    assert (it.state, it.watch.words) == (LinkState.DOWN, ["lost", "gone"])


def test_a_process_that_ended_is_dead_at_once_and_says_how(
    fake_kernel: StartFake, held: Hold
) -> None:
    fake = fake_kernel()
    it = held(fake)
    it.up()
    it.exit_status = -9
    fake.close()
    finding = it.watch.wait_for("gone", PROMPTLY)
    assert finding.verdict is Verdict.DIED
    assert "SIGKILL" in finding.reason


def test_somebody_else_behind_the_same_ports_is_not_the_kernel(
    fake_kernel: StartFake, held: Hold
) -> None:
    fake = fake_kernel()
    it = held(fake)
    it.up()
    fake.sockets.key = fake.key = b"the key of somebody else"
    fake.do(cut)
    finding = it.watch.wait_for("gone", LOST_GRACE)
    assert finding.verdict is Verdict.DIED
    assert "something else" in finding.reason


def test_a_dead_kernel_may_be_opened_again(fake_kernel: StartFake, held: Hold) -> None:
    fake = fake_kernel()
    it = held(fake)
    it.up()
    it.exit_status = 1
    fake.do(cut)
    it.watch.wait_for("gone")
    it.exit_status = None
    it.watch.told.clear()
    it.open()
    it.watch.wait_for("up")


def test_forged_bytes_on_a_proved_connection_do_not_end_it(
    fake_kernel: StartFake, held: Hold
) -> None:
    fake = fake_kernel()
    it = held(fake)
    it.up()

    def forge(kernel: FakeKernel) -> None:
        true_key, kernel.key = kernel.key, b"forged"
        kernel.publish("stream", {"name": "stdout", "text": ""})
        kernel.key = true_key

    fake.do(forge)
    assert it.watch.wait_for("rejected").forged
    assert it.state is LinkState.UP


# Closed.


def test_a_closed_link_says_nothing_more(fake_kernel: StartFake, held: Hold) -> None:
    fake = fake_kernel()
    it = held(fake)
    it.up()
    it.close()
    it.close()
    fake.close()
    it.exit_status = 0
    held(fake_kernel()).up()  # turns of the same I/O thread
    assert (it.state, it.watch.told) == (LinkState.DOWN, [])


@pytest.mark.parametrize("retry", [True, False], ids=["retry", "once"])
def test_a_link_that_is_closed_while_it_opens_says_nothing(
    fake_kernel: StartFake, held: Hold, retry: bool
) -> None:
    fake = fake_kernel(mute, welcome=False)
    it = held(fake)
    it.open(0.1, retry=retry)
    fake.wait_for("kernel_info_request")
    it.close()
    asked = len(fake.requests)
    held(fake_kernel()).up()
    assert (it.state, it.watch.told, len(fake.requests)) == (LinkState.DOWN, [], asked)
