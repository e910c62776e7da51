"""A kernel's channels as ZeroMQ sockets: what arrives, what is lost, and what is never sent."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import zmq
import zmq.asyncio

from kernel_magics.connect.info import ConnectionInfo
from kernel_magics.errors import MessageRejected
from kernel_magics.protocol.message import CUT_SHORT, DELIMITER, Message, Part, Session, Signer
from kernel_magics.wire import zmq as zmq_transport
from kernel_magics.wire.frames import SURE, ZERO_COPY
from kernel_magics.wire.reactor import Reactor
from kernel_magics.wire.transport import Channel, State
from kernel_magics.wire.zmq import ZmqTransport, _reason, asyncio_context
from tests.support import parts
from tests.support.connection import Info, ipc_info, tcp_info, write_info
from tests.support.fake import FakeKernel, Request
from tests.support.kernels import HandKernel, Kind
from tests.support.processes import Process
from tests.support.sandbox import Sandbox
from tests.support.waiting import PATIENCE, Deadline, wait_until
from tests.wire import start_zero_copy

StartHand = Callable[..., HandKernel]
StartFake = Callable[..., FakeKernel]

TRANSPORTS = ["tcp", "ipc", "curve"]

PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")

FLOOD = 20_000

SOON = 5.0
"""Seconds for what the operating system tells at once, on a machine that may be very busy."""


class Recorder:
    """A listener that keeps what it is told, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    def received(self, channel: Channel, message: Message) -> None:
        self.events.append((channel, message))

    def rejected(self, channel: Channel, error: MessageRejected) -> None:
        self.events.append(("rejected", (channel, error)))

    def connected(self) -> None:
        self.events.append(("connected", None))

    def closing(self) -> None:
        self.events.append(("closing", None))

    def pong(self) -> None:
        self.events.append(("pong", None))

    def lost(self, reason: str) -> None:
        self.events.append(("lost", reason))

    def of(self, kind: str) -> list[Any]:
        return [what for each, what in list(self.events) if each == kind]

    @property
    def reason(self) -> str:
        """Why the connection was lost; empty while it is not."""
        return str(next(iter(self.of("lost")), ""))


class Line:
    """One transport under test, with what it heard; driven from the test's thread."""

    def __init__(self, reactor: Reactor, info: ConnectionInfo) -> None:
        self.reactor, self.heard, self.session = reactor, Recorder(), Session()
        signer = Signer(info.key.reveal(), info.signature_scheme)
        self.transport = ZmqTransport(reactor, info.endpoints(), signer, self.session.identity)

    @property
    def state(self) -> State:
        return self.transport.state

    def open(self) -> None:
        self.reactor.ask(partial(self.transport.open, self.heard))

    def close(self) -> None:
        self.reactor.ask(self.transport.close)

    def send(
        self, channel: Channel, msg_type: str, content: Info, *buffers: bytes | memoryview
    ) -> Message:
        message = self.session.message(msg_type, content, buffers=buffers)
        self.reactor.ask(partial(self.transport.send, channel, message))
        return message

    def subscribe(self, topic: str) -> bool:
        return self.reactor.ask(partial(self.transport.subscribe, topic))

    def wait_for(self, kind: str, number: int = 1, timeout: float = PATIENCE) -> Any:
        """Wait until that many events of a kind were heard; return the last of them."""
        wait_until(
            lambda: len(self.heard.of(kind)) >= number,
            timeout,
            what=lambda: f"{number} of {kind}; {self.heard.events[-5:]} {self.state}",
        )
        return self.heard.of(kind)[number - 1]

    def wait_for_subscription(self) -> None:
        """Return when the kernel publishes to us, as far as a welcome can say it."""
        topic = os.urandom(8).hex()
        self.subscribe(topic)
        wait_until(
            lambda: any(
                message.content.get("subscription") == topic for message in self.heard.of("iopub")
            ),
            what="the kernel welcomed us",
        )


@pytest.fixture(scope="module", autouse=True)
def zero_copy() -> None:
    start_zero_copy()


@pytest.fixture
def reactor() -> Generator[Reactor]:
    reactor = Reactor("transport under test")
    yield reactor
    reactor.close()


@pytest.fixture
def line(reactor: Reactor) -> Generator[Callable[[Path | ConnectionInfo], Line]]:
    """Make transports to the kernel of a connection file; they are closed after the test."""
    lines: list[Line] = []

    def make(where: Path | ConnectionInfo) -> Line:
        info = where if isinstance(where, ConnectionInfo) else ConnectionInfo.from_file(where)
        lines.append(Line(reactor, info))
        return lines[-1]

    yield make
    for each in lines:
        each.close()


Connect = Callable[..., Line]


@pytest.fixture(scope="module", params=TRANSPORTS)
def real_kernel(request: pytest.FixtureRequest, shared_sandbox: Sandbox) -> Generator[HandKernel]:
    """A kernel on each transport, for tests that do it no harm."""
    if request.param == "curve":
        parts.require("curve")
    with HandKernel.start(request.param, shared_sandbox) as kernel:
        yield kernel


@contextmanager
def held(reactor: Reactor) -> Generator[threading.Event]:
    """The I/O thread reads nothing until the event is set or the block ends."""
    begun, finish = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        finish.wait(2 * PATIENCE)

    reactor.post(hold)
    assert begun.wait(PATIENCE)
    try:
        yield finish
    finally:
        finish.set()


# There and back.


def test_a_real_kernel_answers_on_shell_and_control_and_publishes(
    real_kernel: HandKernel, line: Connect
) -> None:
    here = line(real_kernel.connection_file)
    here.open()
    for channel in ("control", "shell"):
        asked = here.send(channel, "kernel_info_request", {})
        answer = here.wait_for(channel)
        assert (answer.type, answer.parent_id) == ("kernel_info_reply", asked.msg_id)
    here.wait_for("iopub")
    assert here.state is State.CONNECTED


def test_it_tells_its_states(fake_kernel: StartFake, line: Connect) -> None:
    fake = fake_kernel()
    here = line(fake.connection_file)
    states = [here.state]

    def open_and_look() -> None:
        here.transport.open(here.heard)
        states.append(here.state)

    here.reactor.ask(open_and_look)
    wait_until(lambda: here.state is State.CONNECTED, what="connected")
    states.append(here.state)
    fake.close()
    here.wait_for("lost")
    states.append(here.state)
    here.close()
    states.append(here.state)
    assert states == list(State)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_large_frames_arrive_whole(fake_kernel: StartFake, line: Connect, transport: str) -> None:
    big = bytes(range(256)) * (4 * ZERO_COPY // 256)

    def script(kernel: FakeKernel, request: Request) -> None:
        kernel.reply(request.message, {"status": "ok"}, buffers=request.message.buffers)

    here = line(fake_kernel(script, transport=transport).connection_file)
    here.open()
    asked = here.send("shell", "comm_info_request", {"filler": "x" * ZERO_COPY}, big, b"", big)
    answer = here.wait_for("shell")
    assert answer.parent_id == asked.msg_id
    assert [bytes(each) for each in answer.buffers] == [big, b"", big]


def test_prompts_come_on_stdin(fake_kernel: StartFake, line: Connect) -> None:
    fake = fake_kernel(lambda kernel, request: kernel.ask_input(request, "name? "))
    here = line(fake.connection_file)
    here.open()
    # The stdin connection is one of its own; a kernel cannot ask whom it does not know yet.
    here.send("stdin", "input_reply", {"value": "hello"})
    fake.wait_for("input_reply")
    here.send("shell", "execute_request", {"code": ""})
    assert here.wait_for("stdin").content["prompt"] == "name? "


def test_a_subscription_is_welcomed_under_its_own_topic(
    fake_kernel: StartFake, line: Connect
) -> None:
    here = line(fake_kernel().connection_file)
    here.open()
    assert here.subscribe("km-unique") is True
    wait_until(
        lambda: "km-unique" in [m.content.get("subscription") for m in here.heard.of("iopub")],
        what="the welcome",
    )


def test_a_ping_is_answered(real_kernel: HandKernel, line: Connect) -> None:
    here = line(real_kernel.connection_file)
    here.open()
    for number in (1, 2):
        here.reactor.ask(here.transport.ping)
        here.wait_for("pong", number)


@pytest.mark.parametrize("transport, encrypted", [("tcp", False), ("ipc", True), ("curve", True)])
def test_it_says_whether_others_can_read_along(
    fake_kernel: StartFake, line: Connect, transport: str, encrypted: bool
) -> None:
    here = line(fake_kernel(transport=transport).connection_file)
    assert here.transport.encrypted is encrypted


# What is no message of this kernel.


def test_a_forged_message_is_rejected_and_the_next_one_is_received(
    fake_kernel: StartFake, line: Connect
) -> None:
    fake = fake_kernel()
    here = line(fake.connection_file)
    here.open()
    here.wait_for_subscription()
    before = len(here.heard.of("iopub"))

    def forge(kernel: FakeKernel) -> None:
        true_key, kernel.key = kernel.key, b"another key"
        kernel.publish("stream", {"name": "stdout", "text": "evil"})
        kernel.key = true_key
        kernel.publish("stream", {"name": "stdout", "text": "good"})

    fake.do(forge)
    good = here.wait_for("iopub", before + 1)
    assert good.content["text"] == "good"
    [(channel, error)] = here.heard.of("rejected")
    assert (channel, error.forged) == ("iopub", True)


SHORT = (b"topic", DELIMITER, b"signature", b"{}")


def glue(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Have every message come together with so many that are cut short.

    It takes two that wait for us already, the first of them spoilt; no kernel does that on demand.
    """
    receive = zmq_transport.receive_frames

    def glued(sock: zmq.Socket[bytes], *, signed: bool) -> list[Part]:
        return [*SHORT * number, *receive(sock, signed=signed)]

    monkeypatch.setattr(zmq_transport, "receive_frames", glued)


@pytest.fixture
def listening(fake_kernel: StartFake, line: Connect) -> tuple[FakeKernel, Line]:
    """A kernel, and the transport that it publishes to; all it said so far is forgotten."""
    fake = fake_kernel()
    here = line(fake.connection_file)
    here.open()
    here.wait_for_subscription()
    here.heard.events.clear()
    return fake, here


def say(fake: FakeKernel, text: str) -> None:
    fake.do(lambda kernel: kernel.publish("stream", {"name": "stdout", "text": text}))


@pytest.mark.parametrize("number", [1, 2, 4])
def test_what_came_together_with_messages_that_are_cut_short_is_received(
    listening: tuple[FakeKernel, Line], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fake, here = listening
    glue(monkeypatch, number)
    say(fake, "good")
    assert here.wait_for("iopub").content["text"] == "good"
    rejected = [(channel, str(error), error.forged) for channel, error in here.heard.of("rejected")]
    assert rejected == number * [("iopub", f"message rejected: {CUT_SHORT}", False)]


def test_what_is_forged_behind_one_that_is_cut_short_is_told_as_that(
    listening: tuple[FakeKernel, Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, here = listening
    fake.key = b"another key"
    glue(monkeypatch, 1)
    say(fake, "evil")
    here.wait_for("rejected", 2)
    assert [error.forged for _, error in here.heard.of("rejected")] == [False, True]
    assert here.heard.of("iopub") == []


def test_more_than_can_have_been_cut_short_is_not_looked_through(
    listening: tuple[FakeKernel, Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, here = listening
    glue(monkeypatch, 100)
    say(fake, "behind too many")
    monkeypatch.undo()
    here.wait_for("rejected", 1 + SURE)
    say(fake, "good")
    assert here.wait_for("iopub").content["text"] == "good"
    assert len(here.heard.of("rejected")) == 1 + SURE


def test_who_lets_go_at_a_message_that_is_cut_short_hears_no_more(
    listening: tuple[FakeKernel, Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, here = listening
    heard = here.heard.rejected

    def let_go(channel: Channel, error: MessageRejected) -> None:
        heard(channel, error)
        here.transport.close()

    monkeypatch.setattr(here.heard, "rejected", let_go)
    glue(monkeypatch, 1)
    say(fake, "unheard")
    here.wait_for("rejected")
    here.reactor.ask(lambda: None)
    assert (here.state, here.heard.of("iopub")) == (State.CLOSED, [])


@pytest.mark.parametrize("frames", [[b""], [b"x"], [b"<IDS|MSG>"], [b"a"] * 100], ids=repr)
def test_garbage_is_rejected_and_not_called_forged(
    fake_kernel: StartFake, line: Connect, frames: list[bytes]
) -> None:
    fake = fake_kernel()
    here = line(fake.connection_file)
    here.open()
    here.wait_for_subscription()
    fake.do(lambda kernel: kernel.send("iopub", frames))
    channel, error = here.wait_for("rejected")
    assert (channel, error.forged) == ("iopub", False)


# Nothing that was sent is lost with the connection.

SENDER = f"""
# A kernel that floods, hands the last byte to the operating system, and is killed.
import json, os, signal, sys
from tests.support.connection import write_info
from tests.support.sockets import KernelSockets
from tests.support.wire import Message, make_header, pack
from pathlib import Path

file = Path(sys.argv[1])
sockets = KernelSockets(json.loads(file.read_text()))
write_info(file, sockets.info)
print("listens", flush=True)
sockets["iopub"].linger = sockets["shell"].linger = -1
while sockets.receive_subscription() != b"":
    pass
asked = sockets.receive("shell")
def say(channel, msg_type, content, identities=()):
    header = make_header(msg_type, "flood")
    frames = pack(Message(header, asked.header, {{}}, content, identities), sockets.key)
    sockets[channel].send_multipart(frames)
for number in range({FLOOD}):
    say("iopub", "stream", {{"name": "stdout", "text": str(number)}})
say("shell", "execute_reply", {{"status": "ok"}}, asked.identities)
# Closing with an endless linger is how libzmq tells that all is written.
sockets.close()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.full
@pytest.mark.parametrize(
    "late",
    [
        pytest.param(True, id="reader-late"),
        pytest.param(False, id="reader-in-time", marks=pytest.mark.full),
    ],
)
@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_everything_that_was_sent_before_a_kill_is_delivered_before_the_loss(
    sandbox: Sandbox, line: Connect, closing: ExitStack, transport: str, late: bool
) -> None:
    file = sandbox.work / "flood.json"
    write_info(file, tcp_info() if transport == "tcp" else ipc_info(socket_folder(sandbox)))
    sender = closing.enter_context(
        Process(
            [sys.executable, "-c", SENDER, str(file)],
            env=sandbox.environment(),
            cwd=sandbox.work,
            log=sandbox.work / "flood.log",
        )
    )
    wait_until(lambda: "listens" in sender.output, what=lambda: f"it listens: {sender.output}")
    here = line(file)
    here.open()
    wait_until(lambda: here.state is State.CONNECTED, what="connected")
    here.send("shell", "execute_request", {"code": ""})
    if late:
        with held(here.reactor):
            assert sender.wait(2 * PATIENCE) == -signal.SIGKILL, sender.output
    here.wait_for("lost")
    got = [each.content["text"] for each in here.heard.of("iopub") if each.type == "stream"]
    assert len(got) == FLOOD
    assert got == [str(number) for number in range(FLOOD)]
    assert [each.type for each in here.heard.of("shell")] == ["execute_reply"]
    assert here.heard.events[-1][0] == "lost"
    assert sender.wait() == -signal.SIGKILL, sender.output


def socket_folder(sandbox: Sandbox) -> Path:
    folder = sandbox.root / "s"
    folder.mkdir()
    return folder


# Losses.


@pytest.mark.parametrize("kind", TRANSPORTS)
def test_a_killed_kernel_is_lost_at_once(hand_kernel: StartHand, line: Connect, kind: Kind) -> None:
    kernel = hand_kernel(kind)
    here = line(kernel.connection_file)
    here.open()
    here.send("control", "kernel_info_request", {})
    here.wait_for("control")
    began = time.monotonic()
    kernel.kill()
    assert here.wait_for("lost") == "the connection closed"
    assert time.monotonic() - began < 2.0


def test_a_loss_is_told_once(fake_kernel: StartFake, line: Connect) -> None:
    fake = fake_kernel()
    here = line(fake.connection_file)
    here.open()
    wait_until(lambda: here.state is State.CONNECTED, what="connected")
    fake.close()
    here.wait_for("lost")
    here.reactor.ask(lambda: None)
    assert len(here.heard.of("lost")) == 1


@pytest.mark.parametrize("channel", ["shell", "iopub"])
def test_half_a_connection_is_lost_as_a_whole_once_it_is_quiet(
    fake_kernel: StartFake, line: Connect, channel: str
) -> None:
    fake = fake_kernel()
    here = line(fake.connection_file)
    here.open()
    here.wait_for_subscription()
    fake.do(lambda kernel: kernel.sockets.unbind(channel))
    assert here.wait_for("lost") == "the connection closed"


def test_what_still_flows_after_shell_has_closed_is_delivered_before_the_loss(
    fake_kernel: StartFake, line: Connect
) -> None:
    fake = fake_kernel()
    here = line(fake.connection_file)
    here.open()
    here.wait_for_subscription()
    fake.do(lambda kernel: kernel.sockets.unbind("shell"))
    published = 0
    began = Deadline(1.0)
    while not began.passed:
        fake.do(lambda kernel: kernel.publish("stream", {"name": "stdout", "text": "still here"}))
        published += 1
    assert here.heard.of("lost") == []
    here.wait_for("lost")
    streams = [each for each in here.heard.of("iopub") if each.type == "stream"]
    assert len(streams) == published


def test_a_close_by_the_listener_in_the_middle_of_a_batch_is_fine(
    fake_kernel: StartFake, line: Connect
) -> None:
    fake = fake_kernel()
    here = line(fake.connection_file)
    received = here.heard.received

    def close_at_once(channel: Channel, message: Message) -> None:
        received(channel, message)
        here.transport.close()

    here.heard.received = close_at_once  # type: ignore[method-assign]
    here.open()
    wait_until(lambda: here.state is State.CLOSED, what="the welcome has come")
    here.reactor.ask(lambda: None)
    assert len(here.heard.of("iopub")) == 1
    assert here.heard.of("lost") == []


def test_a_close_by_the_listener_while_the_rest_is_read_is_fine(
    fake_kernel: StartFake, line: Connect
) -> None:
    fake = fake_kernel()
    here = line(fake.connection_file)
    here.open()
    here.wait_for_subscription()
    here.heard.received = lambda *_: here.transport.close()  # type: ignore[method-assign]
    iopub = here.transport._sockets["iopub"]

    def lose() -> None:
        # In one turn, so that nobody reads this before.
        fake.do(lambda kernel: kernel.publish("stream", {"name": "stdout", "text": "x"}))
        deadline = time.monotonic() + PATIENCE
        while not iopub.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            assert time.monotonic() < deadline
        here.transport._report_loss()

    here.reactor.ask(lose)
    assert here.state is State.CLOSED
    assert here.heard.of("lost") == []


def test_a_close_by_the_listener_at_a_sign_of_life_is_fine(
    fake_kernel: StartFake, line: Connect
) -> None:
    here = line(fake_kernel().connection_file)
    here.heard.pong = here.transport.close  # type: ignore[method-assign]
    here.open()
    here.wait_for_subscription()
    here.reactor.ask(here.transport.ping)
    wait_until(lambda: here.state is State.CLOSED, what="the listener has closed it")
    here.reactor.ask(lambda: None)


def test_a_debug_log_has_types_and_ids_but_no_contents(
    fake_kernel: StartFake, line: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "kernel_magics.wire")
    here = line(fake_kernel().connection_file)
    here.open()
    asked = here.send("shell", "kernel_info_request", {"secret": "a secret"})
    answer = here.wait_for("shell")
    assert f"> shell kernel_info_request {asked.msg_id}" in caplog.text
    assert f"< shell {answer.type} of {asked.msg_id}" in caplog.text
    assert "a secret" not in caplog.text


# Nobody there, or somebody else.


@contextmanager
def reserved() -> Generator[tuple[Info, dict[str, socket.socket]]]:
    """Connection info whose ports are ours, but nobody listens on them; and the sockets.

    A port that is merely free may be the one that a connection to it comes from: it would then be
    connected to itself.
    """
    info, sockets = tcp_info(), {}
    with ExitStack() as stack:
        for name in PORTS:
            sockets[name] = stack.enter_context(socket.socket())
            sockets[name].bind(("127.0.0.1", 0))
            info[name] = sockets[name].getsockname()[1]
        yield info, sockets


@contextmanager
def taken(info: Info) -> Generator[dict[str, socket.socket]]:
    """A stranger's sockets on ports that a kernel had."""
    with ExitStack() as stack:
        sockets = {name: stack.enter_context(socket.socket()) for name in PORTS}
        for name, sock in sockets.items():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            wait_until(partial(bound, sock, info[name]), what=f"{name} is free again")
        yield sockets


def bound(sock: socket.socket, port: int) -> bool:
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


@contextmanager
def answering(
    sockets: dict[str, socket.socket], *, says: bytes = b"", hang_up: bool = False
) -> Generator[list[bytes]]:
    """Plain TCP servers; the list is what they were told, beginning with b"" for a connection."""
    told: list[bytes] = []
    over = threading.Event()

    def serve(listener: socket.socket) -> None:
        with ExitStack() as connections:
            while not over.is_set():
                try:
                    connection = connections.enter_context(listener.accept()[0])
                except TimeoutError:
                    continue
                told.append(b"")
                connection.settimeout(0.1)
                if says:
                    connection.sendall(says)
                if hang_up:
                    connection.close()
                    continue
                with suppress(OSError):
                    told.append(connection.recv(4096))

    for listener in sockets.values():
        listener.listen()
        listener.settimeout(0.05)
    threads = [threading.Thread(target=serve, args=[each]) for each in sockets.values()]
    for each in threads:
        each.start()
    try:
        yield told
    finally:
        over.set()
        for each in threads:
            each.join()


def test_nobody_there_is_a_loss_at_once(line: Connect) -> None:
    with reserved() as (info, _):
        here = line(ConnectionInfo.from_dict(info))
        began = time.monotonic()
        here.open()
        assert here.wait_for("lost") == "nothing listens there"
        assert time.monotonic() - began < 1.0


def test_no_socket_file_is_a_loss_at_once(sandbox: Sandbox, line: Connect) -> None:
    here = line(ConnectionInfo.from_dict(ipc_info(socket_folder(sandbox))))
    began = time.monotonic()
    here.open()
    assert here.wait_for("lost") == "nothing listens there"
    assert time.monotonic() - began < 1.0


HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n" + b" " * 64


@pytest.mark.parametrize("says", [HTTP, b""], ids=["http", "nothing"])
def test_who_does_not_speak_zeromq_is_a_loss_with_a_reason(line: Connect, says: bytes) -> None:
    with reserved() as (info, sockets), answering(sockets, says=says, hang_up=True):
        here = line(ConnectionInfo.from_dict(info))
        here.open()
        reason = here.wait_for("lost", timeout=SOON)
    assert "ZeroMQ" in reason


def test_the_context_of_managers_is_one_for_coroutines() -> None:
    with asyncio_context() as context:
        assert isinstance(context, zmq.asyncio.Context)


def test_refused_keys_are_named() -> None:
    # Only a server with an authenticator says so; no kernel known to us has one.
    assert "keys" in _reason(zmq.EVENT_HANDSHAKE_FAILED_AUTH, connected=False)


def with_keys_of(other: ConnectionInfo, info: ConnectionInfo) -> ConnectionInfo:
    return replace(
        info, curve_publickey=other.curve_publickey, curve_secretkey=other.curve_secretkey
    )


def test_who_wants_encryption_is_lost_to_one_who_has_no_keys(
    fake_kernel: StartFake, line: Connect
) -> None:
    info = ConnectionInfo.from_file(fake_kernel(transport="curve").connection_file)
    here = line(replace(info, curve_publickey=None, curve_secretkey=None))
    here.open()
    assert "encryption" in here.wait_for("lost", timeout=SOON)


def test_who_has_keys_is_lost_to_one_who_does_not_encrypt(
    fake_kernel: StartFake, line: Connect
) -> None:
    plain = ConnectionInfo.from_file(fake_kernel().connection_file)
    other = ConnectionInfo.from_file(fake_kernel(transport="curve").connection_file)
    here = line(with_keys_of(other, plain))
    here.open()
    assert "encryption" in here.wait_for("lost", timeout=SOON)


def test_wrong_encryption_keys_are_a_loss_with_a_reason(
    fake_kernel: StartFake, line: Connect
) -> None:
    right = ConnectionInfo.from_file(fake_kernel(transport="curve").connection_file)
    other = ConnectionInfo.from_file(fake_kernel(transport="curve").connection_file)
    here = line(with_keys_of(other, right))
    here.open()
    assert "encryption" in here.wait_for("lost", timeout=SOON)


# The ghost.


def test_nothing_is_sent_to_whoever_takes_the_ports_later(
    hand_kernel: StartHand, line: Connect
) -> None:
    kernel = hand_kernel("tcp")
    here = line(kernel.connection_file)
    here.open()
    here.send("control", "kernel_info_request", {})
    here.wait_for("control")
    message = here.session.message("execute_request", {"code": "ghost"})
    send = partial(here.reactor.post, partial(here.transport.send, "shell", message))
    with held(here.reactor) as release:
        # The worst moment: it is dead, others listen there, and we have not noticed.
        kernel.kill()
        send()
        with taken(kernel.info) as sockets, answering(sockets) as told:
            send()
            release.set()
            here.wait_for("lost")
            send()
            here.reactor.ask(lambda: None)
    assert told == []


# The end.


def test_closing_in_any_state_and_twice_is_fine(fake_kernel: StartFake, line: Connect) -> None:
    fake = fake_kernel()
    states: list[State] = []

    def new(here: Line) -> None:
        states.append(here.state)

    def connecting(here: Line) -> None:
        def open_and_close() -> None:
            here.transport.open(here.heard)
            states.append(here.state)
            here.transport.close()

        here.reactor.ask(open_and_close)

    def connected(here: Line) -> None:
        here.open()
        wait_until(lambda: here.state is State.CONNECTED, what="connected")
        states.append(here.state)

    def lost(here: Line) -> None:
        here.open()
        wait_until(lambda: here.state is State.CONNECTED, what="connected")
        fake.close()
        here.wait_for("lost")
        states.append(here.state)

    for reach in (new, connecting, connected, lost):
        here = line(ConnectionInfo.from_dict(fake.info))
        reach(here)
        here.close()
        here.close()
        assert here.state is State.CLOSED
    assert states == [State.NEW, State.CONNECTING, State.CONNECTED, State.LOST]


def test_after_closing_nothing_is_heard_sent_or_asked(
    fake_kernel: StartFake, line: Connect
) -> None:
    fake = fake_kernel()
    here = line(fake.connection_file)
    here.open()
    here.wait_for_subscription()
    here.close()
    heard, requests = len(here.heard.events), len(fake.requests)
    here.send("shell", "execute_request", {"code": ""})
    here.subscribe("topic")
    here.reactor.ask(here.transport.ping)
    fake.do(lambda kernel: kernel.publish("stream", {"name": "stdout", "text": ""}))
    fake.close()
    here.reactor.ask(lambda: None)
    assert (len(here.heard.events), len(fake.requests)) == (heard, requests)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts in /proc")
def test_no_descriptor_is_left_of_fifty_connections(fake_kernel: StartFake, line: Connect) -> None:
    fake = fake_kernel()

    def connect(how: int) -> None:
        here = line(fake.connection_file)
        here.open()
        if how:
            wait_until(lambda: here.state is State.CONNECTED, what="connected")
        if how == 2:
            here.reactor.ask(here.transport.ping)
            here.wait_for("pong")
        here.close()

    connect(2)  # what the context opens once for all
    before = descriptors()
    for number in range(50):
        connect(number % 3)
    wait_until(lambda: descriptors() <= before, SOON, what=lambda: f"{descriptors()} > {before}")
