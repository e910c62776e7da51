"""One attached kernel: what it says of itself, its helper requests, its interrupts, its end."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from queue import Empty
from typing import Any

import psutil
import pytest
import zmq
from jupyter_client.blocking.client import BlockingKernelClient

from kernel_magics.connect.launch import LaunchOptions
from kernel_magics.errors import (
    Aborted,
    Closed,
    KernelDetached,
    KernelGone,
    KernelUnreachable,
    NotOwned,
    RemoteError,
)
from kernel_magics.kernels import kernel as kernel_module
from kernel_magics.kernels import link as link_module
from kernel_magics.kernels.kernel import Kernel
from kernel_magics.kernels.life import KernelState
from kernel_magics.kernels.pool import KernelPool
from kernel_magics.kernels.usage import Usage
from kernel_magics.wire import zmq as zmq_transport
from tests.support import steps
from tests.support.fake import FakeKernel, Request
from tests.support.kernels import HandKernel, Kind, connected
from tests.support.sandbox import Sandbox
from tests.support.tiers import full
from tests.support.waiting import PATIENCE, wait_until
from tests.support.wire import Message as WireMessage
from tests.support.wire import make_header

StartFake = Callable[..., FakeKernel]
StartHand = Callable[..., HandKernel]

INTERRUPTED_WITHIN = 1.0
"""Seconds from an interrupt to the end of its cell; some 10 ms on a machine with nothing to do."""


@pytest.fixture(scope="module")
def owned(shared_sandbox: Sandbox) -> Generator[Kernel]:
    """A kernel that we started, over ipc; for tests that do it no harm."""
    pool = KernelPool()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in shared_sandbox.variables.items():
            patch.setenv(name, value)
        patch.setattr(tempfile, "tempdir", str(shared_sandbox.temporary))
        kernel = pool.start(LaunchOptions(), "owned")
    # jupyter_client's manager has a control socket as well, which may connect a little later: in
    # the middle of the first test, which would then have left it behind.
    control = f"{kernel.info.ip}-{kernel.info.control_port}"
    process = psutil.Process(kernel.pid)
    wait_until(
        lambda: [str(one.laddr) for one in process.net_connections("unix")].count(control) == 3,
        what="it listens on control, and two are connected there",
    )
    yield kernel
    pool.close()


# What it says of itself.


def test_an_attached_kernel_is_known(kernel: Kernel, shared_kernel: HandKernel) -> None:
    assert (kernel.name, kernel.language, kernel.alive) == ("real", "python", True)
    assert kernel.kernel_info["implementation"] == "ipython"
    assert (kernel.owned, kernel.finding, kernel.running) == (None, None, None)
    assert kernel.pid == shared_kernel.pid


@pytest.mark.parametrize("kind, encrypted", [("tcp", False), ("ipc", True), ("curve", True)])
def test_it_says_whether_others_can_read_along(
    pool: KernelPool, fake_kernel: StartFake, kind: Kind, encrypted: bool
) -> None:
    kernel = pool.attach(fake_kernel(transport=kind).connection_file)
    assert kernel.encrypted is encrypted


def test_an_idle_kernel_is_called_idle(kernel: Kernel) -> None:
    kernel.run("1")
    wait_until(lambda: kernel.state is KernelState.IDLE, what="idle")


@contextmanager
def occupied(kernel: Kernel, sandbox: Sandbox) -> Generator[str]:
    """A cell of ours runs there until the block ends; gives its code."""
    begun, end = sandbox.work / "begun", sandbox.work / "end"
    code = (
        f"import pathlib, time; pathlib.Path({str(begun)!r}).touch()\n"
        f"while not pathlib.Path({str(end)!r}).exists(): time.sleep(0.005)"
    )
    execution = kernel.submit(code)
    wait_until(begun.exists, what="the cell has begun")
    try:
        yield code
    finally:
        end.touch()
        execution.wait()


def test_while_our_cell_runs_it_is_busy_and_the_code_is_known(
    kernel: Kernel, sandbox: Sandbox
) -> None:
    with occupied(kernel, sandbox) as code:
        wait_until(lambda: kernel.state is KernelState.BUSY, what="busy")
        assert kernel.running is not None
        assert kernel.running.code == code
        kernel.submit("'waits behind it'")
        assert kernel.running is not None
        assert kernel.running.code == code
    wait_until(lambda: kernel.running is None, what="nothing runs")
    wait_until(lambda: kernel.state is KernelState.IDLE, what="idle")


def test_while_the_cell_of_somebody_else_runs_it_is_busy_but_no_code_of_ours_runs(
    kernel: Kernel, shared_kernel: HandKernel
) -> None:
    with shared_kernel.busy():
        wait_until(lambda: kernel.state is KernelState.BUSY, what="busy")
        assert kernel.running is None
    wait_until(lambda: kernel.state is KernelState.IDLE, what="idle")


def test_an_answer_that_arrives_late_does_not_hide_the_cell_of_somebody_else(
    pool: KernelPool, fake_kernel: StartFake
) -> None:
    # Shell and iopub are two connections: what was said first on one may be heard last.
    theirs = WireMessage(make_header("execute_request", "somebody else"))

    def script(fake: FakeKernel, request: Request) -> None:
        if (request.channel, request.type) == ("shell", "kernel_info_request"):
            fake.status("busy", theirs)
        fake.answer(request)

    kernel = pool.attach(fake_kernel(script).connection_file)
    # Answered in order: the answer that counts has been heard before this one.
    kernel.request("shell", "is_complete_request", {"code": ""}, timeout=PATIENCE)
    assert kernel.state is KernelState.BUSY


# No trace in the kernel of somebody else.

TRACES = {
    "inputs": "len(In)",
    "outputs": "len(_oh)",
    "count": "get_ipython().execution_count",
    "history": "len(list(get_ipython().history_manager.get_range()))",
    "last": "[globals().get(name) for name in ('_', '__', '_i', '_ii', '_iii')]",
    "names": "sorted(globals())",
    "modules": "'kernel_magics' in __import__('sys').modules",
}


@pytest.mark.parametrize("kind", ["tcp", *full("floor")])
def test_attaching_and_helper_requests_leave_no_trace(
    pool: KernelPool, hand_kernel: StartHand, kind: Kind
) -> None:
    hand = hand_kernel(kind)
    hand.ask("import sys")
    before = {name: hand.value(what) for name, what in TRACES.items()}
    kernel = pool.attach(hand.connection_file)
    requests: dict[str, dict[str, Any]] = {
        "complete_request": {"code": "pri", "cursor_pos": 3},
        "inspect_request": {"code": "print", "cursor_pos": 5, "detail_level": 0},
        "is_complete_request": {"code": "1"},
    }
    for msg_type, content in requests.items():
        assert kernel.request("shell", msg_type, content, timeout=PATIENCE) is not None
    kernel.interrupt()
    # Control is a channel of its own: the interrupt would hit the question that comes next.
    kernel.request("control", "kernel_info_request", timeout=PATIENCE)
    kernel.close()
    assert {name: hand.value(what) for name, what in TRACES.items()} == before


@pytest.mark.full
@pytest.mark.parametrize("kind", ["ipc", "floor"])
def test_others_see_that_a_kernel_is_attached_by_nothing_but_its_status(
    pool: KernelPool, hand_kernel: StartHand, kind: Kind
) -> None:
    hand = hand_kernel(kind)
    with connected(hand.info, "iopub", "shell") as other:
        # Subscribed once it hears of its own request.
        wait_until(lambda: heard(other, other.kernel_info()), what="the other client hears")
        pool.attach(hand.connection_file)
        published = heard(other, other.kernel_info(), PATIENCE)
    assert {each["msg_type"] for each in published} <= {"status", "iopub_welcome"}
    # Their kernel is not made to run anything.
    assert "execute_request" not in {each["parent_header"].get("msg_type") for each in published}


@pytest.mark.full
@pytest.mark.parametrize("prints", [10_000, pytest.param(40_000, marks=pytest.mark.full)])
def test_a_flood_of_flushed_prints_of_a_kernel_of_ours_arrives_whole(
    owned: Kernel, prints: int
) -> None:
    # ipykernel's own limit of 1000 waiting messages would drop some, and idle with them.
    result = owned.run(f"for number in range({prints}): print(number, flush=True)")
    assert result.stdout == "".join(f"{number}\n" for number in range(prints))


def test_the_send_limit_of_a_kernel_of_ours_is_lifted_and_it_does_not_notice(
    owned: Kernel,
) -> None:
    limit = "get_ipython().kernel.iopub_socket.io_thread.socket.getsockopt(23)"  # ZMQ_SNDHWM
    wait_until(lambda: owned.run(f"print({limit} > 1000)").stdout == "True\n", what="lifted")
    assert owned.run("print('lift' in globals(), 'select' in globals())").stdout == "False False\n"
    assert "LIFT" not in owned.run("%history").stdout


def heard(client: BlockingKernelClient, request: str, timeout: float = 0.2) -> list[Any]:
    """What was published until the kernel was done with this request; nothing if it never was."""
    messages: list[Any] = []
    with suppress(Empty):
        while not (
            messages
            and messages[-1]["parent_header"].get("msg_id") == request
            and messages[-1]["content"].get("execution_state") == "idle"
        ):
            messages.append(client.iopub_channel.get_msg(timeout=timeout))
        return messages
    return []


def test_kernels_that_do_not_stand_on_ipykernel_are_asked_for_nothing(
    pool: KernelPool, fake_kernel: StartFake
) -> None:
    fake = fake_kernel()
    kernel = pool.attach(fake.connection_file)
    kernel.request("shell", "is_complete_request", {"code": ""}, timeout=PATIENCE)
    types = {request.type for request in fake.requests}
    assert types <= {"kernel_info_request", "usage_request", "is_complete_request"}


# Other requests.


@pytest.mark.parametrize("channel", ["shell", "control"])
def test_a_request_gets_its_reply(kernel: Kernel, channel: Any) -> None:
    reply = kernel.request(channel, "kernel_info_request", timeout=PATIENCE)
    assert reply is not None
    assert reply.content["implementation"] == "ipython"


def test_control_is_answered_while_the_kernel_is_busy(kernel: Kernel, sandbox: Sandbox) -> None:
    with occupied(kernel, sandbox):
        assert kernel.request("control", "kernel_info_request", timeout=PATIENCE) is not None


def test_a_request_without_a_reply_gives_nothing_after_its_time(
    pool: KernelPool, fake_kernel: StartFake
) -> None:
    kernel = pool.attach(fake_kernel({"history_request": []}).connection_file)
    began = time.monotonic()
    assert kernel.request("shell", "history_request", timeout=0.3) is None
    assert 0.3 <= time.monotonic() - began < 2.0


def test_requests_of_many_threads_get_their_own_replies(kernel: Kernel) -> None:
    def ask(number: int) -> None:
        code = "\n".join(depth * " " + "if 1:" for depth in range(number))
        for _ in range(10):
            reply = kernel.request("shell", "is_complete_request", {"code": code}, timeout=PATIENCE)
            assert reply is not None
            assert len(reply.content["indent"]) == number + 3

    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(ask, number) for number in range(1, 9)]:
            done.result()


def test_a_request_to_a_kernel_that_dies_meanwhile_is_an_error_at_once(
    pool: KernelPool, hand_kernel: StartHand
) -> None:
    hand = hand_kernel("tcp")
    kernel = pool.attach(hand.connection_file)
    with hand.stopped(), ThreadPoolExecutor(1) as thread:
        asked = thread.submit(kernel.request, "shell", "kernel_info_request", timeout=8.0)
        wait_until(lambda: kernel._life.requests._open, what="it was asked")
        hand.kill()
        with pytest.raises((KernelGone, KernelUnreachable)):
            asked.result(6.0)


@pytest.mark.full
def test_a_request_to_a_dead_kernel_is_an_error(pool: KernelPool, fake_kernel: StartFake) -> None:
    fake = fake_kernel()
    kernel = pool.attach(fake.connection_file)
    fake.close()
    wait_until(lambda: kernel.state is KernelState.DEAD, what="dead")
    with pytest.raises(KernelGone):
        kernel.request("shell", "kernel_info_request", timeout=PATIENCE)


# Interrupts.

STUCK = {
    "computing": "while True: pass",
    "sleeping": "time.sleep(600)",
    "awaiting": "import asyncio; await asyncio.sleep(600)",
    "asking": "input('stuck? ')",
}


def interrupt_and_go_on(kernel: Kernel, code: str, sandbox: Sandbox, times: int) -> list[float]:
    """Interrupt such a cell that often, with a good cell after each; give the seconds it took."""
    took: list[float] = []
    with ThreadPoolExecutor(1) as waiting:
        for number in range(times):
            begun = sandbox.work / f"begun-{number}"
            at_prompt, leave = threading.Event(), threading.Event()

            def ask(
                prompt: str,
                password: bool,
                at_prompt: threading.Event = at_prompt,
                leave: threading.Event = leave,
            ) -> str:
                at_prompt.set()
                leave.wait(PATIENCE)
                return ""

            touch = f"import pathlib, time; pathlib.Path({str(begun)!r}).touch()\n"
            execution = kernel.submit(touch + code, allow_stdin=True)
            ended = waiting.submit(execution.wait, ask=ask)
            wait_until(begun.exists, what="the cell runs")
            if "input" in code:
                assert at_prompt.wait(PATIENCE)
            began = time.monotonic()
            kernel.interrupt()
            wait_until(partial(getattr, execution, "done"), what="it ends")
            took.append(time.monotonic() - began)
            leave.set()
            with pytest.raises(RemoteError) as caught:
                ended.result(PATIENCE)
            # An interrupted await is a cancelled task, says ipykernel 7.
            assert caught.value.ename in ("KeyboardInterrupt", "CancelledError")
            assert kernel.run(f"print('next', {number})").stdout == f"next {number}\n"
    return took


TIMES = [
    pytest.param(5, id="5-times"),
    pytest.param(20, id="20-times", marks=pytest.mark.full),
]


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("how", STUCK)
def test_an_interrupt_by_message_ends_a_cell_each_time_and_the_next_one_is_right(
    kernel: Kernel, sandbox: Sandbox, how: str, times: int
) -> None:
    took = interrupt_and_go_on(kernel, STUCK[how], sandbox, times)
    assert max(took) < INTERRUPTED_WITHIN, took


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("how", STUCK)
def test_an_interrupt_by_signal_ends_a_cell_each_time_and_the_next_one_is_right(
    owned: Kernel, sandbox: Sandbox, how: str, times: int
) -> None:
    took = interrupt_and_go_on(owned, STUCK[how], sandbox, times)
    assert max(took) < INTERRUPTED_WITHIN, took


@pytest.mark.parametrize("kind", ["floor", pytest.param("bash", marks=pytest.mark.full)])
def test_other_kernels_are_interrupted_by_message_as_well(
    pool: KernelPool, hand_kernel: StartHand, sandbox: Sandbox, kind: Kind
) -> None:
    kernel = pool.attach(hand_kernel(kind).connection_file)
    begun = sandbox.work / "begun"
    code = {
        # One process: bash itself may miss a SIGINT between two commands.
        "bash": f"(touch {begun}; exec sleep 600)",
        "floor": f"open({str(begun)!r}, 'w').close()\nwhile True: pass",
    }
    execution = kernel.submit(code[kind])
    wait_until(begun.exists, what="the cell runs")
    kernel.interrupt()
    result = execution.wait(raise_error=False, timeout=PATIENCE)
    assert result.status in ("error", "aborted")
    after = kernel.run("echo next" if kind == "bash" else "print('next')")
    assert after.stdout == "next\n"


def test_what_it_uses_of_its_machine_is_told_also_while_it_is_busy(kernel: Kernel) -> None:
    running = kernel.submit("import time; time.sleep(0.5)")
    usage = kernel.usage(PATIENCE)
    assert usage is not None
    assert usage.host == os.uname().nodename
    assert usage.memory is not None
    assert usage.memory > 1_000_000
    assert running.wait().status == "ok"


def test_who_looks_at_what_it_uses_keeps_it_from_no_interrupt(
    kernel: Kernel, sandbox: Sandbox
) -> None:
    """ipykernel, asked for it, goes through all processes, in the gaps that the cell leaves it."""
    begun = sandbox.work / "begun"
    touch = f"import pathlib; pathlib.Path({str(begun)!r}).touch()\n"
    running = kernel.submit(f"{touch}while True: pass")
    wait_until(begun.exists, what="the cell runs")
    for _ in range(5):
        usage = kernel.usage()
        assert usage is not None
        assert usage.cpu
    interrupted = time.monotonic()
    kernel.interrupt()
    assert running.wait(raise_error=False).status == "error"
    assert time.monotonic() - interrupted < INTERRUPTED_WITHIN


def test_a_kernel_elsewhere_is_asked_what_it_uses_while_it_is_idle(
    pool: KernelPool, fake_kernel: StartFake
) -> None:
    def script(kernel: FakeKernel, request: Request) -> None:
        match request.type:
            case "usage_request":
                content = {"hostname": "far", "kernel_cpu": 7, "kernel_memory": 8}
                kernel.play([steps.reply(msg_type="usage_reply", **content)], request)
            case "execute_request":
                kernel.play([steps.busy()], request)
            case _:
                kernel.answer(request)

    fake = fake_kernel(script)
    kernel = pool.attach(fake.connection_file)
    wait_until(lambda: kernel.state is KernelState.IDLE, what="it is known to be idle")
    assert kernel.usage(PATIENCE) == Usage("far", 7, 8)
    kernel.submit("1")
    wait_until(lambda: kernel.state is KernelState.BUSY, what="it is known to be busy")
    assert kernel.usage(PATIENCE) is None
    assert [request.type for request in fake.requests].count("usage_request") == 1


def test_interrupting_an_idle_kernel_does_no_harm(kernel: Kernel) -> None:
    for _ in range(5):
        kernel.interrupt()
    # Control is a channel of its own: a cell sent at once would overtake the interrupts.
    kernel.request("control", "kernel_info_request", timeout=PATIENCE)
    assert kernel.run("print('fine')").stdout == "fine\n"


def test_interrupting_an_idle_kernel_of_ours_does_no_harm(owned: Kernel) -> None:
    for _ in range(5):
        owned.interrupt()
    assert owned.run("print('fine')").stdout == "fine\n"


def test_an_interrupt_withdraws_cells_that_were_not_sent_yet(
    pool: KernelPool, fake_kernel: StartFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "UNPROVED_AFTER", 0.2)
    fake = fake_kernel(welcome=False)
    with fake.frozen():
        kernel = pool.attach(fake.connection_file)
        assert kernel.state is KernelState.SILENT
        execution = kernel.submit("never sent")
        kernel.interrupt()
        with pytest.raises(Aborted, match="before it was sent"):
            execution.wait()
    wait_until(lambda: kernel.state is KernelState.IDLE, what="it answers")
    assert "execute_request" not in [request.type for request in fake.requests]


# Silent kernels.


def test_a_cell_for_a_silent_kernel_runs_once_it_answers(
    pool: KernelPool, fake_kernel: StartFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Busy, and mute on control: as IRkernel in somebody else's long cell.
    monkeypatch.setattr(link_module, "UNPROVED_AFTER", 0.2)
    fake = fake_kernel(steps.cell(steps.stream("ran")), welcome=False)
    with fake.frozen():
        kernel = pool.attach(fake.connection_file)
        assert kernel.state is KernelState.SILENT
        assert kernel.alive
        execution = kernel.submit("queued")
        assert not execution.sent
    assert execution.wait().stdout == "ran"
    assert [each.type for each in fake.requests].count("execute_request") == 1


# The end.


def test_letting_go_leaves_the_kernel_running(pool: KernelPool, shared_kernel: HandKernel) -> None:
    kernel = pool.attach(shared_kernel.connection_file)
    kernel.close()
    kernel.close()
    assert (kernel.state, kernel.alive) == (KernelState.DETACHED, False)
    assert shared_kernel.value("1") == 1


def test_a_cell_that_runs_while_we_let_go_ends_here_and_runs_on_there(
    kernel: Kernel, shared_kernel: HandKernel, sandbox: Sandbox
) -> None:
    begun, go = sandbox.work / "begun", sandbox.work / "go"
    execution = kernel.submit(
        f"import pathlib, time; pathlib.Path({str(begun)!r}).touch(); ran_on = False\n"
        f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.005)\n"
        "ran_on = True"
    )
    wait_until(begun.exists, what="the cell runs")
    kernel.close()
    with pytest.raises(KernelDetached) as caught:
        execution.wait()
    assert caught.value.may_have_run
    go.touch()
    assert shared_kernel.value("ran_on") is True


def test_after_letting_go_nothing_can_be_asked_of_it(kernel: Kernel) -> None:
    kernel.close()
    with pytest.raises(KernelDetached) as caught:
        kernel.run("1")
    assert not caught.value.may_have_run
    with pytest.raises(Closed):
        kernel.connect()


def test_a_cell_submitted_while_the_pool_closes_ends(
    pool: KernelPool, shared_kernel: HandKernel
) -> None:
    kernel = pool.attach(shared_kernel.connection_file)
    ended: list[BaseException | None] = []
    stop = threading.Event()

    def work() -> None:
        try:
            while not stop.is_set():
                kernel.run("1")
        except BaseException as error:
            ended.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for each in threads:
        each.start()
    pool.close()
    for each in threads:
        each.join(PATIENCE / 6)
    assert not any(each.is_alive() for each in threads), "somebody waits for ever"
    assert {type(error) for error in ended} <= {KernelDetached, Closed}


@pytest.mark.parametrize("verb", ["restart", "restart now", "signal", "shutdown now"])
def test_what_needs_the_process_cannot_be_done_to_a_kernel_of_somebody_else(
    pool: KernelPool, kernel: Kernel, shared_kernel: HandKernel, verb: str
) -> None:
    calls: dict[str, Callable[[], object]] = {
        "restart": kernel.restart,
        "restart now": partial(kernel.restart, now=True),
        "signal": partial(kernel.signal, signal.SIGKILL),
        "shutdown now": partial(kernel.shutdown, now=True),
    }
    with pytest.raises(NotOwned, match="real was not started here"):
        calls[verb]()
    assert (pool.names, kernel.run("print('unharmed')").stdout) == (["real"], "unharmed\n")
    assert shared_kernel.process.alive


def test_a_kernel_of_somebody_else_runs_on_after_its_block(
    pool: KernelPool, shared_kernel: HandKernel
) -> None:
    with pool.attach(shared_kernel.connection_file) as kernel:
        assert kernel.run("print('inside')").stdout == "inside\n"
    assert (pool.names, pool.last, kernel.state) == ([], None, KernelState.DETACHED)
    kernel.detach()
    assert shared_kernel.value("1") == 1
    with pool.attach(shared_kernel.connection_file) as again:
        assert again is not kernel


@pytest.mark.parametrize("kind", ["tcp", *full("floor")])
def test_a_kernel_of_somebody_else_ends_when_asked_to(
    pool: KernelPool, hand_kernel: StartHand, kind: Kind
) -> None:
    hand = hand_kernel(kind)
    kernel = pool.attach(hand.connection_file)
    assert kernel.shutdown() is True
    wait_until(lambda: not hand.process.alive, what="the process has ended")
    assert not kernel.alive


def test_a_kernel_that_does_not_end_when_asked_to_is_left_and_that_is_told(
    pool: KernelPool, fake_kernel: StartFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_module, "SHUTDOWN_PATIENCE", 0.3)

    def script(fake: FakeKernel, request: Request) -> None:
        if request.type != "shutdown_request":
            fake.answer(request)

    fake = fake_kernel(script)
    kernel = pool.attach(fake.connection_file)
    assert kernel.shutdown() is False
    assert not kernel.alive
    assert fake.wait_for("shutdown_request").content["restart"] is False


# An exception of a signal handler may strike between any two steps.


class Alarm(Exception):
    """What a program's own time limit raises."""


@pytest.mark.parametrize("frames", [3, *full(0, 6)])
def test_an_alarm_that_strikes_while_a_cell_is_sent_does_no_harm(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, frames: int
) -> None:
    send = zmq_transport.send_frames

    def tear(sock: zmq.Socket[bytes], parts: Sequence[bytes]) -> None:
        monkeypatch.setattr(zmq_transport, "send_frames", send)
        for part in parts[:frames]:
            sock.send(part, zmq.SNDMORE)
        raise Alarm

    kernel.run("ran = 0")
    wait_until(lambda: kernel.reactor._polling, what="the I/O thread sleeps")
    monkeypatch.setattr(zmq_transport, "send_frames", tear)
    with pytest.raises(Alarm):
        kernel.run("ran = 1")
    assert kernel.run("print(ran)").stdout == "0\n"
    assert kernel.state is KernelState.IDLE
    # It may have left whole, so that its end is waited for as after any cut.
    wait_until(lambda: kernel.running is None, what="nothing of ours runs")
