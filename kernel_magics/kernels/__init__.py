"""Holding kernels: one, its running cells, and the pool of them."""
