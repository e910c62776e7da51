"""Kernels that send what they should not, or not what they should."""

import re
import stat
import threading
from collections.abc import Callable
from pathlib import Path

from tests.faults.faces import Kind, Seen
from tests.faults.messages import (
    counting,
    deep,
    in_turn,
    many,
    odd,
    replayed,
    tampered,
    truncated,
    unsigned,
    without_delimiter,
    wrongly_signed,
)
from tests.faults.rows import Fault, Rows
from tests.faults.stage import UNSAFE, Scene, last, played
from tests.support.fake import FakeKernel, Request, Step
from tests.support.steps import (
    ask_input,
    busy,
    cell,
    display,
    error,
    execute_input,
    idle,
    in_session,
    publish,
    reply,
    stream,
    update,
    when,
)
from tests.support.wire import Json

ROWS = Rows()

BEFORE, AFTER = stream("before\n"), stream("after\n")

DROPPED = "sent what is no proper message; dropped it"


def lie(name: str, what: str, *steps: Step, **expectations: object) -> None:
    """A row whose kernel, between two proper outputs of a proper cell, does something else."""
    cell_of_lies(name, what, *cell(BEFORE, *steps, AFTER), **expectations)


def cell_of_lies(name: str, what: str, *steps: Step, **expectations: object) -> None:
    """A row whose kernel answers a cell with exactly these steps."""

    def act(scene: Scene) -> Seen:
        scene.fake({"execute_request": steps})
        return scene.run()

    ROWS.append(Fault(name, what, act, **expectations))  # type: ignore[arg-type]


def dropped(name: str, what: str, step: Step, why: str) -> None:
    """A row whose kernel sends one message that is not shown, and said to be."""
    lie(name, what, step, hides=("odd", "bad"), notice=f"{DROPPED}: {why}")


# Frames that are no message of this kernel.

FORGED = "message rejected: the signature does not match"

dropped("unsigned", "a message without signature", odd(bend=unsigned), FORGED)
dropped("wrongly_signed", "a message with a wrong signature", odd(bend=wrongly_signed), FORGED)
dropped("tampered", "a message changed after it was signed", odd(bend=tampered), FORGED)
lie(
    "replayed",
    "a message sent twice, to the byte",
    stream("once\n"),
    replayed,
    shows=("before", "once", "after"),
    notice=f"{DROPPED}: message rejected: a message that was received before",
)


@ROWS.fault(
    "a message of an earlier cell, to the byte",
    notice=f"{DROPPED}: message rejected: a message that was received before",
)
def replayed_later(scene: Scene) -> Seen:
    said: list[tuple[str, list[bytes]]] = []
    kernel = scene.fake({"execute_request": cell(stream("once\n"), keep(said))})
    assert scene.run().text.strip() == "once"
    kernel.follow({"execute_request": cell(BEFORE, lambda kernel, _: kernel.send(*said[0]), AFTER)})
    return scene.run()


def keep(said: list[tuple[str, list[bytes]]]) -> Step:
    """Keep the frames that were sent last."""
    return lambda kernel, request: said.append(kernel.last_sent)


dropped(
    "truncated",
    "a message that lacks frames",
    odd(bend=truncated),
    "message rejected: it was cut short",
)
dropped(
    "no_delimiter",
    "a message without delimiter",
    odd(bend=without_delimiter),
    "message rejected: no delimiter",
)
dropped(
    "header_is_no_json",
    "a header that is not JSON",
    odd(header=b"{\xff"),
    "message rejected: a header that is not JSON",
)
dropped(
    "parent_is_no_json",
    "a parent header that is not JSON",
    odd(parent=b'{"msg_id"'),
    "message rejected: a header that is not JSON",
)
dropped(
    "metadata_is_no_json",
    "metadata that are not JSON",
    odd(metadata=b"{]"),
    "stream: metadata is not JSON",
)
dropped(
    "metadata_is_no_object",
    "metadata that are a list",
    odd(metadata=b"[1]"),
    "stream: metadata is list, not an object",
)
dropped(
    "content_is_no_json",
    "content that is not JSON",
    odd(content=b'{"name": "stdout", "text": "odd'),
    "stream: content is not JSON",
)
dropped(
    "content_is_no_object",
    "content that is a list",
    odd(content=b'["odd"]'),
    "stream: content is list, not an object",
)
dropped(
    "header_is_no_object",
    "a header that is a list",
    odd(header=b"[1]"),
    "message rejected: a header that is not an object",
)
dropped(
    "too_deep",
    "content nested 100,000 deep",
    odd(content=deep(100_000)),
    "stream: content is not JSON",
)
dropped(
    "too_deep_header",
    "a header nested 30,000 deep",
    odd(header=deep(30_000)),
    "message rejected: a header that is not JSON",
)
dropped(
    "huge_header",
    "a header of 32 MB",
    odd(header=b'{"' + b"x" * 32_000_000 + b'": 1}'),
    "message rejected: a header larger than 65536 bytes",
)
dropped(
    "many_frames",
    "a message of 50,000 frames",
    odd(buffers=[b""] * 50_000),
    "message rejected: 50007 frames, more than 10000",
)
dropped(
    "no_type",
    "a header without a type",
    odd(header={"msg_type": None}),
    "message rejected: a header without msg_id and msg_type",
)
dropped(
    "no_id",
    "a header without an id",
    odd(header={"msg_id": None}),
    "message rejected: a header without msg_id and msg_type",
)

# Messages with odd content.


def passed(name: str, what: str, step: Step, **expectations: object) -> None:
    """A row whose kernel sends something odd that harms nobody; ``odd`` may be shown or not."""
    lie(name, what, step, **expectations)


def shown(data: object, **more: object) -> Json:
    return {"data": data, "metadata": {}, "transient": {}, **more}


SHOWN = ("before", "odd", "after")

lie("null_parent", "an output that belongs to no cell", odd(parent=b"null"), hides=("odd",))
lie(
    "foreign_parent",
    "an output that belongs to somebody else's cell",
    odd(parent={"msg_id": "another"}),
    hides=("odd",),
)
lie(
    "hostile_type",
    "a request among the outputs, of a type that is a control sequence",
    odd("\x1b]0;evil\x07_request"),
    hides=("odd",),
    notice=f"{DROPPED}: …_request on iopub",
)
lie(
    "odd_stream",
    "text on a stream that nobody knows",
    publish("stream", {"name": "stdfoo", "text": "odd\n"}),
    shows=SHOWN,
)
ODD_KINDS: dict[str, object] = {"number": 5, "list": ["odd"], "null": None, "object": {"a": 1}}

for kind, value in ODD_KINDS.items():
    an = "an" if kind == "object" else "a"
    passed(
        f"text_is_{kind}",
        f"the text of a stream is {an} {kind}",
        publish("stream", {"name": "stdout", "text": value}),
    )
    passed(
        f"plain_is_{kind}",
        f"the text/plain of a display is {an} {kind}",
        publish("display_data", shown({"text/plain": value})),
    )
    passed(
        f"data_is_{kind}",
        f"the data of a display are {an} {kind}",
        publish("display_data", shown(value)),
    )
    passed(
        f"result_is_{kind}",
        f"the text/plain of a result is {an} {kind}",
        publish("execute_result", shown({"text/plain": value}, execution_count=value)),
    )
    passed(
        f"error_is_{kind}",
        f"name, text and lines of an error message are {an} {kind}, but the cell succeeds",
        publish("error", {"ename": value, "evalue": value, "traceback": value}),
    )
passed("empty_stream", "a stream message without content", publish("stream", {}))
passed("empty_display", "a display without content", publish("display_data", {}))
passed("empty_result", "a result without content", publish("execute_result", {}))
passed("empty_error", "an error message without content", publish("error", {}))
lie(
    "surrogates",
    "lone surrogates in printed text",
    stream("odd \ud800\udc80 text\n"),
    shows=SHOWN,
)
lie(
    "surrogates_in_display",
    "lone surrogates in a display",
    display("odd \udfff text"),
    shows=SHOWN,
)
for word in ("NaN", "Infinity", "-Infinity"):
    dropped(
        word.replace("-", "minus_").lower(),
        f"{word} in a display, which is no JSON",
        odd("display_data", content=b'{"data": {"text/plain": "odd", "x": %s}}' % word.encode()),
        "display_data: content is not JSON",
    )
lie(
    "unknown_type",
    "a message of a type that nobody knows",
    publish("surprise", {"text": "odd"}),
    hides=("odd",),
)
lie(
    "surrogate_type",
    "a message of a type that holds a lone surrogate",
    odd("a\ud800b", content={"text": "odd"}),
    hides=("odd",),
)
lie(
    "request_on_iopub",
    "a request among the outputs",
    publish("execute_request", {"code": "odd"}),
    hides=("odd",),
    notice=f"{DROPPED}: execute_request on iopub",
)
passed(
    "odd_clear",
    "clear_output with odd content",
    publish("clear_output", {"wait": "perhaps"}),
)
passed("empty_clear", "clear_output without content", publish("clear_output", {}))
passed(
    "unknown_update",
    "an update of a display that there never was",
    update("odd", display_id="nowhere"),
    shows=SHOWN,
)
passed(
    "odd_transient",
    "a display whose transient part is a list",
    publish("display_data", shown({"text/plain": "odd"}, transient=["x"])),
    shows=SHOWN,
)
lie(
    "comms",
    "messages of widgets, here without anybody who knows them",
    publish("comm_open", {"comm_id": "c", "target_name": "jupyter.widget", "data": {}}),
    publish("comm_msg", {"comm_id": "c", "data": {"text": "odd"}}),
    publish("comm_close", {"comm_id": "never opened", "data": {}}),
    hides=("odd",),
)
lie(
    "versions",
    "messages of several versions of the protocol",
    *[
        odd(header={"version": version}, content={"name": "stdout", "text": f"of {version}\n"})
        for version in ("5.0", "5.3", "5.4", "5.6", None)
    ],
    shows=("before", "of 5.0", "of 5.3", "of 5.4", "of 5.6", "of None", "after"),
)
lie("odd_state", "a status that nobody knows", publish("status", {"execution_state": "napping"}))
lie("empty_status", "a status without a state", publish("status", {}))
lie(
    "another_session",
    "outputs in the name of another session",
    in_session("another", stream("odd\n")),
    shows=SHOWN,
)
cell_of_lies(
    "all_in_another_session",
    "a whole cell in the name of another session",
    in_session("another", *cell(BEFORE, AFTER)),
)

# The order of things.

cell_of_lies("no_busy", "never busy", execute_input(), BEFORE, AFTER, reply(), idle())
cell_of_lies("no_input", "no execute_input", busy(), BEFORE, AFTER, reply(), idle())
cell_of_lies("idle_first", "idle before the reply", busy(), BEFORE, AFTER, idle(), reply())
cell_of_lies(
    "reply_first",
    "the reply before the outputs, as whoever reads shell first gets it from xeus-python and Deno",
    *[busy(), execute_input(), reply(), BEFORE, AFTER, idle()],
)
lie(
    "foreign_idle",
    "idle of another request",
    odd("status", parent={"msg_id": "another"}, content={"execution_state": "idle"}),
)
lie(
    "orphaned_idle",
    "idle of no request",
    odd("status", parent={}, content={"execution_state": "idle"}),
)
cell_of_lies(
    "no_idle",
    "never idle",
    busy(),
    execute_input(),
    BEFORE,
    AFTER,
    reply(),
    notice="never said that this cell was over; some output may be missing",
    within=10,
    slow=True,
)


def _no_idle_no_welcome(scene: Scene) -> Seen:
    scene.fake({"execute_request": [busy(), BEFORE, AFTER, reply()]}, welcome=False)
    return scene.run()


ROWS.append(
    Fault(
        "no_idle_no_welcome",
        "never idle, of a kernel that does not greet subscribers (all but ipykernel)",
        _no_idle_no_welcome,
        notice="never said that this cell was over; some output may be missing",
        within=12,
        slow=True,
    )
)

# The reply.

cell_of_lies("two_replies", "two replies", busy(), BEFORE, AFTER, reply(), reply("error"), idle())
lie(
    "reply_of_wrong_type",
    "a reply of another type, before the right one",
    reply(msg_type="complete_reply"),
    notice=f"{DROPPED}: complete_reply on shell",
)
LOST = ("ReplyLost", "{k} finished this cell without a reply, so whether it succeeded is not known")
cell_of_lies(
    "only_reply_of_wrong_type",
    "a reply of another type only",
    busy(),
    BEFORE,
    AFTER,
    reply(msg_type="complete_reply"),
    idle(),
    error=LOST,
    notice=f"{DROPPED}: complete_reply on shell",
)
cell_of_lies("no_reply", "idle, but never a reply", busy(), BEFORE, AFTER, idle(), error=LOST)


def reply_on(channel: str) -> Step:
    def step(kernel: FakeKernel, request: Request) -> None:
        kernel.reply(request.message, {"status": "ok"}, channel=channel)

    return step


cell_of_lies(
    "reply_on_control",
    "the reply on the wrong channel",
    busy(),
    BEFORE,
    AFTER,
    reply_on("control"),
    idle(),
    error=LOST,
    notice=f"{DROPPED}: execute_reply on control",
)
cell_of_lies(
    "reply_among_outputs",
    "the reply among the outputs",
    busy(),
    BEFORE,
    AFTER,
    publish("execute_reply", {"status": "ok"}),
    idle(),
    error=LOST,
    notice=f"{DROPPED}: execute_reply on iopub",
)
cell_of_lies(
    "no_status", "a reply without a status", busy(), BEFORE, AFTER, reply(status=""), idle()
)
cell_of_lies(
    "unknown_status",
    "a reply with a status that nobody knows",
    *cell(BEFORE, AFTER)[:-2],
    reply("perhaps"),
    idle(),
    error=("ProtocolError", "execute_reply with status 'perhaps'"),
)
cell_of_lies(
    "status_is_list",
    "a reply whose status is a list",
    *cell(BEFORE, AFTER)[:-2],
    publish_on_shell := odd("execute_reply", channel="shell", content=b'{"status": ["ok"]}'),
    idle(),
    error=("ProtocolError", "execute_reply with status ['ok']"),
)
cell_of_lies(
    "reply_is_list",
    "a reply whose content is a list",
    *cell(BEFORE, AFTER)[:-2],
    odd("execute_reply", channel="shell", content=b"[1]"),
    idle(),
    error=("ProtocolError", "execute_reply: content is list, not an object"),
)
cell_of_lies(
    "odd_reply",
    "a reply whose every other field is odd",
    *cell(BEFORE, AFTER)[:-2],
    reply(payload=5, user_expressions=[1], execution_count="many"),
    idle(),
)
for word in ("aborted", "abort"):
    cell_of_lies(
        word,
        f"the kernel did not run it: `{word}`",
        busy(),
        reply(word),
        idle(),
        shows=(),
        error=(
            "Aborted",
            "{k} did not run this cell: an earlier request there failed or was interrupted",
        ),
        ran=False,
    )


cell_of_lies(
    "aborted_while_it_ran",
    "an interrupted cell that the kernel calls aborted, as IRkernel and bash_kernel do",
    *cell(BEFORE)[:-2],
    reply("abort"),
    idle(),
    shows=("before",),
    error=("Aborted", "this cell was interrupted in {k} and did not run to its end"),
    ran=True,
)


@ROWS.fault(
    "a reply with a status that nobody knows, before the outputs",
    error=("ProtocolError", "execute_reply with status 'perhaps'"),
)
def unknown_status_first(scene: Scene) -> Seen:
    """Reply and outputs travel on different ways, so either may come first."""
    kernel = scene.fake({"execute_request": [busy(), reply("perhaps")]})
    scene.start()
    kernel.wait_for("execute_request")
    scene.go_on(BEFORE, AFTER, idle())
    return scene.finish()


# Errors.


def failing(name: str, what: str, *steps: Step, **expectations: object) -> None:
    """A row whose cell fails: these steps between what a proper cell begins and ends with."""
    cell_of_lies(name, what, busy(), execute_input(), BEFORE, *steps, idle(), **expectations)


lie(
    "error_but_ok",
    "an error message, but the cell succeeds",
    error(),
    shows=("before", "ValueError: no", "after"),
)
failing(
    "error_only_in_reply",
    "a reply with an error that no message told",
    AFTER,
    reply("error"),
    error=("ValueError", "no"),
)
failing(
    "error_on_stderr",
    "a reply with an error that only text on stderr told",
    stream("odd\n", "stderr"),
    AFTER,
    reply("error"),
    shows=SHOWN,
    error=("ValueError", "no"),
    explained=True,
)
failing(
    "nameless_error_on_stderr",
    "a reply with an error without a name that only text on stderr told",
    stream("odd\n", "stderr"),
    AFTER,
    reply("error", ename="", evalue="", traceback=[]),
    shows=SHOWN,
    error=("RemoteError", ""),
    explained=True,
)
cell_of_lies(
    "failure_called_ok",
    "a failure that is only text, and a reply that says ok, as octave_kernel does",
    *cell(BEFORE, stream("error: 'odd' undefined\n"), AFTER),
    shows=SHOWN,
)
failing(
    "nameless_error",
    "a reply with an error of which nothing is known",
    AFTER,
    reply("error", ename="", evalue="", traceback=[]),
    error=("RemoteError", ""),
)
failing(
    "nameless_reply",
    "a reply that does not repeat the name that the message told",
    error("KeyError", "'x'"),
    AFTER,
    reply("error", ename="", evalue="", traceback=[]),
    shows=("before", "KeyError: 'x'", "after"),
    error=("KeyError", "'x'"),
)
failing(
    "unreadable_error",
    "an error message whose content is no JSON, and a reply that has it all",
    odd("error", content=b'{"ename": "ValueError'),
    AFTER,
    reply("error"),
    error=("ValueError", "no"),
    notice=f"{DROPPED}: error: content is not JSON",
)
for kind, value in ODD_KINDS.items():
    if value is None:
        continue  # as a name that is missing
    an = "an" if kind == "object" else "a"
    failing(
        f"failed_with_{kind}",
        f"a failure whose name, text and lines are {an} {kind}",
        AFTER,
        reply("error", ename=value, evalue=value, traceback=value),
        error=(str(value), str(value)),
    )
HOSTILE_WORDS = {
    "nul": ("a NUL", "a\0b"),
    "surrogate": ("a lone surrogate", "a\ud800b"),
    "newline": ("a newline", "a\nb"),
    "escape": ("a control sequence", "a\x1b[2Jb"),
}

for name, (kind, word) in HOSTILE_WORDS.items():
    failing(
        f"{name}_in_error_name",
        f"an error whose name and text hold {kind}",
        publish("error", {"ename": word, "evalue": word, "traceback": [f"odd {word}"]}),
        AFTER,
        reply("error", ename=word, evalue=word, traceback=[f"odd {word}"]),
        shows=SHOWN,
        error=("a…b", ""),
        explained=True,
    )
    failing(
        f"{name}_in_untold_error_name",
        f"an error only in the reply, whose name and text hold {kind}",
        AFTER,
        reply("error", ename=word, evalue=word, traceback=[]),
        error=("a…b", ""),
    )


ODD_TEXT = "odd \ud800"
RAISED = {"ename": "ValueError", "evalue": ODD_TEXT, "traceback": [f"ValueError: {ODD_TEXT}"]}

for name, what, steps in (
    ("surrogate_in_error_text", "an error", [publish("error", RAISED)]),
    ("surrogate_in_untold_error_text", "an error only in the reply", []),
):
    failing(
        name,
        f"{what} whose text and lines hold a lone surrogate",
        *steps,
        AFTER,
        reply("error", evalue=ODD_TEXT, traceback=RAISED["traceback"]),
        shows=("before",),
        error=("ValueError", "odd"),
    )


# Questions.

ASKED = {"prompt": "odd? ", "password": False}


def question(parent: object = None) -> Step:
    return odd("input_request", channel="stdin", parent=parent, content=ASKED)  # type: ignore[arg-type]


lie("orphaned_question", "a question of no cell", question({}), hides=("odd",))
lie(
    "foreign_question",
    "a question of another cell",
    question({"msg_id": "another"}),
    hides=("odd",),
)
cell_of_lies(
    "late_question",
    "a question after the cell's end",
    *cell(BEFORE, AFTER),
    question(),
    hides=("odd",),
)
cell_of_lies(
    "refused_question",
    "a question although the front end takes none",
    busy(),
    BEFORE,
    ask_input("odd? ", AFTER, reply(), idle()),
    hides=("odd",),
    hosts=("notebook",),
    remark="the kernel gets an end of file",
)


@ROWS.fault("two questions, one after the other", asks=("one? ", "two? "))
def two_questions(scene: Scene) -> Seen:
    second = ask_input("two? ", AFTER, reply(), idle())
    kernel = scene.fake({"execute_request": [busy(), BEFORE, ask_input("one? ", second)]})
    scene.start(stdin=True)
    for number, asked in enumerate(("one? ", "two? "), start=1):
        scene.face.see_question(asked)
        scene.face.type_line(f"answer {number}")
        assert kernel.wait_for("input_reply", number).content == {"value": f"answer {number}"}
    return scene.finish()


@ROWS.fault("two questions at once", asks=("one? ", "two? "))
def two_questions_at_once(scene: Scene) -> Seen:
    both = in_turn(
        ask_input("one? "),
        ask_input("two? "),
    )
    kernel = scene.fake({"execute_request": [busy(), BEFORE, both]})
    scene.start(stdin=True)
    request = kernel.wait_for("execute_request")
    for number, asked in enumerate(("one? ", "two? "), start=1):
        scene.face.see_question(asked)
        scene.face.type_line(f"answer {number}")
        assert kernel.wait_for("input_reply", number).content == {"value": f"answer {number}"}
    kernel.do(lambda kernel: kernel.play([AFTER, reply(), idle()], request))
    return scene.finish()


def asked_oddly(name: str, what: str, prompt: object, shown: str) -> None:
    """A row whose kernel asks something that is no proper question; it can be answered."""

    def act(scene: Scene) -> Seen:
        asked = odd("input_request", channel="stdin", content={"prompt": prompt, "password": []})
        then = when("input_reply", AFTER, reply(), idle())
        kernel = scene.fake({"execute_request": [busy(), BEFORE, then, asked]})
        scene.start(stdin=True)
        scene.face.see_question("odd")
        scene.face.type_line("answer")
        assert kernel.wait_for("input_reply").content == {"value": "answer"}
        return scene.finish()

    ROWS.append(Fault(name, what, act, asks=(shown,)))


asked_oddly("listed_question", "a question that is a list", ["odd"], "['odd']")
asked_oddly("surrogate_in_question", "a lone surrogate in a question", "\ud800 odd? ", "… odd? ")
asked_oddly("escape_in_question", "a control sequence in a question", "\x1b[2J odd? ", "… odd? ")
asked_oddly("nul_in_question", "a NUL in a question", "\0 odd? ", "… odd? ")


def die_at_question(scene: Scene) -> Seen:
    kernel = scene.fake({"execute_request": [busy(), BEFORE, ask_input("odd? ")]})
    scene.start(stdin=True)
    scene.face.see_question("odd? ")
    scene.face.mark()
    kernel.close()
    return scene.finish()


ROWS.append(
    Fault(
        "death_at_question",
        "the kernel dies while the user sits at its question",
        die_at_question,
        asks=("odd? ",),
        shows=("before",),
        error=("KernelDied", "kernel {k} died: its connection closed and nothing answered there"),
        ran=True,
        ends=True,
    )
)


@ROWS.fault(
    "a question answered after 7 s, of a kernel without heartbeat",
    asks=("odd? ",),
    slow=True,
    within=12,
)
def late_answer(scene: Scene) -> Seen:
    """That the kernel says nothing while it waits for an answer is nothing to be told."""
    asking = ask_input("odd? ", AFTER, reply(), idle())
    scene.fake({"execute_request": [busy(), BEFORE, asking]}, heartbeat=False)
    scene.start(stdin=True)
    scene.face.see_question("odd? ")
    last(7)
    scene.face.type_line("answer")
    return scene.finish()


# What a kernel says about itself.

ANSWERED_LATE = "{k} (unknown, tcp 127.0.0.1 plain); it is busy and has not answered yet"


@ROWS.fault(
    "the kernel answers only after 5 s",
    within=8,
    slow=True,
    remark=f"the attaching said: “attached {ANSWERED_LATE}”".replace("{k}", "gpu"),
)
def slow_answer(scene: Scene) -> Seen:
    """No code leaves before it has answered."""
    asked: list[Request] = []
    answered = threading.Event()

    def late(kernel: FakeKernel, request: Request) -> None:
        if request.type == "kernel_info_request":
            if answered.is_set():
                kernel.answer(request)
            else:
                asked.append(request)
        elif request.type != "execute_request":
            kernel.answer(request)
        else:
            assert answered.is_set(), "code was sent to a kernel that had not proved itself"
            kernel.play(cell(BEFORE, AFTER), request)

    def answer_all(kernel: FakeKernel) -> None:
        for request in asked:
            kernel.answer(request)

    kernel = scene.fake(late)
    assert ANSWERED_LATE.format(k=scene.name) in scene.said
    scene.start()
    last(3)
    answered.set()
    kernel.do(answer_all)
    return scene.finish()


def about(name: str, what: str, content: object, **expectations: object) -> None:
    """A row whose kernel says something odd about itself."""

    def act(scene: Scene) -> Seen:
        info = odd("kernel_info_reply", channel="control", content=content)  # type: ignore[arg-type]
        scene.fake(
            {"kernel_info_request": [busy(), info, idle()], "execute_request": cell(BEFORE, AFTER)}
        )
        table = scene.face.ok("%kernels")
        assert not UNSAFE.findall(scene.said_raw + table.raw), scene.said_raw + table.raw
        return scene.run()

    ROWS.append(Fault(name, what, act, **expectations))  # type: ignore[arg-type]


HOSTILE = "\x1b]0;evil\x07\x9b2J\u202e<b>"
about("empty_info", "the kernel says nothing about itself", {})
about(
    "odd_info",
    "all that the kernel says about itself is odd",
    {
        "status": 5,
        "language_info": ["x"],
        "implementation": {},
        "supported_features": 7,
        "banner": None,
    },
)


@ROWS.fault("the kernel answers nothing on control, as IRkernel")
def mute_on_control(scene: Scene) -> Seen:
    def script(kernel: FakeKernel, request: Request) -> None:
        if request.type == "execute_request":
            kernel.play(cell(BEFORE, AFTER), request)
        elif request.channel != "control":
            kernel.answer(request)

    scene.fake(script, welcome=False)
    return scene.run()


about("info_is_list", "what the kernel says about itself is a list", b"[1]")


def called(name: str) -> Json:
    """What a kernel says about itself whose every word is this."""
    language = {"name": name, "version": name}
    return {
        "status": "ok",
        "language_info": language,
        "implementation": name,
        "banner": name,
        "protocol_version": name,
    }


about(
    "hostile_info",
    "control characters in all that the kernel says about itself",
    called(HOSTILE),
)
about(
    "surrogate_info",
    "lone surrogates in all that the kernel says about itself",
    called("a\ud800b"),
)


@ROWS.fault(
    "the kernel never answers, or in another type than it should",
    shows=(),
    error=("Aborted", "{k} did not run this cell: it was interrupted before it was sent"),
    ran=False,
    notice="…has not answered…",
    within=12,
    slow=True,
    ends=True,
    remark="Ctrl-C gives the prompt back",
)
def no_answer(scene: Scene) -> Seen:
    info = odd("info_reply", channel="control", content={})
    scene.fake({"kernel_info_request": [busy(), info, idle()], "execute_request": [BEFORE]})
    scene.start()
    scene.face.see(f"[{scene.name}] ", timeout=10)
    scene.face.interrupt()
    return scene.finish()


# Too much.


@ROWS.fault("200 MB in one display", within=30, full=True)
def huge_display(scene: Scene) -> Seen:
    big = display("odd", image_png="A" * 200_000_000)
    scene.fake({"execute_request": cell(BEFORE, big, AFTER)})
    return scene.run()


def flood(number: int) -> Callable[[Scene], Seen]:
    def act(scene: Scene) -> Seen:
        scene.text_limit(10**9)
        scene.fake({"execute_request": cell(BEFORE, counting(number), AFTER)})
        seen = scene.run()
        lines = [*map(str, range(number))]
        assert seen.text.split() == ["before", *lines, "after"]
        return seen

    return act


ROWS.append(Fault("small_flood", "20,000 pieces of text", flood(20_000), within=30))
ROWS.append(Fault("flood", "100,000 pieces of text", flood(100_000), within=30, full=True))
ROWS.append(
    Fault("great_flood", "1,000,000 pieces of text", flood(1_000_000), within=300, full=True)
)


@ROWS.fault("10,000 displays", within=20, full=True)
def many_displays(scene: Scene) -> Seen:
    scene.fake({"execute_request": cell(BEFORE, many(10_000, lambda n: display(f"{n}")), AFTER)})
    seen = scene.run()
    assert seen.text.split() == ["before", *map(str, range(10_000)), "after"]
    return seen


@ROWS.fault(
    "more text than a cell may show",
    shows=("before",),
    notice="printed more than 0.01 MB; the rest goes to …/km-output-….txt",
    remark="that file is private and holds exactly the rest",
)
def too_much_text(scene: Scene) -> Seen:
    lines = [f"line {number}\n" for number in range(1000)]
    scene.text_limit(10_000)
    scene.fake({"execute_request": cell(BEFORE, *map(stream, lines), AFTER)})
    seen = scene.run()
    found = re.search(r"goes to (\S+)", seen.text)
    assert found is not None, seen.text
    path = Path(found[1])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    shown = [line for line in seen.text.splitlines(keepends=True) if not line.startswith("[")]
    assert "".join(shown) + path.read_text() == "".join(["before\n", *lines, "after\n"])
    assert 500 < len(path.read_text()) < 9000
    path.unlink()
    return seen


# What a terminal would obey.


def screen(name: str, what: str, text: str, *, becomes: str | None = None) -> None:
    """Rows whose kernel writes something that a terminal could obey, in all its ways."""
    ways = {"text": stream(f"odd {text} text\n"), "display": display(f"odd {text} text")}
    for way, step in ways.items():
        lie(
            name if way == "text" else f"{name}_in_{way}",
            f"{what}, in {'printed text' if way == 'text' else 'a display'}",
            step,
            raw=(f"odd {text if becomes is None else becomes} text\n",),
            remark="it passes" if becomes is None else f"`{becomes}`",
            hosts=("terminal",),
        )


screen("title", "a window title", "\x1b]0;evil\x07", becomes=r"\x1b]0;evil\x07")
screen(
    "clipboard",
    "a text for the clipboard",
    "\x1b]52;c;ZXZpbA==\x1b\\",
    becomes=r"\x1b]52;c;ZXZpbA==\x1b\\"[:-1],
)
screen("other_screen", "the alternate screen", "\x1b[?1049h", becomes=r"\x1b[?1049h")
screen("clear_screen", "clearing the screen", "\x1b[2J\x1b[H", becomes=r"\x1b[2J\x1b[H")
screen("up_beyond", "a cursor that goes up beyond the cell", "\x1b[50A", becomes=r"\x1b[50A")
screen("c1", "C1 control characters", "\x9b2J\x9d0;evil\x9c", becomes=r"\x9b2J\x9d0;evil\x9c")
screen(
    "bidi",
    "marks that reverse the direction of text",
    "\u202eevil\u2066",
    becomes=r"\u202eevil\u2066",
)
screen(
    "bells",
    "bells, shifts and other control characters",
    "\x07\x0e\x05\x7f",
    becomes=r"\x07\x0e\x05\x7f",
)
screen("full_reset", "a full reset of the terminal", "\x1bc", becomes=r"\x1bc")
screen("colours", "colours", "\x1b[1;31mred\x1b[0m")


@ROWS.fault(
    "a sequence in two messages",
    hosts=("terminal",),
    raw=(r"odd \x1b]0;evil",),
    remark=r"`\x1b]0;evil`",
)
def split_sequence(scene: Scene) -> Seen:
    steps = [BEFORE, stream("odd \x1b"), stream("]0;evil\n"), AFTER]
    scene.fake({"execute_request": cell(*steps)})
    return scene.run()


@ROWS.fault("a progress bar", hosts=("terminal",), raw=("\r 10%\r 20%\n",), remark="it passes")
def progress_bar(scene: Scene) -> Seen:
    scene.fake({"execute_request": cell(BEFORE, stream("\r 10%"), stream("\r 20%\n"), AFTER)})
    return scene.run()


@ROWS.fault(
    "two progress bars as tqdm draws them",
    hosts=("terminal",),
    raw=("\n\r1\x1b[A\r0\n\r2",),
    remark="they pass",
)
def progress_bars(scene: Scene) -> Seen:
    scene.fake(
        {
            "execute_request": cell(
                BEFORE, stream("\r0\n"), stream("\r1\x1b[A"), stream("\r0\n\r2\n"), AFTER
            )
        }
    )
    return scene.run()


@played(ROWS)
def test_fault(row: Fault, kind: Kind, playing: Callable[[Fault, Kind], None]) -> None:
    playing(row, kind)
