"""Bytes to and from one kernel, and the one thread that moves them."""
