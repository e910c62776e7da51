"""Notebooks that run without anybody looking: nbconvert, papermill, Voila, each the real program.

nbclient, which the first two stand on, is what `tests/frontend` and `tests/transparency` use."""

from __future__ import annotations

import html
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.frontend import LOAD, plain, remotely
from tests.support.kernels import HandKernel
from tests.support.parts import require
from tests.support.processes import Process
from tests.support.sandbox import Sandbox
from tests.support.waiting import wait_until

pytestmark = pytest.mark.full

KERNELSPEC = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}

PARAMETERS = "who = 'nobody'"

GREET = """\
from IPython.display import HTML, display
print('hello', who)
display(HTML('<b>bold</b>'))"""

FAIL = "print('before')\n1 / 0"

GOES_ON = "print('it goes', 'on')"


@pytest.fixture(autouse=True)
def programs() -> None:
    require("headless")


@pytest.fixture
def notebook(sandbox: Sandbox, shared_kernel: HandKernel) -> Callable[..., Path]:
    """Write a notebook whose kernel has somebody else's attached as ``k``, and ``who`` there."""

    def write(*cells: str) -> Path:
        attach = f"%kernel_attach {shared_kernel.connection_file} --name k\n%kernel_push k who"
        made = new_notebook(
            cells=[new_code_cell(cell) for cell in (PARAMETERS, LOAD, attach, *cells)],
            metadata={"kernelspec": KERNELSPEC},
        )
        made.cells[0].metadata["tags"] = ["parameters"]
        path = sandbox.work / "report.ipynb"
        nbformat.write(made, path)
        return path

    return write


def run(sandbox: Sandbox, *arguments: str) -> tuple[int, str]:
    """Run a program of Python's to its end; its exit code, and all that it said."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments], env=sandbox.environment(), cwd=sandbox.work,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100, check=False,
    )  # fmt: skip
    return done.returncode, plain(done.stdout)


def shown(path: Path) -> str:
    """All text in the outputs of a notebook."""
    cells = nbformat.read(path, as_version=4).cells
    outputs = [one for cell in cells if cell.cell_type == "code" for one in cell.outputs]
    texts = [one.get("text", "") or "\n".join(one.get("traceback", "")) for one in outputs]
    return plain("\n".join(texts))


def test_nbconvert_makes_a_page_of_what_was_shown(
    sandbox: Sandbox, notebook: Callable[..., Path]
) -> None:
    path = notebook(remotely(GREET))
    code, said = run(sandbox, "nbconvert", "--to", "html", "--execute", str(path))
    assert code == 0, said
    page = path.with_suffix(".html").read_text()
    assert "hello nobody" in page
    assert "<b>bold</b>" in page


def test_nbconvert_ends_at_a_remote_error_and_shows_it(
    sandbox: Sandbox, notebook: Callable[..., Path]
) -> None:
    path = notebook(remotely(FAIL), GOES_ON)
    code, said = run(sandbox, "nbconvert", "--to", "html", "--execute", str(path))
    assert code == 1
    assert said.rstrip().endswith("ZeroDivisionError: division by zero")
    assert not path.with_suffix(".html").exists()


def papermill(sandbox: Sandbox, path: Path) -> tuple[int, str, str]:
    """Run it with a parameter: exit code, what it said, and what stands in the new notebook."""
    out = sandbox.work / "out.ipynb"
    code, said = run(
        sandbox, "papermill", "--no-progress-bar", str(path), str(out), "-p", "who", "Ada"
    )
    return code, said, shown(out)


def test_papermills_parameters_reach_the_other_kernel(
    sandbox: Sandbox, notebook: Callable[..., Path]
) -> None:
    code, said, text = papermill(sandbox, notebook(remotely(GREET)))
    assert code == 0, said
    assert "hello Ada" in text


def test_papermill_ends_at_a_remote_error_and_names_it(
    sandbox: Sandbox, notebook: Callable[..., Path]
) -> None:
    code, said, text = papermill(sandbox, notebook(remotely(FAIL), GOES_ON))
    assert code == 1
    error = said[said.index("PapermillExecutionError") :].splitlines()
    assert 'Exception encountered at "In [5]":' in error
    assert "[k]" in error
    assert [line for line in error if line][-1] == "ZeroDivisionError: division by zero"
    assert "before" in text
    assert "it goes on" not in text


def test_papermill_runs_on_where_it_is_told_to_and_tells_of_it_in_the_end(
    sandbox: Sandbox, notebook: Callable[..., Path]
) -> None:
    # Any error among the outputs, also a local one that failed nothing, makes papermill's exit 1.
    code, said, text = papermill(sandbox, notebook(remotely(FAIL, "--no-raise-error"), GOES_ON))
    assert "it goes on" in text
    assert (code, "ZeroDivisionError: division by zero" in said) == (1, True)
    quiet = notebook(remotely(FAIL, "-q --no-raise-error"), GOES_ON)
    code, said, text = papermill(sandbox, quiet)
    assert code == 0, said
    assert "it goes on" in text


def test_papermill_is_told_when_the_other_kernel_dies(
    sandbox: Sandbox, notebook: Callable[..., Path]
) -> None:
    die = "__import__('os').kill(__import__('os').getpid(), 9)"
    path = notebook("%kernel_start python3 --name own", remotely(die, kernel="own"), GOES_ON)
    code, said, text = papermill(sandbox, path)
    assert code == 1
    assert "KernelDied: kernel own" in said
    assert "it goes on" not in text


def test_voila_renders_what_was_shown(sandbox: Sandbox, notebook: Callable[..., Path]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = notebook(remotely(f"{GREET}\n6 * 7"))
    argv = [sys.executable, "-m", "voila", "--no-browser", f"--port={port}", str(path)]
    with Process(
        argv, env=sandbox.environment(), cwd=sandbox.work, log=sandbox.work / "voila.log"
    ) as server:

        def page() -> str:
            assert server.alive, server.output
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as answer:
                    return html.unescape(answer.read().decode())
            except urllib.error.URLError:
                return ""

        text = wait_until(page, what=lambda: f"a page\n{server.output}")
        server.send(signal.SIGTERM)  # it ends its kernels, and takes its files away
        server.wait()
    # Outputs are in the page as data for its scripts.
    assert "hello nobody" in text
    assert r'"text/html": "\u003cb\u003ebold\u003c/b\u003e"' in text
    assert '"text/plain": "42"' in text
