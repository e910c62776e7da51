"""How fast, and how complete: against a hand-written client, and against `jupyter_client`.

Run as ``python -m benchmarks``; see ``README.md``. Kernels are processes of their own, everything
is measured side by side in one run, so that a busy machine slows all sides alike.
"""
