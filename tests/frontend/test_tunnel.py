"""Kernels of another machine, from a notebook and from a terminal, over a real ssh that asks."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Generator
from contextlib import ExitStack

import psutil
import pytest

from tests import frontend
from tests.frontend import LOAD, error_lines, remotely, transcript
from tests.support import parts
from tests.support.hosts import KernelHost, TerminalHost
from tests.support.kernels import HandKernel
from tests.support.processes import ssh_below
from tests.support.sandbox import Sandbox
from tests.support.sshd import HOST, SshServer, make_it_ask, ssh_server
from tests.support.waiting import wait_until
from tests.support.windows import Display, listening, qt_variables, window

pytestmark = pytest.mark.full

PASSPHRASE = "open-sesame-4711"


@pytest.fixture
def server(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, shared_kernel: HandKernel
) -> Generator[SshServer]:
    """With one kernel, which is called ``kernel-far6759`` there."""
    parts.require("sshd")
    with ssh_server(sandbox.root / "sshd") as server:
        shutil.copy(shared_kernel.connection_file, server.runtime / "kernel-far6759.json")
        monkeypatch.setenv("PATH", f"{server.bin}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        yield server


host = frontend.host_of_server


def ssh_of(pid: int) -> list[psutil.Process]:
    return list(ssh_below(pid))


def left_in(sandbox: Sandbox) -> list[str]:
    return [path.name for path in sandbox.temporary.iterdir() if path.name.startswith("km-")]


def answer(question: str, secret: bool) -> str:
    assert question.startswith("[ssh] ")
    return PASSPHRASE if secret else "yes"


@pytest.mark.quick
def test_a_far_kernel_is_attached_and_used_as_one_that_is_here(host: KernelHost) -> None:
    said = host.run(f"%kernel_tunnel {HOST} 6759 --name far").ok()
    assert "attached far (python, pid " in said.stdout
    assert f"ssh {HOST})" in said.stdout
    assert host.run(remotely("print(6 * 7)", kernel="far")).ok().stdout == "42\n"
    table = host.run("%kernels").ok().of_type("display_data")[0]["data"]["text/plain"]
    assert f"ssh {HOST}" in table
    assert "jupyter console --existing" in host.run("%connection_info far").ok().stdout
    assert "detached far" in host.run("%kernel_detach far").ok().stdout
    assert ssh_of(host.pid) == []


def test_what_runs_there_is_listed(host: KernelHost) -> None:
    run = host.run(f"%kernel_tunnel {HOST} --list").ok()
    table = run.of_type("display_data")[0]["data"]
    assert f"1 kernel on {HOST}" in table["text/plain"]
    assert "kernel-far6759" in table["text/plain"]
    assert "<table>" in table["text/html"]
    assert ssh_of(host.pid) == []


@pytest.mark.parametrize(
    "line, said",
    [
        (HOST, "which kernel there? Name one, or let --list show them"),
        (f"{HOST} 6759 --list", "which kernel there?"),
        ("", "the following arguments are required: [USER@]HOST[:PORT]"),
        ("'host;touch x' 6759", "is not [USER@]HOST[:PORT]"),
        ("'$(touch x)' 6759", "is not [USER@]HOST[:PORT]"),
        (f"{HOST} 6759 --sshkey nosuch", "is no file, and so no key"),
        (f"{HOST} nosuch", "no kernel matches 'nosuch'"),
        (f"{HOST}:1 6759", "Connection refused"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    host: KernelHost, sandbox: Sandbox, line: str, said: str
) -> None:
    run = host.run(f"%kernel_tunnel {line}")
    assert run.status == "error"
    told = "\n".join([transcript(run), *error_lines(run)])
    assert said in told
    assert "Traceback" not in told
    assert not (sandbox.work / "x").exists()
    assert ssh_of(host.pid) == []


MONOKAI = (0x27, 0x28, 0x22)
"""The background of the style of that name."""


def test_a_window_opens_on_a_far_kernel(
    host: KernelHost, sandbox: Sandbox, shared_kernel: HandKernel, closing: ExitStack
) -> None:
    parts.require("qt")
    display = closing.enter_context(Display(sandbox))
    host.run(f"import os; os.environ.update({qt_variables(sandbox, display)!r})").ok()
    host.run(f"%kernel_tunnel {HOST} 6759 --name far").ok()
    with listening(shared_kernel.info) as listener:
        host.run(remotely("pass", kernel="far")).ok()
        ours = listener.session_of("execute_request")
        said = host.run("%connect_qtconsole far --style=monokai").ok().stdout
        opened = re.fullmatch(r"opened a Qt console on (\S+) \(pid (\d+)\)\n", said)
        assert opened, said
        closing.enter_context(window(int(opened[2])))
        assert listener.console_session() != ours
    wait_until(lambda: display.count(MONOKAI) > 400 * 200, what="a window is drawn")


# Questions.


def test_what_ssh_asks_is_asked_in_the_notebook(
    server: SshServer, host: KernelHost, sandbox: Sandbox
) -> None:
    make_it_ask(server, PASSPHRASE)
    run = host.run(f"%kernel_attach ssh://{HOST}/6759 --name far", on_input=answer).ok()
    (host_key, shown), (passphrase, hidden) = run.inputs
    assert host_key.startswith("[ssh] The authenticity of host")
    assert passphrase.startswith("[ssh] Enter passphrase for key")
    assert (shown, hidden) == (False, True)
    assert host.run(remotely("print('there')", kernel="far")).ok().stdout == "there\n"
    assert PASSPHRASE not in transcript(run)
    files = [path for path in sandbox.root.rglob("*") if path.is_file()]
    assert not [path for path in files if PASSPHRASE.encode() in path.read_bytes()]


def test_who_cannot_be_asked_gets_ssh_s_own_words(server: SshServer, host: KernelHost) -> None:
    make_it_ask(server, PASSPHRASE)
    run = host.run(f"%kernel_tunnel {HOST} 6759")
    assert "Host key verification failed" in error_lines(run)[-1]


def test_an_interrupt_at_a_question_leaves_nothing(
    server: SshServer, host: KernelHost, sandbox: Sandbox
) -> None:
    make_it_ask(server, PASSPHRASE)
    run = host.start(f"%kernel_tunnel {HOST} 6759", allow_stdin=True)
    host.wait_for(lambda: run.inputs, what="the question")
    host.interrupt()
    assert run.wait().reply["ename"] == "LoginRefused"
    assert ssh_of(host.pid) == []
    assert left_in(sandbox) == []
    assert host.run("6 * 7").ok().result == "42"


def test_what_ssh_asks_is_asked_in_the_terminal(
    server: SshServer, terminal_host: Callable[..., TerminalHost]
) -> None:
    make_it_ask(server, PASSPHRASE)
    terminal = terminal_host()
    terminal.run(LOAD)
    terminal.start(f"%kernel_tunnel {HOST} 6759 --name far")
    terminal.expect("The authenticity of host")
    terminal.type_line("yes")
    terminal.expect("Enter passphrase for key")
    terminal.type_line(PASSPHRASE)
    said = terminal.finish()
    assert "attached far" in said
    assert PASSPHRASE not in said
    assert terminal.run("%remote far print(6 * 7)") == "42"


# The end.


def test_unloading_ends_the_login(host: KernelHost, sandbox: Sandbox) -> None:
    host.run(f"%kernel_tunnel {HOST} 6759").ok()
    assert len(ssh_of(host.pid)) == 1
    host.run("%unload_ext kernel_magics").ok()
    assert ssh_of(host.pid) == []
    assert left_in(sandbox) == []


def test_a_kill_of_the_session_ends_the_login_and_leaves_no_file(
    host: KernelHost, sandbox: Sandbox
) -> None:
    host.run(f"%kernel_tunnel {HOST} 6759").ok()
    (ssh,) = ssh_of(host.pid)
    psutil.Process(host.pid).kill()
    wait_until(
        lambda: not ssh.is_running() or ssh.status() == psutil.STATUS_ZOMBIE,
        5.0,
        what="ssh has ended",
    )
    wait_until(lambda: left_in(sandbox) == [], 5.0, what="its folder is gone")
