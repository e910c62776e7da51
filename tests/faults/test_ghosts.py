"""No cell runs twice, and none runs that was said not to have run."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from kernel_magics.errors import KernelMagicsError
from kernel_magics.kernels.kernel import Kernel
from kernel_magics.kernels.pool import KernelPool
from tests.support.fake import FakeKernel, Request
from tests.support.kernels import HandKernel
from tests.support.relay import Relay
from tests.support.sandbox import Sandbox
from tests.support.steps import cell

CELLS = 200

LIMIT = 8.0
"""Seconds after which a cell counts as hanging."""

STRANGE = b"the key of a stranger"


@pytest.fixture
def pool() -> Generator[KernelPool]:
    pool = KernelPool()
    yield pool
    pool.close()


class Ledger:
    """What was asked, what was said about it, and what ran."""

    def __init__(self) -> None:
        self.succeeded: list[str] = []
        self.not_run: list[str] = []
        self.errors: Counter[str] = Counter()

    def run(self, kernel: Kernel, code: str) -> None:
        """Run a cell and note how it ended."""
        try:
            kernel.run(code, timeout=LIMIT)
        except KernelMagicsError as error:
            self.errors[type(error).__name__] += 1
            if getattr(error, "may_have_run", None) is False:
                self.not_run.append(code.split("\n")[0])
        else:
            self.succeeded.append(code.split("\n")[0])

    def judge(self, ran: list[str]) -> None:
        """Compare it with what really ran."""
        times = Counter(ran)
        assert {code: n for code, n in times.items() if n > 1} == {}, "ran twice"
        assert [code for code in self.not_run if times[code]] == [], "ran, though said not to have"
        assert [code for code in self.succeeded if not times[code]] == [], (
            "succeeded without running"
        )
        assert self.errors["ExecutionTimeout"] == 0, "hung"
        assert self.succeeded
        assert self.not_run


def take_over(kernel: FakeKernel) -> None:
    """Be a process that has opened the kernel's ports, and holds another key."""
    kernel.restart()
    kernel.key = STRANGE


def come_back(kernel: FakeKernel) -> None:
    """Be the kernel again, restarted."""
    kernel.key = kernel.sockets.key
    kernel.restart()


class Trouble:
    """A kernel behind a relay, to both of which things happen."""

    def __init__(self, folder: Path, stack: ExitStack, chance: random.Random) -> None:
        self.ran: list[str] = []
        self.seen_by_strangers: list[str] = []
        self._chance = chance
        self._fake = stack.enter_context(FakeKernel(self._script, folder=folder))
        self._relay = stack.enter_context(Relay(self._fake.info, folder))
        self.connection_file = self._relay.connection_file
        self._faults: list[Callable[[], object]] = [
            lambda: self._fake.do(FakeKernel.restart),
            lambda: self._fake.do(take_over),
            lambda: self._fake.do(come_back),
            self._relay.drop,
            lambda: self._relay.drop(reset=True),
            lambda: self._relay.drop("shell"),
            lambda: self._relay.drop("iopub"),
            self._relay.cut,
            self._relay.pause,
        ]

    @contextmanager
    def strikes(self) -> Generator[None]:
        """Something happens before, while or after what is done here, and ends after a moment."""
        # What comes first, the cell or the fault, is what this is about.
        fault = threading.Timer(
            self._chance.choice((0, 0.001, 0.003, 0.01)), self._chance.choice(self._faults)
        )
        end = threading.Timer(0.3, self._let_pass)
        fault.start()
        end.start()
        yield
        fault.join()
        end.join()

    def mend(self) -> None:
        """Be well again."""
        self._let_pass()
        self._fake.do(come_back)

    def _let_pass(self) -> None:
        self._relay.resume()
        self._relay.restore()

    def _script(self, kernel: FakeKernel, request: Request) -> None:
        if request.type == "execute_request":
            to = self.seen_by_strangers if kernel.key == STRANGE else self.ran
            to.append(request.content["code"])
            kernel.play(cell(), request)
        else:
            kernel.answer(request)


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(3))
def test_no_ghosts_across_restarts_strangers_and_cuts(
    pool: KernelPool, sandbox: Sandbox, closing: ExitStack, seed: int
) -> None:
    trouble = Trouble(sandbox.runtime, closing, random.Random(seed))
    kernel = pool.attach(trouble.connection_file)
    ledger = Ledger()
    for number in range(CELLS):
        with trouble.strikes():
            ledger.run(kernel, f"cell {number}")
        if number % 5 == 4:
            trouble.mend()
    ledger.run(kernel, "the last")
    ledger.run(kernel, "the very last")
    assert trouble.seen_by_strangers == []
    ledger.judge(trouble.ran)


@pytest.mark.full
@pytest.mark.timeout(900)
def test_no_ghosts_across_real_deaths(
    pool: KernelPool, sandbox: Sandbox, closing: ExitStack
) -> None:
    hand = closing.enter_context(HandKernel.start("tcp", sandbox))
    kernel = pool.attach(hand.connection_file)
    log = sandbox.work / "ran"
    chance = random.Random(0)
    ledger = Ledger()

    def run(number: int) -> None:
        # The first word of each code is what it leaves in the log.
        ledger.run(
            kernel, f"{number}\nwith open({str(log)!r}, 'a') as file: print({number}, file=file)"
        )

    for number in range(0, CELLS, 10):
        for quiet in range(number, number + 7):
            run(quiet)
        death = threading.Timer(chance.choice((0, 0.001, 0.003, 0.01)), hand.kill)
        death.start()
        run(number + 7)
        death.join()
        run(number + 8)
        run(number + 9)
        hand.restart_behind_same_ports()
    ledger.judge(log.read_text().split())
