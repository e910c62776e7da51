"""Values to and from kernels of other languages, which have no comms to speak of.

A value travels as base64 in small statements: first its pieces, then one statement that makes all
values and sets all names. Back it comes on stdout, between two marks. Neither the text of a value
nor anything made of it is ever part of a program; base64 needs no quoting in any language. The
signatures of the messages cover all of it."""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...errors import TransferError
from .asking import Asking, ask_kernels, printable
from .packing import CannotPack, CannotUnpack
from .wire import Broken

if TYPE_CHECKING:
    from ...protocol.message import Message
    from ..kernel import Kernel
    from . import Progress

PIECE = 48 * 1024
"""Characters of base64 in one statement."""

DEPTH_LIMIT = 100
"""Levels of a value."""

EXACT = 2**53
"""Beyond this, languages whose numbers are doubles would round an integer."""


class TextLanguage(ABC):
    """See :class:`~.language.Language`; a language says how, in four statements."""

    name = ""
    names = re.compile(r"[A-Za-z_]\w*", re.ASCII)
    piece = PIECE

    def encode(self, value: Any) -> bytes:
        """Return what stands for a value: here JSON.

        Raises:
            CannotPack: the language has nothing like it.
        """
        return json.dumps(_checked(value, 0), allow_nan=False).encode()

    def decode(self, data: bytes) -> Any:
        """Return the value that the other side's answer stands for.

        Raises:
            ValueError: it stands for none.
        """
        return json.loads(data, parse_constant=_no_constant, parse_int=_integer)

    @abstractmethod
    def begin(self) -> str:
        """Return the statement that forgets the pieces of an earlier transfer."""

    @abstractmethod
    def add(self, number: int, piece: str) -> str:
        """Return the statement that adds a piece of base64 to those of a value."""

    @abstractmethod
    def finish(self, values: Sequence[tuple[str, int, bytes]]) -> str:
        """Return the statement that makes the values and sets the names.

        Each value is a name, how many characters were sent, and what they stand for, of which no
        more than the first byte should be needed.
        """

    @abstractmethod
    def show(self, expression: str, mark: str) -> str:
        """Return the statement that prints a mark, the value in base64 and the mark again."""

    def is_name(self, name: str) -> bool:
        """Whether a variable can have this name there."""
        return self.names.fullmatch(name) is not None

    def push(self, kernel: Kernel, values: Mapping[str, Any], progress: Progress) -> None:
        """Set all variables in the last of many statements."""
        packed = {}
        for name, value in values.items():
            try:
                packed[name] = self.encode(value)
            except (CannotPack, ValueError, RecursionError) as error:
                raise TransferError(name, kernel.name, str(error)) from None
        texts = [base64.b64encode(data).decode() for data in packed.values()]
        statements = [self.begin()]
        for number, text in enumerate(texts):
            pieces = (text[at : at + self.piece] for at in range(0, len(text), self.piece))
            statements += [self.add(number, piece) for piece in pieces]
        sizes = map(len, texts)
        statements.append(self.finish(list(zip(values, sizes, packed.values(), strict=True))))
        total, moved = sum(map(len, statements)), 0
        with ask_kernels(list(values), [kernel], progress.say) as (far,):
            try:
                for cell in _cells(statements):
                    far.run(cell)
                    moved += len(cell)
                    progress.moved(min(moved, total), total)
            except BaseException:
                self._clean_up(kernel)
                raise

    def pull(self, kernel: Kernel, expressions: Sequence[str], progress: Progress) -> list[Any]:
        """Return what is printed, decoded."""
        found = []
        for number, expression in enumerate(expressions):
            with ask_kernels([expression], [kernel], progress.say) as (far,):
                data = self._fetch(far, expression)
            try:
                found.append(self.decode(data))
            except (ValueError, RecursionError, CannotUnpack) as error:
                raise TransferError(expression, kernel.name, printable(str(error))) from None
            progress.moved(number + 1, len(expressions))
        return found

    def _fetch(self, far: Asking, expression: str) -> bytes:
        mark = secrets.token_hex(8)
        result = far.run(self.show(expression, mark), silent=False)
        text = "".join(filter(None, map(_text, result.outputs)))
        before, _, rest = text.partition(f"<{mark}>")
        body, _, after = rest.partition(f"</{mark}>")
        if not rest or not text.partition(f"</{mark}>")[1]:
            said = (before + after).strip()
            raise Broken(printable(said, 300) or "the kernel printed nothing of it")
        try:
            return base64.b64decode("".join(body.split()), validate=True)
        except binascii.Error as error:
            raise Broken(f"the kernel printed no base64 ({error})") from None

    def _clean_up(self, kernel: Kernel) -> None:
        if kernel.alive:
            kernel.submit(self.begin(), silent=True, store_history=False)


def _cells(statements: Sequence[str]) -> Iterator[str]:
    """Put as many statements into a cell as are no larger than a piece."""
    cell: list[str] = []
    for statement in statements:
        if cell and sum(map(len, cell)) + len(statement) > PIECE:
            yield "\n".join(cell)
            cell = []
        cell.append(statement)
    yield "\n".join(cell)


def _integer(digits: str) -> int | float:
    """Where all numbers are doubles, large ones are written as integers that they are not."""
    number = float(digits)
    return int(digits) if abs(number) <= EXACT else number


def _text(message: Message) -> str:
    content = message.content
    return str(content.get("text", "")) if message.type == "stream" else ""


def _checked(value: Any, depth: int) -> Any:
    """Return the value if it is what JSON has, exactly."""
    if depth > DEPTH_LIMIT:
        raise CannotPack(f"it is nested deeper than {DEPTH_LIMIT} levels, or holds itself")
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if kind is int:
        if abs(value) > EXACT:
            raise CannotPack(f"{value:.6g} is an integer that would be rounded there")
        return value
    if kind is float:
        if value != value or value in (float("inf"), float("-inf")):
            raise CannotPack(f"{value} has no form in JSON")
        return value
    if kind in (list, tuple):
        return [_checked(each, depth + 1) for each in value]
    if kind is dict:
        for key in value:
            if type(key) is not str:
                raise CannotPack(f"its key {key!r:.60} is no text")
        return {key: _checked(each, depth + 1) for key, each in value.items()}
    if hasattr(value, "tolist") and type(value).__module__ == "numpy":
        return _checked(value.tolist(), depth)
    raise CannotPack(f"a {kind.__name__} has no form in JSON")


def _no_constant(constant: str) -> None:
    raise ValueError(f"it holds {constant}")
