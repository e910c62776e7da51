"""The notebook that the rows share, and the kernels behind it."""

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.frontend import lasting_sandbox
from tests.languages.kernels import NEXT
from tests.languages.rows import Row
from tests.languages.stage import Stage
from tests.support import parts
from tests.support.sandbox import Sandbox


@pytest.fixture(scope="package")
def stage(run_folder: Path) -> Generator[Stage]:
    """A notebook, and whatever kernels the tests want."""
    with lasting_sandbox(run_folder) as sandbox, Stage(sandbox) as stage:
        yield stage


@pytest.fixture
def sandbox(request: pytest.FixtureRequest, sandbox: Sandbox) -> Generator[Sandbox]:
    """As for all tests; but the row's kernel, which outlives it, is started first, before anybody
    takes note of what there was before this test."""
    params = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    row = params.get("row")
    if not isinstance(row, Row):
        yield sandbox
        return
    if row.kernel in parts.PARTS:
        parts.require(row.kernel)
    stage: Stage = request.getfixturevalue("stage")
    if not stage.has(stage.name_of(row.kernel, params["whose"])):
        name = stage.kernel(row.kernel, params["whose"])
        stage.remote(name, NEXT[row.kernel][0]).ok()  # some start a process with the first cell
    yield sandbox
