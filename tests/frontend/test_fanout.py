"""One cell in several kernels: what each says stays its own, in order and under its name."""

import re
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from nbformat import NotebookNode

from tests import frontend
from tests.frontend import (
    LOAD,
    NEWEST_FIRST,
    Age,
    Desk,
    error_lines,
    lasting_sandbox,
    plain,
    remotely,
    terminal_with,
    transcript,
    wait_until,
    wait_until_in,
)
from tests.support import parts
from tests.support.hosts import CellRun, TerminalHost, run_notebook
from tests.support.kernels import HandKernel, Kind
from tests.support.sandbox import Sandbox

new_desk = frontend.new_desk

NAMES = ("a", "b", "c")
GROUPINGS = ("kernel", "order", "type", "first", "merge")


class Crew(Desk):
    """A desk with several kernels; their processes by name."""

    pids: dict[str, int]


@pytest.fixture(scope="module", params=NEWEST_FIRST)
def desk(run_folder: Path, request: pytest.FixtureRequest) -> Generator[Crew]:
    """A notebook with somebody else's kernels a, b and c, for tests that do it no harm.

    In each of them ``ME`` is its name.
    """
    age: Age = request.param
    kind: Kind = "floor" if age == "floor" else "tcp"
    with lasting_sandbox(run_folder) as sandbox, ExitStack() as stack:
        if age == "floor":
            parts.require("floor")
        others = [stack.enter_context(HandKernel(kind, sandbox)) for _ in NAMES]
        desk = stack.enter_context(Crew(sandbox, age))
        for name, kernel in zip(NAMES, others, strict=True):
            kernel.wait_until_listening()
            desk.attach(kernel.connection_file, name)
            desk.run(f"%remote {name} ME = {name!r}").ok()
        desk.pids = {name: kernel.pid for name, kernel in zip(NAMES, others, strict=True)}
        yield desk


def of_all(code: str, *options: str, kernels: str = "a,b,c") -> str:
    return remotely(code, *options, kernel=kernels)


def said_by(run: CellRun) -> dict[str, str]:
    """What a front end shows under each heading, put together."""
    said: dict[str, str] = {}
    heading = ""
    for line in transcript(run).splitlines(keepends=True):
        if "kernels" in line:
            continue  # how far they are
        if re.fullmatch(r"\[[\w:, ]+\].*\n", line):
            heading = line[1:].partition("]")[0]
        said[heading] = said.get(heading, "") + ("" if line.startswith("[") else line)
    return said


# Who is meant.


@pytest.mark.parametrize("kernels", ["a,b,c", "a,[bc]", "a,a,b,c,a", "[abc]", "-t a,b,c"])
def test_a_cell_runs_in_each_once_in_the_order_given(desk: Desk, kernels: str) -> None:
    run = desk.run(of_all("print(ME)", kernels=kernels)).ok()
    assert run.stdout == "[a]\na\n[b]\nb\n[c]\nc\n"


def test_all_are_all_that_are_attached(desk: Desk) -> None:
    run = desk.run(of_all("print('here')", kernels="all")).ok()
    assert run.stdout == "[k]\nhere\n[a]\nhere\n[b]\nhere\n[c]\nhere\n"


def test_a_line_runs_in_several_too(desk: Desk) -> None:
    assert desk.run("%remote c,a print(ME)").ok().stdout == "[c]\nc\n[a]\na\n"
    assert desk.run("%remote -t c,a print(ME)").ok().stdout == "[c]\nc\n[a]\na\n"
    assert desk.run("%remote -t a print(ME)").ok().stdout == "a\n"


def test_a_pattern_for_one_kernel_is_that_kernel_as_it_is(desk: Desk) -> None:
    assert desk.run(of_all("print(ME)", kernels="[a]")).ok().stdout == "a\n"


@pytest.mark.parametrize(
    "kernels, said",
    [
        ("x*", "no kernel matches 'x*'; searched the attached kernels (k, a, b, c). %kernel_start"),
        ("a,,b", "'a,,b' cannot name a kernel: there is nothing between two of its commas"),
        ("a,nowhere", "no kernel matches 'nowhere'; searched "),
        ("a -t b", "which kernels, -t b or a? Say it once"),
        ("a,b --group-outputs no", "argument --group-outputs: invalid choice: 'no'"),
    ],
)
def test_what_names_nothing_is_said_and_nothing_runs(desk: Desk, kernels: str, said: str) -> None:
    run = desk.run(f"%%remote {kernels}\nran = True")
    assert said in run.stderr + run.error
    desk.run(of_all("assert 'ran' not in globals()")).ok()


# What is shown, in which order.

TWICE = """\
import sys
from IPython.display import display
print(ME, 1, flush=True)
print(ME, 'err', file=sys.stderr, flush=True)
display(ME)
print(ME, 2, flush=True)
ME + '!'"""

SHOWN = {
    "kernel": "".join(f"[{n}]\n{n} 1\n{n} err\n<'{n}'>\n{n} 2\n<'{n}!'>\n" for n in NAMES),
    "order": "".join(
        f"[{n}]\n{said.format(n)}\n"
        for said in ("{} 1", "{} err", "<'{}'>", "{} 2", "<'{}!'>")
        for n in NAMES
    ),
    "type": "".join(f"[stdout:{n}]\n{n} 1\n{n} 2\n" for n in NAMES)
    + "".join(f"[stderr:{n}]\n{n} err\n" for n in NAMES)
    + "".join(f"[output:{n}]\n<'{n}'>\n<'{n}!'>\n" for n in NAMES),
}
SHOWN["first"] = SHOWN["kernel"]

WHEN = pytest.mark.parametrize("when", ["--stream", "--no-stream"])


@WHEN
@pytest.mark.parametrize("grouping", SHOWN)
def test_a_grouping_is_the_same_as_it_comes_and_at_the_end(
    desk: Desk, grouping: str, when: str
) -> None:
    run = desk.run(of_all(TWICE, f"--group-outputs {grouping}", when)).ok()
    assert transcript(run) == SHOWN[grouping]


@WHEN
def test_merge_shows_each_line_under_its_kernel_s_name(desk: Desk, when: str) -> None:
    run = desk.run(of_all(TWICE, "--group-outputs merge", when)).ok()
    lines = transcript(run).splitlines()
    for name in NAMES:
        mine = [line for line in lines if name in line]
        assert mine == [
            f"[{name}] {name} 1", f"[{name}] {name} err", f"[{name}]", f"<'{name}'>",
            f"[{name}] {name} 2", f"[{name}]", f"<'{name}!'>",
        ]  # fmt: skip


def test_merge_never_mixes_two_within_a_line(desk: Desk) -> None:
    code = (
        "for i in range(200):\n    print('half', end=' ', flush=True); print('line', i, flush=True)"
    )
    run = desk.run(of_all(code, "--group-outputs merge")).ok()
    for name in NAMES:
        mine = [line for line in run.stdout.splitlines() if line.startswith(f"[{name}] ")]
        assert mine == [f"[{name}] half line {i}" for i in range(200)]


def test_first_shows_only_who_says_something_else(desk: Desk) -> None:
    code = "print('the same' if ME != 'b' else 'another', end='')"
    run = desk.run(of_all(code, "--group-outputs first")).ok()
    assert run.stdout == "[a]\nthe same\n[b]\nanother\n[c] the same\n"


def test_who_says_nothing_has_no_heading(desk: Desk) -> None:
    assert desk.run(of_all("if ME == 'b': print('b')")).ok().stdout == "[b]\nb\n"
    assert desk.run(of_all("pass")).ok().outputs == []


def test_the_first_is_shown_while_it_runs_and_the_others_after_it(desk: Desk) -> None:
    mark = desk.sandbox.work / "go-on"
    code = (
        "import pathlib, time\nprint(ME, 'begins', flush=True)\n"
        f"while not pathlib.Path({str(mark)!r}).exists(): time.sleep(0.01)\nprint(ME, 'ends')"
    )
    run = desk.host.start(of_all(code))
    desk.host.wait_for(lambda: "a begins" in run.stdout, what="the first one's text")
    assert run.stdout == "[a]\na begins\n"
    mark.touch()
    assert run.wait().ok().stdout == "".join(f"[{n}]\n{n} begins\n{n} ends\n" for n in NAMES)


def test_quiet_shows_nothing_and_fails_all_the_same(desk: Desk) -> None:
    assert desk.run(of_all("print('x'); 6 * 7", "-q")).ok().outputs == []
    run = desk.run(of_all("1 / (ME != 'b')", "-q"))
    assert run.reply["evalue"] == "1 of 3 kernels failed. b: ZeroDivisionError: division by zero"
    assert error_lines(run)[1] == "[b]"


# Displays, updates, clears.


def of_kernel(run: CellRun, msg_type: str, name: str) -> list[str]:
    texts = [content["data"]["text/plain"] for content in run.of_type(msg_type)]
    return [text for text in texts if name in text]


def test_displays_of_one_id_are_as_many_as_there_are_kernels(desk: Desk) -> None:
    made = desk.run(of_all("from IPython.display import display\ndisplay(ME, display_id='plot')"))
    ids = {
        content["data"]["text/plain"]: content["transient"]["display_id"]
        for content in made.ok().of_type("display_data")
    }
    assert len(set(ids.values())) == 3
    for name in "cab":  # a later cell, in one kernel or several, finds its own
        one = desk.run(f"%remote {name} display(ME, display_id='plot', update=True)").ok()
        (content,) = one.of_type("update_display_data")
        assert content["transient"]["display_id"] == ids[f"'{name}'"]
    both = desk.run(of_all("display(ME + '2', display_id='plot', update=True)", kernels="b,c"))
    for content in both.ok().of_type("update_display_data"):
        name = content["data"]["text/plain"].replace("2", "")
        assert content["transient"]["display_id"] == ids[name]


def test_a_display_of_one_kernel_is_found_from_a_cell_in_several(desk: Desk) -> None:
    one = "from IPython.display import display; display(ME, display_id='alone')"
    (made,) = desk.run(f"%remote b {one}").ok().of_type("display_data")
    run = desk.run(of_all("display(ME, display_id='alone', update=True)", kernels="b,c"))
    ids = {
        content["data"]["text/plain"]: content["transient"]["display_id"]
        for content in run.ok().of_type("update_display_data")
    }
    assert ids["'b'"] == made["transient"]["display_id"] == "alone"
    assert ids["'c'"] != "alone"


def test_an_id_that_was_drawn_by_chance_is_not_changed(desk: Desk) -> None:
    run = desk.run(of_all("h = display(ME, display_id=True); print(h.display_id)")).ok()
    shown = [content["transient"]["display_id"] for content in run.of_type("display_data")]
    assert shown == [line for line in run.stdout.splitlines() if not line.startswith("[")]


def test_pictures_and_metadata_arrive_as_they_were_sent(desk: Desk) -> None:
    bundle, metadata = "{'text/plain': ME, 'image/png': 'abcd'}", "{'image/png': {'width': 1}}"
    code = f"display({bundle}, raw=True, metadata={metadata})"
    here = desk.run(f"from IPython.display import display\nME = 'a'\n{code}").ok().outputs
    there = desk.run(of_all(code)).ok()
    shown = [output for output in there.outputs if output.msg_type == "display_data"]
    assert shown[0] == here[0]
    assert [output.content["data"]["text/plain"] for output in shown] == list(NAMES)


# What stands there in the end, updates and clears applied.

WORK = """\
from IPython.display import clear_output, display
display('cleared'); print('cleared too', flush=True)
for i in range({few}): print('before', i, flush=True)
clear_output(wait={wait})
h = display('0', display_id='bar')
for i in range({lines}):
    print(ME, i, flush=True)
    if i % 10 == 0: h.update(str(i))
h.update(ME + ' is through')"""

WAIT = pytest.mark.parametrize("wait", [True, False])


def check_work(seen: list[str], grouping: str, names: Sequence[str], lines: int) -> None:
    """Whether these lines are what ``WORK`` leaves."""
    said = {name: [f"{name} {i}" for i in range(lines)] for name in names}
    shown = {name: [f"<'{name} is through'>"] for name in names}
    if grouping == "merge":
        for name in names:
            mine = [line for line in seen if line.startswith(f"[{name}] {name}")]
            assert mine == [f"[{name}] {line}" for line in said[name]]
            assert seen.count(*shown[name]) == 1
        assert len(seen) == len(names) * (lines + 2)
        return
    match grouping:
        case "order":
            blocks = [("", shown), ("", said)]
        case "type":
            blocks = [("stdout:", said), ("output:", shown)]
        case _:
            blocks = [("", {name: shown[name] + said[name] for name in names})]
    wanted = [line for mark, block in blocks for n in names for line in (f"[{mark}{n}]", *block[n])]
    assert seen == wanted, f"{grouping}: {len(seen)} lines, {len(wanted)} wanted"


def in_front_end(run: CellRun) -> list[str]:
    """What a front end makes of all the messages, as lines; displays in brackets."""
    there: list[tuple[str, str]] = []
    clear = False
    for kind, content, _, _ in run.outputs:
        if kind == "update_display_data":
            mark = content["transient"]["display_id"]
            text = f"<{content['data']['text/plain']}>"
            there = [(mark, text) if each[0] == mark else each for each in there]
        elif kind == "clear_output":
            clear = content["wait"]
            there = there if clear else []
        else:
            there, clear = ([] if clear else there), False
            if kind == "stream":
                there.append(("", content["text"]))
            else:
                mark = content["transient"].get("display_id", "")
                there.append((mark, f"<{content['data']['text/plain']}>"))
    return as_lines(text for _, text in there)


def as_lines(pieces: Iterable[str]) -> list[str]:
    """Lines of text, in which displays, in brackets, have their own; without the progress line."""
    text = "".join(f"\n{piece}\n" if piece.startswith("<") else piece for piece in pieces)
    lines = text.replace("\n\n", "\n").lstrip("\n").splitlines()
    return [line for line in lines if "kernels" not in line]


@WAIT
@pytest.mark.parametrize("grouping", GROUPINGS)
def test_each_one_s_updates_and_clears_are_its_own(desk: Desk, grouping: str, wait: bool) -> None:
    code = WORK.format(few=20, lines=100, wait=wait)
    run = desk.run(of_all(code, f"--group-outputs {grouping}")).ok()
    check_work(in_front_end(run), grouping, NAMES, 100)


def test_a_clear_at_the_end_leaves_what_the_others_said(desk: Desk) -> None:
    code = "print(ME, flush=True)\nif ME == 'a': clear_output()"
    run = desk.run(of_all(f"from IPython.display import clear_output\n{code}")).ok()
    assert in_front_end(run) == ["[b]", "b", "[c]", "c"]
    desk.run(of_all("from IPython.display import clear_output")).ok()
    run = desk.run(of_all("print(ME, flush=True); clear_output()")).ok()
    assert in_front_end(run) == []


def in_notebook(cell: NotebookNode) -> list[str]:
    return as_lines(
        output.text if output.output_type == "stream" else f"<{output.data['text/plain']}>"
        for output in cell.outputs
    )


def check_in_notebook(
    sandbox: Sandbox, number: int, lines: int, groupings: Sequence[str], wait: str
) -> None:
    names = [f"k{i}" for i in range(number)]
    start = [f"%kernel_start --name {name}\n%remote {name} ME = {name!r}" for name in names]
    code = WORK.format(few=lines // 10, lines=lines, wait=wait)
    cells = [of_all(code, f"--group-outputs {each}", kernels="all") for each in groupings]
    done = run_notebook(cells, sandbox, prologue=[LOAD, "\n".join(start)], timeout=100)
    for grouping, cell in zip(groupings, done.cells[-len(groupings) :], strict=True):
        check_work(in_notebook(cell), grouping, names, lines)


HALF_OF_THEM = "ME[-1] in '0246'"


@pytest.mark.full
@pytest.mark.parametrize("grouping", GROUPINGS)
def test_eight_that_print_5000_lines_update_and_clear_lose_nothing(
    sandbox: Sandbox, grouping: str
) -> None:
    check_in_notebook(sandbox, 8, 5_000, [grouping], HALF_OF_THEM)


@pytest.mark.full
def test_a_notebook_stores_what_they_left(sandbox: Sandbox) -> None:
    check_in_notebook(sandbox, 3, 200, GROUPINGS, HALF_OF_THEM)


# Errors, deaths, interrupts.


def test_an_error_names_each_kernel_and_shows_one_traceback(desk: Desk) -> None:
    run = desk.run(of_all("print(ME, flush=True)\nif ME != 'a': raise KeyError(ME)"))
    assert (run.status, run.reply["ename"]) == ("error", "RemoteErrors")
    assert run.reply["evalue"] == "2 of 3 kernels failed. b: KeyError: 'b'; c: KeyError: 'c'"
    assert transcript(run) == "[a]\na\n[b]\nb\n<error>\n[c]\nc\n<error>\n<error>\n"
    full, folded, summary = run.of_type("error")
    assert len(full["traceback"]) > 3
    assert [plain(line) for line in folded["traceback"]] == ["[c]", "KeyError: 'c'"]
    assert [plain(line) for line in summary["traceback"]] == [
        "RemoteErrors: 2 of 3 kernels failed", "[b] KeyError: 'b'", "[c] KeyError: 'c'",
    ]  # fmt: skip


def test_errors_that_are_alike_are_one_line(desk: Desk) -> None:
    run = desk.run(of_all("1 / 0"))
    assert plain(run.of_type("error")[-1]["traceback"][-1]) == (
        "[a, b, c] ZeroDivisionError: division by zero"
    )


def test_no_raise_error_lets_the_cell_succeed(desk: Desk) -> None:
    assert desk.run(of_all("1 / (ME != 'b')", "--no-raise-error")).ok().of_type("error")


def test_what_each_raised_and_returned_can_be_had(desk: Desk) -> None:
    desk.run(of_all("1 / (ME != 'b')"))
    desk.run("import sys; error = sys.last_value").ok()
    assert desk.value("{n: type(e).__name__ for n, e in error.errors.items()}") == {
        "b": "ZeroDivisionError"
    }
    assert desk.value("{n: r.status for n, r in error.results.items()}") == {
        "a": "ok", "b": "error", "c": "ok",
    }  # fmt: skip
    desk.run("import pickle; assert str(pickle.loads(pickle.dumps(error))) == str(error)").ok()


def test_a_time_limit_names_those_that_are_not_through(desk: Desk) -> None:
    code = "import time\nprint(ME, flush=True)\nif ME != 'b': time.sleep(30)"
    run = desk.run(of_all(code, "--timeout 0.5"))
    desk.run("from kernel_magics import pool; pool.select('a,b,c').interrupt()").ok()
    assert run.reply["evalue"].startswith("2 of 3 kernels failed. a: ExecutionTimeout: no end ")
    assert run.stdout == "[a]\na\n[b]\nb\n[c]\nc\n"
    wait_until(lambda: desk.run(of_all("1")).status == "ok", what="they are free again")


def test_fail_fast_stops_the_others(desk: Desk) -> None:
    began = time.monotonic()
    code = "import time\nif ME == 'b': time.sleep(0.3); raise ValueError(ME)\ntime.sleep(30)"
    run = desk.run(of_all(code, "--fail-fast"))
    assert time.monotonic() - began < 5
    assert run.reply["evalue"] == (
        "3 of 3 kernels failed. b: ValueError: b; a, c: KeyboardInterrupt"
    )


def test_the_stop_button_stops_all(desk: Crew) -> None:
    run = desk.host.start(of_all("import time\nprint(ME, flush=True)\ntime.sleep(30)"))
    desk.host.wait_for(lambda: "a" in run.stdout, what="they run")
    for name in NAMES:
        wait_until_in("sleep", desk.pids[name])
    pressed = time.monotonic()
    desk.host.interrupt()
    run.wait()
    assert time.monotonic() - pressed < 2
    assert run.reply["evalue"] == "3 of 3 kernels failed. a, b, c: KeyboardInterrupt"
    desk.run(of_all("1")).ok()


@pytest.mark.full
def test_a_second_press_gives_the_prompt_back(
    new_desk: Callable[..., Desk], hand_kernel: Callable[..., HandKernel]
) -> None:
    desk, other = new_desk(), hand_kernel()
    code = """\
import signal, time
signal.signal(signal.SIGINT, lambda *_: print('no', flush=True))
print('begun', flush=True)
while True: time.sleep(0.01)"""
    with desk.attached(other, "b"):
        run = desk.host.start(of_all(code, kernels="k,b"))
        desk.host.wait_for(lambda: "begun" in run.stdout, what="it runs")
        desk.host.interrupt()
        desk.host.wait_for(lambda: "no" in run.stdout, what="it was interrupted")
        desk.host.interrupt()
        run.wait()
        assert run.reply["ename"] == "Abandoned"
        assert run.reply["evalue"] == "no longer waiting for k, b, where the code may run on"


def test_one_that_is_killed_is_named_soon_and_the_others_end_well(
    new_desk: Callable[..., Desk], hand_kernel: Callable[..., HandKernel]
) -> None:
    desk, victim = new_desk(), hand_kernel()
    mark = desk.sandbox.work / "go-on"
    code = (
        "import pathlib, time\nprint('begins', flush=True)\n"
        f"while not pathlib.Path({str(mark)!r}).exists(): time.sleep(0.01)\nprint('ends')"
    )
    with desk.attached(victim, "b"):
        run = desk.host.start(of_all(code, kernels="k,b"))
        desk.host.wait_for(lambda: "begins" in run.stdout, what="the first one runs")
        killed = time.monotonic()
        victim.kill()
        desk.host.wait_for(lambda: "[b] KernelDied: " in run.stderr, what="its death is told")
        assert time.monotonic() - killed < 3
        mark.touch()
        run.wait()
    assert run.reply["evalue"].startswith("1 of 2 kernels failed. b: KernelDied: kernel b ")
    assert "may have run" in run.reply["evalue"]
    assert said_by(run)["k"].startswith("begins\nends\n")


# Questions, this session, how far they are.


def test_questions_are_asked_one_after_another_with_their_kernel_s_name(desk: Desk) -> None:
    asked = []

    def answer(prompt: str, password: bool) -> str:
        asked.append(prompt)
        return f"answer to {prompt}"

    run = desk.run(of_all("print(input('name? '))"), on_input=answer).ok()
    assert sorted(asked) == ["[a] name? ", "[b] name? ", "[c] name? "]
    assert run.stdout == "".join(f"[{n}]\nanswer to [{n}] name? \n" for n in NAMES)


def test_local_runs_here_too(desk: Desk) -> None:
    desk.run("ME = 'here'").ok()
    run = desk.run(of_all("print(ME)", "--local")).ok()
    assert run.stdout == "here\n[a]\na\n[b]\nb\n[c]\nc\n"
    run = desk.run(of_all("1 / (ME != 'here')", "--local", kernels="a"))
    assert run.reply["evalue"] == (
        "1 of 2 kernels failed. local: ZeroDivisionError: division by zero"
    )


def test_one_line_says_how_far_they_are_and_stays_in_the_end(desk: Desk) -> None:
    code = "import time\nprint(ME, flush=True)\ntime.sleep(1.2 if ME == 'b' else 0)"
    run = desk.run(of_all(code, "--progress-after 0.1")).ok()
    (first,) = [c for c in run.of_type("display_data") if "through" in c["data"]["text/plain"]]
    assert first["data"]["text/plain"] == (
        "2 of 3 kernels are through after 1 s; waiting for b (b)"
    ).replace("1 s", first["data"]["text/plain"].split(" s;")[0].split()[-1] + " s")
    last = run.of_type("update_display_data")[-1]
    assert last["transient"] == first["transient"]
    assert re.fullmatch(r"3 kernels, 1\.\d s: 3 well", last["data"]["text/plain"])


def test_a_quick_cell_has_no_such_line(desk: Desk) -> None:
    assert desk.run(of_all("pass")).ok().outputs == []


def test_a_timeline_shows_who_ran_when(desk: Desk) -> None:
    run = desk.run(of_all("1 / (ME != 'b')", "--timeline", "--no-raise-error")).ok()
    (shown,) = run.of_type("display_data")
    assert [line.split()[0] for line in shown["data"]["text/plain"].splitlines()[:3]] == [*NAMES]
    assert shown["data"]["image/svg+xml"].count("<rect") == 6
    assert "b: failed" in shown["data"]["image/svg+xml"]


# A terminal, where nothing can be taken back.


@pytest.mark.full
def test_a_terminal_shows_the_same_text(
    sandbox: Sandbox,
    hand_kernel: Callable[..., HandKernel],
    terminal_host: Callable[..., TerminalHost],
) -> None:
    kernels = [hand_kernel() for _ in "ab"]
    terminal = terminal_with(terminal_host("full"), None)
    for name, kernel in zip("ab", kernels, strict=True):
        terminal.run(f"%kernel_attach {kernel.connection_file} --name {name}")
        terminal.run(f"%remote {name} ME = {name!r}")
    printed = terminal.run(of_all("print(ME)\n6 * 7", kernels="a,b"))
    number = re.search(r"Out\[(\d+)\]: 42", printed)
    assert number is not None
    out = f"Out[{number[1]}]: 42"
    assert printed.split("\n") == ["[a]", "a", out, "[b]", "b", out]
    printed = terminal.run(
        of_all("print(ME, '\\x1b]0;title')", "--group-outputs merge", kernels="a,b")
    )
    assert sorted(printed.split("\n")) == [r"[a] a \x1b]0;title", r"[b] b \x1b]0;title"]
    printed = terminal.run(of_all("raise KeyError(ME)", kernels="a,b"))
    assert printed.split("\n")[-3:] == [
        "RemoteErrors: 2 of 2 kernels failed", "[a] KeyError: 'a'", "[b] KeyError: 'b'",
    ]  # fmt: skip
    hostile = "raise ValueError('\\x1b]0;title')"
    for options in ("", "-q"):
        assert r"ValueError: \x1b]0;title" in terminal.run(of_all(hostile, options, kernels="a,b"))
    code = "import time\nprint(ME, 'begins', flush=True); time.sleep(1.2); print(ME, 'ends')"
    printed = terminal.run(of_all(code, "--progress-after 0.1", kernels="a,b"))
    assert "0 of 2 kernels are through after " in printed
    assert re.search(r"2 kernels, 1\.\d s: 2 well$", printed)
    code = "import time\nprint(ME, flush=True)\ntime.sleep(30)"
    terminal.start(of_all(code, kernels="a,b"))
    terminal.expect(r"\na\r?\n")
    for kernel in kernels:
        wait_until_in("sleep", kernel.pid)
    terminal.send_interrupt()
    assert "[a, b] KeyboardInterrupt" in terminal.finish()


def test_captured_outputs_are_grouped_too(desk: Desk) -> None:
    code = (
        "from IPython.utils.capture import capture_output\n"
        "with capture_output() as taken:\n"
        "    get_ipython().run_cell_magic('remote', 'a,b', 'print(ME)\\ndisplay(ME)')\n"
        "taken.stdout, len(taken.outputs)"
    )
    assert desk.value(code) == ("[a]\na\n[b]\nb\n", 2)
