"""Comms that this side holds: what comes for them reaches nobody else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kernel_magics.errors import KernelMagicsError
from kernel_magics.kernels.comms import Comm, Listener
from kernel_magics.kernels.pool import KernelPool
from kernel_magics.protocol.message import Message
from tests.support import steps
from tests.support.fake import FakeKernel, Request
from tests.support.waiting import wait_until

StartFake = Callable[..., FakeKernel]


class Heard:
    """A listener, and what it was told."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.errors: list[KernelMagicsError] = []
        self.listener = Listener(self.messages.append, self.errors.append)


def said(comm_id: str, **data: Any) -> dict[str, Any]:
    return {"comm_id": comm_id, "data": data}


def test_what_belongs_to_a_comm_of_ours_reaches_no_cell(
    pool: KernelPool, fake_kernel: StartFake
) -> None:
    script = [
        steps.busy(),
        steps.publish("comm_msg", said("ours", a=1), buffers=(b"x" * 100_000,)),
        steps.publish("comm_msg", said("theirs", a=2)),
        steps.publish("comm_close", said("ours")),
        steps.reply(),
        steps.idle(),
    ]
    kernel = pool.attach(fake_kernel(script).connection_file)
    heard = Heard()
    kernel.open_comm("ours", "target", heard.listener)

    result = kernel.run("x")

    assert [one.content["comm_id"] for one in result.outputs] == ["theirs"]
    assert [one.type for one in heard.messages] == ["comm_msg", "comm_close"]
    assert bytes(heard.messages[0].buffers[0]) == b"x" * 100_000


def test_it_is_heard_on_shell_as_well_as_on_iopub(pool: KernelPool, fake_kernel: StartFake) -> None:
    def script(kernel: FakeKernel, request: Request) -> None:
        if request.type == "comm_open":
            comm_id = request.content["comm_id"]
            kernel.reply(request.message, said(comm_id, on="shell"), msg_type="comm_msg")
            kernel.publish("comm_msg", said(comm_id, on="iopub"), parent=request.message)
        else:
            kernel.answer(request)

    kernel = pool.attach(fake_kernel(script).connection_file)
    heard = Heard()

    comm = kernel.open_comm(Comm.new_id(), "target", heard.listener)

    wait_until(lambda: len(heard.messages) == 2, what="both have come")
    assert {one.content["data"]["on"] for one in heard.messages} == {"shell", "iopub"}
    kernel.forget_comm(comm)


def test_it_sends_what_the_specification_says(pool: KernelPool, fake_kernel: StartFake) -> None:
    fake = fake_kernel()
    kernel = pool.attach(fake.connection_file)

    comm = kernel.open_comm("c1", "target", Heard().listener)
    comm.send({"a": 1}, [b"bytes"])
    comm.close()

    close = fake.wait_for("comm_close")
    opened, sent = fake.wait_for("comm_open"), fake.wait_for("comm_msg")
    assert opened.content == {"comm_id": "c1", "target_name": "target", "data": {}}
    assert (sent.content, sent.message.buffers) == (said("c1", a=1), (b"bytes",))
    assert close.content == said("c1")


def test_one_that_is_forgotten_hears_no_more(pool: KernelPool, fake_kernel: StartFake) -> None:
    script = [steps.busy(), steps.publish("comm_msg", said("c1")), steps.reply(), steps.idle()]
    kernel = pool.attach(fake_kernel(script).connection_file)
    heard = Heard()
    kernel.forget_comm(kernel.open_comm("c1", "target", heard.listener))

    assert [one.type for one in kernel.run("x").outputs] == ["comm_msg"]
    assert heard.messages == []


@pytest.mark.full
def test_a_lost_connection_is_told_once(pool: KernelPool, fake_kernel: StartFake) -> None:
    fake = fake_kernel()
    kernel = pool.attach(fake.connection_file)
    heard = Heard()
    kernel.open_comm("c1", "target", heard.listener)
    fake.wait_for("comm_open")

    fake.close()

    wait_until(lambda: not kernel.alive, what="it is known to be dead")
    assert len(heard.errors) == 1


def test_nobody_to_open_it_with_is_told(pool: KernelPool, fake_kernel: StartFake) -> None:
    kernel = pool.attach(fake_kernel().connection_file)
    kernel.detach()
    heard = Heard()

    kernel.open_comm("c1", "target", heard.listener)

    wait_until(lambda: bool(heard.errors), what="it is told")
