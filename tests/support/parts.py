"""What may be missing on a machine, and how a test says that it needs it."""

import ctypes.util
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.support.sandbox import CHECKOUT


def floor_python() -> Path | None:
    """The interpreter of an environment with the oldest supported versions."""
    named = os.environ.get("KM_FLOOR_PYTHON")
    python = Path(named) if named else CHECKOUT / ".venv-floor" / "bin" / "python"
    return python if os.access(python, os.X_OK) else None


def chromium() -> Path | None:
    """A Chromium or Chrome that playwright can drive; its own downloads are not needed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("KM_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    return Path(found) if found else None


def sshd() -> str | None:
    """OpenSSH's server. It wants to be called by its absolute path, which users rarely have."""
    return shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")


@cache
def accounts() -> bool:
    """Whether an ssh server can be run here that knows passwords of ours, and nobody else does."""
    return (
        os.geteuid() == 0
        and sshd() is not None
        and all(shutil.which(name) is not None for name in ("ssh", "openssl", "unshare"))
        and Path("/etc/pam.d/sshd").is_file()
        and subprocess.run(
            ["unshare", "-m", "mount", "--bind", "/etc/pam.d", "/etc/pam.d"],
            capture_output=True,
            check=False,
        ).returncode
        == 0
    )


@cache
def irkernel() -> bool:
    """Whether R is here and has IRkernel; only R itself knows where its packages are."""
    program = shutil.which("R")
    look = 'quit(status = !requireNamespace("IRkernel", quietly = TRUE))'
    return (
        program is not None
        and subprocess.run([program, "--slave", "-e", look], check=False).returncode == 0
    )


def _js_folder() -> Path:
    named = os.environ.get("KM_JS")
    return Path(named) if named else CHECKOUT / ".venv-js"


def tslab() -> Path | None:
    """The program of the JavaScript kernel, in the folder where npm has put it.

    Kernels have to be started in that folder: their compiler looks for its types from there.
    """
    program = _js_folder() / "node_modules" / ".bin" / "tslab"
    return program if shutil.which("node") and os.access(program, os.X_OK) else None


def deno() -> Path | None:
    """Deno's program, which npm has put into a package of its own for each platform."""
    found = sorted(_js_folder().glob("node_modules/@deno/*/deno"))
    return found[0] if found and os.access(found[0], os.X_OK) else None


def octave() -> bool:
    return importable("octave_kernel") and shutil.which("octave") is not None


def gnuplot() -> bool:
    return importable("gnuplot_kernel") and shutil.which("gnuplot") is not None


def windows() -> bool:
    """Whether qtconsole can open a window on an X server of ours, and a screenshot be taken."""
    libraries = ("EGL", "xcb-cursor", "xcb-icccm", "xcb-keysyms", "xcb-shape", "xkbcommon-x11")
    return (
        importable("qtconsole", "PySide6", "PIL")
        and shutil.which("Xvfb") is not None
        and all(ctypes.util.find_library(name) is not None for name in libraries)
    )


def importable(*names: str) -> bool:
    return all(importlib.util.find_spec(name) is not None for name in names)


def encrypting() -> bool:
    """Whether both sides of the installed stack know Curve keys (asked, not read off versions)."""
    from ipykernel.kernelapp import IPKernelApp
    from jupyter_client.connect import ConnectionFileMixin

    return all(
        "curve_publickey" in side.class_traits() for side in (IPKernelApp, ConnectionFileMixin)
    )


PARTS: dict[str, tuple[Callable[[], bool], str]] = {
    "bash": (lambda: importable("bash_kernel"), "pip install bash_kernel"),
    "console": (lambda: importable("jupyter_console"), "pip install jupyter_console"),
    "cloudpickle": (lambda: importable("cloudpickle"), "pip install cloudpickle"),
    "pyarrow": (lambda: importable("pyarrow"), "pip install pyarrow"),
    "torch": (lambda: importable("torch"), "pip install torch"),
    "curve": (encrypting, 'pip install "ipykernel>=7.3" "jupyter_client>=8.9"'),
    "floor": (
        lambda: floor_python() is not None,
        "python -m venv .venv-floor && .venv-floor/bin/pip install"
        " ipython==8.20.0 ipykernel==6.29.0 jupyter_client==8.6.0 pyzmq==26.0.0"
        " (or name an interpreter by KM_FLOOR_PYTHON)",
    ),
    "deno": (
        lambda: deno() is not None,
        "npm install --prefix .venv-js --ignore-scripts deno (or name another folder by KM_JS)",
    ),
    "gnuplot": (
        gnuplot,
        "pip install gnuplot_kernel && apt-get install -y --no-install-recommends gnuplot-nox",
    ),
    "ir": (irkernel, "apt-get install -y --no-install-recommends r-cran-irkernel"),
    "jslab": (
        lambda: tslab() is not None,
        "npm install --prefix .venv-js tslab @types/node (or name another folder by KM_JS)",
    ),
    "octave": (
        octave,
        "pip install octave_kernel && apt-get install -y --no-install-recommends octave",
    ),
    "scheme": (lambda: importable("calysto_scheme"), "pip install calysto_scheme"),
    "sshd": (
        lambda: sshd() is not None and shutil.which("ssh") is not None,
        "apt-get install -y --no-install-recommends openssh-server",
    ),
    "accounts": (
        accounts,
        "apt-get install -y --no-install-recommends openssh-server openssl util-linux (and be root,"
        " with the right to mount)",
    ),
    "netns": (
        lambda: shutil.which("ip") is not None and os.geteuid() == 0,
        "apt-get install -y --no-install-recommends iproute2 (and be root)",
    ),
    "lab": (
        lambda: chromium() is not None and importable("jupyterlab", "playwright"),
        "pip install jupyterlab playwright"
        " && apt-get install -y --no-install-recommends chromium fonts-dejavu-core",
    ),
    "headless": (
        lambda: importable("nbconvert", "papermill", "voila"),
        "pip install nbconvert papermill voila",
    ),
    "qt": (
        windows,
        "pip install qtconsole PySide6-Essentials pillow"
        " && apt-get install -y --no-install-recommends xvfb fonts-dejavu-core libegl1"
        " libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 libxcb-shape0 libxkbcommon-x11-0",
    ),
    "xpython": (lambda: importable("xpython"), "pip install xeus-python"),
}
"""Each part: whether it is here, and the line that installs it."""


def required() -> set[str]:
    """Parts whose absence is a failure: named in KM_REQUIRE, as CI does."""
    return {name.strip() for name in os.environ.get("KM_REQUIRE", "").split(",") if name.strip()}


def require(part: str) -> None:
    """Go on if ``part`` is here; otherwise skip the test, or fail it if KM_REQUIRE says so."""
    here, install = PARTS[part]
    if here():
        return
    if part in required():
        pytest.fail(f"{part} is required by KM_REQUIRE but missing: {install}", pytrace=False)
    pytest.skip(f"{part} is missing: {install}")
