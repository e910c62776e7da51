"""A real OpenSSH server on this machine, and a client configuration that knows it by a name."""

from __future__ import annotations

import getpass
import hashlib
import itertools
import os
import shutil
import socket
import subprocess
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
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

    @property
    def log(self) -> str:
        """What the server has said, once all logins are over; each failed one is in it."""
        wait_until(lambda: self.sessions() == [], what="the logins are over")
        return self.process.output

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
    """A network namespace behind one that routes, and two ways to be cut off from it. Needs root
    and iproute2."""

    name: str
    number: int

    @property
    def address(self) -> str:
        """Of the far end."""
        return f"10.214.{self.number}.2"

    @property
    def router(self) -> str:
        return f"{self.name}r"

    def plug(self, *, in_: bool) -> None:
        """Put our end of the cable in, or pull it out. The system knows, and goes on at once."""
        ip("link", "set", self.name, "up" if in_ else "down")
        if in_:
            self.make_known()

    def lose(self, *, lost: bool) -> None:
        """Lose on the way whatever is sent in either direction, or no more. Nobody knows."""
        word = f"echo {0 if lost else 1} >/proc/sys/net/ipv4/ip_forward"
        ip("netns", "exec", self.router, "sh", "-c", word)

    def make_known(self) -> None:
        """Tell the system the way there."""
        ip("route", "replace", f"10.214.{self.number}.0/24", "via", f"10.213.{self.number}.2")

    @property
    def prefix(self) -> list[str]:
        """What runs a command there."""
        return ["ip", "netns", "exec", self.name]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def network() -> Generator[Network]:
    """Make a namespace, and take it away again."""
    with ExitStack() as stack:
        # Only one can have a name, and with its number go the addresses: of other test runs too.
        for number in itertools.count(1):
            network = Network(f"km{number}", number)
            try:
                ip("netns", "add", network.router)
            except subprocess.CalledProcessError as error:
                if number == 250 or b"File exists" not in error.stderr:
                    raise
            else:
                stack.callback(ip, "netns", "del", network.router)
                break
        ip("netns", "add", network.name)
        stack.callback(ip, "netns", "del", network.name)
        lay(None, network.router, network.name, f"10.213.{network.number}")
        lay(network.router, network.name, f"{network.name}f", f"10.214.{network.number}")
        inside = ("netns", "exec", network.name, "ip")
        ip(*inside, "route", "add", "default", "via", f"10.214.{network.number}.1")
        network.make_known()
        network.lose(lost=False)
        yield network


def lay(near: str | None, far: str, name: str, prefix: str) -> None:
    """Lay a cable between two namespaces, ``near`` being ours if it is None; .1 and .2 are its
    ends' addresses."""
    here = () if near is None else ("netns", "exec", near, "ip")
    there = ("netns", "exec", far, "ip")
    ip(*here, "link", "add", name, "type", "veth", "peer", "name", f"{name}x", "netns", far)
    for where, end, address in (
        (here, name, f"{prefix}.1/24"),
        (there, f"{name}x", f"{prefix}.2/24"),
    ):
        ip(*where, "addr", "add", address, "dev", end)
        ip(*where, "link", "set", end, "up")
    ip(*there, "link", "set", "lo", "up")


@dataclass(frozen=True)
class Secrets:
    """What this user has to type to log in: a password, or with a code both, as PAM asks for them.

    Nothing of the machine is changed: the server sees an /etc/shadow and a PAM stack of its own."""

    password: str
    code: str | None = None

    @property
    def lines(self) -> list[str]:
        """For the server's configuration; of an option the first line counts."""
        method = "password" if self.code is None else "keyboard-interactive"
        ways = [
            f"{name} yes" for name in ("PasswordAuthentication", "KbdInteractiveAuthentication")
        ]
        pam = f"UsePAM {'no' if self.code is None else 'yes'}"
        return [*ways, pam, f"AuthenticationMethods {method}", "PermitRootLogin yes"]

    def prefix(self, folder: Path) -> list[str]:
        """Write the files; return what runs the server where they are in force."""
        hashed = subprocess.run(
            ["openssl", "passwd", "-6", "-stdin"],
            input=self.password,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        shadow, stack, check = folder / "shadow", folder / "pam", folder / "check"
        shadow.write_text(f"{getpass.getuser()}:{hashed}:19000:0:99999:7:::\n")
        shadow.chmod(0o600)
        # pam_ftp is there on every Debian, and asks a question of its own.
        stack.write_text(
            "auth requisite pam_unix.so nodelay\n"
            "auth [default=ignore] pam_ftp.so\n"
            f"auth required pam_exec.so expose_authtok quiet {check}\n"
            "account required pam_permit.so\n"
            "session required pam_permit.so\n"
        )
        digest = hashlib.sha256((self.code or "").encode()).hexdigest()
        check.write_text(
            f'#!/bin/sh\nread -r code\n[ "$(printf %s "$code" | sha256sum)" = "{digest}  -" ]\n'
        )
        check.chmod(0o700)
        mounts = 'mount --bind "$1" /etc/shadow && mount --bind "$2" /etc/pam.d/sshd'
        script = f'{mounts} && shift 2 && exec "$@"'
        return ["unshare", "-m", "sh", "-c", script, "sh", str(shadow), str(stack)]


@contextmanager
def ssh_server(
    folder: Path,
    *,
    server: Sequence[str] = (),
    client: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    where: Network | None = None,
    secrets: Secrets | None = None,
    host: str = HOST,
) -> Generator[SshServer]:
    """Run one, here or at the end of a cable; ``server`` and ``client`` are more lines of their
    configurations, ``environment`` is what logins have besides the usual, ``host`` is what the
    client calls it. With ``secrets`` it takes these, and no key."""
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
        *([] if secrets is None else secrets.lines),
        *[f"Port {port}", f"ListenAddress {address}", f"HostKey {folder / 'host'}"],
        *[f"AuthorizedKeysFile {folder / 'authorized'}", "PidFile none", "StrictModes no"],
        *["UsePAM no", "PasswordAuthentication no", "PermitRootLogin prohibit-password"],
        "LogLevel VERBOSE",
        # One line: of several only the first counts.
        *[f"SetEnv JUPYTER_RUNTIME_DIR={folder / 'far'} {variables}", *server],
    ]
    (folder / "server").write_text("\n".join(lines) + "\n")
    host_key = (folder / "host.pub").read_text().split()[:2]
    (folder / "known").write_text(f"[{address}]:{port} {' '.join(host_key)}\n")
    (folder / "config").write_text(
        "\n".join(
            [
                *[*client, f"Host {host}", f"HostName {address}", f"Port {port}"],
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
        *([] if secrets is None else secrets.prefix(folder)),
        found,
        "-D",
        "-e",
        "-f",
        str(folder / "server"),
    ]
    with Process(argv, env=os.environ, cwd=folder, log=folder / "log") as process:
        wait_until(lambda: listening(address, port), what="the ssh server listens")
        yield SshServer(folder, port, process)


def make_it_ask(server: SshServer, passphrase: str, *, host_key: bool = True) -> None:
    """Let the server's host key be unknown, and the user's key have a passphrase."""
    if host_key:
        (server.folder / "known").write_text("")
    command = ["ssh-keygen", "-q", "-p", "-P", "", "-N", passphrase, "-f", str(server.key)]
    subprocess.run(command, check=True)


def listening(address: str, port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((address, port)) == 0
