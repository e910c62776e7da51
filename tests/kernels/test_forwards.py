"""Comm messages of a front end, passed on to a kernel: what comes back, and that each ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kernel_magics.errors import KernelMagicsError
from kernel_magics.kernels.kernel import Kernel
from kernel_magics.kernels.pool import KernelPool
from kernel_magics.protocol.message import Message
from tests.support import steps
from tests.support.fake import FakeKernel, Request, Step
from tests.support.waiting import PATIENCE, wait_until

StartFake = Callable[..., FakeKernel]


class Shown:
    """A sink, and what it was given."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.finished = 0

    @property
    def texts(self) -> list[str]:
        return [one.content["text"] for one in self.messages]

    def output(self, message: Message) -> None:
        self.messages.append(message)

    def notice(self, text: str) -> None:
        raise AssertionError("nothing is to be said")

    def finish(self) -> None:
        self.finished += 1


def forward(kernel: Kernel, sink: Shown, **how: Any) -> Any:
    return kernel.forward("comm_msg", {"comm_id": "c", "data": {"x": 1}}, sink, **how)


def on_comm(*script: Step) -> Callable[[FakeKernel, Request], None]:
    """A kernel that does this for a comm message, and is a normal one otherwise."""

    def run(kernel: FakeKernel, request: Request) -> None:
        if request.type == "comm_msg":
            for step in script:
                step(kernel, request)
        else:
            kernel.answer(request)

    return run


def test_it_arrives_as_it_was_said(pool: KernelPool, fake_kernel: StartFake) -> None:
    fake = fake_kernel()
    kernel = pool.attach(fake.connection_file)
    forward(kernel, Shown(), metadata={"version": "2.1.0"}, buffers=[b"one", b"two"])
    came = fake.wait_for("comm_msg")
    assert came.content == {"comm_id": "c", "data": {"x": 1}}
    assert came.message.buffers == (b"one", b"two")
    assert came.message.metadata == {"version": "2.1.0"}


def test_all_that_it_leads_to_is_shown_until_idle_and_after(
    pool: KernelPool, fake_kernel: StartFake
) -> None:
    script = on_comm(
        steps.busy(),
        steps.stream("during"),
        steps.idle(),
        steps.stream("late"),
    )
    kernel = pool.attach(fake_kernel(script).connection_file)
    shown = Shown()

    forward(kernel, shown).result(PATIENCE)

    wait_until(lambda: shown.texts == ["during", "late"], what="both are shown")
    assert shown.finished == 1


def test_what_a_cell_does_meanwhile_stays_the_cells(
    pool: KernelPool, fake_kernel: StartFake
) -> None:
    script = on_comm(steps.busy(), steps.stream("the comm's"), steps.idle())
    kernel = pool.attach(fake_kernel(script).connection_file)
    shown = Shown()
    forward(kernel, shown).result(PATIENCE)
    assert kernel.run("print('x')").status == "ok"
    assert shown.texts == ["the comm's"]


def test_a_question_of_a_callback_is_refused(pool: KernelPool, fake_kernel: StartFake) -> None:
    fake = fake_kernel(on_comm(steps.busy(), steps.ask_input("well? ", steps.idle())))
    kernel = pool.attach(fake.connection_file)
    shown = Shown()
    forward(kernel, shown).result(PATIENCE)
    assert fake.wait_for("input_reply").content == {"value": "\x04"}
    assert shown.messages == []


def test_nonsense_is_dropped_and_the_rest_is_shown(
    pool: KernelPool, fake_kernel: StartFake
) -> None:
    script = on_comm(
        steps.busy(),
        steps.publish("execute_reply", {"status": "ok"}),
        steps.publish("display_data", {"data": {"text/plain": float("nan")}}),
        steps.publish("execute_input", {"code": "x"}),
        steps.stream("good"),
        steps.idle(),
        steps.idle(),
    )
    kernel = pool.attach(fake_kernel(script).connection_file)
    shown = Shown()
    forward(kernel, shown).result(PATIENCE)
    assert shown.texts == ["good"]
    assert kernel.run("x").status == "ok"
    assert shown.finished == 1


def test_a_comm_message_on_shell_counts_as_well(pool: KernelPool, fake_kernel: StartFake) -> None:
    """deno closes there what it does not know."""

    def close(kernel: FakeKernel, request: Request) -> None:
        kernel.reply(request.message, {"comm_id": "c", "data": {}}, msg_type="comm_close")

    kernel = pool.attach(fake_kernel(on_comm(steps.busy(), close)).connection_file)
    shown = Shown()
    forward(kernel, shown)
    wait_until(lambda: [one.type for one in shown.messages] == ["comm_close"], what="it is shown")


def test_death_ends_it(pool: KernelPool, fake_kernel: StartFake) -> None:
    fake = fake_kernel(on_comm(steps.busy()))
    kernel = pool.attach(fake.connection_file)
    done = forward(kernel, Shown())
    fake.wait_for("comm_msg")
    fake.close()
    with pytest.raises(KernelMagicsError):
        done.result(PATIENCE)


def test_it_is_not_sent_to_a_kernel_that_is_gone(pool: KernelPool, fake_kernel: StartFake) -> None:
    kernel = pool.attach(fake_kernel().connection_file)
    kernel.detach()
    with pytest.raises(KernelMagicsError):
        forward(kernel, Shown()).result(PATIENCE)


def test_one_that_nobody_waits_for_any_more_is_no_fault(
    pool: KernelPool, fake_kernel: StartFake
) -> None:
    kernel = pool.attach(fake_kernel(on_comm(steps.busy(), steps.idle())).connection_file)
    shown = Shown()
    assert forward(kernel, shown).cancel()
    assert kernel.run("x").status == "ok"
    wait_until(lambda: shown.finished == 1, what="it is over")


class Routed:
    """A router, and what it was given."""

    def __init__(self) -> None:
        self.strays: list[Message] = []
        self.ends = 0

    def stray(self, message: Message) -> None:
        self.strays.append(message)

    def ended(self) -> None:
        self.ends += 1


def test_what_nobody_asked_for_goes_to_the_router(pool: KernelPool, fake_kernel: StartFake) -> None:
    said = {"comm_id": "c", "data": {}}
    script = [steps.busy(), steps.orphan("comm_msg", said), steps.reply(), steps.idle()]
    kernel = pool.attach(fake_kernel(script).connection_file)
    router = Routed()
    kernel.route_comms(router)

    assert kernel.run("x").outputs == []

    wait_until(lambda: [one.type for one in router.strays] == ["comm_msg"], what="it came")


@pytest.mark.full
@pytest.mark.parametrize("end", ["detach", "die"])
def test_the_router_is_told_of_the_end(pool: KernelPool, fake_kernel: StartFake, end: str) -> None:
    fake = fake_kernel()
    kernel = pool.attach(fake.connection_file)
    router = Routed()
    kernel.route_comms(router)
    if end == "detach":
        kernel.detach()
    else:
        fake.close()
    wait_until(lambda: router.ends > 0, what="it is told")
