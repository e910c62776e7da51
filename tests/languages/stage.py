"""The notebook that rows are played in, with the kernels behind it."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from tests import frontend
from tests.frontend import joined, plain
from tests.languages.rows import Whose
from tests.support import languages, parts
from tests.support.hosts import CellRun, KernelHost
from tests.support.kernels import HandKernel
from tests.support.sandbox import Sandbox

BYTES = ("image/png",)
"""Types whose data no row wants to see."""


class Stage:
    """One notebook; kernels are started when a row asks for them, and serve all rows after it."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self._stack = ExitStack()
        self.host = self._stack.enter_context(KernelHost(sandbox))
        self._kernels: dict[str, ExitStack] = {}
        self.spoilt: set[str] = set()
        """Kernels that are not what they were at the beginning of the row."""
        self.run(frontend.LOAD).ok()

    def kernel(self, language: str, whose: Whose) -> str:
        """The name of such a kernel, which is started if there is none."""
        name = self.name_of(language, whose)
        if name not in self._kernels:
            self._kernels[name] = ExitStack()
            if whose == "ours":
                self.run(f"%kernel_start {self._start(language)} --name {name}").ok()
            else:
                kind: Any = "tcp" if language == "python3" else language
                hand = HandKernel.start(kind, self.sandbox)
                self._kernels[name].callback(hand.close)
                self.run(f"%kernel_attach {hand.connection_file} --name {name}").ok()
                hand.ask()  # it may be busy starting
        return name

    @staticmethod
    def name_of(language: str, whose: Whose) -> str:
        """What such a kernel is called."""
        return f"{language}-{whose}"

    def has(self, name: str) -> bool:
        """Whether that kernel runs."""
        return name in self._kernels

    def forget(self, name: str) -> None:
        """End a kernel; the next row that wants it gets another."""
        self.spoilt.discard(name)
        self.run(f"%kernel_{'shutdown' if name.endswith('ours') else 'detach'} {name}").ok()
        self._kernels.pop(name).close()

    def run(self, code: str, **how: Any) -> CellRun:
        """Run a cell of the notebook itself."""
        return self.host.run(code, **how)

    def remote(self, name: str, code: str, *options: str, **how: Any) -> CellRun:
        """Run a cell in a kernel."""
        return self.run(frontend.remotely(code, *options, kernel=name), **how)

    def remote_soon(self, name: str, code: str) -> CellRun:
        """Run a cell there that may come too closely behind one that failed."""
        while (run := self.remote(name, code)).reply.get("ename") == "Aborted":
            pass  # tslab runs nothing for 0.2 s
        return run

    def begin(self, name: str, code: str, *options: str) -> CellRun:
        """Begin a cell in a kernel, and return once it has printed ``begun``."""
        run = self.host.start(frontend.remotely(code, *options, kernel=name))
        self.host.wait_for(lambda: "begun" in run.stdout, what=lambda: f"it has begun: {run}")
        return run

    def close(self) -> None:
        self.run("%unload_ext kernel_magics").ok()
        for stack in self._kernels.values():
            stack.close()
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self, language: str) -> str:
        match language:
            case "python3":
                return "python3"
            case "floor":
                return f"--python {parts.floor_python()}"
        options = languages.kernelspec(language, self.sandbox)
        return f"{options['spec']} --cwd {options['cwd'] or self.sandbox.work}"


def seen(run: CellRun) -> list[str]:
    """A line for each output of a cell, and one for the error with which it ended.

    Text without escape sequences; of displays and results the types, and the plain text.
    """
    lines = [_line(output.msg_type, output.content) for output in joined(run)]
    if run.status != "ok":
        error = f"{run.reply.get('ename')}: {plain(run.reply.get('evalue', ''))}"
        if lines and lines[-1] == f"error: {error}":
            del lines[-1]
        lines.append(f"ends: {error}")
    return [line.rstrip() for line in lines]


def _line(msg_type: str, content: dict[str, Any]) -> str:
    match msg_type:
        case "stream":
            return f"{content['name']}: {plain(content['text'])}"
        case "error":
            return f"error: {content['ename']}: {plain(content['evalue'])}"
        case "display_data" | "update_display_data" | "execute_result":
            word = {"display_data": "display", "execute_result": "result"}.get(msg_type, "update")
            data = content["data"]
            shown = [kind for kind in data if kind not in BYTES]
            kind = "text/plain" if "text/plain" in shown else next(iter(shown), None)
            text = "" if kind is None else f" {plain(str(data[kind]))}"
            return f"{word} ({', '.join(sorted(data))}):{text}"
        case "clear_output":
            return f"clear (wait: {content['wait']})"
    return f"{msg_type}: {content}"
