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
from functools import partial

from ..errors import KernelMagicsError, ProtocolError
from ..protocol.execution import NOT_OUTPUT, belongs
from ..protocol.message import Message
from ..wire.transport import Channel
from .comms import TYPES
from .events import Sink
from .link import Link, LinkState
from .subshells import Subshells

log = logging.getLogger("kernel_magics")

REMEMBERED = 256
"""Messages the late output of which still finds its way; a slider sends some twenty a second."""


@dataclass(frozen=True, slots=True)
class _Forward:
    sink: Sink
    done: Future[None]


class Forwards:
    """The comm messages that were passed on to one kernel.

    ``main_is_busy`` tells whether a cell runs there, None if that is not known. ``refuse`` is
    called when the kernel wants a line of input meanwhile: nobody sits at a prompt.
    """

    def __init__(
        self,
        name: str,
        link: Link,
        subshells: Subshells,
        main_is_busy: Callable[[], bool | None],
        refuse: Callable[[], None],
    ) -> None:
        self._name = name
        self._link = link
        self._subshells = subshells
        self._main_is_busy = main_is_busy
        self._refuse = refuse
        self._open: dict[str, _Forward] = {}
        self._late: OrderedDict[str, _Forward] = OrderedDict()

    def send(self, message: Message, sink: Sink, done: Future[None], *, beside: bool) -> None:
        """Pass one on over a proved connection; ``done`` gets its result when the kernel is
        through.

        One that may go ``beside`` a cell that keeps the kernel busy is handled in a subshell.
        """
        self._open[message.msg_id] = _Forward(sink, done)
        if beside and self._main_is_busy() and self._subshells.promising:
            self._subshells.take(
                partial(self._send_beside, message, done), lambda _: self._send(message)
            )
        else:
            self._send(message)

    def _send_beside(self, message: Message, done: Future[None], subshell: str) -> None:
        def give_back(done: Future[None]) -> None:
            if not done.cancelled() and done.exception() is None:  # else it may be busy still
                self._subshells.give_back(subshell)

        self._send(message.to_subshell(subshell))
        done.add_done_callback(give_back)

    def _send(self, message: Message) -> None:
        if self._link.state is LinkState.UP:
            self._link.send("shell", message)

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
