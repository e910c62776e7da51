"""Steps of a fake kernel that send what no kernel should."""

import json
from collections.abc import Callable, Sequence

from tests.support.fake import FakeKernel, Request, Step
from tests.support.wire import DELIMITER, Json, make_header, sign

ODD = {"name": "stdout", "text": "odd\n"}
"""What a message says that should not be shown."""

Bend = Callable[[list[bytes]], list[bytes]]
"""Changes the frames of a message, from the delimiter on."""


def odd(
    msg_type: str = "stream",
    *,
    channel: str = "iopub",
    header: bytes | Json | None = None,
    parent: bytes | Json | None = None,
    metadata: bytes = b"{}",
    content: bytes | Json = ODD,
    buffers: Sequence[bytes] = (),
    bend: Bend = lambda frames: frames,
) -> Step:
    """A message made of exactly these parts, signed as it should be, and then bent.

    ``header`` as a dictionary changes entries of a normal header; None takes the entry away.
    """

    def step(kernel: FakeKernel, request: Request) -> None:
        head = header
        if not isinstance(head, bytes):
            changed = {**make_header(msg_type, kernel.session), **(head or {})}
            head = _packed({key: value for key, value in changed.items() if value is not None})
        parts = [
            head,
            _packed(request.message.header if parent is None else parent),
            metadata,
            _packed(content),
        ]
        prefix = [b"topic"] if channel == "iopub" else [*request.message.identities]
        frames = bend([DELIMITER, sign(kernel.key, parts), *parts, *buffers])
        kernel.send(channel, [*prefix, *frames])

    return step


def unsigned(frames: list[bytes]) -> list[bytes]:
    return [frames[0], b"", *frames[2:]]


def wrongly_signed(frames: list[bytes]) -> list[bytes]:
    return [frames[0], b"0" * 64, *frames[2:]]


def tampered(frames: list[bytes]) -> list[bytes]:
    return [*frames[:5], frames[5].replace(b"odd", b"bad")]


def truncated(frames: list[bytes]) -> list[bytes]:
    return frames[:4]


def without_delimiter(frames: list[bytes]) -> list[bytes]:
    return frames[1:]


def replayed(kernel: FakeKernel, request: Request) -> None:
    """Send the last frames again."""
    kernel.send(*kernel.last_sent)


def in_turn(*steps: Step) -> Step:
    """Several steps as one."""
    return lambda kernel, request: kernel.play(steps, request)


def many(number: int, step: Callable[[int], Step]) -> Step:
    """A step for each number from 0."""

    def play(kernel: FakeKernel, request: Request) -> None:
        for index in range(number):
            step(index)(kernel, request)

    return play


def counting(number: int) -> Step:
    """That many streams, a number each, as fast as this process can make them."""

    def play(kernel: FakeKernel, request: Request) -> None:
        before, after = _packed(make_header("stream", kernel.session)).split(b'"msg_id": "')
        _, after = after.split(b'"', 1)
        parent = _packed(request.message.header)
        socket = kernel.sockets["iopub"]
        for index in range(number):
            header = b'%s"msg_id": "%d"%s' % (before, index, after)
            parts = [header, parent, b"{}", b'{"name": "stdout", "text": "%d\\n"}' % index]
            socket.send_multipart([b"topic", DELIMITER, sign(kernel.key, parts), *parts])

    return play


def deep(depth: int) -> bytes:
    """JSON that is nested beyond reason."""
    return b'{"name": "stdout", "text": ' + b"[" * depth + b"]" * depth + b"}"


def _packed(value: bytes | Json) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()
