"""What becomes of one kernel, and of its cells: proved, lost, back, restarted, dead.

Everything here runs on the reactor's thread, but for reading attributes."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future
from enum import Enum
from functools import partial
from typing import Any

from ..connect.info import ConnectionInfo
from ..connect.launch import Owned
from ..connect.processes import interrupt, own_process, survives_interrupt
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
    NoSubshell,
    ProtocolError,
    TunnelDown,
)
from ..protocol.execution import Check, belongs, is_output
from ..protocol.handshake import Handshake
from ..protocol.health import Finding, Verdict
from ..protocol.message import Message, Session, Signer
from ..wire.reactor import Reactor, Timer
from ..wire.transport import Channel, Transport
from ..wire.zmq import ZmqTransport
from .callbacks import Callbacks, Event
from .cells import Cells
from .comms import TYPES as COMM_TYPES
from .comms import Comms
from .execution import Execution
from .forwards import Forwards
from .interrupts import Interrupts
from .link import Link, LinkState, Way
from .listening import Listening
from .prompting import END_OF_INPUT
from .questions import Questions
from .quiet import Quiet
from .requests import Requests
from .send_limit import lift
from .subshells import Subshells

TICK = 0.25
"""Seconds between looks at running cells; their grace periods are several times that."""

ATTACH_PATIENCE = 10.0
START_PATIENCE = 60.0
REOPEN_PATIENCE = 2.0
"""Seconds to wait for the proof: of a kernel somebody runs, one just started, one that was lost."""

DEAF_AFTER = 2.0
"""Seconds without an answer on shell from a kernel that has said it is idle."""


STATES = frozenset({"status", "iopub_welcome"})
"""What a kernel publishes about itself, whoever asked."""


class KernelState(Enum):
    """What is known of the kernel, in the words that `%kernels` shows."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    SILENT = "silent"
    """Connected, but it has not answered yet; most likely busy with somebody else's cell."""
    LOST = "reconnecting"
    AWAY = "waiting for a login"
    """The way to it broke, and cannot be had again without the user."""
    DEAD = "dead"
    DETACHED = "detached"


class Life:
    """The state of one kernel, and the owner of its link; held by a `Kernel`, which see for
    ``owned`` and ``way``."""

    def __init__(
        self,
        name: str,
        reactor: Reactor,
        info: ConnectionInfo,
        session: Session,
        owned: Owned | None,
        way: Way | None,
    ) -> None:
        self.state = KernelState.STARTING
        self.kernel_info: dict[str, Any] = {}
        self.pid: int | None = owned.pid if owned else None
        self.finding: Finding | None = None
        self.callbacks = Callbacks(name)
        self.cells = Cells()
        self.comms = Comms()
        self.down = threading.Event()
        """It has no connection now."""
        self._name = name
        self._reactor = reactor
        self._info = info
        self._owned = owned
        self._way = way
        self._session = session
        self._signer = Signer(info.key.reveal(), info.signature_scheme)
        self.link = Link(
            name,
            reactor,
            self._new_transport,
            session,
            self,
            owned.exit_status if owned else lambda: None,
            way,
        )
        self.requests = Requests(session, self.link)
        self.subshells = Subshells(reactor, self.requests)
        self.forwards = Forwards(
            name, self.link, self.subshells, self._main_is_busy, self._refuse_input
        )
        self.questions = Questions(reactor, self.requests, self.subshells, self._main_is_busy)
        self._ready: Future[None] = Future()
        self._interrupts = Interrupts(
            owned, reactor, self.requests, self.cells, self._turn, self._signal_theirs
        )
        self._taken: set[str] = set()  # subshells of ours that run a cell
        self._fences: dict[str, Execution] = {}
        self._unsent: list[Message] = []  # answers to prompts, for when it is in reach again
        self._listening = Listening(name, self.cells, self.link.ping, owned, way)
        self._status_seen = False  # of any cell there, over this connection
        self._turns = 0  # cells of anybody that were seen to end there
        self._quiet = Quiet(reactor, self._over)
        self._untold = ""  # what the next cell's user has to know
        self._restart: Future[None] | None = None  # by ourselves, until it is proved or has failed
        self._timer: Timer | None = None

    # What is asked of it.

    def start(self, execution: Execution) -> None:
        """Send it, or let it wait for its turn or for the proof, or fail it."""
        waits = execution.turn is not None and not execution.beside
        in_turn = waits and bool(self.cells.in_line)
        self.cells.add(execution)
        if in_turn:
            self.cells.queue.append(execution)
            execution.queued(self.cells.place(execution))
            self._tick_later()
        else:
            self._begin(execution)

    def _begin(self, execution: Execution) -> None:
        if self.state is KernelState.DETACHED:
            error = KernelDetached(self._name, "was detached", may_have_run=False)
            self.cells.fail(execution, error)
        elif self.state is KernelState.DEAD:
            # Perhaps somebody has restarted it meanwhile; its name then works again.
            self.cells.waiting.append(execution)
            self.open(REOPEN_PATIENCE, False)
        elif self._way is not None and not self._way.up:
            if not self._way.hopeless:
                self.cells.fail(execution, self._way_down(may_have_run=False))
                return
            self.cells.waiting.append(execution)
            if self.state is KernelState.AWAY:  # else the link is about to find out
                execution.needs_login(self._way.reason)
            self._tick_later()
        elif (refusal := self._listening.refusal(self._reactor.now)) is not None:
            self.cells.fail(execution, refusal)
        elif self.link.state is LinkState.UP:
            self._send(execution)
        else:
            self._listening.expect_proof(self._reactor.now)
            self.cells.waiting.append(execution)
            self._tick_later()

    def give_up(self, execution: Execution) -> None:
        """Nobody opens the way for it."""
        if not execution.done:
            self.cells.fail(execution, self._way_down(may_have_run=execution.sent))

    def torn(self, execution: Execution) -> None:
        """A signal handler's exception struck while it was sent: part of a message may be out."""
        if not execution.sent:
            self._not_sent(execution)
        if self.link.state is LinkState.UP:
            self.link.lost("a message was torn in two")

    def _not_sent(self, execution: Execution) -> None:
        error = Aborted(self._name, "it was interrupted before it was sent")
        self.cells.fail(execution, error)

    def withdraw(self, execution: Execution) -> None:
        """The one who waits for a cell in a subshell would rather not."""
        if execution.sent:
            execution.notice(
                "runs this in a subshell, which cannot be interrupted. Ctrl-C (or the stop button) "
                "again gives the prompt back and lets it run on."
            )
        else:
            self._not_sent(execution)

    def _send(self, execution: Execution) -> None:
        if execution.beside and execution.subshell is None:
            self.cells.waiting.append(execution)
            self.subshells.take(
                partial(self._send_beside, execution), partial(self._no_subshell, execution)
            )
        else:
            self._send_now(execution)

    def _send_beside(self, execution: Execution, subshell: str) -> None:
        if execution.done:
            self.subshells.give_back(subshell)
            return
        self.cells.waiting.remove(execution)
        self._taken.add(subshell)
        execution.subshell = subshell
        execution.request = execution.request.to_subshell(subshell)
        self._send_now(execution)

    def _no_subshell(self, execution: Execution, reason: str) -> None:
        self.cells.fail(execution, NoSubshell(self._name, reason))

    def _send_now(self, execution: Execution) -> None:
        self.questions.outdated()
        self._listening.expect(self._reactor.now)
        self.cells.leave(execution)
        if self._quiet.seconds and not execution.silent:
            execution.wait_for_quiet(self._quiet.seconds)
        self.link.send("shell", execution.request)
        if self._untold:
            execution.notice(self._untold)
            self._untold = ""
        self._tick_later()

    def answer(self, message: Message) -> None:
        if self.link.state is LinkState.UP:
            self.link.send("stdin", message)
        else:
            self._unsent.append(message)

    def send_if_up(self, channel: Channel, message: Message) -> None:
        if self.link.state is LinkState.UP:
            self.link.send(channel, message)

    def _refuse_input(self) -> None:
        self.answer(self._session.message("input_reply", {"value": END_OF_INPUT}))

    def interrupt(self, execution: Execution | None = None) -> None:
        """Interrupt what runs; but of one that was not sent, take back just that."""
        if execution is not None and not execution.sent:
            self.take_back(execution)
            return
        for waiting in list(self.cells.waiting):
            self._not_sent(waiting)
        self._interrupts.interrupt()

    def _turn(self) -> int | None:
        return self._turns if self.state is KernelState.BUSY else None

    def _signal_theirs(self, turn: int, done: Callable[[], None]) -> None:
        """Interrupt a kernel of this user and machine by a signal, if it survives one.

        Its process is looked up on a thread of its own: its address may be a name.
        """
        if self._way is not None:
            return

        def signal() -> None:
            pid = own_process(self._info, self.pid)
            if pid is not None and survives_interrupt(pid) and self._turn() == turn:
                interrupt(pid)
                with contextlib.suppress(Closed):
                    self._reactor.post(done)

        name = "kernel_magics interrupt"
        threading.Thread(target=signal, name=name, daemon=True).start()

    def take_back(self, execution: Execution) -> bool:
        """Do not send it any more, if it was not sent yet; return whether that is so."""
        if execution.sent or execution.done:
            return False
        self._not_sent(execution)
        self._go_on()
        return True

    def _tick_later(self) -> None:
        if self._timer is None:
            self._timer = self._reactor.call_later(TICK, self._tick)

    def _tick(self) -> None:
        self._timer = None
        for execution in self.cells.sent:
            execution.tick(self._reactor.now)
            if execution.done:
                self._over(execution)
        if self.cells:
            connected = self.link.state is LinkState.UP
            self._listening.look(self._reactor.now, connected=connected)
            self._go_on()
            for execution in self.cells.queue:
                execution.queued(self.cells.place(execution))
            self._tick_later()

    def _settled(self, check: Check, execution: Execution) -> None:
        execution.settled(check)
        if execution.done:
            self._over(execution)

    def _doubt_identity(self, execution: Execution) -> None:
        """It said that the cell is over, and does not answer on shell."""
        if not execution.done and self.link.state is LinkState.UP:
            self.link.renew()

    def _over(self, execution: Execution) -> None:
        self.cells.over(execution)
        self._quiet.forget(execution)
        if execution.subshell in self._taken:
            self._taken.remove(execution.subshell)
            self.subshells.give_back(execution.subshell)
        if self.cells.running is None:
            self._interrupts.idle()
        if execution.failed and not execution.given_up:
            self._abort_queue()
        self._go_on()

    def _abort_queue(self) -> None:
        """As a kernel aborts what waits in its own queue behind a cell that fails."""
        reason = "one that came before it failed; with --keep-going it would have run"
        for execution in list(self.cells.queue):
            if execution.turn is not None and not execution.turn.keep_going:
                self.cells.fail(execution, Aborted(self._name, reason))

    def _go_on(self) -> None:
        """Let the next of those that wait for their turn have it."""
        while (execution := self.cells.next_in_turn()) is not None:
            self._begin(execution)

    def _main_is_busy(self) -> bool | None:
        if self.cells.running is not None:
            return True
        if self.state is KernelState.BUSY:
            return True if self._status_seen else None
        return False

    def settle(self, check: Check, execution: Execution) -> None:
        """Find out what the execution wants to know; part of its life, on the reactor's thread."""
        if self.link.state is not LinkState.UP:
            return
        if check is Check.FENCE:
            topic = f"km-{secrets.token_hex(8)}"
            self._fences[topic] = execution
            self.link.subscribe(topic)
        else:
            self.requests.ask(
                "shell",
                "kernel_info_request",
                lambda _: self._settled(check, execution),
                subshell=execution.subshell,
            )
            self._reactor.call_later(DEAF_AFTER, partial(self._doubt_identity, execution))

    # The link's owner.

    def link_message(self, channel: Channel, message: Message) -> None:
        """Route one message to whoever asked for it."""
        now, kind, iopub = self._reactor.now, message.type, channel == "iopub"
        self._listening.heard(now)
        if iopub and kind in STATES:
            self._note_status(message)
        elif kind in COMM_TYPES and self.comms.received(message):
            return
        execution = self.cells.find(message.parent_id)
        if execution is None and self.forwards.received(channel, message):
            return
        if iopub and (execution is None or execution.unseen):
            self._stray(message, forgotten=execution is None)
        elif execution is None:
            self.requests.replied(message)
        elif belongs(channel, kind):
            execution.receive(message, now)
            if execution.interrupted_early:
                self._interrupts.begun(execution)
            if execution.done:
                self._over(execution)
            elif self._quiet.seconds:
                self._quiet.heard(execution)
        else:
            execution.odd(ProtocolError(f"{kind} on {channel}"))

    def _stray(self, message: Message, *, forgotten: bool) -> None:
        """Show what belongs to a request of ours that shows nothing itself.

        Kernels count what a thread prints to whatever they were asked last (ipykernel 7.1 and
        later): a completion, say. Or the cell is long over and forgotten, which is said. What
        belongs to others, or to nobody, is not shown.
        """
        newest = self.cells.newest
        ours = message.parent_session == self._session.id
        if message.type in COMM_TYPES:
            self.comms.stray(message)
        elif newest is not None and ours and is_output(message.type):
            forgotten = forgotten and message.parent_type == "execute_request"
            newest.stray(message, forgotten=forgotten)

    def link_up(self, proof: Handshake, finding: Finding | None) -> None:
        """The kernel proved itself: take stock, and send what was waiting for that."""
        assert proof.info is not None
        self.kernel_info = readable(proof.info)
        self._interrupts.implementation = str(self.kernel_info.get("implementation", ""))
        self._quiet.meet(self._interrupts.implementation)
        self.finding = None
        self.down.clear()
        waited_through_loss = self.state in (KernelState.LOST, KernelState.AWAY)
        self.state = KernelState.IDLE if proof.shell_answers else KernelState.BUSY
        self._fences.clear()
        self._status_seen = False
        same = finding is not None and finding.verdict is Verdict.RESUMED
        if not same:
            self.comms.ended()
            if self._owned is None:
                self.pid = None
        self.subshells.meet(self.kernel_info, same=same)
        self.questions.lost_touch(same=same)
        if same:
            self._resume()
        elif finding is not None and waited_through_loss and self.cells:
            self._fail_all(
                lambda may_have_run: KernelRestarted(
                    self._name, finding.reason, may_have_run=may_have_run
                )
            )
        elif finding is not None and self._restart is None:
            self._untold = "is another process than before: its variables are gone"
        self._unsent.clear()
        if self._restart is not None or (finding and finding.verdict is Verdict.RESTARTED):
            self._fire("restart")
        self._restart = None
        if not proof.shell_answers:
            self.requests.ask("shell", "kernel_info_request", self._shell_answered)
        if not self._ready.done():
            self._ready.set_result(None)
        if self._owned is not None and self.kernel_info.get("implementation") == "ipython":
            lift(self.requests)
        waiting, self.cells.waiting = self.cells.waiting, []
        for execution in waiting:
            self._send(execution)

    def link_unproved(self) -> None:
        """Nothing is sent until it answers, but the caller has waited long enough."""
        self.state = KernelState.SILENT
        if not self._ready.done():
            self._ready.set_result(None)

    def link_failed(self, error: KernelMagicsError) -> None:
        """Nobody there, or not this kernel."""
        self._dead(self.finding or Finding(Verdict.DIED, "cannot be reached"))
        self._fail_all(lambda may_have_run: self.unavailable(may_have_run=may_have_run))
        if not self._ready.done():
            self._ready.set_exception(error)

    def link_lost(self) -> None:
        """Wait for what the link finds out."""
        self._quiet.lost_touch()
        self.state = KernelState.LOST
        self.down.set()
        self.subshells.lost_touch()
        self.questions.lost_touch(same=True)
        self._fail_requests()
        for execution in self.cells:
            execution.lost_touch()
        self._listening.lost()

    def link_gone(self, finding: Finding) -> None:
        """It is dead: everything that was asked of it ends now."""
        if self._owned is not None and self.kernel_info:
            why = self._owned.why_ended() or finding.reason
            again = f"{why} (%kernel_restart {self._name} starts it anew)"
            finding = Finding(finding.verdict, again)
        self._dead(finding)
        self.down.set()
        self._fail_all(
            lambda may_have_run: KernelDied(self._name, finding.reason, may_have_run=may_have_run)
        )
        if not self._ready.done():
            self._ready.set_exception(KernelDied(self._name, finding.reason, may_have_run=False))

    def link_way_lost(self) -> None:
        """Let the cells' users log in, and whoever only connects start anew."""
        if self._ready.done():
            assert self._way is not None
            self.state = KernelState.AWAY
            for execution in self.cells:
                execution.needs_login(self._way.reason)
            return
        self.link.close()
        self.down.set()
        self._dead(Finding(Verdict.DIED, "cannot be reached: the way to it is down"))
        self._fail_all(lambda may_have_run: self._way_down(may_have_run=may_have_run))
        self._ready.set_exception(self._way_down(may_have_run=False))

    def link_pong(self) -> None:
        """It lives; that is all a heartbeat says."""
        self._listening.heard(self._reactor.now)

    def link_rejected(self, error: MessageRejected) -> None:
        """Bytes that are no message change nothing, but a cell that runs may miss them."""
        for execution in self.cells:
            execution.odd(error)

    # What became of it.

    def _new_transport(self) -> Transport:
        return ZmqTransport(
            self._reactor, self._info.endpoints(), self._signer, self._session.identity
        )

    def open(self, patience: float, retry: bool) -> Future[None]:
        self._ensure_held()
        if self.link.state is LinkState.DOWN and self._restart is None:
            self._get_ready()
            self.link.open(patience, retry=retry)
        return self._ready

    def _ensure_held(self) -> None:
        if self.state is KernelState.DETACHED:
            raise Closed(f"{self._name} was detached; attach it again")

    def _get_ready(self) -> None:
        """Whoever waits for the proof already goes on waiting."""
        self.state = KernelState.STARTING
        if self._ready.done():
            self._ready = Future()

    def restart(self, owned: Owned, now: bool) -> Future[None]:
        self._ensure_held()
        self.suspend(KernelRestarted, "was restarted from here")
        self._restart = restart = owned.restart(now=now)

        def done(_: Future[None]) -> None:
            with contextlib.suppress(Closed):
                self._reactor.post(partial(self._restarted, owned, restart))

        restart.add_done_callback(done)
        return self._ready

    def _restarted(self, owned: Owned, restart: Future[None]) -> None:
        """The new process is made, or could not be; unless something else came meanwhile."""
        if self._restart is not restart or self.state is KernelState.DETACHED:
            return
        try:
            restart.result()
        except LaunchError as error:
            self.link_failed(error)
        else:
            self.pid = owned.pid
            self.link.open(START_PATIENCE, retry=True)

    def suspend(self, error: type[KernelGone], reason: str) -> None:
        """Before we end the process ourselves: its cells end by that, not as died."""
        self._restart = None
        self.comms.ended()
        self.link.close()
        self._get_ready()
        self._fail_all(lambda may_have_run: error(self._name, reason, may_have_run=may_have_run))

    def _dead(self, finding: Finding) -> None:
        self.state = KernelState.DEAD
        self._restart = None
        self.comms.ended()
        known, self.finding = self.finding, finding
        if known is None:  # else it was dead before, and somebody has only looked again
            self._fire("dead")

    def _fire(self, event: Event) -> None:
        self._reactor.soon(partial(self.callbacks.fire, event))  # when all is in order again

    def close(self) -> None:
        self.state = KernelState.DETACHED
        self.comms.ended()
        self.link.close()
        if self._timer is not None:
            self._timer.cancel()
        self._fail_all(
            lambda may_have_run: KernelDetached(
                self._name, "was detached from here", may_have_run=may_have_run
            )
        )
        if not self._ready.done():
            self._ready.set_exception(KernelUnreachable(self._name, "it was detached meanwhile"))

    def leave_subshells(self) -> list[Future[None]]:
        """Have the kernel delete those that we made and that do nothing."""
        if self.link.state is not LinkState.UP:
            return []
        self.questions.release()
        return self.subshells.delete_idle()

    def _way_down(self, *, may_have_run: bool) -> TunnelDown:
        assert self._way is not None
        if self._way.silent:
            reason = self._way.reason
        else:
            again = (
                f"%kernel_tunnel logs in again, and so does the next cell on {self._name} that can "
                "ask"
                if self._way.hopeless
                else "it is being opened again"
            )
            reason = f"the tunnel to it broke ({self._way.reason}); {again}"
        reason = f"is out of reach: {reason}"
        return TunnelDown(self._name, reason, may_have_run=may_have_run)

    def unavailable(self, *, may_have_run: bool = False) -> KernelMagicsError:
        if self.finding is None:
            return KernelUnreachable(self._name, f"it is {self.state.value}")
        return KernelDied(self._name, self.finding.reason, may_have_run=may_have_run)

    def _resume(self) -> None:
        """The same kernel answers over a new connection."""
        sent = self.cells.sent
        for execution in sent:
            execution.back_in_touch()
        # In order: whatever was sent there before this is over when this is answered.
        for subshell in dict.fromkeys([None, *(each.subshell for each in sent)]):
            there = [each for each in sent if each.subshell == subshell]
            self.requests.ask(
                "shell", "kernel_info_request", partial(self._missed, there), subshell=subshell
            )
        for answer in self._unsent:
            self.link.send("stdin", answer)
        self._interrupts.back_in_touch()

    def _fail_all(self, error: Callable[[bool], KernelMagicsError]) -> None:
        self._fail_requests()
        self.cells.fail_all(error)
        self._interrupts.idle()

    def _fail_requests(self) -> None:
        error = KernelDied(self._name, "closed its connection", may_have_run=True)
        self.requests.fail(error)
        self.comms.fail(error)
        self.forwards.fail(error)

    def _note_status(self, message: Message) -> None:
        content = readable(message)
        if message.type == "iopub_welcome":
            fence = self._fences.pop(str(content.get("subscription", "")), None)
            if fence is not None:
                self._settled(Check.FENCE, fence)
        elif message.of_a_cell:
            # Only cells count: a kernel also says busy and idle around our own small questions.
            # And only those of its main thread, beside which the others run.
            self._status_seen = True
            busy = content.get("execution_state") == "busy"
            self.questions.outdated()
            self.state = KernelState.BUSY if busy else KernelState.IDLE
            self._turns += not busy

    def _missed(self, executions: list[Execution], _: Message) -> None:
        for execution in executions:
            execution.missed(self._reactor.now)

    def _shell_answered(self, _: Message) -> None:
        # What a kernel says of its cells counts for more, whichever of the two is heard first.
        if self.cells.running is None and self.state is KernelState.BUSY and not self._status_seen:
            self.state = KernelState.IDLE

    def note_usage(self, reply: Message) -> None:
        pid = readable(reply).get("pid")
        if isinstance(pid, int):
            self.pid = pid


def readable(message: Message) -> dict[str, Any]:
    """Return what the message says, or nothing if that cannot be read: no cell depends on it."""
    try:
        return message.content
    except ProtocolError:
        return {}
