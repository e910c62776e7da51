"""Runs inside a host: at the end of each cell it tells the test how that ended.

The user does not see these lines; ``faces`` takes them out of what was printed.
"""

import json
import logging
import sys
import threading
from typing import Any

from IPython.core.getipython import get_ipython

BEGIN, END = "<<km ", " km>>"

complaints: list[str] = []
"""What was logged, or raised in threads, where no user looks."""


class _Listener(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        complaints.append(logging.Formatter().format(record))


def _raised_in_thread(args: threading.ExceptHookArgs) -> None:
    complaints.append(f"in thread {args.thread}: {args.exc_type.__name__}: {args.exc_value}")


def _unraisable(args: Any) -> None:
    complaints.append(f"unraisable in {args.object}: {args.exc_value!r}")


def _at_the_end(result: Any) -> None:
    error: BaseException | None = result.error_before_exec or result.error_in_exec
    told = {
        "error": None if error is None else type(error).__name__,
        "message": "" if error is None else str(error)[:2000],
        "may_have_run": getattr(error, "may_have_run", None),
        "complaints": complaints[:20],
    }
    complaints.clear()
    print(f"{BEGIN}{json.dumps(told)}{END}")


def install() -> None:
    """Tell from now on."""
    shell: Any = get_ipython()
    shell.events.register("post_run_cell", _at_the_end)
    logging.getLogger("kernel_magics").addHandler(_Listener(logging.WARNING))
    threading.excepthook = _raised_in_thread
    sys.unraisablehook = _unraisable
