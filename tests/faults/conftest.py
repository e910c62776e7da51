"""The two hosts that all rows share, and what each file's rows are played with."""

import uuid
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.faults.faces import BOTH, Kind
from tests.faults.rows import Fault
from tests.faults.stage import NEXT, Lanes, SharedFace, nothing_left_in, play
from tests.support.fake import FakeKernel
from tests.support.sandbox import Sandbox

Hosts = dict[Kind, SharedFace]
"""The hosts that quick rows share, once a test has asked for them; empty before."""


@pytest.fixture(scope="package")
def hosts() -> Hosts:
    return {}


@pytest.fixture(scope="package")
def shared_hosts(run_folder: Path, hosts: Hosts) -> Generator[Hosts]:
    """A notebook and a terminal that outlive the tests, in a sandbox of their own."""
    sandbox = Sandbox.make(run_folder / "hosts")
    with FakeKernel(NEXT, folder=sandbox.runtime) as steady, ExitStack() as stack:
        for kind in BOTH:
            hosts[kind] = stack.enter_context(closing(SharedFace(kind, sandbox, steady)))
            hosts[kind].mend()
        yield hosts
    hosts.clear()
    nothing_left_in(sandbox)


@pytest.fixture
def sandbox(hosts: Hosts, sandbox: Sandbox) -> Sandbox:
    """As for all tests; but a host that the last row has broken is replaced first, before anybody
    takes note of what there was before this test."""
    for shared in hosts.values():
        shared.mend()
    return sandbox


@pytest.fixture(scope="package")
def lanes(request: pytest.FixtureRequest, run_folder: Path) -> Lanes:
    """All slow rows that are to be tested, already played."""
    callspecs = [getattr(item, "callspec", None) for item in request.session.items]
    params = [callspec.params for callspec in callspecs if callspec is not None]
    rows = [(each["row"], each["kind"]) for each in params if isinstance(each.get("row"), Fault)]
    lanes = Lanes(
        [job for job in rows if job[0].slow], run_folder / f"lanes-{uuid.uuid4().hex[:6]}"
    )
    lanes.play()
    return lanes


@pytest.fixture
def playing(
    request: pytest.FixtureRequest, shared_hosts: Hosts, sandbox: Sandbox
) -> Callable[[Fault, Kind], None]:
    """Plays a row in a host, or tells how that went."""

    def played(row: Fault, kind: Kind) -> None:
        if row.slow:
            lanes: Lanes = request.getfixturevalue("lanes")
            if lanes.outcome(row, kind):
                return
        play(row, shared_hosts[kind].face, sandbox)

    return played
