"""Kernels of other languages: what of theirs is seen here, kernel by kernel.

Each row is a test with a real kernel behind a real notebook's, and a line of ``docs/languages.md``;
their quirks are played by a scripted kernel in ``tests/faults`` besides."""
