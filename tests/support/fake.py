"""A kernel that follows a script: for every fault that real kernels only have now and then.

It runs in a thread of the test process. The script decides what is sent for each request:

- a sequence of steps (see ``steps``) is what happens on ``execute_request``;
- a mapping gives such sequences by message type;
- a function ``script(kernel, request)`` decides everything; ``kernel.answer(request)`` is polite.

What the script leaves open is answered as by ``echo``: at once, without output. An empty
sequence leaves nothing open: such a request gets no answer at all.
"""

import queue
import shutil
import socket
import threading
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import zmq

from tests.support.connection import curve_info, ipc_info, tcp_info, write_info
from tests.support.echo import Speaker, answer
from tests.support.sockets import KINDS, KernelSockets
from tests.support.waiting import PATIENCE, wait_until
from tests.support.wire import BadFrames, Message

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """One message from a client, and the channel it came on."""

    channel: str
    message: Message

    @property
    def type(self) -> str:
        return self.message.type

    @property
    def id(self) -> str:
        return self.message.id

    @property
    def content(self) -> dict[str, Any]:
        return self.message.content


Step = Callable[["FakeKernel", Request], object]
"""Something that the kernel does for a request; what it returns is of no interest."""

Script = Step | Sequence[Step] | Mapping[str, Sequence[Step]]


class FakeKernel(Speaker):
    """A kernel in a thread. Steps and scripts run on that thread, which owns the sockets.

    From the test's thread use ``do``, ``wait_for``, ``frozen``, ``requests`` and ``close``.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        folder: Path,
        transport: Literal["tcp", "ipc", "curve"] = "tcp",
        welcome: bool = True,
        heartbeat: bool = True,
    ) -> None:
        """Bind, write the connection file into ``folder`` and begin to answer.

        ``welcome`` and ``heartbeat`` are what some kernels lack: ``iopub_welcome`` and echoes.
        """
        self._script, self.welcomes, self.beats = _as_function(script), welcome, heartbeat
        name = f"kernel-{uuid.uuid4()}"
        self._socket_folder = folder / name[:16]  # short: socket names have 107 bytes
        match transport:
            case "tcp":
                self.info = tcp_info()
            case "curve":
                self.info = curve_info()
            case "ipc":
                self._socket_folder.mkdir(mode=0o700)
                self.info = ipc_info(self._socket_folder)
        super().__init__(KernelSockets(self.info))
        self.connection_file = folder / f"{name}.json"
        write_info(self.connection_file, self.info)

        self.requests: list[Request] = []  # all that arrived, also on stdin; signed correctly
        self.rejected: list[str] = []  # why other frames were thrown away
        self.subscriptions: list[bytes] = []
        self._awaited: dict[str, list[tuple[Request, Sequence[Step]]]] = {}
        self._work: queue.SimpleQueue[tuple[Callable[[], object], Future[Any]] | None]
        self._work = queue.SimpleQueue()
        self._wake, self._woken = socket.socketpair()
        self._failure: BaseException | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="fake-kernel", daemon=True)
        self._thread.start()

    # What scripts and steps use, on the kernel's own thread.

    def answer(self, request: Request) -> None:
        """Answer politely, as ``echo`` does."""
        if request.type == "shutdown_request":
            # As ipykernel: other clients learn of it on iopub.
            self.publish("shutdown_reply", {**request.content}, parent=request.message)
        answer(self, request.message, request.channel)

    def play(self, steps: Sequence[Step], request: Request) -> None:
        """Do these steps, in order."""
        for step in steps:
            step(self, request)

    def when(self, msg_type: str, steps: Sequence[Step], request: Request) -> None:
        """Play steps for ``request``, once, when a message of this type arrives.

        That message is then dealt with by the script as well.
        """
        self._awaited.setdefault(msg_type, []).append((request, steps))

    def ask_input(self, request: Request, prompt: str, *, password: bool = False) -> list[bytes]:
        """Ask the sender of ``request`` for a line; the answer is a message of its own."""
        content = {"prompt": prompt, "password": password}
        return self.reply(request.message, content, channel="stdin", msg_type="input_request")

    def restart(self) -> None:
        """Be another process behind the same ports: all connections cut, a new session."""
        for channel in KINDS:
            self.sockets.unbind(channel)
        self.session = str(uuid.uuid4())
        self.execution_count = 0
        self._awaited.clear()
        for channel in KINDS:
            self.sockets.bind(channel)
        self.status("starting")

    # What the test uses, from its own thread.

    def follow(self, script: Script | None) -> None:
        """Behave like this from the next request on."""
        self._script = _as_function(script)

    def do(self, action: Callable[["FakeKernel"], T], timeout: float = PATIENCE) -> T:
        """Do something on the kernel's thread, between two requests, and return its result.

        Raises:
            RuntimeError: that thread has ended; ``close`` tells why.
        """
        return self._result(self._order(lambda: action(self)), timeout)

    def wait_for(self, msg_type: str, number: int = 1, timeout: float = PATIENCE) -> Request:
        """Wait until that many requests of this type have arrived; return the last of them."""

        def arrived() -> list[Request]:
            return [request for request in list(self.requests) if request.type == msg_type]

        wait_until(
            lambda: len(arrived()) >= number,
            timeout,
            what=lambda: f"{number} of {msg_type}; {[request.type for request in self.requests]}",
        )
        return arrived()[number - 1]

    @contextmanager
    def frozen(self) -> Generator[None]:
        """Read and answer nothing meanwhile, not even heartbeats, as after SIGSTOP."""
        asleep, wake = threading.Event(), threading.Event()

        def sleep() -> None:
            asleep.set()
            wake.wait(PATIENCE)

        done = self._order(sleep)
        wait_until(asleep.is_set, what="the fake kernel's thread sleeps")
        try:
            yield
        finally:
            wake.set()
            self._result(done, PATIENCE)

    def close(self) -> None:
        """End the thread, close the sockets, remove the connection file; idempotent.

        Raises:
            Exception: what a script raised on the kernel's thread, where nobody saw it.
        """
        if self._closed:
            return
        self._closed = True
        self._work.put(None)
        self._wake.send(b"!")
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            raise TimeoutError("a script holds the fake kernel's thread")
        self._wake.close()
        self._woken.close()
        self.connection_file.unlink(missing_ok=True)
        shutil.rmtree(self._socket_folder, ignore_errors=True)
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _order(self, action: Callable[[], T]) -> Future[T]:
        """Hand work to the kernel's thread and wake it."""
        done: Future[T] = Future()
        self._work.put((action, done))
        self._wake.send(b"!")
        return done

    def _result(self, done: Future[T], timeout: float) -> T:
        wait_until(
            lambda: done.done() or not self._thread.is_alive(),
            timeout,
            what="the fake kernel's thread has done what it was told",
        )
        if not done.done():
            raise RuntimeError("the fake kernel's thread has ended")
        return done.result()

    # The kernel's thread.

    def _run(self) -> None:
        try:
            while self._serve():
                pass
        except BaseException as error:  # handed over to close(), in the test's thread
            self._failure = error
        finally:
            self.sockets.close()

    def _serve(self) -> bool:
        """Wait for anything and deal with it; False once the kernel is to end."""
        # Made anew each time: steps may close channels and open them again.
        poller = zmq.Poller()
        woken = self._woken.fileno()
        poller.register(woken, zmq.POLLIN)
        channels = self.sockets.channels
        for zmq_socket in channels:
            poller.register(zmq_socket, zmq.POLLIN)
        for ready, _ in poller.poll():
            if ready == woken:
                self._woken.recv(1)
                if not self._work_once():
                    return False
            elif (name := channels.get(ready)) and self.sockets.get(name) is ready:
                # Looked up again: a step may just have closed it.
                self._receive(name)
        return True

    def _work_once(self) -> bool:
        match self._work.get():
            case None:
                return False
            case action, result:
                try:
                    result.set_result(action())
                except BaseException as error:  # belongs to the caller of do()
                    result.set_exception(error)
        return True

    def _receive(self, channel: str) -> None:
        match channel:
            case "hb" if self.beats:
                self.sockets.echo_heartbeat()
            case "hb":
                self.sockets["hb"].recv_multipart()
            case "iopub":
                self._greet()
            case _:
                try:
                    message = self.sockets.receive(channel)
                except BadFrames as error:
                    self.rejected.append(str(error))
                else:
                    self._handle(Request(channel, message))

    def _greet(self) -> None:
        topic = self.sockets.receive_subscription()
        if topic is not None:
            self.subscriptions.append(topic)
            if self.welcomes:
                self.sockets.welcome(topic, self.session)

    def _handle(self, request: Request) -> None:
        self.requests.append(request)
        for asked, steps in self._awaited.pop(request.type, []):
            self.play(steps, asked)
        if request.type != "input_reply":  # which is an answer itself
            self._script(self, request)


def _as_function(script: Script | None) -> Step:
    """All kinds of script as the one that decides for every request."""
    if callable(script):
        return script
    if isinstance(script, Mapping):
        by_type = script
    else:
        by_type = {} if script is None else {"execute_request": script}

    def play(kernel: FakeKernel, request: Request) -> None:
        if request.type in by_type:
            kernel.play(by_type[request.type], request)
        else:
            kernel.answer(request)

    return play
