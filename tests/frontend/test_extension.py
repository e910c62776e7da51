"""Loading puts the magics into a shell, unloading takes everything out again."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import frontend
from tests.frontend import LOAD, NEWEST_FIRST, Age, Desk, kinds, terminal_with
from tests.support import parts
from tests.support.hosts import KernelHost, TerminalHost
from tests.support.kernels import HandKernel
from tests.support.sandbox import Sandbox

new_desk = frontend.new_desk

UNLOAD = "%unload_ext kernel_magics"

LOOK = """\
def descriptors():
    import collections, os
    targets = []
    for number in os.listdir('/proc/self/fd'):
        try: targets.append(os.readlink(f'/proc/self/fd/{number}').split(':[')[0])
        except OSError: pass
    # Of event descriptors ipykernel itself leaves one for each thread that has published.
    return sorted(one for one in targets if one in ('socket', 'pipe'))

def look():
    import gc, signal, sys, threading, zmq
    shell = get_ipython()
    thread = shell.kernel.iopub_socket.io_thread
    limit, seen = [], threading.Event()
    def read():
        limit.append(thread.socket.getsockopt(zmq.SNDHWM)); seen.set()
    thread.schedule(read); seen.wait(10)
    gc.collect()
    return {
        'magics': {kind: sorted(names) for kind, names in shell.magics_manager.magics.items()},
        'registry': sorted(shell.magics_manager.registry),
        'configurables': sorted(type(one).__name__ for one in shell.configurables),
        'custom exceptions': [one.__name__ for one in shell.custom_exceptions],
        'threads': sorted(one.name for one in threading.enumerate()),
        'children': len(__import__('psutil').Process().children(recursive=True)),
        'descriptors': descriptors(),
        'limit': limit[0],
        'interrupt': signal.getsignal(signal.SIGINT).__name__,
        'attributes': sorted(name for name in vars(shell) if 'kernel_magics' in name),
        'hooks': len(shell.events.callbacks['pre_run_cell']),
        'instances': sum(
            type(one).__module__ == 'kernel_magics.frontend.magics'
            and type(one).__name__ == 'KernelMagics'
            for one in gc.get_objects()
        ),
        'stdout': type(sys.stdout).__name__,
        'displayhook': type(sys.displayhook).__name__,
    }
"""


def seen(desk: Desk) -> dict[str, Any]:
    """What the extension could have left behind in the notebook's kernel."""
    answer: dict[str, Any] = desk.value("look()")
    return answer


@pytest.fixture(params=NEWEST_FIRST)
def desk(request: pytest.FixtureRequest, new_desk: Callable[..., Desk]) -> Desk:
    age: Age = request.param
    return new_desk(age)


def test_unloading_leaves_nothing(desk: Desk) -> None:
    desk.run(UNLOAD).ok()
    desk.run(LOOK).ok()
    # Once before: modules are imported and caches filled by the first use.
    use(desk)
    before = seen(desk)
    use(desk)
    after = seen(desk)
    for name in before:
        assert after[name] == before[name], name
    assert after["instances"] == 0
    assert after["children"] == 0
    assert desk.run("%remote k 1").stderr.startswith("UsageError: Line magic function `%remote`")


@pytest.mark.full
def test_a_notebook_that_has_shown_much_still_shows_something_after_unloading(desk: Desk) -> None:
    text = desk.run("for number in range(1500): print(number, flush=True)").ok().stdout
    assert text.split() == [str(number) for number in range(1500)]
    desk.run(UNLOAD).ok()
    assert desk.run("print('still here')").ok().stdout == "still here\n"


def use(desk: Desk) -> None:
    """Load it, use what it has, unload it."""
    desk.run(LOAD).ok()
    desk.attach(desk.kernel.connection_file, "k")
    desk.run("%kernel_start --name own").ok()
    desk.remote("print('there')").ok()
    desk.remote("1 / 0", kernel="own")
    desk.remote("input('? ')", on_input=lambda prompt, password: "x").ok()
    desk.run("%%capture taken\n%remote k print('there')").ok()
    desk.run("%kernels --all").ok()
    desk.run(UNLOAD).ok()


def test_it_can_be_loaded_again_and_again(desk: Desk) -> None:
    for _ in range(5):
        desk.run(UNLOAD).ok()
        assert desk.run(LOAD).ok().outputs == []
        desk.attach(desk.kernel.connection_file, "k")
        assert desk.remote("6 * 7").ok().result == "42"


@pytest.mark.full
def test_reloading_starts_afresh(desk: Desk) -> None:
    desk.run("%reload_ext kernel_magics").ok()
    assert desk.remote("1").reply["ename"] == "UsageError"
    desk.attach(desk.kernel.connection_file, "k")
    assert kinds(desk.remote("1 / 0")) == ["error"]


@pytest.mark.full
def test_unloading_ends_the_kernels_started_here_and_no_other(desk: Desk) -> None:
    desk.run("import psutil; own = psutil.Process()").ok()
    desk.run("%kernel_start").ok()
    assert desk.value("len(own.children())") > 0
    desk.run(UNLOAD).ok()
    assert desk.value("[one.cmdline() for one in own.children()]") == []
    assert desk.kernel.value("6 * 7") == 42


def test_loading_twice_does_nothing(desk: Desk) -> None:
    desk.run(LOOK).ok()
    before = seen(desk)
    assert "already loaded" in desk.run(LOAD).ok().stdout
    desk.run("import kernel_magics; kernel_magics.load_ipython_extension(get_ipython())").ok()
    assert seen(desk) == before
    assert desk.remote("6 * 7").ok().result == "42"


@pytest.mark.full
def test_unloading_twice_does_nothing(desk: Desk) -> None:
    desk.run(UNLOAD).ok()
    desk.run("import kernel_magics; kernel_magics.unload_ipython_extension(get_ipython())").ok()
    desk.run(LOAD).ok()
    desk.attach(desk.kernel.connection_file, "k")
    assert desk.remote("6 * 7").ok().result == "42"


THEIRS = """\
from IPython.core.magic import register_cell_magic, register_line_magic
@register_line_magic
def remote(line): print('their line', line)
@register_cell_magic
def remote(line, cell): print('their cell', line, cell.strip())"""


@pytest.mark.full
@pytest.mark.parametrize("age", NEWEST_FIRST)
def test_a_magic_of_somebody_else_is_replaced_with_a_warning_and_restored(
    kernel_host: Callable[..., KernelHost], shared_kernel: HandKernel, age: Age
) -> None:
    if age == "floor":
        parts.require("floor")
    host = kernel_host(python=parts.floor_python() if age == "floor" else None)
    host.run(THEIRS).ok()
    warned = host.run(LOAD).ok().stderr
    assert "%remote existed already and is kernel_magics' now; %unload_ext restores it" in warned
    assert "%%remote existed already and is kernel_magics' now; %unload_ext restores it" in warned
    host.run(f"%kernel_attach {shared_kernel.connection_file} --name k").ok()
    assert host.run("%remote k 6 * 7").ok().result == "42"
    host.run(UNLOAD).ok()
    assert host.run("%remote k x").ok().stdout == "their line k x\n"
    assert host.run("%%remote k\nx").ok().stdout == "their cell k x\n"


def test_a_magic_defined_after_loading_is_left_alone(desk: Desk) -> None:
    desk.run(THEIRS).ok()
    desk.run(UNLOAD).ok()
    assert desk.run("%remote k x").ok().stdout == "their line k x\n"


BARE = """\
import sys
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

shell = InteractiveShell(config=Config(HistoryManager={{"enabled": False}}))
for cell in [
    "%load_ext kernel_magics",
    "%kernel_attach {file} --name k",
    "%remote k print('there')",
    "%%remote k\\n'a value'",
    "%%remote k\\n1 / 0",
    "%unload_ext kernel_magics",
]:
    result = shell.run_cell(cell)
    print(type(result.error_in_exec or result.error_before_exec).__name__)
"""


@pytest.mark.parametrize("age", NEWEST_FIRST)
def test_it_works_in_a_bare_shell(sandbox: Sandbox, shared_kernel: HandKernel, age: Age) -> None:
    if age == "floor":
        parts.require("floor")
    python = parts.floor_python() if age == "floor" else sys.executable
    done = subprocess.run(
        [str(python), "-c", BARE.format(file=shared_kernel.connection_file)],
        env=sandbox.environment(), cwd=sandbox.work, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    ends = [line for line in lines if line in ("NoneType", "ZeroDivisionError")]
    assert ends == ["NoneType"] * 4 + ["ZeroDivisionError", "NoneType"]
    assert "there" in lines
    assert any(line.endswith("'a value'") for line in lines)
    assert "ZeroDivisionError: division by zero" in frontend.plain(done.stdout)


@pytest.mark.full
@pytest.mark.parametrize("age", NEWEST_FIRST)
def test_it_loads_and_unloads_in_a_terminal(
    terminal_host: Callable[..., TerminalHost], shared_kernel: HandKernel, age: Age
) -> None:
    if age == "floor":
        parts.require("floor")
    terminal = terminal_host(python=parts.floor_python() if age == "floor" else None)
    terminal_with(terminal, shared_kernel)
    terminal.run("%kernel_start --name own")
    assert terminal.run("%remote own print('the' + 're')") == "there"
    assert terminal.run(UNLOAD) == ""
    threads = "sorted(t.name for t in __import__('threading').enumerate() if 'kernel_m' in t.name)"
    assert terminal.run(threads).endswith(": []")
    assert terminal.run("__import__('psutil').Process().children()").endswith(": []")
    assert "not found" in terminal.run("%remote k 1")
    terminal_with(terminal, shared_kernel)
    assert terminal.run("%remote k print('the' + 're')") == "there"


def test_importing_the_package_is_quick_and_brings_no_ipython(sandbox: Sandbox) -> None:
    code = "import sys, kernel_magics; print(*{'IPython', 'zmq', 'ipykernel'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=sandbox.environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == ""


@pytest.mark.full
def test_the_end_of_the_session_leaves_nothing(
    sandbox: Sandbox, kernel_host: Callable[..., KernelHost], tmp_path: Path
) -> None:
    # The leak guard looks afterwards: processes, sockets' folder, connection file.
    host = kernel_host()
    host.run(LOAD).ok()
    host.run("%kernel_start").ok()
    assert len(list(sandbox.runtime.iterdir())) == 2
    host.send("shutdown_request", {"restart": False}, channel="control")
    host.process.wait()
