"""Finding, starting and reaching kernels: each way ends in something a transport is made of.

Here are the helper functions that the field has known for years, each loaded when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .classic import (
        connect_qtconsole,
        find_connection_file,
        get_connection_file,
        get_connection_info,
        swallow_argv,
        write_connection_file,
    )
    from .tunnel import tunnel_to_kernel

__all__ = [
    "connect_qtconsole",
    "find_connection_file",
    "get_connection_file",
    "get_connection_info",
    "swallow_argv",
    "tunnel_to_kernel",
    "write_connection_file",
]

_HOMES = dict.fromkeys(__all__, "classic") | {"tunnel_to_kernel": "tunnel"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
