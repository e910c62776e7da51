"""Plays one row in one host, and judges what was seen."""

from __future__ import annotations

import itertools
import re
import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.faults.faces import BOTH, Face, Kind, Seen, new_face
from tests.faults.rows import Fault, Rows, matches, pattern
from tests.support.fake import FakeKernel, Script, Step
from tests.support.kernels import HandKernel
from tests.support.relay import Line, Relay
from tests.support.sandbox import Sandbox
from tests.support.steps import cell, stream
from tests.support.waiting import PATIENCE, wait_until

STEADY = "steady"
"""A kernel that nothing ever happens to, attached in both shared hosts."""

PROMPT = 5.0
"""Seconds to wait for what the host does by itself, and soon, if it does it at all."""

LANES = 8
"""Hosts of each kind that play slow rows at the same time."""

SWEPT_WITHIN = 5.0
"""Seconds until nothing of a host that was killed is left."""

NEXT = cell(stream("next\n"))

OURS = re.compile(r"kernel_magics[/\\]|site-packages|[/\\]json[/\\]")

UNSAFE = re.compile(
    r"\x1b(?!\[[0-9;:]*[mKA])..?|[\x00-\x07\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)
"""What no terminal should get from a kernel."""

_numbers = itertools.count(1)


@dataclass
class Scene:
    """One row in one host: what the row's function has to work with."""

    row: Fault
    face: Face
    sandbox: Sandbox
    name: str = field(default_factory=lambda: f"k{next(_numbers)}")
    """What the row's kernel is called in the host."""
    stack: ExitStack = field(default_factory=ExitStack)
    kernel: FakeKernel | HandKernel | None = None
    """What was attached last."""
    own: bool = False
    """Whether the host is this row's own."""
    attached: list[str] = field(default_factory=list)
    said: str = ""
    """What was said when a kernel was attached, and how a terminal got that."""
    said_raw: str = ""

    # Kernels.

    def fake(self, script: Script | None = None, **options: Any) -> FakeKernel:
        """A scripted kernel, attached by the row's name."""
        kernel = self.stack.enter_context(
            FakeKernel(script, folder=self.sandbox.runtime, **options)
        )
        self.attach(kernel)
        return kernel

    def relayed(
        self, script: Script | None = None, line: Line | None = None
    ) -> tuple[FakeKernel, Relay]:
        """A scripted kernel behind a relay, attached through it."""
        folder = self.sandbox.runtime
        kernel = self.stack.enter_context(FakeKernel(script, folder=folder))
        relay = self.stack.enter_context(Relay(kernel.info, folder, line))
        self.kernel = kernel
        self.attach_file(relay.connection_file)
        return kernel, relay

    @contextmanager
    def reconnecting(self) -> Generator[None]:
        """Do something that makes the host connect anew, and wait until it knows who is there."""
        kernel = self.kernel
        assert isinstance(kernel, FakeKernel)

        def asked_on_shell() -> int:
            """Questions of a host that knows: until then all goes over control."""
            asked = (each for each in list(kernel.requests) if each.channel == "shell")
            return sum(each.type == "kernel_info_request" for each in asked)

        before = asked_on_shell()
        yield
        wait_until(lambda: asked_on_shell() > before, PROMPT, what="the host knows the kernel")

    def go_on(self, *steps: Step) -> None:
        """Let the kernel do this for the cell that it was sent last."""
        kernel = self.kernel
        assert isinstance(kernel, FakeKernel)
        request = [each for each in kernel.requests if each.type == "execute_request"][-1]
        kernel.do(lambda kernel: kernel.play(steps, request))

    def real(self, name: str | None = None, **options: Any) -> HandKernel:
        """An ipykernel that somebody else started, attached by the row's name."""
        kernel = self.stack.enter_context(HandKernel.start("tcp", self.sandbox, **options))
        self.attach(kernel, name)
        if name is None:
            self.until_state("idle")  # one that has not answered yet is attached, too
        return kernel

    def start_own(self) -> int:
        """Start a kernel here, called by the row's name; return its process."""
        seen = self.face.ok(f"%kernel_start python3 --name {self.name}")
        self.attached.append(self.name)
        found = re.search(r"pid (\d+)", seen.text)
        assert found is not None, seen.text
        return int(found[1])

    def until_state(self, state: str) -> None:
        """Wait until this is what the host knows of the row's kernel."""
        code = f"print(km.pool[{self.name!r}].state.value)"
        wait_until(lambda: self.face.ok(code).text.strip() == state, what=f"the kernel is {state}")

    def until_noticed(self) -> None:
        """Wait until the host knows that the row's kernel is dead."""
        self.until_state("dead")

    def attach(self, kernel: FakeKernel | HandKernel, name: str | None = None) -> None:
        self.kernel = kernel
        self.attach_file(kernel.connection_file, name)

    def attach_file(self, path: object, name: str | None = None) -> None:
        name = name or self.name
        seen = self.face.ok(f"%kernel_attach {path} --name {name}")
        assert f"attached {name} " in seen.text, seen.text
        self.said, self.said_raw = seen.text, seen.raw
        self.attached.append(name)

    def own_face(self, *first: str) -> Face:
        """Work in a host of this row's own from now on, which may be harmed."""
        self.face = self.stack.enter_context(
            closing(new_face(self.face.kind, self.sandbox, *first))
        )
        self.own = True
        return self.face

    # Cells.

    def remote(self, code: str = "1", *options: str, kernel: str = "") -> str:
        """The text of a cell that runs ``code`` in the row's kernel, or in another."""
        return f"%%remote {' '.join([*options, kernel or self.name])}\n{code}"

    def run(self, code: str = "1", *options: str, **how: Any) -> Seen:
        """Run a remote cell."""
        self.start(code, *options)
        return self.finish(**how)

    def start(self, code: str = "1", *options: str, stdin: bool = False) -> None:
        """Begin a remote cell."""
        self.face.start(self.remote(code, *options), stdin=stdin)

    def text_limit(self, nbytes: int) -> None:
        """Set how much text a cell of this host may show, until the end of the row."""

        def set_to(number: int) -> None:
            if not self.face.running:
                self.face.ok(f"%config KernelMagics.text_limit = {number}")

        set_to(nbytes)
        self.stack.callback(set_to, 10_000_000)

    def begin(self, code: str = "1", *options: str, stdin: bool = False) -> None:
        """Begin a remote cell and wait until it has shown ``before``; the fault follows."""
        self.start(code, *options, stdin=stdin)
        self.face.see("before")
        self.face.mark()

    def finish(self, timeout: float | None = None) -> Seen:
        """Wait for the running cell's end; longer than it may take, to see how it ends at last."""
        return self.face.finish(self.row.within + 10 if timeout is None else timeout)


def last(seconds: float) -> None:
    """Let the fault last for so long; nothing is waited for."""
    threading.Event().wait(seconds)


def play(row: Fault, face: Face, sandbox: Sandbox) -> None:
    """Let the fault happen, judge what was seen, and run the next cell."""
    scene = Scene(row, face, sandbox)
    with scene.stack:
        try:
            seen = row.act(scene)
            judge(row, seen, scene.name)
            if row.host_ends:
                return
            _run_next_cell(scene)
            if not scene.own:
                for name in scene.attached:
                    face.ok(f"%kernel_detach {name}")
        except BaseException:
            if face.running:
                face.close()  # nothing can be said about it any more
            raise


def judge(row: Fault, seen: Seen, kernel: str) -> None:
    """Insist on everything that a row promises, and on what all of them do."""
    said: list[str] = []
    said += _judge_error(row, seen, kernel)
    if seen.may_have_run != row.ran:
        said.append(f"may_have_run is {seen.may_have_run}")
    said += _judge_text(row, seen, kernel)
    if seen.seconds > row.within:
        said.append(f"it took {seen.seconds:.1f} s")
    said += [f"complaint: {each}" for each in seen.complaints]
    said += [f"no browser could read this: {each}" for each in seen.odd]
    if said:
        text = seen.text if len(seen.text) < 4000 else f"{seen.text[:2000]} ... {seen.text[-2000:]}"
        pytest.fail("\n".join([*said, "", text]), pytrace=False)


def _judge_error(row: Fault, seen: Seen, kernel: str) -> Generator[str]:
    if row.error is None or seen.error is None:
        if row.error is not None or seen.error is not None:
            yield f"it ended with {seen.error} ({seen.message})"
        return
    name, sentence = row.error
    if not matches(name, seen.error, kernel) or not matches(sentence, seen.message, kernel):
        yield f"it ended with {seen.error} ({seen.message!r})"
    elif name.isidentifier() and seen.text.count(f"{name}: ") != (0 if row.explained else 1):
        yield "the error is not shown once"


def _judge_text(row: Fault, seen: Seen, kernel: str) -> Generator[str]:
    shown = seen.text
    for question in row.asks:
        shown, number = pattern(f"[{{k}}] {question}", kernel).subn("", shown, count=1)
        if not number:
            yield f"the question {question!r} is not asked"
    lines = shown.splitlines()
    notices = [line for line in lines if line.startswith(f"[{kernel}] ")]
    text = "\n".join(line for line in lines if line not in notices)
    position = 0
    for wanted in row.shows:
        found = text.find(wanted, position)
        if found < 0:
            yield f"{wanted!r} is not shown, or not in its place"
        else:
            position = found + len(wanted)
        if text.count(wanted) > 1:
            yield f"{wanted!r} is shown more than once"
    for unwanted in row.hides:
        if unwanted in text:
            yield f"{unwanted!r} is shown"
    if len(notices) > 1 or (notices and row.notice is None):
        yield f"lines of ours: {notices}"
    if row.notice is not None and not any(matches(row.notice, line, kernel) for line in notices):
        yield f"the notice {row.notice!r} is missing"
    for wanted in row.raw:
        if wanted not in seen.raw.replace("\r\n", "\n"):
            yield f"the terminal did not get {wanted!r}"
    if unsafe := UNSAFE.findall(seen.raw):
        yield f"the terminal obeyed {unsafe[:5]}"
    if "Traceback" in text and OURS.search(text):
        yield "a traceback of ours is shown"


def _run_next_cell(scene: Scene) -> None:
    """The host lives, and so does the kernel if the fault left it alive."""
    if scene.row.ends and scene.own:
        with FakeKernel(NEXT, folder=scene.sandbox.runtime) as kernel:
            scene.attach(kernel, "another")
            seen = scene.face.run("%%remote another\n1")
    elif scene.row.ends:
        seen = scene.face.run(f"%%remote {STEADY}\n1")
    else:
        if isinstance(scene.kernel, FakeKernel):
            scene.kernel.follow(NEXT)
            seen = scene.run()
        else:
            seen = scene.run("print('next')")
    if seen.error is not None or seen.text.strip() != "next" or seen.complaints:
        pytest.fail(f"the next cell does not work: {seen}", pytrace=False)


def twice(row: Fault, kind: Kind) -> bool:
    """Whether a terminal does what the notebook has done; the quick tier plays it there only."""
    own = row.raw or row.asks or row.slow
    return kind == "terminal" and "notebook" in row.hosts and not own


def played(rows: Rows) -> pytest.MarkDecorator:
    """The decorator of a file's test: its rows, each in each of its hosts."""
    return pytest.mark.parametrize(
        "row, kind",
        [
            pytest.param(
                row,
                kind,
                id=f"{row.name}-{kind}",
                # The first slow row that is asked for waits for all of them.
                marks=[pytest.mark.timeout(300 + row.within)]
                + ([pytest.mark.full] if row.in_full_tier or twice(row, kind) else []),
            )
            for row in rows
            for kind in row.hosts
        ],
    )


class Lanes:
    """Rows that take seconds by their nature, played side by side in hosts of their own.

    All that are wanted are played when the first is asked for.
    """

    def __init__(self, jobs: Sequence[tuple[Fault, Kind]], folder: Path) -> None:
        self._jobs = jobs
        self._folder = folder
        self._outcomes: dict[tuple[str, Kind], BaseException | None] = {}

    def play(self) -> None:
        """Play them all; :meth:`outcome` tells how each went."""
        queues = {kind: deque[Fault]() for kind in BOTH}
        # Those that take longest first, so that no lane is left with one of them at the end.
        for row, kind in sorted(self._jobs, key=lambda job: -job[0].within):
            queues[kind].append(row)
        lanes = [kind for kind in BOTH for _ in range(min(LANES, len(queues[kind])))]
        with (
            FakeKernel(NEXT, folder=Sandbox.make(self._folder).runtime) as steady,
            ThreadPoolExecutor(max(1, len(lanes))) as threads,
        ):
            ready = threading.Barrier(len(lanes))
            done = [
                threads.submit(self._lane, number, kind, queues[kind], steady, ready)
                for number, kind in enumerate(lanes)
            ]
        for lane in done:
            lane.result()

    def outcome(self, row: Fault, kind: Kind) -> bool:
        """Raise what went wrong with a row; False when that was told already: it is to be played
        again."""
        if (row.name, kind) not in self._outcomes:
            return False
        error = self._outcomes.pop((row.name, kind))
        if error is not None:
            raise error
        return True

    def _lane(
        self,
        number: int,
        kind: Kind,
        rows: deque[Fault],
        steady: FakeKernel,
        ready: threading.Barrier,
    ) -> None:
        home = Sandbox.make(self._folder / f"lane{number}")
        with closing(SharedFace(kind, home, steady)) as shared:
            shared.mend()
            ready.wait(PATIENCE)  # starting hosts take all there is of the processor
            while rows:
                row = rows.popleft()
                shared.mend()
                sandbox = Sandbox.make(self._folder / f"{row.name}-{kind}")
                try:
                    play(row, shared.face, sandbox)
                    nothing_left_in(sandbox)
                except BaseException as error:
                    self._outcomes[row.name, kind] = error
                else:
                    self._outcomes[row.name, kind] = None
        nothing_left_in(home)


class SharedFace:
    """A host for many rows. If a row has broken it, it is replaced before the next."""

    def __init__(self, kind: Kind, sandbox: Sandbox, steady: FakeKernel) -> None:
        self._kind, self._sandbox, self._steady = kind, sandbox, steady
        self._face: Face | None = None

    @property
    def face(self) -> Face:
        assert self._face is not None
        return self._face

    def mend(self) -> None:
        """Start it; or replace it if it has died or was left in the middle of a cell."""
        if self._face is not None and self._face.alive and not self._face.running:
            return
        self.close()
        self._face = new_face(self._kind, self._sandbox)
        self._face.ok(f"%kernel_attach {self._steady.connection_file} --name {STEADY}")

    def close(self) -> None:
        if self._face is not None:
            self._face.close()


def nothing_left_in(sandbox: Sandbox) -> None:
    """Insist that no file of a kernel or of ours was left, and remove the folders."""

    def left() -> list[str]:
        files = [str(path) for path in sandbox.runtime.rglob("*")]
        # Hosts are killed in the end, possibly while Python tries whether it can write here.
        return files + [str(path) for path in sandbox.temporary.rglob("*") if "km" in path.name]

    # What a killed host leaves is removed by the watcher that outlives it.
    try:
        wait_until(lambda: left() == [], SWEPT_WITHIN, what=lambda: f"files were left: {left()}")
    finally:
        sandbox.remove()
