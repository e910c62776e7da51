"""A real qtconsole widget in a window, with a kernel of its own, used as a person would.

The widget lives in a process of its own, this module run as a program: Qt wants the main thread. It
takes one command a line, as JSON, and answers each with a line."""

from __future__ import annotations

import json
import subprocess
import sys
from types import TracebackType
from typing import Any, Self

from tests.support.processes import guard
from tests.support.sandbox import Sandbox
from tests.support.waiting import PATIENCE, wait_until
from tests.support.windows import Display, qt_variables


class QtConsole:
    """One window on one kernel; ``close()`` ends both."""

    def __init__(self, sandbox: Sandbox, display: Display) -> None:
        """Open it and wait for its first prompt."""
        self.log = sandbox.work / "qtconsole.log"
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.qt_console"],
                env=sandbox.environment(**qt_variables(sandbox, display)), cwd=sandbox.work,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                start_new_session=True,
            )  # fmt: skip
        guard.watch(self._process.pid)
        try:
            self.wait_prompt()
        except BaseException:
            self.close()
            raise

    @property
    def text(self) -> str:
        """All that stands in the window."""
        return str(self._look()["text"])

    @property
    def images(self) -> list[tuple[int, int]]:
        """Width and height of each picture in the window."""
        return [(width, height) for width, height in self._look()["images"]]

    def run(self, code: str) -> str:
        """Paste a cell, press Shift-Enter, wait for the next prompt; return what came between."""
        self.start(code)
        self.wait_prompt()
        return self.printed

    def start(self, code: str) -> None:
        """Paste a cell and press Shift-Enter."""
        self._tell("paste", code)
        self._begun = len(self.text)
        self._tell("run", "")

    @property
    def printed(self) -> str:
        """What has come below the last cell, without the next prompt."""
        return self.text[self._begun :].rpartition("\nIn [")[0].strip("\n")

    def wait_prompt(self) -> None:
        """Wait until the next cell can be typed."""
        wait_until(
            lambda: not self._look()["executing"] and self._look()["prompt"],
            what=lambda: f"a prompt: {self._look()}\n{self.log.read_text()}",
        )

    def wait_text(self, text: str) -> None:
        """Wait until something has come below the last cell."""
        wait_until(
            lambda: text in self.text[self._begun :], what=lambda: f"{text!r} in {self.text}"
        )

    def answer(self, text: str) -> None:
        """Wait until the window asks, type an answer, press Enter."""
        wait_until(lambda: self._look()["reading"], what=lambda: f"a question in {self.text}")
        self._tell("type", text)

    def press_ctrl_c(self) -> None:
        """Press Ctrl-C in the window."""
        self._tell("interrupt", "")

    def press_tab(self, code: str) -> None:
        """Paste something and press Tab; what it offers comes below, as text."""
        self._tell("paste", code)
        self._begun = len(self.text)
        self._tell("tab", "")

    def clear_line(self) -> None:
        """Press Escape, which ends a completion, and take away what was typed."""
        self._tell("clear", "")

    def close(self) -> None:
        """Close the window, end its kernel; idempotent."""
        if self._process.stdin is None or self._process.stdin.closed:
            return
        try:
            self._process.communicate(timeout=PATIENCE)  # it ends with its input
        finally:
            self._process.kill()
            self._process.wait(PATIENCE)
            guard.forget(self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _look(self) -> dict[str, Any]:
        return self._tell("look", "")

    def _tell(self, command: str, text: str) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps([command, text]) + "\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise RuntimeError(f"the window has ended:\n{self.log.read_text()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def main() -> None:
    """Show the window and obey, until stdin ends."""
    from PySide6 import QtCore, QtGui
    from PySide6.QtTest import QTest
    from PySide6.QtWidgets import QApplication
    from qtconsole.manager import QtKernelManager
    from qtconsole.rich_jupyter_widget import RichJupyterWidget

    app = QApplication(sys.argv)
    manager = QtKernelManager(kernel_name="python3")
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    widget = RichJupyterWidget()
    widget.set_default_style("nocolor")
    widget.kernel_manager, widget.kernel_client = manager, client
    widget.resize(900, 600)
    widget.show()

    def images() -> list[tuple[float, float]]:
        found = []
        block = widget._control.document().begin()
        while block.isValid():
            for fragment in (part.fragment() for part in block):
                form = fragment.charFormat()
                if form.isImageFormat():
                    name = form.toImageFormat().name()
                    resource = widget._control.document().resource(
                        QtGui.QTextDocument.ResourceType.ImageResource, QtCore.QUrl(name)
                    )
                    found.append((resource.width(), resource.height()))
            block = block.next()
        return found

    def look() -> dict[str, Any]:
        return {
            "text": widget._control.toPlainText(),
            "executing": widget._executing,
            "prompt": not widget._reading and widget._prompt.startswith("In ["),
            "reading": widget._reading,
            "images": images(),
        }

    keys, modifiers = QtCore.Qt.Key, QtCore.Qt.KeyboardModifier

    def obey(command: str, text: str) -> None:
        control = widget._control
        match command:
            case "paste":
                widget.input_buffer = text
            case "run":
                QTest.keyClick(control, keys.Key_Return, modifiers.ShiftModifier)
            case "type":
                QTest.keyClicks(control, text)
                QTest.keyClick(control, keys.Key_Return)
            case "interrupt":
                QTest.keyClick(control, keys.Key_C, modifiers.ControlModifier)
            case "tab":
                QTest.keyClick(control, keys.Key_Tab)
            case "clear":
                QTest.keyClick(control, keys.Key_Escape)
                widget.input_buffer = ""

    def read() -> None:
        line = sys.stdin.readline()
        if not line:
            notifier.setEnabled(False)
            client.stop_channels()
            manager.shutdown_kernel(now=True)
            app.quit()
            return
        obey(*json.loads(line))
        print(json.dumps(look()), flush=True)

    notifier = QtCore.QSocketNotifier(sys.stdin.fileno(), QtCore.QSocketNotifier.Type.Read)
    notifier.activated.connect(read)
    app.exec()


if __name__ == "__main__":
    main()
