"""The states of all widgets at once, for a page that was loaded again.

Such a page asks over one comm, whose target ipywidgets registers (its messaging protocol,
"Control comm"). ipywidgets in this session would answer for itself alone, and all widgets of other
kernels would be gone. So each kernel with widgets is asked the same, and the front end gets one
answer. If a kernel does not answer in time the comm is closed, and the front end asks for
each widget by itself."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import Closed, ProtocolError
from ..protocol.message import Message, Part

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ..wire.reactor import Timer
    from .comms import FrontEndComms, KernelComms, Raw

log = logging.getLogger("kernel_magics")

CONTROL = "jupyter.widget.control"
WIDGET = "jupyter.widget"

PATIENCE = 3.0
"""Seconds for all kernels to answer; ipywidgets' manager waits for 4."""

States = tuple[dict[str, Any], Sequence[Part]]
"""What one kernel says: ``states`` and ``buffer_paths``, and the buffers that these lead to."""


class StatesComm:
    """The local end of that comm. Its methods are called by ipykernel, as those of any comm.

    ``here`` is the target that ipywidgets has registered in this session; None when it was not
    imported.
    """

    target_name = CONTROL

    def __init__(
        self, comms: FrontEndComms, opening: Raw, here: Callable[[Any, Raw], None] | None
    ) -> None:
        self.comm_id = str(opening["content"]["comm_id"])
        self._comms = comms
        self._metadata = opening.get("metadata") or {}
        self._closed = False  # set by the comm manager
        self._here = _LocalEnd(self.comm_id) if here is not None else None
        if here is not None:
            here(self._here, opening)

    def handle_msg(self, message: Raw) -> None:
        """Ask everybody, and have the answers published together."""
        answers = [] if self._here is None else self._here.ask(message)
        there = [
            comms
            for comms in self._comms
            if any(proxy.target_name == WIDGET for proxy in list(comms.proxies.values()))
        ]
        _Collection(self._comms, self.comm_id, message, answers).ask(there, self._metadata)

    def handle_close(self, message: Raw) -> None:
        """There is nothing to end."""


class _LocalEnd:
    """What ipywidgets of this session takes for a comm; its answers are kept."""

    def __init__(self, comm_id: str) -> None:
        self.comm_id = comm_id
        self._hear: Callable[[Raw], object] | None = None
        self._said: list[States] = []

    def on_msg(self, callback: Callable[[Raw], object]) -> None:
        self._hear = callback

    def on_close(self, callback: Callable[[Raw], object]) -> None: ...

    def send(
        self, data: Any = None, metadata: Any = None, buffers: Sequence[Part] | None = None
    ) -> None:
        self._said.append((data, buffers or ()))

    def close(self, *args: Any, **kwargs: Any) -> None: ...

    def ask(self, message: Raw) -> list[States]:
        """Return what it answers to a message of the front end."""
        self._said = []
        if self._hear is not None:
            self._hear(message)
        return self._said


class _Collection:
    """The answers to one question of the front end; on the I/O thread, once it was asked."""

    def __init__(
        self, comms: FrontEndComms, comm_id: str, question: Raw, answers: list[States]
    ) -> None:
        self._comms = comms
        self._comm_id = comm_id
        self._question = question
        self._answers = answers
        self._missing: set[_Question] = set()
        self._timer: Timer | None = None
        self._over = False

    def ask(self, there: list[KernelComms], metadata: dict[str, Any]) -> None:
        """Ask these kernels; from any thread."""
        if not there:
            self._finish()
            return
        questions = [_Question(comms, self) for comms in there]
        self._missing = set(questions)
        reactor = there[0].kernel.reactor
        beside = self._question["header"].get("subshell_id") is not None

        def begin() -> None:
            self._timer = reactor.call_later(PATIENCE, self._finish)
            for question in questions:
                question.ask(metadata, beside=beside)

        try:
            reactor.post(begin)
        except Closed as error:
            log.info("= nobody can be asked for widgets: %s", error)

    def answered(self, question: _Question, states: States | None) -> None:
        """Note one answer; None: there will be none."""
        if question not in self._missing:
            return
        if states is not None:
            self._missing.remove(question)
            self._answers.append(states)
        if states is None or not self._missing:
            self._finish()

    def _finish(self) -> None:
        if self._over:
            return
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        iopub = self._comms.iopub
        content: dict[str, Any] = {"comm_id": self._comm_id}
        if self._missing:
            answer = iopub.session.message("comm_close", content | {"data": {}})
        else:
            data, buffers = merged(self._answers)
            answer = iopub.session.message("comm_msg", content | {"data": data}, buffers=buffers)
        iopub.send(answer, self._question["header"])


class _Question:
    """What one kernel is asked, over a comm of its own; also the sink for what it says to that."""

    def __init__(self, comms: KernelComms, collection: _Collection) -> None:
        self._comms = comms
        self._collection = collection
        self._comm_id = uuid.uuid4().hex

    def ask(self, metadata: dict[str, Any], *, beside: bool) -> None:
        """Open the comm, ask, and close it again."""
        said: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
            ("comm_open", {"target_name": CONTROL, "data": {}}, metadata),
            ("comm_msg", {"data": {"method": "request_states"}}, {}),
            ("comm_close", {"data": {}}, {}),
        ]

        def say_next(done: Future[None] | None = None) -> None:
            if done is not None and done.exception() is not None:
                self._collection.answered(self, None)
            elif said:
                msg_type, content, metadata = said.pop(0)
                content = {"comm_id": self._comm_id, **content}
                kernel = self._comms.kernel
                # One after another: each may be handled by another subshell.
                forwarded = kernel.forward(
                    msg_type, content, self, metadata=metadata, beside=beside
                )
                forwarded.add_done_callback(say_next)

        say_next()

    def output(self, message: Message) -> None:
        """Take its answer, of all that it publishes meanwhile."""
        try:
            content = message.content
            if content.get("comm_id") != self._comm_id:
                return
            if message.type == "comm_close":  # it does not know that target
                self._collection.answered(self, None)
            elif message.type == "comm_msg":
                states = self._comms.translated_states(_checked(content.get("data")))
                self._collection.answered(self, (states, message.buffers))
        except ProtocolError as error:
            log.warning("! %s: %s", self._comms.kernel.name, error)
            self._collection.answered(self, None)

    def notice(self, text: str) -> None:
        """Nobody is there to read it."""

    def finish(self) -> None:
        """Each part of the question ends by this; the answer is what counts."""


def merged(answers: Sequence[States]) -> States:
    """Return several answers as one."""
    states: dict[str, Any] = {}
    paths: list[Any] = []
    buffers: list[Part] = []
    for data, more in answers:
        states |= data["states"]
        paths += data["buffer_paths"]
        buffers += more
    return {"method": "update_states", "states": states, "buffer_paths": paths}, buffers


def _checked(data: Any) -> dict[str, Any]:
    """Return the answer of a kernel if it is one.

    Raises:
        ProtocolError: it is not.
    """
    fields = data if isinstance(data, dict) else {}
    states, paths = fields.get("states"), fields.get("buffer_paths")
    if not (isinstance(states, dict) and isinstance(paths, list)):
        raise ProtocolError("the states of widgets are no states of widgets")
    return fields
