"""Kernels that we start: their processes, signals and files.

Stands on `jupyter_client.KernelManager`, so that every kernelspec and every provisioner works. Its
coroutines run on one long-lived thread of ours: an interrupted blocking `start_kernel` inside
ipykernel leaves a kernel alive that nobody knows."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import tempfile
import threading
import uuid
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..errors import KernelMagicsError, LaunchError
from ..wire.zmq import asyncio_context
from .find import runtime_dir
from .info import ConnectionInfo
from .processes import interrupt, survives_interrupt
from .uninterrupted import interruptible
from .watcher import Watcher, is_stopped

if TYPE_CHECKING:
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

T = TypeVar("T")

log = logging.getLogger("kernel_magics")

LOG_TAIL = 12
"""Lines of what a kernel wrote that are shown when it cannot be started."""

LONGEST_SOCKET_DIR = 80
"""Bytes; a Unix socket's path has 107 and macOS gives 104."""

# What the front end told *this* kernel about itself, and must not be passed on.
NOT_INHERITED = ("JPY_PARENT_PID", "JPY_SESSION_NAME", "JPY_INTERRUPT_EVENT", "IPY_INTERRUPT_EVENT")


@dataclass(frozen=True)
class LaunchOptions:
    """What to start and how.

    ``spec`` names a kernelspec, with ``ssh://HOST/`` before it one on another machine, where all
    the rest is meant as well; ``python`` is the interpreter of an environment that has ipykernel
    but no kernelspec, and then ``spec`` is ignored. ``cwd`` None means this process's, there the
    home folder. ``env`` is added to this process's environment, there to the login's.
    ``keep`` lets the kernel outlive us."""

    spec: str = "python3"
    python: str | None = None
    cwd: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    keep: bool = False

    @property
    def label(self) -> str:
        """What to call it in messages."""
        return self.python or self.spec


class Lifecycle:
    """The thread on which kernel processes are started and ended. Starts with the first of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._context: Any = None
        self.watcher = Watcher()

    @property
    def context(self) -> Any:
        """One ZeroMQ context for all managers; each would make its own otherwise."""
        if self._context is None:
            self._context = asyncio_context()
        return self._context

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the thread."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="kernel_magics lifecycle", daemon=True
                )
                self._thread.start()
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Stop the thread; the kernels must have been ended before."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
        if self._context is not None:
            self._context.destroy(linger=0)
            self._context = None
        self.watcher.close()


class Owned(Protocol):
    """A process of ours, wherever it runs: what a kernel does with it."""

    @property
    def options(self) -> LaunchOptions:
        """How it was started."""

    @property
    def pid(self) -> int | None:
        """Its number on its own machine; None before the start."""

    def settle(self) -> None:
        """It is up: let it live on without us if it is to be kept, where that takes anything."""

    def exit_status(self) -> int | None:
        """How it ended, as `subprocess.Popen.returncode`; None while it lives. Never waits."""

    def why_ended(self) -> str:
        """Why, where its exit status would not say it; else empty."""

    def restart(self, *, now: bool = False) -> Future[None]:
        """Begin to end it and to start another; the future may raise LaunchError."""

    def shutdown(self, *, now: bool = False) -> None:
        """End it and remove its files."""

    def release(self) -> None:
        """Let it live on without us."""

    def interrupt(self) -> bool:
        """Signal it; False if an ``interrupt_request`` has to be sent. Never waits."""

    def signal(self, signum: int) -> None:
        """Send it a signal."""

    def is_stopped(self) -> bool:
        """Whether it is stopped; False where that is unknown. Never waits."""


class OwnedKernel:
    """One process of ours. :meth:`start` it once; then signal, restart, shut down.

    The methods may be called from any thread but the lifecycle thread.
    """

    def __init__(self, lifecycle: Lifecycle, options: LaunchOptions) -> None:
        self.options = options
        self._lifecycle = lifecycle
        self._manager: AsyncKernelManager | None = None
        self._folder: Path | None = None
        self._watched: int | None = None
        self._closed = False
        # One at a time: an interrupt may leave a start running whose future nobody has, and a
        # manager that is shut down half started loses its process. The shutdown waits for it.
        self._turn = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The process; None before the start and for kernels that a provisioner runs elsewhere."""
        process = self._process
        return None if process is None else process.pid

    @property
    def spec_name(self) -> str:
        """The kernelspec's display name."""
        spec = self._manager.kernel_spec if self._manager is not None else None
        return spec.display_name if spec is not None else self.options.label

    @property
    def command(self) -> list[str]:
        """The command line that it is started with; empty before the start."""
        return [] if self._manager is None else list(self._manager.format_kernel_cmd())

    def settle(self) -> None:
        """Nothing: one that is kept has never been held."""

    def exit_status(self) -> int | None:
        """Return the process's exit status, as `subprocess.Popen.returncode`; None while it
        lives."""
        process = self._process
        return None if process is None else process.poll()

    def why_ended(self) -> str:
        """Return nothing: the exit status says it all."""
        return ""

    def start(self) -> ConnectionInfo:
        """Launch the process and return where it will listen; it does not yet when this returns.

        Interrupted, the start is undone before the interrupt goes on.

        Raises:
            LaunchError: no such kernelspec or interpreter, or the process could not be made.
        """
        try:
            started = self._lifecycle.submit(self._start())
            with interruptible():
                return started.result()
        except KeyboardInterrupt:
            self.shutdown(now=True)
            raise

    def restart(self, *, now: bool = False) -> Future[None]:
        """Begin to end the process and to start another behind the same ports, keys and files.

        It goes on to its end also when nobody waits for that. The old process is asked to end, or
        killed ``now``. The future raises LaunchError if the new process could not be made.
        """
        return self._lifecycle.submit(self._restart(now))

    def shutdown(self, *, now: bool = False) -> None:
        """End the process and remove its files: politely, within 5 s, or ``now``. May be called
        twice."""
        if not self._closed:
            self._lifecycle.submit(self._shutdown(now)).result()

    def release(self) -> None:
        """Let the process live on without us; the manager would take its connection file along."""
        if self._manager is not None and not self._closed:
            self._closed = True
            self._manager.connection_file = ""

    def interrupt(self) -> bool:
        """Send SIGINT if the kernelspec wants signals and the process survives one.

        Returns False otherwise; an ``interrupt_request`` is then the way. Deno's kernelspec asks
        for signals, and it dies of them."""
        spec = self._manager.kernel_spec if self._manager is not None else None
        pid = self.pid
        if pid is None or spec is None or spec.interrupt_mode != "signal":
            return False
        if not survives_interrupt(pid):
            return False
        interrupt(pid)
        return True

    def signal(self, signum: int) -> None:
        """Send a signal to the process and to those it started; one that has ended gets none.

        Raises:
            KernelMagicsError: there is no such signal.
        """
        if signum not in signal.valid_signals():
            raise KernelMagicsError(f"there is no signal {signum}; signal.Signals lists them")
        self._lifecycle.submit(self._signal(signum)).result()

    def is_stopped(self) -> bool:
        """Whether the process is stopped (SIGSTOP, a debugger); False where that is unknown."""
        return self.pid is not None and is_stopped(self.pid)

    def log_tail(self) -> str:
        """Return the last lines that the process wrote to its own stdout and stderr."""
        if self._folder is None:
            return ""
        try:
            text = (self._folder / "log").read_text(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-LOG_TAIL:])

    @property
    def _process(self) -> Any:
        provisioner = self._manager.provisioner if self._manager is not None else None
        return getattr(provisioner, "process", None)

    async def _start(self) -> ConnectionInfo:
        async with self._turn:
            self._folder = private_folder()
            try:
                self._manager = self._new_manager(self._folder)
                await self._launch()
            except BaseException:
                self._remove_files()
                raise
            return ConnectionInfo.from_file(self._manager.connection_file)

    async def _launch(self) -> None:
        assert self._manager is not None
        options = self.options
        env = {k: v for k, v in os.environ.items() if k not in NOT_INHERITED} | dict(options.env)
        assert self._folder is not None
        # Not ours to inherit: ipykernel publishes what its children write as its own output.
        with (self._folder / "log").open("ab") as output, self._translated():
            await self._manager.start_kernel(
                env=env,
                cwd=options.cwd or str(Path.cwd()),
                stdout=output,
                stderr=output,
                independent=options.keep,
            )
        self._watch()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Within, whatever a kernelspec or a provisioner can do wrong is a LaunchError."""
        try:
            yield
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise LaunchError(self.options.label, reason) from error

    def _watch(self) -> None:
        if self._watched is not None:
            self._lifecycle.watcher.forget(self._watched)
        self._watched = None
        if self.pid is not None and not self.options.keep:
            assert self._manager is not None
            assert self._folder is not None
            self._lifecycle.watcher.watch(self.pid, [self._folder, self._manager.connection_file])
            self._watched = self.pid

    async def _restart(self, now: bool) -> None:
        assert self._manager is not None
        async with self._turn:
            if self._closed:
                raise LaunchError(self.options.label, "it was shut down meanwhile")
            with self._translated():
                await self._manager.shutdown_kernel(now=now, restart=True)
            await self._launch()

    async def _signal(self, signum: int) -> None:
        assert self._manager is not None
        if await self._manager.is_alive():
            await self._manager.signal_kernel(signum)

    async def _shutdown(self, now: bool) -> None:
        async with self._turn:
            if self._closed:
                return
            self._closed = True
            if self._manager is not None:
                await self._manager.shutdown_kernel(now=now)
            if self._watched is not None:
                self._lifecycle.watcher.forget(self._watched)
            self._remove_files()

    def _remove_files(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _new_manager(self, folder: Path) -> AsyncKernelManager:
        from jupyter_client.kernelspec import NoSuchKernel
        from jupyter_client.manager import AsyncKernelManager

        options = self.options
        folder_of_files = runtime_dir()
        folder_of_files.mkdir(parents=True, exist_ok=True, mode=0o700)
        manager = AsyncKernelManager(
            kernel_name=options.spec,
            connection_file=str(folder_of_files / f"kernel-{uuid.uuid4()}.json"),
            context=self._lifecycle.context,
            log=log,
        )
        if options.python is not None:
            manager.kernel_spec_manager = _spec_of(_interpreter(options.python))
        try:
            spec = manager.kernel_spec
        except NoSuchKernel:
            known = sorted(manager.kernel_spec_manager.find_kernel_specs())
            raise LaunchError(
                options.spec,
                f"there is no such kernelspec; there are {', '.join(known) or 'none'} "
                "(--python PATH starts an environment without one)",
            ) from None
        except Exception as error:  # a kernelspec is a file that anybody wrote
            raise LaunchError(options.spec, f"its kernelspec is broken: {error}") from error
        assert spec is not None
        if is_python(spec.argv):
            # Only this user can open sockets in a private folder, and no port can be lost.
            manager.transport = "ipc"
            manager.ip = str(folder / "k")
        elif "curve" in (spec.metadata.get("supported_encryption") or ()):
            manager.transport_encryption = "auto"
        return manager


def kernelspecs() -> list[str]:
    """Return the names of the kernelspecs that can be started here."""
    from jupyter_client.kernelspec import KernelSpecManager

    return sorted(KernelSpecManager().find_kernel_specs())


def private_folder() -> Path:
    """Make a folder that only this user can enter, with a path short enough for sockets in it."""
    folder = tempfile.mkdtemp(prefix="km-")
    if len(os.fsencode(folder)) > LONGEST_SOCKET_DIR and Path("/tmp").is_dir():
        Path(folder).rmdir()
        folder = tempfile.mkdtemp(prefix="km-", dir="/tmp")
    return Path(folder)


def is_python(command: Sequence[str]) -> bool:
    """Whether it stands on ipykernel, as far as its command tells: those bind ipc as they bind
    tcp."""
    return (
        len(command) > 2
        and Path(command[0]).name.startswith("python")
        and command[1:2] != ["-c"]
        and "xpython" not in " ".join(command)
    )


def _interpreter(path: str) -> str:
    """Return the absolute path of an interpreter, given as a path or as the folder of an
    environment."""
    given = Path(path).expanduser()
    for candidate in (given, given / "bin" / "python", given / "Scripts" / "python.exe"):
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return str(candidate.absolute())  # not resolved: a venv is what its symlink says
    found = shutil.which(path)
    if found is None:
        raise LaunchError(path, "there is no such interpreter")
    return found


def _spec_of(python: str) -> Any:
    """Return a kernelspec manager that knows one kernel: ipykernel in that interpreter."""
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

    spec = KernelSpec(
        argv=[python, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        display_name=f"Python ({python})",
        language="python",
    )

    class OneSpec(KernelSpecManager):
        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            return spec

    return OneSpec()
