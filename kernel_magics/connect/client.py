"""A `jupyter_client` client for a kernel that we know."""

from __future__ import annotations

import time
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient

from .info import ConnectionInfo

__all__ = ["BlockingKernelClient", "open_client"]

BEGUN_WITHIN = 1.0
"""Seconds for a thread to begin to run."""


class _Client(BlockingKernelClient):
    """One that leaves nothing when its channels are stopped."""

    def stop_channels(self) -> None:
        super().stop_channels()
        if not self.context.closed:  # older ones leave that to the garbage collection
            self.context.destroy(linger=100)


def open_client(info: ConnectionInfo) -> BlockingKernelClient:
    """Return a client with all its channels started; ``stop_channels()`` ends it."""
    client = _Client()
    # Its sockets take these from the context. What waits to be read is never dropped, as it would
    # be beyond 1000 messages; IPv6 and, before 8.9, Curve are unknown to it.
    context: Any = client.context
    context.rcvhwm = 0
    context.ipv6 = True
    values: Any = info.as_dict() | {"ip": info.address, "key": info.key.reveal()}
    if ":" in info.address and info.transport == "tcp":
        values["ip"] = f"[{info.address}]"
    if info.curve_publickey is not None and info.curve_secretkey is not None:
        public, secret = info.curve_publickey.reveal(), info.curve_secretkey.reveal()
        values |= {"curve_publickey": public, "curve_secretkey": secret}
        context.curve_serverkey = context.curve_publickey = public
        context.curve_secretkey = secret
    client.load_connection_info(values)
    if info.path is not None:
        client.connection_file = str(info.path)
    try:
        client.start_channels()
        # Its heart's thread, stopped before it has begun, would go on and on (8.6 to 8.10).
        deadline = time.monotonic() + BEGUN_WITHIN
        while not client.hb_channel.is_beating() and time.monotonic() < deadline:
            time.sleep(0.001)
    except BaseException:
        client.stop_channels()
        raise
    return client
