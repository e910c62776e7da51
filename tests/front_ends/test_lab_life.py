"""JupyterLab in a browser, as days go: a whole notebook, restarts, and a page that is reloaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from pathlib import Path

import pytest
from nbformat import NotebookNode

from tests.front_ends import test_lab
from tests.front_ends.test_lab import FIRST, LOAD, Open
from tests.frontend import plain
from tests.frontend.test_notebooks import SHOWN
from tests.support.lab import LabBrowser, LabServer, Output, stream_text
from tests.support.parts import require
from tests.support.sandbox import CHECKOUT, Sandbox
from tests.support.waiting import wait_until

pytestmark = pytest.mark.full

browser, notebook, remote = test_lab.browser, test_lab.notebook, test_lab.remote

FOUND = "found = 5"


@pytest.fixture(scope="module")
def server(run_folder: Path) -> Generator[LabServer]:
    require("lab")
    with LabServer(Sandbox.make(run_folder / "lab-life")) as server:
        yield server


def text_of(outputs: list[Output]) -> str:
    """All text of a cell's outputs, in order."""
    texts = []
    for one in outputs:
        match one["output_type"]:
            case "stream":
                texts.append(stream_text([one], one["name"]))
            case "error":
                texts.append("\n".join(one["traceback"]))
            case _:
                text = one["data"].get("text/plain", "")
                texts.append(text if isinstance(text, str) else "".join(text))
    return plain("\n".join(texts))


def tagged(cells: list[NotebookNode], tag: str) -> list[int]:
    """Which cells have a tag."""
    return [i for i, cell in enumerate(cells) if tag in cell.metadata.get("tags", [])]


# The tour.


def test_the_tour_runs_from_beginning_to_end(server: LabServer, browser: LabBrowser) -> None:
    shutil.copy(CHECKOUT / "notebooks" / "tour.ipynb", server.root)
    with browser.page(server) as page:
        page.open("tour.ipynb")
        cells = page.read_saved().cells
        (stopped,) = tagged(cells, "interrupt-me")

        page.start_all()
        page.wait_output(stopped, "counting", timeout=60)
        page.interrupt()
        page.wait_all()
        page.start_all(stopped + 1)
        page.wait_all()

        saved = page.read_saved().cells
        if folder := os.environ.get("KM_SCREENSHOTS"):
            page.screenshot(Path(folder) / "tour.png")
    server.shutdown_kernels()
    failed = [
        i
        for i, cell in enumerate(saved)
        if cell.cell_type == "code" and any(o.output_type == "error" for o in cell.outputs)
    ]
    assert failed == [*tagged(cells, "raises-exception"), stopped]
    assert all(cell.execution_count for cell in saved if cell.cell_type == "code")
    shown = iter(
        text_of([dict(output)])
        for cell in saved
        if cell.cell_type == "code"
        for output in cell.outputs
    )
    for text in SHOWN["tour"]:
        assert any(text in one for one in shown), text


# What is looked at.

PLOT = """\
%matplotlib inline
import matplotlib.pyplot as plt
plt.plot([3, 1, 2])
plt.show()"""


def test_a_remote_plot_is_seen(remote: Open) -> None:
    page = remote(f"%%remote gpu\n{PLOT}", PLOT)

    page.run_cell(FIRST)
    page.run_cell(FIRST + 1)

    assert "image/png" in page.mime_types(FIRST)
    (there,) = page.images(FIRST)
    assert there == page.images(FIRST + 1)[0]
    assert min(there) > 100


def test_without_html_the_page_shows_text_and_runs_nothing(remote: Open) -> None:
    attack = "<img src=x onerror='window.attacked = 1'><script>window.attacked = 1</script>"
    code = f"""\
from IPython.display import HTML, Javascript, Markdown, SVG, display
attack = {attack!r}
display(HTML(attack), Javascript('window.attacked = 1'), Markdown(attack))
display({{'text/plain': 'a picture', 'image/svg+xml': '<svg>' + attack + '</svg>'}}, raw=True)"""
    page = remote(
        f"%%remote gpu --no-html\n{code}",
        "%%remote gpu\nfrom IPython.display import Javascript\nJavascript('window.attacked = 2')",
    )

    page.run_cell(FIRST)

    assert page.mime_types(FIRST) == ["text/plain"] * 4
    assert page.page.evaluate("window.attacked ?? 0") == 0
    # The page would have run it.
    page.run_cell(FIRST + 1)
    wait_until(lambda: page.page.evaluate("window.attacked") == 2, what="the script has run")


# Restarts.


def test_a_restarted_remote_kernel_has_forgotten_everything(remote: Open) -> None:
    page = remote(
        f"%%remote gpu\n{FOUND}",
        "%kernel_restart gpu",
        "%%remote gpu\n'found' in globals()",
    )

    page.run_all()

    assert "restarted gpu" in page.output_text(FIRST + 1)
    assert page.outputs(FIRST + 2) == ["False"]


def test_somebody_elses_restart_ends_the_cell_and_the_next_one_works(
    notebook: Open, server: LabServer
) -> None:
    # As when a colleague presses the restart button of another notebook.
    kernel = server.request("POST", "/api/kernels")["id"]
    page = notebook(
        LOAD,
        f"%kernel_attach {kernel} --name theirs",
        f"%%remote theirs\n{FOUND}\nprint('looping', flush=True)\nwhile True: pass",
        "%%remote theirs\n'found' in globals()",
    )
    page.run_cell(0)
    page.run_cell(1)

    page.start_cell(2)
    page.wait_output(2, "looping")
    server.request("POST", f"/api/kernels/{kernel}/restart")
    page.wait_cell(2)
    page.run_cell(3)

    assert "KernelRestarted" in page.output_text(2)
    assert page.outputs(3) == ["False"]


# A page that is reloaded. JupyterLab shows what was saved, and of cells that run on it drops what
# comes later, local ones included: nothing that the kernel does can change that.


def waiting(goes_on: Path) -> str:
    return f"""\
import pathlib, time
print('before', flush=True)
while not pathlib.Path({str(goes_on)!r}).exists(): time.sleep(0.1)
print('late')
6 * 7"""


def test_after_a_reload_a_background_cell_is_there_whole(remote: Open, server: LabServer) -> None:
    goes_on = server.root / "goes-on"
    page = remote(
        f"%%remote gpu --bg\n{waiting(goes_on)}",
        "%remote_jobs",
        "%remote_result --wait",
        "%%remote gpu\n'well'",
    )
    page.run_cell(FIRST)
    page.wait_output(FIRST, "before")

    page.reload()
    page.wait_idle()
    page.run_cell(FIRST + 1)
    goes_on.touch()
    page.run_cell(FIRST + 2)
    page.run_cell(FIRST + 3)

    assert "running" in page.output_text(FIRST + 1)
    assert "before\nlate\n" in text_of(page.model_outputs(FIRST + 2))
    assert "42" in page.outputs(FIRST + 2)
    assert "done in" in page.output_text(FIRST + 2)
    assert page.outputs(FIRST + 3) == ["'well'"]
    # The cell itself: what was saved.
    assert "before" in text_of(page.model_outputs(FIRST))
    goes_on.unlink()


def test_after_a_reload_a_cell_that_was_waited_for_goes_on(remote: Open, server: LabServer) -> None:
    goes_on = server.root / "goes-on"
    page = remote(
        f"%%remote gpu --save kept\n{waiting(goes_on)}",
        "kept.done, [each.get('text') or each['data'] for each in kept.outputs]",
        "%%remote gpu\n'well'",
    )
    page.start_cell(FIRST)
    page.wait_output(FIRST, "before")

    page.reload()
    goes_on.touch()
    page.wait_idle()
    page.run_cell(FIRST + 1)
    page.run_cell(FIRST + 2)

    assert page.outputs(FIRST + 1) == ["(True, ['before\\nlate\\n', {'text/plain': '42'}])"]
    assert page.outputs(FIRST + 2) == ["'well'"]
    goes_on.unlink()


def test_after_a_reload_the_stop_button_still_stops_the_other_kernel(remote: Open) -> None:
    page = remote(
        "%%remote gpu\nprint('looping', flush=True)\nwhile True: pass", "%%remote gpu\n'well'"
    )
    page.start_cell(FIRST)
    page.wait_output(FIRST, "looping")

    page.reload()
    page.interrupt()
    page.wait_idle()
    page.run_cell(FIRST + 1)

    assert page.outputs(FIRST + 1) == ["'well'"]
