"""The way to the kernel: cut, dead, slow, or handing on only crumbs."""

from collections.abc import Callable

from tests.faults.faces import Kind, Seen
from tests.faults.messages import counting
from tests.faults.rows import Fault, Rows
from tests.faults.stage import PROMPT, Scene, last, played
from tests.support.fake import FakeKernel, Request
from tests.support.relay import Line, Relay
from tests.support.steps import (
    ask_input,
    busy,
    cell,
    execute_input,
    idle,
    reply,
    stream,
    when,
)

ROWS = Rows()

BEFORE, AFTER = stream("before\n"), stream("after\n")

BEGUN = [busy(), execute_input(), BEFORE]
"""What a kernel says of a cell that it never ends."""

END = (AFTER, reply(), idle())

GAP = "was out of reach for a moment; output may be missing"

RAN = "the code may have run, in part or whole"

DIED = (
    "KernelDied",
    f"kernel {{k}} died: its connection closed and nothing answered there for 2 s; {RAN}",
)

# Cut in the middle of a cell.


def cut_and_back(name: str, what: str, cut: Callable[[Relay], None]) -> None:
    """A row whose connection is cut in the middle of a cell, while the kernel goes on."""

    def act(scene: Scene) -> Seen:
        _, relay = scene.relayed({"execute_request": BEGUN})
        scene.begin()
        with scene.reconnecting():
            cut(relay)
        scene.go_on(*END)
        return scene.finish()

    ROWS.append(Fault(name, what, act, notice=GAP))


cut_and_back("dropped", "all connections close", lambda relay: relay.drop())
cut_and_back("reset", "all connections are reset", lambda relay: relay.drop(reset=True))
cut_and_back("iopub", "the iopub connection closes", lambda relay: relay.drop("iopub"))
cut_and_back("shell", "the shell connection closes", lambda relay: relay.drop("shell"))
cut_and_back("control", "the control connection closes", lambda relay: relay.drop("control"))
cut_and_back("stdin", "the stdin connection closes", lambda relay: relay.drop("stdin"))


@ROWS.fault("all connections close, and none is possible for 1 s", notice=GAP, slow=True)
def back_in_time(scene: Scene) -> Seen:
    _, relay = scene.relayed({"execute_request": BEGUN})
    scene.begin()
    with scene.reconnecting():
        relay.cut()
        last(1)
        relay.restore()
    scene.go_on(*END)
    return scene.finish()


@ROWS.fault(
    "all connections close, and the cell ends meanwhile",
    shows=("before",),
    error=(
        "ReplyLost",
        "{k} finished this cell without a reply, so whether it succeeded is not known",
    ),
    notice=GAP,
    slow=True,
)
def end_in_gap(scene: Scene) -> Seen:
    _, relay = scene.relayed({"execute_request": BEGUN})
    scene.begin()
    with scene.reconnecting():
        relay.cut()
        scene.go_on(*END)
        relay.restore()
    return scene.finish(timeout=PROMPT)


@ROWS.fault(
    "all connections close, and the cell says meanwhile that it is over, but the reply arrives",
    shows=("before",),
    notice=GAP,
    slow=True,
    within=10,
)
def idle_in_gap(scene: Scene) -> Seen:
    _, relay = scene.relayed({"execute_request": BEGUN})
    scene.begin()
    with scene.reconnecting():
        relay.cut()
        scene.go_on(AFTER, idle())
        relay.restore()
    scene.go_on(reply())
    return scene.finish()


@ROWS.fault("all connections close; who answers then, first ends the cell", notice=GAP)
def end_before_proof(scene: Scene) -> Seen:
    kernel, relay = scene.relayed({"execute_request": BEGUN})
    scene.begin()
    request = kernel.wait_for("execute_request")
    listeners = len(kernel.subscriptions)

    def script(kernel: FakeKernel, asked: Request) -> None:
        # The end can arrive only where the new connection is: control may be there before the rest.
        there.add(asked.channel)
        if ended:
            kernel.answer(asked)
        elif "shell" in there and len(kernel.subscriptions) > listeners:
            ended.append(True)
            kernel.play(END, request)

    there: set[str] = set()
    ended: list[bool] = []
    kernel.follow(script)
    relay.drop()
    return scene.finish(timeout=PROMPT)


def cut_for_good(name: str, what: str, cut: Callable[[Relay], None]) -> None:
    """A row whose connection does not come back."""

    def act(scene: Scene) -> Seen:
        _, relay = scene.relayed({"execute_request": BEGUN})
        scene.begin()
        cut(relay)
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
            slow=True,
            ends=True,
        )
    )


cut_for_good("cut", "all connections close for good", lambda relay: relay.cut())
cut_for_good("iopub_cut", "iopub closes for good", lambda relay: relay.cut("iopub"))
cut_for_good("shell_cut", "shell closes for good", lambda relay: relay.cut("shell"))


@ROWS.fault(
    "the kernel ends behind a tunnel, whose near end stays open",
    shows=("before",),
    error=DIED,
    ran=True,
    within=6,
    slow=True,
    ends=True,
)
def tunnel_to_nobody(scene: Scene) -> Seen:
    kernel, _ = scene.relayed({"execute_request": BEGUN})
    scene.begin()
    kernel.close()
    return scene.finish()


# Cut unnoticed: what is not used is what a firewall forgets first.


@ROWS.fault("the control connection closes, and then Ctrl-C is pressed", notice=GAP)
def interrupt_after_cut(scene: Scene) -> Seen:
    kernel, relay = scene.relayed({"execute_request": [*BEGUN, when("interrupt_request", *END)]})
    scene.begin()
    relay.drop("control")
    scene.face.interrupt()
    kernel.wait_for("interrupt_request", timeout=PROMPT)
    return scene.finish()


@ROWS.fault(
    "the stdin connection closes between two cells, and then the kernel asks", asks=("name? ",)
)
def question_after_cut(scene: Scene) -> Seen:
    kernel, relay = scene.relayed({"execute_request": cell()})
    assert scene.run().error is None
    kernel.follow({"execute_request": [*BEGUN, ask_input("name? ", *END)]})
    relay.drop("stdin")
    scene.start(stdin=True)
    scene.face.see_question("name? ", timeout=PROMPT)
    scene.face.type_line("me")
    return scene.finish()


# Between two cells.


@ROWS.fault("all connections close for a moment between two cells")
def dropped_between(scene: Scene) -> Seen:
    _, relay = scene.relayed({"execute_request": cell(BEFORE, AFTER)})
    with scene.reconnecting():
        relay.drop()
    scene.until_state("idle")
    return scene.run()


@ROWS.fault(
    "all connections close for good between two cells",
    shows=(),
    error=("KernelDied", "kernel {k} died: …; the code did not run"),
    ran=False,
    slow=True,
    remark="when they are possible again, so are cells",
)
def cut_between(scene: Scene) -> Seen:
    _, relay = scene.relayed({"execute_request": cell(BEFORE, AFTER)})
    relay.cut()
    scene.until_noticed()
    seen = scene.run()
    relay.restore()
    return seen


# Slow, dead for a while, or in crumbs.


def line(name: str, what: str, line: Line, **expectations: object) -> None:
    """A row whose connection is poor, but loses nothing."""

    def act(scene: Scene) -> Seen:
        scene.relayed({"execute_request": cell(BEFORE, AFTER)}, line)
        return scene.run()

    ROWS.append(Fault(name, what, act, **expectations))  # type: ignore[arg-type]


line("far", "each message takes 100 ms each way", Line(delay=0.1))
line("very_far", "each message takes 1 s each way", Line(delay=1), slow=True, within=8)
line("crumbs", "bytes arrive in pieces of 1 to 7", Line(pieces=7))


@ROWS.fault(
    "no more than 200 kB pass in a second, and the cell prints 600 kB", within=20, slow=True
)
def narrow(scene: Scene) -> Seen:
    scene.relayed({"execute_request": cell(BEFORE, counting(1000), AFTER)}, Line(rate=200_000))
    seen = scene.run()
    assert seen.text.split() == ["before", *map(str, range(1000)), "after"]
    return seen


@ROWS.fault(
    "nothing passes for 8 s, on connections that stay open",
    notice="has been silent for …; Ctrl-C interrupts it",
    within=12,
    slow=True,
)
def dead_line(scene: Scene) -> Seen:
    _, relay = scene.relayed({"execute_request": BEGUN})
    scene.begin()
    relay.pause()
    scene.go_on(*END)
    last(8)
    relay.resume()
    return scene.finish()


@played(ROWS)
def test_fault(row: Fault, kind: Kind, playing: Callable[[Fault, Kind], None]) -> None:
    playing(row, kind)
