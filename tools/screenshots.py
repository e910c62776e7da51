"""Take the pictures of the README: a few notebooks, run in JupyterLab in a headless browser.

    make deps-front-ends && .venv/bin/python tools/screenshots.py docs/images

Needs Chromium, as the tests in ``tests/front_ends`` do.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.lab import LabBrowser, LabPage, LabServer
from tests.support.sandbox import Sandbox

SPEC = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}

BEGIN = ["%load_ext kernel_magics\n%kernel_start python3 --name gpu"]
"""Run before the picture, and left out of it."""

BACKGROUND = [
    "%%remote gpu --bg --save training\n"
    "import time\n"
    "for epoch in range(40):\n"
    "    time.sleep(0.2)\n"
    "    print(f'epoch {epoch}: loss {1 / (epoch + 1):.3f}')",
    "training.state",
]

VARIABLES = [
    "import numpy as np\nreadings = np.array([11.5, 12.0, 19.5, 21.0])",
    "%%remote gpu -i readings -o smooth\nsmooth = (readings[:-1] + readings[1:]) / 2",
    "smooth",
]

SEVERAL = [
    "%kernel_start python3 --name gpu-2\n%kernel_start python3 --name gpu-3",
    "%%remote gpu* --timeline\n"
    "import os, time\n"
    "time.sleep(0.4 + os.getpid() % 3 / 2)\n"
    "print('done in process', os.getpid())",
    "%kernels",
]

COMPLETION = [
    "%%remote gpu\n"
    "class Model:\n"
    "    learning_rate = 0.1\n"
    "    layers = [64, 64, 10]\n"
    "    def learn(self, data): ...\n"
    "model = Model()",
    "%%remote gpu\nmodel.l",
]

WIDGETS = [
    "%%remote gpu\n"
    "from ipywidgets import interact\n"
    "import matplotlib.pyplot as plt, numpy as np\n"
    "x = np.linspace(0, 4, 200)\n"
    "@interact(frequency=(1, 5), damping=(0.0, 2.0))\n"
    "def wave(frequency=2, damping=0.5):\n"
    "    plt.figure(figsize=(6, 1.8))\n"
    "    plt.plot(x, np.exp(-damping * x) * np.sin(2 * np.pi * frequency * x))\n"
    "    plt.show()",
]

TERMINAL = [
    f"PATH={Path(sys.executable).parent}:$PATH; clear; ipython --no-banner",
    "%load_ext kernel_magics",
    "%kernel_start python3 --name gpu",
    "%remote gpu a = 5; print(a); a / 0",
    "x = %remote gpu a * 10",
    "x",
    "%kernels",
]
"""Typed in JupyterLab's terminal, a line each."""


def background(page: LabPage) -> None:
    """A cell that goes on while others run."""
    page.run_cell(1)
    page.wait_output(1, "epoch 2")
    page.run_cell(2)


def run_three(page: LabPage) -> None:
    """Three cells, one after another."""
    for cell in (1, 2, 3):
        page.run_cell(cell)


def widgets(page: LabPage) -> None:
    """A slider that was dragged, and what the other kernel has drawn for it."""
    page.run_cell(1)
    handle = page.page.locator(".widget-slider .noUi-handle").first
    handle.wait_for(state="visible")
    box = handle.bounding_box()
    assert box is not None
    mouse = page.page.mouse
    mouse.move(box["x"] + 5, box["y"] + 5)
    mouse.down()
    mouse.move(box["x"] + 60, box["y"] + 5, steps=6)
    mouse.up()
    page.page.wait_for_timeout(1500)


def take_terminal(server: LabServer, browser: LabBrowser, file: Path) -> None:
    """A picture of a terminal IPython, in a real terminal emulator."""
    with browser.page(server) as page:
        page.page.set_viewport_size({"width": 900, "height": 560})
        page.page.goto(f"{server.url}/lab?reset&token={server.token}")
        page.page.wait_for_function("() => window.jupyterapp?.commands")
        page.page.evaluate("window.jupyterapp.restored")
        page.page.evaluate("window.jupyterapp.shell.collapseLeft()")
        page.page.evaluate("() => { window.jupyterapp.commands.execute('terminal:create-new'); }")
        screen = page.page.locator(".jp-Terminal .xterm-screen")
        screen.wait_for(state="visible")
        for line, seconds in zip(TERMINAL, (5, 2, 4, 2, 2, 1, 2), strict=True):
            page.page.keyboard.type(line + "\n")
            page.page.wait_for_timeout(seconds * 1000)
        page.page.locator(".jp-Terminal").screenshot(path=file)
        for _ in ("ipython", "the shell"):
            page.page.keyboard.type("exit\n")
            page.page.wait_for_timeout(1000)
    server.shutdown_kernels()


def completion(page: LabPage) -> None:
    """What the other kernel has to offer."""
    page.run_cell(1)
    for _ in range(20):  # the first time the other kernel has to load what completes
        page.go_to_end(2)
        page.page.keyboard.press("Tab")
        page.page.wait_for_timeout(1000)
        if page.page.locator(".jp-Completer:visible").count():
            return
    raise TimeoutError("nothing completes")


PICTURES: dict[str, tuple[list[str], Callable[[LabPage], None], int]] = {
    "background": (BACKGROUND, background, 410),
    "variables": (VARIABLES, run_three, 330),
    "several": (SEVERAL, run_three, 650),
    "completion": (COMPLETION, completion, 330),
    "widgets": (WIDGETS, widgets, 580),
}
"""Name: the cells behind the first, what is done with them, and the height in pixels."""


def main() -> None:
    """Take all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help=f"which: {', '.join(PICTURES)}, terminal")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    wanted: list[str] = arguments.names or [*PICTURES, "terminal"]
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="km") as root,
        LabServer(Sandbox.make(Path(root) / "s")) as server,
        LabBrowser() as browser,
    ):
        if "terminal" in wanted:
            take_terminal(server, browser, folder / "terminal.png")
        for name, (cells, act, height) in PICTURES.items():
            if name not in wanted:
                continue
            notebook = new_notebook(
                cells=[new_code_cell(cell) for cell in BEGIN + cells],
                metadata={"kernelspec": SPEC},
            )
            nbformat.write(notebook, server.root / f"{name}.ipynb")
            with browser.page(server) as page:
                page.page.set_viewport_size({"width": 900, "height": height + 250})
                page.open(f"{name}.ipynb")
                page.page.evaluate("window.jupyterapp.shell.collapseLeft()")
                page.run_cell(0)
                act(page)
                page.page.wait_for_timeout(300)  # what fades in has done so
                panel = page.page.locator(".jp-NotebookPanel-notebook").bounding_box()
                assert panel is not None
                page.page.screenshot(
                    path=folder / f"{name}.png",
                    clip={**panel, "height": min(height, panel["height"])},
                )
            server.shutdown_kernels()


if __name__ == "__main__":
    main()
