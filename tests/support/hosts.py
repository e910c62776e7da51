"""Where the extension runs: each host is a real process, in a sandbox, driven from the test.

- ``KernelHost``: a notebook's kernel, without the browser.
- ``TerminalHost``: IPython in a terminal.
- ``run_notebook``: nbclient, which runs all cells of a notebook in a fresh kernel.
"""

from tests.support.kernel_host import CellRun, KernelHost, OnInput, Output, RawMessage
from tests.support.notebook_host import run_notebook
from tests.support.terminal_host import TerminalHost

__all__ = [
    "CellRun",
    "KernelHost",
    "OnInput",
    "Output",
    "RawMessage",
    "TerminalHost",
    "run_notebook",
]
