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
    │   └── LoginRefused         the user gave no answer; also a KeyboardInterrupt
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
    ├── RemoteErrors             what went wrong in each of several kernels
    │   └── ItemErrors           or with each of several items
    ├── Aborted                  an earlier error or an interrupt came first, or struck meanwhile
    ├── NoSuchJob                no background cell has that number
    ├── NoSubshell               it did not run: the kernel has nothing to run it in beside others
    ├── TransferError            a value that was not brought over
    ├── TransferInterrupted      the user's Ctrl-C meanwhile; also a KeyboardInterrupt
    ├── Closed                   this pool, transport or thread is closed
    └── ProtocolError            a message the messaging protocol does not allow here
        └── MessageRejected      bytes that are no message of this kernel

A class exists where a user does something different about it. Facts are attributes; the text says
what was wanted, what was found and what to try. No key ever appears in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


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
    """A login or tunnel that cannot be had; ``reason`` is ssh's own line, or ours.

    ``needs_user`` is True when trying again by ourselves would only annoy the other side.
    """

    def __init__(self, destination: str, reason: str, *, needs_user: bool = False) -> None:
        self.destination, self.reason, self.needs_user = destination, reason, needs_user
        super().__init__(f"ssh {destination}: {reason}")


class LoginRefused(SshError, KeyboardInterrupt):
    """The user gave no answer to what ssh asked, so that ssh was ended and nothing was sent."""

    def __init__(self, destination: str, question: str) -> None:
        self.question = question
        super().__init__(
            destination,
            f"{question!r} was not answered, so nothing was sent and ssh has been ended",
            needs_user=True,
        )


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
    """The caller's own time limit passed; the code runs on in the kernel, if it was ``sent``."""

    def __init__(self, kernel: str, timeout: float, *, sent: bool = True) -> None:
        self.kernel, self.timeout, self.sent = kernel, timeout, sent
        what = (
            f"the code runs on in {kernel} (%kernel_interrupt {kernel} stops it)"
            if sent
            else f"the code was not sent to {kernel} yet, and will not be"
        )
        super().__init__(f"no end after {timeout:g} s; {what}")


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
    """The request did not run, because an earlier one had failed or an interrupt came first.

    Or, with ``may_have_run``, it did not run to its end: some kernels (IRkernel, bash_kernel) say
    the same of a cell that is interrupted while it runs.
    """

    def __init__(
        self,
        kernel: str,
        reason: str = "an earlier request there failed or was interrupted",
        *,
        may_have_run: bool = False,
    ) -> None:
        self.kernel, self.reason, self.may_have_run = kernel, reason, may_have_run
        if may_have_run:
            text = f"this cell was interrupted in {kernel} and did not run to its end"
        else:
            text = f"{kernel} did not run this cell: {reason}"
        super().__init__(text)


class NoSuchJob(KernelMagicsError, LookupError):
    """No background cell has that number; ``known`` are those that can be asked for."""

    def __init__(self, number: int | None, known: list[int]) -> None:
        self.number, self.known = number, known
        if not known:
            super().__init__("no background cell yet; %%remote KERNEL --bg starts one")
        else:
            super().__init__(f"no job {number}; there are {', '.join(map(str, known))}")


class NoSubshell(KernelMagicsError):
    """The request did not run, because this kernel cannot run it beside another."""

    def __init__(self, kernel: str, reason: str) -> None:
        self.kernel, self.reason = kernel, reason
        super().__init__(
            f"{kernel} did not run this cell: {reason}. Without a subshell it waits for its turn, "
            "or runs at once in a kernel of its own"
        )


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
        self.payload: list[dict[str, Any]] = []
        """What the cell wants of the front end, as in :attr:`Result.payload`."""
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


LONGEST_REASON = 200
"""Characters of one error in a line that lists several."""


class RemoteErrors(KernelMagicsError):
    """Several kernels were asked, and some failed.

    ``errors`` has what each of those would have raised alone, by kernel: a `RemoteError`, or
    another error of this module, or whatever ``local`` raised here. The one that failed first is
    the first if the others were stopped for that, else they are in the order in which the kernels
    were named. ``results`` has what the kernels that ended returned, failed ones included.
    """

    def __init__(
        self,
        errors: Mapping[str, BaseException],
        total: int,
        results: Mapping[Any, object] | None = None,
    ) -> None:
        self.errors, self.total = dict(errors), total
        self.results = dict(results or {})
        self.shown = False
        """Their outputs were shown here, tracebacks among them."""
        super().__init__(self.errors, total)

    def __reduce__(self) -> tuple[object, ...]:
        # Without the results, which hold messages.
        return type(self), (self.errors, self.total), {"shown": self.shown}

    def __str__(self) -> str:
        failed = "; ".join(f"{', '.join(names)}: {what}" for what, names in self._alike().items())
        return f"{self._headline()}. {failed}"

    def _headline(self) -> str:
        return f"{len(self.errors)} of {self.total} kernels failed"

    def _alike(self) -> dict[str, list[str]]:
        """Names by what went wrong, in one line each."""
        alike: dict[str, list[str]] = {}
        for name, error in self.errors.items():
            alike.setdefault(error_line(error), []).append(name)
        return alike

    def _render_traceback_(self) -> list[str]:
        """The first traceback in full unless it was shown above, and a line for all that is
        alike."""
        lines = [f"\x1b[0;31m{type(self).__name__}\x1b[0m: {self._headline()}"]
        first = next(((n, e) for n, e in self.errors.items() if isinstance(e, RemoteError)), None)
        if first is not None and not self.shown:
            name, error = first
            lines += [kernel_label(name), *(error.traceback or [error_line(error)])]
        for what, names in self._alike().items():
            lines.append(f"\x1b[0;36m[{', '.join(names)}]\x1b[0m {what}")
        return lines


class ItemErrors(RemoteErrors):
    """Some of many items failed. ``errors`` is by ``"INDEX on KERNEL"``; ``results`` has what came
    of each item, by index, the errors in their places."""

    def _headline(self) -> str:
        return f"{len(self.errors)} of {self.total} items failed"


def error_line(error: BaseException) -> str:
    """Say what went wrong in one line."""
    name = error.ename if isinstance(error, RemoteError) else type(error).__name__
    line = " ".join(f"{name}: {error}".split()).removesuffix(":")
    return line if len(line) <= LONGEST_REASON else line[: LONGEST_REASON - 1] + "…"


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
