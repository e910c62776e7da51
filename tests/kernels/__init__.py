"""Holding kernels: real ones wherever possible, fake ones for what real ones will not do."""
