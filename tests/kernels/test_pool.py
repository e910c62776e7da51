"""The kernels we hold, by name: attached, found again, let go of."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kernel_magics.connect.info import ConnectionInfo
from kernel_magics.errors import (
    AmbiguousKernel,
    AuthenticationError,
    BadName,
    Closed,
    ConnectionFileError,
    KernelDetached,
    KernelMagicsError,
    KernelNotFound,
    KernelUnreachable,
)
from kernel_magics.kernels.kernel import Kernel
from kernel_magics.kernels.life import KernelState
from kernel_magics.kernels.pool import KernelPool
from tests.support import parts
from tests.support.connection import write_info
from tests.support.fake import FakeKernel
from tests.support.kernels import HandKernel, Kind
from tests.support.sandbox import Sandbox
from tests.support.tiers import full
from tests.support.waiting import PATIENCE, wait_until

StartFake = Callable[..., FakeKernel]
StartHand = Callable[..., HandKernel]

ATTACHED_WITHIN = 0.5
"""Seconds; some 10 ms on a machine with nothing else to do."""

AT_ONCE = 1.0


@pytest.fixture(scope="module", params=["tcp", "ipc", "curve", "floor", *full("bash")])
def real_kernel(request: pytest.FixtureRequest, shared_sandbox: Sandbox) -> Generator[HandKernel]:
    """A kernel of each kind, for tests that do it no harm."""
    kind: Kind = request.param
    if kind in parts.PARTS:
        parts.require(kind)
    with HandKernel.start(kind, shared_sandbox) as kernel:
        kernel.ask("true" if kind == "bash" else "1")  # it has finished starting
        yield kernel


def hello(kernel: Kernel) -> str:
    """What a first cell prints."""
    return kernel.run("echo hello" if kernel.language == "bash" else "print('hello')").stdout


# Attaching.


def test_an_idle_kernel_of_any_kind_is_attached_and_runs_cells(
    pool: KernelPool, real_kernel: HandKernel
) -> None:
    began = time.monotonic()
    kernel = pool.attach(real_kernel.connection_file)
    took = time.monotonic() - began
    assert hello(kernel) == "hello\n"
    assert took < ATTACHED_WITHIN


@pytest.mark.parametrize("spin", [True, False], ids=["computing", "sleeping"])
def test_a_busy_kernel_of_any_kind_is_attached_and_runs_cells_when_it_is_free(
    pool: KernelPool, real_kernel: HandKernel, spin: bool
) -> None:
    with real_kernel.busy(spin=spin):
        began = time.monotonic()
        kernel = pool.attach(real_kernel.connection_file)
        took = time.monotonic() - began
        assert kernel.state is KernelState.BUSY
        code = "echo hello" if kernel.language == "bash" else "print('hello')"
        execution = kernel.submit(code)
        assert not execution.done
    assert execution.wait().stdout == "hello\n"
    assert took < ATTACHED_WITHIN


@pytest.mark.full
@pytest.mark.parametrize("times", [50, pytest.param(500, marks=pytest.mark.full)])
def test_attaching_and_detaching_again_and_again_is_quick_and_does_the_kernel_no_harm(
    pool: KernelPool, hand_kernel: StartHand, times: int
) -> None:
    # A welcome goes to the first subscriber of a topic only, and a lost message costs a repeat.
    # Setting ZMQ_SNDHWM there, while a subscriber goes, ends the process (libzmq 4.3.5, its #4524).
    hand = hand_kernel("tcp")
    took = []
    for _ in range(times):
        assert hand.process.alive
        began = time.monotonic()
        kernel = pool.attach(hand.connection_file)
        took.append(time.monotonic() - began)
        pool.detach(kernel.name)
    assert hand.value("1") == 1
    assert max(took) < ATTACHED_WITHIN, took


@pytest.mark.parametrize("kind", ["tcp", "ipc", "curve"])
def test_a_file_with_another_key_is_an_error_of_its_own(
    pool: KernelPool, fake_kernel: StartFake, sandbox: Sandbox, kind: Kind
) -> None:
    wrong = sandbox.work / "wrong.json"
    write_info(wrong, {**fake_kernel(transport=kind).info, "key": "s3cret"})
    began = time.monotonic()
    with pytest.raises(AuthenticationError, match="another key") as caught:
        pool.attach(wrong)
    assert time.monotonic() - began < AT_ONCE
    assert caught.value.kernel == "wrong"
    assert "s3cret" not in str(caught.value)
    assert len(pool) == 0


def test_nobody_there_is_an_error_at_once(pool: KernelPool, hand_kernel: StartHand) -> None:
    hand = hand_kernel("tcp")
    hand.kill()
    began = time.monotonic()
    with pytest.raises(KernelUnreachable, match="nothing listens there"):
        pool.attach(hand.connection_file)
    assert time.monotonic() - began < AT_ONCE
    assert len(pool) == 0


@pytest.mark.full
def test_a_kernel_that_is_stopped_is_an_error_when_patience_ends(
    pool: KernelPool, hand_kernel: StartHand
) -> None:
    hand = hand_kernel("tcp")
    with hand.stopped(), pytest.raises(KernelUnreachable, match="did not answer"):
        pool.attach(hand.connection_file)
    assert hello(pool.attach(hand.connection_file)) == "hello\n"


def test_after_a_failed_attach_the_name_is_free(
    pool: KernelPool, fake_kernel: StartFake, sandbox: Sandbox
) -> None:
    fake, wrong = fake_kernel(), sandbox.work / "wrong.json"
    write_info(wrong, {**fake.info, "key": "other"})
    with pytest.raises(AuthenticationError):
        pool.attach(wrong, "gpu")
    assert pool.attach(fake.connection_file, "gpu").name == "gpu"


@pytest.mark.parametrize("by", ["path", "fragment"])
def test_the_kernel_a_cell_runs_in_is_refused(
    shared_kernel: HandKernel, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(shared_kernel.connection_file.parent))
    own = ConnectionInfo.from_file(shared_kernel.connection_file)
    pool = KernelPool(lambda: own)
    what = str(shared_kernel.connection_file) if by == "path" else shared_kernel.name[:13]
    with pytest.raises(KernelMagicsError, match="wait for itself"):
        pool.attach(what)
    assert len(pool) == 0


def test_a_broken_file_of_ones_own_is_no_reason_not_to_attach_another(
    fake_kernel: StartFake,
) -> None:
    def own() -> ConnectionInfo:
        raise ConnectionFileError("own.json", "is empty")

    pool = KernelPool(own)
    assert pool.attach(fake_kernel().connection_file).alive
    pool.close()


def test_an_attached_kernel_is_not_attached_twice(
    pool: KernelPool, shared_kernel: HandKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(shared_kernel.connection_file.parent))
    first = pool.attach(shared_kernel.connection_file)
    again = [str(shared_kernel.connection_file), shared_kernel.name, shared_kernel.name[:13]]
    assert [pool.attach(what) for what in again] == [first] * 3
    assert pool.attach(shared_kernel.connection_file, "other") is first
    assert pool.names == [f"kernel-{shared_kernel.name}"]


def test_threads_that_attach_one_kernel_together_get_the_same(
    pool: KernelPool, shared_kernel: HandKernel
) -> None:
    with ThreadPoolExecutor(8) as threads:
        kernels = list(threads.map(pool.attach, [shared_kernel.connection_file] * 8))
    assert len(set(kernels)) == 1
    assert len(pool) == 1


def test_kernels_are_attached_side_by_side(pool: KernelPool, fake_kernel: StartFake) -> None:
    fakes = [fake_kernel() for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        kernels = list(threads.map(pool.attach, [each.connection_file for each in fakes]))
    assert len(set(kernels)) == len(pool) == 8
    assert all(kernel.run("").status == "ok" for kernel in kernels)


# Names.


def test_a_kernel_is_called_as_asked_or_as_its_file(
    pool: KernelPool, fake_kernel: StartFake
) -> None:
    first, second = fake_kernel(), fake_kernel()
    assert pool.attach(first.connection_file, "gpu").name == "gpu"
    assert pool.attach(second.connection_file).name == second.connection_file.stem


def test_a_second_of_a_name_gets_a_number(pool: KernelPool, fake_kernel: StartFake) -> None:
    names = [pool.attach(fake_kernel().connection_file, "gpu").name for _ in range(3)]
    assert names == ["gpu", "gpu-2", "gpu-3"] == pool.names


def test_a_name_that_became_free_is_used_again(pool: KernelPool, fake_kernel: StartFake) -> None:
    for _ in range(2):
        pool.attach(fake_kernel().connection_file, "gpu")
    pool.detach("gpu")
    assert pool.attach(fake_kernel().connection_file, "gpu").name == "gpu"


@pytest.mark.parametrize("name", ["all", "local", "off"])
def test_reserved_names_are_refused(pool: KernelPool, fake_kernel: StartFake, name: str) -> None:
    with pytest.raises(BadName, match="reserved"):
        pool.attach(fake_kernel().connection_file, name)
    assert len(pool) == 0


@pytest.mark.parametrize("name", ["a b", "a/b", "a,b", "*", "ä", "a\n", "-t x", "$x", "{x}"])
def test_names_that_could_not_be_typed_are_refused(
    pool: KernelPool, fake_kernel: StartFake, name: str
) -> None:
    with pytest.raises(BadName):
        pool.attach(fake_kernel().connection_file, name)
    assert len(pool) == 0


@pytest.mark.parametrize("name", ["a", "GPU-1", "x_y.z", "2"])
def test_letters_digits_and_three_signs_make_a_name(
    pool: KernelPool, fake_kernel: StartFake, name: str
) -> None:
    assert pool.attach(fake_kernel().connection_file, name).name == name


# Fragments.


@pytest.fixture
def fakes(fake_kernel: StartFake, runtime_dir: Path) -> Callable[..., FakeKernel]:
    """Start fake kernels whose files have the names we want."""

    def start(name: str) -> FakeKernel:
        fake = fake_kernel()
        fake.connection_file = fake.connection_file.rename(runtime_dir / f"{name}.json")
        return fake

    return start


Fakes = Callable[..., FakeKernel]


@pytest.mark.parametrize(
    "fragment", ["kernel-abcd-1", "kernel-abcd-1.json", "abcd-1", "abcd", "l-ab", "*bcd*", "k?r*1"]
)
def test_a_fragment_that_one_live_kernel_has_is_enough(
    pool: KernelPool, fakes: Fakes, fragment: str
) -> None:
    fakes("kernel-abcd-1")
    fakes("kernel-other")
    assert pool.attach(fragment).name == "kernel-abcd-1"


def test_the_exact_id_counts_more_than_a_fragment(pool: KernelPool, fakes: Fakes) -> None:
    fakes("kernel-abcd")
    fakes("kernel-abcd-2")
    assert pool.attach("abcd").name == "kernel-abcd"


def test_a_fragment_of_several_kernels_is_an_error_that_lists_them(
    pool: KernelPool, fakes: Fakes
) -> None:
    fakes("kernel-abcd-1")
    fakes("kernel-abcd-2")
    with pytest.raises(AmbiguousKernel, match="kernel-abcd-1, kernel-abcd-2"):
        pool.attach("abcd")
    assert len(pool) == 0


def test_a_fragment_does_not_match_the_dead(pool: KernelPool, fakes: Fakes) -> None:
    dead, alive = fakes("kernel-abcd-1"), fakes("kernel-abcd-2")
    info = dead.info
    dead.close()
    write_info(dead.connection_file, info)
    assert pool.attach("abcd").name == alive.connection_file.stem
    dead.connection_file.unlink()


def test_a_fragment_of_dead_kernels_only_says_so(pool: KernelPool, fakes: Fakes) -> None:
    dead = fakes("kernel-abcd-1")
    info = dead.info
    dead.close()
    write_info(dead.connection_file, info)
    with pytest.raises(KernelNotFound, match="no kernel listens"):
        pool.attach("abcd")
    dead.connection_file.unlink()


@pytest.mark.parametrize("fragment", ["", "a", "abc"])
def test_a_fragment_that_is_too_short_says_so(
    pool: KernelPool, fakes: Fakes, fragment: str
) -> None:
    fakes("kernel-abcd-1")
    with pytest.raises(KernelNotFound, match="needs 4 characters"):
        pool.attach(fragment)


def test_a_fragment_that_nobody_has_says_where_was_searched(
    pool: KernelPool, runtime_dir: Path
) -> None:
    with pytest.raises(KernelNotFound, match=str(runtime_dir)):
        pool.attach("nobody")


# Finding again.


def test_a_kernel_is_found_by_its_name_and_by_what_it_was_attached_with(
    pool: KernelPool, fakes: Fakes
) -> None:
    fakes("kernel-abcd-1")
    kernel = pool.attach("abcd", "gpu")
    assert pool["gpu"] is pool["abcd"] is kernel
    assert ("gpu" in pool, "abcd" in pool, len(pool), list(pool)) == (True, False, 1, [kernel])


def test_a_name_that_nobody_has_is_an_error_that_lists_the_names(
    pool: KernelPool, fake_kernel: StartFake
) -> None:
    for name in ("gpu", "cpu"):
        pool.attach(fake_kernel().connection_file, name)
    with pytest.raises(KernelNotFound, match="gpu, cpu") as caught:
        pool["tpu"]
    assert caught.value.wanted == "tpu"


def test_the_last_kernel_is_the_one_that_was_named_last(
    pool: KernelPool, fake_kernel: StartFake
) -> None:
    seen = [pool.last]
    first, second = (pool.attach(fake_kernel().connection_file, name) for name in "ab")
    seen += [pool.last]
    assert pool["a"] is first
    seen += [pool.last]
    pool.detach("a")
    seen += [pool.last]
    assert seen == [None, second, first, None]


def test_what_is_not_attached_is_attached_on_first_use_and_that_is_told(
    pool: KernelPool, fakes: Fakes
) -> None:
    fakes("kernel-abcd-1")
    kernel, new = pool.get_or_attach("abcd")
    assert new
    assert pool.get_or_attach("abcd") == (kernel, False)
    assert pool.get_or_attach("kernel-abcd-1") == (kernel, False)


@pytest.mark.full
def test_a_fragment_leads_to_the_kernel_that_lives_once_the_first_one_is_dead(
    pool: KernelPool, fakes: Fakes
) -> None:
    first = fakes("kernel-abcd-1")
    dead = pool.attach("abcd")
    first.close()
    wait_until(lambda: not dead.alive, what="dead")
    fakes("kernel-abcd-2")
    alive = pool.attach("abcd")
    assert alive.name == "kernel-abcd-2"
    assert pool["abcd"] is alive


# Letting go.


def test_a_detached_kernel_runs_on_and_its_name_is_gone(
    pool: KernelPool, shared_kernel: HandKernel
) -> None:
    kernel = pool.attach(shared_kernel.connection_file, "gpu")
    assert pool.detach("gpu") is kernel
    assert shared_kernel.value("1") == 1
    for name in ("gpu", str(shared_kernel.connection_file)):
        with pytest.raises(KernelNotFound):
            pool[name]


@pytest.mark.parametrize("verb", ["detach", "shutdown"])
def test_letting_go_of_what_is_not_attached_is_an_error(pool: KernelPool, verb: str) -> None:
    with pytest.raises(KernelNotFound):
        getattr(pool, verb)("nobody")


def test_a_shut_down_kernel_has_ended_and_its_name_is_gone(
    pool: KernelPool, hand_kernel: StartHand
) -> None:
    hand = hand_kernel("tcp")
    pool.attach(hand.connection_file, "gpu")
    kernel, ended = pool.shutdown("gpu")
    assert (kernel.name, ended, "gpu" in pool) == ("gpu", True, False)
    wait_until(lambda: not hand.process.alive, what="the process has ended")


def test_a_pool_that_was_never_used_costs_nothing_and_closes() -> None:
    pool = KernelPool()
    pool.close()
    pool.close()


def test_a_closed_pool_holds_nothing_and_can_be_used_again(
    pool: KernelPool, shared_kernel: HandKernel
) -> None:
    before = pool.attach(shared_kernel.connection_file, "gpu")
    pool.close()
    pool.close()
    assert (pool.names, pool.last, before.state) == ([], None, KernelState.DETACHED)
    after = pool.attach(shared_kernel.connection_file, "gpu")
    assert after.run("print('again')").stdout == "again\n"
    with pytest.raises((KernelDetached, Closed)):
        before.run("1")


# Processes.

FORK = """
import os, sys
from kernel_magics.errors import Closed
from kernel_magics.kernels.pool import KernelPool

pool = KernelPool()
kernel = pool.attach(sys.argv[1], "gpu")
child = os.fork()
if child == 0:
    for use in (lambda: kernel.run("1"), lambda: kernel.interrupt(), lambda: kernel.answer("x")):
        try:
            use()
        except Closed:
            print("refused", flush=True)
    sys.exit(0)  # with all exit hooks
_, status = os.waitpid(child, 0)
print("child ended with", os.waitstatus_to_exitcode(status))
print(kernel.run("print('the parent goes on')").stdout, end="")
pool.close()
"""


def run_script(sandbox: Sandbox, script: str, *args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, *map(str, args)],
        env=sandbox.environment(),
        cwd=sandbox.work,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_a_forked_child_is_refused_and_ends_quietly_and_the_parent_goes_on(
    sandbox: Sandbox, shared_kernel: HandKernel
) -> None:
    ran = run_script(sandbox, FORK, shared_kernel.connection_file)
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == [
        *["refused"] * 3,
        "child ended with 0",
        "the parent goes on",
    ]


FORK_IN_BLOCK = """
import os, sys
from kernel_magics.kernels.pool import KernelPool

with KernelPool().start() as kernel:
    child = os.fork()
    if child == 0:
        sys.exit(0)  # leaves the block
    _, status = os.waitpid(child, 0)
    print("child ended with", os.waitstatus_to_exitcode(status))
    print(kernel.run("print('the kernel goes on')").stdout, end="")
"""


@pytest.mark.full
def test_a_forked_child_that_leaves_the_block_of_a_kernel_does_not_end_it(sandbox: Sandbox) -> None:
    ran = run_script(sandbox, FORK_IN_BLOCK)
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == ["child ended with 0", "the kernel goes on"]


FORK_AND_ATTACH = """
import os, sys
from kernel_magics.kernels.pool import KernelPool

pool = KernelPool()
pool.attach(sys.argv[1], "gpu")
child = os.fork()
if child == 0:
    mine = KernelPool()
    print(mine.attach(sys.argv[1], "gpu").run("print('attached again')").stdout, end="", flush=True)
    mine.close()
    sys.exit(0)
_, status = os.waitpid(child, 0)
print("child ended with", os.waitstatus_to_exitcode(status))
pool.close()
"""


def test_a_forked_child_may_attach_kernels_of_its_own(
    sandbox: Sandbox, shared_kernel: HandKernel
) -> None:
    ran = run_script(sandbox, FORK_AND_ATTACH, shared_kernel.connection_file)
    assert ran.stdout.splitlines() == ["attached again", "child ended with 0"], ran.stderr


EXIT = """
import sys
from kernel_magics.kernels.pool import KernelPool

kernel = KernelPool().attach(sys.argv[1])
kernel.submit("import time; time.sleep(0.01)")
print("attached")
"""


def test_a_process_that_ends_without_closing_ends_quietly(
    sandbox: Sandbox, shared_kernel: HandKernel
) -> None:
    ran = run_script(sandbox, EXIT, shared_kernel.connection_file)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "attached\n", "")


LIMITED = """
import json, resource, sys
from kernel_magics.errors import KernelMagicsError
from kernel_magics.kernels.pool import KernelPool

soft, hard, file = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
pool = KernelPool()
pool.attach(file).close()  # all modules are loaded
pool.close()
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
try:
    status = pool.attach(file).run("1").status
except KernelMagicsError as error:
    status = str(error)
print(json.dumps([status, resource.getrlimit(resource.RLIMIT_NOFILE)[0]]))
pool.close()
"""


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc")
@pytest.mark.parametrize(
    "soft, hard, attached, raised",
    [(64, 64, True, False), (30, 64, True, True), (30, 30, False, False)],
    ids=["enough", "raised on need", "no room"],
)
def test_descriptors_are_looked_at_before_one_more_kernel_is_attached(
    sandbox: Sandbox,
    shared_kernel: HandKernel,
    soft: int,
    hard: int,
    attached: bool,
    raised: bool,
) -> None:
    # Out of them, libzmq would end the whole process.
    ran = run_script(sandbox, LIMITED, soft, hard, shared_kernel.connection_file)
    assert ran.returncode == 0, ran.stderr
    status, limit = json.loads(ran.stdout)
    assert (status == "ok") is attached
    assert "no room" in status or attached
    assert (limit > soft) is raised
