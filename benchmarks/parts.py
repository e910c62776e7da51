"""The processes under measurement: kernels started by hand, and a local kernel to look out of.

All of them live in one temporary folder and end with it, by process id, even when the run is
killed.
"""

from __future__ import annotations

import json
import sys
import uuid
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Self

from tests.support.connection import read_info, tcp_info, write_info
from tests.support.kernels import HandKernel
from tests.support.processes import Process, guard
from tests.support.sandbox import Sandbox, short_temporary_folder
from tests.support.waiting import wait_until

from .floor import FloorClient

CROWD = 32
"""Echo kernels in one process."""


class Echo(HandKernel):
    """An echo kernel; see :mod:`benchmarks.echo`."""

    def _launch(self) -> Process:
        argv = [sys.executable, "-m", "benchmarks.echo", "-f", str(self.connection_file)]
        return Process(argv, env=self._env, cwd=self._cwd, log=self._log)


class Local:
    """A notebook's kernel: code runs in it, and what it publishes can be watched.

    ``front_end`` stands for the notebook.
    """

    def __init__(self, kernel: HandKernel, front_end: FloorClient, work: Path) -> None:
        self.kernel, self.front_end, self._work = kernel, front_end, work

    def run(self, code: str) -> None:
        """Run a cell.

        Raises:
            RuntimeError: it failed there.
        """
        check(self.front_end.run(code))

    def ask(self, call: str) -> Any:
        """Return what a function of :mod:`benchmarks.inside` gives in there."""
        answer = self._work / f"answer-{uuid.uuid4().hex}.json"
        self.run(
            "import json, pathlib, benchmarks.inside as inside\n"
            f"pathlib.Path({str(answer)!r}).write_text(json.dumps(inside.{call}))"
        )
        return json.loads(answer.read_text())


class Bench:
    """The folder and the processes of one measurement; a context manager that ends them all."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.sandbox = Sandbox.make(short_temporary_folder())
            stack.callback(self.sandbox.remove)
            stack.callback(guard.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def ipykernel(self, **env: str) -> HandKernel:
        """Start an ipykernel by hand, over tcp."""
        return self._stack.enter_context(HandKernel.start("tcp", self.sandbox, env=env))

    def echo(self) -> HandKernel:
        """Start an echo kernel."""
        return self._stack.enter_context(Echo.start("echo", self.sandbox))

    def starting(self) -> HandKernel:
        """Begin to start an ipykernel by hand, over tcp.

        With its history in memory, where ipyparallel has that of its engines: kernels of one user
        write into one file, wait for each other while they do, and hold the next cell up.
        """
        own = self.sandbox.root / f"ipython-{uuid.uuid4().hex[:8]}"
        profile = own / "profile_default"
        profile.mkdir(parents=True)
        settings = 'get_config().HistoryManager.hist_file = ":memory:"\n'
        (profile / "ipython_kernel_config.py").write_text(settings)
        kernel = HandKernel("tcp", self.sandbox, env={"IPYTHONDIR": str(own)})
        return self._stack.enter_context(kernel)

    def echoes(self, number: int) -> list[Path]:
        """Start echo kernels, up to ``CROWD`` in a process; return their connection files."""
        names = [uuid.uuid4().hex for _ in range(number)]
        files = [self.sandbox.runtime / f"kernel-{name}.json" for name in names]
        for file in files:
            write_info(file, tcp_info())
        for first in range(0, number, CROWD):
            argv = [sys.executable, "-m", "benchmarks.echo"]
            for file in files[first : first + CROWD]:
                argv += ["-f", str(file)]
            log = self.sandbox.work / f"echoes-{names[first]}.log"
            env = self.sandbox.environment()
            self._stack.enter_context(Process(argv, env=env, cwd=self.sandbox.work, log=log))
        for file in files:
            wait_until(partial(read_info, file), what="the echo kernels listen")
        return files

    def floor(self, kernel: HandKernel) -> FloorClient:
        """Connect a floor client."""
        return self._stack.enter_context(FloorClient(kernel.info))

    def local(self, **env: str) -> Local:
        """Start an ipykernel and a front end for it."""
        kernel = self.ipykernel(**env)
        return Local(kernel, self.floor(kernel), self.sandbox.work)


def check(reply: dict[str, Any]) -> None:
    """Insist that a cell succeeded.

    Raises:
        RuntimeError: it did not.
    """
    if reply["status"] != "ok":
        lines = "\n".join(reply.get("traceback", [])) or str(reply)
        raise RuntimeError(f"a cell of the benchmark failed:\n{lines}")
