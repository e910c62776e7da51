"""`jupyter_client`, used as its documentation shows."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty
from typing import Any, Self

import zmq
from jupyter_client.blocking.client import BlockingKernelClient

PATIENCE = 120.0
"""Seconds, as in the floor client."""


class Peer:
    """A `BlockingKernelClient` and its channels; ``unlimited`` lifts the receive limit of 1000."""

    def __init__(self, file: Path, *, unlimited: bool = False) -> None:
        context = zmq.Context()
        if unlimited:
            context.rcvhwm = 0
        self._context = context
        self.client = BlockingKernelClient(connection_file=str(file), context=context)
        self.client.load_connection_file()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)

    def run(self, code: str) -> Any:
        """Run code by ``execute_interactive``."""
        return self.client.execute_interactive(code, timeout=PATIENCE)

    def collect(self, code: str, take: Callable[[dict[str, Any]], None], silence: float) -> bool:
        """Run code and hand over its messages; return whether idle came before ``silence`` seconds.

        ``execute_interactive`` does the same, but would wait for a lost idle until its timeout.
        """
        msg_id = self.client.execute(code)
        while True:
            try:
                message = self.client.get_iopub_msg(timeout=silence)
            except Empty:
                return False
            if message["parent_header"].get("msg_id") == msg_id:
                take(message)
                if message["content"].get("execution_state") == "idle":
                    return True

    def close(self) -> None:
        """Stop the channels."""
        self.client.stop_channels()
        self._context.destroy(linger=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def attach_seconds(file: Path, timeout: float) -> float | None:
    """Connect and wait until the kernel is ready; None when that failed."""
    client = BlockingKernelClient(connection_file=str(file))
    client.load_connection_file()
    begin = time.perf_counter()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=timeout)
        return time.perf_counter() - begin
    except RuntimeError:
        return None
    finally:
        client.stop_channels()
