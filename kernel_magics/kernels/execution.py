"""A cell running in a kernel, as the one who started it holds it.

Two threads meet here. The reactor's thread feeds messages in and never waits; the thread that asked
for the cell waits, shows, answers prompts and turns Ctrl-C into an interrupt. One queue joins them.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Protocol

from ..errors import Abandoned, ExecutionTimeout, KernelMagicsError, ProtocolError
from ..protocol import execution as protocol
from ..protocol.message import Message
from ..protocol.passive import passive_output, passive_reply
from .ctrl_c import CtrlC
from .events import Ask, Call, Event, Events, LogIn, Notice, PayloadShown, Show, Sink
from .inbox import Inbox
from .options import NO_LIMITS, CellOptions
from .overflow import TextLimit
from .prompting import END_OF_INPUT, Prompting
from .result import Ended, Result, payload_of, result_of

log = logging.getLogger("kernel_magics")

STUBBORN_AFTER = 2.0
"""Seconds after an interrupt without an end, before the second Ctrl-C is explained."""

QUEUE_NOTICE_AFTER = 2.0
"""Seconds of waiting for its turn after which a cell's user is told what it waits for."""


class Controls(Protocol):
    """What an execution may ask of its kernel; each may be called from any thread."""

    def interrupt(self, execution: Execution) -> object:
        """Interrupt it if it was sent, else take it back."""

    def take_back(self, execution: Execution) -> bool:
        """Do not send it any more, if it was not sent yet; return whether that is so."""

    def answer(self, value: str) -> None:
        """Answer the prompt that is open."""

    def withdraw(self, execution: Execution) -> None:
        """Do not run it, or say that it cannot be stopped."""

    def settle(self, check: protocol.Check, execution: Execution) -> None:
        """Find out, and call :meth:`Execution.settled`."""

    def log_in(self, ask: Ask) -> None:
        """Have the user open the way to it again, on this thread; SshError if that was in vain."""

    def give_up(self, execution: Execution) -> None:
        """End the cell, because the way to the kernel stays as it is."""


class Execution:
    """One cell, from submission to its end. Made by :meth:`Kernel.submit`."""

    __slots__ = (
        "__weakref__",
        "_attended",
        "_controls",
        "_ended",
        "_events",
        "_gap",
        "_gap_said",
        "_inbox",
        "_interrupted_at",
        "_late",
        "_odd",
        "_passive",
        "_payload_shown",
        "_prompting",
        "_questions",
        "_queue_told",
        "_quiet",
        "_sent_at",
        "_sink",
        "_started",
        "_state",
        "_strays",
        "_text",
        "_text_noticed",
        "_then",
        "begun",
        "begun_at",
        "beside",
        "done",
        "ended_at",
        "failed",
        "given_up",
        "interrupted_early",
        "kernel",
        "limits",
        "place",
        "request",
        "running",
        "sent",
        "silent",
        "subshell",
        "turn",
    )

    def __init__(
        self,
        kernel: str,
        request: Message,
        controls: Controls,
        sink: Sink | None,
        now: float,
        options: CellOptions,
    ) -> None:
        subshell, events = options.get("subshell", False), options.get("events")
        self.kernel = kernel
        self.request = request
        self.limits = options.get("limits") or NO_LIMITS
        self.turn = options.get("turn")
        """None: it is sent at once."""
        self.beside = bool(subshell)
        """It runs in a subshell, whatever else runs in the kernel."""
        self.subshell = subshell if isinstance(subshell, str) else None
        """Which that is; None before one was found."""
        self._controls = controls
        self._sink = sink
        self._passive = options.get("passive", False)
        self._late = options.get("late")
        self._quiet = options.get("quiet", False)
        self._payload_shown = options.get("payload_shown")
        self._then = options.get("then")
        self._state = protocol.Execution(request.msg_id, now)
        self._inbox = Inbox()
        self._events: Events = self._inbox if events is None else events
        text = self.limits.text
        self._text = TextLimit(text) if text is not None else None
        self._odd: list[str] = []  # reasons of messages that were dropped
        self.silent = bool(request.content.get("silent"))
        """A question of ours, of which the kernel is to publish nothing."""
        # Somebody reads the queue, or will; nobody does once the waiting thread has gone.
        self._attended = sink is None or bool(request.content.get("allow_stdin"))
        self._started = time.monotonic()
        self._prompting = Prompting(self, controls)
        self.place = 0
        """How many cells come before it; changes only while it waits for its turn."""
        self.sent = False
        """The request has left: from here on the code may have run."""
        self.running = False
        """The kernel said that it has come to this cell."""
        self.begun: str | None = None
        """When the kernel began to run the code, by its own clock; None before it has said so."""
        self.begun_at: float | None = None
        """When the kernel was heard to begin, as `time.monotonic`; None before."""
        self.done = False
        """The cell is over: it has a result or an error."""
        self.ended_at: float | None = None
        """When it was over, as `time.monotonic`; None before."""
        self.failed = False
        """It is over, and not as it should be."""
        self.given_up = False
        """Who waited for it does not any more, though it is not over."""
        self.interrupted_early = False
        """It was interrupted before the kernel was known to have begun."""
        self._ended: Ended | None = None
        self._sent_at: float | None = None
        self._interrupted_at: float | None = None
        self._queue_told = False
        self._text_noticed = False
        self._strays = False  # the last output was an older cell's
        self._questions = 0  # of the kernel
        self._gap = False  # the connection was lost while this ran, and that was not said yet
        self._gap_said = False

    @property
    def asks(self) -> bool:
        """The kernel waits for an answer, so that nothing is to be heard from it."""
        return self._questions > self._prompting.answers

    @property
    def shows_late(self) -> bool:
        """There is a place for what comes after its end."""
        unseen = self.silent or self._quiet
        return not unseen and (self._sink is not None or self._late is not None)

    @property
    def unseen(self) -> bool:
        """It was a question of ours and is over: what still comes for it is another's."""
        return self.silent and self.done

    @property
    def code(self) -> str:
        """What runs."""
        return str(self.request.content.get("code", ""))

    @property
    def seconds(self) -> float:
        """How long it has been running, from leaving here to its end; 0.0 before it was sent."""
        if self._sent_at is None:
            return 0.0
        return (self.ended_at or time.monotonic()) - self._sent_at

    def interrupt(self) -> None:
        """Interrupt the kernel, if this cell still runs; take it back if it was not sent yet.

        A cell in a subshell is not interrupted: only the kernel's main thread takes interrupts, and
        what runs there is another cell.
        """
        if self.beside and not self.done:
            self._controls.withdraw(self)
        elif not self.done:
            self._interrupted_at = time.monotonic()
            self.interrupted_early = self.begun is None
            self._controls.interrupt(self)

    def call(self, callback: Callable[[], None]) -> None:
        """Have the thread that waits for this call it; from any thread."""
        self._events.put(Call(callback))

    def outcome(self, *, raise_error: bool = True) -> Result:
        """Return how it ended, once it is over.

        Raises:
            as :meth:`wait`.
        """
        assert self._ended is not None
        return self.result(self._ended, [], raise_error=raise_error)

    def wait(
        self,
        *,
        show: Show | None = None,
        ask: Ask | None = None,
        login: Ask | None = None,
        timeout: float | None = None,
        raise_error: bool = True,
        ctrl_c: CtrlC | None = None,
    ) -> Result:
        """Wait for the end; show outputs and answer prompts meanwhile. Once, from one thread.

        Without ``show`` the outputs are kept in the result. Without ``ask`` a prompt of the kernel
        gets an end of file. ``login`` asks the user what ssh wants to know when the way to the
        kernel broke and cannot be had without; if nobody answers, the cell ends. In the main
        thread, the first Ctrl-C interrupts the kernel and the second gives up waiting; ``ctrl_c``
        is for a caller who takes it already.

        Raises:
            RemoteError: the code failed there (unless ``raise_error`` is False).
            Aborted, ReplyLost, KernelGone, ExecutionTimeout, ProtocolError: as their names say.
            Abandoned: at the second Ctrl-C; it is a KeyboardInterrupt. The code runs on.
        """
        kept: list[Message] = []

        def keep(item: Message | str) -> None:
            if isinstance(item, Message):
                kept.append(item)

        present = show or keep
        deadline = None if timeout is None else self._started + timeout
        try:
            if ctrl_c is not None:
                ended = self._attend(present, ask, login, deadline, ctrl_c)
            else:
                with CtrlC() as own:
                    ended = self._attend(present, ask, login, deadline, own)
        except ExecutionTimeout as error:
            if self._controls.take_back(self):
                raise ExecutionTimeout(self.kernel, error.timeout, sent=False) from None
            raise
        except KeyboardInterrupt:
            # The press that gives up interrupts as well: ipykernel loses one in 150 that strikes
            # while it publishes.
            self.interrupt()
            self._late = None  # the prompt that was asked back is not for this cell's text
            raise Abandoned(self.kernel) from None
        finally:
            self.leave()
        return self.result(ended, kept, raise_error=raise_error)

    def _attend(
        self,
        present: Show,
        ask: Ask | None,
        login: Ask | None,
        deadline: float | None,
        ctrl_c: CtrlC,
    ) -> Ended:
        ctrl_c.call_first(self.interrupt)
        while True:
            event = self._next(deadline)
            if isinstance(event, Ended):
                return event
            self.handle(event, present, ask, ctrl_c, login)

    def result(self, ended: Ended, outputs: list[Message], *, raise_error: bool) -> Result:
        """Return how it ended, or raise that; see :meth:`wait` for the errors."""
        seconds = (self.ended_at or time.monotonic()) - self._started
        return result_of(self.kernel, ended, outputs, seconds, raise_error=raise_error)

    # For whoever waits for several cells at once.

    @property
    def started(self) -> float:
        """When it was submitted, as `time.monotonic`."""
        return self._started

    def handle(
        self,
        event: Message | protocol.Prompt | Notice | LogIn | Call,
        present: Show,
        ask: Ask | None,
        ctrl_c: CtrlC,
        login: Ask | None = None,
    ) -> None:
        """Show an output, or have a prompt answered; on the waiting thread."""
        if isinstance(event, Message):
            present(event)
        elif isinstance(event, Notice):
            present(event.text)
        elif isinstance(event, LogIn):
            self._prompting.log_in(login, ctrl_c)
        elif isinstance(event, Call):
            event.callback()
        else:
            self._prompting.answer(event, ask, ctrl_c)

    def leave(self) -> None:
        """Nobody waits for it any more: prompts from now on get an end of file, and other cells
        need not wait for it either."""
        self._attended = False
        self.given_up = not self.done

    # Called on the reactor's thread.

    def receive(self, message: Message, now: float) -> None:
        """Take one message whose parent is this cell's request."""
        match message.type:
            case "execute_input":
                self.begun, self.begun_at = message.date, time.monotonic()
            case "status":
                self.running = True  # busy comes first
        try:
            events = self._state.receive(message, now)
        except ProtocolError as error:
            self.odd(error)
        else:
            if events:
                self._take(events)

    def tick(self, now: float) -> None:
        """Let time pass."""
        self._take(self._state.tick(now))
        since = self._interrupted_at
        if since is not None and time.monotonic() - since >= STUBBORN_AFTER and not self.done:
            self._interrupted_at = None
            self.notice(
                "has not stopped yet. Ctrl-C (or the stop button) again interrupts it once more "
                "and gives the prompt back, whether it stops or not."
            )

    @property
    def ends_at(self) -> float | None:
        """When it will be over if nothing more is heard, on the reactor's clock; None if it waits
        for more than that."""
        return self._state.ends_at

    def wait_for_quiet(self, seconds: float) -> None:
        """Have it end only when the kernel has published nothing for so long."""
        self._state.quiet = seconds

    def settled(self, check: protocol.Check) -> None:
        """The question that :meth:`Controls.settle` was asked has been answered."""
        passed = check is protocol.Check.FENCE
        self._take(self._state.fence_passed() if passed else self._state.overtaken())

    def left(self) -> None:
        """It is about to be sent."""
        self.sent, self._sent_at = True, time.monotonic()

    def queued(self, place: int) -> None:
        """It waits for its turn behind ``place`` other cells; called as time passes."""
        self.place = place
        waits = time.monotonic() - self._started
        told = self.turn is not None and self.turn.told
        if told and not self._queue_told and waits >= QUEUE_NOTICE_AFTER:
            self._queue_told = True
            cells = "one cell" if place == 1 else f"{place} cells"
            self.notice(
                f"waits for {cells} before this one (%remote_jobs lists them); Ctrl-C takes it back"
            )

    def lost_touch(self) -> None:
        """The connection closed: what the kernel says now may never arrive."""
        self._gap = self.sent

    def needs_login(self, reason: str) -> None:
        """The way to the kernel broke, and only the user can open it again."""
        if not self.done:
            self.notice(f"is out of reach until you log in again ({reason})")
            self._events.put(LogIn())

    def back_in_touch(self) -> None:
        """The same kernel answers again."""
        if self._gap:
            self._gap, self._gap_said = False, True
            self.notice("was out of reach for a moment; output may be missing")

    def missed(self, now: float) -> None:
        """It was over before the connection came back, and what said so was lost."""
        self._state.missed(now)

    def fail(self, error: KernelMagicsError) -> None:
        """End it with an error; does nothing after the end."""
        if not self.done:
            self._state.close()
            self._end(Ended(None, error))

    def odd(self, error: ProtocolError) -> None:
        """A message that may have been this cell's was dropped; said once, at the end."""
        self._odd.append(str(error) if not self._odd else "")

    def notice(self, text: str) -> None:
        """Show a sentence of ours among the outputs."""
        text = f"[{self.kernel}] {text}"
        if (sink := self._sink_now()) is not None:
            self._to_sink(partial(sink.notice, text))
        else:
            self._events.put(Notice(text))

    def stray(self, message: Message, *, forgotten: bool) -> None:
        """Take an output that came for no cell that is known, because this is the newest.

        ``forgotten``: it came for an older cell.
        """
        with suppress(ProtocolError):
            message.check()
            if forgotten:
                if message.type == "clear_output":
                    return  # not what this cell has shown
                if not self._strays:
                    self.notice("an earlier cell, whose place is forgotten, still says:")
            self._strays = forgotten
            if self._may_be_shown(message):
                self._show(message)

    def _take(self, events: list[protocol.Event]) -> None:
        for event in events:
            match event:
                case protocol.Output(message):
                    self._strays = False
                    shown = self._passive_form(message)
                    if shown is not None and self._may_be_shown(shown):
                        self._show(shown)
                case protocol.Finished():
                    self.back_in_touch()  # it may end on a connection that is not proved yet
                    if not (event.complete or self._gap_said):
                        self.notice(
                            "never said that this cell was over; some output may be missing"
                        )
                    if self._passive:
                        event = event._replace(reply=passive_reply(event.reply))
                    self._end(Ended(event, event.problem))
                case protocol.Prompt():
                    if self._attended:
                        self._questions += 1
                        self._events.put(event)
                    else:
                        self._controls.answer(END_OF_INPUT)
                case protocol.Check():
                    self._controls.settle(event, self)

    def _passive_form(self, message: Message) -> Message | None:
        """Return what may be shown of an output; None: nothing."""
        if not self._passive:
            return message
        try:
            return passive_output(message)
        except ProtocolError as error:
            self.odd(error)
            return None

    def _sink_now(self) -> Sink | None:
        """Where outputs go now; None: to the one who waits."""
        if self._sink is not None or (self._attended and not self.done):
            return self._sink
        return self._late

    def _show(self, message: Message) -> None:
        if (sink := self._sink_now()) is not None:
            self._to_sink(partial(sink.output, message))
        elif self._attended and not self.done:
            self._events.put(message)

    def _show_payload(self, finished: protocol.Finished, shown: PayloadShown) -> None:
        for each in shown(payload_of(finished.reply)):
            if isinstance(each, str):
                self.notice(each)
            else:
                self._show(each)

    def _may_be_shown(self, message: Message) -> bool:
        if self._text is None or self._text.passes(message):
            return True
        if not self._text_noticed:
            self._text_noticed = True
            megabytes = self._text.limit / 1e6
            self.notice(f"printed more than {megabytes:g} MB; the rest goes to {self._text.path}")
        return False

    def _end(self, ended: Ended) -> None:
        if self._odd:
            more = f" and {len(self._odd) - 1} more" if len(self._odd) > 1 else ""
            self.notice(f"sent what is no proper message; dropped it{more}: {self._odd[0]}")
        if self._text is not None:
            self._text.close()
        if ended.finished is not None and self._payload_shown is not None:
            self._to_sink(partial(self._show_payload, ended.finished, self._payload_shown))
        if self._sink is not None:
            self._to_sink(self._sink.finish)
        self._ended, self.failed, self.ended_at = ended, ended.failed, time.monotonic()
        self.done = True
        self._events.put(ended)
        self._prompting.cell_ended()
        if self._then is not None:
            self._to_sink(partial(self._then, self))

    def _to_sink(self, hand_on: Callable[[], None]) -> None:
        try:
            hand_on()
        except Exception:
            # Who breaks that promise must not keep the cell from ending.
            log.exception("an output of %s could not be shown", self.kernel)

    # Called on the waiting thread.

    def _next(self, deadline: float | None) -> Event:
        while True:
            # Half a second at most: an untimed wait cannot be interrupted on every platform.
            timeout = 0.5 if deadline is None else min(0.5, max(0.0, deadline - time.monotonic()))
            try:
                event: Event = self._inbox.get(timeout)
            except queue.Empty:
                if deadline is not None and time.monotonic() >= deadline:
                    raise ExecutionTimeout(self.kernel, deadline - self._started) from None
            else:
                return event
