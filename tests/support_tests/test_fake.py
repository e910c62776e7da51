"""The scripted kernel does what its script says, and a script's own error is not swallowed."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from tests.support import steps
from tests.support.fake import FakeKernel, Request
from tests.support.kernels import connected
from tests.support.sandbox import Sandbox
from tests.support.waiting import wait_until

Start = Callable[..., FakeKernel]
Talk = tuple[BlockingKernelClient, Callable[[str], dict[str, Any]]]


@contextmanager
def talking(fake: FakeKernel) -> Generator[Talk]:
    """A subscribed client, and a function that takes the next message of a channel."""
    with connected(fake.info, "shell", "iopub", "stdin", "control") as client:

        def take(channel: str) -> dict[str, Any]:
            message: dict[str, Any] = getattr(client, f"{channel}_channel").get_msg(timeout=10)
            return message

        if fake.welcomes:
            assert take("iopub")["msg_type"] == "iopub_welcome"
        else:
            wait_until(lambda: fake.subscriptions, what="the fake has our subscription")
        yield client, take


def types(take: Callable[[str], dict[str, Any]], number: int) -> list[str]:
    return [take("iopub")["msg_type"] for _ in range(number)]


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_without_a_script_it_is_polite(fake_kernel: Start, transport: str) -> None:
    with talking(fake_kernel(transport=transport)) as (client, take):
        request = client.execute("1")
        assert types(take, 3) == ["status", "execute_input", "status"]
        assert take("shell")["parent_header"]["msg_id"] == request
        client.shutdown()
        assert take("control")["msg_type"] == "shutdown_reply"


def test_the_steps_of_a_cell_are_sent_in_their_order(fake_kernel: Start) -> None:
    outputs = [
        steps.stream("a"),
        steps.display("b", text_html="<b>", display_id="x"),
        steps.update("c", display_id="x"),
        steps.clear(wait=True),
        steps.result("d"),
        steps.publish("comm_open", {"comm_id": "1"}, buffers=(b"buffer",)),
        steps.error("KeyError", "e"),
    ]
    with talking(fake_kernel(steps.cell(*outputs))) as (client, take):
        request = client.execute("1")
        messages = [take("iopub") for _ in range(len(outputs) + 3)]
    assert [message["msg_type"] for message in messages] == [
        "status", "execute_input", "stream", "display_data", "update_display_data",
        "clear_output", "execute_result", "comm_open", "error", "status",
    ]  # fmt: skip
    assert {message["parent_header"]["msg_id"] for message in messages} == {request}
    assert messages[3]["content"]["data"] == {"text/plain": "b", "text/html": "<b>"}
    assert messages[3]["content"]["transient"] == {"display_id": "x"}
    assert bytes(messages[7]["buffers"][0]) == b"buffer"


def test_a_mapping_answers_some_types_and_leaves_the_others_polite(fake_kernel: Start) -> None:
    fake = fake_kernel({"interrupt_request": []})
    with talking(fake) as (client, take):
        client.control_channel.send(client.session.msg("interrupt_request"))
        fake.wait_for("interrupt_request")
        client.control_channel.send(client.session.msg("kernel_info_request"))
        assert take("control")["msg_type"] == "kernel_info_reply"


def test_a_function_decides_everything(fake_kernel: Start) -> None:
    def script(kernel: FakeKernel, request: Request) -> None:
        if request.content.get("code") == "quiet":
            kernel.status("idle", request.message)
        else:
            kernel.answer(request)

    with talking(fake_kernel(script)) as (client, take):
        client.execute("quiet")
        assert types(take, 1) == ["status"]
        client.execute("polite")
        assert take("shell")["content"]["status"] == "ok"


def test_a_forged_message_is_refused_by_a_client(fake_kernel: Start) -> None:
    script = [steps.forged(steps.stream("evil")), steps.stream("good")]
    with talking(fake_kernel(script)) as (client, take):
        client.execute("1")
        with pytest.raises(ValueError, match="Invalid Signature"):
            take("iopub")
        assert take("iopub")["content"]["text"] == "good"


def test_garbage_is_no_message(fake_kernel: Start) -> None:
    with talking(fake_kernel([steps.garbage("iopub"), steps.garbage("shell", b"x")])) as (
        client,
        take,
    ):
        client.execute("1")
        for channel in ("iopub", "shell"):
            with pytest.raises(ValueError, match=r"Signature|DELIM|IDS"):
                take(channel)


def test_a_message_sent_twice_is_the_same_to_the_last_byte(fake_kernel: Start) -> None:
    with talking(fake_kernel([steps.twice(steps.stream("again"))])) as (client, take):
        client.execute("1")
        take("iopub")
        with pytest.raises(ValueError, match="Duplicate Signature"):
            take("iopub")


def test_a_reply_can_lack_its_status_or_have_another_type(fake_kernel: Start) -> None:
    script = [steps.reply(""), steps.reply(msg_type="complete_reply", matches=[])]
    with talking(fake_kernel(script)) as (client, take):
        client.execute("1")
        assert "status" not in take("shell")["content"]
        assert take("shell")["msg_type"] == "complete_reply"


def test_a_line_can_be_asked_for_and_the_cell_goes_on_with_it(fake_kernel: Start) -> None:
    fake = fake_kernel([steps.ask_input("name? ", steps.stream("thanks"), password=True)])
    with talking(fake) as (client, take):
        client.execute("1")
        assert take("stdin")["content"] == {"prompt": "name? ", "password": True}
        client.input("me")
        assert take("iopub")["content"]["text"] == "thanks"
    assert fake.requests[-1].content == {"value": "me"}


def test_steps_can_wait_for_another_request(fake_kernel: Start) -> None:
    script = {
        "execute_request": [
            steps.busy(),
            steps.when("interrupt_request", steps.reply("error"), steps.idle()),
        ]
    }
    with talking(fake_kernel(script)) as (client, take):
        request = client.execute("1")
        client.control_channel.send(client.session.msg("interrupt_request"))
        reply = take("shell")
        assert (reply["content"]["status"], reply["parent_header"]["msg_id"]) == ("error", request)
        assert take("control")["msg_type"] == "interrupt_reply"


def test_an_empty_script_is_no_answer_at_all(fake_kernel: Start) -> None:
    fake = fake_kernel([])
    with talking(fake) as (client, take):
        client.execute("1")
        client.kernel_info()
        # In this order: had the cell been answered, it would have come first.
        assert take("shell")["msg_type"] == "kernel_info_reply"


def test_the_test_can_act_between_two_requests(fake_kernel: Start) -> None:
    fake = fake_kernel()
    with talking(fake) as (client, take):
        client.execute("1")
        asked = fake.wait_for("execute_request")
        types(take, 3)
        fake.do(lambda kernel: steps.stream("late")(kernel, asked))
        assert take("iopub")["content"]["text"] == "late"
        fake.follow([steps.stream("new")])
        client.execute("2")
        assert take("iopub")["content"]["text"] == "new"


def test_an_action_that_fails_fails_in_the_test(fake_kernel: Start) -> None:
    with pytest.raises(ZeroDivisionError):
        fake_kernel().do(lambda kernel: 1 / 0)


def test_a_frozen_kernel_answers_nothing_and_then_all(fake_kernel: Start) -> None:
    fake = fake_kernel()
    with talking(fake) as (client, take):
        with fake.frozen():
            client.execute("1")
            assert not client.shell_channel.socket.poll(200)
        assert take("shell")["content"]["status"] == "ok"


def test_a_held_step_waits_for_the_test(fake_kernel: Start) -> None:
    go = threading.Event()
    with talking(fake_kernel([steps.busy(), steps.hold(go), steps.reply()])) as (client, take):
        client.execute("1")
        take("iopub")
        assert not client.shell_channel.msg_ready()
        go.set()
        take("shell")


def test_closed_channels_are_silent_and_the_others_go_on(fake_kernel: Start) -> None:
    script = [steps.close_channels("shell", "control"), steps.reply(), steps.stream("still here")]
    with talking(fake_kernel(script)) as (client, take):
        client.execute("1")
        assert take("iopub")["content"]["text"] == "still here"
        assert not client.shell_channel.msg_ready()


def test_a_restart_is_a_new_session_behind_the_same_ports(fake_kernel: Start) -> None:
    fake = fake_kernel({"execute_request": [steps.restart()]})
    with talking(fake) as (client, take):
        before = fake.session
        client.execute("1")
        wait_until(lambda: fake.session != before, what="the fake has restarted")
        assert take("iopub")["header"]["session"] == fake.session


def test_one_message_can_come_from_another_session(fake_kernel: Start) -> None:
    script = [steps.in_session("other", steps.stream("a")), steps.stream("b")]
    fake = fake_kernel(script)
    with talking(fake) as (client, take):
        client.execute("1")
        sessions = [take("iopub")["header"]["session"] for _ in range(2)]
    assert sessions == ["other", fake.session]


def test_what_older_kernels_lack_can_be_left_out(fake_kernel: Start) -> None:
    fake = fake_kernel([steps.stream("hi")], welcome=False)
    with talking(fake) as (client, take):
        client.execute("1")
        assert types(take, 1) == ["stream"]


def test_a_wrong_key_is_noted_and_meets_silence(fake_kernel: Start) -> None:
    fake = fake_kernel()
    with connected({**fake.info, "key": "wrong"}, "shell") as stranger:
        stranger.execute("1")
        wait_until(lambda: fake.rejected, what="the request was thrown away")
    assert (fake.rejected, fake.requests) == (["wrong signature"], [])


def test_an_error_of_the_script_comes_out_when_the_kernel_is_closed(sandbox: Sandbox) -> None:
    def script(kernel: FakeKernel, request: Request) -> None:
        raise LookupError("a bug in the script")

    fake = FakeKernel(script, folder=sandbox.runtime)
    with connected(fake.info, "shell") as client:
        client.execute("1")
        fake.wait_for("execute_request")
    with pytest.raises(RuntimeError, match="has ended"):
        fake.do(lambda kernel: None)
    with pytest.raises(LookupError, match="a bug in the script"):
        fake.close()
    fake.close()


def test_closing_leaves_no_connection_file(sandbox: Sandbox) -> None:
    with FakeKernel(folder=sandbox.runtime, transport="ipc") as fake:
        assert fake.connection_file.exists()
    assert list(Path(sandbox.runtime).iterdir()) == []
