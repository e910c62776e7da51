"""What a connection file says: checked once, frozen, its secrets hidden.

A connection file comes from anybody who can write to a folder, so it is read like an upload:
bounded in size, never waited for, every field checked, one error that names file, field and reason.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import re
import socket
import stat
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConnectionFileError
from ..protocol.message import SIGNATURE_SCHEMES
from ..protocol.secret import HIDDEN, Secret
from ..wire.zmq import Endpoints

SIZE_LIMIT = 64 * 1024
"""Bytes. Real connection files have some 500."""

PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")

_HOST_NAME = re.compile(r"(?=.{1,253}\Z)\w([\w-]*\w)?(\.\w([\w-]*\w)?)*\.?", re.ASCII)
_Z85_KEY = re.compile(r"[0-9A-Za-z.:+=^!/*?&<>()\[\]{}@%$#-]{40}")


@dataclass(frozen=True)
class ConnectionInfo:
    """Where a kernel is and how to talk to it.

    ``transport`` is ``"tcp"`` or ``"ipc"``; for ipc ``ip`` is the path that ``-PORT`` is appended
    to. ``path`` is the file it came from, None when there is none."""

    transport: str
    ip: str
    shell_port: int
    iopub_port: int
    stdin_port: int
    control_port: int
    hb_port: int
    key: Secret
    signature_scheme: str = "hmac-sha256"
    kernel_name: str = ""
    curve_publickey: Secret | None = None
    curve_secretkey: Secret | None = None
    jupyter_session: str | None = None
    """The notebook it was started for, when its starter said so."""
    path: Path | None = field(default=None, compare=False)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, warn: bool = True) -> ConnectionInfo:
        """Read and check a connection file.

        Warns when other users of this machine can read it, unless ``warn`` is False.

        Raises:
            ConnectionFileError: whatever is wrong with it. Never waits, not even for a FIFO.
        """
        path = Path(path).absolute()
        return cls.from_dict(_read(path, warn=warn), path)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], path: Path | None = None) -> ConnectionInfo:
        """Check the entries of a connection file; ``path`` is named in errors.

        Raises:
            ConnectionFileError: an entry is missing or cannot be what it is.
        """
        try:
            return cls._checked(values, path)
        except ConnectionFileError as error:
            found = error.with_traceback(None)
        # Whoever shows the variables of a traceback's frames must not find the key in them.
        del values
        raise found

    @classmethod
    def _checked(cls, values: Mapping[str, Any], path: Path | None) -> ConnectionInfo:
        check = _Checker(values, str(path or "connection info"))
        transport = check.one_of("transport", ("tcp", "ipc"), default="tcp")
        session = values.get("jupyter_session")
        info = cls(
            transport=transport,
            ip=check.host("ip") if transport == "tcp" else check.socket_path("ip"),
            **{port: check.port(port) for port in PORTS},
            key=check.key("key"),
            signature_scheme=check.one_of(
                "signature_scheme", SIGNATURE_SCHEMES, default="hmac-sha256"
            ),
            kernel_name=str(values.get("kernel_name") or ""),
            jupyter_session=session if isinstance(session, str) else None,
            curve_publickey=check.curve_key("curve_publickey"),
            curve_secretkey=check.curve_key("curve_secretkey"),
            path=path,
        )
        check.distinct(PORTS)
        if (info.curve_publickey is None) != (info.curve_secretkey is None):
            check.fail("curve_publickey", "comes without curve_secretkey, or the other way round")
        return info

    @property
    def address(self) -> str:
        """The host to connect to: a kernel that listens on every interface is reached on this
        one."""
        return "127.0.0.1" if self.ip in ("0.0.0.0", "*", "") else self.ip

    @property
    def name(self) -> str:
        """The file's name without folder and ending, or the address when there is no file."""
        return self.path.stem if self.path is not None else self.url("shell_port")

    def url(self, port: str) -> str:
        """Return the ZeroMQ address of one channel, by the name of its port."""
        number = getattr(self, port)
        if self.transport == "ipc":
            return f"ipc://{self.ip}-{number}"
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"tcp://{host}:{number}"

    def endpoints(self) -> Endpoints:
        """Return what a :class:`~kernel_magics.wire.zmq.ZmqTransport` connects to."""
        public, secret = self.curve_publickey, self.curve_secretkey
        return Endpoints(
            urls={
                "shell": self.url("shell_port"),
                "iopub": self.url("iopub_port"),
                "stdin": self.url("stdin_port"),
                "control": self.url("control_port"),
            },
            heartbeat=self.url("hb_port"),
            curve_server_key=public,
            curve_keys=(public, secret) if public and secret else None,
        )

    def as_dict(self, *, show_key: bool = False) -> dict[str, Any]:
        """Return the entries as a connection file has them, secrets hidden unless ``show_key``."""

        def secret(value: Secret) -> str:
            return value.reveal().decode("utf-8", "replace") if show_key else HIDDEN

        entries: dict[str, Any] = {port: getattr(self, port) for port in PORTS}
        entries |= {
            "ip": self.ip,
            "key": secret(self.key),
            "transport": self.transport,
            "signature_scheme": self.signature_scheme,
            "kernel_name": self.kernel_name,
        }
        if self.jupyter_session is not None:
            entries["jupyter_session"] = self.jupyter_session
        if self.curve_publickey is not None and self.curve_secretkey is not None:
            entries["curve_publickey"] = secret(self.curve_publickey)
            entries["curve_secretkey"] = secret(self.curve_secretkey)
        return entries

    @property
    def fingerprint(self) -> str:
        """What tells this kernel from all others, and from which nobody learns its key."""
        return hashlib.sha256(b"kernel_magics " + self.key.reveal()).hexdigest()[:16]

    @property
    def is_exposed(self) -> bool:
        """Whether what is said to the kernel leaves this machine unencrypted.

        An address is of this machine if a socket can be bound to it.
        """
        if self.transport == "ipc" or self.curve_publickey is not None:
            return False
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        with socket.socket(family) as sock:
            try:
                sock.bind((self.address, 0))
            except OSError:
                return True
        return False

    def is_same_kernel(self, other: ConnectionInfo) -> bool:
        """Whether both lead to one kernel: only a kernel and its clients share its key."""
        return self.key == other.key and self.shell_port == other.shell_port


class _Checker:
    """Takes entries out of a dictionary, each with the one error it can cause."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values, self._where = values, where

    def fail(self, name: str, reason: str) -> None:
        raise ConnectionFileError(self._where, reason, field=name)

    def one_of(self, name: str, allowed: tuple[str, ...], *, default: str) -> str:
        value = self._values.get(name, default)
        if not isinstance(value, str) or value not in allowed:
            self.fail(name, f"is {_shown(value)}; it has to be one of {', '.join(allowed)}")
        return str(value)

    def text(self, name: str) -> str:
        value = self._values.get(name)
        if not isinstance(value, str) or not value:
            wrong = "is empty" if value == "" else f"is {_shown(value)}, not a text"
            self.fail(name, "is missing" if value is None else wrong)
        return str(value)

    def host(self, name: str) -> str:
        value = self.text(name)
        if value != "*" and not _is_address(value) and not _HOST_NAME.fullmatch(value):
            self.fail(name, f"is {_shown(value)}, neither a host name nor an address")
        return value

    def socket_path(self, name: str) -> str:
        value = self.text(name)
        if not value.isprintable() or len(value.encode()) > 100:
            self.fail(name, f"is {_shown(value)}; a socket's path has at most 107 bytes of text")
        return value

    def port(self, name: str) -> int:
        value = self._values.get(name)
        if value is None:
            self.fail(name, "is missing, and every channel is needed")
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 65536:
            self.fail(name, f"is {_shown(value)}; a port is a number from 1 to 65535")
        assert isinstance(value, int)
        return value

    def distinct(self, names: tuple[str, ...]) -> None:
        seen: dict[int, str] = {}
        for name in names:
            if (other := seen.setdefault(self._values[name], name)) != name:
                self.fail(name, f"is the same as {other} ({self._values[name]})")

    def key(self, name: str) -> Secret:
        value = self._values.get(name)
        if not isinstance(value, str) or not value:
            # Never show it: a key of the wrong type is still somebody's key.
            reason = "is missing" if value is None else "is empty or not a text"
            self.fail(name, f"{reason}; without a key anybody could pose as the kernel")
        return Secret(str(value).encode("utf-8", "surrogatepass"))

    def curve_key(self, name: str) -> Secret | None:
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not _Z85_KEY.fullmatch(value):
            self.fail(name, "is not a CurveZMQ key of 40 characters")
        return Secret(str(value).encode())


def _read(path: Path, *, warn: bool) -> dict[str, Any]:
    where = str(path)
    try:
        # O_NONBLOCK: opening a FIFO would otherwise wait for a writer, perhaps for ever.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise ConnectionFileError(where, _why(error)) from None
    except ValueError:  # NUL, lone surrogates
        raise ConnectionFileError(repr(where), "is a path that no file can have") from None
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        os.close(descriptor)
        raise ConnectionFileError(where, "is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        if about.st_mode & stat.S_IWOTH:
            raise ConnectionFileError(
                where, "can be written by every user of this machine, so it proves nothing"
            )
        if warn and about.st_mode & (stat.S_IRGRP | stat.S_IROTH) and os.name == "posix":
            warnings.warn(
                f"{where} can be read by other users of this machine, and so can its key; "
                f"chmod 600 makes it private",
                stacklevel=3,
            )
        try:
            content = file.read(SIZE_LIMIT + 1)
        except OSError as error:
            raise ConnectionFileError(where, _why(error)) from None
    if len(content) > SIZE_LIMIT:
        raise ConnectionFileError(where, f"is larger than {SIZE_LIMIT // 1024} KiB")
    if not content.strip():
        raise ConnectionFileError(where, "is empty")
    values: Any = None
    problem = "does not hold a dictionary"
    try:
        values = json.loads(content)
    except RecursionError:
        problem = "is nested too deeply to be a connection file"
    except ValueError:
        problem = "is not JSON, or only half written"
    if isinstance(values, dict):
        return values
    # Neither the parser's own words nor the variables of a traceback's frames may quote the key.
    del content, values
    raise ConnectionFileError(where, problem)


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # thousands of digits, thousands of brackets
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= 60 else text[:57] + "..."
