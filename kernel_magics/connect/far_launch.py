"""Kernels that we start on a far machine, over a login.

A POSIX shell there starts the kernel and holds it; our end of its stdin is the kernel's lease. When
that closes, by whatever becomes of us, of ssh or of the network, the shell ends the kernel and
removes its files. A kernel that is to be kept is let go by a word on that stdin, once it is up.
The key goes there inside the script, which is read from stdin: no command line and no environment
has it."""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import secrets
import shlex
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import KernelMagicsError, LaunchError, SshError
from ..protocol.secret import Secret
from . import far_specs
from .far import FOLDERS
from .far_specs import FarCommand, home_word
from .info import PORTS, ConnectionInfo
from .launch import LOG_TAIL, LaunchOptions
from .ssh import NO_MORE_SESSIONS, REFUSED, Ask
from .tunnel import Tunnel
from .uninterrupted import interruptible, uninterrupted

log = logging.getLogger("kernel_magics")

START_TIMEOUT = 30.0
"""Seconds for the far shell to make the process; 0.2 are usual."""

END_TIMEOUT = 15.0
"""Seconds for the far shell to end the process and remove its files."""

LET_GO_TIMEOUT = 65.0
"""Seconds; the far shell waits for 60 s at most until a kernel listens."""

POLITE = 5
"""Seconds for a kernel to end that was asked to; as for one that runs here."""

ENDING = r"""
km_ours() {
    km_a=$(tr '\0' ' ' <"/proc/$km_k/cmdline" 2>/dev/null || ps -o args= -p "$km_k" 2>/dev/null)
    case $km_a in *"${km_f##*/}"*) ;; *) return 1 ;; esac
}
km_signal() { kill -s "$1" -- "-$km_k" 2>/dev/null || kill -s "$1" "$km_k" 2>/dev/null; }
km_lives() {
    kill -0 "$km_k" 2>/dev/null || return 1
    ! grep -q '^State:[^A-Z]*Z' "/proc/$km_k/status" 2>/dev/null
}
km_wait() {
    km_i=$(($1 * 10))
    while [ "$km_i" -gt 0 ] && km_lives; do
        # Some know whole seconds only.
        sleep 0.1 2>/dev/null || { sleep 1; km_i=$((km_i - 9)); }
        km_i=$((km_i - 1))
    done
}
km_end() {
    km_signal TERM
    km_wait 1
    km_signal KILL
}
"""
"""A number may have passed to another process, so it has to name its connection file as well."""

HOLD = (
    ENDING
    + r"""
km_say() {
    # At one stroke: another shell's complaint could come into the middle of it.
    km_x=$(od -An -v -tx1 | tr -d ' \n')
    printf 'km\t%s\t%s\n' "$1" "$km_x"
}
km_listens() {
    [ -z "$km_ipc" ] || { [ -S "$km_d/k-1" ] && [ -S "$km_d/k-5" ]; return; }
    [ -r /proc/net/tcp ] || return 0
    km_p=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null)
    case $km_p in *":$km_port "*) ;; *) return 1 ;; esac
}
km_hold() {
    while IFS= read -r km_word; do
        [ "$km_word" = keep ] || continue
        km_i=0
        until km_listens || [ $km_i -ge 600 ]; do
            sleep 0.1 2>/dev/null || { sleep 1; km_i=$((km_i + 9)); }
            km_i=$((km_i + 1))
        done
        kill -9 $$
        exit
    done
    until km_k=$(cat "$km_d/pid" 2>/dev/null) && [ -n "$km_k" ]; do
        kill -0 $$ 2>/dev/null || exit
        sleep 0.1 2>/dev/null || sleep 1
    done
    km_end
}
km_main() {
    printf 'km\tbegun\n'
    trap : PIPE
    unset CDPATH
    km_u=$(umask)
    umask 077
    mkdir -p -- "${km_f%/*}" && mkdir -- "$km_d" || return
    km_prepare && cd && cd -- "$km_cwd" || {
        km_clean
        return
    }
    exec 3<&0
    km_hold <&3 &
    km_h=$!
    # Not in the background: what a shell starts there ignores SIGINT for ever.
    (
        km_sh=$(command -v sh)
        umask "$km_u"
        km_exports  # PATH may be among them
        exec "$km_sh" -c '
            echo "$$" >"$1" && printf "km\tpid\t%s\n" "$$" || exit
            shift
            exec "$@" >>"$0" 2>&1 </dev/null
        ' "$km_d/log" "$km_d/pid" "$@" 3<&-
    )
    km_s=$?
    km_l=$(tail -n TAIL "$km_d/log" 2>/dev/null)
    km_clean
    printf %s "$km_l" | km_say log
    printf 'km\tended\t%s\n' "$km_s"
    kill "$km_h" 2>/dev/null
}
km_clean() { rm -rf -- "$km_d"; rm -f -- "$km_f"; }
"""
).replace("TAIL", str(LOG_TAIL))

LEADER = """
if command -v setsid >/dev/null; then set -- "$(command -v setsid)" "$@"; fi
if [ -n "$km_keep" ]; then set -- "$(command -v nohup)" "$@"; fi
"""
"""The leader of a group of its own, so that an interrupt reaches what the kernel has started."""


class FarKernelProcess:
    """One kernel of ours on a far machine. :meth:`start` it once; then signal, restart, shut down.

    ``spec`` is the kernelspec's name there. The methods that wait may be called from any thread but
    the reactor's.
    """

    def __init__(self, tunnel: Tunnel, options: LaunchOptions, spec: str) -> None:
        self.options = options
        self.pid: int | None = None
        """The process, on its own machine; None before the start."""
        self._tunnel = tunnel
        self._spec = spec
        self._key = Secret(secrets.token_hex(32).encode())
        self._turn = threading.Lock()
        self._session: _Session | None = None
        self._far: ConnectionInfo | None = None
        self._local: ConnectionInfo | None = None
        self._folder = ""
        self._by_signal = False
        self._closed = False

    def start(self) -> ConnectionInfo:
        """Start it and return where it will be reached; it does not listen yet.

        Raises:
            LaunchError: there is no such kernelspec there, or the process could not be made.
            SshError: the login broke.
        """
        with self._turn:
            far = self._launch()
            self._local = self._tunnel.add(far)
            return self._local

    def settle(self) -> None:
        """It is up: one that is to be kept needs us no more. Waits until that is so, and if it is
        not up yet, for that.

        Raises:
            LaunchError: the far shell did not do so.
        """
        if self.options.keep and self._session is not None:
            self._session.let_go()
            # Not just said: the login may be closed before it has been heard.
            with interruptible():
                heard = self._session.over.wait(LET_GO_TIMEOUT)
            if not heard:
                raise LaunchError(self.options.label, "the shell there does not let go of it")

    def exit_status(self) -> int | None:
        """Return how it ended, as `subprocess.Popen.returncode`; None while it lives or is kept.

        One whose session broke ends by that."""
        return None if self._session is None else self._session.status

    def why_ended(self) -> str:
        """Return why, if it was not by itself."""
        if self._session is None or not self._session.broke:
            return ""
        reason = self._tunnel.reason
        return (
            f"died: it was held by the login to {self._tunnel.destination}, which broke"
            f"{f' ({reason})' if reason else ''}; --keep lets a kernel outlive its login"
        )

    def log_tail(self) -> str:
        """Return the last lines it wrote; empty while it lives."""
        return "" if self._session is None else self._session.log

    def restart(self, *, now: bool = False) -> Future[None]:
        """Begin to end it and to start another behind the same local ends and with the same key."""
        return _in_thread(lambda: self._restart(now), f"kernel_magics restart {self._spec}")

    def shutdown(self, *, now: bool = False) -> None:
        """End it and remove its files there: politely, within 5 s, or ``now``. May be called twice.

        Raises:
            SshError: it is kept, and out of reach.
        """
        with self._turn:
            if not self._closed:
                self._closed = True
                self._end(now)

    def release(self) -> None:
        """Let it live on; it was let go of already."""

    def interrupt(self) -> bool:
        """Have SIGINT sent if that is what it wants and it survives one; False in any case.

        Whoever dies of SIGINT although its kernelspec wants it, understands an
        ``interrupt_request``; the others do not know it."""
        if self._by_signal and self._far is not None:
            script = self._about(self._far) + (
                "km_ours && { [ ! -r /proc/$km_k/status ] ||"
                " grep -q -e '^SigIgn:.*[2367abef]$' -e '^SigCgt:.*[2367abef]$' /proc/$km_k/status;"
                " } && km_signal INT\n"
            )
            sent = _in_thread(
                lambda: self._tunnel.run(script, timeout=END_TIMEOUT), "kernel_magics interrupt"
            )
            sent.add_done_callback(_note)
        return False

    def signal(self, signum: int) -> None:
        """Send a signal to the process and to those it started; one that has ended gets none.

        Raises:
            KernelMagicsError: there is no such signal.
            SshError: it is out of reach.
        """
        if signum not in signal.valid_signals():
            raise KernelMagicsError(f"there is no signal {signum}; signal.Signals lists them")
        if self._far is not None:
            script = self._about(self._far) + f"km_ours && km_signal {_name(signum)}\n"
            self._tunnel.run(script, timeout=END_TIMEOUT)

    def is_stopped(self) -> bool:
        """Return False: that is not known here."""
        return False

    def _restart(self, now: bool) -> None:
        with self._turn:
            if self._closed:
                raise LaunchError(self.options.label, "it was shut down meanwhile")
            try:
                try:
                    self._replace(now)
                except SshError:  # the login may have broken without anybody knowing yet
                    self._replace(now)
            except LaunchError:
                raise
            except Exception as error:
                raise LaunchError(self.options.label, str(error)) from error
            self.settle()

    def _replace(self, now: bool) -> None:
        assert self._local is not None
        self._tunnel.open(None)  # unless it is open
        self._end(now)
        self._tunnel.redirect(self._local, self._launch())

    def _launch(self) -> ConnectionInfo:
        command = far_specs.find(self._tunnel, self.options, self._spec)
        name = uuid.uuid4()
        self._folder = f"{command.temporary}/{_folder_name(name)}"
        if command.is_python:
            # Only this user can open sockets in a private folder, and no port can be lost.
            values: dict[str, Any] = {"transport": "ipc", "ip": f"{self._folder}/k"}
            values |= {port: place for place, port in enumerate(PORTS, start=1)}
        else:
            values = {"transport": "tcp", "ip": "127.0.0.1"}
            values |= dict(zip(PORTS, command.ports, strict=True))
        values |= {"signature_scheme": "hmac-sha256", "kernel_name": self._spec}
        values["key"] = self._key.reveal().decode()
        file = f"{command.folder}/kernel-{name}.json"
        info = ConnectionInfo.from_dict(values, Path(file))
        mark = f"km-{secrets.token_hex(8)}"
        script = self._script(command, file, values).replace(r"km\t", rf"{mark}\t")
        with uninterrupted():
            session = _Session(self._tunnel.session(script), mark)
        try:
            self.pid = session.wait_for_pid(self.options.label)
        except BaseException:
            session.end()
            raise
        self._session, self._far, self._file = session, info, file
        self._by_signal = command.by_signal
        return info

    def _script(self, command: FarCommand, file: str, values: dict[str, Any]) -> str:
        mark = "km-end"  # which is no JSON
        variables = {name: shlex.quote(value) for name, value in self.options.env.items()}
        cwd = self.options.cwd
        folder = home_word("~" if cwd is None else f"./{cwd}" if cwd.startswith("-") else cwd)
        prepare = [f"cat >\"$km_f\" <<'{mark}'", json.dumps(values), mark]
        exports: list[str] = []
        # The kernelspec's own variables may be made of the user's.
        for words in (variables, command.environment):
            exports += [f"{name}={word}; export {name}" for name, word in words.items()]
        lines = [
            *["km_prepare() {", *prepare, "}"],
            *[f"km_f={shlex.quote(file)}", f"km_d={shlex.quote(self._folder)}"],
            *[f"km_cwd={folder}", f"km_ipc={'1' if values['transport'] == 'ipc' else ''}"],
            f"km_port={values['shell_port']:04X}",
            *["km_exports() {", ":", *exports, "}"],
            *[f"PATH={shlex.quote(command.path)}", "export PATH"],
            f"set -- {shlex.join(command.words(file))}",
            LEADER,
            'km_main "$@"; exit',
        ]
        body = "\n".join(lines)
        keep = f"km_keep={'1' if self.options.keep else ''}\n"
        # In braces: all of it is read before any of it runs and could take from stdin.
        return f"{HOLD}{keep}{{\n{body}\n}}\n"

    def _about(self, far: ConnectionInfo) -> str:
        return (
            f"{ENDING}km_k={self.pid}\nkm_f={shlex.quote(self._file)}\n"
            f"km_d={shlex.quote(self._folder)}\n"
        )

    def _end(self, now: bool) -> None:
        session, far = self._session, self._far
        if session is None or far is None:
            return
        polite = not now and session.status is None and self._ask_to_end()
        if session.holds:
            if polite:
                session.over.wait(POLITE)
            session.end()
            return
        if not (session.let_go_of or session.broke):
            return
        # What a dead network has left there, or one that was kept.
        script = self._about(far) + (
            f"if km_ours; then {f'km_wait {POLITE}; ' if polite else ''}km_end; fi\n"
            'rm -rf -- "$km_d"; rm -f -- "$km_f"\n'
        )
        try:
            self._tunnel.run(script, timeout=END_TIMEOUT)
        except SshError as error:
            if session.let_go_of:
                raise
            log.info("= %s: %s", self._tunnel, error)  # it ends as soon as its sshd notices

    def _ask_to_end(self) -> bool:
        from .client import open_client

        if self._local is None or not self._tunnel.up:
            return False
        client = open_client(replace(self._local, path=None))
        try:
            client.shutdown()
            with contextlib.suppress(queue.Empty):  # some never answer
                client.control_channel.get_msg(timeout=1.0)
        finally:
            client.stop_channels()
        return True


class _Session:
    """The shell that holds a kernel: what it says, and what is said to it.

    Its lines begin with ``mark``; others are of the user's own start-up files, or complaints."""

    def __init__(self, child: subprocess.Popen[bytes], mark: str) -> None:
        self.status: int | None = None
        """How the kernel ended; None while it lives, and after it was let go of."""
        self.log = ""
        self.broke = False
        """It ended without the kernel having ended, and not by us."""
        self.let_go_of = False
        self.over = threading.Event()
        self._child = child
        self._mark = mark
        self._ending = False
        self._pid: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._words: list[str] = []
        threading.Thread(target=self._read, name="kernel_magics far kernel", daemon=True).start()

    @property
    def holds(self) -> bool:
        """The kernel lives as long as this does."""
        return not (self.let_go_of or self.over.is_set())

    def wait_for_pid(self, label: str) -> int:
        """Return the kernel's process.

        Raises:
            LaunchError: there was none; with what was said instead.
        """
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            try:
                with interruptible():
                    pid = self._pid.get(timeout=0.5)  # an untimed wait cannot be interrupted
            except queue.Empty:
                continue
            if pid is not None:
                return pid
            reason = "the shell there could not start it"
            if any(REFUSED in each for each in self._words):
                raise LaunchError(label, NO_MORE_SESSIONS)
            raise LaunchError(label, reason, "\n".join(self._words))
        raise LaunchError(label, f"the shell there did not start it within {START_TIMEOUT:g} s")

    def let_go(self) -> None:
        """Let the kernel live on without us."""
        self.let_go_of = True
        self._write(b"keep\n")

    def end(self) -> None:
        """Have the kernel ended and its files removed, and wait for that. May be called twice."""
        self._ending = True
        assert self._child.stdin is not None
        with contextlib.suppress(OSError):
            self._child.stdin.close()
        try:
            with interruptible():
                self.over.wait(END_TIMEOUT)
        finally:
            if not self.over.is_set():
                self._child.kill()  # a dead network, or no patience; its sshd will notice
                self.over.wait()

    def _write(self, word: bytes) -> None:
        assert self._child.stdin is not None
        with contextlib.suppress(OSError):  # it is over, and `_read` knows
            self._child.stdin.write(word)

    def _read(self) -> None:
        child = self._child
        assert child.stdout is not None
        assert child.stdin is not None
        with child.stdout as said:
            for line in said:
                first, *fields = line.decode("utf-8", "replace").rstrip("\n").split("\t")
                try:
                    understood = first == self._mark and self._hear(fields)
                except ValueError:  # not what we have written: whoever it is, wait on
                    understood = False
                if not understood:
                    self._words = [*self._words, _printable(line)][-LOG_TAIL:]
        child.wait()
        with contextlib.suppress(OSError):
            child.stdin.close()
        if self.status is None and not (self.let_go_of or self._ending):
            self.broke = True
            self.status = -signal.SIGHUP
        self.over.set()
        self._pid.put(None)

    def _hear(self, fields: list[str]) -> bool:
        """Take in a line of our own script; return whether it is one.

        Raises:
            ValueError: it says a number, or a text in hex, that is none.
        """
        match fields:
            case ["begun"]:
                self._words.clear()  # greetings
            case ["pid", number]:
                self._pid.put(int(number))
            case ["log", text]:
                self.log = bytes.fromhex(text).decode("utf-8", "replace")
            case ["ended", number]:
                # A shell adds 128 to the number of a signal.
                status = int(number)
                self.status = 128 - status if status > 128 else status
            case _:
                return False
        return True


class Held:
    """The way to a kernel that its login holds: when that breaks the kernel has ended, so that
    nothing is to be waited for."""

    stale = False
    hopeless = False

    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel = tunnel

    def __str__(self) -> str:
        return str(self._tunnel)

    @property
    def silent(self) -> bool:
        """Nothing comes through; that may be a pause."""
        return self._tunnel.silent

    @property
    def up(self) -> bool:
        """Also once it has broken: there is nothing to be waited for then."""
        return not self.silent

    @property
    def reason(self) -> str:
        """Why it is not up."""
        return self._tunnel.reason

    def log_in(self, ask: Ask) -> None:
        """Nobody is asked to: the kernel would not be there any more."""

    def leave(self, info: ConnectionInfo) -> None:
        """The kernel is not used any more."""
        self._tunnel.leave(info)


def remove_files(tunnel: Tunnel, far: ConnectionInfo) -> None:
    """Remove what a kernel leaves there that was started and kept from here, or from elsewhere.

    Waits until it has ended, for 5 s at most. Nothing is removed of kernels that somebody else has
    started: theirs have no folder that is named after their connection file.

    Raises:
        SshError: it could not be done.
    """
    try:
        name = uuid.UUID(far.name.removeprefix("kernel-"))
    except ValueError:
        return
    script = f"{FOLDERS}{ENDING}name={name}\nfolder={_folder_name(name)}\nkm_f=$name\n" + (
        'for t in "$TMPDIR" /tmp; do\n'
        '    [ -n "$t" ] && km_k=$(cat "$t/$folder/pid" 2>/dev/null) || continue\n'
        f"    if km_ours; then km_wait {POLITE}; fi\n"
        "    if km_ours; then continue; fi\n"
        '    rm -rf -- "$t/$folder"\n'
        '    rm -f -- "$d/kernel-$name.json"\n'
        "done\n"
    )
    tunnel.run(script, timeout=END_TIMEOUT)


def _folder_name(name: uuid.UUID) -> str:
    return f"km-{name.hex[:16]}"


def _in_thread(work: Callable[[], Any], name: str) -> Future[Any]:
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


def _name(signum: int) -> str:
    """Return what `kill -s` takes; not every signal has a name here."""
    with contextlib.suppress(ValueError):
        return signal.Signals(signum).name.removeprefix("SIG")
    return str(int(signum))


def _note(future: Future[Any]) -> None:
    error = future.exception()
    if error is not None:
        log.warning("an interrupt was not sent: %s", error)


def _printable(line: bytes) -> str:
    text = line.decode("utf-8", "replace").strip()
    return "".join(c if c.isprintable() else "�" for c in text)
