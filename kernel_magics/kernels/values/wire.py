"""The wire of chunks and credits: parts of values from where they are to where they shall be.

Either end may be this process or a kernel, so the same loop pushes, pulls and passes on. At most
``WINDOW`` chunks are under way. Every chunk has a checksum: the signature of a message covers its
header and content, not its buffers."""

from __future__ import annotations

import os
import queue
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from ...errors import KernelMagicsError, ProtocolError
from ...protocol.message import Message, Part
from ..comms import Comm, Listener
from .far import TARGET
from .packing import PIECE, Packed, allocate, can_sum, checksum, copy, keep_freed_memory

if TYPE_CHECKING:
    from ..kernel import Kernel

BATCH = 4
"""Chunks of one message: each message costs ipykernel a millisecond or more, for two states and two
flushes."""

WINDOW = 2
"""Messages under way: more is not faster, and all of it may have to be kept in memory."""

QUIET_AFTER = 1.0
"""Seconds without a message after which it is asked whether the kernel is still there."""

BUSY_AFTER = 1.5
"""Seconds in line after which it is said that the kernel is busy."""

IS_BUSY = "is busy; this waits until it is free. Ctrl-C leaves"

OVERTAKEN_AFTER = 1.0
"""Seconds for what was overtaken by the answer to that question, on another channel."""

PARTS_LIMIT = 1_000_000
"""Parts that a kernel may announce."""


class Broken(Exception):
    """The transfer cannot go on; the text says why."""


Place = tuple[int, int, int]
"""Part, offset, size."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a part: at most ``PIECE`` bytes."""

    part: int
    offset: int
    check: int
    summed: bool
    data: memoryview


@dataclass(frozen=True, slots=True)
class Description:
    """What is known of a value before its parts have come; see :class:`.packing.Packed`."""

    kind: str
    readonly: list[bool]
    sizes: list[int]

    @classmethod
    def read(cls, about: Any, kind: str) -> Description:
        """Check what a kernel says.

        Raises:
            Broken: it is no description, or not of the kind that was asked for.
        """
        if not isinstance(about, dict) or about.get("kind") != kind:
            raise Broken("the kernel described it in another way than it was asked to")
        readonly, sizes = about.get("readonly"), about.get("sizes")
        if (
            not isinstance(readonly, list)
            or not isinstance(sizes, list)
            or not len(readonly) <= len(sizes) <= PARTS_LIMIT
            or not all(type(each) is bool for each in readonly)
            or not all(type(each) is int and each >= 0 for each in sizes)
        ):
            raise Broken("the kernel described it in a way that makes no sense")
        return cls(kind, readonly, sizes)

    @classmethod
    def read_all(cls, data: Any, kinds: list[str]) -> list[Description]:
        """Check what a kernel says of several values, of which kinds were asked for.

        Raises:
            Broken: as :meth:`read`.
        """
        described = data.get("values") if isinstance(data, dict) else None
        if not isinstance(described, list) or len(described) != len(kinds):
            raise Broken("the kernel described other values than it was asked for")
        return [cls.read(about, kind) for about, kind in zip(described, kinds, strict=True)]

    @classmethod
    def of(cls, packed: Packed) -> Description:
        """Describe what is here."""
        return cls(packed.kind, packed.readonly, [part.nbytes for part in packed.parts])

    @property
    def nbytes(self) -> int:
        """All parts together."""
        return sum(self.sizes)

    def as_dict(self) -> dict[str, Any]:
        """What the other side is told."""
        return {"kind": self.kind, "readonly": self.readonly, "sizes": self.sizes}


class Source(Protocol):
    """Where values come from, chunk by chunk and in order."""

    def __iter__(self) -> Iterator[Chunk]: ...


class Target(Protocol):
    """Where they go."""

    def put(self, chunk: Chunk) -> None:
        """Take one chunk; waits for room."""

    def finish(self) -> None:
        """Wait until all of them are there."""


class Here:
    """Values of this process, as a source."""

    def __init__(self, values: list[Packed], *, summed: bool) -> None:
        self._parts = [part for value in values for part in value.parts]
        self._summed = summed

    def __iter__(self) -> Iterator[Chunk]:
        for number, part in enumerate(self._parts):
            for offset in range(0, part.nbytes, PIECE):
                data = part[offset : offset + PIECE]
                check = checksum(data, summed=self._summed)
                yield Chunk(number, offset, check, self._summed, data)


class Memory:
    """Memory of this process, as a target; allocated once."""

    def __init__(self, values: list[Description]) -> None:
        self.values = values
        nbytes = sum(value.nbytes for value in values)
        if nbytes > (room := _machine_memory()):
            raise Broken(f"it is said to have {nbytes:,} bytes, and this machine has {room:,}")
        try:
            self.parts = [[allocate(size) for size in value.sizes] for value in values]
        except MemoryError as error:
            raise Broken(f"MemoryError: {error}") from None
        self.flat = [part for parts in self.parts for part in parts]
        """The parts of all values, until :meth:`finish`."""

    def put(self, chunk: Chunk) -> None:
        """Copy it to its place; whoever yields chunks has made sure that it has one."""
        if checksum(chunk.data, summed=chunk.summed) != chunk.check:
            raise Broken("its checksum is wrong: it changed while it was sent")
        copy(self.flat[chunk.part][chunk.offset : chunk.offset + chunk.data.nbytes], chunk.data)

    def finish(self) -> None:
        """Nothing is under way here."""
        self.flat.clear()


class Conversation:
    """A comm with a kernel's helper, and the thread that waits for what it says."""

    def __init__(self, kernel: Kernel, comm_id: str, say: Callable[[str], None]) -> None:
        self._kernel = kernel
        self._said: queue.SimpleQueue[Message | KernelMagicsError | str | None]
        self._said = queue.SimpleQueue()
        self._say = say
        self.interrupted = False
        keep_freed_memory()
        self.comm: Comm = kernel.open_comm(
            comm_id, TARGET, Listener(received=self._said.put, failed=self._said.put)
        )

    def interrupt(self) -> None:
        """Have :meth:`wait` raise; may be called from a signal handler."""
        self.interrupted = True
        self._said.put(None)

    def wait(self) -> tuple[dict[str, Any], tuple[Part, ...]]:
        """Return the data and the buffers of the next message.

        The kernel may be busy meanwhile, also for hours: then a cell that does nothing waits there
        in line, under the rules that hold for all cells.

        Raises:
            Broken: the kernel gave up, or makes no sense.
            KernelGone, ...: what became of the kernel.
            KeyboardInterrupt: after :meth:`interrupt`.
        """
        message = None
        while message is None:  # None only wakes: an interrupt, or a probe that is over
            if self.interrupted:
                raise KeyboardInterrupt
            message = self._next()
        if isinstance(message, KernelMagicsError):
            self._find_out(message)
        assert isinstance(message, Message)
        if message.type == "comm_close":
            raise Broken("the kernel gave it up")
        try:
            data = message.content.get("data")
        except ProtocolError as error:
            raise Broken(str(error)) from None
        if not isinstance(data, dict):
            raise Broken("the kernel said something that makes no sense")
        if "error" in data:
            raise Broken(str(data["error"]))
        return data, message.buffers

    def close(self, *, tell: bool = True) -> None:
        """End it; the kernel then frees what it keeps for this."""
        self._kernel.forget_comm(self.comm)
        if tell:
            self.comm.close()

    def _next(self) -> Message | KernelMagicsError | None:
        try:
            return self._get(QUIET_AFTER)
        except queue.Empty:
            pass
        probe = Probe(self._kernel, self._said.put)
        found: Message | KernelMagicsError | None = None
        while not (found or self.interrupted or probe.done):
            # In slices: an untimed wait cannot be interrupted on every platform.
            with suppress(queue.Empty):
                found = self._get(0.5)
        if found is not None or self.interrupted:
            return found
        probe.result()  # raises what became of the kernel
        deadline = time.monotonic() + OVERTAKEN_AFTER
        while found is None and not self.interrupted:
            try:  # the probe's own wake-up may be among them
                found = self._get(max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise Broken(self._mute()) from None
        return found

    def _get(self, timeout: float) -> Message | KernelMagicsError | None:
        item = self._said.get(timeout=timeout)
        if isinstance(item, str):
            self._say(item)  # here, and not on the thread that noticed it
            return None
        return item

    def _mute(self) -> str:
        made = self._kernel.kernel_info.get("implementation")
        why = "" if made == "ipython" else f"; values need ipykernel there, and this is {made}"
        return f"the kernel answers, but never said what it was asked for{why}"

    def _find_out(self, error: KernelMagicsError) -> None:
        """The connection broke; a cell that does nothing tells what became of the kernel."""
        self._kernel.submit("", silent=True, store_history=False).wait()
        raise Broken("the connection to it broke meanwhile") from error


class Probe:
    """A cell that does nothing: whatever is wrong with the kernel, it meets it.

    What is said about the kernel meanwhile is handed to ``tell``, and None when it is over, both on
    the reactor's thread.
    """

    def __init__(self, kernel: Kernel, tell: Callable[[str | None], None]) -> None:
        self._tell = tell
        self._execution = kernel.submit("", self, silent=True, store_history=False)
        self._reactor = kernel.reactor
        self._reactor.post(lambda: self._later(BUSY_AFTER - QUIET_AFTER))

    @property
    def done(self) -> bool:
        """The kernel has come to it, or never will."""
        return self._execution.done

    def result(self) -> None:
        """Raise what ended it, if it was anything but its end."""
        self._execution.wait()

    def output(self, message: Message) -> None:
        """There is none."""

    def notice(self, text: str) -> None:
        """Pass on what is said about the kernel."""
        self._tell(text)

    def finish(self) -> None:
        """It is about to be over."""
        self._tell(None)

    def _later(self, delay: float) -> None:
        self._reactor.call_later(delay, self._look)

    def _look(self) -> None:
        if not (self._execution.running or self._execution.done):
            self._execution.notice(IS_BUSY)


class FarSource:
    """Values of a kernel, as a source: chunks are asked for ahead, ``WINDOW`` at a time."""

    def __init__(self, conversation: Conversation, kinds: list[str]) -> None:
        self._conversation = conversation
        self.values = Description.read_all(conversation.wait()[0], kinds)

    def __iter__(self) -> Iterator[Chunk]:
        plan = self._plan()
        summed = can_sum()
        asked: deque[list[Place]] = deque()
        while True:
            while len(asked) < WINDOW and (wanted := list(islice(plan, BATCH))):
                self._conversation.comm.send({"send": wanted, "sum": summed})
                asked.append(wanted)
            if not asked:
                return
            yield from self._chunks(asked.popleft())

    def _chunks(self, wanted: list[Place]) -> Iterator[Chunk]:
        data, buffers = self._conversation.wait()
        about, summed = data.get("at"), data.get("sum")
        if type(summed) is not bool or (summed and not can_sum()):
            raise Broken("the kernel sent a checksum that it was not asked for")
        if not isinstance(about, list) or not len(about) == len(buffers) == len(wanted):
            raise Broken("the kernel sent another piece than it was asked for")
        for place, (part, offset, size), buffer in zip(about, wanted, buffers, strict=True):
            view = memoryview(buffer).cast("B")
            if (
                not isinstance(place, list)
                or place[:2] != [part, offset]
                or len(place) != 3
                or type(place[2]) is not int
            ):
                raise Broken("the kernel sent another piece than it was asked for")
            if view.nbytes != size:
                raise Broken(f"the kernel sent {view.nbytes} bytes where {size} belong")
            yield Chunk(part, offset, place[2], summed, view)

    def _plan(self) -> Iterator[Place]:
        sizes = [size for value in self.values for size in value.sizes]
        for part, size in enumerate(sizes):
            for offset in range(0, size, PIECE):
                yield part, offset, min(PIECE, size - offset)


class FarTarget:
    """Memory of a kernel, as a target; each message that was taken there gives credit for one
    more. ``summed`` tells which checksum it can check."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._batch: list[Chunk] = []
        self._under_way: deque[int] = deque()
        data, _ = conversation.wait()
        self.summed = data.get("sum") is True and can_sum()

    def put(self, chunk: Chunk) -> None:
        """Send it, once there is credit and a batch is full."""
        if chunk.summed and not self.summed:
            check = checksum(chunk.data, summed=False)
            chunk = Chunk(chunk.part, chunk.offset, check, False, chunk.data)
        if self._batch and self._batch[0].summed != chunk.summed:
            self._send()
        self._batch.append(chunk)
        if len(self._batch) == BATCH:
            self._send()

    def finish(self) -> None:
        """Wait for the last ones."""
        self._send()
        while self._under_way:
            self._credit()

    def _send(self) -> None:
        batch, self._batch = self._batch, []
        if not batch:
            return
        while len(self._under_way) >= WINDOW:
            self._credit()
        self._conversation.comm.send(
            {
                "at": [(chunk.part, chunk.offset, chunk.check) for chunk in batch],
                "sum": batch[0].summed,
            },
            [chunk.data for chunk in batch],
        )
        self._under_way.append(sum(chunk.data.nbytes for chunk in batch))

    def _credit(self) -> None:
        data, _ = self._conversation.wait()
        if data.get("done") != self._under_way.popleft():
            raise Broken("the kernel took another piece than it was sent")


def move(source: Source, target: Target, progress: Callable[[int], None]) -> None:
    """Move everything; ``progress`` is called with the bytes moved so far."""
    moved = 0
    for chunk in source:
        target.put(chunk)
        moved += chunk.data.nbytes
        progress(moved)
    target.finish()


def _machine_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not a Unix
        return 1 << 40
