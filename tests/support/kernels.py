"""Real kernels, started by hand as a person would: no manager, only a process and its file."""

import ast
import shutil
import signal
import socket
import sys
import uuid
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty
from types import TracebackType
from typing import Any, Literal, Self, cast

import psutil
import zmq
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.connect import KernelConnectionInfo

from tests.support import languages
from tests.support.connection import (
    CHANNELS,
    Info,
    chosen_info,
    curve_info,
    ipc_info,
    read_info,
    tcp_info,
    write_info,
)
from tests.support.parts import floor_python
from tests.support.processes import Process
from tests.support.sandbox import Sandbox
from tests.support.waiting import PATIENCE, Deadline, as_deadline, wait_until

Kind = Literal[
    *["tcp", "ipc", "curve", "floor", "echo"],
    *["bash", "deno", "gnuplot", "ir", "jslab", "octave", "scheme", "xpython"],
]
"""ipykernel on three transports; the oldest ipykernel; our own ``echo``; those of ``languages``."""


class HandKernel:
    """One kernel process and its connection file; ``close()`` ends and removes both."""

    def __init__(
        self,
        kind: Kind,
        sandbox: Sandbox,
        *,
        name: str | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start the process and return at once: ``wait_until_listening`` is the next step.

        ``name`` is what follows ``kernel-`` in the name of the file, else something unique.
        """
        self.kind, self.name = kind, name or str(uuid.uuid4())
        self.connection_file = sandbox.runtime / f"kernel-{self.name}.json"
        self._socket_folder = sandbox.root / f"s{uuid.uuid4().hex[:8]}"
        self._info = self._new_info()
        write_info(self.connection_file, self._info)
        self._cwd = cwd or languages.folder(kind) or sandbox.work
        self._log = sandbox.work / f"{self.name}.log"
        self._env = sandbox.environment(**languages.environment(kind, sandbox), **(env or {}))
        self._scratch = sandbox.work
        self.process = self._launch()

    @classmethod
    def start(
        cls,
        kind: Kind,
        sandbox: Sandbox,
        *,
        name: str | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = PATIENCE,
    ) -> Self:
        """Start a kernel and wait until it listens."""
        kernel = cls(kind, sandbox, name=name, cwd=cwd, env=env)
        try:
            kernel.wait_until_listening(timeout)
        except BaseException:
            kernel.close()
            raise
        return kernel

    @property
    def info(self) -> Info:
        """The content of the connection file."""
        return self._info

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        """What the process has printed itself, on its own stdout and stderr."""
        return self.process.output

    def wait_until_listening(self, timeout: float | Deadline = PATIENCE) -> None:
        """Wait until all five channels accept connections. It may still be busy starting.

        Raises:
            RuntimeError: the process has ended instead.
        """

        def listening() -> bool:
            if not self.process.alive:
                raise RuntimeError(f"the {self.kind} kernel ended at once:\n{self.log[-2000:]}")
            info = read_info(self.connection_file)
            if info is None or not _wanted(info) <= _listening(self.pid):
                return False
            self._info = info
            return True

        wait_until(listening, timeout, what=lambda: f"{self.kind} listens\n{self.log[-2000:]}")

    # Looking inside, past everything under test.

    def ask(self, code: str = "", /, *, timeout: float = PATIENCE, **expressions: str) -> Info:
        """Run code silently from outside and return the reply's content.

        A client of its own, on the shell channel only: it subscribes to nothing, so it does not
        take the ``iopub_welcome`` that only a topic's first subscriber gets. Nothing is counted
        or stored. ``expressions`` are evaluated afterwards, see ``user_expressions`` in the reply.

        Raises:
            TimeoutError: no reply, as when the kernel is busy.
            RuntimeError: the kernel's process has ended.
        """
        with connected(self.info, "shell") as client:
            request = client.execute(
                code, silent=True, store_history=False, user_expressions=expressions,
                allow_stdin=False, stop_on_error=False,
            )  # fmt: skip
            return self._reply(client, request, as_deadline(timeout))

    def value(self, expression: str, *, timeout: float = PATIENCE) -> Any:
        """What an expression is worth in there: a literal, parsed (bash: its text)."""
        if self.kind == "bash":
            target = self._scratch / f"value-{uuid.uuid4().hex}"
            self.ask(f"printf %s {expression} > {target}", timeout=timeout)
            text = target.read_text()
            target.unlink()
            return text
        reply = self.ask(timeout=timeout, value=expression)
        answer = reply.get("user_expressions", {}).get("value", reply)
        if answer["status"] != "ok":
            raise RuntimeError(
                f"{expression}: {answer['status']} {answer.get('ename')}: {answer.get('evalue')}"
            )
        return ast.literal_eval(answer["data"]["text/plain"])

    @contextmanager
    def busy(self, *, spin: bool = False) -> Generator[None]:
        """Somebody else's cell runs in there until the block ends; ``spin`` uses a whole core.

        The block begins when the cell has begun. Dying or an interrupt inside are fine.
        """
        begun, finish = (self._scratch / f"{word}-{uuid.uuid4().hex}" for word in ("begun", "end"))
        if self.kind == "bash":
            pause = ":" if spin else "sleep 0.01"
            code = f"touch {begun}; until [ -e {finish} ]; do {pause}; done"
        else:
            pause = "pass" if spin else "__import__('time').sleep(0.01)"
            code = (
                f"__import__('pathlib').Path({str(begun)!r}).touch()\n"
                f"while not __import__('os').path.exists({str(finish)!r}): {pause}"
            )
        with connected(self.info, "shell") as client:
            # stop_on_error would let an interrupt of this cell abort everybody's waiting ones.
            request = client.execute(
                code, store_history=False, allow_stdin=False, stop_on_error=False
            )
            wait_until(begun.exists, what="the occupying cell has begun")
            try:
                yield
            finally:
                finish.touch()
                if self.process.alive:
                    self._reply(client, request, Deadline())
                begun.unlink()
                finish.unlink()

    # Making trouble.

    def interrupt(self) -> None:
        """Send SIGINT, as Ctrl-C in its terminal would."""
        self.process.send_group(signal.SIGINT)

    def kill(self) -> None:
        """End it by SIGKILL; the connection file stays behind, as in life."""
        self.process.send(signal.SIGKILL)
        self.process.wait()

    @contextmanager
    def stopped(self) -> Generator[None]:
        """Stop the process by SIGSTOP meanwhile."""
        self.process.send(signal.SIGSTOP)
        try:
            yield
        finally:
            if self.process.alive:
                self.process.send(signal.SIGCONT)

    def restart_behind_same_ports(self, timeout: float = PATIENCE) -> None:
        """Kill it and start another process on the same file; return when that one listens."""
        self.process.close()
        self.process = self._launch()
        self.wait_until_listening(timeout)

    def close(self) -> None:
        """End the process and remove its file and sockets; idempotent."""
        self.process.close()
        self.connection_file.unlink(missing_ok=True)
        shutil.rmtree(self._socket_folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _new_info(self) -> Info:
        match self.kind:
            case "ipc":
                self._socket_folder.mkdir(mode=0o700)
                return ipc_info(self._socket_folder)
            case "curve":
                return curve_info()
            case "deno" | "ir" | "jslab" | "xpython":  # which do not write what they choose
                return chosen_info()
            case _:
                return tcp_info()

    def _launch(self) -> Process:
        python, module = sys.executable, "ipykernel_launcher"
        match self.kind:
            case "tcp" | "ipc" | "curve":
                argv = [python, "-m", module, "-f", languages.FILE]
            case "floor":
                argv = [str(floor_python()), "-m", module, "-f", languages.FILE]
            case "echo":
                argv = [python, "-m", "tests.support.echo", "-f", languages.FILE]
            case language:
                argv = languages.command(language)
        argv = [word.replace(languages.FILE, str(self.connection_file)) for word in argv]
        return Process(argv, env=self._env, cwd=self._cwd, log=self._log)

    def _reply(self, client: BlockingKernelClient, request: str, deadline: Deadline) -> Info:
        while not deadline.passed:
            with suppress(Empty):
                # In slices, for a look at the process: a dead kernel never answers.
                message = client.shell_channel.get_msg(timeout=min(0.2, deadline.left))
                if message["parent_header"].get("msg_id") == request:
                    content: Info = message["content"]
                    return content
            if not self.process.alive:
                raise RuntimeError(f"the {self.kind} kernel has ended:\n{self.log[-2000:]}")
        raise TimeoutError(f"no reply of the {self.kind} kernel within {deadline.seconds:g} s")


@contextmanager
def connected(info: Info, *channels: str) -> Generator[BlockingKernelClient]:
    """A client of jupyter_client's, on these channels only; nothing is lost, nothing is left."""
    context = zmq.Context()
    context.rcvhwm = 0  # for its sockets: the default would drop what nobody reads for a while
    client = BlockingKernelClient(context=context)
    try:
        client.load_connection_info(cast(KernelConnectionInfo, info))
        client.start_channels(**{channel: channel in channels for channel in CHANNELS})
        yield client
    finally:
        if "hb" in channels:
            client.hb_channel.stop()  # a thread
        # Not stop_channels(): it would first open those that were not wanted.
        context.destroy(linger=0)


def _listening(pid: int) -> set[str]:
    """The ports and socket files that a process listens on.

    Looked up and not tried: connecting to a loopback port that nobody listens on yet may
    connect to itself, which would look like success and keep the kernel from binding it.
    """
    found = psutil.Process(pid).net_connections("all")
    tcp = {str(one.laddr.port) for one in found if one.status == psutil.CONN_LISTEN}
    unix = {str(one.laddr) for one in found if one.family == socket.AF_UNIX}
    return tcp | unix


def _wanted(info: Info) -> set[str]:
    ports = [str(info[f"{channel}_port"]) for channel in CHANNELS]
    return set(ports) if info["transport"] == "tcp" else {f"{info['ip']}-{port}" for port in ports}
