"""The proof that a kernel is there, holds the key, and publishes to us.

Run on every new connection before any code is sent over it. Two things have to be seen:

* an answer to one of our own requests that verified: the kernel has the key;
* an iopub message: the subscription is in force, so that no output can be missed. ipykernel >= 7.2
  sends an ``iopub_welcome`` to the *first* subscriber of a topic only, hence the unique topic.

ipykernel 7 does both in one round trip, also while busy, because control is served by a thread of
its own. Others publish ``busy`` and ``idle`` around each request, so requests are repeated until
one is seen; some (IRkernel) answer on shell only. No sockets, no clock: time is passed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .message import Message, Session

FIRST_REPEAT = 0.02
LONGEST_REPEAT = 0.5
SHELL_AFTER = 0.1
"""Seconds without the proof before shell is asked too; a busy kernel answers there only later."""


@dataclass(frozen=True, slots=True)
class Request:
    """A message to send, and the channel it belongs on."""

    channel: Literal["control", "shell"]
    message: Message


class Handshake:
    """One proof, for one connection. ``topic`` is what was subscribed beside everything."""

    def __init__(self, session: Session, topic: str, now: float) -> None:
        self.topic = topic
        self.info: Message | None = None
        """The ``kernel_info_reply`` that proved the key; None until then."""
        self.subscribed = False
        self.control_answers = False
        self.shell_answers = False
        """Shell has answered: the kernel was idle at that moment."""
        self._session = session
        self._started = now
        self._next = now
        self._pause = FIRST_REPEAT
        self._asked_shell = False
        self._ids: set[str] = set()

    @property
    def proved(self) -> bool:
        """The kernel has shown that it holds the key."""
        return self.info is not None

    @property
    def done(self) -> bool:
        """Proved, and nothing it publishes from now on can be missed."""
        return self.proved and self.subscribed

    @property
    def remote_session(self) -> str | None:
        """The kernel's own session id, which changes when it restarts.

        None when it cannot be told: some kernels (IRkernel) answer with the asker's session.
        """
        if self.info is None or self.info.session in ("", self.info.parent_session):
            return None
        return self.info.session

    def tick(self, now: float) -> list[Request]:
        """Return the requests that are due."""
        if self.done or now < self._next:
            return []
        self._next = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_REPEAT)
        requests = [self._request("control")]
        if not self._asked_shell and now - self._started >= SHELL_AFTER:
            # Once only: a busy kernel would find a queue of them afterwards.
            self._asked_shell = True
            requests.append(self._request("shell"))
        return requests

    def receive(self, channel: str, message: Message) -> None:
        """Take a verified message of the connection."""
        if channel == "iopub":
            self.subscribed = True
        elif message.parent_id in self._ids and message.type == "kernel_info_reply":
            self.info = self.info or message
            self.control_answers = self.control_answers or channel == "control"
            self.shell_answers = self.shell_answers or channel == "shell"

    def _request(self, channel: Literal["control", "shell"]) -> Request:
        message = self._session.message("kernel_info_request", {})
        self._ids.add(message.msg_id)
        return Request(channel, message)
