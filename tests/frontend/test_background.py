"""Cells that run in the background: outputs in their place, a line that says how they are doing."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import frontend
from tests.frontend import Desk, plain, remotely, terminal_with
from tests.support import steps
from tests.support.hosts import CellRun, TerminalHost
from tests.support.kernels import HandKernel
from tests.support.sandbox import Sandbox

desk, lasting_desk = frontend.desk, frontend.lasting_desk_newest_first
new_desk = frontend.new_desk

WAIT = "import pathlib, time\nwhile not pathlib.Path({!r}).exists(): time.sleep(0.01)\n"


def status(run: CellRun) -> str:
    """What a background cell's line says by now; one display, changed in place."""
    shown = [
        content
        for output in run.outputs
        if (content := output.content).get("transient", {}).get("display_id", "").startswith("km-")
    ]
    first, *later = [output.msg_type for output in run.outputs if output.content in shown]
    assert first == "display_data"
    assert set(later) <= {"update_display_data"}
    assert len({content["transient"]["display_id"] for content in shown}) == 1
    return str(shown[-1]["data"]["text/plain"])


def wait_status(desk: Desk, run: CellRun, pattern: str) -> str:
    """Wait until the line matches; kernels may be busy meanwhile."""
    desk.host.wait_for(
        lambda: re.search(pattern, status(run)), what=lambda: f"{pattern}: {status(run)}\n{run}"
    )
    return status(run)


def gate(desk: Desk) -> Path:
    """A file that does not exist yet, for :data:`WAIT`."""
    return desk.sandbox.work / f"gate-{len(list(desk.sandbox.work.iterdir()))}"


def test_it_returns_at_once_and_its_outputs_land_in_its_cell(desk: Desk) -> None:
    goes_on = gate(desk)
    run = desk.remote(
        f"print('before', flush=True)\n{WAIT.format(str(goes_on))}print('after')\n6*7", "--bg"
    )
    run.ok()
    assert "running for" in wait_status(desk, run, "running")
    other = desk.run("print('another cell')").ok()
    goes_on.touch()
    wait_status(desk, run, r"^● \[k\] job \d+: done in \d+\.\d s$")
    assert (run.stdout, run.result) == ("before\nafter\n", "42")
    assert other.stdout == "another cell\n"


def test_a_failure_is_shown_there_and_fails_nobody_else(desk: Desk) -> None:
    run = desk.remote("1 / 0", "--bg").ok()
    wait_status(desk, run, r"^✕ \[k\] job \d+: failed after .*ZeroDivisionError: division by zero")
    (error,) = run.of_type("error")
    assert plain(error["traceback"][0]) == "[k]"
    assert desk.remote("'still here'").ok().result == "'still here'"


def test_cells_run_in_their_order_and_show_their_place(desk: Desk) -> None:
    goes_on = gate(desk)
    desk.remote("seen = []").ok()
    first = desk.remote(WAIT.format(str(goes_on)) + "seen.append(1)", "--bg").ok()
    second = desk.remote("seen.append(2)", "-a").ok()
    third = desk.remote("seen.append(3)", "--noblock").ok()
    # The I/O thread says so, which may be after the cell has returned.
    wait_status(desk, second, "queued, 1 before it")
    wait_status(desk, third, "queued, 2 before it")
    last = desk.start("seen")
    desk.host.wait_for(lambda: "waits for 3 cells before this one" in last.stderr)
    goes_on.touch()
    assert last.wait().ok().result == "[1, 2, 3]"
    for run in (first, second, third):
        wait_status(desk, run, "done in")


def test_an_error_aborts_what_waits_behind_it_but_what_keeps_going(desk: Desk) -> None:
    goes_on = gate(desk)
    failing = desk.remote(WAIT.format(str(goes_on)) + "1 / 0", "--bg").ok()
    behind = desk.remote("print('never')", "--bg").ok()
    keen = desk.remote("print('all the same')", "--bg", "--keep-going").ok()
    waiting = desk.start("print('never either')")
    desk.host.wait_for(lambda: "waits for 3 cells" in waiting.stderr)
    goes_on.touch()
    wait_status(desk, failing, "failed after")
    assert "one that came before it failed" in wait_status(desk, behind, "aborted")
    wait_status(desk, keen, "done in")
    assert (behind.stdout, keen.stdout) == ("", "all the same\n")
    assert (waiting.wait().status, waiting.reply["ename"]) == ("error", "Aborted")


@pytest.mark.full
def test_ctrl_c_takes_back_what_waits_and_leaves_what_runs(desk: Desk) -> None:
    goes_on = gate(desk)
    running = desk.remote(WAIT.format(str(goes_on)), "--bg").ok()
    waiting = desk.start("print('never')")
    desk.host.wait_for(lambda: "Ctrl-C takes it back" in waiting.stderr)
    desk.host.interrupt()
    assert waiting.wait().reply["ename"] == "Aborted"
    assert "running for" in status(running)
    goes_on.touch()
    wait_status(desk, running, "done in")


def test_a_saved_one_is_asked_waited_for_interrupted_and_awaited(desk: Desk) -> None:
    goes_on = gate(desk)
    code = f"print('one')\ndisplay('two')\n{WAIT.format(str(goes_on))}6 * 7"
    desk.remote(code, "--bg", "--save", "job").ok()
    assert desk.value("job.done, job.state") == (False, "running")
    late = desk.run("job.result(0.05)")
    assert late.reply["ename"] == "TimeoutError"
    goes_on.touch()
    assert desk.value("(await job).status, job.done, job.result().status") == ("ok", True, "ok")
    outputs = desk.value("job.outputs")
    assert [one["output_type"] for one in outputs] == ["stream", "display_data", "execute_result"]
    assert outputs[0]["text"] == "one\n"
    assert outputs[2]["data"]["text/plain"] == "42"

    stuck = desk.remote("import time; time.sleep(600)", "--bg", "--save", "stuck")
    wait_status(desk, stuck, "running")
    desk.run("import time\nwhile not stuck._execution.begun: time.sleep(0.01)\nstuck.interrupt()")
    assert "KeyboardInterrupt" in wait_status(desk, stuck, "failed after")
    assert desk.run("stuck.result()").reply["ename"] == "KeyboardInterrupt"


def test_a_cell_that_is_waited_for_can_be_saved_as_well(desk: Desk) -> None:
    assert desk.remote("print('x'); 5", "--save", "kept").ok().result == "5"
    assert desk.value("kept.done, kept.state, len(kept.outputs)") == (True, "done", 2)
    assert desk.remote("1 / 0", "--save", "bad").status == "error"
    assert desk.value("bad.state, [o['output_type'] for o in bad.outputs]") == ("failed", ["error"])


def test_a_saved_cell_that_was_given_up_goes_on_and_can_be_stopped(desk: Desk) -> None:
    run = desk.remote("import time; time.sleep(600)", "--timeout", "0.5", "--save", "left")
    assert run.reply["ename"] == "ExecutionTimeout"
    assert desk.value("left.done, left.state") == (False, "running")
    desk.run("left.interrupt()").ok()
    assert desk.run("left.result(10)").reply["ename"] == "KeyboardInterrupt"


def test_outputs_can_be_shown_again(desk: Desk) -> None:
    first = desk.remote("print('shown'); display({'text/html': '<b>x</b>'}, raw=True); 7", "--bg")
    wait_status(desk, first, "done in")
    again = desk.run("job = %remote_result --wait").ok()
    assert again.stdout == "shown\n"
    assert again.of_type("display_data")[0]["data"] == {"text/html": "<b>x</b>"}
    number = desk.value("job.number")
    assert f"job {number}: done in" in again.stderr
    table = desk.run("%remote_jobs").ok().of_type("display_data")[0]["data"]["text/plain"]
    assert re.search(rf"● done in .* {number} +k +print\('shown'\)", table)
    assert desk.run("%remote_result 99999").reply["ename"] == "UsageError"
    assert "named by its number" in desk.run("%remote_result last").stderr


def test_nothing_is_shown_of_a_quiet_one_but_how_it_is_doing(desk: Desk) -> None:
    run = desk.remote("print('unseen'); 5", "--bg", "-q", "--save", "quiet").ok()
    wait_status(desk, run, "done in")
    assert (run.stdout, run.result) == ("", None)
    assert [one["output_type"] for one in desk.value("quiet.outputs")] == [
        "stream",
        "execute_result",
    ]


@pytest.mark.parametrize(
    "options, said",
    [
        (
            ("--bg", "--timeout", "3", "--save", "unborn"),
            "--timeout is for a cell that is waited for",
        ),
        (("--bg", "-o", "x", "--save", "unborn"), "-o is for a cell that is waited for"),
        (("--save", "a-b"), "--save wants a name for a variable, not 'a-b'"),
    ],
)
def test_what_cannot_be_is_said(desk: Desk, options: tuple[str, ...], said: str) -> None:
    run = desk.remote("print('never')", *options)
    assert run.reply["ename"] == "UsageError"
    assert said in run.stderr
    assert run.stdout == ""
    assert desk.value("'unborn' in globals()") is False


def test_a_question_in_the_background_is_an_error_there(desk: Desk) -> None:
    run = desk.remote("input('who? ')", "--bg", allow_stdin=True).ok()
    wait_status(desk, run, "failed after .*StdinNotImplementedError")
    assert run.inputs == []


def test_a_prompt_that_comes_all_the_same_gets_an_end_of_input(desk: Desk) -> None:
    script = [steps.busy(), steps.ask_input("rude? ", steps.reply(), steps.idle())]
    with desk.fake(script):
        run = desk.remote("x", "--bg", kernel="fake").ok()
        wait_status(desk, run, "done in")


def test_a_death_ends_all_of_them(desk: Desk) -> None:
    with desk.owned() as own:
        running = desk.remote("import time; time.sleep(600)", "--bg", kernel=own).ok()
        behind = desk.remote("1", "--bg", kernel=own).ok()
        wait_status(desk, running, "running")
        desk.run(
            "import kernel_magics, os, signal\n"
            "os.kill(kernel_magics.pool['own'].pid, signal.SIGKILL)"
        )
        assert "may have run" in wait_status(desk, running, "failed after .*KernelDied")
        assert "may have run" not in wait_status(desk, behind, "failed after .*KernelDied")


@pytest.mark.full
def test_unloading_ends_them(new_desk: Callable[..., Desk]) -> None:
    desk = new_desk()
    run = desk.remote("import time; time.sleep(600)", "--bg").ok()
    wait_status(desk, run, "running")
    desk.run("%unload_ext kernel_magics").ok()
    assert "KernelDetached" in wait_status(desk, run, "failed")
    desk.kernel.interrupt()


def test_outputs_under_a_capture_stay_with_it_or_come_later(desk: Desk) -> None:
    run = desk.run(f"%%capture held\n{remotely('print(1)', '--bg', '--save', 'job')}").ok()
    assert desk.value("job.result().status") == "ok"
    assert run.of_type("error") == []


@pytest.mark.full
def test_two_hundred_on_three_kernels_end_in_order_and_none_is_lost(desk: Desk) -> None:
    with desk.owned(name="a"), desk.owned(name="b"), desk.owned(name="c"):
        for name in "abc":
            desk.remote("seen = []", kernel=name).ok()
        runs = [
            desk.remote(f"seen.append({i})\nprint({i})", "--bg", kernel="abc"[i % 3])
            for i in range(200)
        ]
        for run in runs:
            wait_status(desk, run, "done in")
        assert [run.stdout for run in runs] == [f"{i}\n" for i in range(200)]
        for place, name in enumerate("abc"):
            seen = json.loads(str(desk.remote("seen", kernel=name).ok().result))
            assert seen == list(range(place, 200, 3))


@pytest.mark.full
def test_a_terminal_is_not_written_over(sandbox: Sandbox) -> None:
    """The full prompt: what is printed meanwhile stands above it, whole, each line named."""
    goes_on = sandbox.work / "gate"
    code = f"import time\n{WAIT.format(str(goes_on))}\nprint('one\\ntwo', flush=True)\n6 * 7"
    with (
        HandKernel.start("tcp", sandbox) as kernel,
        TerminalHost(sandbox, mode="full") as terminal,
    ):
        terminal_with(terminal, kernel)
        begun = terminal.run(remotely(code, "--bg"))
        assert begun == "[k] job 1 begun (%remote_result 1 shows it)"
        terminal.press("half = 'typed")
        goes_on.touch()
        # The line that is being typed is erased first, and drawn anew below.
        terminal.expect(r"\x1b\[J[^\n]*\[k\] one\s*\n")
        for text in (r"\[k\] two", r"Out\[k\]: 42", r"\[k\] job 1: done in"):
            terminal.expect(text)
        terminal.press(" so far'; print(half)\r")
        terminal.expect(r"typed so far\r?\n")
