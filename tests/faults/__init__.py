"""What goes wrong with a kernel, and what the user then sees: one row for each fault.

Each row is played in a notebook and in a terminal. In reading order:

- ``rows``      what a row is, and the table made of all (``docs/faults.md``)
- ``witness``   runs inside the hosts and tells how each cell ended
- ``faces``     the two hosts, driven alike
- ``stage``     plays one row and judges what was seen
- ``messages``  messages that no kernel should send
"""
