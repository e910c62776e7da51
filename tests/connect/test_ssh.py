"""OpenSSH as the way to far machines: destinations, logins, questions. With a real server."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from kernel_magics.connect import askpass
from kernel_magics.connect.ssh import Destination, Login
from kernel_magics.errors import LoginRefused, SshError
from tests.support import logins, parts
from tests.support.logins import KINDS, PASSWORD, Asking, Kind
from tests.support.processes import ssh_below
from tests.support.sandbox import Sandbox
from tests.support.sshd import HOST, SshServer, make_it_ask, ssh_server
from tests.support.tiers import full
from tests.support.waiting import PATIENCE, wait_until

# Destinations.


@pytest.mark.parametrize(
    "text, arguments, host",
    [
        ("gpubox", [], "gpubox"),
        ("me@gpubox", ["-l", "me"], "gpubox"),
        ("me@gpubox.example.org:2222", ["-l", "me", "-p", "2222"], "gpubox.example.org"),
        ("ssh://me@gpubox:2222", ["-l", "me", "-p", "2222"], "gpubox"),
        ("gpubox:22", ["-p", "22"], "gpubox"),
        ("192.0.2.7", [], "192.0.2.7"),
        ("[2001:db8::7]:2222", ["-p", "2222"], "2001:db8::7"),
        ("2001:db8::7", [], "2001:db8::7"),
        ("a.b@c.d@host", ["-l", "a.b@c.d"], "host"),
        ("my_box-1", [], "my_box-1"),
    ],
)
def test_a_destination_is_what_ssh_users_know(text: str, arguments: list[str], host: str) -> None:
    destination = Destination.parse(text)
    assert (destination.arguments, destination.host) == (arguments, host)
    assert Destination.parse(str(destination)) == destination


HOSTILE = [
    "",
    "-oProxyCommand=touch x",
    "-oProxyCommand=touch${IFS}x",
    "--",
    "-",
    "-l",
    "@",
    "@host",
    "me@",
    "me@-oProxyCommand=x",
    "-oProxyCommand=x@host",
    "host;touch x",
    "host&touch x",
    "host|touch x",
    "host`touch x`",
    "host$(touch x)",
    "$(touch x)",
    "`touch x`",
    "host\ntouch x",
    "host\rtouch x",
    "host\0x",
    "host x",
    " host",
    "host ",
    "ho\tst",
    "'host'",
    '"host"',
    "host>x",
    "host<x",
    "host*",
    "host?",
    "host!",
    "host#x",
    "host%h",
    "%h",
    "host\\x",
    "(host)",
    "{host}",
    "~root",
    "ho/st",
    "../host",
    "ssh://-oX",
    "ssh://",
    "ssh://ssh://host",
    "host:",
    "host:0",
    "host:65536",
    "host:-1",
    "host:22;x",
    "host:22 -oProxyCommand=x",
    "host:²",
    "host:99999999999999999999",
    "[host",
    "host]",
    "[::1]x",
    "[::1;x]",
    "[::1]:x",
    "me;x@host",
    "$(x)@host",
    "me`x`@host",
    "m e@host",
    "m'e@host",
    "me\n@host",
    "me%r@host",
    "hösт",
    "\udc80host",
    "a" * 300,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_could_be_an_option_or_shell_code_is_refused(text: str) -> None:
    with pytest.raises(SshError, match=r"is not \[USER@\]HOST\[:PORT\]|has the port"):
        Destination.parse(text)


@pytest.mark.parametrize("key", ["-oProxyCommand=x", "no such file", "x\0y", "", "/"])
def test_a_key_has_to_be_a_file(key: str) -> None:
    with pytest.raises(SshError, match=r"key|path"):
        Destination.parse("host", key)


def test_a_key_is_one_argument_whatever_it_is_called(sandbox: Sandbox) -> None:
    key = sandbox.work / "-o ProxyCommand=x %h"
    key.touch()
    *_, option, path = Destination.parse("host", str(key)).arguments
    assert (option, path) == ("-i", str(key).replace("%", "%%"))


# Logins.


@pytest.fixture(scope="module")
def server(shared_sandbox: Sandbox) -> Generator[SshServer]:
    """One for tests that do it no harm."""
    parts.require("sshd")
    with ssh_server(shared_sandbox.root / "sshd") as server:
        yield server


@pytest.fixture(autouse=True)
def our_ssh(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "server" in request.fixturenames:
        server: SshServer = request.getfixturevalue("server")
        monkeypatch.setenv("PATH", f"{server.bin}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def login(sandbox: Sandbox) -> Generator[Callable[..., Login]]:
    """Make logins to the server; they are closed after the test."""
    logins: list[Login] = []

    def make(host: str = HOST, **options: object) -> Login:
        folder = sandbox.temporary / f"{len(logins)}"
        folder.mkdir(mode=0o700)
        logins.append(Login(Destination.parse(host), folder, **options))  # type: ignore[arg-type]
        return logins[-1]

    yield make
    for number, each in enumerate(logins):
        each.close()
        shutil.rmtree(sandbox.temporary / f"{number}")


MakeLogin = Callable[..., Login]


def test_a_command_runs_there_and_its_marked_lines_come_back(
    server: SshServer, login: MakeLogin
) -> None:
    here = login()
    here.open(None)
    script = "echo noise; printf 'km\\ta b\\t%s\\n' \"$JUPYTER_RUNTIME_DIR\"; echo km-noise"
    assert here.run(script, timeout=PATIENCE) == [["a b", str(server.runtime)]]


def test_what_start_up_files_print_is_no_answer(
    sandbox: Sandbox, login: MakeLogin, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.require("sshd")
    home = sandbox.root / "home"
    home.mkdir()
    (home / ".bashrc").write_text("printf 'km\\tforged\\nno line end'\n")
    with ssh_server(sandbox.root / "sshd", environment={"HOME": str(home)}) as server:
        monkeypatch.setenv("PATH", f"{server.bin}{os.pathsep}{os.environ['PATH']}")
        here = login()
        here.open(None)
        assert here.run("printf 'km\\ttrue\\n'", timeout=PATIENCE) == [["true"]]
        session = here.session('echo begun; read -r word; echo "heard $word"\n')
        assert session.stdout is not None
        while session.stdout.readline() != b"begun\n":
            pass
        said, _ = session.communicate(b"this\n", timeout=PATIENCE)
        assert said == b"heard this\n"


def test_a_forward_leads_there_and_can_be_taken_back(
    server: SshServer, login: MakeLogin, sandbox: Sandbox
) -> None:
    here = login()
    here.open(None)
    end = sandbox.temporary / "end"
    ends = {str(end): f"127.0.0.1:{server.port}"}
    here.forward(ends)
    assert end.stat().st_mode & 0o777 == 0o600
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(end))
        assert sock.recv(8).startswith(b"SSH-2.0")
    here.cancel(ends)
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(ConnectionRefusedError):
        sock.connect(str(end))
    end.unlink()  # ssh leaves it


def test_who_cannot_log_in_gets_ssh_s_own_words(
    server: SshServer, login: MakeLogin, sandbox: Sandbox
) -> None:
    with pytest.raises(SshError, match=r"ssh nobody@gpubox: .*Permission denied"):
        login(f"nobody@{HOST}").open(None)
    with pytest.raises(SshError, match=r"ssh gpubox:1: .*Connection refused"):
        login(f"{HOST}:1").open(None)
    with pytest.raises(SshError, match=r"Could not resolve hostname"):
        login("km-test.invalid").open(None)


def test_without_ssh_it_says_so(login: MakeLogin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SshError, match="there is no ssh here"):
        login().open(None)


def test_the_end_of_the_far_side_is_told(server: SshServer, login: MakeLogin) -> None:
    ended = threading.Event()
    here = login(ended=ended.set)
    here.open(None)
    server.cut()
    assert ended.wait(PATIENCE)
    assert "closed" in here.last_words
    with pytest.raises(SshError):
        here.run("echo", timeout=PATIENCE)


def test_our_own_end_is_not_told(server: SshServer, login: MakeLogin) -> None:
    told: list[str] = []
    here = login(ended=lambda: told.append("ended"))
    here.open(None)
    assert here.pid is not None
    child = psutil.Process(here.pid)
    here.close()
    here.close()
    assert not child.is_running()
    wait_until(
        lambda: (
            not any(thread.name.startswith("kernel_magics ssh") for thread in threading.enumerate())
        ),
        what="its thread has ended",
    )
    assert told == []


def test_a_stopped_child_is_ended_all_the_same(server: SshServer, login: MakeLogin) -> None:
    here = login()
    here.open(None)
    assert here.pid is not None
    os.kill(here.pid, signal.SIGSTOP)
    here.close()
    assert not psutil.pid_exists(here.pid)


OWNER = """\
import os, sys
from pathlib import Path
from kernel_magics.connect.ssh import Destination, Login
folder = Path(sys.argv[2])
folder.mkdir(mode=0o700)
login = Login(Destination.parse(sys.argv[1]), folder)
login.open(None)
print(login.pid, flush=True)
sys.stdin.read()
"""


def test_it_ends_with_whoever_opened_it_even_by_a_kill(server: SshServer, sandbox: Sandbox) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, HOST, str(sandbox.temporary / "x")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with owner:
        assert owner.stdout is not None
        child = psutil.Process(int(owner.stdout.readline()))
        owner.kill()
        wait_until(
            lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE,
            5.0,
            what="ssh has ended",
        )
    shutil.rmtree(sandbox.temporary / "x")


@pytest.mark.full
@pytest.mark.parametrize(
    "client",
    [
        ["RemoteCommand sleep 600"],
        ["SessionType none"],
        ["ForkAfterAuthentication yes"],
        ["StdinNull yes"],
        ["RequestTTY force"],
        ["ControlMaster auto", "ControlPath {folder}/own", "ControlPersist 60"],
        ["PermitLocalCommand yes", "LocalCommand echo noise"],
        ["LocalForward {port} 127.0.0.1:9", "ExitOnForwardFailure yes"],
    ],
    ids=lambda lines: str(lines[0]).split()[0],
)
def test_what_users_have_in_their_configuration_does_no_harm(
    sandbox: Sandbox, login: MakeLogin, monkeypatch: pytest.MonkeyPatch, client: list[str]
) -> None:
    parts.require("sshd")
    with ssh_server(sandbox.root / "sshd") as server:
        lines = [line.format(folder=sandbox.temporary, port=server.port) for line in client]
        server.config.write_text("\n".join([*lines, server.config.read_text()]))
        monkeypatch.setenv("PATH", f"{server.bin}{os.pathsep}{os.environ['PATH']}")
        here = login()
        here.open(None)
        assert here.run("printf 'km\\tfine\\n'", timeout=PATIENCE) == [["fine"]]
        here.close()


# Questions.


class Asked:
    """A user who answers from a list, and is asked once more than that never."""

    def __init__(self, *answers: str | type[BaseException] | BaseException) -> None:
        self.answers = list(answers)
        self.questions: list[tuple[str, bool]] = []

    def __call__(self, question: str, secret: bool) -> str:
        self.questions.append((question, secret))
        answer = self.answers.pop(0)
        if isinstance(answer, str):
            return answer
        raise answer


@pytest.fixture
def asking(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Generator[SshServer]:
    """A server whose host key is unknown, and that is reached with a key with a passphrase."""
    parts.require("sshd")
    with ssh_server(sandbox.root / "sshd") as server:
        make_it_ask(server, "open sesame")
        monkeypatch.setenv("PATH", f"{server.bin}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        yield server


LoginThatAsks = Callable[[Kind], Asking]


@pytest.fixture
def login_that_asks(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, closing: ExitStack
) -> LoginThatAsks:
    """Run a server that asks, and let our ssh know it."""

    def run(kind: Kind) -> Asking:
        way = closing.enter_context(logins.asking(kind, sandbox.root / "sshd"))
        monkeypatch.setenv("PATH", f"{way.server.bin}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        return way

    return run


def test_host_key_and_passphrase_are_asked_for(asking: SshServer, login: MakeLogin) -> None:
    user = Asked("yes", "open sesame")
    here = login()
    here.open(user)
    (host_key, host_key_secret), (passphrase, passphrase_secret) = user.questions
    assert host_key.startswith("The authenticity of host")
    assert not host_key_secret
    assert passphrase.startswith("Enter passphrase for key")
    assert passphrase_secret
    assert here.run("printf 'km\\tfine\\n'", timeout=PATIENCE) == [["fine"]]


def test_a_wrong_answer_is_asked_again(asking: SshServer, login: MakeLogin) -> None:
    user = Asked("perhaps", "yes", "wrong", "open sesame")
    login().open(user)
    assert [secret for _, secret in user.questions] == [False, False, True, True]


def test_a_refused_host_key_is_the_end(asking: SshServer, login: MakeLogin) -> None:
    with pytest.raises(SshError, match="Host key verification failed"):
        login().open(Asked("no"))


@pytest.mark.parametrize("refusal", [KeyboardInterrupt, *full(EOFError, "")])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "host key"])
@pytest.mark.parametrize("answered", [0, *full(1)])
def test_a_refused_question_ends_ssh_and_no_empty_secret_is_sent(
    login_that_asks: LoginThatAsks,
    login: MakeLogin,
    kind: Kind,
    refusal: type[BaseException] | str,
    answered: int,
) -> None:
    way = login_that_asks(kind)
    if answered >= len(way.questions):
        answered, way.questions = 1, [*way.questions, way.questions[-1]]  # a wrong one first
    here = login()
    user = Asked(*["wrong" if kind in ("password", "passphrase") else PASSWORD] * answered, refusal)
    with pytest.raises(LoginRefused, match="was not answered, so nothing was sent") as caught:
        here.open(user)
    assert way.questions[answered].text.strip() in caught.value.question
    assert caught.value.needs_user
    assert not here.alive
    assert ssh_processes() == []
    assert PASSWORD not in locals_of_ours(caught.value)
    assert len(way.failures()) == (1 if kind == "password" and answered else 0), way.log


def locals_of_ours(error: BaseException) -> str:
    """What a report of the error could tell that also shows the variables of our frames."""
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    ours = Path(askpass.__file__).parent
    return repr([each.locals for each in report.stack if Path(each.filename).parent == ours])


def ssh_processes() -> list[psutil.Process]:
    return list(ssh_below())


@pytest.mark.parametrize("kind", KINDS)
def test_every_question_is_asked_and_a_wrong_answer_is_asked_again(
    login_that_asks: LoginThatAsks, login: MakeLogin, kind: Kind
) -> None:
    way = login_that_asks(kind)
    first, *others = way.questions
    user = Asked("wrong" if first.secret else "perhaps", *[each.answer for each in way.questions])
    here = login()
    here.open(user)
    (_, wrong_secret), *asked = user.questions
    assert wrong_secret == first.secret
    again = "Please type 'yes'" if kind == "host key" else first.text
    for (text, secret), expected in zip(
        asked, [again, *[each.text for each in others]], strict=True
    ):
        assert text.startswith(expected)
        assert secret == first.secret
    assert here.run("printf 'km\\tfine\\n'", timeout=PATIENCE) == [["fine"]]
    here.close()
    assert len(way.failures()) == (1 if kind in ("password", "codes", "jump") else 0), way.log


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_without_anybody_to_ask_no_login_is_tried(
    login_that_asks: LoginThatAsks, login: MakeLogin, kind: Kind
) -> None:
    way = login_that_asks(kind)
    words = {
        "host key": "Host key verification failed",
        "jump": 'it asks "' + way.questions[0].text.strip() + '", and nobody can be asked here',
    }
    began = time.monotonic()
    with pytest.raises(SshError, match=words.get(kind, "Permission denied")) as caught:
        login().open(None)
    assert time.monotonic() - began < 5.0
    assert caught.value.needs_user
    assert ssh_processes() == []
    assert way.failures() == []


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_a_front_end_that_breaks_at_a_question_is_a_refusal_too(
    login_that_asks: LoginThatAsks, login: MakeLogin, kind: Kind
) -> None:
    way = login_that_asks(kind)
    with pytest.raises(RuntimeError, match="no front end"):
        login().open(Asked(RuntimeError("no front end")))
    assert ssh_processes() == []
    assert way.failures() == []


def test_only_a_server_that_waits_for_enter_gets_an_empty_answer() -> None:
    here, there = socket.socketpair()
    with here, there:
        texts = {
            "(me@host) Open https://host/login in a browser and press Enter: ": True,
            "(me@host) Password: ": False,
            "me@host's password: ": False,
            "Enter passphrase for key 'press enter': ": False,
        }
        for text, may_be in texts.items():
            assert askpass.Question(text, here).may_be_empty is may_be


def test_without_anybody_to_ask_it_fails_at_once(asking: SshServer, login: MakeLogin) -> None:
    began = time.monotonic()
    with pytest.raises(SshError, match="Host key verification failed"):
        login().open(None)
    assert time.monotonic() - began < 5.0


def test_an_answer_is_in_no_command_line_and_no_environment(
    asking: SshServer, login: MakeLogin
) -> None:
    seen: list[bytes] = []

    def user(question: str, secret: bool) -> str:
        if secret:
            for process in psutil.Process().children(recursive=True):
                with suppress(ProcessLookupError, FileNotFoundError):  # it has just ended
                    for what in ("cmdline", "environ"):
                        seen.append(Path(f"/proc/{process.pid}/{what}").read_bytes())
            return "open sesame"
        return "yes"

    here = login()
    here.open(user)
    assert here.pid is not None
    seen.append(Path(f"/proc/{here.pid}/environ").read_bytes())
    assert any(b"SSH_ASKPASS" in each for each in seen[:-1])
    assert not any(b"sesame" in each for each in seen)


@pytest.mark.parametrize(
    "text, visible",
    [
        ("The authenticity of host 'x' can't be established. (yes/no)? ", True),
        ("Please type 'yes', 'no' or the fingerprint: ", True),
        ("(me@host) The authenticity of host 'x' can't be established.", False),
        ("me@host's password: ", False),
        ("Verification code: ", False),
        ("", False),
    ],
)
def test_only_the_question_about_a_host_key_may_be_seen(text: str, visible: bool) -> None:
    here, there = socket.socketpair()
    with here, there:
        assert askpass.Question(text, here).may_be_seen is visible


def test_what_a_server_says_can_do_nothing_to_a_terminal(
    sandbox: Sandbox, login: MakeLogin, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.require("sshd")
    banner = sandbox.work / "banner"
    banner.write_bytes(b"\x1b]0;evil\x07 greetings \x9b2J\n")
    with ssh_server(sandbox.root / "sshd", server=[f"Banner {banner}"]) as server:
        (server.folder / "authorized").write_text("")
        monkeypatch.setenv("PATH", f"{server.bin}{os.pathsep}{os.environ['PATH']}")
        here = login()
        with pytest.raises(SshError, match="Permission denied") as caught:
            here.open(None)
        assert str(caught.value).isprintable()
        assert all(word.isprintable() for word in here._words)
