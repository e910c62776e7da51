"""The I/O thread, and the ZeroMQ sockets it owns."""

import zmq


def start_zero_copy() -> None:
    """pyzmq starts a thread with the first frame sent without a copy, and keeps it for good.

    Called from a fixture of a wider scope, so that it is nothing that a test leaves behind.
    """
    with zmq.Context() as context, context.socket(zmq.PAIR) as here:
        here.bind("inproc://zero-copy")
        with context.socket(zmq.PAIR) as there:
            there.connect("inproc://zero-copy")
            there.send(bytes(2**20), copy=False)
            here.recv()
