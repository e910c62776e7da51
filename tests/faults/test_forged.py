"""Messages that somebody forged, beside those of a running cell."""

import os
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.faces import Notebook
from tests.support.fake import FakeKernel, Request, Step
from tests.support.sandbox import Sandbox
from tests.support.steps import busy, execute_input, idle, reply
from tests.support.wire import Message, make_header, pack

FULL = os.environ.get("KM_TIER") == "full"

NUMBER = 200_000 if FULL else 20_000

PIECES = 20_000

SLOWER = 2.0
"""How much longer a cell may take when there is a forged message for each true one."""


@pytest.fixture
def notebook(sandbox: Sandbox) -> Generator[Notebook]:
    """A process of its own, so that it does not share an interpreter with the forger."""
    with closing(Notebook(sandbox)) as notebook:
        yield notebook


def pieces(kernel: FakeKernel, request: Request, number: int) -> list[list[bytes]]:
    """Streams as frames, made before they are needed."""
    parent = request.message.header
    return [
        [
            b"topic",
            *pack(
                Message(
                    make_header("stream", kernel.session),
                    parent,
                    {},
                    {"name": "stdout", "text": f"true {index}\n"},
                ),
                kernel.key,
            ),
        ]
        for index in range(number)
    ]


def spoil(frames: Sequence[bytes], way: int) -> list[bytes]:
    """One of the ways in which a message can be somebody else's."""
    match way % 4:
        case 0:
            return [*frames[:2], b"0" * 64, *frames[3:]]
        case 1:
            return [*frames[:2], b"", *frames[3:]]
        case 2:
            return [*frames[:-1], frames[-1].replace(b"true", b"fake")]
        case _:
            return list(frames)


def beside(true: int, forged: int, took: list[float]) -> Step:
    """True pieces of text, and evenly among them forged ones and old ones again."""

    def step(kernel: FakeKernel, request: Request) -> None:
        told = pieces(kernel, request, true)
        # Of what will have been sent: a replay that comes first would be the true message.
        lies = [spoil(told[index % (index * true // forged + 1)], index) for index in range(forged)]
        socket = kernel.sockets["iopub"]
        began = time.monotonic()
        for index, frames in enumerate(told):
            socket.send_multipart(frames)
            for lie in lies[index * forged // true : (index + 1) * forged // true]:
                socket.send_multipart(lie)
        took.append(began)

    return step


def run(notebook: Notebook, folder: Path, true: int, forged: int) -> float:
    """Run a cell beside which somebody forges, check what it printed; return what it took."""
    began: list[float] = []
    steps = [busy(), execute_input(), beside(true, forged, began), reply(), idle()]
    with FakeKernel({"execute_request": steps}, folder=folder) as fake:
        notebook.ok(f"%kernel_attach {fake.connection_file} --name k")
        seen = notebook.ok(f"from tests.faults import inside; inside.all_true('k', {true})", 200)
        seconds = time.monotonic() - began[0]
        notebook.ok("%kernel_detach k")
    assert seen.text == "all true\n", seen.text[-2000:]
    return seconds


def test_all_true_output_arrives_and_nothing_else(notebook: Notebook, runtime_dir: Path) -> None:
    run(notebook, runtime_dir, PIECES, NUMBER)


@pytest.mark.full
def test_forgers_do_not_slow_a_cell_down(notebook: Notebook, runtime_dir: Path) -> None:
    alone, beset = (
        min(run(notebook, runtime_dir, PIECES, forged) for _ in range(5)) for forged in (0, PIECES)
    )
    assert beset < SLOWER * alone
