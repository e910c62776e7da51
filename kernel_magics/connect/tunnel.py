"""The way to the kernels of a far host: one login, and for each kernel five ends on this machine.

The ends stay where they are when the login breaks and is opened again, so that whoever connects to
them, `jupyter console` too, need not know."""

from __future__ import annotations

import atexit
import getpass
import itertools
import json
import logging
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import SshError
from . import far
from .info import PORTS, ConnectionInfo
from .launch import private_folder
from .pulse import BEAT, SILENT_AFTER, Pulse, end_there, is_paused
from .ssh import CONNECT_TIMEOUT, Ask, Destination, Login
from .uninterrupted import strike_now, uninterrupted
from .watcher import Watcher

log = logging.getLogger("kernel_magics")

FIRST_RETRY = 0.5
LONGEST_RETRY = 4.0
"""Seconds before the first, and at most before any further attempt to log in again."""

LOOKS_AFTER_PAUSE = 2
"""How often, a beat apart, a silent login that was paused has to be found neither paused nor heard
again before another one replaces it: who has just gone on needs a moment to be heard."""

BESIDE_TIMEOUT = 4
"""Seconds for the network when a second login is tried. TCP repeats its first packet after 1, 3 and
7 s; an attempt from before the network was back must not take longer than the next."""


class Tunnel:
    """One host. Its methods may be called from any thread; ``unused`` is called when the last
    kernel that was reached through it is left."""

    def __init__(
        self,
        destination: Destination,
        watcher: Watcher,
        unused: Callable[[Tunnel], None] = lambda _: None,
    ) -> None:
        self.destination = destination
        self.up = False
        """The login stands, and something comes through."""
        self.silent = False
        """The login stands, and nothing comes through: a pause, or a cut that nobody has told."""
        self.stale = False
        """The far side may still hold connections of an earlier login to the kernels."""
        self.hopeless = False
        """It broke, and cannot be had again without the user. Nothing more is tried until
        :meth:`open` or :meth:`log_in` is called."""
        self.reason = "it was never opened"
        """Why it is not up: ssh's last words, or ours about its silence."""
        self._watcher = watcher
        self._unused = unused
        self._folder = private_folder()
        self.held = 0
        """How many are about to use it; under the owner's lock."""
        self._login: Login | None = None
        self._trying: Login | None = None
        self._last: Login | None = None  # the one that stood last
        self._logins = itertools.count()
        self._ends: dict[int, dict[str, str]] = {}
        self._far: dict[int, ConnectionInfo] = {}
        self._number = 0
        self._lock = threading.Lock()
        self._opening = threading.Lock()  # by the user or by ourselves, one at a time
        self._closing = threading.Event()

    def __str__(self) -> str:
        return f"ssh {self.destination}"

    def open(self, ask: Ask | None) -> None:
        """Log in, unless the login stands; questions go to ``ask``, on this thread.

        Raises:
            SshError: with ssh's own last words.
        """
        with self._alone():
            if not self.up:
                self._log_in(ask)

    def log_in(self, ask: Ask) -> None:
        """Have the user mend what cannot be mended without; questions go to ``ask``, on this
        thread.

        Of several who wait only the first is asked: for the others it is up again then. If the
        network is gone as well, nobody is asked, and it is tried again by ourselves from here on.

        Raises:
            SshError: the user could not or would not; it stays as it is.
        """
        with self._alone():
            if self.up or not self.hopeless:
                return
            try:
                self._log_in(ask)
            except SshError as error:
                self.reason = error.reason
                if error.needs_user:
                    raise
                self.hopeless = False
                self._thread(self._heal)

    def kernels(self) -> list[far.FarKernel]:
        """Return what has a connection file there, youngest first.

        Raises:
            SshError: it could not be read.
        """
        return far.kernels(self._standing())

    def find(self, wanted: str) -> ConnectionInfo:
        """Return the one kernel there that answers to a name, an id or a fragment.

        Raises:
            KernelNotFound, AmbiguousKernel, SshError: as they say.
        """
        return far.find(wanted, self._standing())

    def far_end(self, local: ConnectionInfo) -> ConnectionInfo | None:
        """Return what :meth:`add` was given for this; None when it was taken back."""
        for number, ends in list(self._ends.items()):
            if _end(local, "shell_port") in ends:
                return self._far[number]
        return None

    def run(self, script: str, *, timeout: float) -> list[list[str]]:
        """See :meth:`Login.run`."""
        return self._standing().run(script, timeout=timeout)

    def session(self, script: str) -> subprocess.Popen[bytes]:
        """See :meth:`Login.session`."""
        return self._standing().session(script)

    def redirect(self, local: ConnectionInfo, info: ConnectionInfo) -> None:
        """Let what :meth:`add` gave lead to another far kernel.

        Raises:
            SshError: the forwards were refused.
        """
        login = self._standing()
        for number, ends in list(self._ends.items()):
            if _end(local, "shell_port") in ends:
                login.cancel(ends)
                new = {_end(local, port): _end(info, port) for port in PORTS}
                login.forward(new)
                self._ends[number], self._far[number] = new, info
                return

    def add(self, info: ConnectionInfo, *, tcp: bool = False) -> ConnectionInfo:
        """Return where a far kernel is reached from here: private Unix sockets, or TCP ports.

        What is returned has a connection file of its own, which other clients may use.

        Raises:
            SshError: the forwards were refused.
        """
        login = self._standing()
        with self._lock:
            self._number += 1
            number = self._number
        local = self._local(info, number, tcp)
        ends = {_end(local, port): _end(info, port) for port in PORTS}
        login.forward(ends)
        self._ends[number], self._far[number] = ends, info
        assert local.path is not None
        descriptor = os.open(local.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(local.as_dict(show_key=True), file, indent=2)
        return local

    def leave(self, local: ConnectionInfo) -> None:
        """Take back what :meth:`add` gave. May be called twice."""
        for number, ends in list(self._ends.items()):
            if _end(local, "shell_port") in ends:
                del self._ends[number], self._far[number]
                if self._login is not None:
                    self._login.cancel(ends)
                for end in ends:
                    if end.startswith("/"):
                        Path(end).unlink(missing_ok=True)
                if local.path is not None:
                    local.path.unlink(missing_ok=True)
                if not self._ends:
                    self._unused(self)

    @property
    def used(self) -> bool:
        """A kernel is reached through it, or somebody is about to."""
        return bool(self._ends) or self.held > 0

    def close(self) -> None:
        """End ssh and remove its folder. May be called twice."""
        self._closing.set()
        with self._lock:
            self.up, self.reason = False, "it was closed from here"
            logins = [self._login, self._trying]
            self._login = None
        for login in logins:
            if login is not None:
                self._drop(login)
        with self._opening:
            pass  # who was about to log in has noticed
        shutil.rmtree(self._folder, ignore_errors=True)

    def _standing(self) -> Login:
        if self._login is None or not self.up:
            raise SshError(str(self.destination), self.reason)
        return self._login

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait until nobody else is logging in, and keep others from it."""
        with uninterrupted():
            while not self._opening.acquire(timeout=0.5):
                strike_now()
            try:
                yield
            finally:
                self._opening.release()

    def _log_in(self, ask: Ask | None) -> None:
        with self._attempt(ask) as login:
            self._install(login)

    @contextmanager
    def _attempt(self, ask: Ask | None, timeout: int = CONNECT_TIMEOUT) -> Iterator[Login]:
        """Log in; the login is closed again unless the block ends well and has made it ours."""
        login = self._trying = Login(
            self.destination, self._folder, lambda: self._ended(login), f"c{next(self._logins)}"
        )
        try:
            login.open(ask, lambda pid: self._watcher.watch(pid, [self._folder]), timeout=timeout)
            yield login
        finally:
            self._trying = None
            if self._login is not login:
                self._drop(login)

    def _install(self, login: Login) -> None:
        """Let a login that stands be the one, in place of any before it."""
        with self._lock:
            old, self._login = self._login, None
            self.up = self.silent = False
        if old is not None:
            self._drop(old)  # first: it holds the ends
        try:
            self._end_last(login)
            for ends in list(self._ends.values()):
                login.forward(ends)
        except BaseException:
            if old is not None:
                self._thread(self._heal)
            raise
        with self._lock:
            if self._closing.is_set():
                raise SshError(str(self.destination), self.reason)
            self._login = self._last = login
            self.up, self.hopeless, self.reason = True, False, ""
        if login.alive:
            self._thread(partial(self._keep, login))
        else:
            self._ended(login)

    def _end_last(self, login: Login) -> None:
        """Have the far side let go of the login before."""
        if self._last is None:
            return
        try:
            self.stale = not end_there(self._last.far_pids, login)
        except SshError as error:
            log.info("= %s: the login before may still stand there: %s", self, error.reason)
            self.stale = True

    def _drop(self, login: Login) -> None:
        login.close()
        if login.pid is not None:
            self._watcher.forget(login.pid)

    def _thread(self, target: Callable[[], None]) -> None:
        threading.Thread(target=target, name=f"kernel_magics {self}", daemon=True).start()

    def _ended(self, login: Login) -> None:
        """A login broke. Called on its own thread."""
        with self._lock:
            if self._login is not login:
                return  # closed, replaced, or known already
            self._login = None
            self.up, self.silent, self.reason = False, False, login.last_words
        log.info("= %s: %s", self, self.reason)
        if login.pid is not None:
            self._watcher.forget(login.pid)
        self._thread(self._heal)

    def _heal(self) -> None:
        pause = FIRST_RETRY
        while not self._closing.wait(pause):
            try:
                self.open(None)
                return
            except SshError as error:
                self.reason = error.reason
                log.info("= %s: %s", self, self.reason)
                if error.needs_user:
                    self.hopeless = True
                    return
                pause = min(2 * pause, LONGEST_RETRY)

    def _keep(self, login: Login) -> None:
        """Listen to a login's pulse as long as it is ours, and replace it once it has none; on a
        thread of its own."""
        pulse = Pulse(login, time.monotonic())
        alone = False  # a second login is not to be had
        while not self._closing.wait(BEAT) and self._login is login:
            silence = pulse.silence(time.monotonic())
            self._note_silence(login, silence)
            if alone or not pulse.may_be_replaced(silence):
                continue
            try:
                with self._opening, self._attempt(None, BESIDE_TIMEOUT) as other:
                    if self._login is login and self._is_cut(login, pulse, other):
                        self._install(other)
            except SshError as error:
                log.info("= %s: silent for %.0f s, and %s", self, silence, error.reason)
                alone = error.needs_user

    def _note_silence(self, login: Login, silence: float) -> None:
        with self._lock:
            if self._login is not login:
                return
            was, self.silent = self.silent, silence >= SILENT_AFTER
            self.up = not self.silent
            self.reason = f"nothing has come from there for {silence:.0f} s" if self.silent else ""
        if was is not self.silent:
            log.info("= %s: %s", self, self.reason or "is heard again")

    def _is_cut(self, login: Login, pulse: Pulse, other: Login) -> bool:
        """Whether a silent login has been given the time to be heard again, and was not."""
        looks = 1
        while looks > 0:
            try:
                paused = is_paused(login.far_pids, other)
            except SshError:
                if not other.alive:
                    raise
                paused = False  # nobody can tell
            looks = LOOKS_AFTER_PAUSE if paused else looks - 1
            if self._closing.wait(BEAT):
                return False
            silence = pulse.silence(time.monotonic())
            self._note_silence(login, silence)
            if silence < SILENT_AFTER or self._login is not login:
                return False
        return True

    def _local(self, info: ConnectionInfo, number: int, tcp: bool) -> ConnectionInfo:
        path = self._folder / f"kernel-{number}.json"
        if not tcp:
            ports: dict[str, Any] = {port: place for place, port in enumerate(PORTS, start=1)}
            return replace(
                info, transport="ipc", ip=str(self._folder / f"{number}"), path=path, **ports
            )
        with ExitStack() as stack:
            sockets = {port: stack.enter_context(socket.socket()) for port in PORTS}
            for each in sockets.values():
                each.bind(("127.0.0.1", 0))
            ports = {port: each.getsockname()[1] for port, each in sockets.items()}
        return replace(info, transport="tcp", ip="127.0.0.1", path=path, **ports)


def tunnel_to_kernel(
    connection_info: str | os.PathLike[str] | Mapping[str, Any],
    sshserver: str,
    sshkey: str | None = None,
) -> tuple[int, int, int, int, int]:
    """Return local TCP ports that lead to a far kernel: shell, iopub, stdin, heartbeat, control.

    ``connection_info`` is a connection file, or what is in it. One ssh child, which ends with this
    process, holds all of them; calls for the same server share it. What ssh asks is asked at the
    terminal, or in the notebook.

    Raises:
        ConnectionFileError, SshError: as they say.
    """
    if isinstance(connection_info, Mapping):
        info = ConnectionInfo.from_dict(connection_info)
    else:
        info = ConnectionInfo.from_file(connection_info)
    destination = Destination.parse(sshserver, sshkey)
    with uninterrupted():
        with _lock:
            if not _tunnels:
                atexit.register(_close_all)
            tunnel = _tunnels.get(destination)
            if tunnel is None:
                tunnel = _tunnels[destination] = Tunnel(destination, _watcher)
        tunnel.open(lambda text, secret: getpass.getpass(text) if secret else input(text))
        local = tunnel.add(info, tcp=True)
    return (
        *(local.shell_port, local.iopub_port, local.stdin_port),
        *(local.hb_port, local.control_port),
    )


_lock = threading.Lock()
_tunnels: dict[Destination, Tunnel] = {}  # of `tunnel_to_kernel`
_watcher = Watcher()


def _close_all() -> None:
    for tunnel in _tunnels.values():
        tunnel.close()
    _tunnels.clear()
    _watcher.close()


def _end(info: ConnectionInfo, port: str) -> str:
    """Return one end of a channel as ssh writes it."""
    number = getattr(info, port)
    if info.transport == "ipc":
        return f"{info.ip}-{number}"
    host = f"[{info.address}]" if ":" in info.address else info.address
    return f"{host}:{number}"
