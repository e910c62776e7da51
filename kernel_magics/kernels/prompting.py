"""Asking the user, at the local prompt, what a cell's kernel or its ssh wants to know.

On the thread that waits for the cell; only :meth:`Prompting.cell_ended` is the reactor's."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import SshError
from ..protocol.execution import Prompt
from .ctrl_c import CtrlC
from .events import Ask

if TYPE_CHECKING:
    from .execution import Controls, Execution

log = logging.getLogger("kernel_magics")

END_OF_INPUT = "\x04"
"""What a front end sends for Ctrl-D; kernels raise EOFError on it."""


class Prompting:
    """The prompts of one cell, one after the other."""

    __slots__ = ("_cell", "_controls", "_lock", "_seated", "answers")

    def __init__(self, cell: Execution, controls: Controls) -> None:
        self.answers = 0
        """Prompts of the kernel that were dealt with, in whatever way."""
        self._cell = cell
        self._controls = controls
        self._lock = threading.Lock()
        self._seated: int | None = None  # ident of the thread that sits in a local prompt

    def answer(self, prompt: Prompt, ask: Ask | None, ctrl_c: CtrlC) -> None:
        """Have the kernel's prompt answered; without ``ask`` it gets an end of file."""
        try:
            self._answer(prompt, ask, ctrl_c)
        finally:
            self.answers += 1

    def log_in(self, ask: Ask | None, ctrl_c: CtrlC) -> None:
        """Have ssh's questions answered; if that is in vain, the cell ends."""
        if ask is None:
            self._controls.give_up(self._cell)
            return
        try:
            with self._at_prompt(), ctrl_c.raising():
                if not self._cell.done:
                    self._controls.log_in(ask)
        except (SshError, KeyboardInterrupt) as error:
            # Refused, by a Ctrl-C while ssh was still connecting too; what ssh said is known there.
            log.info("= %s: not logged in again: %s", self._cell.kernel, error)
            self._controls.give_up(self._cell)
        except Exception:
            self._controls.give_up(self._cell)  # the local front end cannot ask
            raise

    def cell_ended(self) -> None:
        """Get whoever sits at a prompt for this cell out of it; only a signal does."""
        with self._lock:
            if self._seated is not None:
                signal.pthread_kill(self._seated, signal.SIGINT)

    def _answer(self, prompt: Prompt, ask: Ask | None, ctrl_c: CtrlC) -> None:
        if ask is None:
            self._controls.answer(END_OF_INPUT)
            return
        try:
            with self._at_prompt(), ctrl_c.raising():
                value = "" if self._cell.done else ask(prompt.text, prompt.password)
        except EOFError:
            value = END_OF_INPUT
        except KeyboardInterrupt:
            if not self._cell.done:  # else it was our own signal, because the cell ended meanwhile
                ctrl_c.press()
            return
        except Exception:
            # The local front end cannot ask, so the remote must not wait for ever.
            self._cell.interrupt()
            raise
        if not self._cell.done:
            self._controls.answer(value)

    @contextmanager
    def _at_prompt(self) -> Iterator[None]:
        in_main = threading.current_thread() is threading.main_thread()
        with self._lock:
            if in_main and not self._cell.done and hasattr(signal, "pthread_kill"):
                self._seated = threading.get_ident()
        try:
            yield
        finally:
            with self._lock:
                self._seated = None
