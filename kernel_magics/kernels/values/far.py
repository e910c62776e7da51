"""What a Python kernel is given so that values can be sent to it and fetched from it.

Runs there, out of the user's sight, once in each process. What happens here is asked for by silent
cells. The bytes come and go through a Unix socket within such a cell, if the other side is on this
machine; else as comm messages after it, each no larger than ``PIECE``."""

from __future__ import annotations

import contextlib
import json
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any

from .packing import (
    CannotPack,
    CannotUnpack,
    Packed,
    allocate,
    can_sum,
    checksum,
    copy,
    keep_freed_memory,
    library,
    pack,
    unpack,
)
from .pipe import Damaged, Pipe, connect
from .plain import pack_plain, unpack_plain

TARGET = "kernel_magics.values"

FORGET_AFTER = 600.0
"""Seconds without a word after which a transfer is given up: whoever began it is gone."""

LARGE = 16 * 1024 * 1024
"""Bytes from which numpy is worth its import."""

_transfers: dict[str, Any] = {}
_registered: list[Any] = []


class Refused(Exception):
    """The text is JSON: the name of the value, and why it is not sent or taken."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(json.dumps([name, reason]))


class Transfer:
    """One transfer; ``comm`` is None until the other side has opened it."""

    def __init__(self) -> None:
        self.comm: Any = None
        self.touched = time.monotonic()

    def opened(self) -> None:
        """The other side listens now."""

    def message(self, data: dict[str, Any], buffers: list[Any]) -> None:
        """Deal with one message."""

    def say(self, data: dict[str, Any], buffers: tuple[Any, ...] = ()) -> None:
        """Say something, to whoever began this alone if possible.

        On iopub every front end of this kernel would get all the bytes.
        """
        kernel = _shell().kernel
        way = _way_back(kernel)
        if way is None:
            self.comm.send(data, buffers=list(buffers))
            return
        stream, ident = way
        content = {"comm_id": self.comm.comm_id, "data": data}
        kernel.session.send(
            stream,
            "comm_msg",
            content,
            parent=kernel.get_parent("shell"),
            ident=ident,
            buffers=list(buffers),
        )


class Offer(Transfer):
    """Values that are fetched from here."""

    def __init__(self, packed: list[Packed]) -> None:
        super().__init__()
        self._packed = packed
        self._parts = [part for each in packed for part in each.parts]

    def opened(self) -> None:
        """Describe them."""
        self.say({"values": [each.description() for each in self._packed]})

    def message(self, data: dict[str, Any], buffers: list[Any]) -> None:
        """Send the chunks that are asked for."""
        summed = data["sum"] and can_sum()
        about, chunks = [], []
        for part, offset, size in data["send"]:
            chunk = self._parts[part][offset : offset + size]
            about.append((part, offset, checksum(chunk, summed=summed)))
            chunks.append(chunk)
        self.say({"at": about, "sum": summed}, tuple(chunks))


class Taking(Transfer):
    """Values that are sent to here, into memory that is allocated once."""

    def __init__(self, names: list[str], values: list[dict[str, Any]], wants_sum: bool) -> None:
        super().__init__()
        self.wants_sum = wants_sum
        self.names = names
        self.values = values
        self.parts = []
        for name, value in zip(names, values):  # noqa: B905
            try:
                self.parts.append([allocate(size) for size in value["sizes"]])
            except MemoryError as error:
                raise Refused(name, f"MemoryError: {error}") from None
        self._flat = [part for parts in self.parts for part in parts]
        self.missing = sum(part.nbytes for part in self._flat)

    def opened(self) -> None:
        """Say which checksum will do."""
        self.say({"sum": self.can_sum()})

    def can_sum(self) -> bool:
        """Whether sums will do."""
        if self.missing >= LARGE and self.wants_sum:
            with contextlib.suppress(ImportError):
                library("numpy")
        return self.wants_sum and can_sum()

    def receive(self, pipe: Pipe) -> None:
        """Take all of it, in one go."""
        summed = self.can_sum()
        pipe.say({"sum": summed})
        try:
            pipe.fill(self._flat, summed=summed)
        except Damaged as error:
            raise Refused(", ".join(self.names), str(error)) from None
        self.missing = 0

    def message(self, data: dict[str, Any], buffers: list[Any]) -> None:
        """Take some chunks, and say so."""
        taken = 0
        for (part, offset, check), buffer in zip(data["at"], buffers):  # noqa: B905
            chunk = memoryview(buffer).cast("B")
            if checksum(chunk, summed=data["sum"]) != check:
                self.say({"error": "its checksum is wrong: it changed while it was sent"})
                return
            copy(self._flat[part][offset : offset + chunk.nbytes], chunk)
            taken += chunk.nbytes
        self.missing -= taken
        self.say({"done": taken})

    def finished(self) -> dict[str, Any]:
        """Return the values by name."""
        if self.missing:
            raise Refused(", ".join(self.names), f"{self.missing} bytes never came")
        self._flat.clear()
        found = {}
        for name, value, parts in zip(self.names, self.values, self.parts):  # noqa: B905
            make = unpack if value["kind"] == "pickle" else unpack_plain
            try:
                found[name] = make(value["readonly"], parts)
            except CannotUnpack as error:
                raise Refused(name, str(error)) from None
        return found


def offer(transfer: str, expressions: list[str], kind: str, wants_sum: bool, path: str) -> None:
    """Evaluate in the user's namespace; send it to who listens at ``path``, or keep it until it is
    fetched."""
    _prepare()
    pipe = connect(path)
    if pipe is None:
        _transfers[transfer] = Offer(_packed(expressions, kind))
        return
    with _talking(pipe):
        _give(pipe, _packed(expressions, kind), wants_sum)


def expect(
    transfer: str, names: list[str], values: list[dict[str, Any]], wants_sum: bool, path: str
) -> None:
    """Make room; take what comes from who listens at ``path`` and set it, or wait for messages.

    ``wants_sum`` is whether it may be checked by sums, if they can be had here as well.
    """
    _prepare()
    pipe = connect(path)
    if pipe is None:
        _transfers[transfer] = Taking(names, values, wants_sum)
        return
    with _talking(pipe):
        _take(pipe, Taking(names, values, wants_sum))


def _packed(expressions: list[str], kind: str) -> list[Packed]:
    packed = []
    for expression in expressions:
        try:
            value = eval(expression, *_namespaces())
        except Exception as error:
            raise Refused(expression, f"{type(error).__name__}: {error}") from None
        try:
            packed.append(pack(value) if kind == "pickle" else pack_plain(value))
        except CannotPack as error:
            raise Refused(expression, str(error)) from None
    return packed


def _give(pipe: Pipe, packed: list[Packed], wants_sum: bool) -> None:
    summed = wants_sum and can_sum()
    pipe.say({"values": [each.description() for each in packed], "sum": summed})
    pipe.send([part for each in packed for part in each.parts], summed=summed)
    pipe.hear()  # that all is well: until then Ctrl-C there ends this cell


def _take(pipe: Pipe, taking: Taking) -> None:
    taking.receive(pipe)
    _namespaces()[-1].update(taking.finished())


@contextlib.contextmanager
def _talking(pipe: Pipe) -> Iterator[None]:
    try:
        with pipe:
            yield
    except BaseException as error:
        # IPython remembers the last traceback, and that would keep what has come so far.
        traceback.clear_frames(error.__traceback__)
        if isinstance(error, (EOFError, OSError)):
            raise Refused("", "the other side gave it up") from None
        raise


def commit(transfer: str) -> None:
    """Set all names at once, now that everything has come."""
    taking = _transfers.pop(transfer, None)
    if taking is None:
        raise Refused("", "the kernel has given this transfer up")
    _namespaces()[-1].update(taking.finished())


def drop(transfer: str) -> None:
    """Forget a transfer and free its memory; one that is not there is fine."""
    _transfers.pop(transfer, None)


def _shell() -> Any:
    return sys.modules["IPython"].get_ipython()


def _namespaces() -> tuple[dict[str, Any], dict[str, Any]]:
    shell = _shell()
    return shell.user_global_ns, shell.user_ns


def _prepare() -> None:
    """Be ready to be spoken to, and forget whoever has gone."""
    now = time.monotonic()
    for name, transfer in list(_transfers.items()):
        if now - transfer.touched > FORGET_AFTER:
            del _transfers[name]
    manager = _shell().kernel.comm_manager
    if manager not in _registered:
        keep_freed_memory()
        manager.register_target(TARGET, _opened)
        _registered.append(manager)


def _opened(comm: Any, message: Any) -> None:
    transfer: Transfer | None = _transfers.get(comm.comm_id)
    if transfer is None:
        comm.close()
        return
    known: Transfer = transfer

    def received(message: Any) -> None:
        if _transfers.get(comm.comm_id) is known:
            known.touched = time.monotonic()
            known.message(message["content"]["data"], message["buffers"])

    transfer.comm = comm
    comm.on_msg(received)
    comm.on_close(lambda message: drop(comm.comm_id))
    transfer.opened()


def _way_back(kernel: Any) -> Any:
    """Where replies to whoever sent the current message go; None when this kernel has none."""
    try:
        ident = kernel._parent_ident["shell"]
        if getattr(kernel, "_supports_kernel_subshells", False):
            manager = kernel.shell_channel_thread.manager
            return manager.get_subshell_to_shell_channel_socket(None), ident
        return kernel.shell_stream, ident
    except (AttributeError, KeyError):
        return None
