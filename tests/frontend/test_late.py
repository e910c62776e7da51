"""What a kernel still says when a cell is over, and what it wants of a front end that has gone
on."""

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import frontend
from tests.frontend import Desk, Mode, joined, plain, remotely, terminal_with, transcript
from tests.support import steps
from tests.support.hosts import CellRun, TerminalHost
from tests.support.kernels import HandKernel

desk, lasting_desk = frontend.desk, frontend.lasting_desk_newest_first

LATER = """\
import pathlib, threading, time
def say(gate, words, pause=0.02):
    while not pathlib.Path(gate).exists(): time.sleep(0.01)
    for word in words.split():
        print(word, flush=True)
        time.sleep(pause)
def later(*how): threading.Thread(target=say, args=how).start()
"""
"""Defines ``later``: a thread that prints words, each on a line, once there is a file."""


class Gate:
    """A file that a thread of the other kernel waits for."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / f"gate-{uuid.uuid4().hex[:8]}"

    def later(self, words: str) -> str:
        """Code that has a thread print those words when the gate is open."""
        return f"{LATER}later({str(self.file)!r}, {words!r})"

    def open(self) -> None:
        self.file.touch()


@pytest.fixture
def gate(desk: Desk) -> Gate:
    return Gate(desk.sandbox.work)


def until_it_says(desk: Desk, run: CellRun, text: str) -> None:
    """Wait until a cell shows a text."""
    desk.host.wait_for(lambda: text in run.stdout, what=lambda: f"{text!r} in {run}")


def blames_the_latest(desk: Desk) -> bool:
    """Whether the other kernel counts what threads print to whatever it was asked last, as
    ipykernel 7.1 and later do. Asking it would be one more thing that it was asked."""
    return desk.kernel.kind != "floor"


def test_it_goes_to_the_cell_that_started_the_thread(desk: Desk, gate: Gate) -> None:
    run = desk.remote(gate.later("one two three")).ok()
    other = desk.run("print('another')").ok()
    gate.open()
    until_it_says(desk, run, "three")
    assert (run.stdout, other.stdout) == ("one\ntwo\nthree\n", "another\n")


def test_beside_a_later_cell_it_stands_where_the_kernel_says(desk: Desk, gate: Gate) -> None:
    first = desk.remote(gate.later("one two three")).ok()
    second = desk.remote("print('second')").ok()
    gate.open()
    named = second if blames_the_latest(desk) else first
    until_it_says(desk, named, "three")
    assert first.stdout + second.stdout in (
        "one\ntwo\nthree\nsecond\n",
        "second\none\ntwo\nthree\n",
    )


def test_displays_and_stderr_come_late_as_well(desk: Desk, gate: Gate) -> None:
    code = f"""{LATER}
import sys
def show():
    say({str(gate.file)!r}, 'text')
    handle = display('shown', display_id=True)
    handle.update('changed')
    print('on stderr', file=sys.stderr, flush=True)
threading.Thread(target=show).start()"""
    run = desk.remote(code).ok()
    gate.open()
    desk.host.wait_for(lambda: run.stderr, what=lambda: f"{run}")
    assert transcript(run) == "text\n<'shown'>\n<'changed'>\non stderr\n"


MEANWHILE: dict[str, Callable[[Desk], object]] = {
    "Tab": lambda desk: desk.host.complete(remotely("pathlib.Pa")),
    "Shift-Tab": lambda desk: desk.host.inspect(remotely("pathlib.Path")),
    "a variable": lambda desk: desk.run("%kernel_pull k 6*7 --as fetched").ok(),
    "the table": lambda desk: desk.run("%kernels").ok(),
    "a quiet cell, and Tab": lambda desk: (
        desk.remote("print('unseen')", "-q").ok(),
        desk.host.complete(remotely("pathlib.Pa")),
    ),
}


@pytest.mark.parametrize("meanwhile", MEANWHILE)
def test_what_is_asked_of_the_kernel_meanwhile_loses_nothing(
    desk: Desk, gate: Gate, meanwhile: str
) -> None:
    run = desk.remote(gate.later("one two three")).ok()
    MEANWHILE[meanwhile](desk)
    gate.open()
    until_it_says(desk, run, "three")
    assert (run.stdout, run.stderr) == ("one\ntwo\nthree\n", "")


def test_a_capture_takes_what_comes_before_the_end_and_no_more(desk: Desk, gate: Gate) -> None:
    run = desk.run("%%capture taken\n" + remotely(f"print('in time')\n{gate.later('late')}")).ok()
    assert run.outputs == []
    gate.open()
    until_it_says(desk, run, "late")
    assert desk.value("taken.stdout") == "in time\n"


def test_a_quiet_cell_stays_quiet(desk: Desk, gate: Gate) -> None:
    told = Path(f"{gate.file}-told")
    code = f"""{LATER}
def say_and_tell():
    say({str(gate.file)!r}, 'unseen')
    pathlib.Path({str(told)!r}).touch()
threading.Thread(target=say_and_tell).start()"""
    quiet = desk.remote(code, "-q").ok()
    gate.open()
    desk.host.wait_for(told.exists)
    assert desk.remote("'after it'").ok().result == "'after it'"
    assert quiet.outputs == []


@pytest.mark.full
def test_a_cell_long_forgotten_is_told_apart(desk: Desk, gate: Gate) -> None:
    """More cells come between than are remembered, and none of them says so."""
    first = desk.remote(gate.later("one two")).ok()
    for _ in range(70):
        last = desk.remote("pass").ok()
    gate.open()
    until_it_says(desk, last, "two")
    label = "[k] an earlier cell, whose place is forgotten, still says:\n"
    assert (last.stderr, last.stdout) == ("" if blames_the_latest(desk) else label, "one\ntwo\n")
    assert first.outputs == []


def test_a_cell_that_goes_on_talking_is_not_forgotten(desk: Desk) -> None:
    with desk.fake() as kernel:
        first = desk.remote("x", kernel="fake").ok()
        asked = kernel.requests[-1]
        for number in range(70):
            desk.remote("y", kernel="fake").ok()
            kernel.do(lambda kernel, text=f"{number}\n": steps.stream(text)(kernel, asked))
            until_it_says(desk, first, f"{number}\n")
        assert first.stdout == "".join(f"{number}\n" for number in range(70))


def test_what_cells_of_others_show_is_not_shown(desk: Desk, gate: Gate) -> None:
    before = desk.remote(gate.later("ours")).ok()
    desk.kernel.ask("print('THEIRS'); display('THEIRS')")
    after = desk.remote("'ours again'").ok()
    gate.open()
    until_it_says(desk, after if blames_the_latest(desk) else before, "ours")
    assert transcript(before) + transcript(after) in (
        "<'ours again'>\nours\n",
        "ours\n<'ours again'>\n",
    )
    assert not any("THEIRS" in str(one["content"]) for one in desk.host.strays)


def test_several_kernels_stay_apart(desk: Desk, gate: Gate) -> None:
    with desk.owned(name="other"):
        run = desk.run(remotely(gate.later("one two"), kernel="k,other")).ok()
        gate.open()
        desk.host.wait_for(lambda: run.stdout.count("two\n") == 2, what=lambda: f"{run}")
        assert sorted(words_by_kernel(run)) == [("k", ["one", "two"]), ("other", ["one", "two"])]


def words_by_kernel(run: CellRun) -> list[tuple[str, list[str]]]:
    """What each kernel has printed, by the headings above it."""
    words: dict[str, list[str]] = {}
    name = ""
    for line in run.stdout.splitlines():
        if line.startswith("["):
            name = line.strip("[]")
        else:
            words.setdefault(name, []).append(line)
    return list(words.items())


def test_what_is_too_much_is_added_to_the_file_of_its_cell(desk: Desk) -> None:
    desk.run("%config KernelMagics.text_limit = 100").ok()
    try:
        with desk.fake(steps.cell(steps.stream("a" * 99 + "\n"), steps.stream("b\n"))) as kernel:
            run = desk.remote("x", kernel="fake").ok()
            asked = kernel.requests[-1]
            (file,) = desk.sandbox.temporary.glob("km-output-*.txt")
            for text in ("c\n", "d\n"):
                kernel.do(lambda kernel, text=text: steps.stream(text)(kernel, asked))
            desk.host.wait_for(lambda: file.read_text().endswith("d\n"))
            assert file.read_text() == "a" * 99 + "\nb\nc\nd\n"
            assert desk.remote("y", kernel="fake").status == "ok"
    finally:
        desk.run("%config KernelMagics.text_limit = 10_000_000").ok()
        for each in desk.sandbox.temporary.glob("km-output-*.txt"):
            each.unlink()
    assert run.stderr.count("printed more than") == 1


# In a terminal: above the prompt, each line with the kernel's name.


@pytest.mark.full
@pytest.mark.parametrize("mode", ["simple", "full"])
def test_a_terminal_names_the_kernel_on_each_line(
    terminal_host: Callable[..., TerminalHost], hand_kernel: Callable[..., HandKernel], mode: Mode
) -> None:
    kernel, terminal = hand_kernel(), terminal_host(mode)
    terminal_with(terminal, kernel)
    gate = Gate(kernel.connection_file.parent)
    terminal.run("%remote k from threading import Thread; from pathlib import Path; import time")
    wait = f"[time.sleep(0.01) for _ in iter(Path({str(gate.file)!r}).exists, True)]"
    said = "print('one\\ntwo', flush=True)"
    assert terminal.run(f"%remote k Thread(target=lambda: [{wait}, {said}]).start()") == ""
    if mode == "full":
        terminal.press("half = 'typed")
    gate.open()
    terminal.expect(r"\[k\] one\s*\n")
    terminal.expect(r"\[k\] two")
    terminal.press(" so far'; print(half)\r" if mode == "full" else "print('typed so far')\r")
    terminal.expect(r"typed so far\r?\n")
    gate.file.unlink()


@pytest.mark.full
def test_a_cell_that_a_terminal_does_not_wait_for_any_more_is_still_heard(
    terminal_host: Callable[..., TerminalHost], hand_kernel: Callable[..., HandKernel]
) -> None:
    kernel, terminal = hand_kernel(), terminal_host()
    terminal_with(terminal, kernel)
    gate = Gate(kernel.connection_file.parent)
    code = f"{LATER}say({str(gate.file)!r}, 'one two')"
    terminal.run("import kernel_magics; code = " + repr(code))
    given_up = "get_ipython().run_cell_magic('remote', '--timeout 0.3 k', code)"
    assert "the code runs on in k" in terminal.run(given_up)
    gate.open()
    terminal.expect(r"\[k\] one\s*\n")
    terminal.expect(r"\[k\] two")
    gate.file.unlink()


@pytest.mark.full
def test_several_kernels_are_named_in_a_terminal(
    terminal_host: Callable[..., TerminalHost], hand_kernel: Callable[..., HandKernel]
) -> None:
    terminal = terminal_with(terminal_host(), hand_kernel())
    other = hand_kernel()
    terminal.run(f"%kernel_attach {other.connection_file} --name other")
    gate = Gate(other.connection_file.parent)
    terminal.run("code = " + repr(gate.later("said")))
    terminal.run("get_ipython().run_cell_magic('remote', 'k,other', code)")
    gate.open()
    printed = terminal.expect(r"said\s*\n") + terminal.expect(r"said")
    assert sorted(line for line in printed.split() if "[" in line) == ["[k]", "[other]"]
    gate.file.unlink()


# Payloads that nobody waits for.


def over(desk: Desk, run: CellRun) -> CellRun:
    """Wait until a background cell that was saved as ``job`` is over."""
    desk.run("job.wait()").ok()
    return run


def shown(run: CellRun) -> list[str]:
    """The plain texts of all displays but the status line."""
    return [
        plain(one["data"]["text/plain"])
        for one in run.of_type("display_data")
        if not one["transient"].get("display_id", "").startswith("km-job")
    ]


def test_help_of_a_background_cell_is_shown_in_it(desk: Desk) -> None:
    desk.remote("def f(x):\n    'What f does.'").ok()
    run = over(desk, desk.remote("print('before')\nf?", "--bg", "--save job"))
    (text,) = shown(run)
    assert "Signature: f(x)" in text
    assert "Docstring: What f does." in text
    assert run.reply["payload"] == []
    kept = desk.value("[one['output_type'] for one in job.outputs]")
    assert kept == ["stream", "display_data"]
    again = desk.run("again = %remote_result").ok()
    assert shown(again) == [text]


def test_help_of_a_background_cell_that_fails_is_shown_too(desk: Desk) -> None:
    run = desk.remote("print?\n1 / 0", "--bg", "--save job").ok()
    assert desk.run("job.result()").reply["ename"] == "ZeroDivisionError"
    (text,) = shown(run)
    assert "Prints the values" in text


def test_a_quiet_background_cell_shows_no_help(desk: Desk) -> None:
    assert shown(over(desk, desk.remote("print?", "--bg", "-q", "--save job"))) == []


def test_a_background_cell_fills_nobody_s_next_cell(desk: Desk) -> None:
    run = desk.remote("get_ipython().set_next_input('x = 1')", "--bg", "--save job")
    assert over(desk, run).reply["payload"] == []
    assert shown(run) == ["the next cell is to be this; it is not filled in:\n\n"
                          "%%remote --bg --save job k\nx = 1"]  # fmt: skip
    assert desk.run("1").reply["payload"] == []


def test_a_background_cell_that_wants_an_end_or_a_file_opened_says_so(desk: Desk) -> None:
    asked = "get_ipython().payload_manager.write_payload(dict(source={!r}, {}))"
    edit = asked.format("edit_magic", f"filename={'/there/' + 'x' * 99 + '.py'!r}")
    run = desk.remote(f"{asked.format('ask_exit', '')}\n{edit}", "--bg", "--save job")
    assert over(desk, run).stderr == (
        "[k] was asked to exit; this session is still here\n"
        f"[k] %edit wants /there/{'x' * 99}.py opened, which is a file of that kernel; open it "
        "there\n"
    )


@pytest.mark.full
def test_several_kernels_show_their_help_under_their_names(desk: Desk) -> None:
    desk.remote("def f(): 'of k'").ok()
    with desk.owned(name="other"):
        desk.remote("def f(): 'of other'", kernel="other").ok()
        run = desk.run(remotely("f?", kernel="k,other")).ok()
        captured = desk.run("%%capture taken\n" + remotely("f?", kernel="k,other")).ok()
        assert captured.outputs == []
        assert desk.value("len(taken.outputs)") == 2
        quiet = desk.run(remotely("f?", "-q", kernel="k,other")).ok()
    assert run.reply["payload"] == []
    headings = [one.content["text"] for one in joined(run) if one.msg_type == "stream"]
    assert headings == ["[k]\n", "[other]\n"]
    assert [text.split("Docstring: ")[1].split("\n")[0] for text in shown(run)] == [
        "of k",
        "of other",
    ]
    assert quiet.outputs == []


@pytest.mark.full
def test_a_terminal_shows_the_help_of_a_background_cell(
    terminal_host: Callable[..., TerminalHost], hand_kernel: Callable[..., HandKernel]
) -> None:
    terminal = terminal_with(terminal_host(), hand_kernel())
    terminal.start("get_ipython().run_cell_magic('remote', 'k --bg --save job', 'print?')")
    terminal.expect(r"Prints the values")
    terminal.expect(r"\[k\] job 1: done in")
