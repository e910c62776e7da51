"""The two hosts, driven alike: cells are typed in, and what a person would see comes out."""

import json
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.faults.witness import BEGIN, END
from tests.support.hosts import CellRun, KernelHost, Output, TerminalHost
from tests.support.sandbox import Sandbox
from tests.support.terminal_host import plain
from tests.support.waiting import PATIENCE

Kind = Literal["notebook", "terminal"]

BOTH: tuple[Kind, ...] = ("notebook", "terminal")

PROLOGUE = (
    "import kernel_magics as km",
    "from tests.faults import witness; witness.install()",
    "%load_ext kernel_magics",
)

TOLD = re.compile(re.escape(BEGIN) + "(.*?)" + re.escape(END) + r"\r?\n?", re.DOTALL)


@dataclass(frozen=True)
class Seen:
    """One cell, as the person in front of the host saw it."""

    text: str
    """All that was shown, in order, without colours."""
    seconds: float
    """From the cell's start, or from the moment that was marked, to its end."""
    error: str | None = None
    """The name of the error that ended the cell; None if it succeeded."""
    message: str = ""
    may_have_run: bool | None = None
    complaints: Sequence[str] = ()
    """What was logged or raised in threads of the host meanwhile."""
    odd: Sequence[str] = ()
    """What a browser could not have read."""
    raw: str = ""
    """In a terminal: what the cell wrote, with all control characters."""
    outputs: Sequence[Output] = ()
    """In a notebook: the messages that a front end shows or applies."""


class Face(ABC):
    """A host with the extension loaded. One cell at a time, from one thread at a time."""

    kind: Kind

    def __init__(self) -> None:
        self._began = 0.0
        self.running = False

    def run(self, code: str, timeout: float = PATIENCE) -> Seen:
        """Run a cell and wait for its end."""
        self.start(code)
        return self.finish(timeout)

    def ok(self, code: str, timeout: float = PATIENCE) -> Seen:
        """Run a cell that has to succeed."""
        seen = self.run(code, timeout)
        if seen.error is not None:
            raise AssertionError(f"{code!r} failed: {seen.error}: {seen.message}\n{seen.text}")
        return seen

    def start(self, code: str, *, stdin: bool = False) -> None:
        """Type a cell. ``stdin``: the notebook's front end takes questions (a terminal always)."""
        self.running = True
        self._began = time.monotonic()
        self._start(code, stdin)

    def mark(self) -> None:
        """The fault strikes now: the time that the user waits is counted from here."""
        self._began = time.monotonic()

    def finish(self, timeout: float = PATIENCE) -> Seen:
        """Wait for the running cell's end."""
        seen = self._finish(timeout)
        self.running = False
        return seen

    @abstractmethod
    def see(self, text: str, timeout: float = PATIENCE) -> None:
        """Wait until the running cell has shown this."""

    @abstractmethod
    def see_question(self, text: str, timeout: float = PATIENCE) -> None:
        """Wait until the running cell asks this."""

    @abstractmethod
    def type_line(self, text: str) -> None:
        """Answer a question."""

    @abstractmethod
    def interrupt(self) -> None:
        """Press Ctrl-C, or the stop button."""

    @property
    @abstractmethod
    def pid(self) -> int: ...

    @property
    @abstractmethod
    def alive(self) -> bool: ...

    @abstractmethod
    def close(self) -> None:
        """End the host; idempotent."""

    @abstractmethod
    def _start(self, code: str, stdin: bool) -> None: ...

    @abstractmethod
    def _finish(self, timeout: float) -> Seen: ...

    def _waited(self) -> float:
        return time.monotonic() - self._began


class Notebook(Face):
    """A notebook's kernel, whose front end is as strict as a browser."""

    kind: Kind = "notebook"

    def __init__(self, sandbox: Sandbox, *first: str) -> None:
        super().__init__()
        self.host = KernelHost(sandbox)
        self._odd: list[str] = []
        self._run: CellRun
        setattr(self.host.client.session, "unpack", self._unpack)  # noqa: B010 - a traitlet
        for line in (*first, *PROLOGUE):
            self.ok(line)

    @property
    def pid(self) -> int:
        return self.host.pid

    @property
    def alive(self) -> bool:
        return self.host.process.alive

    def see(self, text: str, timeout: float = PATIENCE) -> None:
        self._wait_for(lambda: text in _shown(self._run.outputs), repr(text), timeout)

    def see_question(self, text: str, timeout: float = PATIENCE) -> None:
        self._wait_for(
            lambda: any(text in prompt for prompt, _ in self._run.inputs),
            f"the question {text!r}",
            timeout,
        )

    def type_line(self, text: str) -> None:
        self.host.type_line(text)

    def interrupt(self) -> None:
        self.host.interrupt()

    def close(self) -> None:
        self.host.close()

    def _start(self, code: str, stdin: bool) -> None:
        self._odd.clear()
        self.host.strays.clear()
        self._run = self.host.start(code, allow_stdin=stdin)

    def _finish(self, timeout: float) -> Seen:
        self._run.wait(timeout)
        return self.seen_of(self._run)

    def seen_of(self, run: CellRun) -> Seen:
        """What was seen of a cell, also of one that was sent in another way."""
        seconds = self._waited()
        text = "".join(f"{prompt}\n" for prompt, _ in run.inputs) + _shown(run.outputs)
        told = _told(text)
        strays = [each["content"] for each in self.host.strays if each["msg_type"] == "stream"]
        if run.status == "error" and told["error"] is None:
            told |= {"error": run.reply["ename"], "message": run.reply["evalue"]}
        return Seen(
            TOLD.sub("", text) + "".join(str(each.get("text")) for each in strays),
            seconds,
            told["error"],
            told["message"],
            told["may_have_run"],
            told["complaints"],
            tuple(self._odd),
            outputs=run.outputs,
        )

    def _wait_for(self, condition: Callable[[], bool], what: str, timeout: float) -> None:
        run = self._run
        self.host.wait_for(lambda: run.done or condition(), timeout, what=lambda: f"{what}: {run}")
        if not condition():
            self.running = False
            raise AssertionError(f"the cell ended without {what}: {run}")

    def _unpack(self, packed: bytes) -> Any:
        """Read JSON as a browser does, which knows no NaN; note what it could not have read."""
        try:
            return json.loads(packed, parse_constant=self._no_json)
        except ValueError as error:
            self._odd.append(f"{error} in {packed[:200]!r}")
            return {}

    def _no_json(self, word: str) -> float:
        self._odd.append(f"{word} is no JSON")
        return float(word)


class Screen(TerminalHost):
    """A terminal that keeps up with floods, and that can be looked at as it is written to."""

    def __init__(self, sandbox: Sandbox, python: Path | None = None) -> None:
        super().__init__(sandbox, python=python)
        # Or each piece that arrives is searched together with all that came before it.
        self._child.searchwindowsize = 4096

    @property
    def written(self) -> str:
        """What came before the match of the last ``expect``, control characters included."""
        return str(self._child.before)

    @property
    def matched(self) -> str:
        return str(self._child.after)


class Terminal(Face):
    """IPython in a terminal."""

    kind: Kind = "terminal"

    def __init__(self, sandbox: Sandbox, *first: str, python: Path | None = None) -> None:
        super().__init__()
        self.screen = Screen(sandbox, python)
        self._written: list[str] = []
        for line in (*first, *PROLOGUE):
            self.ok(line)

    @property
    def pid(self) -> int:
        return self.screen.pid

    @property
    def alive(self) -> bool:
        return self.screen.alive

    def see(self, text: str, timeout: float = PATIENCE) -> None:
        self.screen.expect(re.escape(text), timeout=timeout)
        self._written += [self.screen.written, self.screen.matched]

    def see_question(self, text: str, timeout: float = PATIENCE) -> None:
        self.see(text, timeout)

    def type_line(self, text: str) -> None:
        self.screen.type_line(text)

    def interrupt(self) -> None:
        self.screen.send_interrupt()

    def close(self) -> None:
        self.screen.close()

    def _start(self, code: str, stdin: bool) -> None:
        self._written.clear()
        self.screen.start(code)

    def _finish(self, timeout: float) -> Seen:
        self.screen.finish(timeout=timeout)
        seconds = self._waited()
        raw = "".join([*self._written, self.screen.written])
        told = _told(raw)
        raw = TOLD.sub("", raw).removesuffix("\r\n")  # before the next prompt
        return Seen(
            plain(raw),
            seconds,
            told["error"],
            told["message"],
            told["may_have_run"],
            told["complaints"],
            raw=raw,
        )


def _told(text: str) -> dict[str, Any]:
    """What the witness said about the cell."""
    nothing: dict[str, Any] = {"error": None, "message": "", "may_have_run": None, "complaints": []}
    found = TOLD.findall(text)
    return {**nothing, **json.loads(found[-1])} if found else nothing


def _shown(outputs: Sequence[Output]) -> str:
    """What a front end shows of these, as text."""
    return "".join(map(_shown_one, outputs))


def _shown_one(output: Output) -> str:
    content = output.content
    match output.msg_type:
        case "stream":
            return plain(str(content.get("text")))
        case "error":
            lines = content.get("traceback")
            shown = map(str, lines) if isinstance(lines, list) else [str(content)]
            return plain("\n".join(shown)) + "\n"
        case "display_data" | "execute_result" | "update_display_data":
            data = content.get("data")
            return f"{data.get('text/plain') if isinstance(data, dict) else data}\n"
    return ""


def new_face(kind: Kind, sandbox: Sandbox, *first: str) -> Face:
    """Start a host. ``first`` are cells to run before the extension is loaded."""
    return Notebook(sandbox, *first) if kind == "notebook" else Terminal(sandbox, *first)
