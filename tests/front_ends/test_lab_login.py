"""JupyterLab in a browser: what ssh asks is asked below the cell, and secrets are hidden."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.front_ends import test_lab
from tests.front_ends.test_lab import LOAD, Open
from tests.support import logins
from tests.support.kernels import HandKernel
from tests.support.lab import LabPage, LabServer
from tests.support.logins import KINDS, SECRETS, Asked, Asking, Kind
from tests.support.parts import require
from tests.support.sandbox import Sandbox
from tests.support.sshd import HOST

pytestmark = pytest.mark.full

browser, notebook = test_lab.browser, test_lab.notebook

FIND_SSH = """\
import os
os.environ["PATH"] = {bin!r} + os.pathsep + os.environ["PATH"]
os.environ.pop("SSH_AUTH_SOCK", None)"""
TUNNEL = f"%kernel_tunnel {HOST} 6759 --name far"
FAR = 2  # the cell that logs in

QUICK: list[Kind] = ["password", "codes"]
EACH = [*QUICK, *(pytest.param(k, marks=pytest.mark.full) for k in KINDS if k not in QUICK)]


@pytest.fixture(scope="module")
def server(run_folder: Path) -> Generator[LabServer]:
    require("lab")
    with LabServer(Sandbox.make(run_folder / "lab-login")) as server:
        yield server


@pytest.fixture
def reach(
    sandbox: Sandbox, closing: ExitStack, shared_kernel: HandKernel
) -> Callable[[Kind], Asking]:
    """Run a server that asks; a kernel is called ``kernel-far6759`` there."""

    def run(kind: Kind) -> Asking:
        way = closing.enter_context(logins.asking(kind, sandbox.root / "sshd"))
        shutil.copy(shared_kernel.connection_file, way.server.runtime / "kernel-far6759.json")
        return way

    return run


Reach = Callable[[Kind], Asking]


def open_for(notebook: Open, way: Asking, *cells: str) -> LabPage:
    """Open a notebook whose third cell, not yet run, logs in."""
    page = notebook(FIND_SSH.format(bin=str(way.server.bin)), LOAD, TUNNEL, *cells)
    page.run_cell(0)
    page.run_cell(1)
    return page


def asked(page: LabPage, question: Asked) -> None:
    """See the question, and whether what is typed would be seen."""
    assert page.wait_input().startswith(f"[ssh] {question.text.strip()}")
    box = page.page.locator(".jp-Stdin-input")
    assert (box.get_attribute("type") == "password") == question.secret


def log_in(page: LabPage, way: Asking) -> None:
    page.start_cell(FAR)
    for question in way.questions:
        asked(page, question)
        page.answer_input(question.answer)
    page.wait_cell(FAR)
    assert "attached far" in page.output_text(FAR)


@pytest.mark.parametrize("kind", EACH)
def test_every_question_is_asked_below_the_cell_and_secrets_are_hidden(
    reach: Reach, notebook: Open, kind: Kind
) -> None:
    way = reach(kind)
    page = open_for(notebook, way, "%%remote far\nprint('there')")

    log_in(page, way)
    page.run_cell(FAR + 1)

    assert page.outputs(FAR + 1) == ["there"]
    drawn, saved = page.page.content(), page.save().read_text()
    assert not [secret for secret in SECRETS if secret in drawn or secret in saved]


@pytest.mark.full
def test_a_wrong_password_is_asked_again_below_the_cell(reach: Reach, notebook: Open) -> None:
    way = reach("password")
    (question,) = way.questions
    page = open_for(notebook, way)

    page.start_cell(FAR)
    asked(page, question)
    page.answer_input("wrong")
    asked(page, question)
    page.answer_input(question.answer)
    page.wait_cell(FAR)

    assert "attached far" in page.output_text(FAR)


@pytest.mark.parametrize("refuse", ["stop button", pytest.param("empty", marks=pytest.mark.full)])
def test_refusing_in_the_page_is_one_plain_error_and_no_failed_login(
    reach: Reach, notebook: Open, refuse: str
) -> None:
    way = reach("password")
    page = open_for(notebook, way, "'well'")

    page.start_cell(FAR)
    asked(page, way.questions[0])
    if refuse == "empty":
        page.answer_input("")
    else:
        page.interrupt()
    page.wait_cell(FAR, timeout=10)
    page.run_cell(FAR + 1)

    (error,) = [one for one in page.model_outputs(FAR) if one["output_type"] == "error"]
    assert error["ename"] == "LoginRefused"
    assert len(error["traceback"]) == 1
    assert page.outputs(FAR + 1) == ["'well'"]
    assert way.failures() == []


LONG = """\
%%remote far
import pathlib, time
while not pathlib.Path({mark!r}).exists():
    print('looping', flush=True)
    time.sleep(0.1)
print('over')"""


@pytest.mark.full
def test_a_cell_that_runs_asks_after_a_cut_and_goes_on(
    reach: Reach, notebook: Open, sandbox: Sandbox
) -> None:
    way, mark = reach("password"), sandbox.work / "healed"
    page = open_for(notebook, way, LONG.format(mark=str(mark)))
    log_in(page, way)

    page.start_cell(FAR + 1)
    page.wait_output(FAR + 1, "looping")
    way.server.cut()
    asked(page, way.questions[0])
    page.answer_input(way.questions[0].answer)
    page.wait_output(FAR + 1, "out of reach for a moment")
    mark.touch()
    page.wait_cell(FAR + 1)

    assert "over" in page.output_text(FAR + 1)
