"""Kernels that end, stop or are replaced."""

import os
import signal
import socket
import threading
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.faults.faces import Kind, Seen
from tests.faults.rows import Fault, Rows
from tests.faults.stage import NEXT, Scene, last, played
from tests.support.connection import CHANNELS
from tests.support.fake import FakeKernel
from tests.support.kernels import connected
from tests.support.steps import answered, busy, close_channels, execute_input, idle, reply, stream
from tests.support.waiting import PATIENCE, wait_until

ROWS = Rows()

BEFORE, AFTER = stream("before\n"), stream("after\n")

BEGUN = [busy(), execute_input(), BEFORE]
"""What a kernel says of a cell that it never ends."""

RAN = "the code may have run, in part or whole"

DIED = (
    "KernelDied",
    f"kernel {{k}} died: its connection closed and nothing answered there for 2 s; {RAN}",
)
DID_NOT_RUN = ("KernelDied", "kernel {k} died: …; the code did not run")
REPLACED = ("KernelDied", f"kernel {{k}} died: something else answers in its place now; {RAN}")

RESTARTED = "is another process than before: its variables are gone"


def until(go: Path, then: str = "") -> str:
    """A cell that prints ``before``, waits until a file is there, and goes on."""
    return (
        "import pathlib, time\n"
        "print('before', flush=True)\n"
        f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\n" + then
    )


def new_sign(scene: Scene) -> Path:
    """A file that a remote cell can wait for."""
    return scene.sandbox.work / f"go-{uuid.uuid4().hex[:8]}"


# In the middle of a cell.


@ROWS.fault(
    "`kill -9` in the middle of a cell",
    shows=("before",),
    error=DIED,
    ran=True,
    within=6,
    ends=True,
    slow=True,
)
def killed(scene: Scene) -> Seen:
    kernel = scene.real()
    scene.begin(until(new_sign(scene)))
    kernel.kill()
    return scene.finish()


def dying_by(name: str, what: str, code: str) -> None:
    """A row whose cell ends its kernel."""

    def act(scene: Scene) -> Seen:
        scene.real()
        go = new_sign(scene)
        scene.begin(until(go, code))
        go.touch()
        return scene.finish()

    ROWS.append(
        Fault(
            name,
            what,
            act,
            shows=("before",),
            error=DIED,
            ran=True,
            within=6,
            ends=True,
            slow=True,
        )
    )


dying_by("os_exit", "`os._exit(0)` in a cell", "import os; os._exit(0)")
dying_by("crash", "a crash in a C library", "import ctypes; ctypes.string_at(0)")


@ROWS.fault(
    "`sys.exit(3)` in a cell, which ipykernel refuses", shows=("before",), error=("SystemExit", "3")
)
def sys_exit(scene: Scene) -> Seen:
    scene.real()
    return scene.run("print('before')\nimport sys; sys.exit(3)")


@ROWS.fault(
    "`exit()` in a cell: the kernel ends afterwards",
    shows=("before",),
    notice="was asked to exit; this session is still here",
    ends=True,
    slow=True,
    remark="the next cell there ends with `KernelDied`, and did not run",
)
def exits(scene: Scene) -> Seen:
    kernel = scene.real()
    seen = scene.run("print('before')\nexit()")
    kernel.process.wait()
    scene.until_noticed()
    after = scene.run()
    assert (after.error, after.may_have_run) == ("KernelDied", False), after
    return seen


@ROWS.fault(
    "another client shuts the kernel down in the middle of a cell",
    shows=("before",),
    error=DIED,
    ran=True,
    within=8,
    ends=True,
    slow=True,
)
def shut_down(scene: Scene) -> Seen:
    ending = [answered(), close_channels()]
    kernel = scene.fake({"execute_request": BEGUN, "shutdown_request": ending})
    scene.begin()
    with connected(kernel.info, "control") as client:
        client.shutdown()
        kernel.wait_for("shutdown_request")
        return scene.finish()


@ROWS.fault(
    "a kernel that was started here is killed",
    shows=("before",),
    error=(
        "KernelDied",
        "kernel {k} died: its process was ended by SIGKILL"
        f" (%kernel_restart {{k}} starts it anew); {RAN}",
    ),
    ran=True,
    ends=True,
    slow=True,
)
def own_killed(scene: Scene) -> Seen:
    pid = scene.start_own()
    scene.begin(until(new_sign(scene)))
    os.kill(pid, signal.SIGKILL)
    return scene.finish()


@ROWS.fault(
    "a kernel that was started here is killed, and restarted by `%kernel_restart`",
    shows=("after",),
    slow=True,
    within=10,
    remark="its name works again",
)
def own_restarted(scene: Scene) -> Seen:
    os.kill(scene.start_own(), signal.SIGKILL)
    scene.until_noticed()
    assert f"restarted {scene.name} (pid" in scene.face.ok(f"%kernel_restart {scene.name}").text
    return scene.run("print('after')")


@ROWS.fault(
    "it closes its connections between the reply and idle",
    error=DIED,
    ran=True,
    ends=True,
    slow=True,
    within=6,
)
def dies_before_idle(scene: Scene) -> Seen:
    scene.fake({"execute_request": [*BEGUN, AFTER, reply(), close_channels()]})
    return scene.run()


@ROWS.fault(
    "the kernel is restarted behind the same ports in the middle of a cell",
    shows=("before",),
    error=(
        "KernelRestarted",
        f"kernel {{k}} was restarted: another process answers in its place; {RAN}",
    ),
    ran=True,
)
def restarted(scene: Scene) -> Seen:
    kernel = scene.fake({"execute_request": BEGUN})
    scene.begin()
    kernel.do(lambda kernel: kernel.restart())
    return scene.finish()


# Between two cells.


@ROWS.fault("the kernel is restarted between two cells", shows=("after",), notice=RESTARTED)
def restarted_between(scene: Scene) -> Seen:
    kernel = scene.fake({"execute_request": [*BEGUN, reply(), idle()]})
    assert scene.run().error is None
    kernel.follow({"execute_request": [busy(), AFTER, reply(), idle()]})
    with scene.reconnecting():
        kernel.do(lambda kernel: kernel.restart())
    scene.until_state("idle")
    return scene.run()


@ROWS.fault(
    "the kernel is killed between two cells",
    shows=(),
    error=DID_NOT_RUN,
    ran=False,
    slow=True,
    ends=True,
)
def killed_between(scene: Scene) -> Seen:
    kernel = scene.real()
    kernel.kill()
    scene.until_noticed()
    return scene.run("1")


@ROWS.fault(
    "the kernel is killed between two cells, and started again by hand on the same file",
    shows=("after",),
    notice=RESTARTED,
    slow=True,
    remark="its name works again",
)
def started_again(scene: Scene) -> Seen:
    kernel = scene.real()
    kernel.kill()
    scene.until_noticed()
    assert scene.run("1").error == "KernelDied"
    kernel.restart_behind_same_ports()
    return scene.run("print('after')")


# It stands still.

SILENT = "has been silent for …; Ctrl-C interrupts it"


@ROWS.fault("the kernel is stopped for 8 s (SIGSTOP)", notice=SILENT, within=12, slow=True)
def stopped(scene: Scene) -> Seen:
    kernel, go = scene.real(), new_sign(scene)
    scene.begin(until(go, "print('after')"))
    with kernel.stopped():
        last(8)
    go.touch()
    return scene.finish()


@ROWS.fault("C code holds the kernel's interpreter for 8 s", within=12, slow=True)
def held(scene: Scene) -> Seen:
    scene.real()
    code = "import ctypes\nprint('before', flush=True)\nctypes.PyDLL(None).sleep(8)\nprint('after')"
    return scene.run(code)


@ROWS.fault("C code holds the kernel's interpreter for 30 s", within=40, slow=True, full=True)
def held_long(scene: Scene) -> Seen:
    scene.real()
    code = "import re\nprint('before')\nctypes.PyDLL(None).sleep(30)\nprint('after')"
    return scene.run(f"import ctypes\n{code}")


@ROWS.fault(
    "a kernel that was started here is stopped and stays so",
    shows=("before",),
    error=(
        "KernelUnresponsive",
        "kernel {k} has been silent for 12 s; its process … is stopped"
        f" (kill -CONT … wakes it); {RAN}",
    ),
    notice=SILENT,
    ran=True,
    within=14,
    slow=True,
)
def own_stopped(scene: Scene) -> Seen:
    pid, go = scene.start_own(), new_sign(scene)
    scene.begin(until(go))
    os.kill(pid, signal.SIGSTOP)
    seen = scene.finish()
    os.kill(pid, signal.SIGCONT)
    go.touch()
    return seen


@ROWS.fault(
    "the kernel falls silent under `--unresponsive-after 1`",
    shows=("before",),
    error=("KernelUnresponsive", f"kernel {{k}} has been silent for 1 s; {RAN}"),
    ran=True,
)
def unresponsive(scene: Scene) -> Seen:
    kernel = scene.fake({"execute_request": BEGUN})
    scene.begin("1", "--unresponsive-after 1")
    with kernel.frozen():
        return scene.finish()


@ROWS.fault(
    "the cell outlives its `--timeout 0.5`",
    shows=("before",),
    error=(
        "ExecutionTimeout",
        "no end after 0.5 s; the code runs on in {k} (%kernel_interrupt {k} stops it)",
    ),
)
def timeout(scene: Scene) -> Seen:
    scene.fake({"execute_request": BEGUN})
    return scene.run("1", "--timeout 0.5")


# Somebody else on its ports.

SECRET = "secret = 'of nobody but the kernel'"


def become_stranger(kernel: FakeKernel) -> None:
    """Be a process that has opened the same ports, and holds another key."""
    kernel.restart()
    kernel.key = b"the key of a stranger"


def become_silent(kernel: FakeKernel) -> None:
    """Be a process that has opened the same ports, and only listens."""
    kernel.welcomes = kernel.beats = False
    kernel.follow(lambda kernel, request: None)
    kernel.restart()


def come_back(kernel: FakeKernel) -> None:
    """Be the kernel again."""
    kernel.key = kernel.sockets.key
    kernel.restart()


def codes(kernel: FakeKernel) -> list[str]:
    """The code that has been sent to it."""
    return [each.content["code"] for each in kernel.requests if each.type == "execute_request"]


@ROWS.fault(
    "another kernel, with another key, takes the ports in the middle of a cell",
    shows=("before",),
    error=REPLACED,
    ran=True,
    ends=True,
)
def replaced(scene: Scene) -> Seen:
    kernel = scene.fake({"execute_request": BEGUN})
    scene.begin()
    kernel.do(become_stranger)
    return scene.finish()


def replaced_often(times: int) -> Callable[[Scene], Seen]:
    def act(scene: Scene) -> Seen:
        kernel = scene.fake(NEXT)
        for turn in range(times):
            assert scene.run("1").text.count("next") == 1
            before = len(kernel.requests)
            kernel.do(become_stranger)
            if turn % 2:
                scene.until_noticed()
            scene.face.mark()
            seen = scene.run(SECRET)
            assert SECRET not in codes(kernel)[before:]
            assert seen.error == "KernelDied", seen
            kernel.do(come_back)
        kernel.do(become_stranger)
        scene.until_noticed()
        return scene.run(SECRET)

    return act


for times, full in ((20, False), (100, True)):
    ROWS.append(
        Fault(
            f"replaced_{times}_times",
            f"another kernel, with another key, takes the ports between two cells ({times} times)",
            replaced_often(times),
            shows=(),
            error=DID_NOT_RUN,
            ran=False,
            remark="nobody sees the code",
            ends=True,
            full=full,
            slow=True,
        )
    )


@ROWS.fault(
    "somebody who only listens takes the ports between two cells",
    shows=(),
    error=DID_NOT_RUN,
    ran=False,
    remark="nobody sees the code",
    ends=True,
    slow=True,
)
def listened_to(scene: Scene) -> Seen:
    kernel = scene.fake(NEXT)
    kernel.do(become_silent)
    scene.until_noticed()
    seen = scene.run(SECRET)
    assert SECRET not in codes(kernel)
    return seen


@ROWS.fault(
    "somebody who only listens takes the ports in the middle of a cell",
    shows=("before",),
    error=DIED,
    ran=True,
    ends=True,
    slow=True,
)
def listened_to_amid(scene: Scene) -> Seen:
    kernel = scene.fake({"execute_request": BEGUN})
    scene.begin()
    kernel.do(become_silent)
    return scene.finish()


def _listen(port: int) -> socket.socket | None:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError:
        return None


@contextmanager
def recorded(kernel: FakeKernel) -> Generator[bytearray]:
    """Something that knows nothing of ZeroMQ on all ports of a dead kernel; all it is sent."""
    heard = bytearray()
    kernel.do(lambda kernel: close_channels()(kernel, kernel.requests[0]))
    ports = [kernel.info[f"{channel}_port"] for channel in CHANNELS]
    # ZeroMQ closes in the background: the ports may be taken for a moment.
    listeners = [wait_until(partial(_listen, port), what=f"port {port} is free") for port in ports]

    def serve(listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.0 400 What?\r\n\r\n")
                while data := connection.recv(4096):
                    if data == b"end":
                        return
                    heard.extend(data)

    threads = [threading.Thread(target=serve, args=(each,)) for each in listeners]
    for thread in threads:
        thread.start()
    try:
        yield heard
    finally:
        for port, thread, listener in zip(ports, threads, listeners, strict=True):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(b"end")
            thread.join(PATIENCE)
            listener.close()


@ROWS.fault(
    "a web server takes the ports between two cells",
    shows=(),
    error=DID_NOT_RUN,
    ran=False,
    remark="nobody sees the code",
    ends=True,
    slow=True,
)
def web_server(scene: Scene) -> Seen:
    kernel = scene.fake(NEXT)
    with recorded(kernel) as heard:
        scene.until_noticed()
        seen = scene.run(SECRET)
        assert SECRET.encode() not in heard
    return seen


@played(ROWS)
def test_fault(row: Fault, kind: Kind, playing: Callable[[Fault, Kind], None]) -> None:
    playing(row, kind)
