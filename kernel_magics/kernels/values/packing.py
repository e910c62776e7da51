"""Python values to parts and back: pickle protocol 5, its buffers out of band.

Runs on both sides: here, and in any kernel of Python 3.8 or later, which gets the source. So only
the standard library, and relative imports of what is sent with it.

A packed value is a list of parts, each a view of memory that exists already: first the buffers of
its arrays, then the pickle itself in pieces of at most ``PIECE`` bytes."""

from __future__ import annotations

import mmap
import pickle
import sys
import types
import zlib
from collections import deque
from importlib import import_module
from typing import Any

PIECE = 4 * 1024 * 1024
"""Bytes of one buffer of a message at most, and of one piece of a pickle."""

OUT_OF_BAND = 64 * 1024
"""Bytes from which memory travels as it is; less is copied into the pickle."""

OWN_PAGES = 1024 * 1024
"""Bytes from which received memory gets pages of its own, which go back as soon as it is freed."""


KEPT = 31 * 1024 * 1024
"""Bytes; see :func:`keep_freed_memory`."""


class CannotPack(Exception):
    """The value has no form that can travel; the text says why."""


class CannotUnpack(Exception):
    """What came cannot be made a value; the text says why."""


def library(name: str) -> Any:
    """Import what is used where it is installed, and not needed.

    Raises:
        ImportError: it is not.
    """
    return import_module(name)


def allocate(nbytes: int) -> memoryview:
    """Return memory to be filled.

    Touching new pages one by one is what limits a transfer: 1.6 GB/s for a bytearray, 8 GB/s for
    huge pages (Linux 6.18).

    Raises:
        MemoryError: there is not that much.
    """
    if nbytes < OWN_PAGES or not hasattr(mmap, "MAP_ANONYMOUS"):
        return memoryview(bytearray(nbytes))
    try:
        area = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            area.madvise(mmap.MADV_HUGEPAGE)
    except (OSError, OverflowError, ValueError):
        raise MemoryError(f"no room for {nbytes} bytes") from None
    return memoryview(area)


def keep_freed_memory() -> None:
    """Let glibc hand out the memory of one message for the next, instead of new pages each time.

    It gives blocks pages of their own until the first one of a size was freed; from then on what
    is smaller comes from a heap. The pages cost more than all the copying.
    """
    bytes(KEPT)  # never touched, so that it costs nothing


def can_sum() -> bool:
    """Whether numpy is loaded here."""
    return sys.modules.get("numpy") is not None  # None: somebody forbids to import it


def checksum(data: memoryview, *, summed: bool) -> int:
    """Return what tells data from other data of the same size.

    The CRC runs at 3.8 GB/s; ``summed``, the sum of all words, at 22, and needs numpy.
    """
    if not summed:
        return zlib.crc32(data)
    np: Any = sys.modules["numpy"]
    words = data.nbytes // 8
    total = int(np.frombuffer(data, np.uint64, words).sum(dtype=np.uint64)) if words else 0
    return total ^ zlib.crc32(data[words * 8 :])


def copy(target: memoryview, data: memoryview) -> None:
    """Copy; where numpy is loaded, without holding the interpreter."""
    if can_sum() and data.nbytes >= OUT_OF_BAND:
        np: Any = sys.modules["numpy"]
        np.copyto(np.frombuffer(target, np.uint8), np.frombuffer(data, np.uint8))
    else:
        target[:] = data


class Packed:
    """One value on its way. ``kind`` is ``"pickle"`` or ``"data"``.

    The first ``len(readonly)`` of ``parts`` are buffers, and whether they may be written to; the
    rest is the pickle, or the description of plain data, piece by piece.
    """

    def __init__(self, kind: str, buffers: list[memoryview], stream: Pieces) -> None:
        self.kind = kind
        self.readonly = [each.readonly for each in buffers]
        self.parts = buffers + stream.pieces

    def description(self) -> dict[str, Any]:
        """What the other side has to know before the parts."""
        return {
            "kind": self.kind,
            "readonly": self.readonly,
            "sizes": [each.nbytes for each in self.parts],
        }


class Pieces:
    """A file to write to. What is large is kept as it is, without a copy."""

    def __init__(self) -> None:
        self.pieces: list[memoryview] = []
        self._small = bytearray()

    def write(self, data: Any) -> int:
        """Take bytes, or anything with a buffer."""
        view = memoryview(data).cast("B")
        if view.nbytes < OUT_OF_BAND:
            self._small += view
            if len(self._small) >= PIECE:
                self.close()
        else:
            self.close()
            self.pieces += [view[at : at + PIECE] for at in range(0, view.nbytes, PIECE)]
        return view.nbytes

    def close(self) -> None:
        """Nothing more is written to the piece that is open."""
        if self._small:
            self.pieces.append(memoryview(bytes(self._small)))
            self._small = bytearray()


class Stream:
    """A file to read from. What was read is freed, so that a large text of bytes is there once."""

    def __init__(self, pieces: list[memoryview]) -> None:
        self._pieces = deque(pieces)

    def readinto(self, target: Any) -> int:
        """Fill ``target`` as far as there is something."""
        view, done = memoryview(target).cast("B"), 0
        while done < view.nbytes and self._pieces:
            first = self._pieces[0]
            size = min(first.nbytes, view.nbytes - done)
            view[done : done + size] = first[:size]
            done += size
            if size == first.nbytes:
                self._pieces.popleft()
            else:
                self._pieces[0] = first[size:]
        return done

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes."""
        # What a pickle announces may be a lie, so no more is made room for than is there.
        data = bytearray(min(size, sum(each.nbytes for each in self._pieces)))
        del data[self.readinto(data) :]
        return bytes(data)

    def readline(self) -> bytes:
        """Return everything up to the next newline."""
        line = bytearray()
        while not line.endswith(b"\n"):
            byte = self.read(1)
            if not byte:
                break
            line += byte
        return bytes(line)


def pack(value: object) -> Packed:
    """Pack a value. Its memory is not copied, so it must not change until it has been sent.

    Raises:
        CannotPack: pickle cannot, nor can cloudpickle if it is installed.
    """
    try:
        return _pickled(_Pickler, value)
    except RecursionError:
        raise CannotPack(
            "it is nested too deeply, or holds itself in a way pickle cannot"
        ) from None
    except Exception as error:  # what an object's own code raises when it is pickled
        reason = error
    try:
        cloudpickle: Any = library("cloudpickle")
    except ImportError:
        if isinstance(reason, (_ByValue, pickle.PicklingError, AttributeError)):
            raise CannotPack(
                f"{_said(reason)}; functions and classes of a session travel only with "
                f"cloudpickle, which is not installed for {sys.executable}"
            ) from None
        raise CannotPack(_said(reason)) from None
    try:
        return _pickled(cloudpickle.Pickler, value)
    except Exception as error:
        raise CannotPack(_said(error)) from None


def unpack(readonly: list[bool], parts: list[memoryview]) -> Any:
    """Make the value of its parts, which are used and not copied. ``parts`` is emptied.

    This runs whatever the pickle says: it is only for what comes from somebody trusted.

    Raises:
        CannotUnpack: it needs what is not here, or is no pickle.
    """
    buffers = [
        view.toreadonly() if fixed else view
        for fixed, view in zip(readonly, parts)  # noqa: B905
    ]
    stream = Stream(parts[len(readonly) :])
    parts.clear()
    try:
        return pickle.Unpickler(stream, buffers=buffers).load()
    except ModuleNotFoundError as error:
        raise CannotUnpack(
            f"it needs the module {error.name}, which is not installed for {sys.executable}"
        ) from None
    except AttributeError as error:
        raise CannotUnpack(f"it needs what is not defined there ({error})") from None
    except Exception as error:
        raise CannotUnpack(_said(error)) from None


class _ByValue(Exception):
    """Something that pickle would only name, and that has no such name on the other side."""


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        """Refuse what is only named, and spare tensors the copy that torch makes."""
        if isinstance(obj, (type, types.FunctionType)):
            if getattr(obj, "__module__", None) in ("__main__", None):
                raise _ByValue(f"{obj.__qualname__} is defined in the session itself")
        elif type(obj).__module__ == "torch" and type(obj).__name__ == "Tensor":
            return _tensor(obj)
        return NotImplemented


def _tensor(tensor: Any) -> Any:
    torch: Any = sys.modules["torch"]
    simple = tensor.device.type == "cpu" and tensor.layout == torch.strided
    if not simple or tensor.requires_grad or tensor.is_conj() or tensor.is_neg():
        return NotImplemented
    try:
        return torch.from_numpy, (tensor.numpy(),)
    except (TypeError, RuntimeError):  # a type that numpy does not have
        return NotImplemented


def _pickled(pickler: Any, value: object) -> Packed:
    buffers: list[memoryview] = []
    stream = Pieces()

    def take(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < OUT_OF_BAND:
            return True  # into the pickle
        buffers.append(view)
        return False

    pickler(stream, protocol=5, buffer_callback=take).dump(value)
    stream.close()
    return Packed("pickle", buffers, stream)


def _said(error: BaseException) -> str:
    text = str(error)
    return text if isinstance(error, (_ByValue, CannotPack)) else f"{type(error).__name__}: {text}"
