"""One attached kernel: its cells, its helper requests, its life.

All state is touched on the reactor's thread only; public methods hand their work over and may be
called from any thread. Requests are found again by the id of their parent header, never by order.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, overload

from ..connect.info import ConnectionInfo
from ..connect.launch import OwnedKernel
from ..errors import (
    Aborted,
    Closed,
    KernelDetached,
    KernelDied,
    KernelGone,
    KernelMagicsError,
    KernelRestarted,
    KernelUnreachable,
    LaunchError,
    MessageRejected,
    NotOwned,
    ProtocolError,
    TunnelDown,
)
from ..protocol.execution import Check, belongs
from ..protocol.handshake import Handshake
from ..protocol.health import Finding, Verdict
from ..protocol.message import Message, Session, Signer
from ..wire.reactor import Reactor, Timer
from ..wire.transport import Channel, Transport
from ..wire.zmq import ZmqTransport
from .callbacks import Callback, Callbacks, Event
from .cells import Cells
from .comms import Comm, Comms, Listener
from .ctrl_c import CtrlC
from .descriptors import reserve_descriptors
from .execution import Ask, Execution, Limits, Result, Show, Sink
from .interrupts import Interrupts
from .link import Link, LinkState, Way
from .listening import Listening
from .requests import AskedOn, Requests

if TYPE_CHECKING:
    from ..connect.client import BlockingKernelClient
    from .values import Progress

log = logging.getLogger("kernel_magics")

TICK = 0.25
"""Seconds between looks at running cells; their grace periods are several times that."""

ATTACH_PATIENCE = 10.0
START_PATIENCE = 60.0
REOPEN_PATIENCE = 2.0
"""Seconds to wait for the proof: of a kernel somebody runs, one just started, one that was lost."""

SHUTDOWN_PATIENCE = 5.0
"""Seconds for a kernel to end that was asked to."""

HEARING_PATIENCE = 2.0
"""Seconds that a new client waits until it hears the kernel: some say nothing while they are
busy."""


LIFT_LIMIT = """
exec('''
import select, time, IPython, zmq
thread = IPython.get_ipython().kernel.iopub_socket.io_thread
def lift():
    sock = thread.socket
    for _ in range(20):
        sock.EVENTS
        time.sleep(0.01)
        if not select.select([sock.FD], [], [], 0)[0]:
            sock.setsockopt(zmq.SNDHWM, 100_000)
            break
thread.schedule(lift)
''', {})
""".strip()
"""Run once, silently and before the first cell, in kernels of ours that stand on ipykernel. It
drops the newest message, ``idle`` included, as soon as 1000 wait to be sent; over ipc, on a busy
machine, that lost some of 20,000 flushed prints in 9 of 9 runs, however fast they were read here.

Not in kernels of others, and only while nothing is pending on the socket: libzmq 4.3.5 crashes when
the option is set while a connection is being torn down (21 kernels in 2,400 attaches; this way
0)."""


class KernelState(Enum):
    """What is known of the kernel, in the words that `%kernels` shows."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    SILENT = "silent"
    """Connected, but it has not answered yet; most likely busy with somebody else's cell."""
    LOST = "reconnecting"
    DEAD = "dead"
    DETACHED = "detached"


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
        owned: OwnedKernel | None = None,
        way: Way | None = None,
        forget: Callable[[Kernel], None] = lambda _: None,
    ) -> None:
        self.name = name
        self.info = info
        self.owned = owned
        self.way = way
        """What it is reached through; None when nothing lies between."""
        self.kernel_info: dict[str, Any] = {}
        """The content of its ``kernel_info_reply``; empty until it answered."""
        self.pid: int | None = owned.pid if owned else None
        """Its process on its own machine; None when it did not tell."""
        self.finding: Finding | None = None
        """Why it is dead; None while it is not."""
        self.trust = owned is not None
        """What comes from it may be unpickled, which runs code; see :mod:`.values.trust`."""
        self.reactor = reactor
        self._forget = forget  # in the pool
        self._callbacks = Callbacks(name)
        self._session = Session()
        self._signer = Signer(info.key.reveal(), info.signature_scheme)
        self._link = Link(
            name,
            reactor,
            self._new_transport,
            self._session,
            self,
            owned.exit_status if owned else lambda: None,
            way,
        )
        self._ready: Future[None] = Future()
        self._down = threading.Event()  # it has no connection now
        self._state = KernelState.STARTING
        self._cells = Cells()
        self._requests = Requests(self._session, self._link)
        self._comms = Comms()
        self._interrupts = Interrupts(owned, self._requests, self._cells)
        self._fences: dict[str, Execution] = {}
        self._unsent: list[Message] = []  # answers to prompts, for when it is in reach again
        self._listening = Listening(name, self._cells, self._link.ping, owned, way)
        self._status_seen = False  # of any cell there, over this connection
        self._untold = ""  # what the next cell's user has to know
        self._restart: Future[None] | None = None  # by ourselves, until it is proved or has failed
        self._timer: Timer | None = None

    def __repr__(self) -> str:
        return f"<Kernel {self.name} {self.state.value}>"

    # What anybody may ask, from any thread.

    @property
    def state(self) -> KernelState:
        """What is known of it now."""
        return self._state

    @property
    def alive(self) -> bool:
        """It has not died and we have not let go of it."""
        return self._state not in (KernelState.DEAD, KernelState.DETACHED)

    @property
    def language(self) -> str:
        """The name of its language; empty until it answered."""
        about = self.kernel_info.get("language_info")
        return str(about.get("name", "")) if isinstance(about, dict) else ""

    @property
    def encrypted(self) -> bool:
        """Nobody else can read along."""
        return self._link.encrypted

    @property
    def code_running(self) -> str | None:
        """The code of our cell that runs there now; None when none of ours does."""
        running = self._cells.running
        return None if running is None else str(running.request.content.get("code", ""))

    def connect(self, patience: float = ATTACH_PATIENCE, *, retry: bool = False) -> None:
        """Connect and wait for the proof.

        A kernel that is connected but silent (busy, and mute on control) counts as attached; cells
        wait here until it answers.

        Raises:
            KernelUnreachable, AuthenticationError: nobody there, or not the kernel of the file.
            KernelDied: a process of ours ended while starting.
        """
        self.reactor.ask(partial(self._open, patience, retry)).result()

    def submit(
        self,
        code: str,
        sink: Sink | None = None,
        *,
        silent: bool = False,
        store_history: bool = True,
        allow_stdin: bool = False,
        user_expressions: dict[str, str] | None = None,
        metadata: dict[str, Any] | None = None,
        limits: Limits | None = None,
    ) -> Execution:
        """Start a cell and return it at once; its outputs go to ``sink``, or to who waits for it.

        The options are those of the messaging specification ("Execute"). ``stop_on_error`` is never
        set: it would abort the queued cells of everybody else on this kernel.

        Raises:
            ProtocolError: the code cannot be put into a message.
            Closed: the pool was closed.
        """
        content = {
            "code": code,
            "silent": silent,
            "store_history": store_history,
            "user_expressions": user_expressions or {},
            "allow_stdin": allow_stdin,
            "stop_on_error": False,
        }
        request = self._session.message("execute_request", content, metadata=metadata)
        execution = Execution(self.name, request, self, sink, limits or Limits(), self.reactor.now)
        try:
            self.reactor.run_or_post(partial(self._start, execution))
        except Closed:
            raise
        except BaseException:
            self.reactor.post(partial(self._torn, execution))
            raise
        return execution

    def run(
        self,
        code: str,
        *,
        sink: Sink | None = None,
        show: Show | None = None,
        ask: Ask | None = None,
        timeout: float | None = None,
        raise_error: bool = True,
        **options: Any,
    ) -> Result:
        """Run a cell and wait for its end; see :meth:`submit` and :meth:`Execution.wait`."""
        with CtrlC() as ctrl_c:  # before it is sent: an interrupt in between must not be lost
            execution = self.submit(code, sink, allow_stdin=ask is not None, **options)
            return execution.wait(
                show=show, ask=ask, timeout=timeout, raise_error=raise_error, ctrl_c=ctrl_c
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
        answer: Future[Message] = Future()
        message = self._session.message(msg_type, content or {})

        def send() -> None:
            if self._link.state is LinkState.UP:
                self._requests.send(channel, message, answer.set_result, answer.set_exception)
            else:
                answer.set_exception(self._unavailable())

        self.reactor.post(send)
        try:
            return answer.result(timeout)
        except TimeoutError:
            return None
        finally:
            with contextlib.suppress(Closed):
                self.reactor.post(partial(self._requests.forget, message.msg_id))

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
        comm = Comm(comm_id, self._session, self._send_soon)

        def add() -> None:
            if self._link.state is LinkState.UP:
                self._comms.add(comm_id, listener)
            else:
                listener.failed(self._unavailable())

        self.reactor.post(add)
        comm.open(target)
        return comm

    def forget_comm(self, comm: Comm) -> None:
        """Listen to it no longer."""
        with contextlib.suppress(Closed):
            self.reactor.post(partial(self._comms.forget, comm.id))

    def _send_soon(self, message: Message) -> None:
        self.reactor.post(partial(self._send_if_up, "shell", message))

    def look_up_pid(self, timeout: float = 0.2) -> int | None:
        """Return its process, asking it once more if it has not told yet; None if it does not."""
        if self.pid is None and self.kernel_info.get("implementation") == "ipython":
            reply = self.request("control", "usage_request", timeout=timeout)
            if reply is not None:
                self._note_usage(reply)
        return self.pid

    def interrupt(self) -> None:
        """Interrupt what runs there; returns at once, and may be called from a signal handler."""
        self.reactor.post(self._interrupt)

    def answer(self, value: str) -> None:
        """Answer the kernel's open prompt."""
        message = self._session.message("input_reply", {"value": value})
        self.reactor.post(partial(self._answer, message))

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
            raise self._unavailable()
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
        self.reactor.ask(partial(self._begin_restart, self.owned, now)).result()

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
            self.reactor.ask(partial(self._suspend, KernelDied, "was shut down from here"))
            try:
                self.owned.shutdown(now=now)
            finally:
                self.close()
        elif self.alive:
            request = self._session.message("shutdown_request", {"restart": False})
            self.reactor.post(partial(self._send_if_up, "control", request))
            # Not every kernel replies (IRkernel does not), but each closes its connection.
            ended = self._down.wait(SHUTDOWN_PATIENCE)
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
            self.close()
            if self.owned is not None:
                self.owned.release()

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *exc: object) -> None:
        self.detach()

    def close(self) -> None:
        """Close the connection, and that is all; its process runs on. May be called twice."""
        self.reactor.ask(self._close)
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
        self._callbacks.add(event, callback)

    def remove_restart_callback(self, callback: Callback, event: Event = "restart") -> None:
        """Never call it again; one that was not added is fine.

        Raises:
            KernelMagicsError: there is no such event.
        """
        self._callbacks.remove(event, callback)

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
            raise self._unavailable()
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
            channel: AskedOn = "shell" if self._state is KernelState.IDLE else "control"
            self.request(channel, "kernel_info_request", timeout=0.1)
            heard = bool(client.iopub_channel.socket.poll(10))

    def settle(self, check: Check, execution: Execution) -> None:
        """Find out what the execution wants to know; part of its life, on the reactor's thread."""
        if self._link.state is not LinkState.UP:
            return
        if check is Check.FENCE:
            topic = f"km-{secrets.token_hex(8)}"
            self._fences[topic] = execution
            self._link.subscribe(topic)
        else:
            self._requests.ask("shell", "kernel_info_request", lambda _: execution.settled(check))

    # On the reactor's thread from here on: requests.

    def _start(self, execution: Execution) -> None:
        self._cells.add(execution)
        if self._state is KernelState.DETACHED:
            error = KernelDetached(self.name, "was detached", may_have_run=False)
            self._cells.fail(execution, error)
        elif self._state is KernelState.DEAD:
            # Perhaps somebody has restarted it meanwhile; its name then works again.
            self._cells.waiting.append(execution)
            self._open(REOPEN_PATIENCE, False)
        elif self.way is not None and not self.way.up:
            self._cells.fail(execution, self._way_down(may_have_run=False))
        elif (refusal := self._listening.refusal(self.reactor.now)) is not None:
            self._cells.fail(execution, refusal)
        elif self._link.state is LinkState.UP:
            self._send(execution)
        else:
            self._listening.expect_proof(self.reactor.now)
            self._cells.waiting.append(execution)
            self._tick_later()

    def _torn(self, execution: Execution) -> None:
        """A signal handler's exception struck while it was sent: part of a message may be out."""
        if not execution.sent:
            self._not_sent(execution)
        if self._link.state is LinkState.UP:
            self._link.lost("a message was torn in two")

    def _not_sent(self, execution: Execution) -> None:
        error = Aborted(self.name, "it was interrupted before it was sent")
        self._cells.fail(execution, error)

    def _send(self, execution: Execution) -> None:
        self._listening.expect(self.reactor.now)
        self._cells.leave(execution)
        self._link.send("shell", execution.request)
        if self._untold:
            execution.notice(self._untold)
            self._untold = ""
        self._tick_later()

    def _answer(self, message: Message) -> None:
        if self._link.state is LinkState.UP:
            self._link.send("stdin", message)
        else:
            self._unsent.append(message)

    def _send_if_up(self, channel: Channel, message: Message) -> None:
        if self._link.state is LinkState.UP:
            self._link.send(channel, message)

    def _interrupt(self) -> None:
        for execution in list(self._cells.waiting):
            self._not_sent(execution)
        self._interrupts.interrupt()

    def _tick_later(self) -> None:
        if self._timer is None:
            self._timer = self.reactor.call_later(TICK, self._tick)

    def _tick(self) -> None:
        self._timer = None
        for execution in self._cells.sent:
            execution.tick(self.reactor.now)
            if execution.done:
                self._over(execution)
        if self._cells:
            connected = self._link.state is LinkState.UP
            self._listening.look(self.reactor.now, connected=connected)
            self._tick_later()

    def _over(self, execution: Execution) -> None:
        self._cells.over(execution)
        if self._cells.running is None:
            self._interrupts.idle()

    # The link's owner.

    def link_message(self, channel: Channel, message: Message) -> None:
        """Route one message to whoever asked for it."""
        self._listening.heard(self.reactor.now)
        if channel == "iopub" and message.type in ("status", "iopub_welcome"):
            self._note_status(message)
        if self._comms.received(message):
            return
        execution = self._cells.find(message.parent_id)
        if execution is None:
            if channel != "iopub":
                self._requests.replied(message)
        elif belongs(channel, message.type):
            execution.receive(message, self.reactor.now)
            if execution.interrupted_early:
                self._interrupts.begun(execution)
            if execution.done:
                self._over(execution)
        else:
            execution.odd(ProtocolError(f"{message.type} on {channel}"))

    def link_up(self, proof: Handshake, finding: Finding | None) -> None:
        """The kernel proved itself: take stock, and send what was waiting for that."""
        assert proof.info is not None
        self.kernel_info = _content(proof.info)
        self.finding = None
        self._down.clear()
        waited_through_loss = self._state is KernelState.LOST
        self._state = KernelState.IDLE if proof.shell_answers else KernelState.BUSY
        self._fences.clear()
        self._status_seen = False
        if finding is not None and finding.verdict is Verdict.RESUMED:
            self._resume()
        elif finding is not None and waited_through_loss and self._cells:
            self._fail_all(
                lambda may_have_run: KernelRestarted(
                    self.name, finding.reason, may_have_run=may_have_run
                )
            )
        elif finding is not None and self._restart is None:
            self._untold = "is another process than before: its variables are gone"
        self._unsent.clear()
        if self._restart is not None or (finding and finding.verdict is Verdict.RESTARTED):
            self._fire("restart")
        self._restart = None
        if not proof.shell_answers:
            self._requests.ask("shell", "kernel_info_request", self._shell_answered)
        self._requests.ask("control", "usage_request", self._note_usage)
        if not self._ready.done():
            self._ready.set_result(None)
        if self.owned is not None and self.kernel_info.get("implementation") == "ipython":
            content = {"code": LIFT_LIMIT, "silent": True, "store_history": False}
            self._requests.ask("shell", "execute_request", content=content)
        waiting, self._cells.waiting = self._cells.waiting, []
        for execution in waiting:
            self._send(execution)

    def link_unproved(self) -> None:
        """Nothing is sent until it answers, but the caller has waited long enough."""
        self._state = KernelState.SILENT
        if not self._ready.done():
            self._ready.set_result(None)

    def link_failed(self, error: KernelMagicsError) -> None:
        """Nobody there, or not this kernel."""
        self._dead(self.finding or Finding(Verdict.DIED, "cannot be reached"))
        self._fail_all(lambda may_have_run: self._unavailable(may_have_run=may_have_run))
        if not self._ready.done():
            self._ready.set_exception(error)

    def link_lost(self) -> None:
        """Wait for what the link finds out."""
        self._state = KernelState.LOST
        self._down.set()
        self._fail_requests()
        for execution in self._cells:
            execution.lost_touch()
        self._listening.lost()

    def link_gone(self, finding: Finding) -> None:
        """It is dead: everything that was asked of it ends now."""
        if self.owned is not None and self.kernel_info:
            again = f"{finding.reason} (%kernel_restart {self.name} starts it anew)"
            finding = Finding(finding.verdict, again)
        self._dead(finding)
        self._down.set()
        self._fail_all(
            lambda may_have_run: KernelDied(self.name, finding.reason, may_have_run=may_have_run)
        )
        if not self._ready.done():
            self._ready.set_exception(KernelDied(self.name, finding.reason, may_have_run=False))

    def link_way_lost(self) -> None:
        """Nobody knows what became of it."""
        self._state = KernelState.DEAD
        self._down.set()
        self.finding = Finding(Verdict.DIED, "cannot be reached: the way to it is down")
        self._fail_all(lambda may_have_run: self._way_down(may_have_run=may_have_run))

    def link_pong(self) -> None:
        """It lives; that is all a heartbeat says."""
        self._listening.heard(self.reactor.now)

    def link_rejected(self, error: MessageRejected) -> None:
        """Bytes that are no message change nothing, but a cell that runs may miss them."""
        for execution in self._cells:
            execution.odd(error)

    # What became of it.

    def _new_transport(self) -> Transport:
        return ZmqTransport(
            self.reactor, self.info.endpoints(), self._signer, self._session.identity
        )

    def _open(self, patience: float, retry: bool) -> Future[None]:
        self._ensure_held()
        if self._link.state is LinkState.DOWN and self._restart is None:
            self._get_ready()
            self._link.open(patience, retry=retry)
        return self._ready

    def _ensure_held(self) -> None:
        if self._state is KernelState.DETACHED:
            raise Closed(f"{self.name} was detached; attach it again")

    def _get_ready(self) -> None:
        """Whoever waits for the proof already goes on waiting."""
        self._state = KernelState.STARTING
        if self._ready.done():
            self._ready = Future()

    def _begin_restart(self, owned: OwnedKernel, now: bool) -> Future[None]:
        self._ensure_held()
        self._suspend(KernelRestarted, "was restarted from here")
        self._restart = restart = owned.restart(now=now)

        def done(_: Future[None]) -> None:
            with contextlib.suppress(Closed):
                self.reactor.post(partial(self._restarted, owned, restart))

        restart.add_done_callback(done)
        return self._ready

    def _restarted(self, owned: OwnedKernel, restart: Future[None]) -> None:
        """The new process is made, or could not be; unless something else came meanwhile."""
        if self._restart is not restart or self._state is KernelState.DETACHED:
            return
        try:
            restart.result()
        except LaunchError as error:
            self.link_failed(error)
        else:
            self.pid = owned.pid
            self._link.open(START_PATIENCE, retry=True)

    def _suspend(self, error: type[KernelGone], reason: str) -> None:
        """Before we end the process ourselves: its cells end by that, not as died."""
        self._restart = None
        self._link.close()
        self._get_ready()
        self._fail_all(lambda may_have_run: error(self.name, reason, may_have_run=may_have_run))

    def _dead(self, finding: Finding) -> None:
        self._state = KernelState.DEAD
        self._restart = None
        known, self.finding = self.finding, finding
        if known is None:  # else it was dead before, and somebody has only looked again
            self._fire("dead")

    def _fire(self, event: Event) -> None:
        self.reactor.soon(partial(self._callbacks.fire, event))  # when all is in order again

    def _close(self) -> None:
        self._state = KernelState.DETACHED
        self._link.close()
        if self._timer is not None:
            self._timer.cancel()
        self._fail_all(
            lambda may_have_run: KernelDetached(
                self.name, "was detached from here", may_have_run=may_have_run
            )
        )
        if not self._ready.done():
            self._ready.set_exception(KernelUnreachable(self.name, "it was detached meanwhile"))

    def _way_down(self, *, may_have_run: bool) -> TunnelDown:
        assert self.way is not None
        again = (
            f"%kernel_tunnel logs in again, and {self.name} then works again"
            if self.way.hopeless
            else "it is being opened again"
        )
        reason = f"is out of reach: the tunnel to it broke ({self.way.reason}); {again}"
        return TunnelDown(self.name, reason, may_have_run=may_have_run)

    def _unavailable(self, *, may_have_run: bool = False) -> KernelMagicsError:
        if self.finding is None:
            return KernelUnreachable(self.name, f"it is {self._state.value}")
        return KernelDied(self.name, self.finding.reason, may_have_run=may_have_run)

    def _resume(self) -> None:
        """The same kernel answers over a new connection."""
        sent = self._cells.sent
        for execution in sent:
            execution.back_in_touch()
        # In order: whatever was sent before this is over when this is answered.
        self._requests.ask("shell", "kernel_info_request", lambda _: self._missed(sent))
        for answer in self._unsent:
            self._link.send("stdin", answer)
        self._interrupts.back_in_touch()

    def _fail_all(self, error: Callable[[bool], KernelMagicsError]) -> None:
        self._fail_requests()
        self._cells.fail_all(error)
        self._interrupts.idle()

    def _fail_requests(self) -> None:
        error = KernelDied(self.name, "closed its connection", may_have_run=True)
        self._requests.fail(error)
        self._comms.fail(error)

    def _note_status(self, message: Message) -> None:
        content = _content(message)
        if message.type == "iopub_welcome":
            fence = self._fences.pop(str(content.get("subscription", "")), None)
            if fence is not None:
                fence.settled(Check.FENCE)
        elif message.parent_type == "execute_request":
            # Only cells count: a kernel also says busy and idle around our own small questions.
            self._status_seen = True
            busy = content.get("execution_state") == "busy"
            self._state = KernelState.BUSY if busy else KernelState.IDLE

    def _missed(self, executions: list[Execution]) -> None:
        for execution in executions:
            execution.missed(self.reactor.now)

    def _shell_answered(self, _: Message) -> None:
        # What a kernel says of its cells counts for more, whichever of the two is heard first.
        if (
            self._cells.running is None
            and self._state is KernelState.BUSY
            and not self._status_seen
        ):
            self._state = KernelState.IDLE

    def _note_usage(self, reply: Message) -> None:
        pid = _content(reply).get("pid")
        if isinstance(pid, int):
            self.pid = pid


def _content(message: Message) -> dict[str, Any]:
    """What the message says, or nothing if that cannot be read: no cell depends on it."""
    try:
        return message.content
    except ProtocolError:
        return {}
