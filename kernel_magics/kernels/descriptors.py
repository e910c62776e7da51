"""Open files: libzmq ends the whole process when there are none left for it."""

from __future__ import annotations

from pathlib import Path

from ..errors import KernelMagicsError

DESCRIPTORS_PER_KERNEL = 32
"""To have in reserve before one more kernel or client."""


def reserve_descriptors() -> None:
    """Make room for one more kernel's sockets, raising the soft limit only on need.

    Raises:
        KernelMagicsError: the hard limit leaves none.
    """
    try:
        import resource

        in_use = sum(1 for _ in Path("/proc/self/fd").iterdir())
    except (ImportError, OSError):
        return  # not Linux; libzmq's own check is all there is
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = in_use + DESCRIPTORS_PER_KERNEL
    if needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise KernelMagicsError(
            f"no room for one more kernel: {in_use} files are open and {hard} allowed (ulimit -Hn)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
