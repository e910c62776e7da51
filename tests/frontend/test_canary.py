"""The key as a canary: whatever a session does, it is nowhere but in connection files.

Everything that a session writes is below its sandbox: logs, histories, saved notebooks, what a
front end received, what a terminal showed. All of that is searched, and so are the arguments and
environments of all processes that run there.
"""

from __future__ import annotations

import base64
import html
import json
import os
import pickle
import shutil
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import nbformat
import psutil
import pytest

from kernel_magics.errors import KernelMagicsError
from kernel_magics.kernels.pool import KernelPool
from tests.support import logins
from tests.support.connection import write_info
from tests.support.hosts import KernelHost, TerminalHost, run_notebook
from tests.support.kernels import HandKernel, Kind
from tests.support.sandbox import MARK, Sandbox
from tests.support.sshd import HOST
from tests.support.waiting import wait_until

pytestmark = pytest.mark.full

StartHand = Callable[..., HandKernel]

BAD_KEY = "0123-a-key-of-another-kernel-4567"

PIECE = 12
"""Characters of a secret that nobody finds by chance."""

SECRETS = ("key", "curve_publickey", "curve_secretkey")

Type = Callable[[str], str]
"""Runs a cell in a host and returns what was shown."""


class Canaries:
    """Secrets by the names of their owners, and where they have been seen."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._pieces: dict[str, set[bytes]] = {}

    def add(self, owner: str, info: dict[str, object]) -> None:
        """Look for the secrets of a connection file from now on, in whole or in part."""
        for name in SECRETS:
            if (secret := info.get(name)) is not None:
                self._pieces[f"{owner}'s {name}"] = pieces_of(str(secret))

    def add_text(self, name: str, text: str) -> None:
        """Look for that from now on, in whole or in part."""
        self._pieces[name] = pieces_of(text)

    def learn(self) -> None:
        """Look for the secrets of all connection files that there are now."""
        for path in self._sandbox.runtime.glob("*.json"):
            with suppress(ValueError):
                values = json.loads(path.read_text())
                if isinstance(values, dict):
                    self.add(path.stem, values)

    def seen(self) -> list[str]:
        """Where any secret is now, apart from connection files."""
        return [
            f"{secret} in {place}"
            for place, content in self._places()
            for secret, pieces in self._pieces.items()
            if any(piece in content for piece in pieces)
        ]

    def _places(self) -> Iterator[tuple[str, bytes]]:
        for path in self._sandbox.root.rglob("*"):
            yield "a file's name", path.name.encode()
            if path.is_file() and path.parent != self._sandbox.runtime:
                yield str(path), path.read_bytes()
        for process in processes_of(self._sandbox):
            folder = Path(f"/proc/{process.pid}")
            for name in ("cmdline", "environ"):
                yield f"{name} of {process.name()}", (folder / name).read_bytes()


def pieces_of(secret: str) -> set[bytes]:
    """What to look for: stretches of it, as they are and in the usual disguises."""
    raw = secret.encode()
    disguises = [
        secret,
        secret.replace("-", ""),
        html.escape(secret),
        raw.hex(),
        *(base64.b64encode(raw[start:]).decode().rstrip("=") for start in range(3)),
    ]
    return {
        each[start : start + PIECE].encode()
        for each in disguises
        for start in range(len(each) - PIECE + 1)
    }


def processes_of(sandbox: Sandbox) -> list[psutil.Process]:
    """The processes that were started in a sandbox, at whatever depth."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == str(sandbox.root):
                found.append(process)
    return found


def bad_files(sandbox: Sandbox, info: dict[str, object]) -> list[Path]:
    """Files that lead nowhere, with keys of their own; where they are shall be told, not these."""
    key = BAD_KEY
    texts = {
        "stolen": json.dumps({**info, "key": key}),
        "spoilt": json.dumps({**info, "key": key})[:-1],
        "listed": json.dumps({**info, "key": [key]}),
        "curved": json.dumps({**info, "curve_publickey": key, "curve_secretkey": f"{key}{key}"}),
        "portless": json.dumps({**info, "key": key, "iopub_port": None}),
    }
    paths = []
    for name, text in texts.items():
        path = sandbox.runtime / f"kernel-{name}.json"
        write_info(path, {})
        path.write_text(text)
        paths.append(path)
    return paths


# A session.

SETUP = (
    "import logging, pickle, traceback",
    "logging.basicConfig(level=1, filename='debug.log', force=True)",
    "logging.getLogger('kernel_magics').setLevel(1)",
    "%load_ext kernel_magics",
    "import kernel_magics as km",
)

WITH_TWO_KERNELS = (
    "%connection_info",
    "%connection_info --json",
    "%connection_info k",
    "%connection_info k --json",
    "%connection_info own",
    "%connection_info own --json",
    "%connection_info?",
    "%kernels",
    "%kernels --all",
    "%%remote k\nprint('fine'); 6 * 7",
    "%%remote own\nprint('fine'); 6 * 7",
    "%%remote k\n1 / 0",
    "%xmode Verbose",
    "%%remote own\n1 / 0",
    "%remote -q k 1 / 0",
    "%tb",
    "k, own = km.pool['k'], km.pool['own']",
    "k.run(b'not text')",
    "[[x, str(x), f'{x}', vars(x)] for each in (k, own) for x in (each, each.info, each.info.key)"
    " if hasattr(x, '__dict__')]",
    "[str(k.info.key), f'{k.info.key}', '%r' % k.info.key, k.info.fingerprint]",
    "[each.info.as_dict() for each in (k, own)], [each.info.endpoints() for each in (k, own)]",
    "vars(km.pool), vars(own.owned), vars(own.owned.options)",
    "k.info?",
    "k?",
    "import os; dict(os.environ)",
)

WRONG = (
    "%connection_info nobody",
    "%connection_info --no-such-option",
    "%connection_info k own",
    "%connection_info 'k",
    "%kernel_attach",
    "%kernel_attach /no/such/file.json",
    "%kernel_attach 'kernel",
    "%kernel_start --env=NOVALUE",
    "%kernel_start no-such-spec",
    "%kernel_restart k",
    "%%remote nobody\n1",
    "%%remote\n1",
    "%remote --timeout x k 1",
)

DEAD = (
    "%%remote k\n1",
    "%kernels",
    "%connection_info k",
    "%kernel_interrupt k",
    "%remote own __import__('os')._exit(1)",
    "%%remote own\n1",
    "%kernels",
)

END = (
    "%kernel_shutdown own",
    "%kernel_detach k",
    "%history",
    "print(In, Out)",
    "%unload_ext kernel_magics",
)


def live_through(
    type_in: Type, hand: HandKernel, sandbox: Sandbox, canaries: Canaries
) -> Iterator[str]:
    """Run a session in a host, looking for canaries at each of its stages; give what was shown."""
    yield from map(type_in, SETUP)
    yield type_in(f"%kernel_attach {hand.connection_file} --name k")
    yield type_in("%kernel_start --name own")
    canaries.learn()
    yield from map(type_in, WITH_TWO_KERNELS)
    assert len(processes_of(sandbox)) >= 4  # the host, two kernels, the watcher
    assert canaries.seen() == []
    bad = bad_files(sandbox, hand.info)
    canaries.add("a bad file", {"key": BAD_KEY})
    yield from map(type_in, WRONG)
    for file in bad:
        yield type_in(f"%kernel_attach {file}")
        yield type_in(f"%%remote {file}\n1")
        yield type_in(f"km.attach({str(file)!r})")
        file.unlink()
    hand.kill()
    yield from map(type_in, DEAD)
    assert canaries.seen() == []
    yield from map(type_in, END)


def it_was_a_session(shown: str, sandbox: Sandbox) -> None:
    """Insist that what was to be seen has been there."""
    for wanted in (
        "(hidden)",
        "fine",
        "ZeroDivisionError",
        "ProtocolError",
        "AuthenticationError",
        "half written",
        "is empty or not a text",
        "is not a CurveZMQ key",
        "KernelDied",
        "UsageError",
        "<Kernel k idle>",
        "has ended",
    ):
        assert wanted in shown, wanted
    log = (sandbox.work / "debug.log").read_text()
    assert "kernel_magics.wire:> shell execute_request" in log
    assert list(sandbox.root.rglob("history.sqlite"))


@pytest.mark.parametrize("kind", ["tcp", pytest.param("curve", marks=pytest.mark.full)])
def test_in_a_notebook_keys_are_nowhere(
    hand_kernel: StartHand, kernel_host: Callable[..., KernelHost], sandbox: Sandbox, kind: Kind
) -> None:
    hand, host, canaries = hand_kernel(kind), kernel_host(), Canaries(sandbox)
    received = sandbox.work / "received"

    def type_in(cell: str) -> str:
        run = host.run(cell)
        text = repr([run.messages, run.reply_message, host.strays])
        with received.open("a") as file:
            file.write(text)
        return text

    shown = "".join(live_through(type_in, hand, sandbox, canaries))
    assert canaries.seen() == []
    it_was_a_session(shown, sandbox)
    # And it would have been seen.
    write_info(hand.connection_file, hand.info)
    host.run("%load_ext kernel_magics").ok()
    type_in("%connection_info --show-key")
    own = f"{host.connection_file.stem}'s key"
    assert f"{own} in {received}" in canaries.seen()


def test_in_a_terminal_keys_are_nowhere(
    hand_kernel: StartHand, terminal_host: Callable[..., TerminalHost], sandbox: Sandbox
) -> None:
    hand, terminal, canaries = hand_kernel("tcp"), terminal_host(), Canaries(sandbox)
    shown = "\n".join(live_through(terminal.run, hand, sandbox, canaries))
    assert canaries.seen() == []
    it_was_a_session(shown, sandbox)
    # And it would have been seen, in the log of all that the terminal was sent.
    hand.restart_behind_same_ports()
    terminal.run("%load_ext kernel_magics")
    terminal.run(f"%kernel_attach {hand.connection_file} --name k")
    assert hand.info["key"] in terminal.run("%connection_info k --show-key")
    assert canaries.seen() != []


TELL_OWN_KEY = """\
import pathlib
from ipykernel.connect import get_connection_file
_ = pathlib.Path('told').write_text(pathlib.Path(get_connection_file()).read_text())"""

TELL_ITS_KEY = "_ = pathlib.Path('told too').write_text(km.pool['own'].info.path.read_text())"


def test_in_a_saved_notebook_keys_are_nowhere(hand_kernel: StartHand, sandbox: Sandbox) -> None:
    hand, canaries = hand_kernel("tcp"), Canaries(sandbox)
    cells = [
        *SETUP,
        f"%kernel_attach {hand.connection_file} --name k",
        "%kernel_start --name own",
        TELL_OWN_KEY,
        TELL_ITS_KEY,
        *WITH_TWO_KERNELS,
        *WRONG,
        "%remote k __import__('os')._exit(1)",
        *DEAD,
        *END,
    ]
    notebook = run_notebook(cells, sandbox, allow_errors=True)
    canaries.add("k", hand.info)
    for name in ("told", "told too"):
        told = sandbox.work / name
        canaries.add(name, json.loads(told.read_text()))
        told.unlink()
    saved = sandbox.work / "saved.ipynb"
    nbformat.write(notebook, saved)
    assert canaries.seen() == []
    text = saved.read_text()
    assert text.count("(hidden)") > 6
    assert "ZeroDivisionError" in text
    assert "KernelDied" in text
    assert "kernel_magics" in (sandbox.work / "debug.log").read_text()


# What is typed for ssh.


@pytest.mark.parametrize("kind", ["codes", "jump"])
def test_what_is_typed_for_ssh_is_nowhere(
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    closing: ExitStack,
    kernel_host: Callable[..., KernelHost],
    shared_kernel: HandKernel,
    kind: logins.Kind,
) -> None:
    way = closing.enter_context(logins.asking(kind, sandbox.root / "sshd"))
    shutil.copy(shared_kernel.connection_file, way.server.runtime / "kernel-far6759.json")
    monkeypatch.setenv("PATH", f"{way.server.bin}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    host, canaries, received = kernel_host(), Canaries(sandbox), sandbox.work / "received"
    for secret in logins.SECRETS:
        canaries.add_text(secret, secret)
    seen: list[str] = []
    typed = 0

    def answer(text: str, hidden: bool) -> str:
        nonlocal typed
        seen.extend(canaries.seen())  # of the answer before, while ssh still runs
        typed += 1
        (right,) = [each.answer for each in way.questions if f"[ssh] {each.text}" in text]
        return right

    def type_in(cell: str) -> None:
        run = host.run(cell, on_input=answer)
        with received.open("a") as file:
            file.write(repr([run.messages, run.reply_message, host.strays]))
        seen.extend(canaries.seen())

    login = f"%kernel_tunnel {HOST} 6759 --name far"
    for cell in (*SETUP, login, "%%remote far\nprint('fine')", "%xmode Verbose", "%kernels"):
        type_in(cell)
    way.servers[0].cut()
    waiting = "[each.state.value for each in km.pool]"
    wait_until(lambda: "waiting for a login" in str(host.run(waiting).result), what="it is needed")
    for cell in ("%%remote far\nprint('fine')", "%history", "print(In, Out)", "%tb"):
        type_in(cell)
    host.run("%unload_ext kernel_magics").ok()
    assert typed == 4
    assert seen == []
    assert canaries.seen() == []
    assert received.read_text().count("fine\\n") >= 2
    assert "kernel_magics" in (sandbox.work / "debug.log").read_text()
    # And it would have been seen.
    received.write_text(logins.PASSWORD)
    assert canaries.seen() != []


# The library.


def told_by(thing: object) -> bytes:
    """All that a log, a worker process or a report of an error could make of a thing."""
    said = [str(thing), repr(thing), f"{thing}", repr(getattr(thing, "__dict__", None))]
    if isinstance(thing, BaseException):
        said += traceback.format_exception(thing)
        # As those do it who also report the variables of each frame.
        said += traceback.TracebackException.from_exception(thing, capture_locals=True).format()
    with suppress(TypeError, pickle.PicklingError):
        return "".join(said).encode() + pickle.dumps(thing)
    return "".join(said).encode()


def error_of(call: Callable[[], object]) -> KernelMagicsError:
    with pytest.raises(KernelMagicsError) as caught:
        call()
    return caught.value


@pytest.mark.quick
@pytest.mark.parametrize("kind", ["tcp", "curve"])
def test_kernels_results_and_errors_tell_nobody_the_keys(
    hand_kernel: StartHand, sandbox: Sandbox, kind: Kind
) -> None:
    hand = hand_kernel(kind)
    bad = bad_files(sandbox, hand.info)
    with closing(KernelPool()) as pool:
        kernel = pool.attach(hand.connection_file, "k")
        things: list[object] = [pool, kernel, kernel.info.as_dict(), kernel.run("6 * 7")]
        things += [kernel.info, kernel.info.key, kernel.info.endpoints()]
        things += [error_of(lambda file=file: pool.attach(file)) for file in bad]
        things += [error_of(lambda: kernel.run("1 / 0"))]
        hand.kill()
        things += [error_of(lambda: kernel.run("1"))]
        told = b"".join(map(told_by, things))
    for file in bad:
        file.unlink()
    secrets = [BAD_KEY, *(str(hand.info[name]) for name in SECRETS if name in hand.info)]
    assert not [secret for secret in secrets if any(p in told for p in pieces_of(secret))]
    assert b"AuthenticationError" in told
    assert b"KernelDied" in told
