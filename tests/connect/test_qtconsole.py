"""A Qt console: opened on a kernel, or a sentence that says why not.

What the real one does not do on demand (to fail at once, to talk all the time) a stand-in does: a
program in its place.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel_magics.connect import connect_qtconsole
from kernel_magics.connect.qtconsole import BINDINGS, open_window
from kernel_magics.errors import ConnectionFileError, KernelMagicsError, QtConsoleError
from tests.support.kernels import HandKernel
from tests.support.parts import require
from tests.support.sandbox import Sandbox
from tests.support.waiting import PATIENCE, wait_until
from tests.support.windows import ended, listening, qt_variables, stand_in, window

OURS = "__import__('kernel_magics.connect').connect"

StandIn = Callable[[str], None]


@pytest.fixture
def real(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real qtconsole, drawn into memory."""
    require("qt")
    for name, value in qt_variables(sandbox).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def replaced(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Put a program in the place of qtconsole."""

    def replace(code: str) -> None:
        folder = sandbox.root / "stand-in"
        for name, value in stand_in(folder, code).items():
            monkeypatch.setenv(name, value)
        monkeypatch.syspath_prepend(folder)
        importlib.invalidate_caches()

    return replace


@pytest.fixture
def file(sandbox: Sandbox) -> Path:
    """A connection file that nobody reads."""
    path = sandbox.work / "kernel-1.json"
    path.write_text("{}")
    return path


def missing(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make imports fail here as if these were not installed."""
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


# The real one.


@pytest.mark.full
def test_a_window_opens_on_a_kernel(real: None, hand_kernel: Callable[..., HandKernel]) -> None:
    kernel = hand_kernel()
    with listening(kernel.info) as listener:
        process = connect_qtconsole(str(kernel.connection_file))
        with window(process.pid) as about:
            assert isinstance(process, subprocess.Popen)
            assert listener.console_session()
            assert process.poll() is None
            # Ctrl-C in this terminal is not for it.
            assert os.getsid(process.pid) == process.pid != os.getsid(0)
            # And nobody has to read what it says.
            assert (process.stdin, process.stdout, process.stderr) == (None, None, None)
            assert about.cmdline()[-1] == "--ConsoleWidget.include_other_output=True"
            process.terminate()
            assert process.wait(PATIENCE) != 0


@pytest.mark.full
def test_a_fragment_a_profile_and_arguments_name_the_window(
    real: None, sandbox: Sandbox, hand_kernel: Callable[..., HandKernel]
) -> None:
    kernel = hand_kernel(name="by-hand-6759")
    security = sandbox.root / "ipy" / "profile_gpu" / "security"
    security.mkdir(parents=True)
    named = kernel.connection_file.rename(security / kernel.connection_file.name)
    with listening(kernel.info) as listener:
        process = connect_qtconsole("6759", ["--JupyterWidget.paging=none"], profile="gpu")
        with window(process.pid) as about:
            assert listener.console_session()
            *_, existing, file, ours, theirs = about.cmdline()
            assert (existing, file) == ("--existing", str(named))
            # Behind ours, so that theirs count.
            assert (ours.partition(".")[0], theirs) == (
                "--ConsoleWidget",
                "--JupyterWidget.paging=none",
            )


@pytest.mark.full
def test_a_kernel_opens_a_window_on_itself(
    sandbox: Sandbox, hand_kernel: Callable[..., HandKernel]
) -> None:
    require("qt")
    kernel = hand_kernel(env=qt_variables(sandbox))
    with listening(kernel.info) as listener:
        with window(kernel.value(f"{OURS}.connect_qtconsole().pid")) as about:
            assert listener.console_session()
            assert about.ppid() == kernel.pid
        # Nobody has waited for it there, and yet no zombie is left.
        wait_until(lambda: not about.is_running(), what="it has been collected")


def test_without_a_display_the_window_s_own_words_are_told(
    real: None, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QT_QPA_PLATFORM", "xcb")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(QtConsoleError) as caught:
        open_window(file, patience=PATIENCE)
    sentence, *words = str(caught.value).splitlines()
    assert sentence == (
        "no Qt console: it ended at once (SIGABRT), and this session has no display (DISPLAY is "
        f"not set); where there is one, run: jupyter qtconsole --existing {file}"
    )
    assert any("could not connect to display" in line for line in words)
    assert caught.value.log == "\n".join(words)


# What can go wrong.


@pytest.mark.parametrize("names, what", [(["qtconsole"], "qtconsole"), (BINDINGS, "Qt for Python")])
def test_what_is_not_installed_is_an_import_error_that_says_what_to_install(
    replaced: StandIn, file: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], what: str
) -> None:
    replaced("raise SystemExit('nobody gets here')")
    missing(monkeypatch, *names)
    with pytest.raises(ImportError) as caught:
        connect_qtconsole(str(file))
    assert isinstance(caught.value, KernelMagicsError)
    assert str(caught.value) == (
        f"no Qt console: {what} is not installed for {sys.executable}; "
        "python -m pip install qtconsole PySide6-Essentials"
    )


def test_a_file_that_is_gone_is_said(replaced: StandIn, file: Path) -> None:
    replaced("raise SystemExit('nobody gets here')")
    file.unlink()
    with pytest.raises(ConnectionFileError, match=r"kernel-1\.json: is gone"):
        open_window(file)


def test_no_window_is_opened_for_nobody(replaced: StandIn) -> None:
    replaced("raise SystemExit('nobody gets here')")
    with pytest.raises(RuntimeError, match="not a Jupyter kernel"):
        connect_qtconsole()
    with pytest.raises(FileNotFoundError, match="'no-such-kernel'"):
        connect_qtconsole("no-such-kernel")


@pytest.mark.parametrize(
    "end, how",
    [
        ("sys.exit(3)", "exit status 3"),
        ("sys.exit(0)", "exit status 0"),
        ("os.kill(os.getpid(), 9)", "SIGKILL"),
    ],
)
def test_a_window_that_ends_at_once_is_told_with_its_last_words(
    replaced: StandIn, file: Path, monkeypatch: pytest.MonkeyPatch, end: str, how: str
) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    replaced(
        "import os, sys\nfor i in range(100): print(i, flush=True)\n"
        f"os.write(2, b'no \\xff plugin\\n'); {end}"
    )
    # However long one would wait for a window that stays.
    with pytest.raises(QtConsoleError) as caught:
        open_window(file, patience=PATIENCE)
    sentence, *words = str(caught.value).splitlines()
    assert sentence == f"no Qt console: it ended at once ({how})"
    assert words == [*map(str, range(89, 100)), "no � plugin"]


def test_a_window_may_talk_as_long_as_it_lives(
    replaced: StandIn, file: Path, sandbox: Sandbox, capfd: pytest.CaptureFixture[str]
) -> None:
    done = sandbox.work / "done"
    # Twenty times what a pipe takes before its writer has to wait.
    replaced(
        "import pathlib, signal, sys\n"
        "print('x' * 640_000, flush=True); print('y' * 640_000, file=sys.stderr, flush=True)\n"
        f"pathlib.Path({str(done)!r}).touch(); signal.pause()"
    )
    process = open_window(file, patience=0)
    with window(process.pid):
        wait_until(done.exists, what="it has said it all")
        assert process.poll() is None
    assert capfd.readouterr() == ("", "")
    assert list(sandbox.temporary.iterdir()) == []


def test_modules_in_the_working_folder_do_not_get_in_its_way(
    replaced: StandIn, file: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = sandbox.work / "done"
    for module in ("colorsys", "qtconsole"):
        (sandbox.work / f"{module}.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(sandbox.work)
    replaced(
        f"import pathlib, signal, colorsys\npathlib.Path({str(done)!r}).touch(); signal.pause()"
    )
    process = open_window(file, patience=0)
    with window(process.pid):
        wait_until(done.exists, what="it has begun")


def test_what_concerns_this_kernel_only_is_not_handed_on(
    replaced: StandIn, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    monkeypatch.setenv("KM_OTHER", "2")
    replaced("import os; raise SystemExit(f\"{os.environ.get('JPY_PARENT_PID')}, "
             "{os.environ.get('KM_OTHER')}\")")  # fmt: skip
    with pytest.raises(QtConsoleError, match="None, 2"):
        open_window(file, patience=PATIENCE)


def test_a_window_that_is_closed_leaves_no_zombie(replaced: StandIn, file: Path) -> None:
    replaced("import signal; signal.pause()")
    process = open_window(file, patience=0)
    with window(process.pid) as about:
        assert not ended(about)
    # Not by us: nobody here has asked the process for its end.
    wait_until(lambda: not about.is_running(), what="it has been collected")
    assert process.returncode == -9
