"""Connection files that lead nowhere, or that nobody should follow."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from tests.faults.faces import Kind, Seen
from tests.faults.rows import Fault, Rows
from tests.faults.stage import Scene, played
from tests.support.connection import Info, write_info
from tests.support.fake import FakeKernel

ROWS = Rows()

A_PORT = "a port is a number from 1 to 65535"
NEEDED = "without a key anybody could pose as the kernel"

KEY = "the-key-that-nobody-shall-see"

GOOD: Info = {
    "transport": "tcp",
    "ip": "127.0.0.1",
    "key": KEY,
    "signature_scheme": "hmac-sha256",
    "shell_port": 50001,
    "iopub_port": 50002,
    "stdin_port": 50003,
    "control_port": 50004,
    "hb_port": 50005,
}


def bad(name: str, what: str, sentence: str, make: Callable[[Path], object]) -> None:
    """A row that attaches a file which cannot be used."""

    def act(scene: Scene) -> Seen:
        path = scene.sandbox.work / "kernel-bad.json"
        make(path)
        return scene.face.run(f"%kernel_attach {path}")

    error = ("UsageError", f"…/kernel-bad.json: {sentence}")
    ROWS.append(Fault(name, what, act, shows=(), hides=(KEY,), error=error, ends=True))


def entry(name: str, what: str, sentence: str, **changed: object) -> None:
    """A row that attaches a file with other entries; None stands for one that is missing."""
    entries = {key: value for key, value in (GOOD | changed).items() if value is not None}
    bad(name, what, sentence, lambda path: write_info(path, entries))


def private(content: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.touch(0o600)
        path.write_bytes(content)

    return make


def huge(path: Path) -> None:
    private(b"{")(path)
    os.truncate(path, 50_000_000)


def open_to_all(path: Path) -> None:
    write_info(path, GOOD)
    path.chmod(0o666)


bad("missing", "no such file", "no such file or directory", lambda path: None)
bad("empty", "an empty file", "is empty", private(b""))
bad(
    "half_written",
    "a file that is only half written",
    "is not JSON, or only half written",
    private(json.dumps(GOOD)[:-20].encode()),
)
bad("rubbish", "a file full of rubbish", "is not JSON, or only half written", private(b"\xff\0"))
bad("list", "a list", "does not hold a dictionary", private(b"[]"))
bad(
    "deep",
    "JSON nested 30,000 deep",
    "is nested too deeply to be a connection file",
    private(b"[" * 30_000),
)
bad("fifo", "a named pipe, which nobody writes to", "is not a regular file", os.mkfifo)
bad("folder", "a folder", "is not a regular file", Path.mkdir)
bad("endless", "a link to /dev/zero", "is not a regular file", lambda p: p.symlink_to("/dev/zero"))
bad(
    "loop",
    "a link to itself",
    "too many levels of symbolic links",
    lambda path: path.symlink_to(path),
)
bad("huge", "a file of 50 MB", "is larger than 64 KiB", huge)
bad(
    "open_to_all",
    "a file that every user can write to",
    "can be written by every user of this machine, so it proves nothing",
    open_to_all,
)
entry(
    "no_port",
    "a port is missing",
    "iopub_port: is missing, and every channel is needed",
    iopub_port=None,
)
entry("port_0", "a port is 0", f"shell_port: is 0; {A_PORT}", shell_port=0)
entry(
    "port_70000",
    "a port is 70000",
    f"hb_port: is 70000; {A_PORT}",
    hb_port=70000,
)
entry(
    "port_is_text",
    "a port is a text",
    f"shell_port: is 'x'; {A_PORT}",
    shell_port="x",
)
entry(
    "port_is_true",
    "a port is true",
    f"stdin_port: is True; {A_PORT}",
    stdin_port=True,
)
entry(
    "port_twice",
    "two ports are the same",
    "control_port: is the same as shell_port (50001)",
    control_port=50001,
)
entry(
    "no_key",
    "the key is missing",
    f"key: is missing; {NEEDED}",
    key=None,
)
entry(
    "empty_key",
    "the key is empty",
    f"key: is empty or not a text; {NEEDED}",
    key="",
)
entry(
    "key_is_number",
    "the key is a number",
    f"key: is empty or not a text; {NEEDED}",
    key=int(1e15),
)
entry(
    "md5",
    "signatures are to be made with MD5",
    "signature_scheme: is 'hmac-md5'; it has to be one of hmac-sha256, hmac-sha384, hmac-sha512",
    signature_scheme="hmac-md5",
)
entry(
    "udp",
    "the transport is unknown",
    "transport: is 'udp'; it has to be one of tcp, ipc",
    transport="udp",
)
entry("no_ip", "the address is missing", "ip: is missing", ip=None)
entry(
    "ip_is_option",
    "the address is an option of ssh",
    "ip: is '-oProxyCommand=x y', neither a host name nor an address",
    ip="-oProxyCommand=x y",
)
entry(
    "half_curve",
    "one half of the encryption keys is missing",
    "curve_publickey: comes without curve_secretkey, or the other way round",
    curve_publickey="x" * 40,
)


@ROWS.fault(
    "nobody listens there any more",
    shows=(),
    error=("KernelUnreachable", "cannot attach kernel-…: nothing listens there"),
    ends=True,
)
def nobody(scene: Scene) -> Seen:
    with FakeKernel(folder=scene.sandbox.runtime) as kernel:
        info = kernel.info
    path = scene.sandbox.work / "kernel-old.json"
    write_info(path, info)
    return scene.face.run(f"%kernel_attach {path}")


@ROWS.fault(
    "the key is of an older kernel on the same ports",
    shows=(),
    error=(
        "AuthenticationError",
        "cannot attach kernel-old: it answers, but signs with another key than the connection file"
        " holds; the file is probably of an older kernel on the same ports",
    ),
    ends=True,
)
def old_key(scene: Scene) -> Seen:
    with FakeKernel(folder=scene.sandbox.runtime) as kernel:
        path = scene.sandbox.work / "kernel-old.json"
        write_info(path, {**kernel.info, "key": KEY})
        return scene.face.run(f"%kernel_attach {path}")


@ROWS.fault(
    "the ports of shell and iopub are exchanged",
    shows=(),
    error=("KernelUnreachable", "cannot attach kernel-mixed: …"),
    within=15,
    slow=True,
    ends=True,
)
def mixed_ports(scene: Scene) -> Seen:
    with FakeKernel(folder=scene.sandbox.runtime) as kernel:
        path = scene.sandbox.work / "kernel-mixed.json"
        shell, iopub = kernel.info["shell_port"], kernel.info["iopub_port"]
        write_info(path, {**kernel.info, "shell_port": iopub, "iopub_port": shell})
        return scene.face.run(f"%kernel_attach {path}")


@ROWS.fault(
    "every user can read the file, and the key in it",
    shows=("can be read by other users of this machine, and so can its key",),
    remark="a warning of Python's; it is attached",
)
def readable(scene: Scene) -> Seen:
    kernel = scene.stack.enter_context(FakeKernel(folder=scene.sandbox.runtime))
    kernel.connection_file.chmod(0o644)
    scene.kernel = kernel
    seen = scene.face.run(f"%kernel_attach {kernel.connection_file} --name {scene.name}")
    scene.attached.append(scene.name)
    return seen


@played(ROWS)
def test_fault(row: Fault, kind: Kind, playing: Callable[[Fault, Kind], None]) -> None:
    playing(row, kind)
