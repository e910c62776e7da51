"""The echo kernel speaks the protocol well enough for jupyter_client, on every channel."""

from collections.abc import Generator

import pytest
import zmq
from jupyter_client.blocking.client import BlockingKernelClient

from tests.support.connection import CHANNELS, endpoint
from tests.support.kernels import HandKernel, connected
from tests.support.wire import unpack


@pytest.fixture
def client(echo_kernel: HandKernel) -> Generator[BlockingKernelClient]:
    with connected(echo_kernel.info, *CHANNELS) as client:
        # The welcome says that the subscription is in force: no output can be missed from here.
        assert client.iopub_channel.get_msg(timeout=10)["msg_type"] == "iopub_welcome"
        yield client


def test_a_cell_gets_its_four_messages_and_its_reply(client: BlockingKernelClient) -> None:
    request = client.execute("anything")
    published = [client.iopub_channel.get_msg(timeout=10) for _ in range(3)]
    reply = client.shell_channel.get_msg(timeout=10)
    assert [message["msg_type"] for message in published] == ["status", "execute_input", "status"]
    assert published[1]["content"] == {"code": "anything", "execution_count": 1}
    assert [published[0]["content"], published[2]["content"]] == [
        {"execution_state": "busy"},
        {"execution_state": "idle"},
    ]
    assert reply["content"]["status"] == "ok"
    assert {message["parent_header"]["msg_id"] for message in [*published, reply]} == {request}


@pytest.mark.parametrize("channel", ["shell", "control"])
@pytest.mark.parametrize("msg_type", ["kernel_info", "interrupt"])
def test_requests_are_answered_where_they_were_asked(
    client: BlockingKernelClient, channel: str, msg_type: str
) -> None:
    where = getattr(client, f"{channel}_channel")
    where.send(client.session.msg(f"{msg_type}_request"))
    reply = where.get_msg(timeout=10)
    assert (reply["msg_type"], reply["content"]["status"]) == (f"{msg_type}_reply", "ok")


def test_a_second_subscriber_is_welcomed_to_its_own_topic_only(echo_kernel: HandKernel) -> None:
    with connected(echo_kernel.info, "iopub") as first, zmq.Context() as context:
        first.iopub_channel.get_msg(timeout=10)
        with context.socket(zmq.SUB) as second:
            second.linger = 0
            second.connect(endpoint(echo_kernel.info, "iopub"))
            # In this order: had the first one been answered, it would have come first.
            second.subscribe(b"")
            second.subscribe(b"km-topic")
            assert second.poll(10_000)
            frames = second.recv_multipart()
    assert frames[0] == b"km-topic"
    welcome = unpack(frames, echo_kernel.info["key"].encode())
    assert (welcome.type, welcome.content) == ("iopub_welcome", {"subscription": "km-topic"})
    assert welcome.parent_id is None


def test_the_heartbeat_comes_back(echo_kernel: HandKernel) -> None:
    with zmq.Context() as context, context.socket(zmq.REQ) as heart:
        heart.linger = 0
        heart.connect(endpoint(echo_kernel.info, "hb"))
        heart.send(b"ping")
        assert heart.poll(10_000)
        assert heart.recv() == b"ping"


def test_a_wrong_key_meets_silence_and_does_no_harm(echo_kernel: HandKernel) -> None:
    with connected({**echo_kernel.info, "key": "wrong"}, "shell", "hb") as stranger:
        stranger.execute("1")
        with connected(echo_kernel.info, "shell") as friend:
            friend.execute("1")
            assert friend.shell_channel.get_msg(timeout=10)["content"]["status"] == "ok"
        assert not stranger.shell_channel.msg_ready()


def test_a_shutdown_request_ends_the_process(
    echo_kernel: HandKernel, client: BlockingKernelClient
) -> None:
    client.control_channel.send(client.session.msg("shutdown_request", {"restart": False}))
    assert client.control_channel.get_msg(timeout=10)["content"]["status"] == "ok"
    assert echo_kernel.process.wait() == 0
