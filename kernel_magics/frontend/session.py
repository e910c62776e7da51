"""The session that the magics are typed in: its user, its kernel, its way of showing."""

from __future__ import annotations

import builtins
import contextlib
import getpass
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from ..errors import ConnectionFileError, sendable
from .terminal import one_line, safe

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from ..connect.info import ConnectionInfo
    from ..kernels.events import Ask
    from ..kernels.kernel import Kernel
    from ..kernels.pool import KernelPool
    from .comms import FrontEndComms, KernelComms
    from .output import LocalIOPub
    from .progress import Progress


class LocalSession:
    """What all magics of one shell share.

    ``iopub`` is the channel of the ipykernel that this process is, and ``comms`` are those of its
    front end; both are None in a terminal, and in a kernel of another make.
    """

    # No dataclass, as nothing is that is loaded with the extension: making one takes 1 ms.
    def __init__(
        self,
        shell: InteractiveShell,
        pool: KernelPool,
        iopub: LocalIOPub | None,
        comms: FrontEndComms | None,
    ) -> None:
        self.shell = shell
        self.pool = pool
        self.iopub = iopub
        self.comms = comms

    def comms_with(self, kernel: Kernel) -> KernelComms | None:
        """Return what keeps the front end and a kernel's widgets together; None where there are
        none."""
        return None if self.comms is None else self.comms.of(kernel)

    def without_comms(self) -> LocalSession:
        """Return the same for cells whose kernel and the front end are not to be brought
        together."""
        return LocalSession(self.shell, self.pool, self.iopub, None)

    def via(self) -> list[str]:
        """Return the kernels that wait for this cell: ours, and those whose cells led to it."""
        local: Any = getattr(self.shell, "kernel", None)
        own: ConnectionInfo | None = None
        with contextlib.suppress(ConnectionFileError):  # a broken file of ours breaks no cell
            own = self.pool.own()
        if local is None or own is None:
            return []
        before = local.get_parent().get("metadata", {}).get("km_via")
        return [*(before if isinstance(before, list) else []), own.fingerprint]

    def asker(self, name: str = "ssh", *, progress: Progress | None = None) -> Ask | None:
        """Return what asks this session's user in somebody's name; None when the front end takes
        no input. ``progress`` keeps silent meanwhile."""
        local = getattr(self.shell, "kernel", None)
        # Kernels not made of ipykernel do not tell before they are asked.
        if local is not None and not getattr(local, "_allow_stdin", True):
            return None

        def ask(prompt: str, password: bool) -> str:
            prompt = safe(prompt) if local is None else sendable(prompt)
            question = f"[{name}] {prompt}"
            with contextlib.nullcontext() if progress is None else progress.pause():
                return getpass.getpass(question) if password else builtins.input(question)

        return ask

    def living(self, name: str) -> Kernel:
        kernel = self.pool[name]
        if not kernel.alive and kernel.finding is not None:
            raise UsageError(f"{kernel.name} {kernel.finding.reason}")
        return kernel

    def own(self) -> ConnectionInfo:
        own = self.pool.own()
        if own is None:
            raise UsageError(
                "this session is not a kernel; name an attached one (%kernels lists them)"
            )
        return own

    @staticmethod
    def say(what: str, kernel: Kernel) -> None:
        from .view import where

        number = kernel.look_up_pid()
        pid = f", pid {number}" if number else ""
        silent = "" if kernel.kernel_info else "; it is busy and has not answered yet"
        about = f"{one_line(kernel.language) or 'unknown'}{pid}, {where(kernel)}"
        print(f"{what} {kernel.name} ({about}){silent}")
