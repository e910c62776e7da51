"""Something that is shown again and again in the same place, until Ctrl-C."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from IPython.display import DisplayHandle, display

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from .view import Table

PAUSE = 1.0
"""Seconds between two looks."""


def watch(shell: InteractiveShell, look: Callable[[], Table]) -> None:
    """Show what ``look`` returns, once a second."""
    show = _in_terminal() if getattr(shell, "kernel", None) is None else _in_notebook()
    try:
        while True:
            show(look())
            time.sleep(PAUSE)
    except KeyboardInterrupt:
        return  # that is how it is ended


def _in_notebook() -> Callable[[Table], None]:
    handle: DisplayHandle | None = None

    def show(table: Table) -> None:
        nonlocal handle
        if handle is None:
            handle = display(table, display_id=True)
        else:
            handle.update(table)

    return show


def _in_terminal() -> Callable[[Table], None]:
    shown = 0  # lines

    def show(table: Table) -> None:
        nonlocal shown
        width, height = shutil.get_terminal_size()
        # Cut, because a line that is wrapped, or has left the top, could not be gone back to.
        lines = [line[: width - 1] for line in str(table).splitlines()][: height - 1]
        back = f"\x1b[{shown}A\x1b[J" if shown and sys.stdout.isatty() else ""
        print(back + "\n".join(lines), flush=True)
        shown = len(lines)

    return show
