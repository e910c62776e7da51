"""ipykernel's limit of messages that wait to be sent, and how it is lifted.

On the reactor's thread."""

from __future__ import annotations

from .requests import Requests

LIFT_LIMIT = """
exec('''
import select, time, IPython, zmq
thread = IPython.get_ipython().kernel.iopub_socket.io_thread
def lift():
    sock = thread.socket
    for _ in range(20):
        sock.EVENTS
        time.sleep(0.01)
        if not select.select([sock.FD], [], [], 0)[0]:
            sock.setsockopt(zmq.SNDHWM, 100_000)
            break
thread.schedule(lift)
''', {})
""".strip()
"""Run once, silently and before the first cell, in kernels of ours that stand on ipykernel. It
drops the newest message, ``idle`` included, as soon as 1000 wait to be sent; over ipc, on a busy
machine, that lost some of 20,000 flushed prints in 9 of 9 runs, however fast they were read here.

Not in kernels of others, and only while nothing is pending on the socket: libzmq 4.3.5 crashes when
the option is set while a connection is being torn down (21 kernels in 2,400 attaches; this way
0)."""


def lift(requests: Requests) -> None:
    """Have a kernel of ours that stands on ipykernel lift it."""
    content = {"code": LIFT_LIMIT, "silent": True, "store_history": False}
    requests.ask("shell", "execute_request", content=content)
