"""One attached kernel, as anybody may use it from any thread.

What it is and does between those calls is `life.Life`'s, on the reactor's thread; these methods
hand their work over."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from concurrent.futures import Future, InvalidStateError
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack, overload

from ..connect.info import ConnectionInfo
from ..connect.launch import Owned
from ..connect.processes import own_process
from ..connect.uninterrupted import interruptible
from ..errors import (
    Closed,
    KernelDied,
    KernelMagicsError,
    KernelUnreachable,
    NotOwned,
)
from ..protocol.answers import (
    Completeness,
    Completion,
    Inspection,
    completeness_of,
    completion_of,
    inspection_of,
)
from ..protocol.execution import Check
from ..protocol.health import LOST_GRACE, Finding
from ..protocol.message import Message, Part, Session
from ..wire.reactor import Reactor
from .callbacks import Callback, Event
from .comms import Comm, Listener, Router
from .ctrl_c import CtrlC
from .descriptors import reserve_descriptors
from .events import Ask, Show, Sink
from .execution import Execution
from .life import ATTACH_PATIENCE, KernelState, Life
from .link import LinkState, Way
from .options import CellOptions
from .requests import AskedOn
from .result import Result
from .usage import PATIENCE as USAGE_PATIENCE
from .usage import Usage, usages_of

if TYPE_CHECKING:
    from ..connect.client import BlockingKernelClient
    from .values import Progress

log = logging.getLogger("kernel_magics")

SHUTDOWN_PATIENCE = 5.0
"""Seconds for a kernel to end that was asked to."""

ANSWER_PATIENCE = 0.5
"""Seconds that somebody waits at a prompt for a completion or for help."""

LEAVING_PATIENCE = 0.5
"""Seconds for a kernel to delete subshells that we made."""

WATCHING = 0.02
"""Seconds between looks at what becomes of an interrupt."""

HEARING_PATIENCE = 2.0
"""Seconds that a new client waits until it hears the kernel: some say nothing while they are
busy."""


class Kernel:
    """A kernel we hold. Made by :class:`~kernel_magics.kernels.pool.KernelPool`.

    ``owned`` is the process behind it if we started it, else None: then it is somebody else's, and
    detaching leaves it running.
    """

    def __init__(
        self,
        name: str,
        reactor: Reactor,
        info: ConnectionInfo,
        owned: Owned | None = None,
        way: Way | None = None,
        forget: Callable[[Kernel], None] = lambda _: None,
    ) -> None:
        self.name = name
        self.info = info
        self.owned = owned
        self.way = way
        """What it is reached through; None when nothing lies between."""
        self.trust = owned is not None
        """What comes from it may be unpickled, which runs code; see :mod:`.values.trust`."""
        self.reactor = reactor
        self._forget = forget  # in the pool
        self._session = Session()
        self._looked_up: tuple[dict[str, Any], int | None] = {}, None
        self._life = Life(name, reactor, info, self._session, owned, way)

    def __repr__(self) -> str:
        return f"<Kernel {self.name} {self.state.value}>"

    # What anybody may ask, from any thread.

    @property
    def state(self) -> KernelState:
        """What is known of it now."""
        return self._life.state

    @property
    def kernel_info(self) -> dict[str, Any]:
        """The content of its ``kernel_info_reply``; empty until it answered."""
        return self._life.kernel_info

    @property
    def pid(self) -> int | None:
        """Its process on its own machine; None when it was not told, see :meth:`look_up_pid`."""
        return self.local_pid or self._life.pid

    @property
    def local_pid(self) -> int | None:
        """Its process if that is on this machine, and ours or this user's; None when that is not
        so, or cannot be seen.

        Is looked up at first, which takes 10 ms, and once more whenever it has connected anew.
        """
        if self.way is not None:
            return None
        if self.owned is not None:
            return self._life.pid
        about, found = self._looked_up
        if about is not self.kernel_info:  # which is made anew with each connection
            found = own_process(self.info, self._life.pid)
            self._looked_up = self.kernel_info, found
        return found

    @property
    def finding(self) -> Finding | None:
        """Why it is dead; None while it is not."""
        return self._life.finding

    @property
    def alive(self) -> bool:
        """It has not died and we have not let go of it."""
        return self.state not in (KernelState.DEAD, KernelState.DETACHED)

    @property
    def language(self) -> str:
        """The name of its language; empty until it answered."""
        about = self.kernel_info.get("language_info")
        return str(about.get("name", "")) if isinstance(about, dict) else ""

    @property
    def encrypted(self) -> bool:
        """Nobody else can read along."""
        return self._life.link.encrypted

    @property
    def running(self) -> Execution | None:
        """The cell of ours that runs there now; None when none of ours does."""
        return self._life.cells.running

    @property
    def queued(self) -> int:
        """How many cells of ours wait here for their turn."""
        return len(self._life.cells.queue)

    def connect(self, patience: float = ATTACH_PATIENCE, *, retry: bool = False) -> None:
        """Connect and wait for the proof.

        A kernel that is connected but silent (busy, and mute on control) counts as attached; cells
        wait here until it answers.

        Raises:
            KernelUnreachable, AuthenticationError: nobody there, or not the kernel of the file.
            KernelDied: a process of ours ended while starting.
        """
        answer = self.reactor.ask(partial(self._life.open, patience, retry))
        with interruptible():
            answer.result()

    def submit(
        self, code: str, sink: Sink | None = None, **options: Unpack[CellOptions]
    ) -> Execution:
        """Start a cell and return it at once; its outputs go to ``sink``, or to who waits for it.

        Raises:
            ProtocolError: the code cannot be put into a message.
            Closed: the pool was closed.
        """
        execution = self.prepare(code, sink, **options)
        try:
            self.reactor.run_or_post(partial(self.begin, execution))
        except Closed:
            raise
        except BaseException:
            self.reactor.post(partial(self.torn, execution))
            raise
        return execution

    # For a group, which sends to all its kernels in one go.

    def prepare(
        self, code: str, sink: Sink | None = None, **options: Unpack[CellOptions]
    ) -> Execution:
        """Make a cell that is not sent yet; see :meth:`submit`.

        ``stop_on_error`` is never set: it would abort the queued cells of everybody else on this
        kernel.
        """
        content = {
            "code": code,
            "silent": options.get("silent", False),
            "store_history": options.get("store_history", True),
            "user_expressions": options.get("user_expressions") or {},
            "allow_stdin": options.get("allow_stdin", False),
            "stop_on_error": False,
        }
        metadata = options.get("metadata")
        request = self._session.message("execute_request", content, metadata=metadata)
        subshell = options.get("subshell", False)
        if isinstance(subshell, str):
            request = request.to_subshell(subshell)
        return Execution(self.name, request, self, sink, self.reactor.now, options)

    def begin(self, execution: Execution) -> None:
        """Send a prepared cell; on the reactor's thread."""
        self._life.start(execution)

    def torn(self, execution: Execution) -> None:
        """It may have been sent in part; on the reactor's thread."""
        self._life.torn(execution)

    def run(
        self,
        code: str,
        *,
        sink: Sink | None = None,
        show: Show | None = None,
        ask: Ask | None = None,
        login: Ask | None = None,
        timeout: float | None = None,
        raise_error: bool = True,
        begun: Callable[[Execution], None] | None = None,
        **options: Any,
    ) -> Result:
        """Run a cell and wait for its end; see :meth:`submit` and :meth:`Execution.wait`.

        ``begun`` is called with the execution once it is on its way.
        """
        with CtrlC() as ctrl_c:  # before it is sent: an interrupt in between must not be lost
            execution = self.submit(code, sink, allow_stdin=ask is not None, **options)
            if begun is not None:
                begun(execution)
            return execution.wait(
                show=show,
                ask=ask,
                login=login,
                timeout=timeout,
                raise_error=raise_error,
                ctrl_c=ctrl_c,
            )

    def request(
        self,
        channel: AskedOn,
        msg_type: str,
        content: dict[str, Any] | None = None,
        *,
        timeout: float,
    ) -> Message | None:
        """Send any other request and return its reply; None when none came within ``timeout``
        seconds.

        Raises:
            KernelGone: the kernel ended first.
        """
        answer = self.ask(channel, msg_type, content)
        try:
            return answer.result(timeout)
        except TimeoutError:
            return None
        finally:
            answer.cancel()

    def ask(
        self, channel: AskedOn, msg_type: str, content: dict[str, Any] | None = None
    ) -> Future[Message]:
        """Send any other request and return at once what its reply will be in.

        The future gets :class:`KernelGone` when the kernel ends first. Who does not want to know
        any more cancels it.
        """
        return self._ask_behind(None, channel, msg_type, content)

    def _ask_behind(
        self,
        first: Callable[[], None] | None,
        channel: AskedOn,
        msg_type: str,
        content: dict[str, Any] | None = None,
    ) -> Future[Message]:
        """Ask right behind what ``first`` does on the reactor's thread: nothing that the kernel
        does about that comes between the two."""
        life = self._life
        answer: Future[Message] = Future()
        message = self._session.message(msg_type, content or {})

        def send() -> None:
            if first is not None:
                first()
            if life.link.state is LinkState.UP:
                life.requests.send(channel, message, replied, failed)
            else:
                failed(life.unavailable())

        def replied(reply: Message) -> None:
            with contextlib.suppress(InvalidStateError):  # cancelled
                answer.set_result(reply)

        def failed(error: KernelMagicsError) -> None:
            with contextlib.suppress(InvalidStateError):
                answer.set_exception(error)

        def forget(answer: Future[Message]) -> None:
            if answer.cancelled():
                with contextlib.suppress(Closed):
                    self.reactor.post(partial(life.requests.forget, message.msg_id))

        answer.add_done_callback(forget)
        self.reactor.post(send)
        return answer

    def push(
        self,
        values: Mapping[str, Any],
        *,
        source: Kernel | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Set variables there: all of them, or none; see :func:`.values.push`.

        With ``source``, another kernel, the values are expressions that are evaluated there, and
        what they give goes straight on.

        Raises:
            TransferError: with the name of the value and the reason.
        """
        from . import values as transfer

        transfer.push(self, values, source, progress)

    @overload
    def pull(self, what: str, *, progress: Progress | None = None) -> Any: ...
    @overload
    def pull(self, what: Sequence[str], *, progress: Progress | None = None) -> list[Any]: ...
    def pull(self, what: str | Sequence[str], *, progress: Progress | None = None) -> Any:
        """Return what a variable or an expression is worth there; of several, a list.

        Raises:
            TransferError: with the name of the value and the reason.
        """
        from . import values as transfer

        if isinstance(what, str):
            return transfer.pull(self, [what], progress)[0]
        return transfer.pull(self, list(what), progress)

    def open_comm(self, comm_id: str, target: str, listener: Listener) -> Comm:
        """Open a comm to a target there; what comes for it goes to ``listener`` alone."""
        life = self._life
        comm = Comm(comm_id, self._session, self._send_soon)

        def add() -> None:
            if life.link.state is LinkState.UP:
                life.comms.add(comm_id, listener)
            else:
                listener.failed(life.unavailable())

        self.reactor.post(add)
        comm.open(target)
        return comm

    def forget_comm(self, comm: Comm) -> None:
        """Listen to it no longer."""
        with contextlib.suppress(Closed):
            self.reactor.post(partial(self._life.comms.forget, comm.id))

    def route_comms(self, router: Router | None) -> None:
        """Have ``router`` pass on what comes on the comms of its cells, from now on; None: nobody.

        On the reactor's thread.
        """
        self._life.comms.router = router

    def forward(
        self,
        msg_type: str,
        content: Mapping[str, Any],
        sink: Sink,
        *,
        metadata: Mapping[str, Any] | None = None,
        buffers: Sequence[Part] = (),
        beside: bool = False,
    ) -> Future[None]:
        """Pass a comm message of a front end on, and return at once.

        What it leads to goes to ``sink``. The future has its result once the kernel is through
        with it, or :class:`KernelMagicsError` when that will never be known. ``beside``: it may be
        handled in a subshell while a cell keeps the kernel busy.
        """
        life = self._life
        message = self._session.message(msg_type, content, metadata=metadata, buffers=buffers)
        done: Future[None] = Future()

        def send() -> None:
            if life.link.state is LinkState.UP:
                life.forwards.send(message, sink, done, beside=beside)
            else:
                done.set_exception(life.unavailable())

        self.reactor.post(send)
        return done

    def _send_soon(self, message: Message) -> None:
        self.reactor.post(partial(self._life.send_if_up, "shell", message))

    def usage(self, timeout: float = USAGE_PATIENCE) -> Usage | None:
        """Return what it uses of its machine; None when that is not known: it is elsewhere, and
        busy, or did not tell within ``timeout`` seconds."""
        return usages_of([self], timeout).get(self.name)

    def complete(
        self, code: str, cursor_pos: int | None = None, timeout: float = ANSWER_PATIENCE
    ) -> Completion | None:
        """Return what may stand at the cursor, by default at the end of the code; None when the
        kernel did not answer in time, as most do not while they are busy.

        ``cursor_pos`` counts characters.

        Raises:
            ProtocolError: the answer is nonsense.
            Closed: the pool was closed.
        """
        cursor = len(code) if cursor_pos is None else cursor_pos
        content = {"code": code, "cursor_pos": cursor}
        reply = self._ask("complete_request", content, timeout)
        return None if reply is None else completion_of(reply, code, cursor)

    def inspect(
        self,
        code: str,
        cursor_pos: int | None = None,
        detail_level: int = 0,
        timeout: float = ANSWER_PATIENCE,
    ) -> Inspection | None:
        """Return what is known of the name at the cursor; otherwise as :meth:`complete`."""
        cursor = len(code) if cursor_pos is None else cursor_pos
        content = {"code": code, "cursor_pos": cursor, "detail_level": detail_level}
        reply = self._ask("inspect_request", content, timeout)
        return None if reply is None else inspection_of(reply)

    def is_complete(self, code: str, timeout: float = ANSWER_PATIENCE) -> Completeness | None:
        """Return whether the code can be run as it is; otherwise as :meth:`complete`."""
        reply = self._ask("is_complete_request", {"code": code}, timeout)
        return None if reply is None else completeness_of(reply)

    def _ask(self, msg_type: str, content: dict[str, Any], timeout: float) -> Message | None:
        answer: Future[Message | None] = Future()
        life = self._life

        def ask() -> None:
            if life.link.state is LinkState.UP:
                life.questions.ask(msg_type, content, answer)
            else:
                answer.cancel()

        self.reactor.post(ask)
        try:
            return answer.result(timeout)
        except (TimeoutError, futures.CancelledError):
            return None
        finally:
            answer.cancel()

    def look_up_pid(self, timeout: float = 0.2) -> int | None:
        """Return its process, asking it if it is elsewhere and idle; None if it does not tell.

        Waits ``timeout`` seconds at most to learn whether it is idle, and as long for the answer.
        """
        if self.pid is None and self.kernel_info.get("implementation") == "ipython":
            idle = self.request("shell", "kernel_info_request", timeout=timeout) is not None
            reply = self.request("control", "usage_request", timeout=timeout) if idle else None
            if reply is not None:
                self._life.note_usage(reply)
        return self.pid

    def interrupt(self, execution: Execution | None = None) -> None:
        """Interrupt what runs there; returns at once, and may be called from a signal handler.

        With ``execution`` it is only taken back, if it was not sent yet.
        """
        self.reactor.post(partial(self._life.interrupt, execution))

    def interrupt_and_watch(self, timeout: float) -> None:
        """Interrupt what runs there, and return when it is known what became of that: the kernel
        does nothing any more, or has died, or is as busy as before after ``timeout`` seconds.

        Raises:
            KernelUnreachable: it was not asked, because it is out of reach.
        """
        was_busy = self.state is KernelState.BUSY
        deadline = time.monotonic() + timeout
        # Comes back when the interrupt was dealt with; not every kernel answers on control. Or as
        # an error at once if the connection closes, of which it may have died.
        channel: AskedOn = "control" if was_busy else "shell"
        answer = self._ask_behind(self._life.interrupt, channel, "kernel_info_request")
        try:
            while (now := time.monotonic()) < deadline or (
                self.state is KernelState.LOST and now < deadline + LOST_GRACE
            ):
                calm = self.state is KernelState.IDLE and (was_busy or answer.done())
                if calm or not self.alive:
                    break
                if answer.done() and isinstance(answer.exception(), KernelUnreachable):
                    answer.result()
                time.sleep(WATCHING)
        finally:
            answer.cancel()

    def take_back(self, execution: Execution) -> bool:
        """Do not send it any more, if it was not sent yet; return whether that is so."""
        return self.reactor.ask(partial(self._life.take_back, execution))

    def answer(self, value: str) -> None:
        """Answer the kernel's open prompt."""
        message = self._session.message("input_reply", {"value": value})
        self.reactor.post(partial(self._life.answer, message))

    def log_in(self, ask: Ask) -> None:
        """Have the user open the way again that broke; part of an execution's life, on the thread
        that waits for it.

        Raises:
            SshError: the user could not or would not.
        """
        if self.way is not None:
            self.way.log_in(ask)

    def give_up(self, execution: Execution) -> None:
        """Nobody opens the way for this cell; part of its life."""
        self.reactor.post(partial(self._life.give_up, execution))

    def signal(self, signum: int) -> None:
        """Send a signal to the process and to those it started.

        Raises:
            NotOwned: somebody else started it.
            KernelDied: it has ended.
            KernelMagicsError: there is no such signal.
        """
        if self.owned is None:
            raise NotOwned(self.name, "signalled")
        if not self.alive:
            raise self._life.unavailable()
        self.owned.signal(signum)

    def restart(self, *, now: bool = False) -> None:
        """Restart the process and wait until the new one is proved.

        The old one is given 5 s to end, or killed ``now``. Interrupted, this goes on by itself:
        cells wait for the new process.

        Raises:
            NotOwned: somebody else started it.
            LaunchError, KernelDied: the new process did not come up.
            Closed: we have let go of it.
        """
        if self.owned is None:
            raise NotOwned(self.name, "restarted")
        self.reactor.ask(partial(self._life.restart, self.owned, now)).result()

    def shutdown(self, *, now: bool = False) -> bool:
        """End the kernel and let go of it; return whether it has ended.

        One that we started has 5 s to end, or is killed ``now``. One that we did not start is asked
        to end, and given ``SHUTDOWN_PATIENCE`` to do so.

        Raises:
            NotOwned: somebody else started it, so that it cannot be killed.
        """
        if now and self.owned is None:
            raise NotOwned(self.name, "killed")
        self._forget(self)
        ended = True
        if self.owned is not None:
            self.reactor.ask(partial(self._life.suspend, KernelDied, "was shut down from here"))
            try:
                self.owned.shutdown(now=now)
            finally:
                self.close()
        elif self.alive:
            request = self._session.message("shutdown_request", {"restart": False})
            self.reactor.post(partial(self._life.send_if_up, "control", request))
            # Not every kernel replies (IRkernel does not), but each closes its connection.
            ended = self._life.down.wait(SHUTDOWN_PATIENCE)
        self.close()
        return ended

    def detach(self) -> None:
        """Let go of it: one that we started ends, unless it is to be kept; all others run on.

        Leaving a ``with`` block of the kernel does this. May be called twice.
        """
        self._forget(self)
        # Nothing is left to do if the pool was closed, and in a forked process it is not ours.
        with contextlib.suppress(Closed):
            if self.owned is not None and not self.owned.options.keep:
                self.shutdown()
                return
            try:
                futures.wait(self.reactor.ask(self._life.leave_subshells), LEAVING_PATIENCE)
            finally:
                self.close()
            if self.owned is not None:
                self.owned.release()

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *exc: object) -> None:
        self.detach()

    def close(self) -> None:
        """Close the connection, and that is all; its process runs on. May be called twice."""
        self.reactor.ask(self._life.close)
        if self.way is not None:
            self.way.leave(self.info)

    def add_restart_callback(self, callback: Callback, event: Event = "restart") -> None:
        """Have ``callback()`` called whenever another process answers behind this kernel's name,
        whoever restarted it; or at the event ``"dead"``, when it has died.

        Callbacks run one after another on a thread of their own, so they may do anything, also
        :meth:`restart` this kernel. What one raises is logged. A shutdown from here is no death.

        Raises:
            KernelMagicsError: there is no such event.
        """
        self._life.callbacks.add(event, callback)

    def remove_restart_callback(self, callback: Callback, event: Event = "restart") -> None:
        """Never call it again; one that was not added is fine.

        Raises:
            KernelMagicsError: there is no such event.
        """
        self._life.callbacks.remove(event, callback)

    def client(self) -> BlockingKernelClient:
        """Return a `jupyter_client` client, connected by itself, for whatever has no call here.

        Nothing that is published from now on escapes it. Who calls this ends it, by its
        ``stop_channels()``: it knows nothing of :meth:`detach`.

        Raises:
            KernelGone, KernelUnreachable: there is nobody to connect it to.
            KernelMagicsError: there are too many open files.
        """
        from ..connect.client import open_client

        if not self.alive:
            raise self._life.unavailable()
        reserve_descriptors()
        client = open_client(self.info)
        try:
            self._wait_until_heard(client)
        except BaseException:
            client.stop_channels()
            raise
        return client

    def _wait_until_heard(self, client: BlockingKernelClient) -> None:
        """Wait until its subscription is in force, told by what the kernel publishes when asked."""
        deadline = time.monotonic() + HEARING_PATIENCE
        heard = False
        while not heard and time.monotonic() < deadline:
            # Some kernels answer on shell only, and none does there while it is busy.
            channel: AskedOn = "shell" if self.state is KernelState.IDLE else "control"
            self.request(channel, "kernel_info_request", timeout=0.1)
            heard = bool(client.iopub_channel.socket.poll(10))

    def withdraw(self, execution: Execution) -> None:
        """Do not run a cell that was meant for a subshell; part of its life, from any thread."""
        self.reactor.post(partial(self._life.withdraw, execution))

    def settle(self, check: Check, execution: Execution) -> None:
        """Find out what the execution wants to know; part of its life, on the reactor's thread."""
        self._life.settle(check, execution)
