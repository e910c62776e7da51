"""What rows do besides running a cell.

Each takes the stage, the kernel's name and the row's code, and returns what was seen."""

from __future__ import annotations

import re
import threading
from typing import Any

from tests import frontend
from tests.frontend import plain
from tests.languages.stage import Stage, seen
from tests.support.hosts import CellRun
from tests.support.waiting import Deadline

ANSWER = "an answer"

STUBBORN = "has not stopped yet"
"""What is told 2 s after a Ctrl-C without effect."""


def press_tab(stage: Stage, name: str, code: str) -> list[str]:
    """Complete at the end of the code, again and again: cold, a kernel may take seconds."""
    deadline = Deadline()
    offered: list[str] = []
    while not (offered or deadline.passed):
        offered = complete(stage, name, code)
    return [f"offers: {', '.join(offered[:9])}"]


def complete(stage: Stage, name: str, code: str) -> list[str]:
    reply = stage.host.complete(frontend.remotely(code, kernel=name))
    assert reply["status"] == "ok"
    matches: list[str] = reply["matches"]
    return matches


def ask_for_help(stage: Stage, name: str, code: str) -> list[str]:
    """Press Shift-Tab at the end of the code."""
    deadline = Deadline()
    reply = {"found": False}
    while not (reply["found"] or deadline.passed):
        reply = inspect(stage, name, code)
    return [f"help ({', '.join(sorted(reply['data']))})"] if reply["found"] else ["no help"]


def ask_for_help_in_vain(stage: Stage, name: str, code: str) -> list[str]:
    """Press Shift-Tab once, in a kernel that has none to give."""
    return ["help" if inspect(stage, name, code)["found"] else "no help"]


def inspect(stage: Stage, name: str, code: str) -> dict[str, Any]:
    reply = stage.host.inspect(frontend.remotely(code, kernel=name))
    assert reply["status"] == "ok"
    return reply


def look_at_table(stage: Stage, name: str, code: str) -> list[str]:
    """The kernel's language in ``%kernels``."""
    table = stage.run(code).ok().of_type("display_data")[0]["data"]["text/plain"]
    [row] = [line for line in table.splitlines() if f" {name} " in line]
    return [row[row.index(name) + len(name) :].split()[0]]


def answered(stage: Stage, name: str, code: str) -> list[str]:
    """Run it where somebody answers what it asks."""
    run = stage.remote(name, code, on_input=lambda prompt, password: ANSWER)
    return [*(f"asks: {prompt}" for prompt, _ in run.inputs), *seen(run)]


def many_lines(stage: Stage, name: str, code: str) -> list[str]:
    """Run what prints the numbers from 1 to the largest in the code, a line each."""
    lines = plain(stage.remote(name, code).ok().stdout).split()
    last = max(map(int, re.findall(r"\d+", code)))
    whole = lines == [str(number) for number in range(1, last + 1)]
    return [f"all {last} lines" if whole else f"{len(lines)} of {last} lines"]


def twice(stage: Stage, name: str, code: str) -> list[str]:
    """Run it two times, one directly after the other."""
    call = f"k.run({code!r}, raise_error=False).status"
    kernel = f"__import__('kernel_magics').pool[{name!r}]"
    run = stage.run(f"k = {kernel}; print(({call}, {call}))").ok()
    return [run.stdout.strip()]


def press_stop(stage: Stage, name: str, code: str) -> list[str]:
    """Run it, press the stop button, and a second time if that has not helped."""
    run = stage.begin(name, code)
    let_it_begin_to_wait(code)
    stage.host.interrupt()
    stage.host.wait_for(
        lambda: run.done or STUBBORN in run.stderr, what=lambda: f"it ends, or a word: {run}"
    )
    if not run.done:
        stage.host.interrupt()
        run.wait()
        end(stage, name)
    return without_begun(run)


def interrupt_busy(stage: Stage, name: str, code: str) -> list[str]:
    """Run it in the background, and ``%kernel_interrupt``."""
    run = stage.begin(name, code, "--bg")
    let_it_begin_to_wait(code)
    said = plain(stage.run(f"%kernel_interrupt {name}").ok().stdout).strip()
    if "busy still" in said:
        end(stage, name)
    stage.host.wait_for(lambda: ended(run), what=lambda: f"the job is over: {run.outputs}")
    return [said]


def interrupt_idle(stage: Stage, name: str, code: str) -> list[str]:
    """``%kernel_interrupt`` while nothing runs there."""
    return [plain(stage.run(f"%kernel_interrupt {name}").ok().stdout).strip()]


def let_it_begin_to_wait(code: str) -> None:
    """Let a cell that awaits pass from its last statement into that: Deno only interrupts the
    former. Nothing shows when it has."""
    if "await" in code:
        threading.Event().wait(0.5)


def end(stage: Stage, name: str) -> None:
    """End what cannot be interrupted, as its user would: by a restart if it is ours."""
    if name.endswith("-ours"):
        stage.run(f"%kernel_restart {name}").ok()
        stage.spoilt.add(name)
    else:
        stage.forget(name)


def ended(run: CellRun) -> bool:
    """Whether the line above a background cell's outputs says that it is over."""
    lines = [
        str(output.content["data"].get("text/plain", ""))
        for output in run.outputs
        if "data" in output.content
    ]
    return bool(lines) and "running" not in lines[-1]


def without_begun(run: CellRun) -> list[str]:
    """What was seen, but for the sign that the cell has begun."""
    lines = [line.replace("begun", "").strip() for line in seen(run)]
    return [line for line in lines if line not in ("stdout:", "stdout")]
