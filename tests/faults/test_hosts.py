"""What happens on this side: to the notebook's kernel, or to the terminal."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil

from tests.faults.faces import Face, Kind, Notebook, Seen, Terminal, new_face
from tests.faults.rows import Fault, Rows
from tests.faults.stage import NEXT, Scene, last, nothing_left_in, played
from tests.support.fake import FakeKernel, Step
from tests.support.kernels import HandKernel
from tests.support.sandbox import CHECKOUT, MARK, Sandbox
from tests.support.steps import busy, cell, execute_input, idle, reply, stream
from tests.support.waiting import wait_until

ROWS = Rows()

BEFORE, AFTER = stream("before\n"), stream("after\n")

BEGUN = [busy(), execute_input(), BEFORE]
"""What a kernel says of a cell that it never ends."""

END = (AFTER, reply(), idle())

IMPORT = "from tests.faults import inside"

LEFT_WITHIN = 5.0
"""Seconds after the host's end in which everything of ours is gone."""


def inside(call: str) -> str:
    """A cell that calls a function in the host."""
    return f"{IMPORT}; inside.{call}"


# Kernels that would wait for themselves.


@ROWS.fault(
    "`%%remote` to the notebook's own kernel",
    shows=(),
    error=(
        "KernelMagicsError",
        "kernel-… is the kernel this cell runs in; it would wait for itself for ever",
    ),
    hosts=("notebook",),
    ends=True,
)
def itself(scene: Scene) -> Seen:
    assert isinstance(scene.face, Notebook)
    return scene.face.run(f"%%remote {scene.face.host.connection_file}\n1")


@ROWS.fault(
    "a cell there that runs a cell here (A → B → A)",
    shows=("before",),
    error=("UsageError", "back is waiting for this very cell; it would wait for itself for ever"),
    hosts=("notebook",),
)
def circle(scene: Scene) -> Seen:
    assert isinstance(scene.face, Notebook)
    scene.real()
    _lead(scene, scene.name, scene.face.host.connection_file)
    return scene.run("print('before')\nget_ipython().run_cell_magic('remote', 'back', '1')")


@ROWS.fault(
    "a cell there that runs one elsewhere that runs one there (B → C → B)",
    shows=("before",),
    error=("UsageError", "back is waiting for this very cell; it would wait for itself for ever"),
)
def wider_circle(scene: Scene) -> Seen:
    with HandKernel.start("tcp", scene.sandbox) as third:
        first = scene.real()
        _lead(scene, scene.name, third.connection_file)
        nested = f"%load_ext kernel_magics\n%kernel_attach {first.connection_file} --name back"
        assert (
            scene.run(f"get_ipython().run_cell_magic('remote', 'back', {nested!r})").error is None
        )
        code = "print('before')\nget_ipython().run_cell_magic('remote', 'back', '1')"
        seen = scene.run(f"get_ipython().run_cell_magic('remote', 'back', {code!r})")
        scene.run("%unload_ext kernel_magics")
    return seen


def _lead(scene: Scene, name: str, file: Path) -> None:
    """Let the remote kernel load the extension, and attach what it then calls ``back``."""
    load = f"%load_ext kernel_magics\n%kernel_attach {file} --name back"
    seen = scene.face.run(scene.remote(load, kernel=name))
    assert seen.error is None, seen


# Several cells at once.


@ROWS.fault("two cells at once, from two subshells of the notebook's kernel", hosts=("notebook",))
def two_subshells(scene: Scene) -> Seen:
    assert isinstance(scene.face, Notebook)
    host = scene.face.host
    other = scene.stack.enter_context(FakeKernel(folder=scene.sandbox.runtime))
    scene.attach(other, "second")
    other.follow({"execute_request": [busy(), stream("second begins\n")]})
    scene.fake({"execute_request": BEGUN})
    shells = [
        host.ask("create_subshell_request", channel="control")["subshell_id"] for _ in range(2)
    ]
    runs = [
        host.send("execute_request", _cell(f"%%remote {name}\n1"), subshell=shell)
        for name, shell in zip((scene.name, "second"), shells, strict=True)
    ]
    host.wait_for(lambda: "before" in runs[0].stdout and "second begins" in runs[1].stdout)
    request = other.wait_for("execute_request")
    other.do(lambda kernel: kernel.play([stream("second ends\n"), reply(), idle()], request))
    second = scene.face.seen_of(runs[1].wait())
    assert (second.text.split(), second.error) == (["second", "begins", "second", "ends"], None)
    scene.face.mark()
    scene.go_on(*END)
    seen = scene.face.seen_of(runs[0].wait())
    for shell in shells:
        host.ask("delete_subshell_request", {"subshell_id": shell}, channel="control")
    return seen


def _cell(code: str) -> dict[str, object]:
    return {"code": code, "silent": False, "store_history": True, "allow_stdin": False}


@ROWS.fault(
    "the cell's kernel is detached while it runs",
    shows=("began",),
    error=("KernelDetached", "kernel {k} was detached from here; the code may have run"),
    ran=True,
    ends=True,
)
def detached(scene: Scene) -> Seen:
    kernel = scene.fake({"execute_request": BEGUN})
    scene.face.ok(inside(f"submit({scene.name!r})"))
    kernel.wait_for("execute_request")
    scene.attached.clear()
    return scene.face.run(f"print('began'); km.pool.detach({scene.name!r}); inside.collect()")


@ROWS.fault(
    "the extension is unloaded while a cell runs in the background",
    shows=("began",),
    error=("KernelDetached", "kernel {k} was detached from here; the code may have run"),
    ran=True,
    ends=True,
    slow=True,
)
def unloaded(scene: Scene) -> Seen:
    face = scene.own_face()
    kernel = scene.fake({"execute_request": BEGUN})
    face.ok(inside(f"submit({scene.name!r})"))
    kernel.wait_for("execute_request")
    face.ok("%unload_ext kernel_magics")
    seen = face.run("print('began'); inside.collect()")
    face.ok("%load_ext kernel_magics")
    return seen


@ROWS.fault(
    "the kernel ignores Ctrl-C; a second one gives the prompt back",
    shows=("before",),
    error=("Abandoned", "no longer waiting for {k}, where the code may run on"),
    notice="has not stopped yet. Ctrl-C (or the stop button) again interrupts it once more and"
    " gives the prompt back, whether it stops or not.",
    slow=True,
    within=6,
)
def stubborn(scene: Scene) -> Seen:
    kernel = scene.fake({"execute_request": BEGUN})
    scene.begin()
    scene.face.interrupt()
    kernel.wait_for("interrupt_request")
    scene.face.see("has not stopped yet")
    scene.face.interrupt()
    return scene.finish()


# Forks.


@ROWS.fault(
    "a forked child uses a kernel of its parent",
    shows=("Closed: kernels cannot be used in a forked process; attach them again there",),
    ends=False,
    remark="the parent's kernel goes on",
)
def forked(scene: Scene) -> Seen:
    scene.fake(NEXT)
    return scene.face.run(inside(f"use_in_child({scene.name!r})"))


@ROWS.fault(
    "a forked child attaches the kernel for itself",
    shows=("next",),
    remark="it works there, and goes on here",
)
def forked_attaching(scene: Scene) -> Seen:
    kernel = scene.fake(NEXT)
    return scene.face.run(inside(f"attach_in_child({str(kernel.connection_file)!r})"))


@ROWS.fault(
    "a forked child ends, with a kernel that its parent has started",
    shows=("next",),
    slow=True,
    remark="that lives on",
)
def forked_ending(scene: Scene) -> Seen:
    scene.start_own()
    scene.face.ok(inside("end_in_child()"))
    return scene.run("print('next')")


# The host stands still.


@ROWS.fault("Ctrl-Z and `fg`, 6 s later", hosts=("terminal",), slow=True, within=10)
def job_control(scene: Scene) -> Seen:
    wrapper = scene.sandbox.work / "python"
    wrapper.write_text(
        "#!/bin/bash\n"
        "set -m  # or there would be no jobs to stop\n"
        f'{sys.executable} "$@"\n'
        'while [ -n "$(jobs -s)" ]; do echo "[stopped]"; read -r; fg > /dev/null; done\n'
    )
    wrapper.chmod(0o700)
    face = Terminal(scene.sandbox, python=wrapper)
    scene.face, scene.own = scene.stack.enter_context(closing(face)), True
    scene.fake({"execute_request": BEGUN})
    scene.begin()
    face.screen.press("\x1a")
    face.see("[stopped]")
    scene.go_on(AFTER)
    last(6)
    face.type_line("")
    scene.go_on(reply(), idle())
    return scene.finish()


def stopped_host(seconds: float) -> Callable[[Scene], Seen]:
    def act(scene: Scene) -> Seen:
        names = [f"{scene.name}{letter}" for letter in "abc"]
        kernels = {
            name: scene.stack.enter_context(
                FakeKernel(
                    {"execute_request": [busy(), stream(f"{name} begins\n")]},
                    folder=scene.sandbox.runtime,
                )
            )
            for name in names
        }
        for name, kernel in kernels.items():
            scene.attach(kernel, name)
        scene.face.start(inside(f"run_all(*{names})"))
        scene.face.see("began")
        requests = {name: kernel.wait_for("execute_request") for name, kernel in kernels.items()}

        def play(name: str, *steps: Step) -> None:
            kernels[name].do(lambda kernel: kernel.play(steps, requests[name]))

        os.kill(scene.face.pid, signal.SIGSTOP)
        # One goes on meanwhile, one ends, and one does nothing until later.
        play(names[0], stream("a goes on\n"))
        play(names[1], reply(), idle())
        last(seconds)
        os.kill(scene.face.pid, signal.SIGCONT)
        scene.face.mark()
        play(names[0], reply(), idle())
        play(names[2], stream("c ends\n"), reply(), idle())
        seen = scene.finish()
        lines = [
            f"{names[0]} begins",
            "a goes on",
            f"{names[1]} begins",
            f"{names[2]} begins",
            "c ends",
        ]
        assert seen.text.split("\n") == ["began", *lines, ""], seen.text
        for kernel in kernels.values():
            kernel.follow(NEXT)
        scene.name = names[0]
        return seen

    return act


ROWS.append(
    Fault(
        "stopped_8",
        "the host is stopped for 8 s with three cells running",
        stopped_host(8),
        shows=("began",),
        slow=True,
    )
)
ROWS.append(
    Fault(
        "stopped_30",
        "the host is stopped for 30 s with three cells running",
        stopped_host(30),
        shows=("began",),
        slow=True,
        full=True,
    )
)


@ROWS.fault(
    "C code holds the host's interpreter for 8 s while a cell runs",
    slow=True,
    within=12,
)
def host_held(scene: Scene) -> Seen:
    kernel, sign = scene.fake({"execute_request": BEGUN}), scene.sandbox.work / "holds"
    scene.face.start(inside(f"hold({scene.name!r}, 8, {str(sign)!r})"))
    kernel.wait_for("execute_request")
    wait_until(sign.exists, what="the host is held")
    last(7)
    scene.go_on(*END)
    return scene.finish()


# The host ends.


def ending(
    name: str,
    what: str,
    end: Callable[[Face], None],
    *,
    hosts: tuple[Kind, ...] = ("notebook", "terminal"),
    remark: str,
) -> None:
    """A row whose host ends, with a cell running in a kernel of its own and one in another's."""

    def act(scene: Scene) -> Seen:
        home = Sandbox.make(scene.sandbox.root / "home")
        face = new_face(scene.face.kind, home)
        with closing(face):
            scene.face, scene.own = face, True
            scene.start_own()
            kernel = scene.stack.enter_context(
                FakeKernel({"execute_request": BEGUN}, folder=scene.sandbox.runtime)
            )
            scene.attach(kernel, "theirs")
            face.ok(inside(f"submit('theirs', {scene.name!r})"))
            kernel.wait_for("execute_request")
            face.mark()
            began = time.monotonic()
            end(face)
            wait_until(
                lambda: not marked(home), LEFT_WITHIN, what=lambda: f"all ends: {marked(home)}"
            )
            seconds = time.monotonic() - began
            assert not any(each.type == "shutdown_request" for each in kernel.requests)
        nothing_left_in(home)
        return Seen("", seconds)

    ROWS.append(
        Fault(
            name,
            what,
            act,
            shows=(),
            within=LEFT_WITHIN,
            hosts=hosts,
            host_ends=True,
            slow=True,
            remark=remark,
        )
    )


def marked(sandbox: Sandbox) -> list[str]:
    """The processes that were started in a sandbox, at whatever depth."""
    found: list[str] = []
    for process in psutil.process_iter():
        try:
            if (
                process.environ().get(MARK) == str(sandbox.root)
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(f"{process.pid} {' '.join(process.cmdline())}")
        except psutil.Error:
            continue
    return found


GONE = "its own kernels and all their files are gone; those of others live on"

ending(
    "exit",
    "`exit` with cells running",
    lambda face: face.start("exit"),
    hosts=("terminal",),
    remark=GONE,
)
ending(
    "host_killed",
    "`kill -9` of the host with cells running",
    lambda face: os.kill(face.pid, signal.SIGKILL),
    remark=GONE,
)
ending(
    "host_terminated",
    "SIGTERM to the host with cells running",
    lambda face: os.kill(face.pid, signal.SIGTERM),
    remark=GONE,
)
ending(
    "hung_up",
    "the terminal is closed with cells running",
    lambda face: os.kill(face.pid, signal.SIGHUP),
    hosts=("terminal",),
    remark=GONE,
)
ending(
    "host_shut_down",
    "the notebook's kernel is shut down with cells running",
    lambda face: shut_down(face),
    hosts=("notebook",),
    remark=GONE,
)


def shut_down(face: Face) -> None:
    assert isinstance(face, Notebook)
    face.host.client.shutdown()


# Surroundings.


@ROWS.fault("`%autoreload 2` is active", slow=True)
def autoreload(scene: Scene) -> Seen:
    face = scene.own_face()
    face.ok("%load_ext autoreload")
    face.ok("%autoreload 2")
    scene.fake({"execute_request": cell(BEFORE, AFTER)})
    return scene.run()


@ROWS.fault(
    "`%autoreload 2` is active, and our files change",
    shows=("before", "after"),
    error=("ValueError", "no"),
    explained=True,
    slow=True,
)
def reloaded(scene: Scene) -> Seen:
    folder = scene.sandbox.work / "copy"
    shutil.copytree(
        CHECKOUT / "kernel_magics",
        folder / "kernel_magics",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    face = scene.own_face(
        f"import sys; sys.path.insert(0, {str(folder)!r})", "%load_ext autoreload", "%autoreload 2"
    )
    scene.fake({"execute_request": cell(BEFORE, AFTER)})
    assert scene.run().error is None
    assert scene.run().error is None
    face.ok(inside(f"touch({str(folder)!r})"))
    kernel = scene.kernel
    assert isinstance(kernel, FakeKernel)
    kernel.follow(
        {"execute_request": [*BEGUN, AFTER, stream("odd\n", "stderr"), reply("error"), idle()]}
    )
    return scene.run()


@ROWS.fault(
    "no descriptor is left for one more kernel",
    shows=(),
    error=(
        "KernelMagicsError",
        "no room for one more kernel: … files are open and … allowed (ulimit -Hn)",
    ),
    slow=True,
)
def no_descriptors(scene: Scene) -> Seen:
    face = scene.own_face()
    scene.fake(NEXT)
    face.ok(inside("limit_descriptors(20)"))
    with FakeKernel(folder=scene.sandbox.runtime) as other:
        return face.run(f"%kernel_attach {other.connection_file} --name other")


@played(ROWS)
def test_fault(row: Fault, kind: Kind, playing: Callable[[Fault, Kind], None]) -> None:
    playing(row, kind)
