"""How a cell ended: what it gives, or what it raises."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..errors import Aborted, KernelMagicsError, RemoteError, ReplyLost, remote_error
from ..protocol.execution import Finished
from ..protocol.message import Message


class Ended(NamedTuple):
    """The last event of a cell: how it finished there, or why it never will."""

    finished: Finished | None
    error: KernelMagicsError | None

    @property
    def failed(self) -> bool:
        return self.finished is None or self.finished.status != "ok"


@dataclass(frozen=True)
class Result:
    """How a cell ended. ``outputs`` is empty when a sink or ``show`` took them.

    ``status`` is ``"ok"``, ``"error"``, ``"aborted"`` or ``"lost"``; ``seconds`` is the time from
    submission to end, as this process saw it.
    """

    kernel: str
    status: str
    execution_count: int | None = None
    payload: list[dict[str, Any]] = field(default_factory=list)
    user_expressions: dict[str, Any] = field(default_factory=dict)
    outputs: list[Message] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def stdout(self) -> str:
        """All text of the ``stdout`` stream among the outputs."""
        return self._stream("stdout")

    @property
    def stderr(self) -> str:
        """All text of the ``stderr`` stream among the outputs."""
        return self._stream("stderr")

    def _stream(self, name: str) -> str:
        return "".join(
            str(message.content.get("text", ""))
            for message in self.outputs
            if message.type == "stream" and message.content.get("name") == name
        )


def result_of(
    kernel: str, ended: Ended, outputs: list[Message], seconds: float, *, raise_error: bool
) -> Result:
    """Return how a cell of ``kernel`` ended.

    Raises:
        KernelMagicsError: why it never finished there, or with ``raise_error`` how it failed there.
    """
    if ended.error is not None:
        raise ended.error
    finished = ended.finished
    assert finished is not None
    if raise_error and finished.status != "ok":
        raise _error_of(kernel, finished)
    reply = finished.reply
    count, expressions = reply.get("execution_count"), reply.get("user_expressions")
    return Result(
        kernel=kernel,
        status=finished.status,
        execution_count=count if isinstance(count, int) else None,
        payload=payload_of(reply),
        user_expressions=expressions if isinstance(expressions, dict) else {},
        outputs=outputs,
        seconds=seconds,
    )


def payload_of(reply: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the payload of a reply, without what cannot be in one."""
    payload = reply.get("payload")
    if not (payload and isinstance(payload, list)):
        return []
    return [each for each in payload if isinstance(each, dict)]


def _error_of(kernel: str, finished: Finished) -> KernelMagicsError:
    if finished.status == "aborted":
        return Aborted(kernel, may_have_run=finished.begun)
    if finished.status == "lost":
        return ReplyLost(kernel)
    return _remote_error_of(kernel, finished)


def _remote_error_of(kernel: str, finished: Finished) -> RemoteError:
    reply = finished.reply
    lines = reply.get("traceback")
    error = remote_error(
        kernel,
        str(reply.get("ename") or ""),
        str(reply.get("evalue") or ""),
        [str(line) for line in lines] if isinstance(lines, list) else [],
    )
    error.payload = payload_of(reply)
    error.explained = finished.explained
    return error
