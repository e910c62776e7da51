"""Where a remote cell's outputs go.

Two ways. In a kernel whose own outputs are in place, messages are re-published raw on its iopub
channel under the cell's parent header: nothing is lost that this code has never heard of.
Everywhere else - in a terminal, under `%%capture`, `redirect_stdout` or a publish hook - they are
shown through the objects that are in place, by the thread that waits for the cell."""

from __future__ import annotations

import contextlib
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import zmq
from IPython.core.displaypub import CapturingDisplayPublisher

from ..errors import ProtocolError, kernel_label, remote_error, sendable
from ..kernels.comms import TYPES as COMM_TYPES
from ..protocol.message import DELIMITER, Message, Part, Session, Signer, pack
from ..protocol.stream import TextRun, text_of
from ..wire.frames import send_frames
from .display_ids import DisplayIds
from .terminal import LinePrefix, TerminalFilter, safe

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from ..kernels.events import Show, Sink
    from ..kernels.kernel import Kernel
    from ..wire.reactor import Reactor, Timer
    from .comms import KernelComms
    from .session import LocalSession

BURST = 200
"""Stream messages that pass one by one before they are joined."""

REFILL = 100.0
"""Stream messages a second that pass one by one all the time."""

JOIN_FOR = 0.05
"""Seconds for which text is collected when there is more. jupyter_server passes 1000 messages a
second by default and drops the rest; 20,000 lines of a loop have to arrive there too."""

BREATHE_AFTER = 250
"""Messages after which libzmq's own thread gets ``BREATHE_FOR`` seconds to send them: beyond 1000
that wait it drops the newest. Costs 4 us a message."""

BREATHE_FOR = 0.001

SETTLE_TIMEOUT = 10.0
"""Seconds for ipykernel's iopub thread to flush; its own flush() waits as long."""


class LocalIOPub:
    """The iopub channel of the ipykernel that this process is.

    Everything that touches its socket is handed to its own thread.
    """

    def __init__(self, kernel: Any) -> None:
        session = kernel.session
        self.thread = kernel.iopub_socket.io_thread
        self.signer = Signer(session.key, session.signature_scheme)
        self.session = Session(session.session, session.username)
        self.pack: Callable[[Any], bytes] = session.pack
        self._outbox: deque[list[list[Part]]] = deque()
        self._released = threading.Event()
        self._released.set()
        self._sent = 0
        self._holding = False  # printed text has to go first and is on its way
        self.display_ids = DisplayIds()

    def lift_limit(self) -> None:
        """Let any number of messages wait to be sent, from now on for good.

        At its default of 1000, relaying 20,000 messages lost 2,010 and the local cell's own idle.
        Lowered again it would take all that was ever sent for unread, because without a limit
        nobody counts that: beyond 1000 messages the kernel would be mute.
        """
        self.thread.schedule(self._lift)

    def _lift(self) -> None:
        """Set it while nothing is pending on the socket, or not at all.

        libzmq 4.3.5 crashes when the option is set while a connection is being torn down.
        """
        sock = self.thread.socket
        for _ in range(20):
            sock.getsockopt(zmq.EVENTS)  # handles what is pending
            time.sleep(0.01)  # for what the other thread still has to say to that
            if not select.select([sock.getsockopt(zmq.FD)], [], [], 0)[0]:
                sock.setsockopt(zmq.SNDHWM, 0)
                return

    def publish(self, messages: list[list[Part]], *, flush: bool) -> None:
        """Send messages in order, after what was printed here before if ``flush``."""
        self._outbox.append(messages)
        if flush:
            self._released.clear()
            self._holding = True
            self.thread.schedule(self._flush)
        elif not self._holding:
            self.thread.schedule(self._send)

    def send(self, message: Message, parent: dict[str, Any]) -> None:
        """Publish a message of ours under a parent header; from any thread."""
        self.publish([self.frames_of(message, self.pack(parent))], flush=False)

    def frames_of(
        self, message: Message, packed_parent: bytes, content: bytes | None = None
    ) -> list[Part]:
        """Return what is sent of a message: under another parent, perhaps saying something else."""
        parts = self.session.copy_of(message, packed_parent, content)
        return [message.type.encode(), DELIMITER, self.signer.sign(parts[:4]), *parts]

    def _flush(self) -> None:
        # Printed text waits in these for up to 0.2 s. On this thread their flush() never waits,
        # but it only queues the text for this thread, so ours has to be queued behind it.
        sys.stdout.flush()
        sys.stderr.flush()
        self.thread.schedule(self._release)

    def _release(self) -> None:
        self._holding = False
        self._send()
        self._released.set()

    def settle(self) -> None:
        """Wait until printed text and what followed it are in order, so that more may follow."""
        self._released.wait(SETTLE_TIMEOUT)

    def _send(self) -> None:
        while self._outbox and not self._holding:
            for frames in self._outbox.popleft():
                send_frames(self.thread.socket, frames)
                self._sent += 1
                if self._sent % BREATHE_AFTER == 0:
                    # A front end that connected after the limit was lifted has the old one.
                    time.sleep(BREATHE_FOR)


class RawRelay:
    """A sink that re-publishes one cell's outputs; see :class:`Sink`.

    Three things are changed on the way. ``count``, the local execution count, stands in for the
    remote's: front ends take the number of an ``execute_result`` for that of the cell. A traceback
    gets a first line that names the kernel, ``name``. And a display id that is another kernel's
    here is renamed, see :class:`DisplayIds`. Messages of widgets go through ``comms``; None: they
    are not passed on.
    """

    def __init__(
        self,
        name: str,
        iopub: LocalIOPub,
        reactor: Reactor,
        parent: dict[str, Any],
        count: int,
        comms: KernelComms | None = None,
    ) -> None:
        self._name = name
        self._comms = comms
        self._iopub = iopub
        self._reactor = reactor
        self._parent_header = parent
        self._parent = b""  # packed with the first output
        self._count = count
        self._batch: list[list[Part]] = []
        self._flushed = False
        self._text: list[TextRun] = []
        self._timer: Timer | None = None
        self._tokens = float(BURST)
        self._refilled = reactor.now

    @property
    def parent_id(self) -> str:
        """The id of the message that all this answers."""
        return str(self._parent_header.get("msg_id", ""))

    def output(self, message: Message) -> None:
        """Re-publish one message, or keep its text for a moment."""
        if message.type == "stream":
            self._stream(message)
        elif message.type in COMM_TYPES:
            if self._comms is not None:
                self._join()
                self._comms.received(message, self)
        else:
            self._join()
            self.emit(message, self.changed(message, self._name))

    def notice(self, text: str) -> None:
        """Publish a sentence of ours on stderr."""
        self._join()
        content = {"name": "stderr", "text": text + "\n"}
        self.emit(self._iopub.session.message("stream", content))

    def finish(self) -> None:
        """Publish what is kept, before the local cell can end."""
        self._join()
        self.publish()

    def display(self, data: dict[str, str], display_id: str, *, update: bool) -> None:
        """Publish a display of ours, at once: a new one, or what it is now."""
        self._join()
        content = {"data": data, "metadata": {}, "transient": {"display_id": display_id}}
        kind = "update_display_data" if update else "display_data"
        self.emit(self._iopub.session.message(kind, content))
        self.publish()

    def _stream(self, message: Message) -> None:
        now = self._reactor.now
        self._tokens = min(BURST, self._tokens + (now - self._refilled) * REFILL)
        self._refilled = now
        piece = None if not self._text and self._tokens >= 1 else text_of(message)
        if piece is None:
            self._tokens -= 1
            self._join()
            self.emit(message)
        elif not (self._text and self._text[-1].take(*piece)):
            self._text.append(TextRun(message, *piece))
        if self._text and self._timer is None:
            self._timer = self._reactor.call_later(JOIN_FOR, self._join)

    def _join(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        joined, self._text = self._text, []
        for run in joined:
            self.emit(run.message())

    def changed(self, message: Message, name: str) -> bytes | None:
        """Return the new packed content of what changes; None for all others."""
        try:
            if (renamed := self._iopub.display_ids.renamed(name, message)) is not None:
                return pack(renamed)
            if message.type == "execute_result":
                return pack(message.content | {"execution_count": self._count})
            if message.type == "error":
                lines = message.content.get("traceback")
                if isinstance(lines, list):
                    named = [kernel_label(name), *lines]
                    return pack(message.content | {"traceback": named})
        except ProtocolError:
            pass  # not JSON: it passes as it is, and the front end says what it thinks
        return None

    def emit(self, message: Message, content: bytes | None = None) -> None:
        """Send one message, with another packed content if there is one, at the end of the turn."""
        self._parent = self._parent or self._iopub.pack(self._parent_header)
        if not self._batch:
            self._reactor.soon(self.publish)
        self._batch.append(self._iopub.frames_of(message, self._parent, content))

    def publish(self) -> None:
        """Send what there is."""
        if self._batch:
            batch, self._batch = self._batch, []
            self._iopub.publish(batch, flush=not self._flushed)
            self._flushed = True


class Presenter:
    """Shows outputs through ``sys.stdout`` and the display publisher that are in place now.

    Called by the thread that waits for the cell, so that redirections and hooks of that thread
    apply. In a terminal, what the kernel wrote is made safe for it first; with ``alone`` False
    something else is going on there meanwhile, and each line says whose it is. Messages of widgets
    are no outputs that anything could redirect: they go through ``comm``.
    """

    def __init__(
        self,
        name: str,
        shell: InteractiveShell,
        *,
        alone: bool = True,
        comm: Callable[[Message], None] | None = None,
    ) -> None:
        self._name = name
        self._comm = comm
        self._shell = shell
        self._in_terminal = getattr(shell, "kernel", None) is None
        self._alone = alone or not self._in_terminal
        self._filters = {each: TerminalFilter(alone=alone) for each in ("stdout", "stderr")}
        self._prefix = LinePrefix(f"[{name}] ")

    def __call__(self, item: Message | str) -> None:
        """Show a message, or a sentence of ours on stderr."""
        if isinstance(item, str):
            print(safe(item), file=sys.stderr, flush=True)
        elif item.type not in COMM_TYPES:
            self.show(item.type, item.content)
        elif self._comm is not None:
            self._comm(item)

    def show(self, kind: str, content: dict[str, Any]) -> None:
        """Show one output, given by the type of its message and what that says."""
        match kind:
            case "stream":
                self._stream(content)
            case "display_data" | "update_display_data":
                self._display(content, update=kind == "update_display_data")
            case "execute_result":
                self._result(content)
            case "clear_output":
                self._shell.display_pub.clear_output(wait=bool(content.get("wait")))
            case "error":
                self._error(content)

    def _stream(self, content: dict[str, Any]) -> None:
        name = "stderr" if content.get("name") == "stderr" else "stdout"
        text = str(content.get("text", ""))
        stream = getattr(sys, name)
        if self._in_terminal:
            text = self._filters[name](text)
            stream.write(text if self._alone else self._prefix(text))
        else:
            stream.write(sendable(text))
        stream.flush()

    def _error(self, content: dict[str, Any]) -> None:
        ename, evalue = (str(content.get(key) or "") for key in ("ename", "evalue"))
        traceback = content.get("traceback")
        rendered = [str(line) for line in traceback] if isinstance(traceback, list) else []
        error = remote_error(self._name, ename, evalue, rendered)
        if self._in_terminal:
            error.traceback = [safe(line) for line in error.traceback]
        lines = [kernel_label(self._name), *error.traceback]
        if keeps_errors(self._shell):
            print("\n".join(lines), file=sys.stderr, flush=True)
            return
        # IPython's own last step of showing an error: text in a terminal, a message in a kernel.
        self._shell._showtraceback(type(error), error.evalue, lines)

    def _result(self, content: dict[str, Any]) -> None:
        text = _bundle(content).get("text/plain")
        taken = isinstance(self._shell.display_pub, CapturingDisplayPublisher)
        if self._in_terminal and isinstance(text, str) and not taken:
            separator = "\n" if "\n" in text else ""
            number = count(self._shell) if self._alone else self._name
            print(f"Out[{number}]: {separator}{safe(text)}", flush=True)
        else:
            self._display(content)

    def _display(self, content: dict[str, Any], *, update: bool = False) -> None:
        data = _bundle(content)
        metadata, transient = content.get("metadata"), content.get("transient")
        if self._in_terminal and data:
            plain = data.get("text/plain")
            data = data | {"text/plain": safe(plain if isinstance(plain, str) else _summary(data))}
        self._shell.display_pub.publish(
            data,
            metadata if isinstance(metadata, dict) else {},
            transient=transient if isinstance(transient, dict) else {},
            update=update,
        )


def choose(session: LocalSession, kernel: Kernel) -> tuple[Sink | None, Show | None]:
    """Return the sink or the presenter for a kernel's outputs that is right for the cell that
    runs."""
    relay = raw_relay(session, kernel.reactor, kernel)
    return (None, presenter(session, kernel)) if relay is None else (relay, None)


def raw_relay(
    session: LocalSession, reactor: Reactor, kernel: Kernel | None = None
) -> RawRelay | None:
    """Return the sink for the cell that runs; None where messages cannot be published as they are.

    Without a kernel it is for the outputs of several, and whoever uses it knows whose they are.
    """
    iopub, shell = session.iopub, session.shell
    if iopub is None or not (parent := _raw_parent(shell, iopub)):
        return None
    name = "" if kernel is None else kernel.name
    comms = None if kernel is None else session.comms_with(kernel)
    return RawRelay(name, iopub, reactor, parent, count(shell), comms)


def comms_only(session: LocalSession, kernel: Kernel) -> Sink | None:
    """Return a sink that shows nothing, but keeps the front end and the kernel's widgets together;
    None where there are no widgets."""
    comms, iopub = session.comms_with(kernel), session.iopub
    if comms is None or iopub is None:
        return None
    local: Any = session.shell.kernel  # type: ignore[attr-defined]  # there are comms, so it is one
    parent = local.get_parent("shell").get("header", {})
    return _CommsOnly(RawRelay(kernel.name, iopub, kernel.reactor, parent, 0, comms))


class _CommsOnly:
    """A sink that passes on what is no output."""

    def __init__(self, relay: RawRelay) -> None:
        self._relay = relay

    def output(self, message: Message) -> None:
        """Pass it on if it is a widget's."""
        if message.type in COMM_TYPES:
            self._relay.output(message)

    def notice(self, text: str) -> None:
        """Show nothing."""

    def finish(self) -> None:
        """All has been passed on."""
        self._relay.finish()


def presenter(session: LocalSession, kernel: Kernel, *, alone: bool = True) -> Presenter:
    """Return what shows a kernel's outputs through what is in place."""
    comm: Callable[[Message], None] | None = None
    if (sink := comms_only(session, kernel)) is not None:

        def comm(message: Message) -> None:
            # Wait for it: a view that is shown next must find its model.
            kernel.reactor.ask(partial(sink.output, message))
            kernel.reactor.ask(sink.finish)

    return Presenter(kernel.name, session.shell, alone=alone, comm=comm)


def local_iopub(shell: InteractiveShell) -> LocalIOPub | None:
    """Return the iopub channel of the kernel this is; None in a terminal, or if it is of another
    make."""
    kernel: Any = getattr(shell, "kernel", None)
    if not hasattr(getattr(kernel, "iopub_socket", None), "io_thread"):
        return None
    if getattr(kernel.session, "packer", "json") not in ("json", "orjson"):
        return None  # somebody's own wire format: content cannot pass as it is
    with contextlib.suppress(ProtocolError):
        return LocalIOPub(kernel)
    return None


def keeps_errors(shell: InteractiveShell) -> bool:
    """Whether an error that is shown is shown at the cell's end and fails it, wherever it was.

    So it is in kernels that are not made of ipykernel (xeus-python).
    """
    kernel: Any = getattr(shell, "kernel", None)
    return kernel is not None and not hasattr(kernel, "iopub_socket")


def _raw_parent(shell: InteractiveShell, iopub: LocalIOPub) -> dict[str, Any]:
    """Return the parent header to publish under, or nothing when something of this cell's is
    replaced."""
    publisher: Any = shell.display_pub
    untouched = (
        getattr(publisher, "pub_socket", None) is not None
        and not getattr(publisher, "_hooks", ())
        and not getattr(shell.displayhook, "_hooks", ())
        and sys.displayhook is shell.displayhook
        and all(
            getattr(stream, "pub_thread", None) is iopub.thread
            for stream in (sys.stdout, sys.stderr)
        )
    )
    return getattr(publisher, "parent_header", None) or {} if untouched else {}


def _bundle(content: dict[str, Any]) -> dict[str, Any]:
    data = content.get("data")
    return data if isinstance(data, dict) else {}


def _summary(data: dict[str, Any]) -> str:
    """Say in text what a terminal cannot show."""
    return f"[{', '.join(f'{mime}, {len(str(value))} bytes' for mime, value in data.items())}]"


def count(shell: InteractiveShell) -> int:
    """Return the number of the cell that runs; IPython 9 counts on at its start, 8 at its end."""
    return int(shell.displayhook.prompt_count)
