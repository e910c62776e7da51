"""Kernels started by hand run, can be looked into, and can be hurt."""

from collections.abc import Callable

import pytest

from tests.support.connection import read_info
from tests.support.kernels import HandKernel, Kind, connected
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.full

Start = Callable[..., HandKernel]


@pytest.mark.parametrize("kind", ["tcp", "ipc", "curve", "floor"])
def test_each_kind_of_ipykernel_answers_from_outside(hand_kernel: Start, kind: Kind) -> None:
    kernel = hand_kernel(kind)
    assert kernel.value("6 * 7") == 42
    assert kernel.value("__import__('os').getpid()") == kernel.pid


def test_a_bash_kernel_answers_from_outside(hand_kernel: Start) -> None:
    kernel = hand_kernel("bash")
    kernel.ask("x=words")
    assert kernel.value('"some $x"') == "some words"


def test_the_kinds_are_what_they_say(hand_kernel: Start, sandbox: Sandbox) -> None:
    ipc, floor = hand_kernel("ipc"), hand_kernel("floor", name="old")
    assert ipc.info["transport"] == "ipc"
    assert len(f"{ipc.info['ip']}-5") < 60  # of 107 bytes
    assert floor.connection_file == sandbox.runtime / "kernel-old.json"
    assert floor.value("__import__('ipykernel').__version__").startswith("6.")


def test_a_connection_file_belongs_to_its_owner_only_and_holds_real_ports(
    shared_kernel: HandKernel,
) -> None:
    assert shared_kernel.connection_file.stat().st_mode & 0o777 == 0o600
    assert read_info(shared_kernel.connection_file) == shared_kernel.info


def test_an_encrypted_kernel_is_silent_towards_a_client_without_keys(hand_kernel: Start) -> None:
    kernel = hand_kernel("curve")
    keyless = {name: value for name, value in kernel.info.items() if "curve" not in name}
    with connected(keyless, "shell") as stranger:
        stranger.execute("1")
        assert kernel.value("1") == 1
        assert not stranger.shell_channel.msg_ready()


@pytest.mark.quick
def test_asking_leaves_no_trace_in_the_kernel(shared_kernel: HandKernel) -> None:
    before = shared_kernel.value("get_ipython().execution_count")
    shared_kernel.ask("secret = 1", more="secret")
    assert shared_kernel.value("get_ipython().execution_count") == before
    assert "secret" not in shared_kernel.value("str(In)")


def test_an_expression_that_fails_is_an_error_here(shared_kernel: HandKernel) -> None:
    with pytest.raises(RuntimeError, match="NameError"):
        shared_kernel.value("no_such_name")


@pytest.mark.parametrize("spin", [False, True])
def test_a_busy_kernel_is_busy_until_the_block_ends(hand_kernel: Start, spin: bool) -> None:
    kernel = hand_kernel("tcp")
    with kernel.busy(spin=spin), pytest.raises(TimeoutError):
        kernel.value("1", timeout=0.3)
    assert kernel.value("2") == 2


def test_a_busy_bash_is_busy_as_well(hand_kernel: Start) -> None:
    kernel = hand_kernel("bash")
    with kernel.busy(), pytest.raises(TimeoutError):
        kernel.ask("true", timeout=0.3)
    kernel.ask("true")


def test_an_interrupt_ends_what_keeps_a_kernel_busy(hand_kernel: Start) -> None:
    kernel = hand_kernel("tcp")
    with kernel.busy():
        kernel.interrupt()
        assert kernel.value("1") == 1


def test_a_killed_kernel_is_gone_and_leaves_its_file(hand_kernel: Start) -> None:
    kernel = hand_kernel("tcp")
    kernel.kill()
    assert not kernel.process.alive
    assert kernel.connection_file.exists()
    with pytest.raises(RuntimeError, match="has ended"):
        kernel.ask("1")


def test_a_kernel_killed_while_busy_does_not_hold_up_the_test(hand_kernel: Start) -> None:
    kernel = hand_kernel("tcp")
    with kernel.busy():
        kernel.kill()


def test_a_stopped_kernel_answers_again_when_it_goes_on(hand_kernel: Start) -> None:
    kernel = hand_kernel("tcp")
    with kernel.stopped(), pytest.raises(TimeoutError):
        kernel.value("1", timeout=0.3)
    assert kernel.value("1") == 1


@pytest.mark.parametrize("kind", ["tcp", "ipc"])
def test_a_restarted_kernel_is_another_process_behind_the_same_file(
    hand_kernel: Start, kind: Kind
) -> None:
    kernel = hand_kernel(kind)
    kernel.ask("x = 1")
    before, info = kernel.pid, kernel.info
    kernel.restart_behind_same_ports()
    assert (kernel.pid != before, kernel.info) == (True, info)
    assert kernel.value("'x' in globals()") is False


def test_a_kernel_that_cannot_start_says_why(sandbox: Sandbox) -> None:
    broken = sandbox.work / "ipykernel_launcher.py"
    broken.write_text("raise SystemExit('no kernel today')")
    with pytest.raises(RuntimeError, match="no kernel today"):
        HandKernel.start("tcp", sandbox, cwd=sandbox.work)
