"""The other process of the raw contenders: bytes over one TCP socket, and as one ZeroMQ message.

``python -m benchmarks.far_end TCP_PORT ZMQ_PORT NBYTES`` connects to both and does what the TCP
socket says: ``s`` sends, ``r`` receives, ``n`` receives into new memory, capitals over ZeroMQ."""

from __future__ import annotations

import mmap
import socket
import sys

import zmq

PIECE = 4 * 1024 * 1024


def send(sock: socket.socket, memory: memoryview) -> None:
    """Send all of it, in pieces."""
    done = 0
    while done < memory.nbytes:
        done += sock.send(memory[done : done + PIECE])


def receive(sock: socket.socket, memory: memoryview) -> None:
    """Fill all of it."""
    done = 0
    while done < memory.nbytes:
        done += sock.recv_into(memory[done:])


def new_memory(nbytes: int) -> memoryview:
    """Allocate as numpy does: with huge pages where there are some."""
    area = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(area)


def main(tcp_port: int, zmq_port: int, nbytes: int) -> None:
    """Serve until the other side closes."""
    memory = memoryview(bytearray(nbytes))
    tcp = socket.create_connection(("127.0.0.1", tcp_port))
    context = zmq.Context()
    pair = context.socket(zmq.PAIR)
    pair.connect(f"tcp://127.0.0.1:{zmq_port}")
    while order := tcp.recv(1):
        if order == b"s":
            send(tcp, memory)
        elif order == b"r":
            receive(tcp, memory)
            tcp.sendall(b"!")
        elif order == b"n":
            receive(tcp, new_memory(nbytes))
            tcp.sendall(b"!")
        elif order == b"S":
            pair.send(memory, copy=False)
        elif order == b"R":
            pair.recv(copy=False)
            tcp.sendall(b"!")
    context.destroy(linger=0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
