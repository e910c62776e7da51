"""The relay hands bytes on, and does to them what it was told."""

import socket
import socketserver
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.connection import CHANNELS, Info
from tests.support.fake import FakeKernel
from tests.support.relay import Line, Relay
from tests.support.waiting import PATIENCE, wait_until

Start = Callable[..., Relay]


class Answer(socketserver.BaseRequestHandler):
    """Sends back what it gets."""

    def handle(self) -> None:
        try:
            while data := self.request.recv(65536):
                self.request.sendall(data)
        except ConnectionResetError:
            return


@pytest.fixture
def port() -> Generator[int]:
    """Where a peer listens that sends back what it gets."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def relay(port: int, runtime_dir: Path, closing: ExitStack) -> Start:
    info: Info = {"ip": "127.0.0.1", "transport": "tcp", "key": "k"}
    info |= {f"{channel}_port": port for channel in CHANNELS}
    return lambda line=None: closing.enter_context(Relay(info, runtime_dir, line))


def connect(relay: Relay, channel: str = "shell") -> socket.socket:
    return socket.create_connection(("127.0.0.1", relay.info[f"{channel}_port"]), timeout=PATIENCE)


def receive(connection: socket.socket, number: int) -> bytes:
    data = b""
    while len(data) < number:
        piece = connection.recv(number - len(data))
        if not piece:
            break
        data += piece
    return data


def test_bytes_pass_both_ways(relay: Start) -> None:
    with connect(relay()) as connection:
        connection.sendall(b"hello")
        assert receive(connection, 5) == b"hello"


def test_each_way_takes_the_delay(relay: Start) -> None:
    with connect(relay(Line(delay=0.1))) as connection:
        began = time.monotonic()
        connection.sendall(b"hello")
        assert receive(connection, 5) == b"hello"
        assert time.monotonic() - began >= 0.2


def test_a_slow_line_takes_its_time_and_loses_nothing(relay: Start) -> None:
    data = bytes(range(256)) * 400
    with connect(relay(Line(rate=200_000))) as connection:
        began = time.monotonic()
        connection.sendall(data)
        assert receive(connection, len(data)) == data
        assert 0.4 < time.monotonic() - began < 5


def test_small_pieces_lose_nothing(relay: Start) -> None:
    data = bytes(range(256)) * 40
    with connect(relay(Line(pieces=7))) as connection:
        connection.sendall(data)
        assert receive(connection, len(data)) == data


def test_a_cut_channel_closes_and_refuses_until_it_is_restored(relay: Start) -> None:
    cut = relay()
    with connect(cut) as connection, connect(cut, "iopub") as other:
        cut.cut("shell")
        assert connection.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            connect(cut)
        other.sendall(b"x")
        assert receive(other, 1) == b"x"
    cut.restore()
    with connect(cut) as connection:
        connection.sendall(b"x")
        assert receive(connection, 1) == b"x"


def test_a_reset_is_a_reset(relay: Start) -> None:
    reset = relay()
    with connect(reset) as connection:
        connection.sendall(b"x")
        assert receive(connection, 1) == b"x"
        reset.drop(reset=True)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_a_paused_relay_keeps_everything(relay: Start) -> None:
    paused = relay()
    with connect(paused) as connection:
        connection.sendall(b"x")
        assert receive(connection, 1) == b"x"
        paused.pause()
        connection.sendall(b"hello")
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):
            connection.recv(1)
        connection.settimeout(PATIENCE)
        paused.resume()
        assert receive(connection, 5) == b"hello"


def test_nobody_at_the_far_end_closes_the_near_one(relay: Start) -> None:
    lonely = relay()
    lonely._kernel = {**lonely._kernel, "shell_port": 1}
    with connect(lonely) as connection:
        assert connection.recv(1) == b""


def test_a_kernel_is_reached_by_the_relays_connection_file(
    runtime_dir: Path, closing: ExitStack
) -> None:
    import zmq

    kernel = closing.enter_context(FakeKernel(folder=runtime_dir))
    relay = closing.enter_context(Relay(kernel.info, runtime_dir))
    context = closing.enter_context(zmq.Context())
    heartbeat = closing.enter_context(context.socket(zmq.REQ))
    heartbeat.connect(f"tcp://127.0.0.1:{relay.info['hb_port']}")
    heartbeat.send(b"ping")
    wait_until(lambda: heartbeat.poll(0), what="the heartbeat comes back")
    assert heartbeat.recv() == b"ping"
