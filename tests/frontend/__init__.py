"""The extension in real hosts; here what these tests share: a notebook with a kernel attached.

Each module makes these fixtures its own by ``desk, lasting_desk = frontend.desk, ...``: one
notebook for all its tests that do it no harm, once on the newest versions and once on the floors,
the other kernel being of the same age.
"""

import ast
import uuid
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import pytest

from tests.support import parts
from tests.support.fake import FakeKernel, Script
from tests.support.hosts import CellRun, KernelHost, Output, TerminalHost
from tests.support.kernels import HandKernel, Kind
from tests.support.sandbox import Sandbox
from tests.support.terminal_host import Mode, plain
from tests.support.waiting import wait_until

LOAD = "%load_ext kernel_magics"

Age = Literal["newest", "floor"]

AGES: tuple[Age, ...] = ("newest", "floor")
NEWEST_FIRST = ["newest", pytest.param("floor", marks=pytest.mark.full)]
"""For long tests, of which the floor's belong to the full tier."""

SEND = """\
def send(msg_type, content, metadata=None, buffers=()):
    kernel = get_ipython().kernel
    kernel.session.send(kernel.iopub_socket, msg_type, content,
                        parent=kernel.get_parent(), metadata=metadata, buffers=list(buffers))
"""
"""Defines ``send`` in an ipykernel: anything at all, under the cell that runs."""


class Desk:
    """A notebook with the extension loaded; somebody else's kernel is attached to it as ``k``."""

    def __init__(self, sandbox: Sandbox, age: Age = "newest", *, kind: Kind | None = None) -> None:
        """Start the notebook's kernel and the other one, and attach that."""
        self.sandbox = sandbox
        if age == "floor":
            parts.require("floor")
        with ExitStack() as stack:
            theirs: Kind = kind or ("floor" if age == "floor" else "tcp")
            self.kernel = stack.enter_context(HandKernel(theirs, sandbox))
            python = parts.floor_python() if age == "floor" else None
            self.host = stack.enter_context(KernelHost(sandbox, python=python))
            self.kernel.wait_until_listening()
            self.run(LOAD).ok()
            self.attach(self.kernel.connection_file, "k")
            self._close = stack.pop_all().close

    def run(self, code: str, **how: Any) -> CellRun:
        """Run a cell in the notebook; see ``KernelHost.run``."""
        while (run := self.host.run(code, **how)).status == "aborted":
            pass  # ipykernel 6 does not run what follows an error too closely
        return run

    def remote(self, code: str, *options: str, kernel: str = "k", **how: Any) -> CellRun:
        """Run a cell headed ``%%remote``."""
        return self.run(remotely(code, *options, kernel=kernel), **how)

    def start(self, code: str, *options: str, kernel: str = "k", **how: Any) -> CellRun:
        """Send a cell headed ``%%remote`` and return at once."""
        return self.host.start(remotely(code, *options, kernel=kernel), **how)

    def begin(self, code: str, *, first: str = "", kernel: str = "k") -> CellRun:
        """Send a remote cell that begins with ``begun``; return once ``code`` certainly runs.

        An interrupt that strikes while ipykernel still publishes may get lost in there.
        """
        mark = self.sandbox.work / f"begun-{uuid.uuid4().hex[:8]}"
        told = f"print('begun', flush=True); open({str(mark)!r}, 'w').close()"
        run = self.start("\n".join(filter(None, [first, told, code])), kernel=kernel)
        self.host.wait_for(lambda: mark.exists() and "begun" in run.stdout, what=lambda: f"{run}")
        return run

    def value(self, expression: str) -> Any:
        """What an expression is worth in the notebook: a literal, parsed."""
        return ast.literal_eval(self.run(expression).ok().result or "None")

    def attach(self, file: Path, name: str) -> None:
        self.run(f"%kernel_attach {file} --name {name}").ok()

    @contextmanager
    def attached(self, kernel: FakeKernel | HandKernel, name: str = "other") -> Generator[str]:
        """One more kernel, for a while; detached again even if it has died."""
        self.attach(kernel.connection_file, name)
        try:
            yield name
        finally:
            self.run(f"%kernel_detach {name}").ok()

    @contextmanager
    def owned(self, *options: str, name: str = "own") -> Generator[str]:
        """A kernel of this notebook's own, for a while."""
        self.run(f"%kernel_start {' '.join(options)} --name {name}").ok()
        try:
            yield name
        finally:
            self.run(f"%kernel_shutdown {name}").ok()

    @contextmanager
    def fake(
        self, script: Script | None = None, name: str = "fake", **options: Any
    ) -> Generator[FakeKernel]:
        """A kernel that follows a script, attached for a while."""
        with (
            FakeKernel(script, folder=self.sandbox.runtime, **options) as kernel,
            self.attached(kernel, name),
        ):
            yield kernel

    def close(self) -> None:
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def remotely(code: str, *options: str, kernel: str = "k") -> str:
    """The cell that runs ``code`` in the other kernel."""
    return f"%%remote {' '.join([*options, kernel])}\n{code}"


@contextmanager
def lasting_sandbox(run_folder: Path) -> Generator[Sandbox]:
    """A sandbox for what serves several tests."""
    sandbox = Sandbox.make(run_folder / f"m-{uuid.uuid4().hex[:6]}")
    try:
        yield sandbox
    finally:
        sandbox.remove()


class LastingDesk:
    """A desk for many tests, as long as none of them leaves it in disorder."""

    def __init__(self, sandbox: Sandbox, age: Age) -> None:
        self.age = age
        self._desk: Desk | None = Desk(sandbox, age)

    @contextmanager
    def borrowed(self, spare: Sandbox) -> Generator[Desk]:
        """It, or once it has been spoilt a new one each time: one failure shall not cause more."""
        if self._desk is None:
            with Desk(spare, self.age) as desk:
                yield desk
            return
        yield self._desk
        try:
            if self._desk.run(TIDY, timeout=5.0).result == "True":
                return
        except (TimeoutError, RuntimeError):
            pass
        self.close()

    def close(self) -> None:
        if self._desk is not None:
            self._desk.close()
            self._desk = None


TIDY = "[(k.name, k.state.value) for k in __import__('kernel_magics').pool] == [('k', 'idle')]"


def _lasting_desk(run_folder: Path, request: pytest.FixtureRequest) -> Generator[LastingDesk]:
    """One for all tests of a module that do it no harm."""
    age: Age = request.param
    with lasting_sandbox(run_folder) as sandbox, closing(LastingDesk(sandbox, age)) as desk:
        yield desk


lasting_desk = pytest.fixture(scope="module", params=AGES)(_lasting_desk)
lasting_desk_newest_first = pytest.fixture(scope="module", params=NEWEST_FIRST)(_lasting_desk)


@pytest.fixture
def desk(lasting_desk: LastingDesk, sandbox: Sandbox) -> Generator[Desk]:
    """A test's turn at the desk."""
    with lasting_desk.borrowed(sandbox) as desk:
        yield desk


@pytest.fixture
def new_desk(sandbox: Sandbox, request: pytest.FixtureRequest) -> Callable[..., Desk]:
    """Make desks of a test's own, which it may harm: ``new_desk(age="newest")``."""
    opened: ExitStack = request.getfixturevalue("closing")
    return lambda *args, **options: opened.enter_context(Desk(sandbox, *args, **options))


def terminal_with(terminal: TerminalHost, kernel: HandKernel | FakeKernel | None) -> TerminalHost:
    """Load the extension there and attach a kernel as ``k``."""
    assert terminal.run(LOAD) == ""
    if kernel is not None:
        terminal.run(f"%kernel_attach {kernel.connection_file} --name k")
    return terminal


SYSTEM_CALLS = {"read": ("0", "63"), "sleep": ("230", "115")}
"""Their numbers: on x86-64, on arm64."""


def wait_until_in(call: str, pid: int) -> None:
    """Wait until the main thread of a process sits in a system call.

    A signal that comes just before it is taken note of, but the call then waits all the same:
    Python's own race, far below what a person could hit, but not below what a test can.
    """
    file = Path(f"/proc/{pid}/syscall")
    if file.exists():  # else not Linux: then the race is there, but small
        wait_until(
            lambda: file.read_text().split()[0] in SYSTEM_CALLS[call], what=f"{pid} is in {call}"
        )


def error_lines(run: CellRun) -> list[str]:
    """The traceback that the front end shows, without colours."""
    return plain(run.error).splitlines()


def joined(run: CellRun) -> list[Output]:
    """The cell's outputs, neighbouring pieces of one stream as one.

    ipykernel sends a stream whenever its time has come, also between a text and its newline.
    """
    outputs: list[Output] = []
    for one in run.outputs:
        if (
            outputs
            and one.msg_type == outputs[-1].msg_type == "stream"
            and one.content["name"] == outputs[-1].content["name"]
        ):
            text = outputs[-1].content["text"] + one.content["text"]
            outputs[-1] = one._replace(content={**one.content, "text": text})
        else:
            outputs.append(one)
    return outputs


def kinds(run: CellRun) -> list[str]:
    """The types of a cell's outputs, in order; neighbouring pieces of one stream as one."""
    return [output.msg_type for output in joined(run)]


def transcript(run: CellRun) -> str:
    """What a front end shows, in order: text as it is, anything else as a line in brackets."""
    shown = []
    for output in joined(run):
        if output.msg_type == "stream":
            shown.append(output.content["text"])
        elif "data" in output.content:
            shown.append(f"<{output.content['data']['text/plain']}>\n")
        else:
            shown.append(f"<{output.msg_type}>\n")
    return "".join(shown)


def begun(desk: Desk, run: CellRun, word: str = "begun") -> None:
    """Wait until the remote cell has printed a word: from here on it certainly runs."""
    desk.host.wait_for(lambda: word in run.stdout, what=lambda: f"the cell has begun: {run}")


__all__ = [
    "AGES",
    "LOAD",
    "NEWEST_FIRST",
    "SEND",
    "Age",
    "Desk",
    "Mode",
    "begun",
    "desk",
    "error_lines",
    "joined",
    "kinds",
    "lasting_desk",
    "lasting_desk_newest_first",
    "new_desk",
    "plain",
    "remotely",
    "terminal_with",
    "transcript",
    "wait_until",
    "wait_until_in",
]


@pytest.fixture
def host_of_server(server: object, kernel_host: Callable[..., KernelHost]) -> KernelHost:
    """A notebook with the extension loaded, begun once the test's ``server`` can be reached."""
    host = kernel_host()
    host.run(LOAD).ok()
    return host
