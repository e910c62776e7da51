"""The soak: three kernels, one thread of cells for each, seeded faults in between.

Checked for every cell: it ends within its time; as a result, or as an error that this package
names; whatever it shows carries its own marker and nobody else's; and it ran at most once."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from kernel_magics.connect.launch import LaunchOptions
from kernel_magics.errors import ExecutionTimeout, KernelMagicsError, RemoteError
from kernel_magics.kernels.kernel import Kernel
from kernel_magics.kernels.pool import KernelPool
from tests.support.kernels import HandKernel
from tests.support.sandbox import Sandbox

LONGEST_CELL = 60.0
"""Seconds after which a cell counts as one that never ends."""

CELLS = {
    "print": "for i in range({n}): print('{m}', i, flush=i % 7 == 0)",
    "display": "for i in range({n} % 9): display({{'text/html': '<b>{m}</b>'}}, raw=True)",
    "result": "'{m}'",
    "update": "h = display('{m}', display_id=True)\nfor i in range(5): h.update('{m}')",
    "error": "print('{m}')\nraise ValueError('{m}')",
    "sleep": "import time\nprint('{m}', flush=True)\ntime.sleep(0.{n})",
    "stderr": "import sys\nsys.stderr.write('{m}\\n' * 3)",
    "big": "print('{m}' * {n}000)",
    "ask": "print('{m}', input('{m}'))",
    "await": "import asyncio\nawait asyncio.sleep(0.0{n})\nprint('{m}')",
}
RAN = "with open({file!r}, 'a') as f: f.write('{m}\\n')\n"


@dataclass
class Report:
    """What a soak saw; ``broken`` names every rule that a cell broke."""

    ended: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    @property
    def cells(self) -> int:
        return sum(self.ended.values())


class Soak:
    """One run. ``seconds`` bounds it as well as ``cells``; None means without that bound."""

    def __init__(self, sandbox: Sandbox, cells: int, seconds: float | None, seed: int) -> None:
        self._sandbox = sandbox
        self._cells = cells
        self._until = time.monotonic() + seconds if seconds else None
        self._seed = seed
        self._report = Report()
        self._lock = threading.Lock()
        self._ran = Path(sandbox.work) / "ran"
        self._pool = KernelPool()
        self._hands: dict[str, HandKernel] = {}

    def run(self) -> Report:
        """Run it all and return what was seen."""
        try:
            self._pool.start(LaunchOptions(env=self._sandbox.variables), "owned")
            for name in ("tcp", "ipc"):
                self._hands[name] = HandKernel.start(name, self._sandbox)  # type: ignore[arg-type]
                self._pool.attach(self._hands[name].connection_file, name)
            self._all_at_once()
        finally:
            self._pool.close()
            for hand in self._hands.values():
                hand.close()
        marks = Counter(self._ran.read_text().split()) if self._ran.exists() else Counter()
        self._report.broken += [f"{mark} ran {n} times" for mark, n in marks.items() if n > 1]
        return self._report

    def _all_at_once(self) -> None:
        names = ["owned", *self._hands]
        share = self._cells // len(names)
        threads = [
            threading.Thread(
                target=self._stream, args=(name, share, random.Random(f"{self._seed}{name}"))
            )
            for name in names
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _stream(self, name: str, cells: int, rng: random.Random) -> None:
        for number in range(cells):
            if self._until is not None and time.monotonic() > self._until:
                return
            fault = self._fault(name, rng) if rng.random() < 0.12 else None
            self._one(name, f"mark-{name}-{number}-end", rng, fault)
            if fault is not None:
                self._heal(name)

    def _one(
        self, name: str, mark: str, rng: random.Random, fault: Callable[[], None] | None
    ) -> None:
        kind = rng.choice(sorted(CELLS))
        code = RAN.format(file=str(self._ran), m=mark) + CELLS[kind].format(
            n=rng.randint(1, 9), m=mark
        )
        timeout = 0.05 if rng.random() < 0.03 else LONGEST_CELL
        shown: list[str] = []
        timer = threading.Timer(rng.random() * 0.3, fault) if fault is not None else None
        if timer is not None:
            timer.start()
        try:
            self._kernel(name).run(
                code,
                show=lambda item: shown.append(
                    item if isinstance(item, str) else item.parts[3].decode("utf-8", "replace")
                ),
                ask=lambda prompt, password: mark if mark in prompt else "foreign prompt",
                timeout=timeout,
            )
            end = "ok"
        except ExecutionTimeout:
            end = "ExecutionTimeout"
            if timeout == LONGEST_CELL:
                self._breaks(f"{mark} ({kind}) never ended")
            self._kernel(name).interrupt()
        except RemoteError as error:
            end = f"remote {error.ename}"
        except KernelMagicsError as error:
            end = type(error).__name__
        except BaseException as error:
            end = f"foreign {error!r}"
            self._breaks(f"{mark} ({kind}) ended with a foreign error: {error!r}")
        if timer is not None:
            timer.join()
        for text in shown:
            others = [
                word for word in text.split("mark-")[1:] if f"mark-{word}"[: len(mark)] != mark
            ]
            if others or "foreign" in text:
                self._breaks(f"{mark} ({kind}) showed what is not its own: {text[:100]!r}")
        with self._lock:
            self._report.ended[end] += 1

    def _fault(self, name: str, rng: random.Random) -> Callable[[], None]:
        kernel = self._kernel(name)
        hand = self._hands.get(name)
        faults: dict[str, Callable[[], None]] = {"interrupt": kernel.interrupt}
        if hand is not None:
            faults |= {"kill": hand.kill, "restart": hand.restart_behind_same_ports}
        else:
            faults |= {"restart by us": kernel.restart}
        which = rng.choice(sorted(faults))
        with self._lock:
            self._report.faults[which] += 1
        return faults[which]

    def _heal(self, name: str) -> None:
        """Bring back what was killed, as a person would, and go on when it answers."""
        hand = self._hands.get(name)
        kernel = self._kernel(name)
        if hand is not None and not hand.process.alive:
            hand.restart_behind_same_ports()
        deadline = time.monotonic() + LONGEST_CELL
        while time.monotonic() < deadline:
            try:
                kernel.run("pass", timeout=5)
            except KernelMagicsError:
                continue
            return
        self._breaks(f"{name} did not come back")

    def _kernel(self, name: str) -> Kernel:
        return self._pool[name]

    def _breaks(self, what: str) -> None:
        with self._lock:
            self._report.broken.append(what)
