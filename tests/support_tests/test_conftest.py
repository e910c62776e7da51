"""The rules of our ``conftest``, proved on small test files run by a pytest of their own."""

import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.support.sandbox import CHECKOUT, Sandbox

Outcome = tuple[dict[str, int], str]
RunPytest = Callable[..., Outcome]


@pytest.fixture
def run_pytest(sandbox: Sandbox) -> RunPytest:
    """Run a test file under our conftest; return the counted outcomes and all that was printed."""

    def run(source: str, *options: str, **variables: str) -> Outcome:
        (sandbox.work / "conftest.py").write_text("from tests.conftest import *\n")
        (sandbox.work / "test_it.py").write_text(source)
        command = [sys.executable, "-m", "pytest", "-rsfE", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, f"--basetemp={sandbox.work / 'base'}", *options, "test_it.py"],
            cwd=sandbox.work,
            env=sandbox.environment(**variables),
            capture_output=True,
            text=True,
            check=False,
        )
        last = done.stdout.rstrip().splitlines()[-1]
        counted = re.findall(r"(\d+) (passed|failed|errors?|skipped|deselected)", last)
        return {word: int(number) for number, word in counted}, done.stdout + done.stderr

    return run


FULL = """
import pytest
def test_short(): pass
@pytest.mark.full
def test_long(): pass
"""


@pytest.mark.full
def test_tests_of_the_full_tier_are_left_out_and_counted(run_pytest: RunPytest) -> None:
    outcome, text = run_pytest(FULL, KM_TIER="")
    assert outcome == {"passed": 1, "deselected": 1}
    assert "1 tests of the full tier not run; KM_TIER=full does" in text


@pytest.mark.full
def test_the_full_tier_runs_all(run_pytest: RunPytest) -> None:
    outcome, text = run_pytest(FULL, KM_TIER="full")
    assert outcome == {"passed": 2}
    assert "full tier" not in text


FULL_FILE = """
import pytest
pytestmark = pytest.mark.full
def test_long(): pass
@pytest.mark.quick
@pytest.mark.parametrize("age", ["new", pytest.param("old", marks=pytest.mark.full)])
def test_central(age): pass
"""


@pytest.mark.full
def test_of_a_file_that_is_full_what_is_quick_runs(run_pytest: RunPytest) -> None:
    outcome, _ = run_pytest(FULL_FILE, KM_TIER="")
    assert outcome == {"passed": 1, "deselected": 2}


@pytest.mark.full
def test_workers_leave_out_as_much_and_it_is_counted_once(run_pytest: RunPytest) -> None:
    outcome, text = run_pytest(FULL, "-n2", KM_TIER="")
    assert outcome == {"passed": 1}
    assert text.count("1 tests of the full tier not run") == 1


FLOOR = """
from tests.support.parts import require
def test_it(): require("floor")
"""


@pytest.mark.full
def test_a_missing_part_skips_with_the_line_that_installs_it(run_pytest: RunPytest) -> None:
    outcome, text = run_pytest(FLOOR, KM_FLOOR_PYTHON="/nowhere/python", KM_REQUIRE="bash")
    assert outcome == {"skipped": 1}
    assert "python -m venv .venv-floor && .venv-floor/bin/pip install ipython==8.20.0" in text


@pytest.mark.full
def test_a_missing_part_that_is_required_fails(run_pytest: RunPytest) -> None:
    outcome, text = run_pytest(FLOOR, KM_FLOOR_PYTHON="/nowhere/python", KM_REQUIRE="bash, floor")
    assert outcome == {"failed": 1}
    assert "floor is required by KM_REQUIRE but missing: python -m venv" in text


@pytest.mark.full
def test_a_part_that_is_here_neither_skips_nor_fails(run_pytest: RunPytest) -> None:
    outcome, _ = run_pytest(FLOOR, KM_FLOOR_PYTHON=sys.executable, KM_REQUIRE="floor")
    assert outcome == {"passed": 1}


LEAKS = """
import os, subprocess, sys, tempfile
kept = []
def test_leaving(runtime_dir):
    kept.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]))
    tempfile.mkstemp()
    (runtime_dir / "kernel-1.json").touch()
def test_clean(runtime_dir):
    kept[0].wait()
    assert os.environ["JUPYTER_RUNTIME_DIR"] == str(runtime_dir)
    assert os.environ["TMPDIR"] == tempfile.gettempdir()
"""


def test_a_test_that_leaves_something_fails_and_does_not_hurt_the_next(
    run_pytest: RunPytest,
) -> None:
    outcome, text = run_pytest(LEAKS)
    assert outcome == {"passed": 2, "error": 1}
    left = text.partition("left behind:")[2].splitlines()[1:5]
    words = [line.split()[0] for line in left]
    assert words == ["process", "descriptor", "file", "file"]
    assert left[2].endswith("/run/kernel-1.json")


FLAKY = """
import pathlib
def test_it():
    tried = pathlib.Path("tried")
    again = tried.exists()
    tried.touch()
    assert again, "only this time"
"""


@pytest.mark.full
@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_why_a_test_was_run_again_is_told(run_pytest: RunPytest, workers: str) -> None:
    outcome, text = run_pytest(FLAKY, "--reruns=2", workers)
    assert outcome == {"passed": 1}
    assert "run again: test_it.py::test_it (call)" in text
    assert "AssertionError: only this time" in text


FIXTURES = """
import os
def test_kernels_and_hosts_are_closed_even_when_a_test_fails(hand_kernel, fake_kernel, kernel_host):
    print("PIDS", hand_kernel("echo").pid, kernel_host().pid)
    fake_kernel()
    assert False
def test_the_shared_kernel_outlives_a_test(shared_kernel):
    assert shared_kernel.value("1") == 1
def test_the_shared_kernel_is_still_there(shared_kernel):
    assert shared_kernel.process.alive
    assert str(shared_kernel.connection_file) != os.environ["JUPYTER_RUNTIME_DIR"]
"""


@pytest.mark.full
def test_fixtures_close_what_they_opened(run_pytest: RunPytest) -> None:
    outcome, text = run_pytest(FIXTURES)
    assert outcome == {"passed": 2, "failed": 1}, text


@pytest.mark.full
def test_the_run_folder_is_short_and_goes_with_the_run(run_pytest: RunPytest) -> None:
    outcome, text = run_pytest("def test_it(sandbox): print('AT', sandbox.root); assert 0")
    assert outcome == {"failed": 1}
    (root,) = re.findall(r"^AT (.*)$", text, re.MULTILINE)
    assert len(root) < 20 or not root.startswith("/tmp/km")
    assert str(CHECKOUT) not in root
