"""What is fuzzed: each target takes one damaged input and insists on what must hold for any
input."""

from __future__ import annotations

import contextlib
import random
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from IPython.core.error import UsageError

from kernel_magics.connect.info import ConnectionInfo
from kernel_magics.errors import ConnectionFileError, MessageRejected, ProtocolError
from kernel_magics.frontend.arguments import parse, split_code
from kernel_magics.frontend.magics import KernelMagics
from kernel_magics.frontend.remote import RemoteMagics
from kernel_magics.frontend.terminal import TerminalFilter
from kernel_magics.protocol.execution import Execution
from kernel_magics.protocol.message import DELIMITER, Signer, receive

from .mutate import damaged_bytes, damaged_text, damaged_value, packed

Target = Callable[[random.Random], None]

KEY = b"canary-5f0c1e6a-key"

_HEADER = {"msg_id": "k_1", "msg_type": "stream", "username": "u", "session": "k", "version": "5.3"}
_PARENT = {"msg_id": "r", "msg_type": "execute_request", "username": "u", "session": "c"}
_CONTENTS = {
    "stream": {"name": "stdout", "text": "hello"},
    "status": {"execution_state": "idle"},
    "execute_reply": {"status": "error", "ename": "E", "evalue": "v", "traceback": ["a", "b"]},
    "display_data": {"data": {"text/plain": "x"}, "metadata": {}, "transient": {"display_id": "d"}},
    "error": {"ename": "E", "evalue": "v", "traceback": ["a"]},
    "input_request": {"prompt": "name? ", "password": False},
    "clear_output": {"wait": True},
}

_INFO = {
    "shell_port": 5001, "iopub_port": 5002, "stdin_port": 5003, "control_port": 5004,
    "hb_port": 5005, "ip": "127.0.0.1", "key": KEY.decode(), "transport": "tcp",
    "signature_scheme": "hmac-sha256",
    "kernel_name": "python3", "curve_publickey": "a" * 40, "curve_secretkey": "b" * 40,
}  # fmt: skip


def message(rng: random.Random) -> None:
    """Any frames: a message or `MessageRejected`; and no content breaks more than its own
    message."""
    kind = rng.choice(sorted(_CONTENTS))
    values = [_HEADER | {"msg_type": kind}, _PARENT, {}, _CONTENTS[kind]]
    at = rng.randrange(4)
    values[at] = damaged_value(rng, values[at])
    parts = [packed(value) for value in values]
    if rng.random() < 0.3:
        parts[at] = damaged_bytes(rng, parts[at])
    signer = Signer(KEY)
    frames = [b"topic", DELIMITER, signer.sign(parts), *parts]
    if rng.random() < 0.3:
        where = rng.randrange(len(frames))
        frames[where] = damaged_bytes(rng, frames[where])
    if rng.random() < 0.1:
        del frames[rng.randrange(len(frames))]
    try:
        received = receive(frames, signer)
    except MessageRejected:
        return
    execution = Execution(received.parent_id, 0.0)
    for step in (
        lambda: received.metadata,
        received.check,
        lambda: execution.receive(received, 1.0),
    ):
        try:
            step()
        except ProtocolError as error:
            _keeps_the_key(str(error))
    execution.tick(100.0)
    execution.tick(200.0)


def connection_file(rng: random.Random) -> None:
    """Any file: a `ConnectionInfo` or one `ConnectionFileError`, and the key in neither's text."""
    data = packed(damaged_value(rng, _INFO))
    if rng.random() < 0.5:
        data = damaged_bytes(rng, data)
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(data)
        file.flush()
        try:
            info = ConnectionInfo.from_file(Path(file.name), warn=False)
        except ConnectionFileError as error:
            _keeps_the_key(str(error), naming=file.name)
        else:
            _keeps_the_key(f"{info!r} {info} {info.as_dict()}")
            info.endpoints()


def magic_line(rng: random.Random) -> None:
    """Any line: arguments or IPython's `UsageError`; and code behind a kernel's name is never
    touched."""
    line = damaged_text(rng, rng.choice(["gpu", "--timeout 3 gpu", "-q 6759", "gpu print(1)", ""]))
    options, code = split_code(line)
    assert (options + code).replace(" ", "") == line.replace(" ", "")
    for magic in (RemoteMagics.remote, KernelMagics.kernel_start, KernelMagics.connection_info):
        with contextlib.suppress(UsageError):
            parse(magic, line)


def terminal_text(rng: random.Random) -> None:
    """Any text: only sequences that a terminal may have come out, however it was cut into
    pieces."""
    text = damaged_text(rng, "10%\r20%\n\x1b[31mred\x1b[0m tail")
    whole = TerminalFilter()(text + "\n")
    filtered, out = TerminalFilter(), []
    rest = text + "\n"
    while rest:
        cut = rng.randint(1, len(rest))
        out.append(filtered(rest[:cut]))
        rest = rest[cut:]
    assert "".join(out) == whole, (text, out, whole)
    left = re.sub(r"\x1b\[[0-9;:]*[mKA]", "", whole)
    assert not re.search(
        r"[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e]", left
    ), whole


TARGETS: dict[str, Target] = {
    "message": message,
    "connection_file": connection_file,
    "magic_line": magic_line,
    "terminal_text": terminal_text,
}


def _keeps_the_key(text: str, naming: str = "") -> None:
    assert KEY.decode() not in text
    assert naming in text
