"""JupyterLab in a browser: direct cells look right, and remote ones look the same."""

import base64
import os
import struct
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import Protocol

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.support.lab import LabBrowser, LabPage, LabServer, stream_text
from tests.support.parts import require
from tests.support.sandbox import Sandbox
from tests.support.waiting import wait_until

pytestmark = pytest.mark.full

KERNELSPEC = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
LOAD = "%load_ext kernel_magics"
START = "%kernel_start python3 --name gpu"
FIRST = 2  # the first cell after these two

LINES = 20_000
PRINT_LINES = f"for i in range({LINES}): print(i, flush=True)"
NUMBERED = [str(i) for i in range(LINES)]

LOOP = "print('looping')\nwhile True: pass"
ASK = "name = input('name? ')\nprint('hello', name)"


def png(width: int, height: int) -> str:
    """An orange picture, in base64."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = (b"\0" + b"\xff\x99\x00" * width) * height
    content = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + content).decode()


RICH = f"""\
import base64, sys
from IPython.display import HTML, Image, display
print('to stdout')
print('to stderr', file=sys.stderr)
display(HTML('<b>bold</b>'))
display(Image(data=base64.b64decode('{png(64, 48)}')))
6 * 7"""


class Open(Protocol):
    """Make a notebook of these cells, open it, and wait for its kernel."""

    def __call__(self, *cells: str) -> LabPage: ...


@pytest.fixture(scope="module")
def server(run_folder: Path, request: pytest.FixtureRequest) -> Generator[LabServer]:
    require("lab")
    place = run_folder / request.module.__name__.rpartition(".")[2].removeprefix("test_")
    with LabServer(Sandbox.make(place)) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Generator[LabBrowser]:
    require("lab")
    with LabBrowser() as browser:
        yield browser


@pytest.fixture
def notebook(
    server: LabServer, browser: LabBrowser, request: pytest.FixtureRequest
) -> Generator[Open]:
    """Open one notebook; afterwards its kernel and all that this has started are gone."""
    with browser.page(server) as page:

        def open_notebook(*cells: str) -> LabPage:
            name = f"{request.node.name}.ipynb"
            content = new_notebook(
                cells=[new_code_cell(cell) for cell in cells], metadata={"kernelspec": KERNELSPEC}
            )
            nbformat.write(content, server.root / name)
            page.open(name)
            return page

        yield open_notebook
        # To look at what a test saw, name a folder.
        if folder := os.environ.get("KM_SCREENSHOTS"):
            page.screenshot(Path(folder) / f"{request.node.name}.png")
    server.shutdown_kernels()


@pytest.fixture
def remote(notebook: Open) -> Open:
    """Open a notebook whose first two cells, already run, start the kernel ``gpu``."""

    def open_remote(*cells: str) -> LabPage:
        page = notebook(LOAD, START, *cells)
        page.run_cell(0)
        page.run_cell(1)
        return page

    return open_remote


# The page itself, without kernel_magics: what is not true here says nothing about it.


def test_a_direct_cell_shows_streams_html_an_image_and_a_result(notebook: Open) -> None:
    page = notebook(RICH)

    page.run_cell(0)

    assert page.prompt(0) == "[1]:"
    assert page.outputs(0) == ["to stdout", "to stderr", "bold", "", "42"]
    assert page.mime_types(0)[2:] == ["text/html", "image/png", "text/plain"]
    assert page.images(0) == [(64, 48)]
    assert page.saved_outputs(0) == page.model_outputs(0)


def test_a_direct_error_shows_its_traceback_and_ends_run_all(notebook: Open) -> None:
    page = notebook("1/0", "print('not run')")

    page.run_all()

    assert "ZeroDivisionError: division by zero" in page.output_text(0)
    assert (page.prompt(1), page.outputs(1)) == ("[ ]:", [])


def test_a_direct_input_is_answered_in_the_page(notebook: Open) -> None:
    page = notebook(ASK)

    page.start_cell(0)
    assert page.wait_input() == "name? "
    page.answer_input("Ada")
    page.wait_cell(0)

    assert page.outputs(0)[-1] == "hello Ada"


def test_the_stop_button_ends_a_direct_loop(notebook: Open) -> None:
    page = notebook(LOOP, "'well'")

    page.start_cell(0)
    page.wait_output(0, "looping")
    page.interrupt()
    page.wait_cell(0, timeout=10)
    page.run_cell(1)

    assert "KeyboardInterrupt" in page.output_text(0)
    assert page.outputs(1) == ["'well'"]


def test_a_restarted_kernel_has_forgotten_everything(notebook: Open) -> None:
    page = notebook("x = 1", "x")
    page.run_cell(0)

    page.restart_kernel()
    page.run_cell(1)

    assert page.prompt(1) == "[1]:"
    assert "NameError" in page.output_text(1)


def test_lines_that_a_direct_cell_prints_at_once_all_arrive(notebook: Open) -> None:
    # Without flush ipykernel joins them into a few messages.
    page = notebook(f"for i in range({LINES}): print(i)")

    page.run_cell(0)

    assert stream_text(page.saved_outputs(0)).split() == NUMBERED
    assert stream_text(page.model_outputs(0)).split() == NUMBERED


# The same through kernel_magics.


def test_a_remote_cell_shows_streams_html_an_image_and_a_result(remote: Open) -> None:
    page = remote(f"%%remote gpu\n{RICH}", f"{RICH}")

    page.run_cell(FIRST)
    page.run_cell(FIRST + 1)

    assert page.outputs(FIRST) == ["to stdout", "to stderr", "bold", "", "42"]
    assert page.mime_types(FIRST) == page.mime_types(FIRST + 1)
    assert page.images(FIRST) == [(64, 48)]


def test_a_remote_cell_runs_in_the_other_kernel(remote: Open) -> None:
    page = remote("where = 'here'", "%%remote gpu\nwhere = 'there'", "where", "%%remote gpu\nwhere")

    page.run_all()

    assert page.outputs(FIRST + 2) == ["'here'"]
    assert page.outputs(FIRST + 3) == ["'there'"]


def test_a_remote_error_names_itself_and_its_kernel_and_ends_run_all(remote: Open) -> None:
    page = remote("%%remote gpu\n1/0", "print('not run')")

    page.run_all()

    assert "ZeroDivisionError" in page.output_text(FIRST)
    assert "gpu" in page.output_text(FIRST)
    assert (page.prompt(FIRST + 1), page.outputs(FIRST + 1)) == ("[ ]:", [])


def test_a_remote_input_is_answered_in_the_page(remote: Open) -> None:
    page = remote(f"%%remote gpu\n{ASK}")

    page.start_cell(FIRST)
    assert "name? " in page.wait_input()
    page.answer_input("Ada")
    page.wait_cell(FIRST)

    assert "hello Ada" in page.output_text(FIRST)


def test_the_stop_button_ends_a_remote_loop_and_the_next_cell_works(remote: Open) -> None:
    page = remote(f"%%remote gpu\n{LOOP}", "%%remote gpu\n'well'")

    page.start_cell(FIRST)
    page.wait_output(FIRST, "looping")
    page.interrupt()
    page.wait_cell(FIRST, timeout=10)
    page.run_cell(FIRST + 1)

    assert "KeyboardInterrupt" in page.output_text(FIRST)
    assert page.outputs(FIRST + 1) == ["'well'"]


def test_the_stop_button_ends_a_remote_input(remote: Open) -> None:
    page = remote(f"%%remote gpu\n{ASK}", "%%remote gpu\n'well'")

    page.start_cell(FIRST)
    page.wait_input()
    page.interrupt()
    page.wait_cell(FIRST, timeout=10)
    page.run_cell(FIRST + 1)

    assert "KeyboardInterrupt" in page.output_text(FIRST)
    assert page.outputs(FIRST + 1) == ["'well'"]


def test_a_started_kernel_ends_when_the_notebook_kernel_restarts(
    remote: Open, server: LabServer
) -> None:
    page = remote("%%remote gpu\nimport os\nos.getpid()")
    page.run_cell(FIRST)
    pid = int(page.output_text(FIRST))
    assert pid in [process.pid for process in server.processes()]

    page.restart_kernel()

    wait_until(
        lambda: pid not in [process.pid for process in server.processes()],
        what=f"kernel {pid} has ended",
    )


@pytest.mark.full
def test_all_lines_of_a_remote_cell_arrive_in_order_and_the_cell_ends(remote: Open) -> None:
    page = remote(f"%%remote gpu\n{PRINT_LINES}", "'well'")

    page.run_cell(FIRST, timeout=90)
    page.run_cell(FIRST + 1)

    saved = page.saved_outputs(FIRST)
    assert stream_text(saved).split() == NUMBERED
    assert stream_text(page.model_outputs(FIRST)) == stream_text(saved)
    assert stream_text(saved, "stderr") == ""  # where the server would say that it dropped some
    assert page.outputs(FIRST + 1) == ["'well'"]


def test_a_background_cell_writes_into_itself_while_others_run(
    remote: Open, server: LabServer
) -> None:
    goes_on = server.root / "goes-on"
    waits = (
        f"import pathlib, time\nwhile not pathlib.Path({str(goes_on)!r}).exists(): time.sleep(0.1)"
    )
    page = remote(
        f"%%remote gpu --bg\nprint('before', flush=True)\n{waits}\nprint('late')\n6 * 7",
        "print('another cell')",
    )

    page.run_cell(FIRST)
    page.wait_output(FIRST, "running for")
    page.wait_output(FIRST, "before")
    page.run_cell(FIRST + 1)
    goes_on.touch()
    page.wait_output(FIRST, "done in")

    status, text, value = page.outputs(FIRST)
    assert "[gpu] job 1: done in" in status
    assert (text, value) == ("before\nlate", "42")
    assert page.outputs(FIRST + 1) == ["another cell"]
    assert page.mime_types(FIRST)[0] == "text/html"


# What is typed.

THING = """\
class Thing:
    attribute_one = 1
    attribute_two = 2
    def method(self, first):
        'What it does there.'
thing = Thing()"""

KEEP_BUSY = """\
import kernel_magics
kernel_magics.pool['gpu'].submit({code!r});"""

PROMPT = 0.6
"""Seconds for which a prompt may wait."""


def complete_until_warm(page: LabPage, i: int) -> None:
    """Press Tab until it finds something: the first time jedi is loaded."""
    page.time_completions()
    for number in range(1, 40):
        page.go_to_end(i)
        page.page.keyboard.press("Tab")
        page.wait_completions(number)
        if page.completion_times()[-1][1]:
            page.wait_menu()
            page.close_menu()
            return
    raise TimeoutError("nothing completes")


def test_tab_in_a_remote_cell_offers_the_other_kernels_names(remote: Open) -> None:
    page = remote(f"%%remote gpu\n{THING}", "%%remote gpu\n'\U0001f600'; thing.attribute_")
    page.run_cell(FIRST)
    complete_until_warm(page, FIRST + 1)

    page.go_to_end(FIRST + 1)
    page.page.keyboard.press("Tab")

    assert page.wait_menu() == ["attribute_one", "attribute_two"]
    page.page.keyboard.press("Enter")
    assert page.source(FIRST + 1) == "%%remote gpu\n'\U0001f600'; thing.attribute_one"


def test_shift_tab_in_a_remote_cell_shows_the_other_kernels_help(remote: Open) -> None:
    page = remote(f"%%remote gpu\n{THING}", "%%remote gpu\nthing.method")
    page.run_cell(FIRST)

    page.go_to_end(FIRST + 1)
    page.page.keyboard.press("Shift+Tab")

    assert "What it does there." in page.wait_tooltip()


def test_help_of_a_remote_name_opens_in_the_page(remote: Open) -> None:
    page = remote(f"%%remote gpu\n{THING}", "%%remote gpu\nthing.method?")
    page.run_cell(FIRST)
    page.run_cell(FIRST + 1)

    assert "What it does there." in page.output_text(FIRST + 1)


@pytest.mark.full
def test_tab_is_answered_in_time_while_the_other_kernel_is_busy(remote: Open) -> None:
    page = remote(
        f"%%remote gpu\n{THING}",
        KEEP_BUSY.format(code="import time; time.sleep(600)"),
        "%%remote gpu\nthing.attribute_",
    )
    page.run_cell(FIRST)
    page.run_cell(FIRST + 1)
    complete_until_warm(page, FIRST + 2)

    page.time_completions()
    for number in range(1, 51):
        page.go_to_end(FIRST + 2)
        page.page.keyboard.press("Tab")
        page.wait_completions(number)
        assert page.wait_menu() == ["attribute_one", "attribute_two"]
        page.close_menu()

    times = page.completion_times()
    assert [found for _, found in times] == [2] * 50
    assert max(seconds for seconds, _ in times) < PROMPT


@pytest.mark.full
def test_tab_gives_up_in_time_while_the_other_kernel_cannot_answer(remote: Open) -> None:
    page = remote(KEEP_BUSY.format(code="while True: pass"), "%%remote gpu\nos.pa")
    page.run_cell(FIRST)

    page.time_completions()
    for number in range(1, 51):
        page.go_to_end(FIRST + 1)
        page.page.keyboard.press("Tab")
        page.wait_completions(number)

    assert max(seconds for seconds, _ in page.completion_times()) < PROMPT


def test_in_sticky_mode_a_cell_is_the_other_kernels_and_says_so(remote: Open) -> None:
    page = remote(
        "where = 'here'",
        "%%remote gpu\nwhere = 'there'",
        "%autoremote gpu",
        "import asyncio\nawait asyncio.sleep(0, where)",
        "%%local\nwhere",
        "%autoremote off",
        "where",
    )

    page.run_all()

    assert "%autoremote off" in page.output_text(FIRST + 2)
    assert page.outputs(FIRST + 3) == ["[gpu]", "'there'"]
    assert page.outputs(FIRST + 4) == ["'here'"]
    assert page.outputs(FIRST + 6) == ["'here'"]


SHARED = """\
import time
from IPython.display import clear_output, display
print('cleared', flush=True); display('cleared too')
time.sleep(0.5)
clear_output(wait=True)
bar = display('0', display_id='bar')
for i in range(50): print(ME, i, flush=True); bar.update(str(i))
bar.update(ME + ' is through')"""


@pytest.mark.full
@pytest.mark.parametrize("grouping", ["kernel", "merge"])
def test_two_kernels_share_a_cell_and_touch_only_their_own(remote: Open, grouping: str) -> None:
    page = remote(
        "%kernel_start python3 --name cpu\n%remote gpu ME = 'gpu'\n%remote cpu ME = 'cpu'",
        f"%%remote all --group-outputs {grouping}\n{SHARED}",
    )

    page.run_cell(FIRST)
    page.run_cell(FIRST + 1)

    for outputs in (page.model_outputs(FIRST + 1), page.saved_outputs(FIRST + 1)):
        shown = [each["data"]["text/plain"] for each in outputs if "data" in each]
        lines = stream_text(outputs).splitlines()
        assert sorted(shown) == ["'cpu is through'", "'gpu is through'"]
        if grouping == "kernel":
            wanted = [line for n in ("gpu", "cpu") for line in (f"[{n}]", *_said(n))]
            assert lines == wanted
        else:
            for name in ("gpu", "cpu"):
                mine = [line for line in lines if line.startswith(f"[{name}] {name}")]
                assert mine == [f"[{name}] {line}" for line in _said(name)]


def _said(name: str) -> list[str]:
    return [f"{name} {i}" for i in range(50)]
