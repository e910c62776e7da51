"""A real OpenSSH server on this machine, and a client configuration that knows it by a name."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support import parts
from tests.support.processes import Process
from tests.support.waiting import wait_until

HOST = "gpubox"
"""What the client's configuration calls the server."""


@dataclass
class SshServer:
    """The server, and what a client of it needs."""

    folder: Path
    port: int
    process: Process

    @property
    def runtime(self) -> Path:
        """The Jupyter runtime directory of whoever logs in."""
        return self.folder / "far"

    @property
    def bin(self) -> Path:
        """To be put first on the PATH: an ``ssh`` that reads our configuration."""
        return self.folder / "bin"

    @property
    def config(self) -> Path:
        return self.folder / "config"

    @property
    def key(self) -> Path:
        return self.folder / "user"

    def sessions(self) -> list[psutil.Process]:
        """The server's processes of one login each."""
        return psutil.Process(self.process.pid).children()

    def cut(self) -> None:
        """End every login, as a far machine does that goes down."""
        for each in self.sessions():
            for child in [each, *each.children(recursive=True)]:  # not what runs there first
                with suppress(psutil.NoSuchProcess):
                    child.kill()


@dataclass(frozen=True)
class Network:
    """A network namespace with one cable to it, which can be pulled. Needs root and iproute2."""

    name: str
    number: int

    @property
    def address(self) -> str:
        """Of the far end."""
        return f"10.213.{self.number}.2"

    def plug(self, *, in_: bool) -> None:
        """Put the cable in, or pull it out."""
        ip("link", "set", self.name, "up" if in_ else "down")

    @property
    def prefix(self) -> list[str]:
        """What runs a command there."""
        return ["ip", "netns", "exec", self.name]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def network() -> Generator[Network]:
    """Make a namespace, and take it away again."""
    network = Network(f"km{os.getpid()}", os.getpid() % 250)
    near, far = network.name, f"{network.name}x"
    ip("netns", "add", network.name)
    try:
        ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", network.name)
        ip("addr", "add", f"10.213.{network.number}.1/24", "dev", near)
        ip("link", "set", near, "up")
        inside = ("netns", "exec", network.name, "ip")
        ip(*inside, "addr", "add", f"{network.address}/24", "dev", far)
        ip(*inside, "link", "set", far, "up")
        ip(*inside, "link", "set", "lo", "up")
        yield network
    finally:
        ip("netns", "del", network.name)


@contextmanager
def ssh_server(
    folder: Path,
    *,
    server: Sequence[str] = (),
    client: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    where: Network | None = None,
) -> Generator[SshServer]:
    """Run one, here or at the end of a cable; ``server`` and ``client`` are more lines of their
    configurations, ``environment`` is what logins have besides the usual."""
    address = "127.0.0.1" if where is None else where.address
    folder.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True
        )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    (folder / "far").mkdir(mode=0o700)
    shutil.copy(folder / "user.pub", folder / "authorized")
    variables = " ".join(f"{name}={value}" for name, value in (environment or {}).items())
    lines = [
        *[f"Port {port}", f"ListenAddress {address}", f"HostKey {folder / 'host'}"],
        *[f"AuthorizedKeysFile {folder / 'authorized'}", "PidFile none", "StrictModes no"],
        *["UsePAM no", "PasswordAuthentication no", "PermitRootLogin prohibit-password"],
        # One line: of several only the first counts.
        *[f"SetEnv JUPYTER_RUNTIME_DIR={folder / 'far'} {variables}", *server],
    ]
    (folder / "server").write_text("\n".join(lines) + "\n")
    host_key = (folder / "host.pub").read_text().split()[:2]
    (folder / "known").write_text(f"[{address}]:{port} {' '.join(host_key)}\n")
    (folder / "config").write_text(
        "\n".join(
            [
                *[*client, f"Host {HOST}", f"HostName {address}", f"Port {port}"],
                *[f"User {getpass.getuser()}", f"IdentityFile {folder / 'user'}"],
                *["IdentitiesOnly yes", f"UserKnownHostsFile {folder / 'known'}", ""],
            ]
        )
    )
    (folder / "bin").mkdir()
    wrapper = folder / "bin" / "ssh"
    # The last -F counts, so that calls to a master still read no configuration at all.
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder / "config"} "$@"\n')
    wrapper.chmod(0o700)
    found = parts.sshd()
    assert found is not None
    argv = [
        *([] if where is None else where.prefix),
        found,
        "-D",
        "-e",
        "-f",
        str(folder / "server"),
    ]
    with Process(argv, env=os.environ, cwd=folder, log=folder / "log") as process:
        wait_until(lambda: listening(address, port), what="the ssh server listens")
        yield SshServer(folder, port, process)


def make_it_ask(server: SshServer, passphrase: str) -> None:
    """Let the server's host key be unknown, and the user's key have a passphrase."""
    (server.folder / "known").write_text("")
    command = ["ssh-keygen", "-q", "-p", "-P", "", "-N", passphrase, "-f", str(server.key)]
    subprocess.run(command, check=True)


def listening(address: str, port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((address, port)) == 0
