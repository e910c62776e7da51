"""Kernels that we start: how they come up, what they leave, and that they end with us."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

from kernel_magics.connect.launch import LaunchOptions
from kernel_magics.errors import (
    BadName,
    Closed,
    KernelDied,
    KernelGone,
    KernelMagicsError,
    KernelNotFound,
    KernelRestarted,
    KernelUnreachable,
    LaunchError,
    RemoteError,
)
from kernel_magics.kernels.kernel import Kernel
from kernel_magics.kernels.life import KernelState
from kernel_magics.kernels.options import Limits
from kernel_magics.kernels.pool import KernelPool
from tests.support import parts
from tests.support.processes import Process
from tests.support.sandbox import Sandbox
from tests.support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.full

WITH_ITS_OWNER = 5.0
"""Seconds in which a kernel is gone after its owner, however that ended."""


def gone(pid: int) -> bool:
    """Whether a process has ended, waited for or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def left(sandbox: Sandbox) -> list[Path]:
    """Files of kernels that are there now: connection files, sockets, logs and their folders."""
    # Not rglob(), which fails when a folder goes while it looks.
    return [
        Path(folder) / name
        for root in (sandbox.runtime, sandbox.temporary)
        for folder, folders, files in os.walk(root)
        for name in [*folders, *files]
    ]


def value(kernel: Kernel, expression: str) -> str:
    """What an expression prints there."""
    return kernel.run(f"print({expression})").stdout.rstrip("\n")


def kernelspec(sandbox: Sandbox, name: str, text: str) -> None:
    """Install a kernelspec for this test only."""
    folder = sandbox.root / "data" / "kernels" / name
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(text)


def argv(*words: str) -> str:
    """The text of a kernelspec with this command."""
    return json.dumps({"argv": words, "display_name": "for a test", "language": "none"})


# Options.


@pytest.mark.quick
def test_a_started_kernel_runs_cells_where_and_with_what_it_was_told(
    pool: KernelPool, sandbox: Sandbox
) -> None:
    folder = sandbox.root / "elsewhere"
    folder.mkdir()
    kernel = pool.start(LaunchOptions(cwd=str(folder), env={"KM_WORD": "a b=c"}), "gpu")
    assert (kernel.name, pool.names, pool.last) == ("gpu", ["gpu"], kernel)
    assert value(kernel, "__import__('os').getcwd()") == str(folder)
    assert value(kernel, "__import__('os').environ['KM_WORD']") == "a b=c"
    assert value(kernel, "__import__('os').getpid()") == str(kernel.pid)
    assert value(kernel, "__import__('sys').executable") == sys.executable


def test_without_options_it_has_our_folder_and_environment_but_not_our_front_ends_words(
    pool: KernelPool, monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    monkeypatch.chdir(sandbox.work)
    monkeypatch.setenv("KM_WORD", "inherited")
    monkeypatch.setenv("JPY_SESSION_NAME", "/our/notebook.ipynb")
    kernel = pool.start()
    assert kernel.name == "python3"
    assert value(kernel, "__import__('os').getcwd()") == str(sandbox.work)
    assert value(kernel, "__import__('os').environ['KM_WORD']") == "inherited"
    assert value(kernel, "__import__('os').environ.get('JPY_SESSION_NAME')") == "None"
    assert value(kernel, "__import__('os').environ['JPY_PARENT_PID']") == str(os.getpid())


@pytest.mark.parametrize("python", [sys.executable, sys.prefix], ids=["path", "environment"])
def test_an_interpreter_without_a_kernelspec_is_started(pool: KernelPool, python: str) -> None:
    kernel = pool.start(LaunchOptions(python=python))
    assert kernel.name == "python"
    assert value(kernel, "__import__('sys').prefix") == sys.prefix


def test_an_interpreter_of_another_environment_is_started(pool: KernelPool) -> None:
    parts.require("floor")
    python = parts.floor_python()
    kernel = pool.start(LaunchOptions(python=str(python)))
    assert value(kernel, "__import__('ipykernel').__version__").startswith("6.")


@pytest.mark.quick
def test_a_python_kernel_is_private_to_this_user(pool: KernelPool) -> None:
    kernel = pool.start()
    assert (kernel.info.transport, kernel.encrypted) == ("ipc", True)
    assert kernel.info.path is not None
    assert kernel.info.path.stat().st_mode & 0o777 == 0o600
    sockets = Path(kernel.info.ip).parent
    assert sockets.stat().st_mode & 0o777 == 0o700
    assert "without encryption" not in (sockets / "log").read_text()


def test_a_long_temporary_folder_leaves_room_for_sockets(
    pool: KernelPool, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = sandbox.temporary / ("x" * 60) / ("y" * 60)
    deep.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    kernel = pool.start()
    assert value(kernel, "6 * 7") == "42"
    folder = Path(kernel.info.ip).parent
    pool.close()
    assert not folder.exists()
    deep.rmdir()
    deep.parent.rmdir()


def test_other_kernelspecs_are_started(pool: KernelPool, sandbox: Sandbox) -> None:
    parts.require("bash")
    kernelspec(sandbox, "bash", argv(sys.executable, "-m", "bash_kernel", "-f{connection_file}"))
    kernel = pool.start(LaunchOptions(spec="bash"))
    assert (kernel.name, kernel.language) == ("bash", "bash")
    assert kernel.run("echo $((6 * 7))").stdout == "42\n"


def test_a_second_of_a_name_gets_a_number(pool: KernelPool) -> None:
    assert [pool.start().name for _ in range(2)] == ["python3", "python3-2"]


def test_a_name_that_cannot_be_one_is_refused_before_anything_is_started(
    pool: KernelPool, sandbox: Sandbox
) -> None:
    with pytest.raises(BadName):
        pool.start(name="all")
    assert left(sandbox) == []


# Restarting.


@pytest.mark.quick
def test_a_restart_keeps_name_and_file_but_not_variables(pool: KernelPool) -> None:
    kernel = pool.start(name="gpu")
    kernel.run("x = 1")
    pid, info = kernel.pid, kernel.info
    kernel.restart()
    assert (pool["gpu"], kernel.info, kernel.alive) == (kernel, info, True)
    assert kernel.pid != pid
    assert pid is not None
    wait_until(lambda: gone(pid), what="the old process is gone")
    assert value(kernel, "'x' in globals()") == "False"


def test_a_kernel_that_died_can_be_restarted(pool: KernelPool) -> None:
    kernel = pool.start()
    assert kernel.pid is not None
    os.kill(kernel.pid, signal.SIGKILL)
    wait_until(lambda: kernel.state is KernelState.DEAD, what="dead")
    with pytest.raises(KernelDied):
        kernel.run("1")
    kernel.restart()
    assert value(kernel, "'alive again'") == "alive again"


def test_a_cell_that_runs_at_a_restart_ends_and_says_why(
    pool: KernelPool, sandbox: Sandbox
) -> None:
    kernel, begun = pool.start(), sandbox.work / "begun"
    execution = kernel.submit(
        f"import pathlib, time; pathlib.Path({str(begun)!r}).touch(); time.sleep(600)"
    )
    wait_until(begun.exists, what="the cell runs")
    kernel.restart()
    with pytest.raises(KernelRestarted) as caught:
        execution.wait()
    assert caught.value.may_have_run


GOODBYE = "import atexit, pathlib; atexit.register(pathlib.Path({!r}).touch)"


@pytest.mark.parametrize("now", [True, False], ids=["now", "politely"])
def test_a_kernel_may_clean_up_before_a_restart_unless_it_is_now(
    pool: KernelPool, sandbox: Sandbox, now: bool
) -> None:
    kernel, goodbye = pool.start(), sandbox.work / "goodbye"
    kernel.run(GOODBYE.format(str(goodbye)))
    kernel.restart(now=now)
    assert goodbye.exists() is not now
    assert value(kernel, "'atexit' in globals()") == "False"


def test_a_kernel_that_ignores_everything_is_restarted_now(pool: KernelPool) -> None:
    kernel = pool.start()
    kernel.run(
        "import signal\nfor number in (signal.SIGINT, signal.SIGTERM):\n"
        "    signal.signal(number, signal.SIG_IGN)"
    )
    pid = kernel.pid
    assert pid is not None
    execution = kernel.submit("while True: pass")
    began = time.monotonic()
    kernel.restart(now=True)
    assert time.monotonic() - began < WITH_ITS_OWNER
    assert gone(pid)
    with pytest.raises(KernelRestarted):
        execution.wait()


def test_a_restart_that_is_interrupted_goes_on_by_itself(pool: KernelPool) -> None:
    kernel = pool.start()
    pid = kernel.pid
    assert pid is not None
    pressing = threading.Thread(target=press_when, args=[lambda: gone(pid)])
    pressing.start()
    with pytest.raises(KeyboardInterrupt):
        restart_and_wait(kernel)
    pressing.join()
    execution = kernel.submit("print('new')", limits=Limits(unresponsive_after=PATIENCE))
    assert execution.wait().stdout == "new\n"
    assert kernel.pid != pid


def press_when(condition: Callable[[], bool]) -> None:
    """Press Ctrl-C as soon as something is so."""
    wait_until(condition, what="the moment to press Ctrl-C")
    os.kill(os.getpid(), signal.SIGINT)


def restart_and_wait(kernel: Kernel) -> None:
    """Restart it, and be interrupted afterwards if not before."""
    kernel.restart()
    threading.Event().wait(PATIENCE)


def test_two_restarts_at_once_are_one_after_another(pool: KernelPool) -> None:
    kernel = pool.start()
    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(kernel.restart, now=True) for _ in range(2)]:
            done.result(PATIENCE)
    assert value(kernel, "'fine'") == "fine"
    assert value(kernel, "__import__('os').getpid()") == str(kernel.pid)


def test_a_shutdown_during_a_restart_has_the_last_word(pool: KernelPool, sandbox: Sandbox) -> None:
    kernel = pool.start()
    pid = kernel.pid
    assert pid is not None
    with ThreadPoolExecutor(1) as thread:
        restarting = thread.submit(kernel.restart)
        wait_until(lambda: gone(pid) or restarting.done(), what="the old process has ended")
        kernel.shutdown()
        with suppress(KernelUnreachable):
            restarting.result(PATIENCE)
    assert left(sandbox) == []


def test_a_kernel_that_was_shut_down_cannot_be_restarted(pool: KernelPool) -> None:
    kernel = pool.start()
    kernel.shutdown()
    with pytest.raises(Closed, match="detached"):
        kernel.restart()


# Signals.


@pytest.mark.quick
def test_a_signal_reaches_the_process_and_those_it_started(
    pool: KernelPool, sandbox: Sandbox
) -> None:
    kernel, heard = pool.start(), sandbox.work / "heard"
    kernel.run(
        f"import pathlib, signal, subprocess\n"
        f"signal.signal(signal.SIGUSR1, lambda *_: pathlib.Path({str(heard)!r}).touch())\n"
        "child = subprocess.Popen(['sleep', '600'])"
    )
    kernel.signal(signal.SIGUSR1)
    wait_until(heard.exists, what="it has heard")
    assert value(kernel, "child.wait()") == str(-signal.SIGUSR1)


def test_a_kernel_can_be_stopped_and_woken_and_killed(pool: KernelPool) -> None:
    kernel = pool.start()
    assert kernel.owned is not None
    kernel.signal(signal.SIGSTOP)
    wait_until(kernel.owned.is_stopped, what="it is stopped")
    kernel.signal(signal.SIGCONT)
    assert value(kernel, "'awake'") == "awake"
    kernel.signal(signal.SIGKILL)
    wait_until(lambda: not kernel.alive, what="dead")
    with pytest.raises(KernelDied, match="SIGKILL"):
        kernel.signal(signal.SIGUSR1)


@pytest.mark.parametrize("number", [0, -1, 4711])
def test_a_signal_that_does_not_exist_is_an_error(pool: KernelPool, number: int) -> None:
    kernel = pool.start()
    with pytest.raises(KernelMagicsError, match=f"no signal {number}"):
        kernel.signal(number)
    assert kernel.alive


def test_a_signal_to_what_has_ended_unnoticed_does_nothing(pool: KernelPool) -> None:
    kernel = pool.start()
    assert kernel.owned is not None
    assert kernel.pid is not None
    os.kill(kernel.pid, signal.SIGKILL)
    wait_until(partial(gone, kernel.pid), what="it has ended")
    kernel.owned.signal(signal.SIGUSR1)


# For a block.


@pytest.mark.quick
def test_a_kernel_of_ours_ends_with_its_block(pool: KernelPool, sandbox: Sandbox) -> None:
    with pool.start(name="gpu") as kernel:
        assert (pool.names, value(kernel, "'inside'")) == (["gpu"], "inside")
        pid = kernel.pid
    assert pid is not None
    assert gone(pid)
    assert (pool.names, left(sandbox), kernel.alive) == ([], [], False)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_kernel_of_ours_ends_with_its_block_after_an_error_as_well(
    pool: KernelPool, sandbox: Sandbox, error: type[BaseException]
) -> None:
    with pytest.raises(error), pool.start():
        raise error
    assert (pool.names, left(sandbox)) == ([], [])


@pytest.mark.parametrize("end", ["shutdown", "detach", "kill", "close"])
def test_a_block_may_end_its_kernel_before(pool: KernelPool, sandbox: Sandbox, end: str) -> None:
    with pool.start() as kernel:
        if end == "kill":
            kernel.signal(signal.SIGKILL)
            wait_until(lambda: not kernel.alive, what="dead")
        else:
            getattr(pool if end == "close" else kernel, end)()
    assert (pool.names, left(sandbox), kernel.alive) == ([], [], False)


@pytest.mark.quick
def test_a_kept_kernel_runs_on_after_its_block(pool: KernelPool) -> None:
    with pool.start(LaunchOptions(keep=True), "kept") as kept:
        kept.run("x = 41")
    assert pool.names == []
    assert kept.info.path is not None
    with pool.attach(kept.info.path) as again:
        assert value(again, "x + 1") == "42"
        again.shutdown()
    assert kept.pid is not None
    os.waitpid(kept.pid, 0)
    tidy(kept.info.path, Path(kept.info.ip).parent)


# Ending.


def test_the_kernel_itself_is_let_go_of_and_its_name_is_free(
    pool: KernelPool, sandbox: Sandbox
) -> None:
    first = pool.start(name="gpu")
    for _ in range(2):
        first.detach()
    assert pool.start(name="gpu").name == "gpu"
    pool["gpu"].shutdown()
    assert (pool.names, left(sandbox)) == ([], [])


@pytest.mark.parametrize("now", [True, False], ids=["now", "politely"])
def test_a_kernel_may_clean_up_before_it_ends_unless_it_is_now(
    pool: KernelPool, sandbox: Sandbox, now: bool
) -> None:
    kernel, goodbye = pool.start(), sandbox.work / "goodbye"
    kernel.run(GOODBYE.format(str(goodbye)))
    for _ in range(2):
        assert kernel.shutdown(now=now) is True
    assert goodbye.exists() is not now
    assert (pool.names, left(sandbox)) == ([], [])


@pytest.mark.quick
@pytest.mark.parametrize("verb", ["shutdown", "detach", "close"])
def test_what_we_started_leaves_nothing_when_we_end_it(
    pool: KernelPool, sandbox: Sandbox, verb: str
) -> None:
    kernel = pool.start(name="gpu")
    pid = kernel.pid
    assert pid is not None
    assert left(sandbox) != []
    if verb == "close":
        pool.close()
    else:
        getattr(pool, verb)("gpu")
    assert gone(pid)
    assert left(sandbox) == []
    assert pool.names == []
    with pytest.raises(KernelNotFound):
        pool["gpu"]


@pytest.mark.quick
def test_a_busy_kernel_is_ended_as_well(pool: KernelPool, sandbox: Sandbox) -> None:
    kernel, begun = pool.start(name="gpu"), sandbox.work / "begun"
    pid = kernel.pid
    assert pid is not None
    execution = kernel.submit(
        f"import pathlib; pathlib.Path({str(begun)!r}).touch()\nwhile True: pass"
    )
    wait_until(begun.exists, what="the cell runs")
    pool.shutdown("gpu")
    assert gone(pid)
    with pytest.raises(KernelGone) as caught:
        execution.wait()
    assert caught.value.may_have_run
    assert "restarted" not in str(caught.value)


def test_the_processes_a_kernel_started_end_with_it(pool: KernelPool) -> None:
    kernel = pool.start(name="gpu")
    child = int(value(kernel, "__import__('subprocess').Popen(['sleep', '600']).pid"))
    pool.shutdown("gpu")
    wait_until(lambda: gone(child), what="the child has ended")


@pytest.mark.quick
def test_a_kernel_that_died_leaves_nothing_when_the_pool_closes(
    pool: KernelPool, sandbox: Sandbox
) -> None:
    kernel = pool.start()
    assert kernel.pid is not None
    os.kill(kernel.pid, signal.SIGKILL)
    wait_until(lambda: kernel.state is KernelState.DEAD, what="dead")
    pool.close()
    assert left(sandbox) == []


def test_a_closed_pool_can_start_kernels_again(pool: KernelPool) -> None:
    for _ in range(2):
        kernel = pool.start()
        assert (kernel.name, value(kernel, "1")) == ("python3", "1")
        pool.close()


def test_kernels_are_started_side_by_side(pool: KernelPool) -> None:
    started: list[Kernel] = []
    threads = [threading.Thread(target=lambda: started.append(pool.start())) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(kernel.name for kernel in started) == ["python3", "python3-2", "python3-3"]
    assert len({value(kernel, "__import__('os').getpid()") for kernel in started}) == 3


# What cannot be started.


@pytest.mark.quick
def test_an_unknown_kernelspec_is_an_error_that_lists_the_known_ones(
    pool: KernelPool, sandbox: Sandbox
) -> None:
    with pytest.raises(LaunchError, match="python3") as caught:
        pool.start(LaunchOptions(spec="no-such-spec"))
    assert caught.value.spec == "no-such-spec"
    assert (left(sandbox), pool.names) == ([], [])


def test_an_unknown_interpreter_is_an_error(pool: KernelPool, sandbox: Sandbox) -> None:
    with pytest.raises(LaunchError, match="no such interpreter"):
        pool.start(LaunchOptions(python="/no/such/python"))
    assert (left(sandbox), pool.names) == ([], [])


@pytest.mark.quick
def test_an_interpreter_without_ipykernel_is_an_error_with_its_last_words(
    pool: KernelPool, sandbox: Sandbox
) -> None:
    python = sandbox.work / "python"
    python.write_text("#!/bin/sh\necho 'No module named ipykernel_launcher' >&2\nexit 1\n")
    python.chmod(0o700)
    began = time.monotonic()
    with pytest.raises(LaunchError, match="No module named ipykernel_launcher") as caught:
        pool.start(LaunchOptions(python=str(python)))
    assert time.monotonic() - began < WITH_ITS_OWNER
    assert "exit code 1" in caught.value.reason
    assert "%kernel_restart" not in str(caught.value)
    assert (left(sandbox), pool.names) == ([], [])


BROKEN = {
    "says why": (argv(sys.executable, "-c", "raise SystemExit('no kernel today')"), "no kernel"),
    "no program": (argv("/no/such/program", "{connection_file}"), "no/such/program"),
    "not json": ("{", "broken"),
    "no argv": ('{"display_name": "x", "language": "y"}', "broken"),
    "not executable": (argv("/etc/passwd"), "ermission"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_kernelspec_is_an_error_with_the_reason(
    pool: KernelPool, sandbox: Sandbox, how: str
) -> None:
    text, reason = BROKEN[how]
    kernelspec(sandbox, "broken", text)
    with pytest.raises(LaunchError, match=reason):
        pool.start(LaunchOptions(spec="broken"))
    assert (left(sandbox), pool.names) == ([], [])


def test_a_folder_that_does_not_exist_is_an_error(pool: KernelPool, sandbox: Sandbox) -> None:
    with pytest.raises(LaunchError, match="no/such/folder"):
        pool.start(LaunchOptions(cwd="/no/such/folder"))
    assert (left(sandbox), pool.names) == ([], [])


def test_a_kernel_that_dies_a_little_later_is_an_error_as_well(
    pool: KernelPool, sandbox: Sandbox
) -> None:
    code = "import time; time.sleep(0.3); print('I tried', flush=True); raise SystemExit(3)"
    kernelspec(sandbox, "broken", argv(sys.executable, "-c", code))
    with pytest.raises(LaunchError, match="I tried") as caught:
        pool.start(LaunchOptions(spec="broken"))
    assert "exit code 3" in caught.value.reason
    assert (left(sandbox), pool.names) == ([], [])


# Interrupted while it starts.


def sockets_of(sandbox: Sandbox) -> list[Path]:
    return list(sandbox.temporary.glob("km-*/k-*"))


MOMENTS: dict[str, Callable[[Sandbox], object]] = {
    "folder": lambda sandbox: list(sandbox.temporary.glob("km-*")),
    "file": lambda sandbox: list(sandbox.runtime.glob("*.json")),
    "sockets": sockets_of,
}


def start_and_wait(pool: KernelPool, pressing: threading.Thread) -> None:
    """Start a kernel, and be interrupted afterwards if not before."""
    pressing.start()
    pool.start()
    threading.Event().wait(PATIENCE)


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_interrupt_while_it_starts_leaves_nothing(
    pool: KernelPool, sandbox: Sandbox, moment: str
) -> None:
    def press() -> None:
        wait_until(lambda: MOMENTS[moment](sandbox) or None, what=f"the {moment} is there")
        os.kill(os.getpid(), signal.SIGINT)

    pressing = threading.Thread(target=press)
    with pytest.raises(KeyboardInterrupt):
        start_and_wait(pool, pressing)
    pressing.join()
    assert (pool.names, left(sandbox)) == ([], [])
    assert value(pool.start(), "'usable'") == "usable"


@pytest.mark.full
@pytest.mark.parametrize("after", [number / 50 for number in range(30)])
def test_an_interrupt_at_any_time_while_it_starts_leaves_nothing(
    pool: KernelPool, sandbox: Sandbox, after: float
) -> None:
    pressing = threading.Timer(after, os.kill, [os.getpid(), signal.SIGINT])
    with pytest.raises(KeyboardInterrupt):
        start_and_wait(pool, pressing)
    pressing.join()
    pool.close()
    assert left(sandbox) == []


# With the owner.

OWNER = """
import json, os, sys, threading
from kernel_magics.connect.launch import LaunchOptions
from kernel_magics.kernels.pool import KernelPool

how, told, begun = sys.argv[1:]
pool = KernelPool()
kernels = [pool.start(LaunchOptions(keep=how == "keep")) for _ in range(2)]
for kernel in kernels:
    kernel.run("1")  # it has finished starting: it has no temporary file open
kernels[0].submit(f"open({begun!r}, 'w').close()\\nwhile True: pass")
while not os.path.exists(begun):
    threading.Event().wait(0.005)
about = [[str(k.pid), str(k.info.path), os.path.dirname(k.info.ip)] for k in kernels]
with open(told + ".new", "w") as file:
    json.dump(about, file)
os.rename(told + ".new", told)
if how == "error":
    raise RuntimeError("a mistake on purpose")
if how in ("exit", "keep"):
    sys.exit()
if how == "os._exit":
    os._exit(0)
threading.Event().wait(600)
"""


@pytest.fixture
def owner(sandbox: Sandbox, closing: ExitStack) -> Callable[[str], tuple[Process, list[list[str]]]]:
    """Start a process that owns two kernels, one of them busy, and wait until it has told of them.

    ``how`` says how it ends; it gives the process, and for each kernel its process, file and
    folder.
    """

    def start(how: str) -> tuple[Process, list[list[str]]]:
        told = sandbox.work / "told.json"
        command = [sys.executable, "-c", OWNER, how, str(told), str(sandbox.work / "begun")]
        process = closing.enter_context(
            Process(command, env=sandbox.environment(), cwd=sandbox.work, log=sandbox.work / "log")
        )
        wait_until(told.exists, what=lambda: f"two kernels run: {process.output}")
        return process, json.loads(told.read_text())

    return start


Owner = Callable[[str], tuple[Process, list[list[str]]]]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_kernels_end_with_an_owner_that_is_killed(
    owner: Owner, sandbox: Sandbox, number: signal.Signals
) -> None:
    process, kernels = owner("wait")
    assert not any(gone(int(pid)) for pid, *_ in kernels)
    process.send(number)
    process.wait()
    wait_until(
        lambda: all(gone(int(pid)) for pid, *_ in kernels) and not left(sandbox),
        WITH_ITS_OWNER,
        what=lambda: f"all is gone: {left(sandbox)}",
    )


@pytest.mark.parametrize("how", ["exit", "error", "os._exit"])
def test_kernels_end_with_an_owner_that_ends(owner: Owner, sandbox: Sandbox, how: str) -> None:
    process, kernels = owner(how)
    assert process.wait() == (1 if how == "error" else 0), process.output
    wait_until(
        lambda: all(gone(int(pid)) for pid, *_ in kernels) and not left(sandbox),
        WITH_ITS_OWNER,
        what=lambda: f"all is gone: {left(sandbox)}",
    )
    assert process.output.count("Traceback") == (1 if how == "error" else 0), process.output


def tidy(file: Path, folder: Path) -> None:
    """Remove what a kept kernel leaves: nobody of ours is there to do it when it ends."""
    file.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def test_kernels_that_are_to_be_kept_survive_their_owner_and_can_be_attached(
    owner: Owner, pool: KernelPool, sandbox: Sandbox
) -> None:
    process, kernels = owner("keep")
    assert process.wait() == 0, process.output
    for number, (pid, file, folder) in enumerate(kernels):
        kernel = pool.attach(file)
        if number == 0:
            kernel.interrupt()  # it is busy still
        assert value(kernel, "__import__('os').getpid()") == pid
        _, ended = pool.shutdown(kernel.name)
        assert ended
        wait_until(partial(gone, int(pid)), what="it has ended")
        tidy(Path(file), Path(folder))


def test_a_kept_kernel_runs_on_when_its_pool_closes(pool: KernelPool) -> None:
    kept = pool.start(LaunchOptions(keep=True), "kept")
    kept.run("x = 41")
    file, pid = kept.info.path, kept.pid
    assert file is not None
    assert pid is not None
    pool.close()
    again = pool.attach(file)
    assert value(again, "x + 1") == "42"
    pool.shutdown(again.name)
    os.waitpid(pid, 0)
    tidy(file, Path(kept.info.ip).parent)


def test_a_kept_kernel_that_is_shut_down_leaves_nothing(pool: KernelPool, sandbox: Sandbox) -> None:
    kernel = pool.start(LaunchOptions(keep=True), "kept")
    pid = kernel.pid
    assert pid is not None
    pool.shutdown("kept")
    assert gone(pid)
    assert left(sandbox) == []


def test_errors_of_a_kernel_of_ours_are_errors_as_of_any_other(pool: KernelPool) -> None:
    with pytest.raises(RemoteError):
        pool.start().run("1 / 0")
