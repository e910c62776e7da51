"""One cell, as the one who started it holds it: its outputs, its prompts, its end."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kernel_magics.errors import (
    Abandoned,
    Aborted,
    ExecutionTimeout,
    KernelMagicsError,
    ProtocolError,
    RemoteError,
    ReplyLost,
)
from kernel_magics.kernels.execution import Execution
from kernel_magics.kernels.kernel import Kernel
from kernel_magics.kernels.pool import KernelPool
from kernel_magics.protocol import execution as protocol
from kernel_magics.protocol.message import Message
from tests.support import steps
from tests.support.fake import FakeKernel, Request, Script, Step
from tests.support.kernels import HandKernel
from tests.support.sandbox import Sandbox
from tests.support.waiting import PATIENCE, wait_until
from tests.wire import start_zero_copy

StartFake = Callable[..., FakeKernel]

PROMPTLY = 5.0
"""Seconds for what takes milliseconds, on a machine that may be very busy."""


@pytest.fixture(scope="module", autouse=True)
def zero_copy() -> None:
    start_zero_copy()


@pytest.fixture
def fake(pool: KernelPool, fake_kernel: StartFake) -> Callable[..., tuple[FakeKernel, Kernel]]:
    """Start a scripted kernel and attach it."""

    def start(cell: Sequence[Step], **options: Any) -> tuple[FakeKernel, Kernel]:
        # Cells follow the script, the package's own silent requests do not.
        fake = fake_kernel(for_cells(cell), **options)
        return fake, pool.attach(fake.connection_file, "fake")

    return start


def for_cells(*cells: Sequence[Step]) -> Step:
    """A script: the first cell follows the first steps, and so on; the last ones are repeated."""
    left = list(cells)

    def script(kernel: FakeKernel, request: Request) -> None:
        if request.type == "execute_request" and not request.content["silent"]:
            kernel.play(left.pop(0) if len(left) > 1 else left[0], request)
        else:
            kernel.answer(request)

    return script


Fake = Callable[..., tuple[FakeKernel, Kernel]]


def shown(outputs: Sequence[Message | str]) -> list[tuple[str, str]]:
    """Outputs as a type (of text: the stream's name) and the text that matters.

    Neighbouring pieces of one stream are one: where a kernel cuts its text is a matter of time.
    """
    pairs: list[tuple[str, str]] = []
    for each in outputs:
        if isinstance(each, Message):
            content = each.content
            kind = content["name"] if each.type == "stream" else each.type
            if each.type == "stream" and pairs and pairs[-1][0] == kind:
                pairs[-1] = (kind, pairs[-1][1] + content["text"])
            else:
                pairs.append((kind, _text(content)))
    return pairs


def _text(content: dict[str, Any]) -> str:
    if "data" in content:
        return str(content["data"].get("text/plain"))
    return str(content.get("text", content.get("ename", "")))


# Results.


def test_a_result_says_where_how_and_what(kernel: Kernel, shared_kernel: HandKernel) -> None:
    result = kernel.run("print('hi')\n6 * 7")
    assert (result.kernel, result.status) == ("real", "ok")
    assert shown(result.outputs) == [("stdout", "hi\n"), ("execute_result", "42")]
    assert result.execution_count == shared_kernel.value("get_ipython().execution_count") - 1
    assert (result.payload, result.user_expressions) == ([], {})
    assert 0 < result.seconds < PATIENCE


def test_stdout_and_stderr_are_the_texts_of_their_streams(kernel: Kernel) -> None:
    result = kernel.run(
        "import sys\n"
        "for number in range(3):\n"
        "    print('out', number, flush=True)\n"
        "    print('err', number, file=sys.stderr, flush=True)"
    )
    assert result.stdout == "out 0\nout 1\nout 2\n"
    assert result.stderr == "err 0\nerr 1\nerr 2\n"


def test_expressions_are_evaluated_after_the_cell(kernel: Kernel) -> None:
    result = kernel.run("mine = 20", user_expressions={"sum": "mine + 1", "no": "no_such_name"})
    assert result.user_expressions["sum"]["data"]["text/plain"] == "21"
    assert result.user_expressions["no"]["ename"] == "NameError"


def test_a_payload_is_handed_on(kernel: Kernel) -> None:
    result = kernel.run("get_ipython().set_next_input('the next cell')")
    [payload] = result.payload
    assert (payload["source"], payload["text"]) == ("set_next_input", "the next cell")


def test_a_silent_cell_is_not_counted(kernel: Kernel) -> None:
    before = kernel.run("").execution_count
    kernel.run("1", silent=True)
    assert kernel.run("").execution_count == before


@pytest.mark.parametrize("value", [None, 3, "x", [1], {"execution_count": "1"}], ids=repr)
def test_odd_replies_make_no_odd_results(fake: Fake, value: Any) -> None:
    said = {"execution_count": "1", "payload": value, "user_expressions": value}
    _, kernel = fake([steps.busy(), steps.reply(**said), steps.idle()])
    result = kernel.run("")
    assert result.execution_count is None
    assert isinstance(result.payload, list)
    assert isinstance(result.user_expressions, dict)


# Outputs.


MIXED = """
import sys
from IPython.display import clear_output, display, update_display
for number in range({number}):
    print("out", number, flush=True)
    display(number, display_id=f"d{{number}}")
    print("err", number, file=sys.stderr, flush=True)
    update_display(-number, display_id=f"d{{number}}")
    clear_output(wait=True)
"the value"
"""


def expected_of_mixed(number: int) -> list[tuple[str, str]]:
    expected: list[tuple[str, str]] = []
    for n in range(number):
        expected += [
            ("stdout", f"out {n}\n"),
            ("display_data", f"{n}"),
            ("stderr", f"err {n}\n"),
            ("update_display_data", f"{-n}"),
            ("clear_output", ""),
        ]
    return [*expected, ("execute_result", "'the value'")]


@pytest.mark.parametrize("number", [20, pytest.param(2000, marks=pytest.mark.full)])
def test_outputs_of_all_kinds_keep_their_order(kernel: Kernel, number: int) -> None:
    result = kernel.run(MIXED.format(number=number))
    assert shown(result.outputs) == expected_of_mixed(number)


def test_show_gets_the_outputs_on_the_waiting_thread_as_they_come(kernel: Kernel) -> None:
    got: list[tuple[Message | str, threading.Thread]] = []
    result = kernel.run(
        MIXED.format(number=5), show=lambda item: got.append((item, threading.current_thread()))
    )
    assert shown([item for item, _ in got]) == expected_of_mixed(5)
    assert {thread for _, thread in got} == {threading.current_thread()}
    assert result.outputs == []


class Keeper:
    """A sink that keeps what it gets, and the thread it got it on."""

    def __init__(self) -> None:
        self.got: list[Message | str] = []
        self.threads: set[threading.Thread] = set()
        self.execution: Execution | None = None
        self.finished = 0

    def output(self, message: Message) -> None:
        self.got.append(message)
        self.threads.add(threading.current_thread())

    def notice(self, text: str) -> None:
        self.got.append(text)

    def finish(self) -> None:
        assert self.execution is None or not self.execution.done
        self.finished += 1


def test_a_sink_gets_the_outputs_on_the_io_thread_and_is_finished_before_the_end(
    kernel: Kernel,
) -> None:
    sink = Keeper()
    execution = kernel.submit(MIXED.format(number=5), sink)
    sink.execution = execution
    result = execution.wait()
    assert shown(sink.got) == expected_of_mixed(5)
    assert [thread.name for thread in sink.threads] == ["kernel_magics I/O"]
    assert (sink.finished, result.outputs) == (1, [])


def test_a_sink_that_breaks_its_promise_does_not_keep_the_cell_from_ending(
    kernel: Kernel,
) -> None:
    class Broken(Keeper):
        def output(self, message: Message) -> None:
            raise RuntimeError("a mistake on purpose")

        def finish(self) -> None:
            raise RuntimeError("another one")

    assert kernel.run("print(1)", sink=Broken()).status == "ok"


def test_messages_that_are_no_output_are_not_shown(fake: Fake) -> None:
    _, kernel = fake(steps.cell(steps.publish("debug_event", {}), steps.stream("text")))
    assert shown(kernel.run("").outputs) == [("stdout", "text")]


def test_output_after_the_end_is_not_the_next_cells(kernel: Kernel, sandbox: Sandbox) -> None:
    go = sandbox.work / "go"
    said = sandbox.work / "said"
    kernel.run(
        "import pathlib, threading, time\n"
        "def speak():\n"
        f"    while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.005)\n"
        "    print('late', flush=True)\n"
        f"    pathlib.Path({str(said)!r}).touch()\n"
        "threading.Thread(target=speak).start()"
    )
    result = kernel.run(
        "import pathlib, time\n"
        f"pathlib.Path({str(go)!r}).touch()\n"
        f"while not pathlib.Path({str(said)!r}).exists(): time.sleep(0.005)\n"
        "print('mine')"
    )
    # ipykernel 6 itself gives a thread's output to the cell that runs, 7 to the one it came from.
    assert result.stdout.replace("late\n", "") == "mine\n"


@pytest.mark.parametrize("rounds", [10, pytest.param(100, marks=pytest.mark.full)])
def test_cells_of_eight_threads_on_one_kernel_get_their_own_outputs(
    kernel: Kernel, rounds: int
) -> None:
    def work(thread: int) -> None:
        for number in range(rounds):
            name = f"{thread}-{number}"
            result = kernel.run(f"for i in range(3): print({name!r}, flush=True)\n{name!r}")
            assert result.stdout == f"{name}\n" * 3
            assert shown(result.outputs)[-1] == ("execute_result", repr(name))

    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(work, each) for each in range(8)]:
            done.result()


def test_cells_that_were_submitted_together_run_in_order(kernel: Kernel) -> None:
    kernel.run("order = []")
    executions = [kernel.submit(f"order.append({number})") for number in range(20)]
    for execution in executions:
        execution.wait()
    assert shown(kernel.run("order").outputs) == [("execute_result", str(list(range(20))))]


# Code.


def test_code_of_any_characters_arrives(kernel: Kernel) -> None:
    text = "Zoë 日本 🙂 \u2028 \x7f"
    assert kernel.run(f"print({text!r})").stdout == text + "\n"


@pytest.mark.full
def test_large_code_arrives(kernel: Kernel) -> None:
    text = "x" * 5_000_000
    assert kernel.run(f"print(len('{text}'))").stdout == "5000000\n"


def test_code_that_no_source_file_can_hold_is_refused_there_and_does_no_harm(
    kernel: Kernel,
) -> None:
    # ipykernel 7.4 stumbles over it so badly that it does not reply.
    with pytest.raises((RemoteError, ReplyLost)):
        kernel.run("print('\ud800')")
    assert kernel.run("print(1)").stdout == "1\n"


@pytest.mark.parametrize("metadata", [{"x": object()}, {"x": float("nan")}], ids=["object", "nan"])
def test_what_has_no_form_in_a_message_is_refused_here_and_not_sent(
    kernel: Kernel, metadata: dict[str, Any]
) -> None:
    before = kernel.run("").execution_count
    with pytest.raises(ProtocolError):
        kernel.submit("print(1)", metadata=metadata)
    assert kernel.run("", silent=True).execution_count == before


# Errors.


def test_an_error_has_its_remote_name_value_and_traceback(kernel: Kernel) -> None:
    with pytest.raises(RemoteError) as caught:
        kernel.run("def f():\n    raise LookupError('too bad')\nf()")
    error = caught.value
    assert type(error).__name__ == "LookupError"
    assert (error.kernel, error.ename, error.evalue) == ("real", "LookupError", "too bad")
    assert str(error) == "too bad"
    assert "too bad" in error.traceback[-1]
    assert isinstance(error, KernelMagicsError)


def test_an_error_can_be_pickled(kernel: Kernel) -> None:
    with pytest.raises(RemoteError) as caught:
        kernel.run("1 / 0")
    error, copy = caught.value, pickle.loads(pickle.dumps(caught.value))
    assert isinstance(copy, RemoteError)
    assert type(copy).__name__ == "ZeroDivisionError"
    facts = ("kernel", "ename", "evalue", "traceback")
    assert [getattr(copy, each) for each in facts] == [getattr(error, each) for each in facts]


def test_an_errors_output_is_an_output_too(kernel: Kernel) -> None:
    got: list[Message | str] = []
    with pytest.raises(RemoteError):
        kernel.run("print('before')\n1 / 0", show=got.append)
    assert shown(got) == [
        ("stdout", "before\n"),
        ("error", "ZeroDivisionError"),
    ]


def test_an_error_may_be_asked_for_as_a_result(kernel: Kernel) -> None:
    result = kernel.run("1 / 0", raise_error=False)
    assert result.status == "error"
    assert shown(result.outputs) == [("error", "ZeroDivisionError")]


@pytest.mark.parametrize(
    "code, name",
    [
        ("if", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("class Mine(Exception): pass\nraise Mine('x')", "Mine"),
        ("raise ExceptionGroup('several', [ValueError(1), TypeError(2)])", "ExceptionGroup"),
    ],
)
def test_every_kind_of_error_is_an_error_of_that_name(kernel: Kernel, code: str, name: str) -> None:
    with pytest.raises(RemoteError) as caught:
        kernel.run(code)
    assert caught.value.ename == name


@pytest.mark.parametrize(
    "ename, name", [("", "RemoteError"), ("<class 'ValueError'>", "<class 'ValueError'>")]
)
def test_a_kernel_may_name_its_error_anything(fake: Fake, ename: str, name: str) -> None:
    _, kernel = fake([steps.busy(), steps.reply("error", ename=ename), steps.idle()])
    with pytest.raises(RemoteError) as caught:
        kernel.run("")
    assert type(caught.value).__name__ == name


def test_an_error_without_details_is_still_an_error(fake: Fake) -> None:
    nothing = {"ename": None, "evalue": None, "traceback": None}
    _, kernel = fake([steps.busy(), steps.reply("error", **nothing), steps.idle()])
    with pytest.raises(RemoteError) as caught:
        kernel.run("")
    assert (caught.value.evalue, caught.value.traceback) == ("", [])


def test_after_an_error_the_next_cell_runs(kernel: Kernel) -> None:
    failing, next_one = kernel.submit("1 / 0"), kernel.submit("print('next')")
    with pytest.raises(RemoteError):
        failing.wait()
    assert next_one.wait().stdout == "next\n"


@pytest.mark.parametrize("status", ["aborted", "abort"])
def test_an_aborted_cell_says_so(fake: Fake, status: str) -> None:
    _, kernel = fake([steps.busy(), steps.reply(status), steps.idle()])
    with pytest.raises(Aborted, match="fake did not run") as caught:
        kernel.run("")
    assert not caught.value.may_have_run
    assert kernel.run("", raise_error=False).status == "aborted"


def deno(*, ends: bool = True) -> Script:
    """What Deno does: the text comes behind idle, and after a while."""

    def later(kernel: FakeKernel, request: Request) -> None:
        time.sleep(0.03)  # a pause in what it publishes, and nothing is waited for

    about = steps.reply(implementation="Deno kernel", language_info={"name": "typescript"})
    texts = [step for number in range(5) for step in (later, steps.stream(f"{number}\n"))]
    cell = [steps.busy(), steps.execute_input(), steps.reply(), steps.idle(), *texts]
    end = [] if ends else [steps.close_channels()]
    return {
        "kernel_info_request": [steps.busy(), about, steps.idle()],
        "execute_request": [*cell, *end],
    }


def test_what_is_printed_behind_idle_belongs_to_the_result(
    pool: KernelPool, fake_kernel: StartFake
) -> None:
    kernel = pool.attach(fake_kernel(deno()).connection_file)
    for _ in range(2):
        assert kernel.run("").stdout == "0\n1\n2\n3\n4\n"


def test_a_cell_that_was_over_but_not_quiet_is_over_when_its_kernel_dies(
    pool: KernelPool, fake_kernel: StartFake
) -> None:
    kernel = pool.attach(fake_kernel(deno(ends=False)).connection_file)
    assert kernel.run("").stdout == "0\n1\n2\n3\n4\n"


@pytest.mark.parametrize("status", ["aborted", "abort"])
def test_a_cell_that_was_aborted_while_it_ran_says_so(fake: Fake, status: str) -> None:
    cell = [steps.busy(), steps.execute_input(), steps.reply(status), steps.idle()]
    _, kernel = fake(cell)
    with pytest.raises(Aborted, match="interrupted in fake") as caught:
        kernel.run("")
    assert caught.value.may_have_run


def test_another_clients_error_does_not_abort_our_cells(
    kernel: Kernel, shared_kernel: HandKernel, sandbox: Sandbox
) -> None:
    begun, fail = sandbox.work / "begun", sandbox.work / "fail"
    failing = kernel.submit(
        "import pathlib, time\n"
        f"pathlib.Path({str(begun)!r}).touch()\n"
        f"while not pathlib.Path({str(fail)!r}).exists(): time.sleep(0.005)\n"
        "1 / 0"
    )
    wait_until(begun.exists, what="the failing cell runs")
    waiting = kernel.submit("print('still runs')")
    fail.touch()
    with pytest.raises(RemoteError):
        failing.wait()
    assert waiting.wait().stdout == "still runs\n"


# What kernels leave out.


@pytest.fixture(
    params=[
        pytest.param(False, id="short-times"),
        pytest.param(True, id="true-times", marks=pytest.mark.full),
    ]
)
def graces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long a missing message is waited for; the rules are the same with shorter times."""
    if not request.param:
        monkeypatch.setattr(protocol, "IDLE_GRACE", 0.5)
        monkeypatch.setattr(protocol, "REPLY_GRACE", 0.2)
        monkeypatch.setattr(protocol, "FENCE_TIMEOUT", 0.5)


@pytest.mark.usefixtures("graces")
def test_a_reply_that_never_comes_is_an_error_once_later_requests_are_answered(
    fake: Fake,
) -> None:
    _, kernel = fake([steps.busy(), steps.execute_input(), steps.stream("x"), steps.idle()])
    got: list[Message | str] = []
    with pytest.raises(ReplyLost, match="fake"):
        kernel.run("", show=got.append)
    assert shown(got) == [("stdout", "x")]


@pytest.mark.usefixtures("graces")
def test_a_lost_reply_may_be_asked_for_as_a_result(fake: Fake) -> None:
    _, kernel = fake([steps.busy(), steps.idle()])
    assert kernel.run("", raise_error=False).status == "lost"


@pytest.mark.usefixtures("graces")
@pytest.mark.parametrize("left_out", ["reply", "idle"])
def test_a_cell_that_ended_without_its_end_counts_as_running_no_longer(
    fake: Fake, left_out: str
) -> None:
    end = {"reply": steps.reply(), "idle": steps.idle()}
    del end[left_out]
    _, kernel = fake([steps.busy(), *end.values()])
    kernel.run("the end is missing", raise_error=False)
    wait_until(lambda: kernel.running is None, 1.0, what=f"not {kernel.running!r}")


@pytest.mark.usefixtures("graces")
def test_after_a_lost_reply_the_next_cell_runs(pool: KernelPool, fake_kernel: StartFake) -> None:
    script = for_cells([steps.busy(), steps.idle()], steps.cell(steps.stream("next")))
    kernel = pool.attach(fake_kernel(script).connection_file, "fake")
    with pytest.raises(ReplyLost):
        kernel.run("lost")
    assert kernel.run("").stdout == "next"


@pytest.mark.full
@pytest.mark.usefixtures("graces")
@pytest.mark.parametrize("welcome", [True, False], ids=["welcome", "no-welcome"])
def test_an_idle_that_never_comes_ends_the_cell_with_a_notice(fake: Fake, welcome: bool) -> None:
    cell = [steps.busy(), steps.execute_input(), steps.stream("all I have"), steps.reply()]
    _, kernel = fake(cell, welcome=welcome)
    got: list[Message | str] = []
    result = kernel.run("", show=got.append)
    assert result.status == "ok"
    output, notice = got
    assert isinstance(output, Message)
    assert isinstance(notice, str)
    assert "may be missing" in notice


@pytest.mark.usefixtures("graces")
def test_an_idle_that_is_only_late_is_no_reason_for_a_notice(
    pool: KernelPool, fake_kernel: StartFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A slow link: the question is asked, but what was said before it still arrives before.
    release = threading.Event()
    slow = [steps.busy(), steps.reply(), steps.hold(release), steps.stream("late"), steps.idle()]
    kernel = pool.attach(fake_kernel(for_cells(slow)).connection_file, "fake")
    got: list[Message | str] = []
    execution = kernel.submit("")
    asked: list[object] = []
    settle = kernel.settle

    def settle_and_tell(check: protocol.Check, which: Execution) -> None:
        settle(check, which)
        asked.append(check)
        release.set()

    monkeypatch.setattr(kernel, "settle", settle_and_tell)
    assert execution.wait(show=got.append).status == "ok"
    assert asked == [protocol.Check.FENCE]
    assert shown(got) == [("stdout", "late")]
    assert "missing" not in str(got)


def test_a_status_that_the_protocol_does_not_know_is_an_error(fake: Fake) -> None:
    _, kernel = fake([steps.busy(), steps.reply("perhaps"), steps.idle()])
    with pytest.raises(ProtocolError, match="perhaps"):
        kernel.run("")


@pytest.mark.parametrize("twice", ["reply", "idle", "stream"])
def test_what_is_said_twice_counts_once(fake: Fake, twice: str) -> None:
    words = {"stream": steps.stream("x"), "reply": steps.reply(), "idle": steps.idle()}
    words[twice] = steps.twice(words[twice])
    _, kernel = fake([steps.busy(), *words.values()])
    for _ in range(2):
        result = kernel.run("")
        assert (result.status, result.stdout) == ("ok", "x")


@pytest.mark.parametrize("channel", ["iopub", "shell"])
def test_a_forged_message_or_garbage_does_not_end_a_cell(fake: Fake, channel: str) -> None:
    forged = {
        "iopub": [steps.forged(steps.stream("evil")), steps.forged(steps.idle())],
        "shell": [steps.forged(steps.reply("error"))],
    }
    cell = steps.cell(steps.stream("x"), *forged[channel], steps.garbage(channel))
    _, kernel = fake(cell)
    result = kernel.run("")
    assert (result.status, result.stdout) == ("ok", "x")


# Time limits.


def test_a_time_limit_ends_the_waiting_and_the_kernel_is_usable_afterwards(
    kernel: Kernel,
) -> None:
    began = time.monotonic()
    with pytest.raises(ExecutionTimeout, match="real") as caught:
        kernel.run("import time; time.sleep(600)", timeout=0.3)
    assert 0.3 <= time.monotonic() - began < PROMPTLY
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.timeout == pytest.approx(0.3)
    kernel.interrupt()
    assert kernel.run("print('usable')").stdout == "usable\n"


def test_after_a_time_limit_the_code_runs_on(
    kernel: Kernel, shared_kernel: HandKernel, sandbox: Sandbox
) -> None:
    go = sandbox.work / "go"
    with pytest.raises(ExecutionTimeout):
        kernel.run(
            "import pathlib, time; ran_on = False\n"
            f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.005)\n"
            "ran_on = True",
            timeout=0.2,
        )
    go.touch()
    assert shared_kernel.value("ran_on") is True


def test_a_time_limit_that_is_not_reached_does_nothing(kernel: Kernel) -> None:
    assert kernel.run("print(1)", timeout=PATIENCE).stdout == "1\n"


# Prompts.


def asking(*answers: str) -> tuple[list[tuple[str, bool]], Callable[[str, bool], str]]:
    """A user with prepared answers, and the list of what they were asked."""
    asked: list[tuple[str, bool]] = []
    left = list(answers)

    def ask(prompt: str, password: bool) -> str:
        asked.append((prompt, password))
        return left.pop(0)

    return asked, ask


def test_prompts_are_answered_and_passwords_are_called_that(kernel: Kernel) -> None:
    asked, ask = asking("Zoë", "geheim", "")
    result = kernel.run(
        "import getpass\nprint([input('name? '), getpass.getpass('password: '), input()])",
        ask=ask,
    )
    assert asked == [("name? ", False), ("password: ", True), ("", False)]
    assert result.stdout == "['Zoë', 'geheim', '']\n"


def test_what_was_printed_before_a_prompt_is_shown_before_it(kernel: Kernel) -> None:
    seen: list[str] = []

    def show(item: Message | str) -> None:
        assert isinstance(item, Message)
        seen.append(item.content["text"])

    def ask(prompt: str, password: bool) -> str:
        seen.append(prompt)
        return "answer"

    kernel.run("print('before')\nprint(input('prompt'))", ask=ask, show=show)
    assert "".join(seen) == "before\npromptanswer\n"


def test_where_nobody_can_be_asked_input_is_an_error_there(kernel: Kernel) -> None:
    with pytest.raises(RemoteError) as caught:
        kernel.run("input('name? ')")
    assert caught.value.ename == "StdinNotImplementedError"


def test_a_prompt_of_a_kernel_that_asks_all_the_same_gets_an_end_of_input(fake: Fake) -> None:
    # IRkernel asks although it was told that nobody is there, and waits for ever.
    after = [steps.stream("went on"), steps.reply(), steps.idle()]
    fake_kernel, kernel = fake([steps.busy(), steps.ask_input("name? ", *after)])
    assert kernel.run("").stdout == "went on"
    assert fake_kernel.wait_for("input_reply").content == {"value": "\x04"}


def test_an_end_of_input_here_is_one_there(kernel: Kernel) -> None:
    def ask(prompt: str, password: bool) -> str:
        raise EOFError

    with pytest.raises(RemoteError) as caught:
        kernel.run("input()", ask=ask)
    assert caught.value.ename == "EOFError"


def test_an_interrupt_in_a_prompt_interrupts_the_cell(kernel: Kernel) -> None:
    def ask(prompt: str, password: bool) -> str:
        raise KeyboardInterrupt

    with pytest.raises(RemoteError) as caught:
        kernel.run("input()", ask=ask)
    assert caught.value.ename == "KeyboardInterrupt"
    assert kernel.run("print('next')").stdout == "next\n"


def test_a_front_end_that_cannot_ask_does_not_leave_the_kernel_waiting(kernel: Kernel) -> None:
    def ask(prompt: str, password: bool) -> str:
        raise RuntimeError("no terminal here")

    with pytest.raises(RuntimeError, match="no terminal here"):
        kernel.run("input()", ask=ask)
    assert kernel.run("print('next')", timeout=PATIENCE).stdout == "next\n"


def test_a_prompt_that_comes_when_nobody_waits_any_more_gets_an_end_of_input(
    kernel: Kernel, shared_kernel: HandKernel, sandbox: Sandbox
) -> None:
    go = sandbox.work / "go"
    with pytest.raises(ExecutionTimeout):
        kernel.run(
            "import pathlib, time; ended = None\n"
            f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.005)\n"
            "try:\n    input()\nexcept EOFError:\n    ended = True",
            ask=lambda prompt, password: "never asked",
            timeout=0.2,
        )
    go.touch()
    assert shared_kernel.value("ended") is True


def test_a_prompt_is_left_when_its_cell_ends_meanwhile(kernel: Kernel) -> None:
    at_prompt = threading.Event()

    def ask(prompt: str, password: bool) -> str:
        at_prompt.set()
        assert not threading.Event().wait(PATIENCE), "nobody gets out of this but by a signal"
        return "too late"

    def interrupt() -> None:
        assert at_prompt.wait(PATIENCE)
        kernel.interrupt()

    other = threading.Thread(target=interrupt)
    other.start()
    began = time.monotonic()
    with pytest.raises(RemoteError) as caught:
        kernel.run("input('stuck? ')", ask=ask)
    other.join()
    assert caught.value.ename == "KeyboardInterrupt"
    assert time.monotonic() - began < PROMPTLY
    assert kernel.run("print('next')").stdout == "next\n"


# Ctrl-C while waiting.


@contextmanager
def pressing(when: Callable[[], object], times: int = 1) -> Generator[list[float]]:
    """Press Ctrl-C once ``when()`` is true, and again half a second later.

    Gives the times of pressing.
    """
    pressed: list[float] = []

    def press() -> None:
        wait_until(lambda: when() or None, what="the moment to press")
        for number in range(times):
            if number:
                threading.Event().wait(0.5)  # a person; nothing happens meanwhile to wait for
            pressed.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    yield pressed
    thread.join()


def touching(path: Path) -> str:
    return f"import pathlib, time; pathlib.Path({str(path)!r}).touch()\n"


def test_ctrl_c_interrupts_the_kernel_and_its_error_is_raised(
    kernel: Kernel, sandbox: Sandbox
) -> None:
    begun = sandbox.work / "begun"
    with pressing(begun.exists), pytest.raises(RemoteError) as caught:
        kernel.run(touching(begun) + "time.sleep(600)")
    assert caught.value.ename == "KeyboardInterrupt"
    assert kernel.run("print('next')").stdout == "next\n"


def test_what_is_printed_after_ctrl_c_is_still_shown(kernel: Kernel, sandbox: Sandbox) -> None:
    begun = sandbox.work / "begun"
    with pressing(begun.exists):
        result = kernel.run(
            "import pathlib, time\n"
            f"try:\n    pathlib.Path({str(begun)!r}).touch(); time.sleep(600)\n"
            "except KeyboardInterrupt:\n    print('cleaned up')"
        )
    assert (result.status, result.stdout) == ("ok", "cleaned up\n")


def stubborn(begun: Path, end: Path) -> str:
    """Code that no interrupt stops."""
    return (
        "import pathlib, signal, time; before = signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        f"pathlib.Path({str(begun)!r}).touch()\n"
        f"while not pathlib.Path({str(end)!r}).exists(): time.sleep(0.005)\n"
        "_ = signal.signal(signal.SIGINT, before)"
    )


def test_the_second_ctrl_c_gives_up_waiting(kernel: Kernel, sandbox: Sandbox) -> None:
    begun, end = sandbox.work / "begun", sandbox.work / "end"
    with pressing(begun.exists, times=2) as pressed, pytest.raises(Abandoned) as caught:
        kernel.run(stubborn(begun, end))
    assert time.monotonic() - pressed[-1] < 1.0
    assert isinstance(caught.value, KeyboardInterrupt)
    end.touch()
    assert kernel.run("print('next')").stdout == "next\n"


def test_a_cell_that_does_not_stop_is_explained(
    kernel: Kernel, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kernel_magics.kernels.execution.STUBBORN_AFTER", 0.1)
    begun, end = sandbox.work / "begun", sandbox.work / "end"

    def show(item: Message | str) -> None:
        if isinstance(item, str):
            said.append(item)
            end.touch()

    said: list[str] = []
    with pressing(begun.exists):
        kernel.run(stubborn(begun, end), show=show)
    [sentence] = said
    assert "again" in sentence


def test_ctrl_c_in_another_threads_cell_is_not_ours(kernel: Kernel, sandbox: Sandbox) -> None:
    begun, go = sandbox.work / "begun", sandbox.work / "go"
    code = touching(begun) + f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.005)"
    with ThreadPoolExecutor(1) as other:
        running = other.submit(kernel.run, code + "\nprint('undisturbed')")
        with pytest.raises(KeyboardInterrupt), pressing(begun.exists):
            assert not threading.Event().wait(PATIENCE)
        go.touch()
        assert running.result().stdout == "undisturbed\n"
