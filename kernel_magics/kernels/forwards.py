"""Comm messages of a front end that are passed on to a kernel, and what they lead to.

A comm message has no reply: the kernel is through with it when it says idle. What it publishes
until then, and what threads say later, goes where the answer to the front end's own message would
go. On the reactor's thread."""

from __future__ import annotations

import contextlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass

from ..errors import KernelMagicsError, ProtocolError
from ..protocol.execution import NOT_OUTPUT, belongs
from ..protocol.message import Message
from ..wire.transport import Channel
from .comms import TYPES
from .execution import Sink

log = logging.getLogger("kernel_magics")

REMEMBERED = 256
"""Messages the late output of which still finds its way; a slider sends some twenty a second."""


@dataclass(frozen=True, slots=True)
class _Forward:
    sink: Sink
    done: Future[None]


class Forwards:
    """The comm messages that were passed on to one kernel.

    ``refuse`` is called when the kernel wants a line of input meanwhile: nobody sits at a prompt.
    """

    def __init__(self, name: str, refuse: Callable[[], None]) -> None:
        self._name = name
        self._refuse = refuse
        self._open: dict[str, _Forward] = {}
        self._late: OrderedDict[str, _Forward] = OrderedDict()

    def add(self, message: Message, sink: Sink, done: Future[None]) -> None:
        """One more is about to be sent; ``done`` gets its result when the kernel is through."""
        self._open[message.msg_id] = _Forward(sink, done)

    def received(self, channel: Channel, message: Message) -> bool:
        """Take what one of them has led to; return whether this is such a message."""
        parent = message.parent_id
        forward = self._open.get(parent) or self._late.get(parent)
        if forward is None:
            return False
        try:
            self._take(channel, message, forward)
        except ProtocolError as error:
            log.warning("! %s sent what is no proper message, about a comm: %s", self._name, error)
        return True

    def fail(self, error: KernelMagicsError) -> None:
        """Nothing more comes for those that are open."""
        forwards, self._open = self._open, {}
        for forward in forwards.values():
            # Who waited may have stopped waiting.
            with contextlib.suppress(InvalidStateError):
                forward.done.set_exception(error)

    def _take(self, channel: Channel, message: Message, forward: _Forward) -> None:
        if message.type == "input_request":
            self._refuse()
        elif not (belongs("iopub", message.type) and (channel == "iopub" or message.type in TYPES)):
            return  # but comm messages may also come on shell, as from deno
        elif message.type == "status":
            if message.content.get("execution_state") == "idle":
                self._over(message.parent_id)
        elif message.type not in NOT_OUTPUT:
            message.check()
            forward.sink.output(message)

    def _over(self, msg_id: str) -> None:
        forward = self._open.pop(msg_id, None)
        if forward is None:
            return
        self._late[msg_id] = forward
        if len(self._late) > REMEMBERED:
            self._late.popitem(last=False)
        forward.sink.finish()
        with contextlib.suppress(InvalidStateError):
            forward.done.set_result(None)
