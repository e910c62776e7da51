"""The way to the kernels of a far host: one login, and for each kernel five ends on this machine.

The ends stay where they are when the login breaks and is opened again, so that whoever connects to
them, `jupyter console` too, need not know."""

from __future__ import annotations

import atexit
import getpass
import json
import logging
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import SshError
from . import far
from .info import PORTS, ConnectionInfo
from .launch import private_folder
from .ssh import Ask, Destination, Login
from .watcher import Watcher

log = logging.getLogger("kernel_magics")

FIRST_RETRY = 0.5
LONGEST_RETRY = 4.0
"""Seconds before the first, and at most before any further attempt to log in again."""


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
        """The login stands, as far as ssh knows."""
        self.hopeless = False
        """It broke, and cannot be had again without the user. Nothing more is tried until
        :meth:`open` or :meth:`log_in` is called."""
        self.reason = "it was never opened"
        """Why it is not up: ssh's last words."""
        self._watcher = watcher
        self._unused = unused
        self._folder = private_folder()
        self.held = 0
        """How many are about to use it; under the owner's lock."""
        self._login: Login | None = None
        self._trying: Login | None = None
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
        with self._opening:
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
        with self._opening:
            if self.up or not self.hopeless:
                return
            try:
                self._log_in(ask)
            except SshError as error:
                self.reason = error.reason
                if error.needs_user:
                    raise
                self.hopeless = False
                self._heal_later()

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
        self.up, self.reason = False, "it was closed from here"
        with self._lock:
            logins = [self._login, self._trying]
            self._login = None
        for login in logins:
            if login is not None:
                login.close()
                if login.pid is not None:
                    self._watcher.forget(login.pid)
        with self._opening:
            pass  # who was about to log in has noticed
        shutil.rmtree(self._folder, ignore_errors=True)

    def _standing(self) -> Login:
        if self._login is None or not self.up:
            raise SshError(str(self.destination), self.reason)
        return self._login

    def _log_in(self, ask: Ask | None) -> None:
        login = self._trying = Login(self.destination, self._folder, self._ended)
        try:
            login.open(ask, started=lambda pid: self._watcher.watch(pid, [self._folder]))
            for ends in list(self._ends.values()):
                login.forward(ends)
            if self._closing.is_set():
                raise SshError(str(self.destination), self.reason)
        except BaseException:
            login.close()
            if login.pid is not None:
                self._watcher.forget(login.pid)
            raise
        finally:
            self._trying = None
        with self._lock:
            self._login, self.up, self.hopeless, self.reason = login, True, False, ""
        if not login.alive:
            self._ended()

    def _ended(self) -> None:
        """The login broke. Called on its own thread."""
        with self._lock:
            login, self._login = self._login, None
            if login is None:
                return  # closed, or known already
            self.up, self.reason = False, login.last_words
        log.info("= %s: %s", self, self.reason)
        if login.pid is not None:
            self._watcher.forget(login.pid)
        self._heal_later()

    def _heal_later(self) -> None:
        threading.Thread(target=self._heal, name=f"kernel_magics {self}", daemon=True).start()

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
