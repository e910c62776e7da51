"""Questions at a prompt, and what runs beside a busy cell."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from kernel_magics.errors import KernelMagicsError, NoSubshell, ProtocolError
from kernel_magics.kernels import questions as questions_module
from kernel_magics.kernels import subshells as subshells_module
from kernel_magics.kernels.kernel import Kernel
from kernel_magics.kernels.life import KernelState
from kernel_magics.kernels.pool import KernelPool
from tests.support import steps
from tests.support.echo import KERNEL_INFO
from tests.support.fake import FakeKernel, Request
from tests.support.kernels import HandKernel, connected
from tests.support.waiting import wait_until

StartFake = Callable[..., FakeKernel]
StartHand = Callable[..., HandKernel]

PROMPT = 0.6
"""Seconds for which a prompt may wait."""

SLEEP = "import time\nfor _ in range(600): time.sleep(0.1)"
SPIN = "while True: pass"
HOLD = "sum(range(10**8))"
"""One call of C code that never lets go of the interpreter, for a second or two."""


@pytest.fixture
def hand(hand_kernel: StartHand) -> HandKernel:
    return hand_kernel()


@pytest.fixture
def kernel(pool: KernelPool, hand: HandKernel) -> Kernel:
    return pool.attach(hand.connection_file, "real")


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.perf_counter()
    answer = call()
    return time.perf_counter() - begun, answer


def completes(kernel: Kernel, code: str) -> bool:
    found = kernel.complete(code)
    return found is not None and bool(found.matches)


def warm(kernel: Kernel) -> None:
    """Have it load what its first completion needs."""
    wait_until(lambda: completes(kernel, "import os; os.pa"), what="it completes")


def busy(kernel: Kernel, code: str) -> None:
    """Have a cell of ours run there, certainly."""
    execution = kernel.submit(code)
    wait_until(lambda: execution.begun is not None, what="it runs")


def stop(kernel: Kernel) -> None:
    kernel.interrupt()
    wait_until(lambda: kernel.running is None, what="nothing runs there")


def subshells(hand: HandKernel) -> list[str]:
    """What the kernel itself says that it has, asked by another client."""
    with connected(hand.info, "control") as client:
        message = client.session.msg("list_subshell_request", {})
        client.control_channel.send(message)
        content = client.control_channel.get_msg(timeout=10)["content"]
        found: list[str] = content["subshell_id"]
        return found


# Questions.


def test_an_idle_kernel_answers_on_its_main_shell(kernel: Kernel, hand: HandKernel) -> None:
    warm(kernel)
    completion = kernel.complete("import os; os.pa + 1", 16, timeout=10)
    assert completion is not None
    assert "path" in completion.matches
    assert (completion.start, completion.end) == (14, 16)
    inspection = kernel.inspect("print(1)", 2, timeout=10)
    assert inspection is not None
    assert "sep" in inspection.data["text/plain"]
    completeness = kernel.is_complete("for i in x:", timeout=10)
    assert completeness is not None
    assert (completeness.status, completeness.indent) == ("incomplete", "    ")
    assert subshells(hand) == []


def test_a_busy_kernel_answers_by_one_spare_subshell(kernel: Kernel, hand: HandKernel) -> None:
    warm(kernel)
    kernel.run("only_there = 1")
    busy(kernel, SLEEP)
    wait_until(lambda: completes(kernel, "only_th"), what="the subshell has loaded what it needs")
    for _ in range(5):
        seconds, completion = timed(lambda: kernel.complete("only_th"))
        assert completion.matches == ["only_there"]
        assert seconds < PROMPT
    assert len(subshells(hand)) == 1
    assert kernel.state is KernelState.BUSY
    stop(kernel)
    kernel.detach()
    assert subshells(hand) == []


@pytest.mark.full
def test_a_kernel_that_was_busy_when_it_was_attached_answers_as_well(
    pool: KernelPool, hand: HandKernel
) -> None:
    hand.ask("only_there = 1")
    with hand.busy():
        kernel = pool.attach(hand.connection_file)
        wait_until(lambda: completes(kernel, "only_th"), what="a subshell answers")
        assert kernel.state is KernelState.BUSY


@pytest.mark.full
@pytest.mark.parametrize(
    "kind, code",
    [
        ("tcp", HOLD),
        ("floor", SLEEP),
        pytest.param("bash", "sleep 60", marks=pytest.mark.full),
    ],
)
def test_a_kernel_that_cannot_answer_costs_the_prompt_half_a_second_at_most(
    pool: KernelPool, hand_kernel: StartHand, kind: Any, code: str
) -> None:
    kernel = pool.attach(hand_kernel(kind).connection_file)
    busy(kernel, code)
    times = [timed(lambda: kernel.complete("ec"))[0] for _ in range(5)]
    assert max(times) < PROMPT
    stop(kernel)


def test_a_busy_kernel_without_subshells_is_asked_one_question_at_a_time(
    pool: KernelPool, fake_kernel: StartFake
) -> None:
    fake = fake_kernel({"execute_request": [steps.busy()], "complete_request": []})
    kernel = pool.attach(fake.connection_file)
    kernel.submit("1")
    fake.wait_for("execute_request")
    for _ in range(5):
        assert kernel.complete("x", timeout=0.05) is None
    assert [one.type for one in fake.requests].count("complete_request") == 1


def test_a_kernel_that_has_not_answered_for_long_is_not_waited_for(
    pool: KernelPool, fake_kernel: StartFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions_module, "STUCK_AFTER", 0.1)
    kernel = pool.attach(fake_kernel({"complete_request": []}).connection_file)
    assert kernel.complete("x", timeout=0.2) is None
    seconds, answer = timed(lambda: kernel.complete("x", timeout=5.0))
    assert answer is None
    assert seconds < 1.0


def test_the_newest_question_is_answered_once_the_shell_can(
    pool: KernelPool, fake_kernel: StartFake
) -> None:
    fake = fake_kernel({"complete_request": []})
    kernel = pool.attach(fake.connection_file)
    assert kernel.complete("first", timeout=0.05) is None
    late = fake.wait_for("complete_request")
    assert kernel.complete("second", timeout=0.05) is None
    fake.follow(None)
    fake.do(lambda fake: fake.answer(late))
    assert kernel.complete("third") is not None
    asked = [one.content["code"] for one in fake.requests if one.type == "complete_request"]
    assert asked == ["first", "third"]


def test_an_answer_that_came_too_late_is_there_when_tab_is_pressed_again(
    pool: KernelPool, fake_kernel: StartFake
) -> None:
    fake = fake_kernel({"complete_request": []})
    kernel = pool.attach(fake.connection_file)
    assert kernel.complete("same", timeout=0.05) is None
    assert kernel.complete("same", timeout=0.05) is None
    late = fake.wait_for("complete_request")
    fake.do(lambda fake: fake.answer(late))
    wait_until(lambda: kernel.complete("same", timeout=0.05), what="the late answer came")
    assert [one.type for one in fake.requests].count("complete_request") == 1


def test_a_late_answer_is_not_kept_beyond_the_next_cell(
    pool: KernelPool, fake_kernel: StartFake
) -> None:
    fake = fake_kernel({"complete_request": []})
    kernel = pool.attach(fake.connection_file)
    assert kernel.complete("same", timeout=0.05) is None
    late = fake.wait_for("complete_request")
    fake.do(lambda fake: fake.answer(late))
    kernel.run("1")
    assert kernel.complete("same", timeout=0.05) is None


@pytest.mark.full
def test_a_kernel_that_is_gone_has_nothing_to_say(kernel: Kernel, hand: HandKernel) -> None:
    hand.close()
    wait_until(lambda: not kernel.alive, what="it is dead")
    assert timed(lambda: kernel.complete("x"))[0] < PROMPT
    assert kernel.inspect("x") is None


def test_a_stopped_kernel_costs_the_prompt_half_a_second(
    pool: KernelPool, fake_kernel: StartFake
) -> None:
    fake = fake_kernel()
    kernel = pool.attach(fake.connection_file)
    with fake.frozen():
        seconds, answer = timed(lambda: kernel.complete("x"))
    assert answer is None
    assert seconds < PROMPT


def test_an_answer_that_is_nonsense_is_an_error(pool: KernelPool, fake_kernel: StartFake) -> None:
    lie = steps.reply(matches=["x"], cursor_start=0, cursor_end=99)
    kernel = pool.attach(fake_kernel({"complete_request": [lie]}).connection_file)
    with pytest.raises(ProtocolError):
        kernel.complete("x")


def claiming(**about: Any) -> list[steps.Step]:
    """What a kernel answers that says it has subshells."""
    content = KERNEL_INFO | {
        "implementation": "ipython",
        "supported_features": ["kernel subshells"],
    }
    content |= about
    return [steps.busy(), steps.reply(**content), steps.idle()]


def test_a_kernel_that_only_claims_to_have_subshells_is_given_up(
    pool: KernelPool, fake_kernel: StartFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subshells_module, "MAKING_PATIENCE", 0.2)
    fake = fake_kernel(
        {"kernel_info_request": claiming(), "execute_request": [], "create_subshell_request": []}
    )
    kernel = pool.attach(fake.connection_file)
    kernel.submit("1")
    fake.wait_for("execute_request")
    assert kernel.complete("x") is None
    kernel.complete("x")
    asked = [one.type for one in fake.requests]
    assert asked.count("create_subshell_request") == 1
    assert asked[-1] == "complete_request"  # as of any other kernel


@pytest.mark.full
def test_a_kernel_built_on_the_base_of_ipykernel_is_not_believed(
    pool: KernelPool, hand_kernel: StartHand
) -> None:
    kernel = pool.attach(hand_kernel("bash").connection_file)
    wait_until(lambda: kernel.kernel_info, what="it has answered")
    assert "kernel subshells" in kernel.kernel_info["supported_features"]
    with pytest.raises(NoSubshell, match="runs one cell at a time"):
        kernel.run("echo beside", subshell=True)


# Cells.


def test_a_cell_in_a_subshell_runs_beside_a_busy_one(kernel: Kernel, hand: HandKernel) -> None:
    busy(kernel, SLEEP)
    result = kernel.run("import threading; print(threading.current_thread().name)", subshell=True)
    assert "subshell" in result.stdout
    assert kernel.run("6 * 7", subshell=True).status == "ok"
    assert len(subshells(hand)) == 1
    assert kernel.running is not None
    assert kernel.running.code == SLEEP
    assert kernel.state is KernelState.BUSY
    stop(kernel)
    kernel.detach()
    assert subshells(hand) == []


def test_two_cells_in_subshells_run_side_by_side(kernel: Kernel, hand: HandKernel) -> None:
    first = kernel.submit(
        "import threading; door = threading.Event(); door.wait(30)", subshell=True
    )
    wait_until(lambda: first.begun is not None, what="the first runs")
    kernel.run("door.set()", subshell=True)
    assert first.wait().status == "ok"
    assert len(subshells(hand)) == 2


def test_a_cell_may_name_its_subshell(kernel: Kernel) -> None:
    reply = kernel.request("control", "create_subshell_request", timeout=5)
    assert reply is not None
    result = kernel.run("print('there')", subshell=reply.content["subshell_id"])
    assert result.stdout == "there\n"


@pytest.mark.full
def test_a_cell_in_a_subshell_is_not_interrupted_and_neither_is_another(kernel: Kernel) -> None:
    busy(kernel, SLEEP)
    cell = kernel.submit("import time; time.sleep(1); print('through')", subshell=True)
    wait_until(lambda: cell.begun is not None, what="it runs")
    cell.interrupt()
    shown: list[Any] = []
    assert cell.wait(show=shown.append).status == "ok"
    assert any("cannot be interrupted" in one for one in shown if isinstance(one, str))
    assert kernel.running is not None
    assert kernel.running.code == SLEEP
    stop(kernel)


def test_a_subshell_that_runs_something_is_not_deleted(kernel: Kernel, hand: HandKernel) -> None:
    """ipykernel would wait for its end, on the thread that hands out all cells."""
    cell = kernel.submit("import threading; door = threading.Event(); door.wait(30)", subshell=True)
    wait_until(lambda: cell.begun is not None, what="it runs")
    kernel.detach()
    assert len(subshells(hand)) == 1
    hand.ask("door.set()")


@pytest.mark.parametrize("answer", [[], [steps.reply("error")], [steps.reply(subshell_id=5)]])
def test_a_kernel_that_makes_no_subshell_gets_a_sentence(
    pool: KernelPool,
    fake_kernel: StartFake,
    answer: list[steps.Step],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(subshells_module, "MAKING_PATIENCE", 0.3)
    script = {"kernel_info_request": claiming(), "create_subshell_request": answer}
    fake = fake_kernel(script)
    kernel = pool.attach(fake.connection_file, "liar")
    with pytest.raises(NoSubshell, match="liar did not run this cell"):
        kernel.run("1", subshell=True)
    assert "execute_request" not in [one.type for one in fake.requests]


def test_a_subshell_that_was_made_but_does_not_answer_gets_no_cell(
    pool: KernelPool, fake_kernel: StartFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subshells_module, "MAKING_PATIENCE", 0.3)

    def script(fake: FakeKernel, request: Request) -> None:
        if request.type == "create_subshell_request":
            fake.play([steps.reply(subshell_id="s-1")], request)
        elif request.message.header.get("subshell_id") is None:
            about = claiming() if request.type == "kernel_info_request" else [steps.answered()]
            fake.play(about, request)

    kernel = pool.attach(fake_kernel(script).connection_file)
    with pytest.raises(NoSubshell, match="did not answer within"):
        kernel.run("1", subshell=True)


@pytest.mark.full
def test_after_a_restart_the_old_subshells_are_forgotten(pool: KernelPool) -> None:
    kernel = pool.start()
    assert kernel.run("1", subshell=True).status == "ok"
    kernel.restart()
    assert kernel.run("1", subshell=True).status == "ok"


@pytest.mark.full
def test_a_death_ends_a_cell_in_a_subshell(kernel: Kernel, hand: HandKernel) -> None:
    cell = kernel.submit("import time; time.sleep(60)", subshell=True)
    wait_until(lambda: cell.begun is not None, what="it runs")
    hand.close()
    with pytest.raises(KernelMagicsError, match="died"):
        cell.wait()
