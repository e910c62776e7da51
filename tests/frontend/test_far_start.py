"""Kernels started on another machine, from a notebook: what is said, and that they end with it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import psutil
import pytest

from tests import frontend
from tests.frontend import error_lines, remotely, transcript
from tests.support import parts
from tests.support.hosts import KernelHost
from tests.support.sandbox import MARK, Sandbox
from tests.support.sshd import HOST, SshServer, make_it_ask, ssh_server
from tests.support.waiting import wait_until

pytestmark = pytest.mark.full

PASSPHRASE = "open-sesame-4711"
WITH_ITS_OWNER = 5.0


@pytest.fixture
def home(sandbox: Sandbox) -> Path:
    """With an environment that has Jupyter, which a login shell finds."""
    home = sandbox.root / "home"
    home.mkdir(mode=0o700)
    (home / ".bash_profile").write_text(f"PATH={Path(sys.prefix) / 'bin'}:$PATH\n")
    return home


@pytest.fixture
def server(sandbox: Sandbox, home: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[SshServer]:
    parts.require("sshd")
    there = {"HOME": home, "TMPDIR": sandbox.temporary, MARK: sandbox.root}
    environment = {name: str(path) for name, path in there.items()}
    with ssh_server(sandbox.root / "sshd", environment=environment) as server:
        monkeypatch.setenv("PATH", f"{server.bin}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        yield server


host = frontend.host_of_server


def far_pid(host: KernelHost) -> int:
    return int(host.run(remotely("import os; print(os.getpid())", kernel="far")).ok().stdout)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def left(server: SshServer, sandbox: Sandbox) -> list[str]:
    """Of both ends."""
    folders = [path.name for path in sandbox.temporary.iterdir() if path.name.startswith("km-")]
    return folders + [path.name for path in server.runtime.iterdir()]


@pytest.mark.quick
def test_a_kernel_is_started_there_and_used_as_one_that_is_here(host: KernelHost) -> None:
    said = host.run(f"%kernel_start ssh://{HOST}/python3 --name far --env KM_WORD='a b'").ok()
    pid = far_pid(host)
    assert said.stdout.splitlines()[-1] == f"started far (python, pid {pid}, ssh {HOST}, ours)"
    words = host.run(remotely("print(os.environ['KM_WORD'])", kernel="far")).ok()
    assert words.stdout == "a b\n"
    table = host.run("%kernels").ok().of_type("display_data")[0]["data"]["text/plain"]
    assert f"ssh {HOST}, ours  {pid}" in table
    said = host.run("%kernel_restart far").ok()
    assert said.stdout == f"restarted far (pid {far_pid(host)})\n"
    assert "ended" in host.run("%kernel_shutdown far").ok().stdout
    assert gone(pid)


def test_an_interrupt_there_is_a_keyboard_interrupt_here(host: KernelHost) -> None:
    host.run(f"%kernel_start ssh://{HOST} --name far").ok()
    run = host.start(
        remotely("print('begun', flush=True)\nimport time; time.sleep(60)", kernel="far")
    )
    host.wait_for(lambda: "begun" in run.stdout, what="it runs")
    host.interrupt()
    assert run.wait().reply["ename"] == "KeyboardInterrupt"


def test_one_that_is_kept_is_listed_and_attached_again(
    host: KernelHost, server: SshServer, sandbox: Sandbox
) -> None:
    said = host.run(f"%kernel_start ssh://{HOST}/python3 --name far --keep").ok()
    assert f"ssh {HOST}, kept)" in said.stdout
    pid = far_pid(host)
    assert "it runs on" in host.run("%kernel_detach far").ok().stdout
    assert not gone(pid)
    (file,) = server.runtime.iterdir()
    run = host.run(f"%kernel_tunnel {HOST} --list").ok()
    assert file.stem[:20] in run.of_type("display_data")[0]["data"]["text/plain"]
    host.run(f"%kernel_attach ssh://{HOST}/{file.stem} --name far").ok()
    assert far_pid(host) == pid
    host.run("%kernel_shutdown far").ok()
    wait_until(lambda: gone(pid), what="it has ended")
    assert left(server, sandbox) == []


@pytest.mark.parametrize(
    "line, said",
    [
        (f"ssh://{HOST}/nosuch", f"{HOST} has no such kernelspec; there are "),
        (f"ssh://{HOST}/'$(touch x)'", "is no kernelspec's name"),
        (f"ssh://{HOST}/-x", "is no kernelspec's name"),
        ("'ssh://host;touch x/python3'", "is not [USER@]HOST[:PORT]"),
        ("ssh://-oProxyCommand=x/python3", "is not [USER@]HOST[:PORT]"),
        ("ssh://", "is not [USER@]HOST[:PORT]"),
        (f"ssh://{HOST}/python3 --sshkey nosuch", "is no file, and so no key"),
        (f"ssh://{HOST}/python3 --env 'a b=c'", "cannot name a variable"),
        (f"ssh://{HOST}/python3 --python '$(touch x)'", "there is no such interpreter"),
        (f"ssh://{HOST}/python3 --name all", "it is reserved"),
        (f"ssh://{HOST}:1/python3", "Connection refused"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    host: KernelHost, sandbox: Sandbox, home: Path, line: str, said: str
) -> None:
    run = host.run(f"%kernel_start {line}")
    assert run.status == "error"
    told = "\n".join([transcript(run), *error_lines(run)])
    assert said in told
    assert "Traceback" not in told
    assert not [path for path in (sandbox.work / "x", home / "x") if path.exists()]


def test_what_ssh_asks_is_asked_before_it_starts(server: SshServer, host: KernelHost) -> None:
    make_it_ask(server, PASSPHRASE)

    def answer(question: str, secret: bool) -> str:
        return PASSPHRASE if secret else "yes"

    run = host.run(f"%kernel_start ssh://{HOST} --name far", on_input=answer).ok()
    assert len(run.inputs) == 2
    assert "started far" in run.stdout


def test_a_start_that_takes_long_says_so_once_and_can_be_interrupted(
    server: SshServer, host: KernelHost, sandbox: Sandbox, home: Path
) -> None:
    slow = home / "python"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o700)
    run = host.start(f"%kernel_start ssh://{HOST} --python {slow}")
    host.wait_for(lambda: "starting" in run.stdout, what="it is said")
    assert run.stdout.count("starting ") == 1
    assert run.stdout.endswith(" ...\n")
    host.interrupt()
    assert run.wait().reply["ename"] == "KeyboardInterrupt"
    wait_until(lambda: left(server, sandbox) == [], WITH_ITS_OWNER, what="nothing is left")
    assert host.run("6 * 7").ok().result == "42"


# The end.


def unload(host: KernelHost) -> None:
    host.run("%unload_ext kernel_magics").ok()


def exit_(host: KernelHost) -> None:
    host.close()


def kill(host: KernelHost) -> None:
    psutil.Process(host.pid).kill()


@pytest.mark.parametrize("end", [unload, exit_, kill])
def test_one_that_is_held_ends_with_the_session_and_leaves_nothing(
    host: KernelHost, server: SshServer, sandbox: Sandbox, end: Callable[[KernelHost], None]
) -> None:
    host.run(f"%kernel_start ssh://{HOST} --name far").ok()
    pid = far_pid(host)
    end(host)
    wait_until(
        lambda: gone(pid) and left(server, sandbox) == [], WITH_ITS_OWNER, what="nothing is left"
    )
