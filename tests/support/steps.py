"""The words of a fake kernel's script: each makes a step, ``step(kernel, request)``.

A normal cell is ``[busy(), execute_input(), stream("hi\\n"), reply(), idle()]``; a fault is such
a list with something left out, doubled, moved or spoilt.
"""

import threading
from collections.abc import Sequence

from tests.support.fake import FakeKernel, Request, Step
from tests.support.waiting import PATIENCE
from tests.support.wire import DELIMITER, Json


def busy() -> Step:
    return lambda kernel, request: kernel.status("busy", request.message)


def idle() -> Step:
    return lambda kernel, request: kernel.status("idle", request.message)


def publish(
    msg_type: str, content: Json, *, buffers: tuple[bytes, ...] = (), **metadata: object
) -> Step:
    """Anything on iopub, under the request."""

    def step(kernel: FakeKernel, request: Request) -> None:
        kernel.publish(
            msg_type, content, parent=request.message, metadata=metadata, buffers=buffers
        )

    return step


def orphan(msg_type: str, content: Json) -> Step:
    """Anything on iopub without a parent, as metakernel's warnings."""
    return lambda kernel, request: kernel.publish(msg_type, content)


def execute_input() -> Step:
    def step(kernel: FakeKernel, request: Request) -> None:
        kernel.execution_count += 1
        content = {"code": request.content["code"], "execution_count": kernel.execution_count}
        kernel.publish("execute_input", content, parent=request.message)

    return step


def stream(text: str, name: str = "stdout") -> Step:
    return publish("stream", {"name": name, "text": text})


def display(text: str, *, display_id: str | None = None, **more: str) -> Step:
    """A display of plain text; ``more`` are further mime types, with ``_`` for ``/``."""
    return publish("display_data", _shown(text, display_id, more))


def update(text: str, *, display_id: str, **more: str) -> Step:
    return publish("update_display_data", _shown(text, display_id, more))


def result(text: str) -> Step:
    """The value of a cell."""

    def step(kernel: FakeKernel, request: Request) -> None:
        content = {**_shown(text, None, {}), "execution_count": kernel.execution_count}
        kernel.publish("execute_result", content, parent=request.message)

    return step


def clear(*, wait: bool = False) -> Step:
    return publish("clear_output", {"wait": wait})


def error(ename: str = "ValueError", evalue: str = "no") -> Step:
    """The error on iopub; the reply needs ``reply("error", ename=..., ...)`` besides."""
    return publish("error", _raised(ename, evalue))


def reply(status: str = "ok", *, msg_type: str | None = None, **content: object) -> Step:
    """The answer on the channel that the request came on. ``status=""`` leaves the key out."""

    def step(kernel: FakeKernel, request: Request) -> None:
        said: Json = {"status": status} if status else {}
        if status == "error":
            said |= _raised("ValueError", "no")
        if request.type == "execute_request":
            said |= {"execution_count": kernel.execution_count}
        kernel.reply(
            request.message, {**said, **content}, channel=request.channel, msg_type=msg_type
        )

    return step


def ask_input(prompt: str, *then: Step, password: bool = False) -> Step:
    """Ask for a line and play ``then`` when it has come: nothing else may follow in the list."""

    def step(kernel: FakeKernel, request: Request) -> None:
        kernel.when("input_reply", then, request)
        kernel.ask_input(request, prompt, password=password)

    return step


def when(msg_type: str, *then: Step) -> Step:
    """Go on with ``then`` when a message of this type arrives, as an interrupt.

    That message is answered as well, afterwards.
    """
    return lambda kernel, request: kernel.when(msg_type, then, request)


def answered() -> Step:
    """The polite answer to the request, as ``echo`` gives it."""
    return lambda kernel, request: kernel.answer(request)


def forged(step: Step) -> Step:
    """The step, signed with another key."""

    def forge(kernel: FakeKernel, request: Request) -> None:
        true_key, kernel.key = kernel.key, b"not the key"
        try:
            step(kernel, request)
        finally:
            kernel.key = true_key

    return forge


def twice(step: Step) -> Step:
    """The step, and then its last frames again: the same message id, the same signature."""

    def double(kernel: FakeKernel, request: Request) -> None:
        step(kernel, request)
        kernel.send(*kernel.last_sent)

    return double


def garbage(channel: str, *frames: bytes) -> Step:
    """Frames that are no message; without ``frames``, a delimiter followed by rubbish."""
    rubbish = [*frames] or [DELIMITER, b"0" * 64, b"{", b"\xff", b"]"]

    def step(kernel: FakeKernel, request: Request) -> None:
        prefix = [] if channel == "iopub" else [*request.message.identities]
        kernel.send(channel, [*prefix, *rubbish])

    return step


def hold(event: threading.Event) -> Step:
    """Do nothing at all until the test sets the event: the whole kernel stands still."""

    def step(kernel: FakeKernel, request: Request) -> None:
        if not event.wait(PATIENCE):
            raise TimeoutError("hold: the test never set the event")

    return step


def close_channels(*channels: str) -> Step:
    """Close sockets; without names, all of them: what a dying kernel looks like."""

    def step(kernel: FakeKernel, request: Request) -> None:
        for channel in channels or tuple(kernel.sockets.channels.values()):
            kernel.sockets.unbind(channel)

    return step


def restart() -> Step:
    return lambda kernel, request: kernel.restart()


def in_session(session: str, *steps: Step) -> Step:
    """Steps whose messages come from another session, and nothing else changed."""

    def step(kernel: FakeKernel, request: Request) -> None:
        true_session, kernel.session = kernel.session, session
        try:
            kernel.play(steps, request)
        finally:
            kernel.session = true_session

    return step


def cell(*outputs: Step, then: Sequence[Step] = ()) -> list[Step]:
    """A whole normal cell with these outputs: from busy to idle."""
    return [busy(), execute_input(), *outputs, reply(), *then, idle()]


def _shown(text: str, display_id: str | None, more: dict[str, str]) -> Json:
    data = {
        "text/plain": text,
        **{name.replace("_", "/", 1): value for name, value in more.items()},
    }
    transient = {"display_id": display_id} if display_id else {}
    return {"data": data, "metadata": {}, "transient": transient}


def _raised(ename: str, evalue: str) -> Json:
    return {"ename": ename, "evalue": evalue, "traceback": [f"{ename}: {evalue}"]}
