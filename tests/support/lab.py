"""A real JupyterLab in a real browser, for the tests of what a person sees.

Owns the server process (:class:`LabServer`), Chromium (:class:`LabBrowser`) and the moves of a
person in one notebook (:class:`LabPage`). Knows nothing of ``kernel_magics``: it presses keys,
reads the page and the saved file. Playwright is imported only when a browser is opened, so that
importing this module costs nothing where it is not installed.

Three places tell what a cell gave, and they can differ:

- ``outputs``: what is drawn. JupyterLab draws at most ``maxNumberOutputs`` items (50) and long
  texts lazily, so this is for short outputs.
- ``model_outputs``: what the page holds in memory; complete.
- ``saved_outputs``: what is in the file after saving; complete, and what a colleague would get.

While a :class:`LabBrowser` is open, Playwright keeps an event loop running in this thread:
``asyncio.run`` is refused there until it is closed, so close it at the end of its test module.
"""

from __future__ import annotations

import json
import secrets
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import quote

import nbformat
import psutil

from tests.support.parts import chromium
from tests.support.processes import Process
from tests.support.sandbox import MARK, Sandbox
from tests.support.waiting import PATIENCE, Deadline, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Locator, Page

Output = dict[str, Any]
"""One output of a cell, as nbformat spells it."""

CHROMIUM_FLAGS = (
    "--no-sandbox",  # root, as in containers
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

SETTINGS: dict[str, dict[str, Any]] = {
    # The notices of a first start would cover the lower right corner.
    "@jupyterlab/apputils-extension:notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    # Autosave could write the file while a test reads it.
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
    # Every cell stays in the document, so that the i-th cell is the i-th element.
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
}


class LabServer:
    """A JupyterLab server with folders, settings, token and port of its own.

    Its notebooks belong into ``root``; what the sandbox says about folders and the environment
    holds for its kernels too, and for what these start. ``config`` adds or replaces traits:
    ``{"ClassName": {"trait": value}}``; without it the limits of the server are its defaults.
    """

    def __init__(
        self, sandbox: Sandbox, *, config: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        self.sandbox = sandbox
        self.root = sandbox.root / "notebooks"
        self.token = secrets.token_hex(16)
        self.port = 0
        self._more_config = dict(config or {})
        self._process: Process | None = None

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What the server and its kernels have written to their terminal until now."""
        path = self._log_file
        return path.read_text(errors="replace") if path.exists() else ""

    def request(self, method: str, path: str) -> Any:
        """One call of the server's REST interface: ``path`` begins with ``/api``."""
        request = urllib.request.Request(
            self.url + path, method=method, headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            content = answer.read()
        return json.loads(content) if content else None

    def processes(self) -> list[psutil.Process]:
        """What the server has started and what that has started, orphans included."""
        mark = str(self.sandbox.root)
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):  # just ended, a zombie, or another user's
                if process.environ().get(MARK) == mark:
                    found.append(process)
        own = self._process.pid if self._process else None
        return [process for process in found if process.pid != own]

    def shutdown_kernels(self, timeout: float = PATIENCE) -> None:
        """End all notebooks' kernels, as "Shut Down All" in the sidebar does.

        Raises:
            TimeoutError: something that they had started lives on.
        """
        for kernel in self.request("GET", "/api/kernels"):
            self.request("DELETE", f"/api/kernels/{kernel['id']}")
        wait_until(
            lambda: not self.processes(),
            timeout,
            what=lambda: f"all that the kernels started has ended: {self._listing()}",
        )

    def close(self) -> None:
        """End the server, its kernels, and everything these started. May be called again."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.alive:
            process.send(signal.SIGTERM)  # it shuts its kernels down before it ends
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=15)
        left = self.processes()
        process.close()
        _, left = psutil.wait_procs(left, timeout=2)
        for one in left:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        wait_until(lambda: not self.processes(), what=lambda: f"ended: {self._listing()}")

    def _start(self) -> None:
        lab = {
            "JUPYTERLAB_SETTINGS_DIR": self.sandbox.root / "settings",
            "JUPYTERLAB_WORKSPACES_DIR": self.sandbox.root / "workspaces",
        }
        for folder in (self.root, *lab.values()):
            folder.mkdir()
        for plugin, settings in SETTINGS.items():
            package, _, name = plugin.partition(":")
            folder = lab["JUPYTERLAB_SETTINGS_DIR"] / package
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.jupyterlab-settings").write_text(json.dumps(settings))
        env = self.sandbox.environment(**{name: str(path) for name, path in lab.items()})
        argv = [sys.executable, "-m", "jupyterlab"]

        # Another process may take the free port before the server has it: then once more.
        deadline = Deadline(60.0)
        while True:
            self.port = _free_port()
            self._write_config()
            self._process = Process(argv, env=env, cwd=self.root, log=self._log_file)
            wait_until(
                self._answers_or_ended,
                deadline,
                what=lambda: f"JupyterLab answers; its log ends:\n{self.log[-3000:]}",
            )
            if self._process.alive:
                return
            self._process.close()
            if "already in use" not in self.log or deadline.passed:
                raise RuntimeError(f"JupyterLab ended while starting:\n{self.log[-3000:]}")

    def _write_config(self) -> None:
        config: dict[str, dict[str, Any]] = {
            "ServerApp": {
                "ip": "127.0.0.1",
                "port": self.port,
                "port_retries": 0,
                "root_dir": str(self.root),
                "open_browser": False,
                "allow_root": True,
            },
            "IdentityProvider": {"token": self.token},
            # `window.jupyterapp`: a test can read the page's model and await commands.
            "LabApp": {"expose_app_in_browser": True, "news_url": None},
        }
        for name, traits in self._more_config.items():
            config[name] = {**config.get(name, {}), **traits}
        path = self.sandbox.jupyter["JUPYTER_CONFIG_DIR"] / "jupyter_server_config.json"
        path.write_text(json.dumps(config))

    def _answers_or_ended(self) -> bool:
        if self._process is not None and not self._process.alive:
            return True
        try:
            return "version" in self.request("GET", "/api")
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def _listing(self) -> list[list[str]]:
        commands = []
        for process in self.processes():
            with suppress(psutil.Error):
                commands.append(process.cmdline())
        return commands

    @property
    def _log_file(self) -> Path:
        return self.sandbox.work / "jupyterlab.log"


class LabBrowser:
    """A headless Chromium, in which pages of any number of servers may be open."""

    def __init__(self) -> None:
        self._opened = ExitStack()
        self._browser: Browser | None = None

    def __enter__(self) -> Self:
        from playwright.sync_api import sync_playwright

        with ExitStack() as opened:
            playwright = opened.enter_context(sync_playwright())
            self._browser = playwright.chromium.launch(
                executable_path=chromium(), headless=True, args=CHROMIUM_FLAGS
            )
            opened.callback(self._browser.close)
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def page(self, server: LabServer) -> LabPage:
        """A new window without a past; whoever asks closes it."""
        if self._browser is None:
            raise RuntimeError("the browser is not open")
        context = self._browser.new_context(viewport={"width": 1280, "height": 900})
        return LabPage(server, context.new_page())

    def close(self) -> None:
        """End Chromium and Playwright's own process. May be called again."""
        self._browser = None
        self._opened.close()


class LabPage:
    """One browser window with one notebook open in JupyterLab.

    Cells are counted from 0 over all cells of the notebook, as in the file.
    Every wait has a deadline in seconds and ends in :class:`TimeoutError`.
    """

    def __init__(self, server: LabServer, page: Page) -> None:
        self.server = server
        self.page = page  # Playwright's, for what this class does not offer
        self.notebook = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the window; the notebook's kernel keeps running. May be called again."""
        self.page.context.close()

    # -- the notebook ---------------------------------------------------------------------

    def open(self, notebook_path: str, timeout: float = 90.0) -> None:
        """Open a notebook of the server's root and wait until its kernel is idle."""
        self.notebook = notebook_path
        self.page.goto(
            f"{self.server.url}/lab/tree/{quote(notebook_path)}?reset&token={self.server.token}",
            timeout=timeout * 1000,
        )
        self.wait_idle(timeout)

    def reload(self, timeout: float = 90.0) -> None:
        """Save, reload the page as F5 does, and wait until it has found its kernel again.

        What that does the page only learns from an answer, which a busy kernel owes it for a while.
        """
        # Not `save`: a cell in the background changes the page again at once. Then the browser asks
        # whether to leave.
        self._command("docmanager:save", timeout)
        self.page.on("dialog", _accept)
        self.page.reload(timeout=timeout * 1000)
        self.page.remove_listener("dialog", _accept)
        self._wait_for(
            "() => !!window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel",
            timeout,
            "the page has found its kernel again",
        )

    def wait_idle(self, timeout: float = 60.0) -> None:
        """Wait until the indicator in the toolbar and the kernel connection both say idle."""
        self._wait_for(
            """() => {
                const light = document.querySelector(
                    '.jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook-ExecutionIndicator');
                const panel = window.jupyterapp?.shell.currentWidget;
                const kernel = panel?.sessionContext?.session?.kernel;
                return light?.dataset.status === 'idle' && kernel?.status === 'idle'
                    && kernel.connectionStatus === 'connected';
            }""",
            timeout,
            "the kernel is idle",
        )

    def kernel_status(self) -> str:
        """``"idle"``, ``"busy"``, ...: what the indicator in the toolbar shows."""
        light = self._panel().locator(".jp-Notebook-ExecutionIndicator")
        return light.get_attribute("data-status") or ""

    def save(self, timeout: float = 60.0) -> Path:
        """Save as File > Save does; returns the file."""
        self._command("docmanager:save", timeout)
        self._wait_for(
            "() => !window.jupyterapp.shell.currentWidget.context.model.dirty",
            timeout,
            "the notebook is saved",
        )
        return self.server.root / self.notebook

    def read_saved(self) -> nbformat.NotebookNode:
        """Save, then read the file."""
        content: nbformat.NotebookNode = nbformat.read(self.save(), as_version=4)
        return content

    # -- running --------------------------------------------------------------------------

    def start_cell(self, i: int, timeout: float = 15.0) -> None:
        """Click into the cell and press Control+Enter; returns once its prompt was ``[*]``."""
        self._watch_prompts()
        self._cell(i).locator(".cm-content").click()
        self.page.keyboard.press("Control+Enter")
        self._wait_for(
            f"() => window.kmStarted.has({i})", timeout, f"cell {i} starts", polling="raf"
        )

    def wait_cell(self, i: int, timeout: float = 60.0) -> None:
        """Wait until the cell's prompt is not ``[*]`` any more and the kernel is idle."""
        self._wait_for(
            f"() => !({_PROMPT})({i}).includes('*')", timeout, f"cell {i} is no longer [*]"
        )
        self.wait_idle(timeout)

    def run_cell(self, i: int, timeout: float = 60.0) -> None:
        """Run one cell and wait for its end; an error in it is an output like others."""
        self.start_cell(i)
        self.wait_cell(i, timeout)

    def run_all(self, timeout: float = 120.0) -> None:
        """Run > Run All Cells, to its end (which an error in a cell brings earlier)."""
        self._command("notebook:run-all-cells", timeout)
        self.wait_all(timeout)

    def start_all(self, first: int = 0) -> None:
        """Run > Run Selected Cell and All Below, and return at once."""
        self.page.evaluate(
            """first => {
                const panel = window.jupyterapp.shell.currentWidget;
                panel.content.activeCellIndex = first;
                panel.content.deselectAll();
                window.jupyterapp.commands.execute('notebook:run-all-below');
            }""",
            first,
        )

    def wait_all(self, timeout: float = 120.0) -> None:
        """Wait until nothing runs or waits for its turn."""
        self._wait_for(
            "() => ![...document.querySelectorAll('.jp-Notebook-cell .jp-InputPrompt')]"
            ".some(prompt => prompt.textContent.includes('*'))",
            timeout,
            "no cell is [*]",
        )
        self.wait_idle(timeout)

    def interrupt(self) -> None:
        """Press the stop button in the notebook's toolbar."""
        self._toolbar_button("interrupt").click()

    def restart_kernel(self, timeout: float = 60.0) -> None:
        """Press the restart button, confirm, and wait until the new kernel is idle."""
        self.page.evaluate(
            """() => {
                window.kmRestarted = false;
                const context = window.jupyterapp.shell.currentWidget.sessionContext;
                const seen = (_, status) => {
                    if (status === 'restarting') window.kmRestarted = true;
                };
                context.statusChanged.connect(seen);
            }"""
        )
        self._toolbar_button("restart").click()
        self.page.locator(".jp-Dialog button.jp-mod-accept").click()
        self._wait_for("() => window.kmRestarted", timeout, "the kernel restarts")
        self.wait_idle(timeout)

    def wait_input(self, timeout: float = 30.0) -> str:
        """Wait for the box of ``input()``; returns the prompt beside it."""
        box = self._panel().locator(".jp-Stdin-input")
        self._wait_visible(box, timeout, "an input box")
        return self._panel().locator(".jp-Stdin-prompt").inner_text()

    def answer_input(self, text: str, timeout: float = 30.0) -> None:
        """Type into the box of ``input()``, press Enter, and see the box go."""
        self.wait_input(timeout)
        box = self._panel().locator(".jp-Stdin-input")
        handle = box.element_handle()
        box.fill(text)
        box.press("Enter")
        # The very box: the cell may ask again at once.
        handle.wait_for_element_state("hidden", timeout=timeout * 1000)

    # -- typing ---------------------------------------------------------------------------

    def go_to_end(self, i: int) -> None:
        """Put the cursor behind the cell's last character."""
        self._cell(i).locator(".cm-content").click()
        self.page.keyboard.press("Control+End")

    def source(self, i: int) -> str:
        """What stands in the cell."""
        return str(
            self.page.evaluate(
                "i => window.jupyterapp.shell.currentWidget.content.widgets[i].model.sharedModel"
                ".getSource()",
                i,
            )
        )

    def time_completions(self) -> None:
        """From now on, note how long the kernel takes for each; see ``completion_times``.

        Asked again, it forgets the earlier ones.
        """
        self.page.evaluate(
            """() => {
                const panel = window.jupyterapp.shell.currentWidget;
                const kernel = panel.sessionContext.session.kernel;
                window.kmTimes = [];
                if (Object.hasOwn(kernel, 'requestComplete')) return;
                const ask = kernel.requestComplete.bind(kernel);
                kernel.requestComplete = async content => {
                    const begun = performance.now();
                    const reply = await ask(content);
                    window.kmTimes.push([
                        (performance.now() - begun) / 1000, reply.content.matches.length]);
                    return reply;
                };
            }"""
        )

    def completion_times(self) -> list[tuple[float, int]]:
        """Of each completion: the seconds that it took, and how many matches came."""
        return [(seconds, found) for seconds, found in self.page.evaluate("window.kmTimes")]

    def wait_completions(self, number: int, timeout: float = 15.0) -> None:
        """Wait until that many have been answered."""
        self._wait_for(
            f"() => window.kmTimes.length >= {number}",
            timeout,
            f"{number} completions",
            polling="raf",
        )

    def wait_menu(self, timeout: float = 15.0) -> list[str]:
        """Wait for the menu that Tab opens; returns what it offers."""
        items = self.page.locator(".jp-Completer:visible .jp-Completer-match")
        self._wait_visible(items.first, timeout, "the menu of completions")
        return items.all_inner_texts()

    def close_menu(self, timeout: float = 15.0) -> None:
        """Press Escape in it, and see it go."""
        self.page.keyboard.press("Escape")
        self._wait_for(
            "() => ![...document.querySelectorAll('.jp-Completer')]"
            ".some(node => node.checkVisibility())",
            timeout,
            "the menu is gone",
        )

    def wait_tooltip(self, timeout: float = 15.0) -> str:
        """Wait for the help that Shift-Tab opens; returns its text."""
        tooltip = self.page.locator(".jp-Tooltip")
        self._wait_visible(tooltip, timeout, "the tooltip")
        return tooltip.inner_text()

    # -- reading --------------------------------------------------------------------------

    def prompt(self, i: int) -> str:
        """``"[ ]:"``, ``"[*]:"`` or ``"[3]:"``."""
        return str(self.page.evaluate(f"({_PROMPT})({i})"))

    def outputs(self, i: int) -> list[str]:
        """The text drawn for each output of the cell, without newlines at its end.

        For short outputs only; the module says why.
        """
        return [text.rstrip("\n") for text in self._outputs(i).all_inner_texts()]

    def output_text(self, i: int) -> str:
        """The drawn texts of all outputs of the cell, joined by newlines."""
        return "\n".join(self.outputs(i))

    def mime_types(self, i: int) -> list[str]:
        """The MIME type drawn for each output of the cell; ``""`` where it has none."""
        types: list[str] = self._outputs(i).evaluate_all(
            "nodes => nodes.map(node => node.dataset.mimeType ?? '')"
        )
        return types

    def images(self, i: int, timeout: float = 15.0) -> list[tuple[int, int]]:
        """Natural width and height of each image of the cell, once all are decoded."""
        selector = ".jp-OutputArea-output img"
        cell = self._cell(i)
        wait_until(
            lambda: bool(cell.locator(selector).evaluate_all(_ALL_DECODED)),
            timeout,
            what=f"the images of cell {i} are decoded",
        )
        sizes = cell.locator(selector).evaluate_all(
            "nodes => nodes.map(node => [node.naturalWidth, node.naturalHeight])"
        )
        return [(width, height) for width, height in sizes]

    def model_outputs(self, i: int) -> list[Output]:
        """The outputs that the page holds for the cell, in nbformat's form."""
        outputs: list[Output] = self.page.evaluate(
            "i => window.jupyterapp.shell.currentWidget.content.widgets[i].model.outputs.toJSON()",
            i,
        )
        return outputs

    def saved_outputs(self, i: int) -> list[Output]:
        """Save the notebook; the cell's outputs as the file has them."""
        return [dict(output) for output in self.read_saved().cells[i].outputs]

    def wait_output(self, i: int, text: str, timeout: float = 30.0) -> None:
        """Wait until ``text`` is in the outputs that the page holds for the cell."""
        self._wait_for(
            "([i, text]) => JSON.stringify(window.jupyterapp.shell.currentWidget.content"
            ".widgets[i].model.outputs.toJSON()).includes(JSON.stringify(text).slice(1, -1))",
            timeout,
            f"cell {i} shows {text!r}",
            argument=[i, text],
            polling=200,  # looking costs the page as much time as the cell's text is long
        )

    def screenshot(self, path: Path) -> None:
        """A PNG of the window as it is now."""
        # Playwright would write it on a thread that stays.
        path.write_bytes(self.page.screenshot())

    # -- inside ---------------------------------------------------------------------------

    def _panel(self) -> Locator:
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")

    def _cell(self, i: int) -> Locator:
        return self._panel().locator(".jp-Notebook-cell").nth(i)

    def _outputs(self, i: int) -> Locator:
        return self._cell(i).locator(".jp-OutputArea-child > .jp-OutputArea-output")

    def _toolbar_button(self, name: str) -> Locator:
        return self._panel().locator(f'.jp-NotebookPanel-toolbar [data-jp-item-name="{name}"]')

    def _watch_prompts(self) -> None:
        # A cell may run to its end between two looks at it, so the page itself notes each [*].
        self.page.evaluate(
            f"""() => {{
                window.kmStarted = new Set();
                window.kmWatcher?.disconnect();
                const cells = [...document.querySelectorAll('{_CELL}')];
                window.kmWatcher = new MutationObserver(records => {{
                    for (const record of records) {{
                        const target = record.target;
                        const node = target.nodeType === 1 ? target : target.parentElement;
                        if (!node?.closest('.jp-InputPrompt')) continue;
                        const texts = [target, ...record.addedNodes].map(n => n.textContent);
                        if (texts.some(text => text.includes('*')))
                            window.kmStarted.add(cells.indexOf(node.closest('.jp-Notebook-cell')));
                    }}
                }});
                for (const cell of cells)
                    window.kmWatcher.observe(
                        cell, {{childList: true, characterData: true, subtree: true}});
            }}"""
        )

    def _command(self, name: str, timeout: float) -> None:
        """One of JupyterLab's commands, as its menus call them, awaited."""
        self.page.evaluate(
            """name => {
                window.kmCommand = null;
                window.jupyterapp.commands.execute(name).then(
                    () => { window.kmCommand = 'done'; },
                    error => { window.kmCommand = `failed: ${error}`; });
            }""",
            name,
        )
        self._wait_for("() => window.kmCommand !== null", timeout, f"{name} ends")
        result = self.page.evaluate("window.kmCommand")
        if result != "done":
            raise RuntimeError(f"{name} {result}")

    def _wait_for(
        self,
        condition: str,
        timeout: float,
        what: str,
        *,
        argument: Any = None,
        polling: float | Literal["raf"] = 50,
    ) -> None:
        from playwright.sync_api import TimeoutError as PlaywrightTimeout

        try:
            self.page.wait_for_function(
                condition,
                arg=argument,
                timeout=timeout * 1000,
                polling=polling,
            )
        except PlaywrightTimeout:
            raise TimeoutError(f"not within {timeout} s: {what}; {self._situation()}") from None

    def _wait_visible(self, locator: Locator, timeout: float, what: str) -> None:
        from playwright.sync_api import TimeoutError as PlaywrightTimeout

        try:
            locator.wait_for(state="visible", timeout=timeout * 1000)
        except PlaywrightTimeout:
            raise TimeoutError(f"not within {timeout} s: {what}; {self._situation()}") from None

    def _situation(self) -> str:
        """What the page shows, for the message of a failed wait."""
        facts = self.page.evaluate(
            """() => ({
                url: location.pathname,
                kernel: [...document.querySelectorAll('.jp-Notebook-ExecutionIndicator')]
                    .map(node => node.dataset.status),
                prompts: [...document.querySelectorAll('.jp-Notebook-cell .jp-InputPrompt')]
                    .map(node => node.textContent),
                dialogs: [...document.querySelectorAll('.jp-Dialog')]
                    .map(node => node.innerText),
            })"""
        )
        return f"the page: {facts}\nthe server's log ends:\n{self.server.log[-2000:]}"


def stream_text(outputs: Iterable[Output], name: str = "stdout") -> str:
    """The text of one stream, put together from ``model_outputs`` or ``saved_outputs``."""
    return "".join(
        output["text"] if isinstance(output["text"], str) else "".join(output["text"])
        for output in outputs
        if output["output_type"] == "stream" and output["name"] == name
    )


_CELL = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook-cell"
_PROMPT = f"""(i => document.querySelectorAll('{_CELL}')[i]
    ?.querySelector('.jp-InputPrompt')?.textContent ?? '')"""
_ALL_DECODED = (
    "nodes => nodes.length > 0 && nodes.every(node => node.complete && node.naturalWidth > 0)"
)


def _accept(dialog: Dialog) -> None:
    dialog.accept()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
