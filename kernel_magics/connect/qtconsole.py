"""A Qt console: another program with a window of its own, on a kernel of ours or of anybody's.

The window belongs to the person in front of it. It is closed there, outlives this session, and
leaves nothing of ours behind.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConnectionFileError, QtConsoleError, QtConsoleMissing
from .launch import LOG_TAIL, NOT_INHERITED
from .uninterrupted import uninterrupted

PATIENCE = 2.0
"""Seconds in which a window that cannot open has usually given up."""

BINDINGS = ("PyQt5", "PySide2", "PyQt6", "PySide6")
"""What qtconsole can draw with: any one of them."""

# A kernel that others use as well; without this the window would not show what they do. The option
# is named by the class that defines it, so that what the user says of JupyterWidget has its way.
OPTIONS = ("--ConsoleWidget.include_other_output=True",)

WITH_CURVE = """
from qtconsole import qtconsoleapp
class Client(qtconsoleapp.JupyterQtConsoleApp.kernel_client_class):
    def start_channels(self, *args, **options):
        self.load_connection_file()
        super().start_channels(*args, **options)
qtconsoleapp.JupyterQtConsoleApp.kernel_client_class = Client
qtconsoleapp.main()
"""
"""Run in place of qtconsole where the kernel encrypts. `JupyterConsoleApp.init_kernel_client` (of
jupyter_client 8.10) hands everything to its client but the Curve keys, and a kernel is silent to
whoever has none: the window would be empty. They stand in no argument, which others could read."""


def open_window(
    connection_file: str | os.PathLike[str], argv: Sequence[str] = (), *, patience: float = PATIENCE
) -> subprocess.Popen[bytes]:
    """Open a window on the kernel of a connection file; return the window's process.

    ``argv`` is handed to qtconsole. Waits ``patience`` seconds for the process to fail. It runs
    in a session of its own, so that Ctrl-C here is not for it, and nobody has to wait for it.

    Raises:
        QtConsoleMissing: qtconsole or Qt is not installed.
        ConnectionFileError: the file is gone.
        QtConsoleError: the window has ended again, with its last words.
    """
    _insist_on_qt()
    path = Path(connection_file).absolute()
    if not path.is_file():
        raise ConnectionFileError(str(path), "is gone, and a Qt console has to read it")
    # A file without a name: what nobody reads fills no pipe, and nothing has to be removed. Not
    # our own stdout, which ipykernel publishes as a cell's output.
    with tempfile.TemporaryFile() as output:
        # -P: a notebook's folder may hold a json.py or an email.py.
        window = [sys.executable, "-P", *_program(path), "--existing", str(path), *OPTIONS, *argv]
        with uninterrupted():
            process = subprocess.Popen(
                window,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={k: v for k, v in os.environ.items() if k not in NOT_INHERITED},
                start_new_session=True,
            )
            _collect(process)
        try:
            status = process.wait(patience)
        except subprocess.TimeoutExpired:
            return process
        output.seek(0)
        words = output.read().decode("utf-8", "replace").strip().splitlines()
    raise QtConsoleError(_why(status, path), "\n".join(words[-LOG_TAIL:]))


def _program(path: Path) -> list[str]:
    encrypts = b'"curve_publickey"' in path.read_bytes()
    return ["-c", WITH_CURVE] if encrypts else ["-m", "qtconsole"]


def _insist_on_qt() -> None:
    if not _installed("qtconsole"):
        raise QtConsoleMissing("qtconsole", sys.executable)
    if not any(map(_installed, BINDINGS)):
        raise QtConsoleMissing("Qt for Python", sys.executable)


def _installed(name: str) -> bool:
    with contextlib.suppress(ValueError):  # a module that somebody put together by hand
        return importlib.util.find_spec(name) is not None
    return True


def _collect(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of the window, whenever that is, so that it leaves no zombie."""
    threading.Thread(
        target=process.wait, name=f"kernel_magics window {process.pid}", daemon=True
    ).start()


def _why(status: int, path: Path) -> str:
    how = f"exit status {status}"
    if status < 0:
        with contextlib.suppress(ValueError):
            how = signal.Signals(-status).name
    shown_on = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    if sys.platform != "linux" or shown_on:
        return f"it ended at once ({how})"
    return (
        f"it ended at once ({how}), and this session has no display (DISPLAY is not set); "
        f"where there is one, run: jupyter qtconsole --existing {path}"
    )
