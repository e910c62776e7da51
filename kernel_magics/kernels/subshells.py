"""Subshells: what else runs code in a kernel while its main thread is busy. On the reactor's
thread.

Only ipykernel's own are believed. Every kernel built on its base class offers them, meaning it or
not: bash_kernel would type two cells into one shell at a time. And an offer is proved before
anything depends on it: a new subshell has to answer a question first."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from ..errors import ProtocolError
from ..protocol.message import Message
from ..wire.reactor import Reactor, Timer
from .requests import Requests

MAKING_PATIENCE = 5.0
"""Seconds for a new subshell to be made and to answer. It does so in a few milliseconds, unless the
kernel's main thread never lets go of the interpreter."""

FEATURE = "kernel subshells"


class Subshells:
    """The subshells of one kernel that were made from here, and are used by nobody else.

    One that runs something is never deleted: ipykernel 7.4 waits for its end on the thread through
    which all cells come, so that nothing would be run there any more.
    """

    def __init__(self, reactor: Reactor, requests: Requests) -> None:
        self._reactor = reactor
        self._requests = requests
        self._offered = False
        self._mute = False  # one that was made did not answer in time
        self._idle: list[str] = []
        self._making: list[_Making] = []

    @property
    def promising(self) -> bool:
        """It is worth asking for one."""
        return bool(self._idle) or (self._offered and not self._mute)

    def meet(self, about: dict[str, Any], *, same: bool) -> None:
        """The kernel has proved itself; ``same`` process as before, or another."""
        features = about.get("supported_features")
        self._offered = (
            about.get("implementation") == "ipython"
            and isinstance(features, list)
            and FEATURE in features
        )
        if not same:
            self._idle, self._mute = [], False

    def take(self, then: Callable[[str], None], failed: Callable[[str], None]) -> None:
        """Hand one that is idle to ``then``, made first if need be; or tell ``failed`` why not.

        Neither is called if the connection is lost meanwhile.
        """
        if self._idle:
            then(self._idle.pop())
        elif not self._offered:
            failed("it runs one cell at a time, having no subshells")
        else:
            making = _Making(then, failed)
            making.timer = self._reactor.call_later(
                MAKING_PATIENCE, partial(self._too_late, making)
            )
            self._making.append(making)
            self._requests.ask("control", "create_subshell_request", partial(self._made, making))

    def give_back(self, subshell: str) -> None:
        """It has done what it was taken for."""
        self._idle.append(subshell)

    def lost_touch(self) -> None:
        """Whoever waits for one asks again once the kernel is back."""
        making, self._making = self._making, []
        for one in making:
            one.close()

    def delete_idle(self) -> list[Future[None]]:
        """Delete what does nothing; each result is there once the kernel has confirmed one."""
        idle, self._idle = self._idle, []
        deleted = []
        for subshell in idle:
            done: Future[None] = Future()
            deleted.append(done)
            self._requests.ask(
                "control",
                "delete_subshell_request",
                partial(_note, done),
                {"subshell_id": subshell},
                failed=partial(_note, done),
            )
        return deleted

    def _made(self, making: _Making, reply: Message) -> None:
        subshell = _id_in(reply)
        if subshell is None:
            self._end(making, "it could not make a subshell")
        else:
            self._requests.ask(
                "shell",
                "kernel_info_request",
                lambda _: self._proved(making, subshell),
                subshell=subshell,
            )

    def _proved(self, making: _Making, subshell: str) -> None:
        self._mute = False
        if making.over:
            self._idle.append(subshell)
        else:
            self._making.remove(making)
            making.close()
            making.then(subshell)

    def _too_late(self, making: _Making) -> None:
        self._mute = True
        self._end(making, f"its subshells did not answer within {MAKING_PATIENCE:g} s")

    def _end(self, making: _Making, reason: str) -> None:
        if not making.over:
            self._making.remove(making)
            making.close()
            making.failed(reason)


class _Making:
    """One that is being made, and what for."""

    def __init__(self, then: Callable[[str], None], failed: Callable[[str], None]) -> None:
        self.then, self.failed = then, failed
        self.timer: Timer | None = None
        self.over = False

    def close(self) -> None:
        """Nobody waits for it any more."""
        self.over = True
        if self.timer is not None:
            self.timer.cancel()


def _id_in(reply: Message) -> str | None:
    try:
        subshell = reply.content.get("subshell_id")
    except ProtocolError:
        return None
    return subshell if isinstance(subshell, str) and subshell else None


def _note(done: Future[None], _: object) -> None:
    """It was deleted, or has gone with the connection."""
    done.set_result(None)
