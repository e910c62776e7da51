"""The only layer that knows IPython: magics, and where outputs go."""
