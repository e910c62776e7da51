"""Values to and from Python kernels that stand on ipykernel."""

from __future__ import annotations

import hashlib
import json
import keyword
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ...errors import Closed, RemoteError, TransferError
from ..comms import Comm
from .asking import Asking, ask_kernels, kind_of
from .packing import CannotPack, CannotUnpack, Packed, can_sum, pack, unpack
from .plain import unpack_plain
from .trust import is_trusted
from .wire import (
    Conversation,
    Description,
    FarSource,
    FarTarget,
    Here,
    Memory,
    Source,
    Target,
    move,
)

if TYPE_CHECKING:
    from ..kernel import Kernel
    from . import Progress

SENT = ("packing", "plain", "far")
"""The modules that run there as well, each after those it imports."""


class Python:
    """See :class:`~.language.Language`."""

    name = "Python"

    def is_name(self, name: str) -> bool:
        """Whether it is an identifier and no keyword."""
        return name.isidentifier() and not keyword.iskeyword(name)

    def push(self, kernel: Kernel, values: Mapping[str, Any], progress: Progress) -> None:
        """Set all variables at once, when all values have arrived whole.

        Whom the values go to need not be trusted: unpickling is done there.
        """
        packed = [_pack(name, value, kernel.name) for name, value in values.items()]
        about = [Description.of(each) for each in packed]
        with (
            ask_kernels(list(values), [kernel], progress.say) as (far,),
            _taking(far, list(values), about, progress) as target,
        ):
            _move(far, Here(packed, summed=target.summed), target, about, progress)

    def pull(self, kernel: Kernel, expressions: Sequence[str], progress: Progress) -> list[Any]:
        """Bring values; from a kernel that is not trusted, only plain data."""
        kind = "pickle" if is_trusted(kernel) else "data"
        with ask_kernels(expressions, [kernel], progress.say) as (far,):
            with _offered(far, expressions, kind, progress) as source:
                memory = Memory(source.values)
                _move(far, source, memory, source.values, progress)
            make = unpack if kind == "pickle" else unpack_plain
            found = []
            for name, about, parts in zip(expressions, source.values, memory.parts, strict=True):
                try:
                    found.append(make(about.readonly, parts))
                except CannotUnpack as error:
                    raise TransferError(name, kernel.name, str(error)) from None
            return found

    def pass_on(
        self, source: Kernel, kernel: Kernel, values: Mapping[str, Any], progress: Progress
    ) -> None:
        """Bring values from one kernel to another, through here but without being made here."""
        expressions = list(values.values())
        kind = "pickle" if is_trusted(source) else "data"
        with (
            ask_kernels(list(values), [source, kernel], progress.say) as (near, far),
            _offered(near, expressions, kind, progress) as offered,
            _taking(far, list(values), offered.values, progress) as target,
        ):
            _move(far, offered, target, offered.values, progress)


def _pack(name: str, value: object, kernel: str) -> Packed:
    try:
        return pack(value)
    except CannotPack as error:
        raise TransferError(name, kernel, str(error)) from None


def _move(
    asker: Asking,
    source: Source,
    target: Target,
    values: Sequence[Description],
    progress: Progress,
) -> None:
    total = sum(each.nbytes for each in values)
    asker.check()
    move(source, target, lambda done: progress.moved(done, total))


@contextmanager
def _offered(
    far: Asking, expressions: Sequence[str], kind: str, progress: Progress
) -> Iterator[FarSource]:
    """Have a kernel evaluate and keep values until they have been fetched."""
    with _transfer(far, "offer", list(expressions), kind) as transfer, ExitStack() as stack:
        conversation = _conversation(far, transfer, progress, stack)
        yield FarSource(conversation, [kind] * len(expressions))


@contextmanager
def _taking(
    far: Asking, names: Sequence[str], values: Sequence[Description], progress: Progress
) -> Iterator[FarTarget]:
    """Have a kernel make room, and set the names when everything has come."""
    about = [each.as_dict() for each in values]
    with _transfer(far, "expect", list(names), about, can_sum()) as transfer, ExitStack() as stack:
        target = FarTarget(_conversation(far, transfer, progress, stack))
        yield target
        far.run(_call("commit", transfer))


def _conversation(far: Asking, transfer: str, progress: Progress, stack: ExitStack) -> Conversation:
    conversation = Conversation(far.kernel, transfer, progress.say)
    stack.callback(conversation.close)
    far.interrupted_by(conversation.interrupt)
    return conversation


@contextmanager
def _transfer(far: Asking, function: str, *args: Any) -> Iterator[str]:
    """Begin a transfer there; if it is left before its end, nothing of it stays."""
    transfer = Comm.new_id()
    try:
        _ask(far, function, transfer, *args)
        yield transfer
    except BaseException:
        if far.kernel.alive:
            # In line behind what was asked before; nobody waits for it.
            code = _call("drop", transfer, strict=False)
            with suppress(Closed):
                far.kernel.submit(code, silent=True, store_history=False)
        raise


def _ask(far: Asking, function: str, *args: Any) -> None:
    """Call a function of the helper; send the helper first if it is not there yet."""
    try:
        far.run(_call(function, *args))
    except RemoteError as error:
        if kind_of(error) != "LookupError" or helper_name() not in error.evalue:
            raise
        far.run(_quiet(_install()))
        far.run(_call(function, *args))


def _call(function: str, *args: Any, strict: bool = True) -> str:
    absent = f"raise LookupError({helper_name()!r})" if strict else "pass"
    return _quiet(
        "import json, sys\n"
        f"helper = sys.modules.get({helper_name()!r} + '.far')\n"
        "if helper is None:\n"
        f"    {absent}\n"
        "else:\n"
        f"    helper.{function}(*json.loads({json.dumps(args)!r}))\n"
    )


def _quiet(source: str) -> str:
    """Return code that leaves no name behind, whatever the user's names are."""
    return f"__import__('builtins').exec({source!r}, {{}})"


@cache
def _sources() -> dict[str, str]:
    folder = files(__package__)
    return {name: (folder / f"{name}.py").read_text("utf-8") for name in SENT}


@cache
def helper_name() -> str:
    """Return the name of the helper's package there: of another version it is another one."""
    text = "".join(_sources().values())
    return f"_kernel_magics_{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _install() -> str:
    name = helper_name()
    lines = [
        "import sys, types",
        f"package = types.ModuleType({name!r})",
        "package.__path__ = []",
        f"sys.modules[{name!r}] = package",
    ]
    for module, source in _sources().items():
        full = f"{name}.{module}"
        lines += [
            f"module = types.ModuleType({full!r})",
            f"module.__package__ = {name!r}",
            f"sys.modules[{full!r}] = module",
            f"exec(compile({source!r}, '<kernel_magics {module}>', 'exec'), module.__dict__)",
        ]
    return "\n".join(lines)
