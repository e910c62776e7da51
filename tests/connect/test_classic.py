"""The helper functions do what their documentation says; where the originals still exist and do so
as well, both are asked side by side.

The documentation: `IPython.lib.kernel` (IPython 1 to 7), `ipykernel.connect`,
`jupyter_client.connect`.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import ipykernel.connect
import jupyter_client.connect
import psutil
import pytest
import zmq
from ipykernel.kernelapp import IPKernelApp
from IPython.core.profiledir import ProfileDir
from IPython.paths import get_ipython_dir

from kernel_magics import connect
from kernel_magics.connect import (
    find_connection_file,
    get_connection_file,
    get_connection_info,
    swallow_argv,
    write_connection_file,
)
from kernel_magics.errors import ConnectionFileError, KernelMagicsError, KernelNotFound
from tests.support import parts
from tests.support.connection import read_info
from tests.support.hosts import KernelHost, TerminalHost
from tests.support.kernels import HandKernel, Kind, connected
from tests.support.processes import Process
from tests.support.sandbox import Sandbox
from tests.support.waiting import PATIENCE, wait_until

THEIRS = {
    "get_connection_file": ipykernel.connect.get_connection_file,
    "get_connection_info": ipykernel.connect.get_connection_info,
    "connect_qtconsole": ipykernel.connect.connect_qtconsole,
    "write_connection_file": jupyter_client.connect.write_connection_file,
    "tunnel_to_kernel": jupyter_client.connect.tunnel_to_kernel,
}

DOCUMENTED = {
    "get_connection_file": "(app=None)",
    "get_connection_info": "(connection_file=None, unpack=False, profile=None)",
    "find_connection_file": "(filename='kernel-*.json', profile=None)",
    "write_connection_file": (
        "(fname=None, shell_port=0, iopub_port=0, stdin_port=0, hb_port=0, control_port=0, ip='', "
        "key=b'', transport='tcp', signature_scheme='hmac-sha256', kernel_name='', "
        "curve_publickey=None, curve_secretkey=None, **kwargs)"
    ),
    "connect_qtconsole": "(connection_file=None, argv=None, profile=None)",
    "swallow_argv": "(argv, aliases=None, flags=None)",
    "tunnel_to_kernel": "(connection_info, sshserver, sshkey=None)",
}

OURS = "__import__('kernel_magics.connect').connect"
ORIGINALS = "__import__('ipykernel.connect').connect"


def parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters without their types."""
    signature = inspect.signature(function)
    return [one.replace(annotation=one.empty) for one in signature.parameters.values()]


@pytest.fixture(autouse=True)
def at_work(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, where files are looked for first."""
    monkeypatch.chdir(sandbox.work)
    return sandbox.work


# Signatures.


def test_all_of_them_are_offered() -> None:
    assert set(connect.__all__) == DOCUMENTED.keys()


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_signature_is_the_documented_one(name: str) -> None:
    ours = parameters(getattr(connect, name))
    assert str(inspect.Signature(ours)) == DOCUMENTED[name]


@pytest.mark.parametrize("name", THEIRS)
def test_whatever_the_original_takes_is_taken_in_the_same_place(name: str) -> None:
    ours, theirs = parameters(getattr(connect, name)), parameters(THEIRS[name])
    positional = [one for one in theirs if one.kind is one.POSITIONAL_OR_KEYWORD]
    assert ours[: len(positional)] == positional
    assert {one.name for one in theirs} <= {one.name for one in ours}


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_helper"):
        connect.no_such_helper  # noqa: B018


# In a kernel.


@pytest.mark.full
@pytest.mark.parametrize("kind", ["tcp", "ipc", "curve"])
def test_a_kernel_finds_its_own_file_and_its_content(
    kind: Kind, hand_kernel: Callable[..., HandKernel]
) -> None:
    kernel = hand_kernel(kind)
    calls = ["get_connection_file()", "get_connection_info()", "get_connection_info(unpack=True)"]
    ours = kernel.value(f"[{', '.join(f'{OURS}.{call}' for call in calls)}]")
    theirs = kernel.value(f"[{', '.join(f'{ORIGINALS}.{call}' for call in calls)}]")
    assert ours == theirs
    path, text, entries = ours
    assert path == str(kernel.connection_file)
    assert text == kernel.connection_file.read_text()
    assert entries == {**kernel.info, "key": kernel.info["key"].encode()}


def test_a_kernel_that_named_its_file_itself_finds_it(sandbox: Sandbox) -> None:
    # Without -f; its application then knows the name only, not the folder.
    argv = [sys.executable, "-m", "ipykernel_launcher"]
    log = sandbox.work / "kernel.log"
    with Process(argv, env=sandbox.environment(), cwd=sandbox.work, log=log) as process:
        file = sandbox.runtime / f"kernel-{process.pid}.json"
        info = wait_until(lambda: read_info(file), what="it has written its file")
        expressions = {
            "app": "get_ipython().kernel.parent.connection_file",
            "ours": f"{OURS}.get_connection_file()",
            "theirs": f"{ORIGINALS}.get_connection_file()",
        }
        with connected(info, "shell") as client:
            client.execute("", user_expressions=expressions)
            message = client.shell_channel.get_msg(timeout=PATIENCE)
            reply = message["content"]["user_expressions"]
    values = {name: one["data"]["text/plain"] for name, one in reply.items()}
    assert values == {"app": repr(file.name), "ours": repr(str(file)), "theirs": repr(str(file))}


def test_a_kernel_whose_file_was_removed_is_told_so(kernel_host: Callable[..., KernelHost]) -> None:
    host = kernel_host()
    host.connection_file.unlink()
    # It is an error that programs written for the original expect.
    code = f"try: {OURS}.get_connection_file()\nexcept FileNotFoundError: print('not found')"
    assert host.run(code).ok().stdout == "not found\n"
    run = host.run(f"{OURS}.get_connection_file()")
    assert run.reply["ename"] == "ConnectionFileNotFound"
    assert str(host.connection_file) in run.reply["evalue"]
    assert "has been removed" in run.reply["evalue"]


@pytest.mark.parametrize("place", ["cwd", "run"])
def test_the_file_of_a_given_application_is_found(sandbox: Sandbox, place: str) -> None:
    app = IPKernelApp(connection_file="kernel-1.json", connection_dir=str(sandbox.runtime))
    for folder in (sandbox.root / place, sandbox.runtime):
        (folder / "kernel-1.json").write_text("{}")
    try:
        assert get_connection_file(app) == str(sandbox.root / place / "kernel-1.json")
        assert get_connection_file(app) == ipykernel.connect.get_connection_file(app)
    finally:
        for folder in {sandbox.root / place, sandbox.runtime}:
            (folder / "kernel-1.json").unlink()
    for function in (get_connection_file, ipykernel.connect.get_connection_file):
        with pytest.raises(OSError, match=r"kernel-1\.json"):
            function(app)


# Outside of one.


@pytest.mark.parametrize("call", ["get_connection_file", "get_connection_info"])
def test_outside_a_kernel_it_is_a_runtime_error_with_a_sentence(call: str) -> None:
    with pytest.raises(RuntimeError, match=r"not a Jupyter kernel.*notebook.*file") as caught:
        getattr(connect, call)()
    assert isinstance(caught.value, KernelMagicsError)


def test_a_terminal_is_no_kernel(terminal_host: Callable[..., TerminalHost]) -> None:
    terminal = terminal_host()
    # What the original says there instead: of an application that nobody asked for.
    assert "MultipleInstanceError" in terminal.run(f"{ORIGINALS}.get_connection_file()")
    for call in ("get_connection_file()", "get_connection_info()", "connect_qtconsole()"):
        terminal.run(f"try: {OURS}.{call}\nexcept RuntimeError as e: error = e\n")
        assert terminal.run("print(error)").startswith("this is not a Jupyter kernel")
        (line,) = terminal.run(f"{OURS}.{call}").splitlines()  # no traceback
        assert line.startswith("NotAKernel: this is not a Jupyter kernel")


# Finding files.


FILES = {
    # Where each lies, and in which order they were read: later ones are larger.
    "cwd/kernel-here-6759.json": 1,
    "cwd/kernel-both.json": 2,
    "run/kernel-both.json": 9,
    "run/kernel-1111-6759.json": 5,
    "run/kernel-2222-6759.json": 7,
    "run/kernel-3333.json": 3,
    "run/jpserver-17.json": 8,
}


@pytest.fixture
def files(sandbox: Sandbox) -> Path:
    """Connection files here and there; returns the folder that all lie below."""
    write_files(sandbox.root, FILES)
    return sandbox.root


def write_files(root: Path, files: dict[str, int]) -> None:
    for name, accessed in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
        # The time of the last change tells the opposite.
        os.utime(path, (1_000_000 + accessed, 1_000_000 - accessed))


@pytest.fixture(autouse=True)
def no_files_left(sandbox: Sandbox) -> Any:
    yield
    for path in sandbox.runtime.glob("*.json"):
        path.unlink()


@pytest.mark.parametrize(
    "wanted, found",
    [
        ("kernel-3333.json", "run/kernel-3333.json"),
        ("kernel-both.json", "cwd/kernel-both.json"),  # the working directory comes first
        ("../run/kernel-both.json", "run/kernel-both.json"),
        ("3333", "run/kernel-3333.json"),
        ("6759", "run/kernel-2222-6759.json"),  # several: the one that was read last
        ("1111", "run/kernel-1111-6759.json"),
        ("kernel-*6759*.json", "run/kernel-2222-6759.json"),
        ("*1111*", "run/kernel-1111-6759.json"),
        ("here", "cwd/kernel-here-6759.json"),
    ],
)
def test_a_name_a_fragment_or_a_glob_finds_a_file(files: Path, wanted: str, found: str) -> None:
    assert find_connection_file(wanted) == str(files / found)
    assert find_connection_file(wanted) == jupyter_client.connect.find_connection_file(wanted)


def test_an_absolute_path_is_found_as_it_is(files: Path) -> None:
    path = str(files / "run/kernel-3333.json")
    assert find_connection_file(path) == path


def test_without_a_name_the_kernel_file_that_was_read_last_is_found(files: Path) -> None:
    assert find_connection_file() == str(files / "run/kernel-both.json")
    assert find_connection_file() == jupyter_client.connect.find_connection_file()


@pytest.mark.parametrize("wanted", ["no-such-kernel", "kernel-*.jso", "/no/such/kernel.json"])
def test_what_is_not_found_is_one_sentence(files: Path, wanted: str) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        find_connection_file(wanted)
    assert isinstance(caught.value, KernelNotFound)
    assert str(caught.value) == (
        f"no kernel matches {wanted!r}; searched {files / 'cwd'}, {files / 'run'}. "
        "%kernels --all shows the kernels found here"
    )
    with pytest.raises(OSError, match="Could not find"):
        jupyter_client.connect.find_connection_file(wanted)


PROFILE_FILES = {
    "ipy/profile_gpu/security/kernel-4444.json": 1,
    "ipy/profile_gpu/security/ipcontroller-engine.json": 4,
    "ipy/profile_gpu/security/kernel-3333-5555.json": 2,
    "ipy/profile_default/security/kernel-4444.json": 3,
}


@pytest.mark.parametrize(
    "wanted, profile, found",
    [
        ("kernel-4444.json", "gpu", "ipy/profile_gpu/security/kernel-4444.json"),
        ("4444", "gpu", "ipy/profile_gpu/security/kernel-4444.json"),
        ("kernel-4444.json", "default", "ipy/profile_default/security/kernel-4444.json"),
        ("3333", "gpu", "ipy/profile_gpu/security/kernel-3333-5555.json"),
        ("kernel-both.json", "gpu", "cwd/kernel-both.json"),
    ],
)
def test_a_profile_has_a_folder_of_its_own(
    files: Path, wanted: str, profile: str, found: str
) -> None:
    write_files(files, PROFILE_FILES)
    assert find_connection_file(wanted, profile) == str(files / found)
    assert find_connection_file(wanted, profile=profile) == str(files / found)
    # The documented folder, by the words of IPython's own function.
    security = ProfileDir.find_profile_dir_by_name(get_ipython_dir(), profile).security_dir
    theirs = jupyter_client.connect.find_connection_file(wanted, [".", security])
    assert find_connection_file(wanted, profile) == theirs


def test_a_profile_s_files_are_not_those_of_the_runtime_directory(files: Path) -> None:
    write_files(files, PROFILE_FILES)
    with pytest.raises(FileNotFoundError, match="profile_default/security"):
        find_connection_file("3333", profile="default")
    with pytest.raises(FileNotFoundError, match="4444"):
        find_connection_file("4444")


def test_a_profile_that_is_not_there_is_one_sentence(files: Path) -> None:
    write_files(files, PROFILE_FILES)
    with pytest.raises(FileNotFoundError, match=r"The profiles there are: default, gpu$"):
        find_connection_file("4444", profile="missing")


# What they say.


def test_the_content_of_a_named_file_is_returned_as_text_or_unpacked(files: Path) -> None:
    path = files / "run/kernel-3333.json"
    text = json.dumps({"key": "sécret", "shell_port": 1, "ip": "127.0.0.1"}, indent=3)
    path.write_text(text)
    for name in ("3333", "kernel-3333.json", str(path)):
        assert get_connection_info(name) == text == ipykernel.connect.get_connection_info(name)
        unpacked = get_connection_info(name, unpack=True)
        assert unpacked == {"key": "sécret".encode(), "shell_port": 1, "ip": "127.0.0.1"}
        assert unpacked == ipykernel.connect.get_connection_info(name, unpack=True)


def test_the_content_of_a_profile_s_file_is_returned(files: Path) -> None:
    write_files(files, PROFILE_FILES)
    path = files / "ipy/profile_gpu/security/kernel-4444.json"
    path.write_text('{"shell_port": 4}')
    assert get_connection_info("4444", profile="gpu") == '{"shell_port": 4}'
    assert get_connection_info("4444", True, "gpu") == {"shell_port": 4, "key": b""}


@pytest.mark.parametrize("text", ['{"key": "secret', "[1]", '"secret"', ""])
def test_what_cannot_be_unpacked_is_an_error_without_the_key(files: Path, text: str) -> None:
    path = files / "run/kernel-3333.json"
    path.write_text(text)
    assert get_connection_info("3333") == text
    with pytest.raises(ConnectionFileError, match=r"kernel-3333\.json") as caught:
        get_connection_info("3333", unpack=True)
    assert "secret" not in f"{caught.value!r} {caught.value.__cause__!r}"


# Writing them.


PUBLIC, SECRET = zmq.curve_keypair()

GIVEN: dict[str, Any] = {
    **dict.fromkeys(("shell_port", "iopub_port", "stdin_port", "hb_port", "control_port"), 0),
    "ip": "127.0.0.1",
    "key": b"a key",
    "transport": "tcp",
    "signature_scheme": "hmac-sha512",
    "kernel_name": "python3",
}
PORTS = {"shell_port": 1, "iopub_port": 2, "stdin_port": 3, "hb_port": 4, "control_port": 5}
CURVE = {"curve_publickey": PUBLIC, "curve_secretkey": SECRET}


@pytest.mark.parametrize(
    "given",
    [
        {},
        PORTS,
        {**GIVEN, **PORTS},
        {**GIVEN, **PORTS, "jupyter_session": "a.ipynb"},
        {"transport": "ipc", "ip": "sockets"},
        {**PORTS, **CURVE},
    ],
)
def test_a_file_is_written_as_the_original_writes_it(at_work: Path, given: dict[str, Any]) -> None:
    names = parameters(jupyter_client.connect.write_connection_file)
    if "curve_publickey" in given and "curve_publickey" not in {one.name for one in names}:
        pytest.skip("this jupyter_client knows no Curve keys")
    ours, theirs = at_work / "ours.json", at_work / "theirs.json"
    path, entries = write_connection_file(str(ours), **given)
    original = jupyter_client.connect.write_connection_file(str(theirs), **given)
    assert (path, original[0]) == (str(ours), str(theirs))
    assert json.loads(ours.read_text()) == entries
    assert ours.stat().st_mode & 0o777 == 0o600
    # Free ports are others each time; whether they are ports the next test shows.
    if given.get("transport") == "ipc" or "shell_port" in given:
        assert entries == original[1]
        assert ours.read_text() == theirs.read_text()
    else:
        assert list(entries) == list(original[1])


def test_curve_keys_are_written_by_every_version(at_work: Path) -> None:
    path, entries = write_connection_file("ours.json", curve_publickey=PUBLIC, key=b"k")
    assert entries["curve_publickey"] == PUBLIC.decode()
    assert json.loads(Path(path).read_text()) == entries
    assert "curve_secretkey" not in entries


def test_without_a_name_a_temporary_file_is_written(sandbox: Sandbox) -> None:
    path, entries = write_connection_file()
    try:
        assert Path(path).parent == sandbox.temporary
        assert json.loads(Path(path).read_text()) == entries
    finally:
        Path(path).unlink()


def listening_on(pid: int) -> set[int]:
    found = psutil.Process(pid).net_connections("tcp")
    return {one.laddr.port for one in found if one.status == psutil.CONN_LISTEN}


@pytest.mark.parametrize("curve", [False, True], ids=["plain", "curve"])
def test_a_kernel_starts_with_a_file_that_was_written(
    sandbox: Sandbox, closing: ExitStack, curve: bool
) -> None:
    if curve:
        parts.require("curve")
    keys: dict[str, Any] = CURVE if curve else {}
    path, entries = write_connection_file(
        str(sandbox.runtime / "kernel-written.json"), key=b"only ours", **keys
    )
    ports = [value for name, value in entries.items() if name.endswith("_port")]
    assert len(set(ports)) == 5
    assert all(1024 <= port < 65536 for port in ports)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", path]
    log = sandbox.work / "kernel.log"
    with Process(argv, env=sandbox.environment(), cwd=sandbox.work, log=log) as process:
        # Looked up and not tried: a connection that comes too early may connect to itself.
        wait_until(lambda: set(ports) <= listening_on(process.pid), what="it listens")
        with connected(entries, "shell") as client:
            request = client.kernel_info()
            reply = client.shell_channel.get_msg(timeout=PATIENCE)
    assert reply["parent_header"]["msg_id"] == request
    assert reply["content"]["implementation"] == "ipython"


# Argument lists.


@pytest.mark.parametrize(
    "argv, aliases, flags, kept",
    [
        # Nothing is the front end's own.
        ("-a 5 --b file", None, None, "-a 5 --b file"),
        ("-a 5 --b file", [], [], "-a 5 --b file"),
        # A flag takes no value.
        ("--nb 5", None, ["nb"], "5"),
        ("-n 5", None, ["n"], "5"),
        ("--nb=5", None, ["nb"], "--nb=5"),
        # An alias takes one, in both spellings.
        ("--port 5 file", ["port"], None, "file"),
        ("--port=5 file", ["port"], None, "file"),
        ("-p 5 file", ["p"], None, "file"),
        ("-p=5 file", ["p"], None, "file"),
        ("--port= file", ["port"], None, "file"),
        ("--port=a=b file", ["port"], None, "file"),
        ("--port -5 file", ["port"], None, "file"),
        ("file --port", ["port"], None, "file"),
        # Both: a value, unless an option follows.
        ("--existing 5 file", ["existing"], ["existing"], "file"),
        ("--existing=5 file", ["existing"], ["existing"], "file"),
        ("--existing --debug", ["existing"], ["existing"], "--debug"),
        # Its place tells which word a value is.
        ("5 -a --port 5", ["port"], None, "5 -a"),
        ("5 --nb --port 5 --nb 6", ["port"], ["nb"], "5 6"),
        # Abbreviated, as a command line allows for long options.
        ("--no-br file", None, ["no-browser"], "file"),
        ("--po 5 file", ["port"], None, "file"),
        ("--po=5 file", ["port"], None, "file"),
        ("-f file", ["filename"], ["first"], "-f file"),
        # A whole name is not the beginning of another.
        ("--debug file", ["debugger"], ["debug"], "file"),
        # Only what begins a name is one.
        ("--ports 5", ["port"], ["port"], "--ports 5"),
        ("port nb", ["port"], ["nb"], "port nb"),
        ("- file", ["a"], ["b"], "- file"),
        # What follows two dashes is for somebody else.
        ("--nb -- --nb --port 5", ["port"], ["nb"], "-- --nb --port 5"),
        ("--port -- 5", ["port"], None, "-- 5"),
        # Mappings, as applications have them.
        ("--port 5 --nb x", {"port": "App.port"}, {"nb": ({}, "help")}, "x"),
    ],
)
def test_a_front_end_s_own_arguments_are_taken_out(
    argv: str, aliases: Any, flags: Any, kept: str
) -> None:
    words = argv.split()
    assert swallow_argv(words, aliases=aliases, flags=flags) == kept.split()
    assert words == argv.split()  # it is the caller's list
    assert swallow_argv(words, aliases, flags) == kept.split()


def test_a_real_front_end_s_arguments_are_taken_out() -> None:
    from jupyter_client.consoleapp import app_aliases, app_flags

    argv = ["--existing", "--ip=h", "--no-confirm-exit", "--kernel", "bash", "--debug", "-x", "1"]
    kept = swallow_argv(argv, app_aliases, app_flags)
    assert kept == ["--debug", "-x", "1"]
