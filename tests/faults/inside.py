"""What rows do inside a host, where it would be too long for a cell."""

import atexit
import ctypes
import multiprocessing
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

from IPython import get_ipython

import kernel_magics as km

submitted: list[km.Execution] = []


def submit(*names: str) -> None:
    """Begin a cell in each of these kernels, and wait for none."""
    submitted[:] = [km.pool[name].submit("1") for name in names]


def collect() -> None:
    """Wait for them, and print what they printed."""
    for execution in submitted:
        result = execution.wait()
        print(result.stdout, end="")


def run_all(*names: str) -> None:
    """Run a cell in several kernels at once."""
    submit(*names)
    print("began")
    collect()


def hold(name: str, seconds: int, sign: str) -> None:
    """Hold the interpreter in C, as bad extensions do, while a cell runs in a kernel.

    A file is the sign that this begins; what is printed now may be seen only afterwards.
    """
    submit(name)
    km.pool[name].request("control", "kernel_info_request", timeout=5)  # by then it has left
    Path(sign).touch()
    ctypes.PyDLL(None).sleep(seconds)
    collect()


def all_true(name: str, number: int) -> None:
    """Run a cell, and say whether it printed what it should and nothing else."""
    printed = km.pool[name].run("1").stdout
    print("all true" if printed == "".join(f"true {n}\n" for n in range(number)) else printed)


def in_child(what: Callable[[], object]) -> None:
    """Do something in a forked child, and print what came of it."""
    reading, writing = os.pipe()

    def child() -> None:
        try:
            answer = str(what())
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(writing, answer.encode())

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    os.close(writing)
    answer = b""
    while piece := os.read(reading, 4096):
        answer += piece
    os.close(reading)
    process.join()
    print(answer.decode())


def use_in_child(name: str) -> None:
    in_child(lambda: km.pool[name].run("1").stdout)


def attach_in_child(path: str) -> None:
    in_child(lambda: km.pool.attach(path, "childs").run("1").stdout)


def end_in_child() -> None:
    """Fork a child that ends as an interpreter does, exit hooks and all but IPython's own: that
    would end the parent's session in the database of the history."""
    child = os.fork()
    if child == 0:
        try:
            atexit.unregister(get_ipython().atexit_operations)  # type: ignore[no-untyped-call]
            atexit._run_exitfuncs()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def limit_descriptors(spare: int) -> None:
    """Allow this process some more open files than it has, and no more."""
    number = sum(1 for _ in Path("/proc/self/fd").iterdir()) + spare
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))


def touch(folder: str) -> None:
    """Change all modules in a folder, as an editor or an update does."""
    later = time.time() + 10
    for path in Path(folder).rglob("*.py"):
        path.write_text(path.read_text() + "\n")
        os.utime(path, (later, later))
