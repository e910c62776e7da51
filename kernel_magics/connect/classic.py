"""The helper functions of `IPython.lib.kernel`, later of `ipykernel.connect` and
`jupyter_client.connect`, with their documented signatures.

Where a library still does the documented thing it is asked to. What it no longer does is done
here: profiles, an error in a terminal, a window that cannot open, `swallow_argv`.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, overload

from jupyter_core.paths import jupyter_runtime_dir

from ..errors import ConnectionFileError, ConnectionFileNotFound, NotAKernel


def get_connection_file(app: Any = None) -> str:
    """Return the path of the connection file of an application.

    ``app`` is an `ipykernel.kernelapp.IPKernelApp`; None means the one that runs here.

    Raises:
        NotAKernel: ``app`` is None and this is no kernel (also a `RuntimeError`).
        ConnectionFileNotFound: the kernel's file is gone (also a `FileNotFoundError`).
    """
    if app is None:
        app = _running_app()
    folders = [Path.cwd(), Path(app.connection_dir)]
    for folder in folders:
        path = folder / app.connection_file  # which may be absolute
        if path.is_file():
            return str(path.absolute())
    raise ConnectionFileNotFound(
        app.connection_file, list(map(str, folders)), "The kernel's file has been removed"
    )


@overload
def get_connection_info(
    connection_file: str | None = None, unpack: Literal[False] = False, profile: str | None = None
) -> str: ...


@overload
def get_connection_info(
    connection_file: str | None, unpack: Literal[True], profile: str | None = None
) -> dict[str, Any]: ...


@overload
def get_connection_info(
    connection_file: str | None = None, *, unpack: Literal[True], profile: str | None = None
) -> dict[str, Any]: ...


def get_connection_info(
    connection_file: str | None = None, unpack: bool = False, profile: str | None = None
) -> str | dict[str, Any]:
    """Return what a connection file says: its JSON text, or a dictionary if ``unpack``.

    ``connection_file`` and ``profile`` are those of :func:`find_connection_file`; None means the
    kernel that this runs in. In the dictionary ``key`` is bytes. The key is not hidden: whoever
    has it can run code in that kernel.

    Raises:
        NotAKernel: no file was named, and this is no kernel.
        ConnectionFileNotFound: there is no such file.
        ConnectionFileError: it cannot be unpacked.
    """
    path = _find(connection_file, profile)
    text = Path(path).read_text(encoding="utf-8")
    if not unpack:
        return text
    try:
        info = json.loads(text)
    except ValueError:
        # The parser's own error would carry the text, and with it the key.
        raise ConnectionFileError(path, "is not JSON, or only half written") from None
    if not isinstance(info, dict):
        raise ConnectionFileError(path, "does not hold a dictionary")
    return {**info, "key": str(info.get("key", "")).encode()}


def find_connection_file(filename: str = "kernel-*.json", profile: str | None = None) -> str:
    """Return the absolute path of a connection file.

    ``filename`` is a path; else a name, a fragment of one or a glob, looked for in the working
    directory and then where kernels leave their files: the runtime directory, or
    ``IPYTHONDIR/profile_NAME/security`` for a ``profile``. Of several matches it is the one that
    was read last. The magics are stricter: there several matches are an error.

    Raises:
        ConnectionFileNotFound: nothing matches, or there is no such profile (also a
            `FileNotFoundError`).
    """
    from jupyter_client.connect import find_connection_file as find

    folder = jupyter_runtime_dir() if profile is None else _security_dir(filename, profile)
    try:
        return os.path.abspath(find(filename, [".", folder]))  # noqa: PTH100 - it stays a str
    except OSError:
        raise ConnectionFileNotFound(
            filename, [str(Path.cwd()), folder], "%kernels --all shows the kernels found here"
        ) from None


def write_connection_file(
    fname: str | None = None,
    shell_port: int = 0,
    iopub_port: int = 0,
    stdin_port: int = 0,
    hb_port: int = 0,
    control_port: int = 0,
    ip: str = "",
    key: bytes = b"",
    transport: str = "tcp",
    signature_scheme: str = "hmac-sha256",
    kernel_name: str = "",
    curve_publickey: bytes | None = None,
    curve_secretkey: bytes | None = None,
    **kwargs: Any,
) -> tuple[str, dict[str, Any]]:
    """Write a connection file that only its owner can read; return its path and its entries.

    Without ``fname`` it is a temporary file, which the caller removes. A port of 0 becomes one that
    was free a moment ago; an empty ``ip`` is this machine's loopback address. ``kwargs`` are
    further entries.
    """
    from jupyter_client.connect import write_connection_file as write

    curve: dict[str, Any] = {
        name: value
        for name, value in (
            ("curve_publickey", curve_publickey),
            ("curve_secretkey", curve_secretkey),
        )
        if value is not None
    }
    if "curve_publickey" not in inspect.signature(write).parameters:
        # jupyter_client before 8.9 takes these for further entries, which have to be JSON.
        curve = {name: value.decode("ascii") for name, value in curve.items()}
    path, entries = write(
        fname,
        shell_port=shell_port,
        iopub_port=iopub_port,
        stdin_port=stdin_port,
        hb_port=hb_port,
        control_port=control_port,
        ip=ip,
        key=key,
        transport=transport,
        signature_scheme=signature_scheme,
        kernel_name=kernel_name,
        **curve,
        **kwargs,
    )
    return path, dict(entries)


def connect_qtconsole(
    connection_file: str | None = None,
    argv: Sequence[str] | None = None,
    profile: str | None = None,
) -> subprocess.Popen[bytes]:
    """Open a Qt console on a kernel and return its process, without waiting for the window.

    ``connection_file`` and ``profile`` are those of :func:`find_connection_file`; None means the
    kernel that this runs in. ``argv`` is handed to qtconsole. The process has no pipes; it ends
    when its user closes the window. ``%connect_qtconsole`` also tells when it cannot start.

    Raises:
        NotAKernel: no file was named, and this is no kernel.
        ConnectionFileNotFound: there is no such file.
        QtConsoleMissing: qtconsole or Qt is not installed (also an `ImportError`).
    """
    from .qtconsole import open_window

    return open_window(_find(connection_file, profile), argv or (), patience=0)


def swallow_argv(
    argv: Iterable[str],
    aliases: Iterable[str] | None = None,
    flags: Iterable[str] | None = None,
) -> list[str]:
    """Return an argument list without a front end's own aliases and flags.

    Names stand without dashes in ``aliases``, which take a value (``--name=value`` as well as
    ``--name value``), and in ``flags``, which take none. An alias that is also a flag takes the
    next argument unless that is an option. A long option may be abbreviated, as on the command
    line. What follows ``--`` is left alone.
    """
    known_aliases, known_flags = frozenset(aliases or ()), frozenset(flags or ())
    kept: list[str] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        if word == "--":
            return [*kept, word, *words]
        if not word.startswith("-"):
            kept.append(word)
            continue
        name, equals, _ = word.lstrip("-").partition("=")
        is_alias, is_flag = name in known_aliases, name in known_flags
        if name and word.startswith("--") and not (is_alias or is_flag):
            is_alias = any(known.startswith(name) for known in known_aliases)
            is_flag = any(known.startswith(name) for known in known_flags)
        if is_alias:
            takes_next = not equals and bool(words) and words[0] != "--"
            if takes_next and not (is_flag and words[0].startswith("-")):
                words.pop(0)
        elif not is_flag or equals:
            kept.append(word)
    return kept


def _find(connection_file: str | None, profile: str | None) -> str:
    if connection_file is None:
        return get_connection_file()
    return find_connection_file(connection_file, profile)


def _running_app() -> Any:
    """The application of the kernel that this process is.

    IPython is looked up and not imported: where nobody has imported it, there is no kernel. And
    `IPKernelApp.initialized()` is not asked, because it is true in a terminal as well.
    """
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    kernel = getattr(get_ipython(), "kernel", None)
    app = getattr(kernel, "parent", None)
    if not hasattr(app, "connection_file"):
        raise NotAKernel(jupyter_runtime_dir())
    return app


def _security_dir(filename: str, profile: str) -> str:
    folder = Path(os.environ.get("IPYTHONDIR") or "~/.ipython").expanduser().absolute()
    security = folder / f"profile_{profile}" / "security"
    if not security.is_dir():
        known = sorted(path.name.removeprefix("profile_") for path in folder.glob("profile_*"))
        raise ConnectionFileNotFound(
            filename, [str(security)], f"The profiles there are: {', '.join(known) or 'none'}"
        )
    return str(security)
