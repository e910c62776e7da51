"""What the process table says about kernels."""

import sys
from pathlib import Path

import pytest

from kernel_magics.connect import processes
from kernel_magics.connect.processes import Serving, serving
from tests.support.processes import Process
from tests.support.sandbox import Sandbox
from tests.support.waiting import wait_until

SLEEP = "import time; time.sleep(600)"


@pytest.mark.parametrize("spelling", ["{}", "--f={}", "--IPKernelApp.connection_file={}"])
def test_a_process_is_found_by_the_file_it_was_given(sandbox: Sandbox, spelling: str) -> None:
    file = sandbox.runtime / "kernel-x y.json"
    notebook = sandbox.work / "analysis.ipynb"
    env = sandbox.environment(JPY_SESSION_NAME=str(notebook))
    argv = [sys.executable, "-c", SLEEP, spelling.format(file)]
    with Process(argv, env=env, cwd=sandbox.work, log=sandbox.work / "log") as process:
        wait_until(lambda: file in serving(), what="its command line is there")
        assert serving()[file] == Serving(process.pid, sandbox.work, notebook)
    assert file not in serving()


def test_what_no_server_started_has_no_notebook(sandbox: Sandbox) -> None:
    file = sandbox.runtime / "kernel-1.json"
    argv = [sys.executable, "-c", SLEEP, str(file)]
    env = sandbox.environment()
    with Process(argv, env=env, cwd=sandbox.work, log=sandbox.work / "log"):
        wait_until(lambda: file in serving(), what="its command line is there")
        assert serving()[file].notebook is None


def test_without_a_process_table_nothing_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(processes, "PROC", tmp_path / "absent")
    assert serving() == {}
