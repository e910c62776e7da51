"""`jupyter_client`, used as its documentation shows."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from queue import Empty
from typing import Any, Self

import zmq
import zmq.asyncio
from jupyter_client.asynchronous.client import AsyncKernelClient
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


class AsyncPeers:
    """An `AsyncKernelClient` for each of several kernels, in an event loop of their own.

    Only the channels that a cell needs; a thread, because a notebook's own loop is busy with the
    cell that asks.
    """

    def __init__(self, files: list[Path]) -> None:
        self._context = zmq.asyncio.Context()
        self._context.max_sockets = 4096
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._clients = self._ask(self._connect(files))

    def run(self, code: str) -> list[Any]:
        """Run code in all by ``execute_interactive``."""
        replies: list[Any] = self._ask(self._run(code))
        return replies

    def close(self) -> None:
        """Stop the channels and the loop."""
        self._ask(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._context.destroy(linger=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _ask(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(PATIENCE)

    async def _connect(self, files: list[Path]) -> list[AsyncKernelClient]:
        clients = []
        for file in files:
            client = AsyncKernelClient(connection_file=str(file), context=self._context)
            client.load_connection_file()
            client.start_channels(stdin=False)
            clients.append(client)
        await asyncio.gather(*(client.wait_for_ready(timeout=PATIENCE) for client in clients))
        return clients

    async def _run(self, code: str) -> list[Any]:
        def nothing(message: dict[str, Any]) -> None:
            """What it shows does not count here."""

        return await asyncio.gather(
            *(
                client.execute_interactive(
                    code, allow_stdin=False, output_hook=nothing, timeout=PATIENCE
                )
                for client in self._clients
            )
        )

    async def _stop(self) -> None:
        for client in self._clients:
            client.stop_channels()


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
