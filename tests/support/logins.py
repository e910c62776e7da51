"""Ways to log in that ask: what a real ssh asks on each, and what has to be typed."""

from __future__ import annotations

import getpass
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from tests.support import parts
from tests.support.sshd import HOST, Secrets, SshServer, make_it_ask, ssh_server

Kind = Literal["password", "passphrase", "codes", "host key", "jump"]
KINDS: tuple[Kind, ...] = get_args(Kind)

PASSWORD = "correct-horse-4711"
PASSPHRASE = "open-sesame-4712"
CODE = "one-time-code-4713"
SECRETS = (PASSWORD, PASSPHRASE, CODE)

ME = getpass.getuser()


@dataclass(frozen=True)
class Asked:
    """One question: how its text begins, whether the answer is hidden, and the right answer."""

    text: str
    secret: bool
    answer: str


@dataclass
class Asking:
    """A server that is reached as ``HOST``, and what ssh asks in order on the way there."""

    server: SshServer
    questions: list[Asked]
    servers: list[SshServer]
    """The jump host's too."""

    @property
    def log(self) -> str:
        """What all servers said."""
        return "".join(server.log for server in self.servers)

    def failures(self) -> list[str]:
        """The failed logins, by any wrong or empty secret, as who guards a server counts them."""
        return [line for line in self.log.splitlines() if line.startswith("Failed ")]


PASSWORD_ASKED = Asked(f"{ME}@127.0.0.1's password: ", True, PASSWORD)
PASSPHRASE_ASKED = Asked("Enter passphrase for key", True, PASSPHRASE)
CODES_ASKED = [
    Asked(f"({ME}@127.0.0.1) Password: ", True, PASSWORD),
    Asked(f"({ME}@127.0.0.1) Password required for {ME}.", True, CODE),
]
HOST_KEY_ASKED = Asked("The authenticity of host", False, "yes")


@contextmanager
def asking(kind: Kind, folder: Path) -> Generator[Asking]:
    """Run what such a login needs; skip the test where it cannot be run."""
    parts.require("sshd")
    if kind in ("password", "codes", "jump"):
        parts.require("accounts")
    with ExitStack() as stack:
        if kind == "jump":
            folder.mkdir()
            jump = stack.enter_context(ssh_server(folder / "jump", secrets=Secrets(PASSWORD)))
            lines = [
                *["Host jumpbox", "HostName 127.0.0.1", f"Port {jump.port}", f"User {ME}"],
                *[f"UserKnownHostsFile {jump.folder / 'known'}", f"Host {HOST}"],
                "ProxyJump jumpbox",
            ]
            server = stack.enter_context(ssh_server(folder / "target", client=lines))
            make_it_ask(server, PASSPHRASE, host_key=False)
            yield Asking(server, [PASSWORD_ASKED, PASSPHRASE_ASKED], [jump, server])
            return
        secrets = {"password": Secrets(PASSWORD), "codes": Secrets(PASSWORD, CODE)}
        server = stack.enter_context(ssh_server(folder, secrets=secrets.get(kind)))
        questions = {"password": [PASSWORD_ASKED], "codes": CODES_ASKED}.get(kind, [])
        if kind == "passphrase":
            make_it_ask(server, PASSPHRASE, host_key=False)
            questions = [PASSPHRASE_ASKED]
        elif kind == "host key":
            (server.folder / "known").write_text("")
            questions = [HOST_KEY_ASKED]
        yield Asking(server, questions, [server])
