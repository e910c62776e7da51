"""``Kernel.client()``: a client of `jupyter_client`'s own, connected and hearing everything."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_core.utils import ensure_event_loop

from kernel_magics.connect.client import open_client
from kernel_magics.connect.info import ConnectionInfo
from kernel_magics.errors import KernelGone, KernelUnreachable
from kernel_magics.kernels import link as link_module
from kernel_magics.kernels.kernel import Kernel
from kernel_magics.kernels.life import KernelState
from kernel_magics.kernels.pool import KernelPool
from tests.support import parts
from tests.support.connection import CHANNELS, tcp_info
from tests.support.fake import FakeKernel
from tests.support.kernels import HandKernel, Kind
from tests.support.processes import Process
from tests.support.sandbox import Sandbox
from tests.support.tiers import full
from tests.support.waiting import PATIENCE, wait_until

StartFake = Callable[..., FakeKernel]
StartHand = Callable[..., HandKernel]

MADE_WITHIN = 1.0
"""Seconds; some 30 ms on a machine with nothing else to do."""


@pytest.fixture(scope="module", autouse=True)
def event_loop_of_the_classic_client() -> Generator[None]:
    """Its blocking methods make one for this thread, and never close it."""
    with closing(ensure_event_loop()):
        yield


@contextmanager
def client_of(kernel: Kernel) -> Iterator[BlockingKernelClient]:
    client = kernel.client()
    try:
        yield client
    finally:
        client.stop_channels()


def published(client: BlockingKernelClient, request: str) -> list[Any]:
    """What the kernel publishes for a request, all of it: from busy to idle."""
    messages: list[Any] = []
    while not (messages and messages[-1]["content"].get("execution_state") == "idle"):
        message = client.get_iopub_msg(timeout=PATIENCE)
        if message["parent_header"].get("msg_id") == request:
            messages.append(message)
    return messages


def use(kernel: Kernel, code: str, text: str) -> None:
    """Everything works, and nothing of the first request is missed."""
    with client_of(kernel) as client:
        messages = published(client, request := client.execute(code))
        assert messages[0]["content"]["execution_state"] == "busy"
        assert "".join(each["content"].get("text", "") for each in messages) == text
        assert client.get_shell_msg(timeout=PATIENCE)["parent_header"]["msg_id"] == request
        asked = client.session.msg("kernel_info_request")
        client.control_channel.send(asked)
        client.get_control_msg(timeout=PATIENCE)
        wait_until(client.is_alive, what="its heart beats")
        assert client.channels_running


@pytest.mark.parametrize("kind", ["tcp", *full("ipc", "curve", "floor", "bash")])
def test_a_client_of_a_kernel_of_any_kind(
    pool: KernelPool, hand_kernel: StartHand, kind: Kind
) -> None:
    kernel = pool.attach(hand_kernel(kind).connection_file)
    code = "echo hello" if kind == "bash" else "print('hello')"
    kernel.run(code)  # it has finished starting
    use(kernel, code, "hello\n")


def test_a_client_of_a_kernel_of_ours(pool: KernelPool) -> None:
    kernel = pool.start()
    use(kernel, "print('hello')", "hello\n")
    kernel.restart(now=True)
    use(kernel, "print('again')", "again\n")


@pytest.mark.parametrize("kind", ["tcp", "ipc", "curve"])
def test_an_encrypted_kernel_needs_no_newer_jupyter_client(
    pool: KernelPool, fake_kernel: StartFake, kind: Kind
) -> None:
    # Before 8.9 that knows nothing of Curve: this is where the tests on the floors look.
    kernel = pool.attach(fake_kernel(transport=kind).connection_file)
    with client_of(kernel) as client:
        published(client, client.execute("1"))
        wait_until(client.is_alive, what="its heart beats")


def test_the_first_request_of_each_client_is_heard_whole(
    pool: KernelPool, shared_kernel: HandKernel
) -> None:
    kernel = pool.attach(shared_kernel.connection_file)
    for number in range(10):
        with client_of(kernel) as client:
            messages = published(client, client.execute(f"print({number})", store_history=False))
        texts = [each["content"]["text"] for each in messages if each["msg_type"] == "stream"]
        assert "".join(texts) == f"{number}\n"  # the newline may come by itself


@pytest.mark.full
def test_a_client_loses_nothing_that_waits_to_be_read(
    pool: KernelPool, fake_kernel: StartFake
) -> None:
    count = 5000

    def flood(fake: FakeKernel) -> None:
        for number in range(count):
            fake.publish("stream", {"name": "stdout", "text": f"{number}\n"})

    fake = fake_kernel()
    with client_of(pool.attach(fake.connection_file)) as client:
        fake.do(flood)
        texts = []
        while len(texts) < count:
            message = client.get_iopub_msg(timeout=PATIENCE)
            if message["msg_type"] == "stream":
                texts.append(message["content"]["text"])
    assert texts == [f"{number}\n" for number in range(count)]


def test_a_client_of_a_busy_kernel_is_made_at_once(
    pool: KernelPool, shared_kernel: HandKernel
) -> None:
    kernel = pool.attach(shared_kernel.connection_file)
    with shared_kernel.busy():
        wait_until(lambda: kernel.state is KernelState.BUSY, what="busy")
        began = time.monotonic()
        with client_of(kernel):
            took = time.monotonic() - began
    assert took < MADE_WITHIN


def test_clients_side_by_side_and_the_kernel_itself_do_not_disturb_each_other(
    pool: KernelPool, shared_kernel: HandKernel
) -> None:
    kernel = pool.attach(shared_kernel.connection_file)
    with client_of(kernel) as first, client_of(kernel) as second:
        for client in (first, second):
            request = client.execute("print('mine')", store_history=False)
            assert kernel.run("print('ours')").stdout == "ours\n"
            reply = client.get_shell_msg(timeout=PATIENCE)
            assert reply["parent_header"]["msg_id"] == request
    assert kernel.run("print('still there')").stdout == "still there\n"


def test_a_client_outlives_our_hold_on_the_kernel(
    pool: KernelPool, shared_kernel: HandKernel
) -> None:
    kernel = pool.attach(shared_kernel.connection_file)
    with client_of(kernel) as client:
        kernel.detach()
        published(client, client.execute("1", store_history=False))


def test_a_client_knows_its_file_and_leaves_it_alone(
    pool: KernelPool, shared_kernel: HandKernel
) -> None:
    with client_of(pool.attach(shared_kernel.connection_file)) as client:
        assert client.connection_file == str(shared_kernel.connection_file)
        client.cleanup_connection_file()
    assert shared_kernel.connection_file.exists()


def test_a_kernel_at_an_ipv6_address_is_spoken_to() -> None:
    ports = {f"{channel}_port": number for number, channel in enumerate(CHANNELS, start=1)}
    client = open_client(ConnectionInfo.from_dict({**tcp_info(), **ports, "ip": "::1"}))
    try:
        assert client.shell_channel.socket.last_endpoint == b"tcp://[::1]:1"
        assert client.shell_channel.socket.ipv6
    finally:
        client.stop_channels()


# Faults. That each of these leaves no thread and no socket behind is seen by the fixtures.


@pytest.mark.full
def test_there_is_no_client_of_a_dead_kernel(pool: KernelPool, fake_kernel: StartFake) -> None:
    fake = fake_kernel()
    kernel = pool.attach(fake.connection_file)
    fake.close()
    wait_until(lambda: not kernel.alive, what="dead")
    with pytest.raises(KernelGone):
        kernel.client()


def test_there_is_no_client_of_a_kernel_that_we_have_let_go_of(
    pool: KernelPool, shared_kernel: HandKernel
) -> None:
    kernel = pool.attach(shared_kernel.connection_file)
    kernel.detach()
    with pytest.raises(KernelUnreachable, match="detached"):
        kernel.client()


def test_there_is_no_client_of_a_kernel_that_has_not_proved_itself(
    pool: KernelPool, fake_kernel: StartFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "UNPROVED_AFTER", 0.2)
    fake = fake_kernel(welcome=False)
    with fake.frozen():
        kernel = pool.attach(fake.connection_file)
        with pytest.raises(KernelUnreachable, match="silent"):
            kernel.client()


@pytest.mark.full
def test_a_kernel_that_falls_mute_meanwhile_costs_a_moment_and_no_more(
    pool: KernelPool, fake_kernel: StartFake
) -> None:
    fake = fake_kernel(welcome=False)
    kernel = pool.attach(fake.connection_file)
    with fake.frozen(), client_of(kernel) as client:
        request = client.execute("1")
        assert not client.iopub_channel.msg_ready()
    assert fake.wait_for("execute_request").id == request


@pytest.mark.parametrize("fault", [KeyboardInterrupt, RuntimeError])
def test_a_client_that_is_interrupted_while_it_is_made_leaves_nothing(
    pool: KernelPool,
    shared_kernel: HandKernel,
    monkeypatch: pytest.MonkeyPatch,
    fault: type[BaseException],
) -> None:
    kernel = pool.attach(shared_kernel.connection_file)

    def strike(*_: object, **__: object) -> None:
        raise fault

    for where, what in ((kernel, "request"), (BlockingKernelClient, "start_channels")):
        with monkeypatch.context() as patch:
            patch.setattr(where, what, strike)
            with pytest.raises(fault):
                kernel.client()
    use(kernel, "print('fine')", "fine\n")


LIMITED = """
import json, resource, sys
from kernel_magics.errors import KernelMagicsError
from kernel_magics.kernels.pool import KernelPool

pool = KernelPool()
kernel = pool.attach(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
clients, error = [], ""
try:
    while not error:
        clients.append(kernel.client())
except KernelMagicsError as caught:
    error = str(caught)
for client in clients:
    client.stop_channels()
print(json.dumps([error, len(clients), kernel.run("print('fine')").stdout]))
pool.close()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc")
def test_too_many_clients_are_an_error_and_not_the_end_of_the_process(
    sandbox: Sandbox, shared_kernel: HandKernel
) -> None:
    command = [sys.executable, "-c", LIMITED, str(shared_kernel.connection_file)]
    log = sandbox.work / "log"
    with Process(command, env=sandbox.environment(), cwd=sandbox.work, log=log) as process:
        assert process.wait() == 0, process.output
        error, clients, text = json.loads(process.output.splitlines()[-1])
    assert "no room" in error
    assert clients >= 2
    assert text == "fine\n"


def test_a_client_on_the_oldest_versions_of_the_host(sandbox: Sandbox, hand_kernel: Any) -> None:
    parts.require("floor")
    parts.require("curve")
    code = (
        "import sys; from kernel_magics.kernels.pool import KernelPool\n"
        "pool = KernelPool(); client = pool.attach(sys.argv[1]).client()\n"
        "reply = client.execute_interactive('print(6 * 7)', timeout=30)\n"
        "client.stop_channels(); pool.close(); print(reply['content']['status'])"
    )
    file = hand_kernel("curve").connection_file
    command = [str(parts.floor_python()), "-c", code, str(file)]
    log = sandbox.work / "log"
    with Process(command, env=sandbox.environment(), cwd=sandbox.work, log=log) as process:
        assert process.wait() == 0, process.output
        assert process.output.split() == ["42", "ok"]
