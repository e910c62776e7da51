"""Fixtures and rules for all tests: a sandbox each, nothing left behind, tiers, missing parts."""

import os
import signal
import tempfile
from collections.abc import Callable, Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import zmq

from tests.support import parts
from tests.support.fake import FakeKernel, Script
from tests.support.hosts import KernelHost, TerminalHost
from tests.support.kernels import HandKernel, Kind
from tests.support.leaks import Snapshot
from tests.support.processes import guard
from tests.support.sandbox import Sandbox, short_temporary_folder
from tests.support.terminal_host import Mode

LEFT_OUT = pytest.StashKey[int]()
SANDBOXES = pytest.StashKey[int]()

# Tiers: `full` tests are long, or say once more of another version what a quick one says; they run
# with KM_TIER=full and are counted otherwise. In a file that is `full`, a test may be `quick`.

# How many examples Hypothesis tries for each of its tests that does not say it by itself.
hypothesis.settings.register_profile("quick", max_examples=25)
hypothesis.settings.register_profile("full", max_examples=100)


def pytest_configure(config: pytest.Config) -> None:
    # Whoever starts us in the background (nohup, a shell's &, some CI) has these ignored, and every
    # child would inherit that: then Ctrl-C stops nothing that a test starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    config.addinivalue_line("markers", "full: long; runs only with KM_TIER=full")
    config.addinivalue_line("markers", "quick: runs always, though its file is full")
    # Before a test file is read: what it says of its own is added to this.
    hypothesis.settings.load_profile("full" if os.environ.get("KM_TIER") == "full" else "quick")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # we are one of several
        from tests.support.workers import LONGEST, unit

        items.sort(key=lambda item: unit(item.nodeid) not in LONGEST)
    if os.environ.get("KM_TIER") == "full":
        return
    left_out = [item for item in items if is_full(item)]
    if left_out:
        items[:] = [item for item in items if not is_full(item)]
        config.hook.pytest_deselected(items=left_out)
        config.stash[LEFT_OUT] = len(left_out)


def is_full(item: pytest.Item) -> bool:
    """What is said of a test or of its parameters goes before what is said of its file."""
    own = {mark.name for mark in item.own_markers}
    return "full" in own or (item.get_closest_marker("full") is not None and "quick" not in own)


def pytest_sessionfinish(session: pytest.Session) -> None:
    # A worker of pytest-xdist shows no summary; it tells who does.
    if told := getattr(session.config, "workeroutput", None):
        told["left_out"] = session.config.stash.get(LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    # All workers leave out the same. One that crashed tells nothing.
    if told := getattr(node, "workeroutput", None):
        node.config.stash[LEFT_OUT] = told["left_out"]


def pytest_terminal_summary(
    terminalreporter: "pytest.TerminalReporter", config: pytest.Config
) -> None:
    # With --reruns: what went wrong the first time, which would be forgotten.
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"run again: {report.nodeid} ({report.when})", sep="_")
        terminalreporter.line(report.longreprtext)
        for title, text in report.sections:
            terminalreporter.section(title, sep="-")
            terminalreporter.line(text)
    if number := config.stash.get(LEFT_OUT, 0):
        terminalreporter.write_line(f"{number} tests of the full tier not run; KM_TIER=full does")


# Workers: with `-n 2` tests run two at a time, each file in one of them, whatever --dist says. Only
# then is pytest-xdist needed.


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from tests.support.workers import ByFile

    return ByFile(config, log)


# The test run as a whole.


@pytest.fixture(scope="session", autouse=True)
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    """A short folder with all sandboxes; beside it, what exists once for all tests."""
    tmp_path_factory.getbasetemp()  # pytest's own, before tests redirect tempfile
    zmq.Context.instance().socket(zmq.PAIR).close()  # the shared context's own descriptors
    zmq.Frame(bytes(1_000_000), copy=False)  # pyzmq's own thread, which frees what is not copied
    root = short_temporary_folder()
    guard.start(root)
    try:
        yield root
    finally:
        guard.close()


@pytest.fixture(scope="session")
def shared_sandbox(run_folder: Path) -> Sandbox:
    """Folders of what outlives a test."""
    return Sandbox.make(run_folder / "shared")


@pytest.fixture(scope="session")
def shared_kernel(shared_sandbox: Sandbox) -> Generator[HandKernel]:
    """A hand-started tcp ipykernel for tests that do it no harm; its namespace is common ground."""
    with HandKernel.start("tcp", shared_sandbox) as kernel:
        yield kernel


# Each test by itself.


@pytest.fixture
def sandbox(
    run_folder: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Generator[Sandbox]:
    """This test's own folders; the environment of the test process points into them too."""
    number = request.config.stash[SANDBOXES] = request.config.stash.get(SANDBOXES, 0) + 1
    sandbox = Sandbox.make(run_folder / str(number))
    for name, value in sandbox.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tempfile, "tempdir", str(sandbox.temporary))
    yield sandbox
    sandbox.remove()


@pytest.fixture(autouse=True)
def nothing_left(sandbox: Sandbox) -> Generator[None]:
    """Fail a test that leaves a thread, a process, a descriptor or a file behind.

    Being autouse it is set up before, and so checks after, everything else that a test asks for;
    only fixtures of a wider scope may leave something running.
    """
    before = Snapshot.take(sandbox)
    yield
    left = before.leftovers()
    if left:
        before.kill_leftover_processes()
        pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture
def runtime_dir(sandbox: Sandbox) -> Path:
    """This test's Jupyter runtime folder, where connection files are looked for."""
    return sandbox.runtime


@pytest.fixture
def closing() -> Generator[ExitStack]:
    """Takes what a test opened and closes it after the test, last opened first."""
    with ExitStack() as stack:
        yield stack


# Kernels.


@pytest.fixture
def hand_kernel(sandbox: Sandbox, closing: ExitStack) -> Callable[..., HandKernel]:
    """Start real kernels by hand: ``hand_kernel(kind="tcp", **options of HandKernel.start)``.

    Kinds whose part is missing here skip the test.
    """

    def start(kind: Kind = "tcp", **options: Any) -> HandKernel:
        if kind in parts.PARTS:
            parts.require(kind)
        return closing.enter_context(HandKernel.start(kind, sandbox, **options))

    return start


@pytest.fixture
def echo_kernel(hand_kernel: Callable[..., HandKernel]) -> HandKernel:
    """A process that answers everything at once and does nothing."""
    return hand_kernel("echo")


@pytest.fixture
def fake_kernel(sandbox: Sandbox, closing: ExitStack) -> Callable[..., FakeKernel]:
    """Start scripted kernels: ``fake_kernel(script=None, **options of FakeKernel)``."""

    def start(script: Script | None = None, **options: Any) -> FakeKernel:
        return closing.enter_context(FakeKernel(script, folder=sandbox.runtime, **options))

    return start


# Hosts.


@pytest.fixture
def kernel_host(sandbox: Sandbox, closing: ExitStack) -> Callable[..., KernelHost]:
    """Start notebook kernels: ``kernel_host(**options of KernelHost)``."""

    def start(**options: Any) -> KernelHost:
        return closing.enter_context(KernelHost(sandbox, **options))

    return start


@pytest.fixture
def terminal_host(sandbox: Sandbox, closing: ExitStack) -> Callable[..., TerminalHost]:
    """Start terminals: ``terminal_host(mode="simple", **options of TerminalHost)``."""

    def start(mode: Mode = "simple", **options: Any) -> TerminalHost:
        return closing.enter_context(TerminalHost(sandbox, mode=mode, **options))

    return start
