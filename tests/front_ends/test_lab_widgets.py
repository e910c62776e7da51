"""Widgets of another kernel in JupyterLab: drawn, dragged, and in a page that is loaded again."""

from __future__ import annotations

import pytest

from tests.front_ends import test_lab as lab
from tests.front_ends.test_lab import FIRST, Open
from tests.support.lab import LabPage

pytestmark = pytest.mark.full

server, browser, notebook, remote = lab.server, lab.browser, lab.notebook, lab.remote

SLIDER = """\
%%remote gpu
import ipywidgets as w
from IPython.display import display
s, out = w.IntSlider(value=3, min=0, max=10), w.Output()
@out.capture()
def moved(change): print('now', change.new)
s.observe(moved, 'value')
display(s, out)"""

VALUE = "%%remote gpu\ns.value"
SET = "%%remote gpu\ns.value = 2"


def handle(page: LabPage) -> tuple[float, float]:
    """Where the middle of the slider's handle is, once it is drawn."""
    found = page.page.locator(".widget-slider .noUi-handle").first
    found.wait_for(state="visible", timeout=30_000)
    box = found.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag(page: LabPage, by: int) -> None:
    """Drag the slider's handle to the right, as a person does."""
    x, y = handle(page)
    mouse = page.page.mouse
    mouse.move(x, y)
    mouse.down()
    mouse.move(x + by, y, steps=8)
    mouse.up()


def wait_readout(page: LabPage, text: str) -> None:
    """Wait until the number beside the slider is that."""
    page.page.locator(".widget-slider .widget-readout", has_text=text).first.wait_for(
        state="visible", timeout=15_000
    )


def readout(page: LabPage) -> str:
    return page.page.locator(".widget-slider .widget-readout").first.inner_text()


def wait_text(page: LabPage, i: int, text: str) -> None:
    """Wait until the cell draws a text, also inside of a widget."""
    page.page.locator(".jp-Notebook-cell").nth(i).locator(
        ".jp-OutputArea-output", has_text=text
    ).first.wait_for(state="visible", timeout=15_000)


def test_a_remote_slider_is_dragged_and_its_callback_prints(remote: Open) -> None:
    page = remote(SLIDER, VALUE, SET)
    page.run_cell(FIRST)

    drag(page, 80)

    value = readout(page)
    assert int(value) > 3
    wait_text(page, FIRST, f"now {value}")
    page.run_cell(FIRST + 1)
    assert page.outputs(FIRST + 1) == [value]
    page.run_cell(FIRST + 2)
    wait_readout(page, "2")


@pytest.mark.parametrize("here", ["", "import ipywidgets"], ids=["not-here", "here-too"])
def test_a_remote_slider_works_on_in_a_page_that_was_loaded_again(remote: Open, here: str) -> None:
    page = remote(here or "pass", SLIDER, VALUE)
    page.run_cell(FIRST)
    page.run_cell(FIRST + 1)
    wait_readout(page, "3")
    page.save()

    page.page.reload()
    page.wait_idle()

    wait_readout(page, "3")
    drag(page, 80)
    value = readout(page)
    assert int(value) > 3
    page.run_cell(FIRST + 2)
    assert page.outputs(FIRST + 2) == [value]


def test_a_bar_of_a_remote_loop_moves_while_it_runs(remote: Open) -> None:
    code = """\
%%remote gpu
from tqdm.notebook import tqdm
for i in tqdm(range(30), mininterval=0):
    if i == 10:
        input('go on? ')"""
    page = remote(code)
    page.start_cell(FIRST)
    page.wait_input()
    wait_text(page, FIRST, "10/30")
    page.answer_input("")
    page.wait_cell(FIRST)
    wait_text(page, FIRST, "30/30")


def test_interact_calls_the_function_there(remote: Open) -> None:
    code = """\
%%remote gpu
from ipywidgets import interact
@interact(x=(0, 10))
def f(x=3):
    print('x is', x)
    return x * 100"""
    page = remote(code)
    page.run_cell(FIRST)
    wait_text(page, FIRST, "x is 3")
    drag(page, 80)
    value = readout(page)
    wait_text(page, FIRST, f"x is {value}")
    wait_text(page, FIRST, f"{int(value) * 100}")


def test_a_widget_is_closed_when_its_kernel_dies(remote: Open) -> None:
    page = remote(SLIDER, "%%remote gpu\nimport os; os._exit(1)")
    page.run_cell(FIRST)
    handle(page)
    page.run_cell(FIRST + 1)
    assert "KernelDied" in page.output_text(FIRST + 1)
    page.page.locator(".widget-slider").first.wait_for(state="detached", timeout=15_000)
