"""OpenSSH, the user's own: one child for each host, which is login, master and watchdog at once.

Its held session (`echo km-up; exec cat`) tells when the login is done, keeps the connection from
waiting for full packets (`ssh -N` costs 40 ms a round trip), echoes what it is sent as a sign of
life, and ends when our end of its stdin closes, also by a `kill -9` of this process. Forwards and
commands go over the same login by its control socket. Options, traps and figures:
`docs/far-kernels.md`."""

from __future__ import annotations

import os
import queue
import re
import secrets
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import LoginRefused, SshError
from .askpass import Question, Questions
from .uninterrupted import interruptible, strike_now, uninterrupted
from .watcher import is_stopped

Ask = Callable[[str, bool], str]
"""Asks the user for a line: the prompt, and whether what is typed must not be seen."""

READY = "km-up"
PULSE = "km-pulse"
"""What the held session says first, with the far process that serves the login and its own; and
what it echoes."""

TRAFFIC_SHOWS = Path("/proc/self/io").exists()
"""Whether this system tells how much a process of ours has read."""

OPTIONS = {
    # Nothing of the user's configuration may end the held session, or be forwarded a second time.
    "ControlPersist": "no",
    "ClearAllForwardings": "yes",
    "RemoteCommand": "none",
    "RequestTTY": "no",
    "IgnoreUnknown": "ForkAfterAuthentication,StdinNull,SessionType",
    "ForkAfterAuthentication": "no",
    "StdinNull": "no",
    "SessionType": "default",
    "PermitLocalCommand": "no",
    "ForwardX11": "no",
    "ForwardAgent": "no",
    "Tunnel": "no",
    # The master binds the ends of forwards. ssh never removes them, so that they are in its way
    # when the login is opened again.
    "StreamLocalBindUnlink": "yes",
    "StreamLocalBindMask": "0177",
    # ssh alone would give up after 15 s. Where we see ourselves whether anything comes through, we
    # know better what silence means (`pulse.py`), and ssh is there for a machine we cannot log in
    # to a second time.
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "11" if TRAFFIC_SHOWS else "2",
}

CONNECT_TIMEOUT = 10
"""Seconds for the network; questions and the server's own slowness come on top."""

GLANCE = 0.2
"""Seconds between two looks whether Ctrl-C was pressed, where a wait cannot be left otherwise."""

MUX_TIMEOUT = 10.0
"""Seconds for the master to answer; it takes milliseconds."""

LAST_WORDS = 12
"""Lines of ssh that are kept for whoever asks why it ended."""

HOPELESS = ("Permission denied (", "key verification failed", "Too many authentication failures")
"""What ssh says when trying again by ourselves would only annoy the other side. With a jump host it
is not the last word, which then is that the connection was closed. Files, too, may deny permission,
without the methods in brackets."""

NOWHERE = "km.invalid"
"""The host of calls to the master. If the master is gone, ssh dials the host by itself: one that
cannot exist."""

REFUSED = "Session open refused by peer"
"""What a call to the master says before it dials :data:`NOWHERE`."""

NO_MORE_SESSIONS = (
    "its sshd allows no more sessions in one login (MaxSessions, 10 by default); "
    "each kernel that is held there takes one, those started with --keep take none"
)

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*", re.ASCII)
_HOST = re.compile(
    r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?|[0-9A-Fa-f:.]+(%[\w.]+)?", re.ASCII
)


@dataclass(frozen=True)
class Destination:
    """Where to log in: ``host`` may be any name that the user's ssh configuration knows.

    None of ``user``, ``port`` and ``key`` means what that configuration says."""

    host: str
    user: str | None = None
    port: int | None = None
    key: Path | None = None

    @classmethod
    def parse(cls, text: str, key: str | None = None) -> Destination:
        """Read ``[USER@]HOST[:PORT]``, also with an IPv6 address in brackets or, as ssh itself
        takes it, behind ``ssh://``.

        What ssh, or a command in its configuration, could take for an option or for shell code is
        refused.

        Raises:
            SshError: it is no such thing, or the key is no file.
        """
        user, at, place = text.removeprefix("ssh://").rpartition("@")
        bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", place, re.DOTALL)
        if bracketed is not None:
            host, number = bracketed[1], bracketed[2]
        elif place.count(":") == 1:
            host, _, number = place.partition(":")
        else:
            host, number = place, None
        if not _HOST.fullmatch(host) or len(host) > 253 or (at and not _USER.fullmatch(user)):
            raise SshError(repr(text), "is not [USER@]HOST[:PORT]")
        if number is not None and not (
            number.isascii() and number.isdecimal() and 0 < int(number[:6]) < 65536
        ):
            raise SshError(
                repr(text), f"has the port {number!r}; a port is a number from 1 to 65535"
            )
        return cls(host, user if at else None, None if number is None else int(number), _key(key))

    def __str__(self) -> str:
        user = "" if self.user is None else f"{self.user}@"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{user}{host}" + ("" if self.port is None else f":{self.port}")

    @property
    def arguments(self) -> list[str]:
        """What ssh's command line needs before ``--`` and the host."""
        arguments: list[str] = []
        if self.user is not None:
            arguments += ["-l", self.user]
        if self.port is not None:
            arguments += ["-p", str(self.port)]
        if self.key is not None:
            arguments += ["-o", "IdentitiesOnly=yes", "-i", str(self.key).replace("%", "%%")]
        return arguments


class Login:
    """One ssh child, logged in. ``folder`` is private to us; its path has at most 70 bytes.

    :meth:`open` it once; the other methods may then be called from any thread. ``ended`` is called
    when it ends by itself, on a thread of ours. ``name`` is that of its control socket in the
    folder.
    """

    def __init__(
        self,
        destination: Destination,
        folder: Path,
        ended: Callable[[], None] = lambda: None,
        name: str = "c",
    ) -> None:
        self.destination = destination
        self.far_pids: tuple[int, int] | None = None
        """The process that serves this login there, and the held session's own; None when they
        were not told."""
        self.heard_at = 0.0
        """When the held session last echoed, by `time.monotonic`."""
        self._control = str(folder / name)
        self._folder = folder
        self._on_end = ended
        self._child: subprocess.Popen[bytes] | None = None
        self._events: queue.SimpleQueue[str | Question] = queue.SimpleQueue()
        self._words: deque[str] = deque(maxlen=LAST_WORDS)
        self._ready = False
        self._closing = False
        self._writing = threading.Lock()  # no pulse into a closed pipe, whose number may be reused

    @property
    def pid(self) -> int | None:
        """The child's process group; None before :meth:`open`."""
        return None if self._child is None else self._child.pid

    @property
    def alive(self) -> bool:
        """The child runs; that says nothing about the network."""
        return self._child is not None and self._child.poll() is None

    @property
    def stopped(self) -> bool:
        """The child is stopped (SIGSTOP, a debugger); False where that is unknown."""
        return self.pid is not None and is_stopped(self.pid)

    @property
    def traffic(self) -> int:
        """Bytes that ssh has read so far, from us and from there; 0 where that is unknown."""
        try:
            return int(Path(f"/proc/{self.pid}/io").read_text().split()[1])
        except OSError:
            return 0

    def pulse(self) -> None:
        """Have the held session echo; :attr:`heard_at` tells of it. Never waits."""
        child = self._child
        with self._writing:
            if child is not None and child.stdin is not None and not child.stdin.closed:
                with suppress(BlockingIOError, BrokenPipeError):  # stopped for long; ended
                    os.write(child.stdin.fileno(), f"{PULSE}\n".encode())

    @property
    def last_words(self) -> str:
        """The line that says best why it ended: ssh's last, or that the login was not granted."""
        if not self._words:
            return "ssh ended without a word"
        return next(filter(_is_hopeless, reversed(self._words)), self._words[-1])

    def open(
        self,
        ask: Ask | None,
        started: Callable[[int], None] = lambda pid: None,
        *,
        timeout: int = CONNECT_TIMEOUT,
    ) -> None:
        """Log in; questions go to ``ask``, on this thread. Without it ssh fails where it would ask.

        ``started`` is told the child's process group at once; ``timeout`` is the network's, in
        seconds. Interrupted, the child is ended.

        Raises:
            LoginRefused: ``ask`` was interrupted, met an end of file, or gave nothing for a secret.
            SshError: with ssh's own last words.
        """
        program = shutil.which("ssh")
        if program is None:
            raise SshError(str(self.destination), "there is no ssh here; install OpenSSH's client")
        # Also without anybody to ask: BatchMode is not for the ssh of a jump host, which would take
        # its question to whatever the user's desktop has for that, or send an empty password.
        questions = Questions(self._folder, self._events.put)
        try:
            self._spawn(program, questions, batch=ask is None, timeout=timeout)
            if self._closing:
                raise SshError(str(self.destination), "it was closed from here")
            assert self._child is not None
            started(self._child.pid)
            self._await(ask)
        except BaseException:
            self.close()
            raise
        finally:
            questions.close()

    def forward(self, ends: Mapping[str, str]) -> None:
        """Let local ends lead to far ones: a socket's path or ``ADDRESS:PORT`` each.

        Raises:
            SshError: the master refuses, or is gone.
        """
        self._mux("-O", "forward", *_forwards(ends))

    def cancel(self, ends: Mapping[str, str]) -> None:
        """Take forwards back; what runs over them goes on."""
        with suppress(SshError):  # it has ended, and they with it
            self._mux("-O", "cancel", *_forwards(ends))

    def run(self, script: str, *, timeout: float) -> list[list[str]]:
        """Run a POSIX shell script there; return the fields of its lines that begin with ``km``.

        What the user's own start-up files print is passed over, whatever it looks like.

        Raises:
            SshError: it could not be run.
        """
        mark = f"km-{secrets.token_hex(8)}"
        script = f"echo {mark}\n{script}"
        answer = self._mux("-T", command="echo; exec sh -s", script=script, timeout=timeout)
        lines = (line.split("\t") for line in answer.partition(mark)[2].splitlines())
        return [fields[1:] for fields in lines if fields[0] == "km"]

    def session(self, script: str) -> subprocess.Popen[bytes]:
        """Begin a POSIX shell there that reads the script, which may then read its stdin.

        Nothing may be written to that before the script has said something: until then the shell
        would take it for more of the script. Its stdout and stderr come as one. Who calls this
        reads them to the end, closes stdin and waits for the process, and is uninterrupted until
        that is sure. It ends with the login.
        """
        program = shutil.which("ssh") or "ssh"
        child = subprocess.Popen(
            [
                *[program, "-F", os.devnull, "-S", self._control, "-T"],
                *["--", NOWHERE, "echo; exec sh -s"],
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=True,
        )
        assert child.stdin is not None
        left = memoryview(script.encode())
        with suppress(BrokenPipeError):  # it has ended, and its output says why
            while left:
                left = left[child.stdin.write(left) :]
        return child

    def close(self) -> None:
        """End the child, now. May be called twice."""
        self._closing = True
        child = self._child
        if child is not None:
            with uninterrupted():  # a second one must not leave it half ended
                self._end(child)

    def _end(self, child: subprocess.Popen[bytes]) -> None:
        with suppress(ProcessLookupError):
            if not self._ready:
                # A question may be open, of this ssh or of a jump host's. All are halted first, or
                # one could see the helper that asks end, and take that for an empty answer.
                os.killpg(child.pid, signal.SIGSTOP)
                os.killpg(child.pid, signal.SIGKILL)
            os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(1.0)
        except subprocess.TimeoutExpired:  # stopped, most likely
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()

    def _refuse(self, question: Question) -> None:
        self.close()  # first: no answer would be sent as an empty password, three times
        question.refuse()

    def _spawn(self, program: str, questions: Questions, *, batch: bool, timeout: int) -> None:
        options = OPTIONS | {"ConnectTimeout": str(timeout)}
        if batch:
            options["BatchMode"] = "yes"
        Path(self._control).unlink(missing_ok=True)  # of one that was killed; ssh would do without
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        # In any shell, csh and fish too; on a line of its own, whatever a start-up file printed.
        command = f"exec sh -c 'echo; echo {READY} $PPID $$; exec cat'"
        reader = threading.Thread(
            target=self._listen, name=f"kernel_magics ssh {self.destination}", daemon=True
        )
        with uninterrupted():
            self._child = subprocess.Popen(
                [
                    *[program, "-T", "-M", "-S", self._control, *words],
                    *[*self.destination.arguments, "--", self.destination.host, command],
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=os.environ | questions.environment,
                start_new_session=True,  # no terminal to ask at, and no Ctrl-C of ours
            )
            assert self._child.stdin is not None
            os.set_blocking(self._child.stdin.fileno(), False)
            reader.start()  # also waits for it

    def _listen(self) -> None:
        """Read what ssh says, to its end: nobody may leave a pipe unread."""
        child = self._child
        assert child is not None
        assert child.stdout is not None
        with child.stdout as said:
            for line in said:
                word, *numbers = line.split() or [b""]
                if not self._ready and word == READY.encode():
                    self._words.clear()  # greetings
                    self.far_pids = _pids(numbers)
                    self.heard_at = time.monotonic()
                    self._ready = True
                    self._events.put("ready")
                elif word == PULSE.encode():
                    self.heard_at = time.monotonic()
                else:
                    self._words.extend(_printable(line))
        child.wait()
        assert child.stdin is not None
        with self._writing, suppress(OSError):
            child.stdin.close()
        self._events.put("ended")
        if self._ready and not self._closing:
            self._on_end()

    def _await(self, ask: Ask | None) -> None:
        while True:
            try:
                with interruptible():
                    event = self._events.get(timeout=0.5)  # an untimed wait cannot be interrupted
            except queue.Empty:
                continue
            if event == "ready":
                return
            if event == "ended":
                words = self.last_words
                raise SshError(str(self.destination), words, needs_user=_is_hopeless(words))
            assert isinstance(event, Question)
            if ask is None:
                self._refuse(event)
                reason = f"it asks {event.gist!r}, and nobody can be asked here"
                raise SshError(str(self.destination), reason, needs_user=True)
            self._pass_on(event, ask)

    def _pass_on(self, question: Question, ask: Ask) -> None:
        """Have it answered. In a frame of its own: what was typed must not lie about in the locals
        of a later error's traceback."""
        try:
            with interruptible():
                answer = ask(question.text, not question.may_be_seen)
            if not (answer or question.may_be_empty):
                raise EOFError
        except (KeyboardInterrupt, EOFError):
            self._refuse(question)
            raise LoginRefused(str(self.destination), question.gist) from None
        except BaseException:
            self._refuse(question)
            raise
        question.answer(answer)

    def _mux(
        self,
        *arguments: str,
        command: str | None = None,
        script: str = "",
        timeout: float = MUX_TIMEOUT,
    ) -> str:
        program = shutil.which("ssh") or "ssh"
        call: Sequence[str] = [program, "-F", os.devnull, "-S", self._control, *arguments]
        with _child([*call, "--", NOWHERE, *([] if command is None else [command])]) as child:
            try:
                said, complaints = _converse(child, script.encode(), timeout)
            except subprocess.TimeoutExpired:
                raise SshError(str(self.destination), f"no answer within {timeout:g} s") from None
        if child.returncode == 255 or (child.returncode and command is None):
            words = _printable(complaints)
            if any(REFUSED in each for each in words):
                raise SshError(str(self.destination), NO_MORE_SESSIONS)
            self._words.extend(words)
            raise SshError(str(self.destination), self.last_words)
        return said.decode("utf-8", "replace")


@contextmanager
def _child(words: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process with three pipes, and end it. Not by `subprocess.run`: interrupted, it leaves a
    zombie."""
    child: subprocess.Popen[bytes] | None = None
    try:
        with uninterrupted():
            child = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        yield child
    finally:
        if child is not None:
            child.kill()
            with child:  # close the pipes, and wait
                pass


def _converse(child: subprocess.Popen[bytes], given: bytes, timeout: float) -> tuple[bytes, bytes]:
    """Do what `Popen.communicate` does. Ctrl-C strikes between its looks and not within: a Popen
    that was interrupted may keep its lock for ever."""
    deadline = time.monotonic() + timeout
    rest: bytes | None = given
    while True:
        strike_now()
        try:
            return child.communicate(rest, GLANCE)
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline:
                raise
            rest = None  # it has that


def _is_hopeless(words: str) -> bool:
    return any(each in words for each in HOPELESS)


def _pids(words: Sequence[bytes]) -> tuple[int, int] | None:
    if len(words) != 2 or not all(word.isdigit() and len(word) < 10 for word in words):
        return None
    return int(words[0]), int(words[1])


def _printable(said: bytes) -> list[str]:
    """Return what ssh said as lines that may be shown; a server's own words are among them."""
    lines = said.decode("utf-8", "replace").splitlines()
    shown = ("".join(c if c.isprintable() else "�" for c in line).strip() for line in lines)
    return [line for line in shown if line]


def _forwards(ends: Mapping[str, str]) -> list[str]:
    return [word for local, far in ends.items() for word in ("-L", f"{local}:{far}")]


def _key(path: str | None) -> Path | None:
    if path is None:
        return None
    file = Path(path).expanduser()
    try:
        if not file.is_file():
            raise SshError(repr(path), "is no file, and so no key")
    except ValueError:
        raise SshError(repr(path), "is a path that no file can have") from None
    return file.absolute()
