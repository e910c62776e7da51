"""A notebook's kernel, driven as a notebook front end drives it, without a browser."""

import os
import signal
import sys
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import zmq
from jupyter_client.blocking.client import BlockingKernelClient

from tests.support.connection import (
    CHANNELS,
    Info,
    chosen_info,
    read_info,
    tcp_info,
    write_info,
)
from tests.support.kernels import connected
from tests.support.processes import Process
from tests.support.sandbox import Sandbox
from tests.support.waiting import PATIENCE, Deadline, as_deadline, wait_until

RawMessage = dict[str, Any]
"""One message as jupyter_client gives it: ``header``, ``content``, ``buffers``, ..."""

OnInput = Callable[[str, bool], str]
"""``on_input(prompt, password)`` types the line that a cell asked for."""

NOT_OUTPUT = {"status", "execute_input", "iopub_welcome", "shutdown_reply", "debug_event"}

BATCH = 500
"""Messages read before conditions are looked at again: some conditions join all output so far."""


class Output(NamedTuple):
    """One output as the cell got it, in order of arrival."""

    msg_type: str
    content: dict[str, Any]
    metadata: dict[str, Any]
    buffers: list[bytes]


class CellRun:
    """One request to the host, usually a cell, and all that came back for it; also late output."""

    def __init__(self, host: "KernelHost", msg_id: str, on_input: OnInput | None) -> None:
        self._host, self.msg_id, self.on_input = host, msg_id, on_input
        self.messages: list[RawMessage] = []
        self.reply_message: RawMessage | None = None
        self.inputs: list[tuple[str, bool]] = []
        self.idle = False  # whether the host has said that it is through with this request

    @property
    def reply(self) -> dict[str, Any]:
        """The content of the reply; empty until it has come."""
        return self.reply_message["content"] if self.reply_message else {}

    @property
    def done(self) -> bool:
        return self.idle and self.reply_message is not None

    @property
    def status(self) -> str:
        """``ok``, ``error`` or ``aborted``; empty until the reply has come."""
        return str(self.reply.get("status", ""))

    @property
    def outputs(self) -> list[Output]:
        """What a front end would show or apply: everything but the protocol's own bookkeeping."""
        return [
            Output(
                one["msg_type"], one["content"], one["metadata"], list(map(bytes, one["buffers"]))
            )
            for one in self.messages
            if one["msg_type"] not in NOT_OUTPUT
        ]

    def of_type(self, msg_type: str) -> list[dict[str, Any]]:
        """The contents of all outputs of a type."""
        return [output.content for output in self.outputs if output.msg_type == msg_type]

    @property
    def stdout(self) -> str:
        return self._streamed("stdout")

    @property
    def stderr(self) -> str:
        return self._streamed("stderr")

    @property
    def result(self) -> str | None:
        """The plain text of the cell's value, if it had one."""
        results = self.of_type("execute_result")
        return results[-1]["data"].get("text/plain") if results else None

    @property
    def error(self) -> str:
        """The traceback that the front end shows; empty without an error."""
        return "\n".join("\n".join(content["traceback"]) for content in self.of_type("error"))

    def wait(self, timeout: float | Deadline = PATIENCE) -> Self:
        """Wait until both the reply and idle have come.

        Raises:
            TimeoutError: they did not.
            RuntimeError: the host's process has ended.
        """
        self._host.wait_for(lambda: self.done, timeout, what=lambda: f"the cell's end: {self}")
        return self

    def wait_idle(self, timeout: float | Deadline = PATIENCE) -> Self:
        """Wait until idle has come, of a message that has no reply."""
        self._host.wait_for(lambda: self.idle, timeout, what=lambda: f"idle: {self}")
        return self

    def ok(self) -> Self:
        """Insist that it succeeded."""
        if self.status != "ok":
            raise AssertionError(f"the cell failed: {self}")
        return self

    def __str__(self) -> str:
        reply = {name: self.reply.get(name) for name in ("status", "ename", "evalue")}
        seen = f"{self.stdout}\n{self.stderr}\n{self.error}"
        return f"{reply}, idle={self.idle}\n{seen[-3000:]}"

    def _streamed(self, name: str) -> str:
        return "".join(part["text"] for part in self.of_type("stream") if part["name"] == name)


class KernelHost:
    """A kernel's process as a notebook server would start it, and a front end for it.

    The front end is single-threaded: messages are read while ``run``, ``wait`` or ``wait_for``
    wait, sorted by the request they belong to, and none is ever dropped.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        *,
        python: Path | None = None,
        module: str = "ipykernel_launcher",
        env: dict[str, str] | None = None,
    ) -> None:
        """Start the kernel and wait until it answers and its output arrives.

        ``python`` is another environment's interpreter, such as the floor's; ``module`` starts a
        kernel of another make.
        """
        self.strays: list[RawMessage] = []  # iopub messages that belong to no request of ours
        self._runs: dict[str, CellRun] = {}
        name = str(uuid.uuid4())
        self.connection_file = sandbox.runtime / f"kernel-{name}.json"
        ipykernel = module == "ipykernel_launcher"
        write_info(self.connection_file, tcp_info() if ipykernel else chosen_info())
        with ExitStack() as stack:
            stack.callback(self.connection_file.unlink, missing_ok=True)
            argv = [str(python or sys.executable), "-m", module]
            self.process = stack.enter_context(
                Process(
                    [*argv, "-f", str(self.connection_file)],
                    # So that it ends with us, as with a server: ipykernel watches its parent.
                    env=sandbox.environment(JPY_PARENT_PID=str(os.getpid()), **(env or {})),
                    cwd=sandbox.work,
                    log=sandbox.work / f"host-{name}.log",
                )
            )
            self.info = wait_until(
                self._ports, what=lambda: f"the host has ports\n{self.process.output}"
            )
            self.client: BlockingKernelClient = stack.enter_context(
                connected(self.info, "shell", "iopub", "stdin", "control")
            )
            self._sockets = {
                self._socket(channel): channel for channel in CHANNELS if channel != "hb"
            }
            self._greet()
            self._close = stack.pop_all().close

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        """What the process has printed on its own stdout and stderr, past the notebook."""
        return self.process.output

    def run(
        self,
        code: str,
        *,
        allow_stdin: bool = False,
        on_input: OnInput | None = None,
        timeout: float | Deadline = PATIENCE,
    ) -> CellRun:
        """Run a cell and wait for its end. A failed cell is returned as well: see ``ok()``."""
        return self.start(code, allow_stdin=allow_stdin, on_input=on_input).wait(timeout)

    def start(
        self, code: str, *, allow_stdin: bool = False, on_input: OnInput | None = None
    ) -> CellRun:
        """Send a cell and return at once. ``on_input`` implies ``allow_stdin``.

        Without ``on_input`` questions are recorded in ``inputs`` and await ``type_line``.
        """
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": allow_stdin or on_input is not None,
            "stop_on_error": True,
        }
        return self.send("execute_request", content, on_input=on_input)

    def interrupt(self) -> None:
        """Press the notebook's stop button: SIGINT to the kernel's process group."""
        self.process.send_group(signal.SIGINT)

    def type_line(self, text: str) -> None:
        """Answer the question that a cell has asked."""
        self.client.input(text)

    def send(
        self,
        msg_type: str,
        content: dict[str, Any],
        *,
        channel: str = "shell",
        metadata: dict[str, Any] | None = None,
        buffers: Sequence[bytes] = (),
        subshell: str | None = None,
        on_input: OnInput | None = None,
    ) -> CellRun:
        """Send any message, as a front end's extension could: ``comm_msg``, ``complete_request``.

        Comm messages have no reply: wait for them with ``wait_for(lambda: run.idle)``.
        """
        session = self.client.session
        message = session.msg(msg_type, content, metadata=metadata)
        if subshell is not None:
            message["header"]["subshell_id"] = subshell
        run = self._runs[message["header"]["msg_id"]] = CellRun(
            self, message["header"]["msg_id"], on_input
        )
        session.send(self._socket(channel), message, buffers=list(buffers))
        return run

    def ask(
        self, msg_type: str, content: dict[str, Any] | None = None, *, channel: str = "shell"
    ) -> dict[str, Any]:
        """Send any request and return its reply's content."""
        return self.send(msg_type, content or {}, channel=channel).wait().reply

    def complete(self, code: str, position: int | None = None) -> dict[str, Any]:
        """Press Tab at this position, by default the end."""
        position = len(code) if position is None else position
        return self.ask("complete_request", {"code": code, "cursor_pos": position})

    def inspect(self, code: str, position: int | None = None, *, detail: int = 0) -> dict[str, Any]:
        """Press Shift-Tab at this position, by default the end."""
        position = len(code) if position is None else position
        content = {"code": code, "cursor_pos": position, "detail_level": detail}
        return self.ask("inspect_request", content)

    def wait_for(
        self,
        condition: Callable[[], object],
        timeout: float | Deadline = PATIENCE,
        *,
        what: str | Callable[[], str] = "the condition",
    ) -> None:
        """Go on reading until something is true, such as late output of an old cell.

        Raises:
            TimeoutError: it did not become true.
            RuntimeError: the host's process has ended, and all it had sent has been read.
        """
        deadline = as_deadline(timeout)
        while not condition():
            # A dead kernel's last messages may still be on their way: read first, then judge.
            dead = not self.process.alive
            if self._read(min(0.1, deadline.left)):
                continue
            if dead:
                self._check_alive()
            if deadline.passed:
                name = what() if callable(what) else what
                raise TimeoutError(f"not within {deadline.seconds:g} s: {name}")

    def close(self) -> None:
        """End the kernel's process, close the sockets, remove the file; idempotent."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _socket(self, channel: str) -> "zmq.Socket[bytes]":
        socket: zmq.Socket[bytes] | None = getattr(self.client, f"{channel}_channel").socket
        if socket is None:
            raise RuntimeError("the host is closed")
        return socket

    def _ports(self) -> Info | None:
        self._check_alive()
        return read_info(self.connection_file)

    def _check_alive(self) -> None:
        if not self.process.alive:
            raise RuntimeError(f"the host's process has ended:\n{self.log[-2000:]}")

    def _greet(self) -> None:
        """Ask who it is until output arrives: the subscription takes effect some time later."""
        deadline = Deadline()
        while not self._heard(deadline):
            if deadline.passed:
                raise TimeoutError(f"the host's output does not arrive\n{self.log[-2000:]}")
        self._runs.clear()

    def _heard(self, deadline: Deadline) -> bool:
        asked = self.send("kernel_info_request", {})
        self.wait_for(lambda: asked.reply_message, deadline, what="the host answers")
        # A moment's grace for iopub, not more: what was said before we subscribed never comes.
        with suppress(TimeoutError):
            self.wait_for(lambda: asked.idle, min(0.1, deadline.left))
        return asked.idle

    def _read(self, timeout: float) -> bool:
        """Read what is there; wait for something up to ``timeout`` seconds. False: nothing."""
        poller = zmq.Poller()
        for socket in self._sockets:
            poller.register(socket, zmq.POLLIN)
        anything = False
        for _ in range(BATCH):
            ready = dict(poller.poll(0 if anything else int(timeout * 1000)))
            for socket in ready:
                channel = self._sockets[socket]
                message = getattr(self.client, f"{channel}_channel").get_msg(timeout=0)
                self._take(channel, message)
            if not ready:
                break
            anything = True
        return anything

    def _take(self, channel: str, message: RawMessage) -> None:
        parent = message["parent_header"] or {}  # xeus welcomes with null
        run = self._runs.get(parent.get("msg_id", ""))
        if run is None:
            self.strays.append(message)
        elif channel == "iopub":
            run.messages.append(message)
            state = message["content"].get("execution_state")
            run.idle = run.idle or (message["msg_type"] == "status" and state == "idle")
        elif channel == "stdin":
            prompt, password = message["content"]["prompt"], message["content"]["password"]
            run.inputs.append((prompt, password))
            if run.on_input is not None:
                self.type_line(run.on_input(prompt, password))
        else:
            run.reply_message = message
