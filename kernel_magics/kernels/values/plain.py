"""Plain data to parts and back: JSON, arrays and frames, and nothing that could run code.

For kernels that are not trusted: what comes is looked at word by word before anything is made of
it. Runs on both sides, as :mod:`.packing` does.

A value is a tree, packed as JSON. ``None``, booleans, integers, finite floats and texts are
themselves; everything else is a list that begins with a letter:

====== ===========================================
``l``  a list: its items
``u``  a tuple: its items
``d``  a dictionary: pairs of a text and an item
``f``  a float that JSON does not have: its name
``b``  bytes: the number of a buffer
``a``  an array: type, shape, order, buffer
``c``  a pandas Series: name, values, index
``t``  a DataFrame: pairs of a name and a column, index
``r``  a range as an index: start, stop, step
``w``  an Arrow table: the buffer of its IPC stream
====== ==========================================="""

from __future__ import annotations

import json
import math
import re
import sys
from typing import Any

from .packing import CannotPack, CannotUnpack, Packed, Pieces, Stream, library

DEPTH_LIMIT = 100
"""Levels of a tree."""

SIZE_LIMIT = 256 * 1024 * 1024
"""Bytes of a tree; arrays and frames travel beside it."""

_DTYPE = re.compile(r"[<>|=]?([biufcSU]\d{1,9}|[Mm]8(\[\d*[a-zA-Z]{1,2}\])?)")
_NOT_FINITE = ("nan", "inf", "-inf")


def pack_plain(value: object) -> Packed:
    """Pack a value that is plain data.

    Raises:
        CannotPack: it, or something in it, is not.
    """
    buffers: list[memoryview] = []
    tree = _tree(value, buffers, 0)
    stream = Pieces()
    try:
        stream.write(json.dumps(tree, allow_nan=False).encode())
    except ValueError as error:  # an integer of too many digits
        raise CannotPack(str(error)) from None
    stream.close()
    return Packed("data", buffers, stream)


def unpack_plain(readonly: list[bool], parts: list[memoryview]) -> Any:
    """Make the value of its parts, having checked them; ``parts`` is emptied.

    Raises:
        CannotUnpack: they are not what they should be, or need a library that is not here.
    """
    buffers = parts[: len(readonly)]
    size = sum(each.nbytes for each in parts[len(readonly) :])
    if size > SIZE_LIMIT:
        raise CannotUnpack(f"a description of {size} bytes")
    stream = Stream(parts[len(readonly) :])
    parts.clear()
    try:
        tree = json.loads(stream.read(size), parse_constant=_refuse)
    except RecursionError:
        raise CannotUnpack("it is nested too deeply") from None
    except ValueError as error:
        raise CannotUnpack(f"its description is not JSON ({error})") from None
    try:
        return _Reader(buffers, readonly).value(tree, 0)
    except CannotUnpack:
        raise
    except (TypeError, ValueError, IndexError, KeyError, OverflowError, MemoryError) as error:
        raise CannotUnpack(f"its description makes no sense ({error})") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"it holds {constant}")


def _tree(value: Any, buffers: list[memoryview], depth: int) -> Any:
    if depth > DEPTH_LIMIT:
        raise CannotPack(f"it is nested deeper than {DEPTH_LIMIT} levels, or holds itself")
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else ["f", str(value)]
    if kind in (list, tuple):
        items = [_tree(each, buffers, depth + 1) for each in value]
        return ["l" if kind is list else "u", *items]
    if kind is dict:
        return ["d", *(_pair(key, each, buffers, depth) for key, each in value.items())]
    if kind in (bytes, bytearray):
        return ["b", _buffer(value, buffers)]
    return _of_library(value, buffers, depth)


def _pair(key: object, value: Any, buffers: list[memoryview], depth: int) -> Any:
    if type(key) is not str:
        raise CannotPack(f"its key {key!r:.60} is no text")
    return [key, _tree(value, buffers, depth + 1)]


def _of_library(value: Any, buffers: list[memoryview], depth: int) -> Any:
    np, pd, pa = (sys.modules.get(name) for name in ("numpy", "pandas", "pyarrow"))
    if np is not None:
        if type(value) is np.ndarray:
            return _array(value, buffers)
        if isinstance(value, np.generic) and isinstance(value.item(), (bool, int, float, str)):
            return _tree(value.item(), buffers, depth)
    if pd is not None:
        if type(value) is pd.DataFrame:
            columns = [
                [_label(name), _column(value.iloc[:, at], buffers)]
                for at, name in enumerate(value.columns)
            ]
            return ["t", columns, _index(value.index, buffers)]
        if type(value) is pd.Series:
            name = _label(value.name)
            return ["c", name, _column(value, buffers), _index(value.index, buffers)]
        if isinstance(value, pd.Index):
            return _index(value, buffers)
        if value is pd.NA or value is pd.NaT:
            return None
    if pa is not None and isinstance(value, pa.Table):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, value.schema) as writer:
            writer.write_table(value)
        return ["w", _buffer(sink.getvalue(), buffers)]
    raise CannotPack(
        f"a {type(value).__name__} is neither JSON nor an array nor a frame, and this kernel is "
        "not trusted with more"
    )


def _buffer(data: Any, buffers: list[memoryview]) -> int:
    buffers.append(memoryview(data).cast("B"))
    return len(buffers) - 1


def _array(array: Any, buffers: list[memoryview]) -> list[Any]:
    dtype = array.dtype
    if not _DTYPE.fullmatch(dtype.str):
        raise CannotPack(f"an array of {dtype} is no plain data")
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    flat = array.reshape(-1, order=order)  # a view, or a copy of what has gaps
    np: Any = sys.modules["numpy"]
    raw = np.ascontiguousarray(flat).view(np.uint8) if flat.nbytes else b""
    view = memoryview(raw) if array.flags.writeable else memoryview(raw).toreadonly()
    return ["a", dtype.str, list(array.shape), order, _buffer(view, buffers)]


def _column(series: Any, buffers: list[memoryview]) -> Any:
    np: Any = sys.modules["numpy"]
    if isinstance(series.dtype, np.dtype) and series.dtype.kind != "O":
        return _array(series.to_numpy(), buffers)
    if series.dtype.kind == "O":  # texts, or anything
        pd: Any = sys.modules["pandas"]
        cells = [None if each is None or each is pd.NA else each for each in series]
        cells = [None if type(each) is float and each != each else each for each in cells]
        if all(each is None or isinstance(each, (str, bool, int, float)) for each in cells):
            return ["l", *(_tree(each, buffers, 1) for each in cells)]
    raise CannotPack(f"its column {series.name!r:.60} of {series.dtype} is no plain data")


def _index(index: Any, buffers: list[memoryview]) -> Any:
    pd: Any = sys.modules["pandas"]
    if type(index) is pd.RangeIndex:
        return ["r", index.start, index.stop, index.step]
    if index.nlevels > 1:
        raise CannotPack("an index of several levels is no plain data")
    return _column(index.to_series(), buffers)


def _label(name: Any) -> Any:
    np = sys.modules.get("numpy")
    if np is not None and isinstance(name, np.integer):
        name = name.item()
    if name is None or type(name) in (str, int):
        return name
    raise CannotPack(f"its column {name!r:.60} is named by neither text nor integer")


class _Reader:
    def __init__(self, buffers: list[memoryview], readonly: list[bool]) -> None:
        self._buffers = buffers
        self._readonly = readonly

    def value(self, node: Any, depth: int) -> Any:
        """What a node stands for."""
        if depth > DEPTH_LIMIT:
            raise CannotUnpack(f"it is nested deeper than {DEPTH_LIMIT} levels")
        if node is None or type(node) in (bool, int, float, str):
            return node
        if type(node) is not list or not node or type(node[0]) is not str:
            raise CannotUnpack("its description makes no sense")
        letter, rest = node[0], node[1:]
        if letter in ("l", "u"):
            items = [self.value(each, depth + 1) for each in rest]
            return items if letter == "l" else tuple(items)
        if letter == "d":
            return {_text(key): self.value(each, depth + 1) for key, each in rest}
        if letter == "f":
            (name,) = rest
            return float(_NOT_FINITE[_NOT_FINITE.index(name)])
        if letter == "b":
            (number,) = rest
            return bytes(self._buffer(number))
        if letter == "a":
            return self._array(*rest)
        if letter == "w":
            (number,) = rest
            return self._table(number)
        if letter in ("c", "t", "r"):
            return self._pandas(letter, rest)
        raise CannotUnpack(f"it holds a {letter!r:.20}, whatever that is")

    def _buffer(self, number: Any) -> memoryview:
        if type(number) is not int or not 0 <= number < len(self._readonly):
            raise CannotUnpack(f"it has no buffer {number!r:.20}")
        return self._buffers[number]

    def _array(self, dtype: Any, shape: Any, order: Any, number: Any) -> Any:
        np = _library("numpy")
        view = self._buffer(number)
        if type(dtype) is not str or not _DTYPE.fullmatch(dtype):
            raise CannotUnpack(f"an array of {dtype!r:.60} is no plain data")
        if order not in ("C", "F") or type(shape) is not list or len(shape) > 32:
            raise CannotUnpack("its array has no proper shape")
        if not all(type(each) is int and each >= 0 for each in shape):
            raise CannotUnpack("its array has no proper shape")
        kind = np.dtype(dtype)
        expected = math.prod(shape) * kind.itemsize
        if expected != view.nbytes:
            raise CannotUnpack(f"its array of {expected} bytes came with {view.nbytes}")
        if self._readonly[number]:
            view = view.toreadonly()
        if not expected:
            return np.empty(shape, kind, order=order)
        return np.frombuffer(view, kind).reshape(shape, order=order)

    def _table(self, number: Any) -> Any:
        pa = _library("pyarrow")
        ipc = library("pyarrow.ipc")
        try:
            table = ipc.open_stream(pa.py_buffer(self._buffer(number))).read_all()
            table.validate(full=True)
        except (pa.ArrowException, OSError) as error:
            raise CannotUnpack(f"its table is none ({error})") from None
        return table

    def _pandas(self, letter: str, rest: list[Any]) -> Any:
        pd = _library("pandas")
        if letter == "r":
            start, stop, step = rest
            return pd.RangeIndex(start, stop, step)
        if letter == "c":
            name, values, index = rest
            rows, cells = self._index(index), self.value(values, 1)
            if len(cells) != len(rows):
                raise CannotUnpack("it is not as long as its index")
            return pd.Series(cells, index=rows, name=_name(name))
        columns, index = rest
        labels = [_name(name) for name, _ in columns]
        rows = self._index(index)
        made = {at: self.value(column, 1) for at, (_, column) in enumerate(columns)}
        if any(len(each) != len(rows) for each in made.values()):
            raise CannotUnpack("its columns are not as long as its index")
        frame = pd.DataFrame(made, index=rows)
        frame.columns = labels
        return frame

    def _index(self, node: Any) -> Any:
        value = self.value(node, 1)
        pd = _library("pandas")
        if not isinstance(value, (list, pd.Index)) and type(value).__name__ != "ndarray":
            raise CannotUnpack("its index is none")
        return value


def _library(name: str) -> Any:
    try:
        return library(name)
    except ImportError:
        raise CannotUnpack(
            f"it needs the module {name}, which is not installed for {sys.executable}"
        ) from None


def _text(key: Any) -> str:
    if type(key) is not str:
        raise CannotUnpack("it has a key that is no text")
    return key


def _name(name: Any) -> Any:
    if name is not None and type(name) not in (str, int):
        raise CannotUnpack("it has a column without a proper name")
    return name
