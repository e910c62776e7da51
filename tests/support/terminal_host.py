"""A real terminal IPython behind a pseudo-terminal, typed into as a person would."""

import re
import signal
import sys
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, cast

import pexpect
from IPython.core.inputtransformer2 import TransformerManager

from tests.support.processes import guard
from tests.support.sandbox import Sandbox
from tests.support.waiting import PATIENCE

Mode = Literal["simple", "full"]
"""``simple`` reads lines as a pipe would; ``full`` is the prompt that people have."""

ESCAPES = re.compile(r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b\[[0-9;?>=]*[ -/]*[@-~]|\x1b[=>78]")
"""Window titles, then control sequences such as colours and cursor movements."""

READS = re.escape("\x1b[?2004h")  # bracketed paste on: prompt_toolkit begins to read a cell
RUNS = re.escape("\x1b[?2004l")  # and off: the cell has been accepted and runs

COLOURS = r"(?:\x1b\[[0-9;]*m)*"

IPYTHON = ("-m", "IPython", "--no-banner", "--colors=NoColor")

CONTINUES = r" +\.\.\.: "
"""The simple prompt for one more line."""


def plain(text: str) -> str:
    """Text without escape sequences and carriage returns."""
    return ESCAPES.sub("", text).replace("\r", "")


class TerminalHost:
    """One IPython in a pseudo-terminal; ``close()`` ends it."""

    def __init__(
        self,
        sandbox: Sandbox,
        *,
        mode: Mode = "simple",
        python: Path | None = None,
        program: tuple[str, ...] = IPYTHON,
        env: dict[str, str] | None = None,
    ) -> None:
        """Start it and wait for its first prompt.

        ``program`` is what Python is to run; it has to have IPython's prompts.
        """
        self.mode = mode
        self._count = 1  # the number in the prompt that waits for the next cell
        # NO_CPR: nobody here answers the question where the cursor is.
        look = {"TERM": "dumb"} if mode == "simple" else {"TERM": "xterm"}
        self._log = (sandbox.work / f"terminal-{uuid.uuid4().hex[:8]}.log").open("w")
        self._child = pexpect.spawn(
            str(python or sys.executable),
            [*program, *(["--simple-prompt"] if mode == "simple" else [])],
            env=sandbox.environment(PROMPT_TOOLKIT_NO_CPR="1", **look, **(env or {})),
            cwd=str(sandbox.work),
            encoding="utf-8",
            codec_errors="replace",
            dimensions=(60, 200),
            echo=False,  # or each typed line would be in the output
            timeout=PATIENCE,
            logfile=self._log,
        )
        guard.watch(self.pid)
        # Ours alone to write; a pause before each line helps nobody here.
        self._child.delaybeforesend = None
        try:
            self.finish()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return cast(int, self._child.pid)

    @property
    def alive(self) -> bool:
        return bool(self._child.isalive())

    def run(self, code: str, *, timeout: float = PATIENCE) -> str:
        """Type a cell, wait for the next prompt and return what was printed in between."""
        self.start(code, timeout=timeout)
        return self.finish(timeout=timeout)

    def start(self, code: str, *, timeout: float = PATIENCE) -> None:
        """Type a cell that may then ask or wait; ``finish`` waits for its end."""
        if not code.strip():
            raise ValueError("an empty cell gets the same prompt again")
        if self.mode == "full":
            # Pasted as a whole, so that nothing is indented or completed; then Alt-Enter, which
            # runs it whatever the cursor's line holds.
            self._child.send(f"\x1b[200~{code}\x1b[201~")
            self._child.send("\x1b\r")
            self._child.expect(RUNS, timeout=timeout)
        else:
            self._type_lines(code.rstrip("\n").split("\n"), timeout)

    def finish(self, *, timeout: float = PATIENCE) -> str:
        """Wait for the next prompt and return what was printed before it.

        Raises:
            TimeoutError: it did not come; the message has what came instead.
        """
        if self.mode == "full":
            number = f"{COLOURS}{self._count}{COLOURS}"
            self.expect(READS + rf"[^\n]*?In \[{number}\]:", timeout=timeout)
        else:
            self.expect(rf"In \[{self._count}\]: ", timeout=timeout)
        self._count += 1
        return self._printed

    def expect(self, pattern: str, *, timeout: float = PATIENCE) -> str:
        """Wait until a running cell prints something; return what it printed before that.

        Raises:
            TimeoutError: it did not come; the message has what came instead.
        """
        try:
            self._child.expect(pattern, timeout=timeout)
        except (pexpect.TIMEOUT, pexpect.EOF) as error:
            seen = plain(str(self._child.before))
            kind = "ended" if isinstance(error, pexpect.EOF) else f"waited {timeout:g} s"
            raise TimeoutError(f"{kind}, no {pattern!r} in:\n{seen}") from None
        self._printed = plain(str(self._child.before)).strip("\n")
        return self._printed

    def type_line(self, text: str) -> None:
        """Answer a question of the running cell."""
        self._child.sendline(text)

    def press(self, keys: str) -> None:
        """Send keys as they are, such as ``\\t``."""
        self._child.send(keys)

    def send_interrupt(self) -> None:
        """Press Ctrl-C."""
        self._child.sendintr()

    def close(self) -> None:
        """End it, and what it started in its session; idempotent."""
        if not self._child.closed:
            with suppress(ProcessLookupError):
                self._child.kill(signal.SIGKILL)
            self._child.close(force=True)
            guard.forget(self.pid)
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _type_lines(self, lines: list[str], timeout: float) -> None:
        """Type line by line, then blank lines until the cell is complete."""
        # IPython's own judgement, for the prompt cannot tell a cell that runs from one that waits.
        incomplete = TransformerManager().check_complete
        for number, line in enumerate(lines, start=1):
            self._child.sendline(line)
            text = "\n".join(lines[:number])
            if incomplete(text)[0] == "incomplete":
                self._child.expect(CONTINUES, timeout=timeout)
                if number == len(lines):
                    lines.append("")
            elif number < len(lines):
                raise ValueError(f"the simple prompt runs this already; use mode='full':\n{text}")
