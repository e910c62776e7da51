"""The questions that ssh asks: passwords, passphrases, one-time codes, unknown host keys.

ssh runs a program of ours for each (`SSH_ASKPASS`), which passes the text on over a socket in a
private folder and prints the answer. Jump hosts inherit that. Everything is secret but the question
about a host key: what a server asks is its own text, and never believed."""

from __future__ import annotations

import re
import shlex
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

VISIBLE = ("The authenticity of host ", "Please type 'yes', 'no' or the fingerprint: ")
"""How the only questions begin whose answer may be seen."""

MAY_BE_EMPTY = re.compile(r"\([^()]+@[^()]+\) .*\bpress (the )?(enter|return)\b", re.I | re.S)
"""What a server writes that only wants to be told when to go on, as after a login in the browser.
An empty answer to anything else would be tried as a password."""

LONGEST = 64 * 1024
"""Bytes of a question."""

LONGEST_GIST = 120
"""Characters of a question in an error's one line."""

HELPER = """\
import socket, sys
with socket.socket(socket.AF_UNIX) as there:
    there.connect(sys.argv[1])
    there.sendall(sys.argv[2].encode("utf-8", "surrogateescape"))
    there.shutdown(socket.SHUT_WR)
    answer = b"".join(iter(lambda: there.recv(4096), b""))
if not answer:
    sys.exit(1)
sys.stdout.buffer.write(answer)
"""
"""Standard library only and without site: it starts in some 10 ms."""


class Question:
    """One question; answer or refuse it, once."""

    def __init__(self, text: str, connection: socket.socket) -> None:
        self.text = text
        self.may_be_seen = text.startswith(VISIBLE)
        self.may_be_empty = self.may_be_seen or MAY_BE_EMPTY.match(text) is not None
        self._connection = connection

    @property
    def gist(self) -> str:
        """The question in one line, with nothing in it that a terminal would obey."""
        lines = [line.strip() for line in self.text.strip().splitlines()]
        gist = (lines or [""])[0 if self.may_be_seen else -1][:LONGEST_GIST]
        return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in gist)

    def answer(self, line: str) -> None:
        """Hand the line to ssh; nothing happens if ssh has ended meanwhile."""
        with suppress(OSError), self._connection:
            self._connection.sendall(line.encode() + b"\n")

    def refuse(self) -> None:
        """Give no answer. ssh takes that for an empty password: end it first."""
        self._connection.close()


class Questions:
    """Takes the questions of one ssh child. ``asked`` is called with each, on a thread of ours."""

    def __init__(self, folder: Path, asked: Callable[[Question], None]) -> None:
        self._asked = asked
        self._address = folder / "s"
        program, helper = folder / "ask", folder / "ask.py"
        helper.write_text(HELPER)
        words = [sys.executable, "-I", "-S", str(helper), str(self._address)]
        program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$1"\n')
        program.chmod(0o700)
        self.environment = {"SSH_ASKPASS": str(program), "SSH_ASKPASS_REQUIRE": "force"}
        self._address.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(self._address))
        self._socket.listen()
        self._thread = threading.Thread(
            target=self._accept, name="kernel_magics questions", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Take no more questions."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._socket.close()
        self._thread.join()
        for name in ("s", "ask", "ask.py"):
            (self._address.parent / name).unlink(missing_ok=True)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            text = b""
            with suppress(OSError):
                while len(text) < LONGEST and (piece := connection.recv(4096)):
                    text += piece
            self._asked(Question(text.decode("utf-8", "replace"), connection))
