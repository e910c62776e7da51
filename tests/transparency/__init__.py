"""The measurement behind the promise: a cell run remotely shows what it shows when run here.

``compare`` runs a notebook both ways, ``normalise`` says what may differ and why, and
``python -m tests.transparency NOTEBOOK...`` prints the outcome for any notebook.
"""
