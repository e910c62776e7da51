"""What ssh asks is asked at the prompt where somebody sits: in a notebook, and in a terminal."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.frontend import LOAD, error_lines, remotely, transcript, wait_until_in
from tests.support import logins
from tests.support.hosts import CellRun, KernelHost, TerminalHost, run_notebook
from tests.support.kernels import HandKernel
from tests.support.logins import KINDS, SECRETS, Asked, Asking, Kind
from tests.support.processes import ssh_below
from tests.support.sandbox import Sandbox
from tests.support.sshd import HOST
from tests.support.terminal_host import Mode
from tests.support.waiting import wait_until

pytestmark = pytest.mark.full

TUNNEL = f"%kernel_tunnel {HOST} 6759 --name far"

Reach = Callable[[Kind], Asking]


@pytest.fixture
def reach(
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    closing: ExitStack,
    shared_kernel: HandKernel,
) -> Reach:
    """Run a server that asks; a kernel is called ``kernel-far6759`` there."""

    def run(kind: Kind) -> Asking:
        way = closing.enter_context(logins.asking(kind, sandbox.root / "sshd"))
        shutil.copy(shared_kernel.connection_file, way.server.runtime / "kernel-far6759.json")
        monkeypatch.setenv("PATH", f"{way.server.bin}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        return way

    return run


def ssh_of(pid: int) -> list[psutil.Process]:
    return list(ssh_below(pid))


def left_in(sandbox: Sandbox) -> list[str]:
    return [path.name for path in sandbox.temporary.iterdir() if path.name.startswith("km-")]


def wrong_first(way: Asking) -> list[Asked]:
    """The questions, the first of them answered wrongly at first."""
    first, *others = way.questions
    if not first.secret:
        again = Asked("Please type 'yes'", first.secret, first.answer)
        return [Asked(first.text, first.secret, "perhaps"), again]
    return [Asked(first.text, first.secret, "wrong"), first, *others]


class Typist:
    """Answers the questions of a notebook, each as it is expected."""

    def __init__(self, questions: list[Asked]) -> None:
        self.left = list(questions)

    def __call__(self, text: str, hidden: bool) -> str:
        expected = self.left.pop(0)
        assert text.startswith(f"[ssh] {expected.text}")
        assert hidden == expected.secret
        return expected.answer


# In a notebook.


@pytest.fixture
def new_host(kernel_host: Callable[..., KernelHost]) -> Callable[[], KernelHost]:
    """A notebook with the extension; made after the server, whose ssh it finds then."""

    def start() -> KernelHost:
        host = kernel_host()
        host.run(LOAD).ok()
        return host

    return start


NewHost = Callable[[], KernelHost]


@pytest.mark.parametrize("kind", KINDS)
def test_every_question_is_asked_in_the_notebook(
    reach: Reach, new_host: NewHost, kind: Kind
) -> None:
    way = reach(kind)
    host, user = new_host(), Typist(wrong_first(way))
    run = host.run(TUNNEL, on_input=user).ok()
    assert user.left == []
    assert "attached far" in run.stdout
    assert not any(secret in transcript(run) for secret in SECRETS)
    assert host.run(remotely("print('there')", kernel="far")).ok().stdout == "there\n"


def type_nothing(host: KernelHost) -> None:
    host.type_line("")


def type_end_of_file(host: KernelHost) -> None:
    host.type_line("\x04")


REFUSALS = [KernelHost.interrupt, type_nothing, type_end_of_file]


@pytest.mark.parametrize("refuse", REFUSALS)
@pytest.mark.parametrize("kind", ["password", "codes"])
def test_refusing_in_a_notebook_is_one_plain_error_and_no_failed_login(
    reach: Reach,
    new_host: NewHost,
    sandbox: Sandbox,
    kind: Kind,
    refuse: Callable[[KernelHost], None],
) -> None:
    way = reach(kind)
    host = new_host()
    run = host.start(TUNNEL, allow_stdin=True)
    host.wait_for(lambda: run.inputs, what="the question")
    refuse(host)
    assert run.wait().reply["ename"] == "LoginRefused"
    (line,) = error_lines(run)
    assert way.questions[0].text.strip() in line
    assert line.endswith("was not answered, so nothing was sent and ssh has been ended")
    assert ssh_of(host.pid) == []
    assert left_in(sandbox) == []
    assert way.failures() == []
    assert host.run("6 * 7").ok().result == "42"


@pytest.mark.parametrize(
    "kind, words",
    [
        ("password", "Permission denied (password)"),
        ("codes", "Permission denied (keyboard-interactive)"),
        ("passphrase", "Permission denied (publickey"),
        ("host key", "Host key verification failed"),
        ("jump", 'password:" and nobody can be asked here'),
    ],
)
def test_a_notebook_that_runs_by_itself_fails_with_ssh_s_own_words(
    reach: Reach, sandbox: Sandbox, kind: Kind, words: str
) -> None:
    way = reach(kind)
    ran = run_notebook([LOAD, TUNNEL, "6 * 7"], sandbox, allow_errors=True)
    (error,) = [each for each in ran.cells[1].outputs if each.output_type == "error"]
    assert error.ename == "SshError"
    assert words in error.evalue.replace(",", "")
    assert ran.cells[2].outputs[0].data["text/plain"] == "42"
    assert way.failures() == []


# In a terminal.


@pytest.mark.parametrize("mode", ["simple", pytest.param("full", marks=pytest.mark.full)])
@pytest.mark.parametrize("kind", KINDS)
def test_every_question_is_asked_in_the_terminal(
    reach: Reach, terminal_host: Callable[..., TerminalHost], mode: Mode, kind: Kind
) -> None:
    way = reach(kind)
    terminal = terminal_host(mode)
    terminal.run(LOAD)
    terminal.start(TUNNEL)
    for question in wrong_first(way):
        terminal.expect(re.escape(f"[ssh] {question.text}"))
        wait_until_in("read", terminal.pid)
        terminal.type_line(question.answer)
    said = terminal.finish()
    assert "attached far" in said
    assert not any(secret in said for secret in SECRETS)
    assert terminal.run("%remote far print(6 * 7)") == "42"


@pytest.mark.parametrize("mode", ["simple", pytest.param("full", marks=pytest.mark.full)])
@pytest.mark.parametrize("key", ["\x03", "\x04", "\n"], ids=["ctrl-c", "ctrl-d", "enter"])
def test_refusing_in_a_terminal_is_one_plain_error_and_no_failed_login(
    reach: Reach, terminal_host: Callable[..., TerminalHost], mode: Mode, key: str
) -> None:
    way = reach("password")
    terminal = terminal_host(mode)
    terminal.run(LOAD)
    terminal.start(TUNNEL)
    terminal.expect(re.escape(f"[ssh] {way.questions[0].text}"))
    wait_until_in("read", terminal.pid)
    terminal.press(key)
    said = terminal.finish()
    assert said.strip().startswith("LoginRefused: ssh gpubox: ")
    assert said.strip().endswith("was not answered, so nothing was sent and ssh has been ended")
    assert len(said.strip().splitlines()) == 1
    assert ssh_of(terminal.pid) == []
    assert way.failures() == []
    assert terminal.run("6 * 7").endswith("42")


# After a cut.

UNTIL = """\
import itertools, pathlib, time
for number in itertools.count():
    print(number, flush=True)
    if pathlib.Path({mark!r}).exists():
        print("over")
        break
    time.sleep(0.1)
"""


def begun_far(host: KernelHost, mark: Path) -> CellRun:
    """Start a cell that goes on until there is such a file."""
    run = host.start(remotely(UNTIL.format(mark=str(mark)), kernel="far"), allow_stdin=True)
    host.wait_for(lambda: "3" in run.stdout, what=lambda: f"it prints: {run}")
    return run


def asked_after_cut(way: Asking, host: KernelHost, mark: Path) -> CellRun:
    """Log in, begin such a cell and cut; return it once it asks."""
    host.run(TUNNEL, on_input=Typist(way.questions)).ok()
    run = begun_far(host, mark)
    way.server.cut()
    host.wait_for(lambda: run.inputs, what="the question")
    return run


def test_a_cell_that_runs_asks_for_the_password_after_a_cut_and_goes_on(
    reach: Reach, new_host: NewHost, sandbox: Sandbox
) -> None:
    way, host, mark = reach("password"), new_host(), sandbox.work / "healed"
    run = asked_after_cut(way, host, mark)
    assert run.inputs == [(f"[ssh] {way.questions[0].text}", True)]
    assert "[far] is out of reach until you log in again (" in run.stderr
    host.type_line(way.questions[0].answer)
    host.wait_for(lambda: "out of reach for a moment" in run.stderr, what="it is healed")
    mark.touch()
    assert run.wait().ok().stdout.endswith("over\n")


def test_refusing_after_a_cut_ends_the_cell_and_the_next_one_asks(
    reach: Reach, new_host: NewHost, sandbox: Sandbox
) -> None:
    way, host, mark = reach("password"), new_host(), sandbox.work / "healed"
    run = asked_after_cut(way, host, mark)
    host.interrupt()
    assert run.wait().reply["ename"] == "TunnelDown"
    assert "%kernel_tunnel logs in again" in error_lines(run)[-1]
    assert (
        "waiting for a login"
        in host.run("%kernels").ok().of_type("display_data")[0]["data"]["text/plain"]
    )
    refused = host.run(remotely("print('headless')", kernel="far"))
    assert refused.reply["ename"] == "TunnelDown"
    mark.touch()
    again = host.run(remotely("print('there')", kernel="far"), on_input=Typist(way.questions)).ok()
    assert again.stdout == "there\n"
    host.run("%kernel_detach far").ok()
    assert way.failures() == []


def test_a_terminal_s_cell_asks_after_a_cut(
    reach: Reach, terminal_host: Callable[..., TerminalHost]
) -> None:
    way = reach("password")
    (question,) = way.questions
    terminal = terminal_host()
    terminal.run(LOAD)
    terminal.start(TUNNEL)
    terminal.expect(re.escape(question.text))
    terminal.type_line(question.answer)
    terminal.finish()
    way.server.cut()
    wait_until(lambda: "waiting for a login" in terminal.run("%kernels"), what="the user is needed")
    terminal.start("%remote far print(6 * 7)")
    terminal.expect(re.escape(f"[ssh] {question.text}"))
    wait_until_in("read", terminal.pid)
    terminal.type_line(question.answer)
    assert terminal.finish().endswith("42")


# What takes long.


def slow_down(way: Asking, mark: Path) -> None:
    """Let ssh think about its configuration until there is such a file."""
    wait = f"until test -e {mark}; do sleep 0.05; done"
    config = way.server.config
    config.write_text(f'Match exec "{wait}"\n{config.read_text()}')


def test_a_slow_login_says_in_a_notebook_what_it_is_doing(
    reach: Reach, new_host: NewHost, sandbox: Sandbox
) -> None:
    way, mark = reach("passphrase"), sandbox.work / "go"
    slow_down(way, mark)
    host = new_host()
    run = host.start(TUNNEL, on_input=Typist(way.questions))
    host.wait_for(lambda: run.stdout, 5.0, what="a word")
    assert run.stdout == f"connecting to {HOST} ...\n"
    mark.touch()
    assert run.wait().ok().stdout.splitlines()[-1].startswith("attached far")


def test_a_slow_login_says_in_a_terminal_what_it_is_doing(
    reach: Reach, terminal_host: Callable[..., TerminalHost], sandbox: Sandbox
) -> None:
    way, mark = reach("passphrase"), sandbox.work / "go"
    (question,) = way.questions
    slow_down(way, mark)
    terminal = terminal_host()
    terminal.run(LOAD)
    terminal.start(TUNNEL)
    terminal.expect(f"connecting to {HOST} \\.\\.\\.", timeout=5.0)
    mark.touch()
    terminal.expect(re.escape(f"[ssh] {question.text}"))
    terminal.type_line(question.answer)
    assert "attached far" in terminal.finish()
