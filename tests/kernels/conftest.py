"""What most of these tests hold kernels with."""

from collections.abc import Generator

import pytest

from kernel_magics.kernels.kernel import Kernel
from kernel_magics.kernels.pool import KernelPool
from tests.support.kernels import HandKernel


@pytest.fixture
def pool() -> Generator[KernelPool]:
    pool = KernelPool()
    yield pool
    pool.close()


@pytest.fixture
def kernel(pool: KernelPool, shared_kernel: HandKernel) -> Kernel:
    """A real kernel that others use as well: leave it as it was."""
    return pool.attach(shared_kernel.connection_file, "real")
