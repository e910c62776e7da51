"""The one error tree.

::

    KernelMagicsError
    ├── ConnectionFileError      a connection file that cannot be used: which file, which field, why
    ├── KernelNotFound           no kernel answers to that name
    │   ├── AmbiguousKernel      several do
    │   └── ConnectionFileNotFound  no file does; also a FileNotFoundError
    ├── NotAKernel               this process is no kernel; also a RuntimeError
    ├── BadName                  a name that no kernel can have
    ├── KernelUnreachable        a kernel that could not be attached
    │   ├── AuthenticationError  it answers, but signs with another key
    │   └── ExposedKernel        everybody on the way could read along
    ├── SshError                 a login that cannot be had
    ├── LaunchError              a kernel that could not be started
    ├── QtConsoleError           a Qt console that did not open
    │   └── QtConsoleMissing     it or Qt is not installed; also an ImportError
    ├── NotOwned                 only the kernels we started can be restarted
    ├── KernelGone               the kernel ended under a request
    │   ├── KernelDied
    │   ├── KernelRestarted
    │   ├── TunnelDown           the way to it broke
    │   ├── KernelUnresponsive   it is there, but silent where it should not be
    │   └── KernelDetached       we let go of it
    ├── ExecutionTimeout         the caller's own time limit
    ├── Abandoned                the user's second Ctrl-C; also a KeyboardInterrupt
    ├── ReplyLost                the kernel went on without ever answering
    ├── RemoteError              the code failed there; subclasses carry the remote error's name
    ├── Aborted                  it did not run: an earlier error or an interrupt came first
    ├── TransferError            a value that was not brought over
    ├── TransferInterrupted      the user's Ctrl-C meanwhile; also a KeyboardInterrupt
    ├── Closed                   this pool, transport or thread is closed
    └── ProtocolError            a message the messaging protocol does not allow here
        └── MessageRejected      bytes that are no message of this kernel

A class exists where a user does something different about it. Facts are attributes; the text says
what was wanted, what was found and what to try. No key ever appears in one."""

from __future__ import annotations

from collections.abc import Sequence


class KernelMagicsError(Exception):
    """Base of every error this package raises on purpose."""

    def _render_traceback_(self) -> list[str]:
        """One line for IPython: these errors explain themselves, and our own stack would hide
        them."""
        return [f"\x1b[0;31m{type(self).__name__}\x1b[0m: {self}"]


class ConnectionFileError(KernelMagicsError):
    """A connection file that cannot be used.

    ``field`` is the entry at fault, or None when the file as a whole is.
    """

    def __init__(self, path: str, reason: str, *, field: str | None = None) -> None:
        self.path, self.field, self.reason = path, field, reason
        where = f"{path}: " if field is None else f"{path}: {field}: "
        super().__init__(f"{where}{reason}")


class KernelNotFound(KernelMagicsError):
    """No attached kernel and no connection file answers to that name."""

    def __init__(self, wanted: str, searched: Sequence[str], hint: str = "") -> None:
        self.wanted, self.searched = wanted, list(searched)
        places = ", ".join(self.searched) or "nothing: no kernel is attached"
        super().__init__(f"no kernel matches {wanted!r}; searched {places}{hint and '. ' + hint}")


class AmbiguousKernel(KernelNotFound):
    """Several connection files match a fragment; guessing would run code in the wrong one."""

    def __init__(self, wanted: str, matches: Sequence[str]) -> None:
        self.wanted, self.searched, self.matches = wanted, [], list(matches)
        KernelMagicsError.__init__(
            self,
            f"{wanted!r} matches {len(self.matches)} kernels: {', '.join(self.matches)}. "
            "Give more of the name.",
        )


class ConnectionFileNotFound(KernelNotFound, FileNotFoundError):
    """No connection file answers to that name."""


class NotAKernel(KernelMagicsError, RuntimeError):
    """The kernel of this process was meant, and this process is none."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        super().__init__(
            "this is not a Jupyter kernel, so it has no connection file of its own; run it in a "
            f"notebook, or name a kernel's file (they are in {folder})"
        )


class BadName(KernelMagicsError):
    """A name that no kernel can have here."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        super().__init__(
            f"{name!r} cannot name a kernel: {reason}. "
            "Names are letters, digits, '-', '_' and '.'; all, local and off are reserved."
        )


class KernelUnreachable(KernelMagicsError):
    """A kernel that could not be attached: nobody there, or nobody who proves to be it."""

    def __init__(self, kernel: str, reason: str) -> None:
        self.kernel, self.reason = kernel, reason
        super().__init__(f"cannot attach {kernel}: {reason}")


class ExposedKernel(KernelUnreachable):
    """A kernel on another machine that is only reached over plain TCP."""

    def __init__(self, kernel: str, address: str, file: str) -> None:
        self.address = address
        super().__init__(
            kernel,
            f"it is at {address} over plain TCP, so that everybody on the way could read along and "
            f"run code there. Go through ssh (%kernel_tunnel {address} {file}), or say --insecure "
            "where you trust the network",
        )


class AuthenticationError(KernelUnreachable):
    """A kernel answers there, but its messages are signed with another key."""

    def __init__(self, kernel: str) -> None:
        super().__init__(
            kernel,
            "it answers, but signs with another key than the connection file holds; "
            "the file is probably of an older kernel on the same ports",
        )


class LaunchError(KernelMagicsError):
    """A kernel that could not be started; ``log`` holds the last lines it wrote."""

    def __init__(self, spec: str, reason: str, log: str = "") -> None:
        self.spec, self.reason, self.log = spec, reason, log
        tail = f"\n{log}" if log else ""
        super().__init__(f"cannot start {spec!r}: {reason}{tail}")


class QtConsoleError(KernelMagicsError):
    """A Qt console that did not open; ``log`` holds the last lines it wrote."""

    def __init__(self, reason: str, log: str = "") -> None:
        self.reason, self.log = reason, log
        tail = f"\n{log}" if log else ""
        super().__init__(f"no Qt console: {reason}{tail}")


class QtConsoleMissing(QtConsoleError, ImportError):
    """What the window is made of is not installed in this environment."""

    def __init__(self, what: str, python: str) -> None:
        self.what, self.python = what, python
        super().__init__(
            f"{what} is not installed for {python}; "
            "python -m pip install qtconsole PySide6-Essentials"
        )


class SshError(KernelMagicsError):
    """A login or tunnel that cannot be had; ``reason`` is ssh's own last line, or ours."""

    def __init__(self, destination: str, reason: str) -> None:
        self.destination, self.reason = destination, reason
        super().__init__(f"ssh {destination}: {reason}")


class NotOwned(KernelMagicsError):
    """Somebody else started this kernel, so only they can do that with it."""

    def __init__(self, kernel: str, action: str) -> None:
        self.kernel, self.action = kernel, action
        super().__init__(
            f"{kernel} was not started here, so it cannot be {action} from here; "
            "only kernels from %kernel_start can"
        )


class KernelGone(KernelMagicsError):
    """The kernel ended under a request.

    ``may_have_run`` is False only when the request certainly never left this process.
    """

    def __init__(self, kernel: str, reason: str, *, may_have_run: bool) -> None:
        self.kernel, self.reason, self.may_have_run = kernel, reason, may_have_run
        ran = "the code may have run, in part or whole" if may_have_run else "the code did not run"
        super().__init__(f"kernel {kernel} {reason}; {ran}")


class KernelDied(KernelGone):
    """The kernel's process ended, or its connection did and nobody answers there any more."""


class KernelRestarted(KernelGone):
    """Another process answers in the kernel's place: its variables are gone."""


class TunnelDown(KernelGone):
    """The kernel cannot be reached now; it may be well, and the way to it is being opened again."""


class KernelUnresponsive(KernelGone):
    """The kernel is there but silent, and what is known of it says that it should not be."""


class KernelDetached(KernelGone):
    """This side let go of the kernel while the request was running; it runs on there."""


class ExecutionTimeout(KernelMagicsError, TimeoutError):
    """The caller's own time limit passed; the code runs on in the kernel."""

    def __init__(self, kernel: str, timeout: float) -> None:
        self.kernel, self.timeout = kernel, timeout
        super().__init__(
            f"no end after {timeout:g} s; the code runs on in {kernel} "
            f"(%kernel_interrupt {kernel} stops it)"
        )


class Abandoned(KernelMagicsError, KeyboardInterrupt):
    """The user gave up waiting, by a second Ctrl-C; the code runs on in the kernel."""

    def __init__(self, kernel: str) -> None:
        self.kernel = kernel
        super().__init__(f"no longer waiting for {kernel}, where the code may run on")


class ReplyLost(KernelMagicsError):
    """The kernel finished the request and answers later ones, but never replied to this one."""

    def __init__(self, kernel: str) -> None:
        self.kernel = kernel
        super().__init__(
            f"{kernel} finished this cell without a reply, so whether it succeeded is not known"
        )


class Aborted(KernelMagicsError):
    """The request did not run, because an earlier one had failed or an interrupt came first."""

    def __init__(
        self, kernel: str, reason: str = "an earlier request there failed or was interrupted"
    ) -> None:
        self.kernel, self.reason = kernel, reason
        super().__init__(f"{kernel} did not run this cell: {reason}")


class TransferError(KernelMagicsError):
    """A value that was not brought to a kernel, or from it. Nothing was set, on either side.

    ``value`` is its name, or the expression it was to be the value of; of several that fail
    together, all names.
    """

    def __init__(self, value: str, kernel: str, reason: str) -> None:
        self.value, self.kernel, self.reason = value, kernel, reason
        super().__init__(f"{value}: not transferred ({kernel}): {reason}")


class TransferInterrupted(KernelMagicsError, KeyboardInterrupt):
    """The user's Ctrl-C ended a transfer. Nothing was set, on either side."""

    def __init__(self, value: str, kernel: str) -> None:
        self.value, self.kernel = value, kernel
        super().__init__(f"{value}: the transfer was interrupted ({kernel}); nothing was set")


class Closed(KernelMagicsError):
    """This pool, kernel or thread is closed, or belongs to the process this one was forked from."""


class ProtocolError(KernelMagicsError):
    """A message that the messaging protocol does not allow here."""


class MessageRejected(ProtocolError):
    """Bytes that are not a message of this kernel.

    ``forged`` is True when the signature is what failed: somebody else, or another key.
    """

    def __init__(self, reason: str, *, forged: bool = False) -> None:
        self.reason, self.forged = reason, forged
        super().__init__(f"message rejected: {reason}")


class RemoteError(KernelMagicsError):
    """The code failed in the kernel.

    What is raised is a subclass named as the remote error (``ZeroDivisionError``), so that IPython,
    nbclient and papermill report that name; ``except RemoteError`` catches all of them.
    ``traceback`` holds the lines that the kernel rendered, possibly with ANSI colours.
    """

    def __init__(self, kernel: str, ename: str, evalue: str, traceback: Sequence[str]) -> None:
        self.kernel, self.ename, self.evalue = kernel, ename, evalue
        self.traceback = list(traceback)
        self.explained = False
        """The cell's own outputs say what failed."""
        self.shown = False
        """Those outputs were shown here, so that nothing has to be said again."""
        super().__init__(kernel, ename, evalue, self.traceback)

    def __str__(self) -> str:
        return self.evalue

    def __reduce__(self) -> tuple[object, ...]:
        # The class is made on the fly, so that pickle could not find it by name.
        about = (self.kernel, self.ename, self.evalue, self.traceback)
        return remote_error, about, {"explained": self.explained, "shown": self.shown}

    def _render_traceback_(self) -> list[str]:
        """Lines for IPython, which prints them instead of our own stack."""
        head = kernel_label(self.kernel)
        if self.shown:
            return [f"{head} {self.ename}: {self.evalue} (shown above)"]
        return [head, *(self.traceback or [f"{self.ename}: {self.evalue}"])]


def kernel_label(kernel: str) -> str:
    """Return the line that stands above a remote traceback."""
    return f"\x1b[0;36m[{kernel}]\x1b[0m"


def sendable(text: str) -> str:
    """Write out what cannot be sent on, printed or be part of a name: lone surrogates and NUL."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def remote_error(kernel: str, ename: str, evalue: str, traceback: Sequence[str]) -> RemoteError:
    """Build the :class:`RemoteError` subclass that bears the remote error's name.

    A kernel may name its error anything (xeus-python: ``<class 'ValueError'>``; tslab: nothing).
    """
    # With a lone surrogate ipykernel would never reply.
    ename, evalue, *traceback = map(sendable, (ename, evalue, *traceback))
    name = ename or "RemoteError"
    kind = RemoteError if name == "RemoteError" else type(name, (RemoteError,), {})
    error: RemoteError = kind(kernel, name, evalue, traceback)
    return error
