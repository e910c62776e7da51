"""What kernels use of their machines.

ipykernel tells on request. But for that it goes through all processes of its machine, and gives its
interpreter away at each of them: one that computes takes 1.5 s among 65 processes, and does nothing
else on control meanwhile, not even be interrupted. So a kernel on this machine is looked at from
here, and one elsewhere is asked only while it is idle."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from ..protocol.message import Message
from .life import KernelState, readable

if TYPE_CHECKING:
    from ..connect.meter import Meter
    from .kernel import Kernel

PATIENCE = 0.3
"""Seconds for a kernel to tell what it uses; those that know how answer in milliseconds."""


@lru_cache(maxsize=1)
def _meter() -> Meter:
    from ..connect.meter import Meter  # with psutil, which takes longer to load than to attach

    return Meter()


@dataclass(frozen=True)
class Usage:
    """What a kernel uses of its machine, with the processes it has started; None: not known.

    ``cpu`` is in percent of one core since it was looked at last, ``memory`` in bytes.
    """

    host: str | None = None
    cpu: float | None = None
    memory: int | None = None

    @classmethod
    def of(cls, reply: Message) -> Usage:
        """Read a ``usage_reply``; what is not as it should be counts as not told."""
        content = readable(reply)
        host, cpu, memory = (
            content.get(name) for name in ("hostname", "kernel_cpu", "kernel_memory")
        )
        return cls(
            host if isinstance(host, str) and host else None,
            float(cpu) if isinstance(cpu, int | float) and cpu >= 0 else None,
            memory if isinstance(memory, int) and memory >= 0 else None,
        )


def usages_of(kernels: Sequence[Kernel], patience: float = PATIENCE) -> dict[str, Usage]:
    """Return what each of them uses, by name; those of which nothing is known are missing.

    Waits up to ``patience`` seconds for those that have to be asked.
    """
    alive = [each for each in kernels if each.alive]
    pids = {each.name: pid for each in alive if (pid := each.local_pid) is not None}
    readings = _meter().read(pids.values()) if pids else {}
    host = socket.gethostname()
    looked_at = {
        name: Usage(host, readings[pid].cpu, readings[pid].memory)
        for name, pid in pids.items()
        if pid in readings
    }
    asked = {
        each.name: each.ask("control", "usage_request")
        for each in alive
        if each.name not in looked_at and each.state is KernelState.IDLE
    }
    told, late = wait(asked.values(), patience)
    for reply in late:
        reply.cancel()
    return looked_at | {
        name: Usage.of(reply.result())
        for name, reply in asked.items()
        if reply in told and reply.exception() is None
    }
