"""Values to and from Python kernels that stand on ipykernel."""

from __future__ import annotations

import hashlib
import json
import keyword
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache, partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ...errors import Closed, KernelMagicsError, RemoteError, TransferError, TunnelDown
from ..comms import Comm
from .asking import Asking, ask_kernels, kind_of
from .nearby import Fetching, Giving, Meeting, Work
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
    from ..execution import Execution
    from ..kernel import Kernel
    from . import Progress

SENT = ("packing", "plain", "pipe", "far")
"""The modules that run there as well, each after those it imports."""

DROPPED_AGAIN = 1.0
"""Seconds after which a kernel that was out of reach is asked again to forget a transfer."""

NOWHERE = ""
"""In place of a path: the values go as messages."""


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
        with ask_kernels(list(values), [kernel], progress.say) as (far,), _transfer(far) as ours:
            if _meet(far, Giving(packed), progress, "expect", ours, *_wanted(values, about)):
                return
            with _taking(far, ours, progress) as target:
                _move(far, Here(packed, summed=target.summed), target, about, progress)

    def pull(self, kernel: Kernel, expressions: Sequence[str], progress: Progress) -> list[Any]:
        """Bring values; from a kernel that is not trusted, only plain data."""
        kind = "pickle" if is_trusted(kernel) else "data"
        kinds = [kind] * len(expressions)
        with ask_kernels(expressions, [kernel], progress.say) as (far,):
            with _transfer(far) as theirs:
                fetching = Fetching(kinds)
                if _meet(far, fetching, progress, "offer", theirs, list(expressions), kind):
                    memory = fetching.memory
                else:
                    with _offered(far, theirs, kinds, progress) as source:
                        memory = Memory(source.values)
                        _move(far, source, memory, source.values, progress)
            make = unpack if kind == "pickle" else unpack_plain
            found = []
            for name, about, parts in zip(expressions, memory.values, memory.parts, strict=True):
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
            _transfer(near) as theirs,
            _transfer(far) as ours,
        ):
            _ask(near, "offer", theirs, expressions, kind, can_sum(), NOWHERE)
            with _offered(near, theirs, [kind] * len(values), progress) as offered:
                _ask(far, "expect", ours, *_wanted(values, offered.values), can_sum(), NOWHERE)
                with _taking(far, ours, progress) as target:
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


def _wanted(
    names: Iterable[str], values: Sequence[Description]
) -> tuple[list[str], list[dict[str, Any]]]:
    return list(names), [each.as_dict() for each in values]


@contextmanager
def _transfer(far: Asking) -> Iterator[str]:
    """Name a transfer; if it is left before its end, nothing of it stays there."""
    transfer = Comm.new_id()
    try:
        yield transfer
    except BaseException:
        _drop(far.kernel, transfer)
        raise


def _drop(kernel: Kernel, transfer: str) -> None:
    """Have a kernel forget a transfer, as soon as it is in reach; nobody waits for that.

    In line behind what was asked before.
    """

    def look(execution: Execution) -> None:
        with suppress(KernelMagicsError):
            try:
                execution.outcome()
            except TunnelDown:
                kernel.reactor.call_later(DROPPED_AGAIN, partial(_drop, kernel, transfer))

    if kernel.alive:
        code = _call("drop", transfer, strict=False)
        with suppress(Closed):
            kernel.submit(code, silent=True, store_history=False, then=look)


def _meet(far: Asking, work: Work, progress: Progress, function: str, *args: Any) -> bool:
    """Begin a transfer; return whether it is over as well, because the kernel is near and came."""
    with Meeting(far, work, progress.moved) as meeting:
        try:
            _ask(far, function, *args, can_sum(), meeting.path)
        except RemoteError:
            meeting.check()  # it may have failed there because it failed here
            raise
        meeting.finish()
    return meeting.came


@contextmanager
def _offered(
    far: Asking, transfer: str, kinds: list[str], progress: Progress
) -> Iterator[FarSource]:
    """Fetch what a kernel keeps."""
    with _conversation(far, transfer, progress) as conversation:
        yield FarSource(conversation, kinds)


@contextmanager
def _taking(far: Asking, transfer: str, progress: Progress) -> Iterator[FarTarget]:
    """Send what a kernel has made room for; the names are set when everything has come."""
    with _conversation(far, transfer, progress) as conversation:
        yield FarTarget(conversation)
        far.run(_call("commit", transfer))


@contextmanager
def _conversation(far: Asking, transfer: str, progress: Progress) -> Iterator[Conversation]:
    with closing(Conversation(far.kernel, transfer, progress.say)) as conversation:
        far.interrupted_by(conversation.interrupt)
        yield conversation


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
