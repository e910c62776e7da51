"""Kernels that we start on another machine, over a real ssh: found, used, ended, kept."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

from kernel_magics.connect.launch import LaunchOptions
from kernel_magics.connect.tunnel import Tunnel
from kernel_magics.errors import (
    BadName,
    KernelDied,
    KernelMagicsError,
    KernelNotFound,
    LaunchError,
    RemoteError,
)
from kernel_magics.kernels.kernel import Kernel, KernelState
from kernel_magics.kernels.pool import KernelPool
from kernel_magics.protocol.message import Message
from tests.support import parts
from tests.support.connection import read_info
from tests.support.languages import command
from tests.support.processes import ssh_below
from tests.support.sandbox import MARK, Sandbox
from tests.support.sshd import HOST, SshServer, ssh_server
from tests.support.striking import Place, interrupt_at, lines_told
from tests.support.tiers import full
from tests.support.waiting import wait_until

pytestmark = pytest.mark.full

WITH_ITS_LOGIN = 5.0
"""Seconds in which a kernel is gone after its login, however that ended."""

THERE = f"ssh://{HOST}"
ENVIRONMENT = Path(sys.prefix)


@pytest.fixture
def home(sandbox: Sandbox) -> Path:
    """The home folder of whoever logs in; its start-up files set no PATH."""
    home = sandbox.root / "home"
    home.mkdir(mode=0o700)
    return home


@pytest.fixture
def server(sandbox: Sandbox, home: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[SshServer]:
    parts.require("sshd")
    there = {"HOME": home, "TMPDIR": sandbox.temporary, MARK: sandbox.root}
    with ssh_server(
        sandbox.root / "sshd", environment={name: str(path) for name, path in there.items()}
    ) as server:
        monkeypatch.setenv("PATH", f"{server.bin}{os.pathsep}{os.environ['PATH']}")
        yield server


@pytest.fixture
def pool(server: SshServer) -> Generator[KernelPool]:
    pool = KernelPool()
    yield pool
    pool.close()


@pytest.fixture
def on_path(home: Path) -> None:
    """Whoever logs in has the environment of these tests on the PATH."""
    (home / ".bash_profile").write_text(f"PATH={ENVIRONMENT / 'bin'}:$PATH\n")


def kernelspec(home: Path, name: str, *argv: str, **more: object) -> str:
    """Install a kernelspec there, and return what starts it."""
    folder = home / ".local" / "share" / "jupyter" / "kernels" / name
    folder.mkdir(parents=True)
    spec = {"argv": argv, "display_name": "for a test", "language": "none", **more}
    (folder / "kernel.json").write_text(json.dumps(spec))
    return f"{THERE}/{name}"


def wrapped(home: Path) -> str:
    """Install ipykernel as something that is not known to be Python, so that it has ports."""
    script = home / "launch"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m ipykernel_launcher "$@"\n')
    script.chmod(0o700)
    return kernelspec(home, "wrapped", str(script), "-f", "{connection_file}")


def value(kernel: Kernel, expression: str) -> str:
    return kernel.run(f"print({expression})").stdout.rstrip("\n")


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def left_there(server: SshServer, sandbox: Sandbox, *, ours: Path | None = None) -> list[Path]:
    """Connection files, and folders with sockets and logs, but for our own end's."""
    folders = [path for path in sandbox.temporary.iterdir() if path.name.startswith("km-")]
    return [path for path in (*server.runtime.iterdir(), *folders) if path != ours]


def our_end(kernel: Kernel) -> Path:
    assert kernel.info.path is not None
    return kernel.info.path.parent


def logins() -> list[psutil.Process]:
    """The ssh processes of ours that hold a login, and not just a kernel of it."""
    return [each for each, words in ssh_below().items() if "-M" in words]


def start(pool: KernelPool, **options: object) -> Kernel:
    python = {"spec": f"{THERE}/python3", "python": sys.executable}
    return pool.start(LaunchOptions(**{**python, **options}), "far")  # type: ignore[arg-type]


def is_gone(pid: int, server: SshServer, sandbox: Sandbox) -> bool:
    return gone(pid) and left_there(server, sandbox) == []


# Found and used.


def test_a_kernel_started_there_runs_cells_where_and_with_what_it_was_told(
    pool: KernelPool, home: Path
) -> None:
    folder = home / "it's $(touch x) a\nfolder"
    folder.mkdir()
    words = "a b='c' \"d\"\n$(touch x) `touch x` ${HOME} \\ -e é"
    kernel = start(pool, cwd=str(folder), env={"KM_WORD": words, "d": "x", "PATH": "/nowhere"})
    assert (kernel.name, pool.names, pool.last) == ("far", ["far"], kernel)
    assert value(kernel, "ascii(__import__('os').getcwd())") == ascii(str(folder))
    assert value(kernel, "ascii(__import__('os').environ['KM_WORD'])") == ascii(words)
    assert value(kernel, "__import__('os').environ['d']") == "x"
    assert value(kernel, "__import__('os').environ['PATH']") == "/nowhere"
    assert value(kernel, "__import__('os').getpid()") == str(kernel.pid)
    assert value(kernel, "__import__('sys').executable") == sys.executable
    assert [path for path in home.rglob("*") if path.name == "x"] == []
    lines = "".join(f"{number}\n" for number in range(2000))
    assert kernel.run("for n in range(2000): print(n, flush=True)").stdout == lines


def test_without_options_it_runs_in_the_home_folder(pool: KernelPool, home: Path) -> None:
    kernel = start(pool)
    assert value(kernel, "__import__('os').getcwd()") == str(home)
    assert value(kernel, "__import__('os').environ.get('JPY_PARENT_PID')") == "None"
    kernel.run("open('mine', 'w').close()")
    assert (home / "mine").stat().st_mode & 0o777 == 0o644  # as whatever one makes there


@pytest.mark.parametrize("cwd", ["~/sub", "-sub", *full("~", "sub", "-")])
def test_a_folder_there_is_meant_from_the_home_folder(
    pool: KernelPool, home: Path, cwd: str
) -> None:
    for name in ("sub", "-sub", "-"):
        (home / name).mkdir()
    there = home / cwd.removeprefix("~").removeprefix("/")
    assert value(start(pool, cwd=cwd), "__import__('os').getcwd()") == str(there)


FILES = {
    "a login shell's": (".bash_profile", ""),
    "an interactive shell's": (".bashrc", "case $- in *i*) ;; *) return ;; esac\n"),
}


@pytest.mark.parametrize("where", FILES)
def test_an_environment_is_found_on_the_path_that_is(
    pool: KernelPool, home: Path, where: str
) -> None:
    name, head = FILES[where]
    (home / name).write_text(f"{head}PATH={ENVIRONMENT / 'bin'}:$PATH\n")
    if name == ".bashrc":
        (home / ".bash_profile").write_text(". ~/.bashrc\n")
    kernel = pool.start(LaunchOptions(f"{THERE}/python3"))
    assert kernel.name == "python3"
    assert value(kernel, "__import__('sys').prefix") == sys.prefix
    assert value(kernel, "__import__('os').environ['PATH']").startswith(str(ENVIRONMENT / "bin"))


def test_noise_of_start_up_files_does_no_harm(pool: KernelPool, home: Path) -> None:
    noise = "echo welcome; echo 'km\tpid\tx'; printf 'no end'; echo oops >&2; sleep 1 &\n"
    (home / ".bashrc").write_text(noise)
    profile = f"{noise}PATH={ENVIRONMENT / 'bin'}:$PATH\nread -r word\n"
    (home / ".bash_profile").write_text(profile)
    kernel = pool.start(LaunchOptions(THERE))
    assert value(kernel, "__import__('sys').prefix") == sys.prefix


@pytest.mark.parametrize("python", [sys.executable, sys.prefix, "python3"])
def test_an_interpreter_without_a_kernelspec_is_started(
    pool: KernelPool, on_path: None, home: Path, python: str
) -> None:
    kernel = pool.start(LaunchOptions(THERE, python=python))
    assert kernel.name == "python"
    assert kernel.run("print(6 * 7)").stdout == "42\n"


def test_an_environment_in_the_home_folder_is_found(pool: KernelPool, home: Path) -> None:
    (home / "env").symlink_to(ENVIRONMENT)
    kernel = pool.start(LaunchOptions(THERE, python="~/env"))
    assert value(kernel, "__import__('sys').executable") == str(home / "env/bin/python")


def test_other_kernelspecs_are_started(pool: KernelPool, home: Path) -> None:
    parts.require("bash")
    argv = (sys.executable, "-m", "bash_kernel", "-f", "{connection_file}")
    env = {"KM_HOME": "<${HOME}> $$ $nosuch 'x'"}
    kernel = pool.start(LaunchOptions(kernelspec(home, "bash", *argv, env=env)))
    assert (kernel.name, kernel.language) == ("bash", "bash")
    assert kernel.run('echo $((6 * 7)) "$KM_HOME"').stdout == f"42 <{home}> $ $nosuch 'x'\n"


def test_what_is_not_ipykernel_listens_on_ports_of_the_loopback(
    pool: KernelPool, home: Path, server: SshServer
) -> None:
    kernel = pool.start(LaunchOptions(wrapped(home)))
    (file,) = server.runtime.iterdir()
    info = read_info(file)
    assert info is not None
    assert (info["transport"], info["ip"]) == ("tcp", "127.0.0.1")
    assert kernel.run("print(6 * 7)").stdout == "42\n"


def test_a_python_kernel_is_private_there(
    pool: KernelPool, server: SshServer, sandbox: Sandbox
) -> None:
    kernel = start(pool)
    (file,) = server.runtime.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    info = read_info(file)
    assert info is not None
    sockets = Path(info["ip"]).parent
    assert sockets.stat().st_mode & 0o777 == 0o700
    assert info["key"].encode() == kernel.info.key.reveal()


def test_the_key_is_in_no_command_line_and_no_environment(
    pool: KernelPool, server: SshServer
) -> None:
    seen: list[bytes] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            for folder in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        seen.append((folder / name).read_bytes())
                    except OSError:
                        continue  # it has just ended

    looking = threading.Thread(target=look)
    looking.start()
    try:
        key = start(pool).info.key.reveal()
    finally:
        done.set()
        looking.join()
    assert any(b"ipykernel_launcher" in each for each in seen)
    assert not any(key in each for each in seen)


def test_another_shell_there_does_it_as_well(
    sandbox: Sandbox, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where `sh` is dash usually, here it is bash, or the other way round."""
    parts.require("sshd")
    default = Path("/bin/sh").resolve().name
    other = shutil.which("dash" if default == "bash" else "bash")
    if other is None:
        pytest.skip("there is one shell only")
    (home / "bin").mkdir()
    (home / "bin" / "sh").symlink_to(other)
    there = {"HOME": home, "TMPDIR": sandbox.temporary, MARK: sandbox.root}
    environment = {name: str(path) for name, path in there.items()}
    environment["PATH"] = f"{home / 'bin'}:/usr/local/bin:/usr/bin:/bin"
    with (
        ssh_server(sandbox.root / "sshd", environment=environment) as server,
        closing(KernelPool()) as pool,
    ):
        monkeypatch.setenv("PATH", f"{server.bin}{os.pathsep}{os.environ['PATH']}")
        kernel = start(pool, env={"KM_WORD": "a\n'b'"})
        assert value(kernel, "__import__('os').environ['KM_WORD']") == "a\n'b'"
        kernel.restart(now=True)
        pool.shutdown("far")
        assert left_there(server, sandbox) == []
        kernel = start(pool, keep=True)
        kernel.signal(signal.SIGCONT)
        assert value(kernel, "6 * 7") == "42"
        pool.shutdown("far")
        assert left_there(server, sandbox) == []


def test_a_host_that_allows_no_more_sessions_says_what_to_do(
    sandbox: Sandbox, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.require("sshd")
    environment = {"HOME": str(home), "TMPDIR": str(sandbox.temporary), MARK: str(sandbox.root)}
    lines = ["MaxSessions 3"]
    with (
        ssh_server(sandbox.root / "sshd", server=lines, environment=environment) as server,
        closing(KernelPool()) as pool,
    ):
        monkeypatch.setenv("PATH", f"{server.bin}{os.pathsep}{os.environ['PATH']}")
        start(pool)  # the login has one session, a kernel one, and a look for kernelspecs one
        start(pool)
        with pytest.raises(KernelMagicsError, match=r"no more sessions.*MaxSessions.*--keep"):
            start(pool)
        assert pool["far"].run("print(6 * 7)").stdout == "42\n"


def test_two_of_a_host_share_one_login_and_a_second_of_a_name_gets_a_number(
    pool: KernelPool,
) -> None:
    options = LaunchOptions(THERE, python=sys.executable)
    names = [pool.start(options).name for _ in range(2)]
    assert names == ["python", "python-2"]
    assert len(logins()) == 1


# What cannot be started.


def test_a_kernelspec_that_is_not_there_is_an_error_that_lists_those_that_are(
    pool: KernelPool, home: Path, on_path: None
) -> None:
    kernelspec(home, "mine", "x")
    with pytest.raises(
        LaunchError, match=rf"{HOST} has no such kernelspec; there are .*mine.*python3.*--python"
    ):
        pool.start(LaunchOptions(f"{THERE}/nosuch"))
    assert logins() == []


@pytest.mark.quick
@pytest.mark.parametrize(
    "spec", ["-x", "..", ".", "a/b", "$(touch x)", "a b", "a;b", "a'b", "a\nb", "x\0", "é", "*"]
)
def test_what_is_no_name_of_a_kernelspec_is_refused_before_anybody_logs_in(
    pool: KernelPool, spec: str
) -> None:
    with pytest.raises(LaunchError, match="is no kernelspec's name"):
        pool.start(LaunchOptions(f"{THERE}/{spec}"), "far")
    assert logins() == []


@pytest.mark.parametrize(
    "options, said",
    [
        ({"env": {"A B": "x"}}, "cannot name a variable"),
        ({"env": {"A;touch x": "x"}}, "cannot name a variable"),
        ({"env": {"A": "x\0"}}, "that no process can be given"),
        ({"env": {"A": "\udc80"}}, "that no process can be given"),
        ({"cwd": "x\0"}, "is no folder"),
        ({"cwd": ""}, "is no folder"),
        ({"python": "x\0"}, "is no interpreter"),
    ],
)
def test_options_that_no_process_can_have_are_refused(
    pool: KernelPool, options: dict[str, object], said: str
) -> None:
    with pytest.raises(LaunchError, match=said):
        start(pool, **options)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"python": "/no/such"}, f"there is no such interpreter on {HOST}"),
        ({"python": "$(touch x)"}, "there is no such interpreter"),
        ({"python": "-c"}, "there is no such interpreter"),
        ({"cwd": "nosuch"}, "nosuch"),
        ({"cwd": "'; touch x; '"}, "touch x"),
    ],
)
def test_what_is_not_there_is_said_and_runs_nothing(
    pool: KernelPool,
    server: SshServer,
    sandbox: Sandbox,
    home: Path,
    options: dict[str, object],
    said: str,
) -> None:
    with pytest.raises(LaunchError) as caught:
        start(pool, **options)
    assert said in str(caught.value)
    assert left_there(server, sandbox) == []
    assert not (home / "x").exists()
    assert logins() == []


def test_a_name_that_none_can_have_is_refused(pool: KernelPool) -> None:
    with pytest.raises(BadName):
        pool.start(LaunchOptions(THERE), "all")
    assert logins() == []


DEAD = {
    "ends at once": (("sh", "-c", "echo bad luck >&2; exit 3", "{connection_file}"), "bad luck"),
    "no such program": (("no-such-program", "{connection_file}"), "no-such-program"),
    "a module is missing": (
        (sys.executable, "-m", "no_such_module", "-f", "{connection_file}"),
        "No module named no_such_module",
    ),
}


@pytest.mark.parametrize("keep", [False, *full(True)])
@pytest.mark.parametrize("how", DEAD)
def test_one_that_dies_at_once_is_an_error_with_its_last_words(
    pool: KernelPool, server: SshServer, sandbox: Sandbox, home: Path, how: str, keep: bool
) -> None:
    argv, said = DEAD[how]
    spec = kernelspec(home, "dead", *argv)
    began = time.monotonic()
    with pytest.raises(
        LaunchError, match=r"(?s)died: its process ended with exit code.*\n.*" + said
    ):
        pool.start(LaunchOptions(spec, keep=keep))
    assert time.monotonic() - began < 20.0  # a start may take 60
    assert left_there(server, sandbox) == []
    assert pool.names == []
    assert logins() == []


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"argv": []}', '{"argv": [1]}', '{"argv": ["x"], "env": {"A": 1}}']
)
def test_a_broken_kernelspec_is_named(pool: KernelPool, home: Path, text: str) -> None:
    spec = kernelspec(home, "broken")
    (home / ".local/share/jupyter/kernels/broken/kernel.json").write_text(text)
    with pytest.raises(LaunchError, match=f"its kernelspec, in {HOST}:{home}.*broken, "):
        pool.start(LaunchOptions(spec))


@pytest.mark.parametrize("seconds", [0.3, 0.6, *full(*(number / 20 for number in range(1, 25)))])
def test_an_interrupt_while_it_starts_leaves_nothing(
    pool: KernelPool, server: SshServer, sandbox: Sandbox, home: Path, seconds: float
) -> None:
    spec = kernelspec(home, "slow", "sh", "-c", "sleep 60 & sleep 61", "{connection_file}")
    timer = threading.Timer(seconds, partial(os.kill, os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        pool.start(LaunchOptions(spec, keep=True))
    timer.join()
    assert logins() == []
    wait_until(lambda: left_there(server, sandbox) == [], WITH_ITS_LOGIN, what="all is gone")
    assert pool.names == []


EVERY = 23
"""Of the some 870 lines of a start, how far those are apart that are struck."""


def is_of_a_start(file: str) -> bool:
    return file == subprocess.__file__ or any(
        part in file for part in ("/kernel_magics/connect/", "/kernel_magics/kernels/pool.py")
    )


@pytest.mark.parametrize("keep", [False, True])
def test_an_interrupt_at_whatever_line_leaves_nothing(
    pool: KernelPool, server: SshServer, sandbox: Sandbox, keep: bool
) -> None:
    def is_gone() -> bool:
        return left_there(server, sandbox) == [] and not list(ssh_below())

    lines: dict[Place, None] = {}
    start(pool, keep=keep)  # imports
    pool.shutdown("far")
    with lines_told(is_of_a_start, lambda place: lines.update({place: None})):
        start(pool, keep=keep)
    pool.shutdown("far")
    struck = []
    for place in [*list(lines)[::EVERY], next(reversed(lines))]:
        with suppress(KeyboardInterrupt), interrupt_at(place) as now:
            start(pool, keep=keep)
            assert not now.is_set(), f"Ctrl-C was lost at {place}"
        struck.append(now.is_set())
        # At the very end it is up already.
        for name in pool.names:
            assert value(pool[name], "2 + 2") == "4", place
            pool.shutdown(name)
        wait_until(is_gone, WITH_ITS_LOGIN, what=f"nothing is left of {place}")
    # Not each is come to each time: some are only of whoever has to wait.
    assert sum(struck) > 0.9 * len(struck)
    assert struck[-1]


# The end of one that is held.


def shut_down(pool: KernelPool, server: SshServer) -> None:
    _, ended = pool.shutdown("far")
    assert ended


def close(pool: KernelPool, server: SshServer) -> None:
    pool.close()


def detach(pool: KernelPool, server: SshServer) -> None:
    pool.detach("far")


def kill_ssh(pool: KernelPool, server: SshServer) -> None:
    for each in logins():
        each.kill()


def kill_session(pool: KernelPool, server: SshServer) -> None:
    for each, words in ssh_below().items():
        if "-M" not in words:
            each.kill()


def cut(pool: KernelPool, server: SshServer) -> None:
    for each in server.sessions():
        each.kill()


@pytest.mark.parametrize("kind", ["sockets", *full("ports")])
@pytest.mark.parametrize("end", [close, kill_ssh, *full(shut_down, detach, kill_session, cut)])
def test_one_that_is_held_ends_with_what_holds_it_and_leaves_nothing(
    pool: KernelPool,
    server: SshServer,
    sandbox: Sandbox,
    home: Path,
    end: Callable[[KernelPool, SshServer], None],
    kind: str,
) -> None:
    kernel = start(pool) if kind == "sockets" else pool.start(LaunchOptions(wrapped(home)), "far")
    assert kernel.pid is not None
    pid, ours = kernel.pid, our_end(kernel)
    abrupt = end in (kill_ssh, kill_session, cut)
    start_child = "__import__('subprocess').Popen(['sleep', '60']).pid"
    child = int(value(kernel, start_child)) if abrupt else pid
    end(pool, server)
    wait_until(
        lambda: gone(pid) and left_there(server, sandbox, ours=ours) == [],
        WITH_ITS_LOGIN,
        what="it is gone",
    )
    assert gone(child)


def test_one_that_does_not_listen_ends_as_well(
    pool: KernelPool, server: SshServer, sandbox: Sandbox
) -> None:
    kernel = start(pool)
    kernel.run("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    assert kernel.pid is not None
    kill_ssh(pool, server)
    pid, ours = kernel.pid, our_end(kernel)
    wait_until(
        lambda: gone(pid) and left_there(server, sandbox, ours=ours) == [],
        WITH_ITS_LOGIN,
        what="it is gone",
    )


@pytest.mark.parametrize("end", [kill_ssh, cut, kill_session])
def test_a_cell_whose_login_broke_ends_with_an_error_that_says_how_to_keep_a_kernel(
    pool: KernelPool, server: SshServer, end: Callable[[KernelPool, SshServer], None]
) -> None:
    kernel = start(pool)
    execution = kernel.submit("print('begun', flush=True); import time; time.sleep(60)")

    def show(_: Message | str) -> None:
        end(pool, server)

    with pytest.raises(KernelDied, match=f"held by the login to {HOST}.*--keep.*kernel_restart"):
        execution.wait(show=show, timeout=20)
    with pytest.raises(KernelDied, match="did not run"):
        kernel.run("1")
    kernel.restart()
    assert kernel.run("print('again')").stdout == "again\n"


def test_how_it_ended_is_told(pool: KernelPool, server: SshServer, sandbox: Sandbox) -> None:
    kernel = start(pool)
    ours = our_end(kernel)
    with pytest.raises(KernelDied, match="was ended by SIGKILL"):
        kernel.run("import os; os.kill(os.getpid(), 9)")
    wait_until(lambda: left_there(server, sandbox, ours=ours) == [], what="its files are gone")
    kernel.restart()
    assert kernel.run("print('again')").stdout == "again\n"


# One that is kept.


def test_one_that_is_kept_outlives_us_and_is_found_again(
    pool: KernelPool, server: SshServer, sandbox: Sandbox
) -> None:
    kernel = start(pool, keep=True)
    assert kernel.pid is not None
    pid = kernel.pid
    kernel.run("a = 5")
    pool.close()
    wait_until(lambda: server.sessions() == [], what="nobody is logged in")
    (file,) = server.runtime.iterdir()
    with pool.login(HOST) as tunnel:
        (only,) = tunnel.kernels()
        assert (only.name, only.runs) == (file.stem, True)
    again = pool.attach(f"{THERE}/{file.stem[-8:]}", "again")
    assert value(again, "a") == "5"
    pool.shutdown("again")
    wait_until(lambda: gone(pid), what="it has ended")
    assert left_there(server, sandbox) == []


def remove(path: Path) -> None:
    for each in sorted(path.rglob("*")) if path.is_dir() else []:
        each.unlink()
    path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize("kind", ["sockets", "ports"])
def test_one_that_is_kept_is_shut_down_with_its_files(
    pool: KernelPool, server: SshServer, sandbox: Sandbox, home: Path, kind: str
) -> None:
    if kind == "sockets":
        kernel = start(pool, keep=True)
    else:
        kernel = pool.start(LaunchOptions(wrapped(home), keep=True), "far")
    assert kernel.pid is not None
    _, ended = pool.shutdown("far")
    assert ended
    assert gone(kernel.pid)
    assert left_there(server, sandbox) == []
    assert logins() == []


def test_one_that_is_kept_goes_on_across_a_cut(pool: KernelPool, server: SshServer) -> None:
    kernel = start(pool, keep=True)
    code = "import time\nfor n in range(20): print(n, flush=True); time.sleep(0.1)"
    shown: list[Message | str] = []

    def show(item: Message | str) -> None:
        shown.append(item)
        if len(shown) == 4:
            server.cut()

    assert kernel.submit(code).wait(show=show, timeout=60).status == "ok"
    assert kernel.run("print(n)").stdout == "19\n"
    assert isinstance(kernel.way, Tunnel)
    kernel.restart()
    assert value(kernel, "'n' in globals()") == "False"
    kernel.shutdown(now=True)


def test_one_that_is_kept_is_let_go_of(
    pool: KernelPool, server: SshServer, sandbox: Sandbox
) -> None:
    kernel = start(pool, keep=True)
    assert kernel.pid is not None
    pool.detach("far")
    assert logins() == []
    assert not gone(kernel.pid)
    os.kill(kernel.pid, signal.SIGKILL)
    for path in left_there(server, sandbox):
        remove(path)


# Interrupts, signals, restarts.


@pytest.mark.parametrize("keep", [False, True], ids=["held", "kept"])
def test_a_cell_there_is_interrupted(pool: KernelPool, home: Path, keep: bool) -> None:
    kernel = start(pool, keep=keep)
    # Not while it still publishes: ipykernel may lose an interrupt, or its reply, there.
    execution = kernel.submit("open('begun', 'w').close()\nimport time; time.sleep(60)")
    wait_until((home / "begun").exists, what="it runs")
    kernel.interrupt()
    with pytest.raises(RemoteError) as caught:
        execution.wait(timeout=20)
    assert caught.value.ename == "KeyboardInterrupt"
    assert kernel.run("print('next')").stdout == "next\n"
    kernel.shutdown()


@pytest.mark.parametrize("keep", [False, True], ids=["held", "kept"])
def test_one_that_only_knows_signals_is_interrupted_by_one(
    pool: KernelPool, home: Path, keep: bool
) -> None:
    parts.require("ir")
    kernel = pool.start(LaunchOptions(kernelspec(home, "r", *command("ir")), keep=keep))
    execution = kernel.submit("cat('begun\\n'); flush.console(); Sys.sleep(60)")
    with pytest.raises(KernelMagicsError):
        execution.wait(show=lambda _: kernel.interrupt(), timeout=20)
    assert kernel.run("cat('next\\n')").stdout == "next\n"
    kernel.shutdown()


def test_a_signal_reaches_it(pool: KernelPool) -> None:
    kernel = start(pool)
    kernel.run(
        "import signal; caught = []; signal.signal(signal.SIGUSR1, lambda *_: caught.append(1))"
    )
    kernel.signal(signal.SIGUSR1)
    wait_until(lambda: value(kernel, "caught") == "[1]", what="it is caught")
    with pytest.raises(KernelMagicsError, match="there is no signal 4711"):
        kernel.signal(4711)


@pytest.mark.parametrize("now", [False, *full(True)])
@pytest.mark.parametrize("kind", ["held", "kept", "ports"])
def test_a_restart_keeps_the_name_but_not_the_variables(
    pool: KernelPool, server: SshServer, home: Path, kind: str, now: bool
) -> None:
    if kind == "ports":
        kernel = pool.start(LaunchOptions(wrapped(home)), "far")
    else:
        kernel = start(pool, keep=kind == "kept")
    kernel.run("x = 1")
    pid, info = kernel.pid, kernel.info
    assert pid is not None
    kernel.restart(now=now)
    assert (pool["far"], kernel.info, kernel.alive) == (kernel, info, True)
    assert kernel.pid != pid
    assert gone(pid)
    assert value(kernel, "'x' in globals()") == "False"
    assert len(list(server.runtime.iterdir())) == 1
    kernel.shutdown()


def test_a_restart_of_one_that_cannot_start_any_more_says_so(
    pool: KernelPool, server: SshServer, home: Path
) -> None:
    kernel = pool.start(LaunchOptions(wrapped(home)), "far")
    (home / "launch").write_text("#!/bin/sh\necho no more; exit 1\n")
    with pytest.raises(KernelDied, match="its process ended with exit code 1"):
        kernel.restart()
    (home / ".local/share/jupyter/kernels/wrapped/kernel.json").unlink()
    with pytest.raises(LaunchError, match="no such kernelspec"):
        kernel.restart()


def test_a_kernel_that_a_dead_network_left_is_ended_by_the_restart(
    pool: KernelPool, server: SshServer, sandbox: Sandbox
) -> None:
    kernel = start(pool)
    ours, pid = our_end(kernel), kernel.pid
    assert pid is not None
    # What holds it there learns nothing, as behind a cable that was pulled.
    shell = psutil.Process(pid).parent()
    assert shell is not None
    family = [shell, *[each for each in shell.children() if each.pid != pid]]
    for each in family:
        each.suspend()
    kill_ssh(pool, server)
    wait_until(lambda: kernel.state is KernelState.DEAD, what="it counts as dead")
    wait_until(lambda: logins() != [], what="there is a login again")
    kernel.restart()
    assert gone(pid)
    for each in family:
        each.resume()
    wait_until(lambda: not shell.is_running(), what="its shell has ended")
    assert kernel.run("print('again')").stdout == "again\n"
    assert len(left_there(server, sandbox, ours=ours)) == 2


def test_a_fragment_of_one_that_ended_finds_nothing(pool: KernelPool, server: SshServer) -> None:
    start(pool)
    (file,) = server.runtime.iterdir()
    pool.close()
    with pytest.raises(KernelNotFound):
        pool.attach(f"{THERE}/{file.stem}")
