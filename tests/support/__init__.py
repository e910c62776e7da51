"""What the tests stand on: real kernels, fake kernels, hosts, and the proof that nothing is left.

Nothing here imports ``kernel_magics``: a judge that shares code with the accused proves nothing.
In reading order:

- ``waiting``     conditions with deadlines, the only way these tests ever wait
- ``sandbox``     one short private folder for each test, and the environment that points into it
- ``processes``   children that certainly end, even when the test run is killed
- ``parts``       what may be missing on a machine, and how a test says that it needs it
- ``connection``  connection files, written and read by hand
- ``wire``        messages to frames and back, by hand
- ``sockets``     the five sockets of a kernel
- ``echo``        a kernel that does nothing, as quickly as possible (also a program)
- ``fake``        a kernel that follows a script, for faults; its words are in ``steps``
- ``kernels``     real kernels, started by hand as a person would
- ``hosts``       where the extension runs: notebook kernel, terminal, nbclient
- ``leaks``       what a test has left behind
"""
