"""Each magic: what it does and what it says."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests import frontend
from tests.frontend import Desk, error_lines, kinds, plain, remotely, wait_until
from tests.support import parts, steps
from tests.support.connection import write_info
from tests.support.fake import FakeKernel, Request
from tests.support.hosts import CellRun
from tests.support.kernels import HandKernel
from tests.support.sandbox import Sandbox

desk, lasting_desk = frontend.desk, frontend.lasting_desk_newest_first
new_desk = frontend.new_desk

MAGICS = [
    "%remote",
    "%%remote",
    "%kernels",
    "%kernel_attach",
    "%kernel_tunnel",
    "%kernel_start",
    "%kernel_detach",
    "%kernel_interrupt",
    "%kernel_restart",
    "%kernel_shutdown",
    "%kernel_push",
    "%kernel_pull",
    "%connection_info",
    "%connect_qtconsole",
]

Starts = Callable[..., HandKernel]


def table(run: CellRun, number: int = 0) -> list[dict[str, str]]:
    """A table that was shown as text: one dictionary for each of its rows."""
    shown = run.ok().of_type("display_data")[number]["data"]
    assert shown["text/html"].startswith("<table>")
    _, *lines = shown["text/plain"].splitlines()
    if not lines:
        return []
    starts = [match.start() for match in re.finditer(r"(?:^|(?<=  ))\S", lines[0])]
    ends = [*starts[1:], 1000]
    cells = [
        [line[start:end].strip() for start, end in zip(starts, ends, strict=True)] for line in lines
    ]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[1:]]


def caption(run: CellRun, number: int = 0) -> str:
    text: str = run.ok().of_type("display_data")[number]["data"]["text/plain"]
    return text.splitlines()[0]


@pytest.mark.parametrize("magic", MAGICS)
def test_a_question_mark_shows_what_a_magic_takes_and_an_example(desk: Desk, magic: str) -> None:
    run = desk.run(f"{magic}?").ok()
    (page,) = run.reply["payload"]
    text = plain(page["data"]["text/plain"])
    # IPython writes the usage of a cell magic with one sign.
    (usage,) = re.findall(r"^  (%\S+ .*)$", text, re.MULTILINE)
    assert usage.split()[0].lstrip("%") == magic.lstrip("%")
    assert re.findall(rf"^    {re.escape(magic)}(?: .*)?$", text, re.MULTILINE)


# %remote and %%remote.


@pytest.mark.parametrize(
    "code",
    [
        "print(\"double\", 'single', '''triple''')",
        "f'{x} {{y}} {z!r:>10}'",
        "$dollars $$ ${braced} {braces} {}",
        "a   =    1  # a comment, with several   blanks",
        "!ls -l | grep x > /dev/null",
        "%timeit -n 1 pass",
        "-q --timeout 3 k",
        "k",
        "'unbalanced",
        'an "open quote',
        "'\\n' \\ \\\\",
        "ü 日本 🙂",
        "x = 1; y = 2",
        "\tindented by a tab",
    ],
)
def test_a_line_s_code_is_passed_as_it_stands(desk: Desk, code: str) -> None:
    desk.run("x = dollars = braces = z = 'expanded here'").ok()
    with desk.fake() as kernel:
        desk.run(f"%remote fake {code}").ok()
        assert kernel.wait_for("execute_request").content["code"] == code


@pytest.mark.parametrize("options", ["-q", "--timeout 5", "--timeout=5", "-q --timeout 5"])
def test_options_stand_before_the_kernel(desk: Desk, options: str) -> None:
    with desk.fake() as kernel:
        desk.run(f"%remote {options} fake print('-q', \"--timeout\")").ok()
        content = kernel.wait_for("execute_request").content
    assert content["code"] == "print('-q', \"--timeout\")"


@pytest.mark.parametrize(
    "cell",
    [
        "one line",
        "two\nlines",
        "\n\nblank lines before",
        "  indented\n\ttoo",
        "{braces} $dollars 'quotes' \"more\" \\ %magic !shell ?",
        "%%bash\nls",
    ],
)
def test_a_cell_s_code_is_passed_as_it_stands(desk: Desk, cell: str) -> None:
    desk.run("braces = dollars = 'expanded here'").ok()
    with desk.fake() as kernel:
        desk.remote(cell, kernel="fake").ok()
        assert kernel.wait_for("execute_request").content["code"] == cell


def test_the_kernel_s_name_may_come_from_a_variable(desk: Desk) -> None:
    desk.run("name = 'k'").ok()
    assert desk.remote("6 * 7", kernel="{name}").ok().result == "42"
    assert desk.remote("6 * 7", kernel="$name").ok().result == "42"


def test_a_line_and_a_cell_have_one_namespace_there(desk: Desk) -> None:
    desk.run("%remote k from_a_line = 1").ok()
    assert desk.remote("from_a_line + 1").ok().result == "2"
    assert desk.run("'from_a_line' in globals()").result == "False"
    assert desk.kernel.value("from_a_line") == 1


def test_what_is_sent_does_not_stop_what_others_have_queued(desk: Desk) -> None:
    with desk.fake() as kernel:
        desk.remote("x", kernel="fake").ok()
        content = kernel.wait_for("execute_request").content
    assert content["stop_on_error"] is False
    assert (content["silent"], content["store_history"]) == (False, True)


def test_a_fragment_attaches_once_and_says_so(desk: Desk) -> None:
    fragment = desk.kernel.name[-12:]
    with HandKernel.start("tcp", desk.sandbox, name="started-by-hand-6759") as kernel:
        first, second = (desk.remote("6 * 7", kernel="6759").ok() for _ in range(2))
        said, *_ = first.stdout.splitlines()
        assert said.startswith("attached kernel-started-by-hand-6759 (python")
        assert str(kernel.pid) in said or parts.floor_python()
        assert "tcp 127.0.0.1 plain" in said
        assert (first.result, second.result) == ("42", "42")
        assert second.stdout == ""
        desk.run("%kernel_detach 6759").ok()
        assert kernel.process.alive
    # One that is attached already is not attached again, by whatever name.
    run = desk.remote("6 * 7", kernel=fragment).ok()
    assert run.result == "42"
    assert desk.value("list(__import__('kernel_magics').pool.names)") == ["k"]


def test_a_kernel_that_sends_rubbish_gets_a_notice_and_its_cell_ends(desk: Desk) -> None:
    script = steps.cell(steps.stream("a\n"), steps.garbage("iopub"), steps.stream("b\n"))
    with desk.fake(script):
        run = desk.remote("x", kernel="fake").ok()
    assert run.stdout == "a\nb\n"
    assert "dropped" in run.stderr


# The pool.


def test_attaching_says_what_was_attached(desk: Desk) -> None:
    with desk.fake() as kernel:
        desk.run("%kernel_detach fake").ok()
        run = desk.run(f"%kernel_attach {kernel.connection_file} --name fake").ok()
        assert run.stdout == "attached fake (echo, tcp 127.0.0.1 plain)\n"


def test_a_second_kernel_of_a_name_gets_a_number_and_says_so(
    desk: Desk, fake_kernel: Callable[..., FakeKernel]
) -> None:
    with desk.fake():
        other = fake_kernel()
        run = desk.run(f"%kernel_attach {other.connection_file} --name fake").ok()
        try:
            assert run.stdout.startswith("attached fake-2 (")
            assert [row["name"] for row in table(desk.run("%kernels"))] == ["k", "fake", "fake-2"]
        finally:
            desk.run("%kernel_detach fake-2").ok()


@pytest.mark.parametrize("name", ["all", "local", "off", "with/slash", "ü"])
def test_names_that_mean_something_else_are_refused(desk: Desk, name: str) -> None:
    run = desk.run(f"%kernel_start --name {name}")
    (line,) = run.stderr.splitlines()
    assert line.startswith("UsageError: ")


def test_a_kernel_is_started_as_asked(desk: Desk, tmp_path: Path) -> None:
    folder = tmp_path / "with blanks"
    folder.mkdir()
    started = desk.run(
        f"%kernel_start --name own --python {sys.executable} --cwd '{folder}' "
        "--env FIRST=one --env 'SECOND=two words = two'"
    ).ok()
    try:
        run = desk.remote(
            "import os, sys\n"
            "[sys.executable, os.getcwd(), os.environ['FIRST'], os.environ['SECOND'], os.getpid()]",
            kernel="own",
        ).ok()
        executable, cwd, first, second, pid = json.loads((run.result or "").replace("'", '"'))
        assert (executable, cwd) == (sys.executable, str(folder.resolve()))
        assert (first, second) == ("one", "two words = two")
        assert started.stdout == f"started own (python, pid {pid}, ipc, ours)\n"
    finally:
        desk.run("%kernel_shutdown own").ok()


@pytest.mark.full
def test_another_environment_s_python_needs_no_kernelspec(desk: Desk) -> None:
    parts.require("floor")
    python = parts.floor_python()
    assert python is not None
    # The interpreter, or the folder of its environment.
    for given in (python, python.parent.parent):
        desk.run(f"%kernel_start --name own --python {given}").ok()
        try:
            run = desk.remote("__import__('ipykernel').__version__", kernel="own").ok()
            assert run.result == "'6.29.0'"
        finally:
            desk.run("%kernel_shutdown own").ok()


@pytest.mark.parametrize(
    "options, complaint",
    [
        ("no-such-spec", "there is no such kernelspec; there are "),
        ("--python /no/such/python", "there is no such interpreter"),
        ("--cwd /no/such/folder", "/no/such/folder"),
    ],
)
def test_what_cannot_be_started_is_one_sentence(desk: Desk, options: str, complaint: str) -> None:
    files = sorted(desk.sandbox.runtime.iterdir())
    run = desk.run(f"%kernel_start {options}")
    assert run.reply["ename"] == "LaunchError"
    (line,) = error_lines(run)
    assert line.startswith("LaunchError: cannot start ")
    assert complaint in line
    assert sorted(desk.sandbox.runtime.iterdir()) == files
    assert not psutil.Process(desk.host.pid).children()


def test_a_kernel_that_ends_while_starting_is_told_with_its_last_words(
    desk: Desk, tmp_path: Path
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho these are the last words >&2\nexit 3\n")
    broken.chmod(0o755)
    run = desk.run(f"%kernel_start --python {broken}")
    assert run.reply["ename"] == "LaunchError"
    first, last = error_lines(run)
    assert first.startswith(f"LaunchError: cannot start '{broken}': ")
    assert "exit code 3" in first
    assert last == "these are the last words"
    assert not psutil.Process(desk.host.pid).children()


def test_a_restart_keeps_the_name_and_empties_the_namespace(desk: Desk) -> None:
    with desk.owned():
        desk.remote("x = 1", kernel="own").ok()
        before = desk.remote("__import__('os').getpid()", kernel="own").ok().result
        run = desk.run("%kernel_restart own").ok()
        after = desk.remote("__import__('os').getpid()", kernel="own").ok().result
        assert run.stdout == f"restarted own (pid {after})\n"
        assert before != after
        assert desk.remote("'x' in globals()", kernel="own").ok().result == "False"


@pytest.mark.full
def test_a_kernel_of_ours_that_died_is_restarted_by_its_name(desk: Desk) -> None:
    with desk.owned():
        run = desk.remote("import os; os._exit(3)", kernel="own")
        (line,) = error_lines(run)
        assert "died: its process ended with exit code 3 (%kernel_restart own starts it" in line
        desk.run("%kernel_restart own").ok()
        assert desk.remote("6 * 7", kernel="own").ok().result == "42"


def test_a_kernel_of_somebody_else_is_not_restarted(desk: Desk) -> None:
    run = desk.run("%kernel_restart k")
    assert run.stderr == (
        "UsageError: k was not started here, so it cannot be restarted from here; "
        "only kernels from %kernel_start can\n"
    )
    assert desk.kernel.process.alive


def test_detaching_leaves_a_kernel_of_somebody_else_as_it_is(desk: Desk) -> None:
    with HandKernel.start("tcp", desk.sandbox) as kernel:
        desk.attach(kernel.connection_file, "theirs")
        desk.remote("x = 1", kernel="theirs").ok()
        run = desk.run("%kernel_detach theirs").ok()
        assert run.stdout == "detached theirs; it runs on\n"
        assert kernel.value("x") == 1
        assert desk.remote("1", kernel="theirs").reply["ename"] == "UsageError"


def test_detaching_ends_a_kernel_of_ours(desk: Desk) -> None:
    desk.run("%kernel_start --name own").ok()
    pid = int(desk.remote("__import__('os').getpid()", kernel="own").result or 0)
    run = desk.run("%kernel_detach own").ok()
    assert run.stdout == "detached own; it was ours and has ended\n"
    assert not psutil.pid_exists(pid)


def test_a_quoted_path_may_have_blanks(desk: Desk, tmp_path: Path) -> None:
    folder = tmp_path / "with blanks"
    folder.mkdir()
    with desk.fake() as kernel:
        desk.run("%kernel_detach fake").ok()
        file = folder / "kernel.json"
        write_info(file, kernel.info)
        desk.run(f'%kernel_attach "{file}" --name fake').ok()


def ended(pid: int) -> bool:
    """Whether a process has, though nobody may have waited for it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.full
def test_detaching_leaves_a_kept_kernel_running(new_desk: Callable[..., Desk]) -> None:
    desk = new_desk()
    started = desk.run("%kernel_start --keep --name own").ok()
    assert started.stdout.endswith(", kept)\n")
    pid = int(desk.remote("x = 1; __import__('os').getpid()", kernel="own").result or 0)
    known = table(desk.run("%kernels --all"), 1)
    (file,) = (row["connection file"] for row in known if row["attached as"] == "own")
    assert desk.run("%kernel_detach own").ok().stdout == "detached own; it runs on\n"
    assert psutil.pid_exists(pid)
    desk.run(f"%kernel_attach {file} --name again").ok()
    assert desk.remote("x", kernel="again").ok().result == "1"
    assert desk.run("%kernel_shutdown again").ok().stdout == "again has ended\n"
    wait_until(lambda: ended(pid), what="the kept kernel has ended")
    for folder in desk.sandbox.temporary.glob("km-*"):  # its log; nobody is left to remove it
        shutil.rmtree(folder)
    (desk.sandbox.runtime / f"{file}.json").unlink(missing_ok=True)


def test_a_shutdown_ends_a_kernel_whoever_started_it(desk: Desk) -> None:
    with HandKernel.start("tcp", desk.sandbox) as kernel:
        desk.attach(kernel.connection_file, "theirs")
        assert desk.run("%kernel_shutdown theirs").ok().stdout == "theirs has ended\n"
        wait_until(lambda: not kernel.process.alive, what="it has ended")
    desk.run("%kernel_start --name own").ok()
    assert desk.run("%kernel_shutdown own").ok().stdout == "own has ended\n"
    assert not psutil.Process(desk.host.pid).children()


def test_an_interrupt_of_an_idle_kernel_changes_nothing(desk: Desk) -> None:
    run = desk.run("%kernel_interrupt k").ok()
    assert run.stdout == "asked k to interrupt what runs there; it is idle\n"
    assert desk.remote("6 * 7").ok().result == "42"


def test_an_interrupt_that_kills_a_kernel_is_told(desk: Desk) -> None:
    def script(kernel: FakeKernel, request: Request) -> None:
        if request.type == "interrupt_request":
            kernel.play([steps.close_channels()], request)
        else:
            kernel.answer(request)

    with desk.fake(script):
        run = desk.run("%kernel_interrupt fake")
        assert "fake died" in run.stdout or run.reply["ename"] == "KernelDied"


# What is there.


def test_the_table_shows_what_is_attached_and_what_runs(desk: Desk) -> None:
    (row,) = table(desk.run("%kernels"))
    assert row["name"] == "k"
    assert row["state"].endswith(" idle")
    assert (row["language"], row["where"], row["runs"]) == ("python", "tcp 127.0.0.1 plain", "-")
    assert row["pid"] == str(desk.kernel.pid)
    assert caption(desk.run("%kernels")).startswith("1 attached kernel at ")
    with desk.owned():
        rows = table(desk.run("%kernels"))
        assert [row["name"] for row in rows] == ["k", "own"]
        assert rows[1]["where"] == "ipc, ours"


def test_the_table_shows_what_runs_how_long_what_waits_and_what_it_costs(desk: Desk) -> None:
    with desk.owned():
        running = desk.remote("import time; time.sleep(600)", "--bg", kernel="own").ok()
        desk.remote("1", "--bg", kernel="own").ok()
        desk.host.wait_for(lambda: "running" in str(running.outputs[-1].content))
        row = table(desk.run("%kernels"))[1]
        assert re.fullmatch(r"import time; time.sleep\(600\) \(\d+\.\d s\)", row["runs"])
        assert row["queue"] == "1"
        # psutil, which ipykernel 7 takes for optional, is there in both environments.
        assert re.fullmatch(r"\d+ %", row["cpu"])
        assert re.fullmatch(r"\d\d+ MB", row["memory"])


def test_a_kernel_that_tells_nothing_of_its_machine_holds_nothing_up(desk: Desk) -> None:
    def script(kernel: FakeKernel, request: Request) -> None:
        if request.type != "usage_request":
            kernel.answer(request)

    with desk.fake(script):
        assert table(desk.run("%kernels"))[1]["memory"] == "-"


@pytest.mark.full
def test_the_table_can_be_watched(desk: Desk) -> None:
    run = desk.host.start("%kernels --watch")
    desk.host.wait_for(lambda: len(run.of_type("update_display_data")) > 1)
    shown = run.of_type("display_data")
    assert len(shown) == 1
    assert "1 attached kernel at " in shown[0]["data"]["text/plain"]
    desk.host.interrupt()
    run.wait().ok()
    assert run.stderr == ""


@pytest.mark.full
def test_the_table_is_a_snapshot_that_shows_a_dead_kernel_s_end(desk: Desk) -> None:
    with desk.fake() as kernel:
        before = desk.run("%kernels").ok()
        assert table(before)[1]["state"].endswith(" idle")
        kernel.do(lambda kernel: kernel.play([steps.close_channels()], kernel.requests[-1]))
        wait_until(
            lambda: table(desk.run("%kernels"))[1]["state"].endswith(" dead"), what="it is dead"
        )
        assert table(desk.run("%kernels"))[1]["runs"].startswith("died: ")


@pytest.mark.full
def test_an_empty_table_says_how_to_fill_it(new_desk: Callable[..., Desk]) -> None:
    desk = new_desk()
    desk.run("%kernel_detach k").ok()
    run = desk.run("%kernels")
    assert table(run) == []
    assert re.fullmatch(
        r"no attached kernels at [\d:]+; %kernel_start or %kernel_attach adds one", caption(run)
    )


def test_all_shows_kernels_that_run_here_and_no_dead_file(desk: Desk) -> None:
    dead = desk.sandbox.runtime / "kernel-long-dead.json"
    hostile = desk.sandbox.runtime / "kernel-hostile.json"
    try:
        with HandKernel.start("tcp", desk.sandbox, name="gone") as gone:
            info = gone.info
        write_info(dead, info)
        hostile.write_text("{")
        with HandKernel.start("tcp", desk.sandbox, name="by-hand") as kernel:
            rows = {row["connection file"]: row for row in table(desk.run("%kernels --all"), 1)}
            assert "kernel-by-hand" in rows
            assert rows[desk.kernel.connection_file.stem]["attached as"] == "k"
            assert rows["kernel-by-hand"]["attached as"] == "-"
            assert rows["kernel-by-hand"]["folder"] == str(desk.sandbox.work)
            assert re.fullmatch(r"\d+ s", rows["kernel-by-hand"]["age"])
            assert not {"kernel-long-dead", "kernel-hostile"} & set(rows)
            assert kernel.process.alive
    finally:
        dead.unlink(missing_ok=True)
        hostile.unlink(missing_ok=True)


def test_what_a_kernel_calls_itself_is_escaped_in_the_table(desk: Desk) -> None:
    hostile = "<script>alert(1)</script>\x1b]0;x\x07"
    content = {
        "status": "ok",
        "protocol_version": "5.3",
        "implementation": "x",
        "language_info": {"name": hostile},
    }

    def script(kernel: FakeKernel, request: Request) -> None:
        if request.type == "kernel_info_request":
            kernel.status("busy", request.message)
            kernel.reply(request.message, content, channel=request.channel)
            kernel.status("idle", request.message)
        else:
            kernel.answer(request)

    with desk.fake(script):
        shown = desk.run("%kernels").ok().of_type("display_data")[0]["data"]
    assert "<script>" not in shown["text/html"]


# Where a kernel is, and the key.


def bare(desk: Desk, line: str) -> dict[str, object]:
    entries: dict[str, object] = json.loads(desk.run(line).ok().stdout)
    return entries


def test_the_bare_dictionary_with_the_key_is_that_of_the_file(desk: Desk) -> None:
    files = {"k": desk.kernel.connection_file, "": desk.host.connection_file}
    for name, file in files.items():
        assert bare(desk, f"%connection_info {name} --json --show-key") == json.loads(
            file.read_text()
        )


def test_an_owned_kernel_s_dictionary_is_that_of_its_file(desk: Desk) -> None:
    known = set(desk.sandbox.runtime.iterdir())
    with desk.owned():
        (file,) = set(desk.sandbox.runtime.iterdir()) - known
        assert bare(desk, "%connection_info own --json --show-key") == json.loads(file.read_text())


def test_an_encrypted_kernel_s_dictionary_hides_all_its_keys(
    new_desk: Callable[..., Desk],
) -> None:
    parts.require("curve")
    desk = new_desk(kind="curve")
    entries = json.loads(desk.kernel.connection_file.read_text())
    assert bare(desk, "%connection_info k --json --show-key") == entries
    hidden = bare(desk, "%connection_info k --json")
    secrets = ("key", "curve_publickey", "curve_secretkey")
    assert {hidden[name] for name in secrets} == {"(hidden)"}
    text = desk.run("%connection_info k").ok().stdout
    assert not any(entries[name] in text for name in secrets)
    (row,) = table(desk.run("%kernels"))
    assert row["where"] == "tcp 127.0.0.1 encrypted"


def test_without_a_name_it_is_this_notebook_s_own_kernel(desk: Desk) -> None:
    own = json.loads(desk.host.connection_file.read_text())
    shown = bare(desk, "%connection_info --json")
    assert shown == {**own, "key": "(hidden)"}
    text = desk.run("%connection_info").ok().stdout
    assert f"%kernel_attach {desk.host.connection_file}" in text
    assert f"jupyter console --existing {desk.host.connection_file}" in text


def everything_said(desk: Desk, runs: list[CellRun]) -> str:
    """All that the notebook's kernel has sent for these cells, and printed past the notebook."""
    sent = [[run.messages, run.reply_message] for run in runs]
    return repr(sent) + repr(desk.host.strays) + desk.host.log


@pytest.mark.full
def test_the_key_is_nowhere_unless_asked_for(new_desk: Callable[..., Desk]) -> None:
    desk = new_desk()
    stolen = desk.sandbox.runtime / "kernel-stolen.json"
    spoilt = desk.sandbox.runtime / "kernel-spoilt.json"
    key = desk.kernel.info["key"]
    own_key = json.loads(desk.host.connection_file.read_text())["key"]
    other_key = "the-key-of-another-kernel"
    try:
        write_info(stolen, {**desk.kernel.info, "key": other_key})
        spoilt.write_text(json.dumps({**desk.kernel.info, "shell_port": f"{key}"})[:-1])
        spoilt.chmod(0o600)
        cells = [
            "import logging; logging.basicConfig(level=1, force=True)",
            "logging.getLogger('kernel_magics').setLevel(1)",
            "%kernel_detach k",
            f"%kernel_attach {desk.kernel.connection_file} --name k",
            "%connection_info k",
            "%connection_info k --json",
            "%connection_info",
            "%connection_info --json",
            "%kernels",
            "%kernels --all",
            remotely("print('x'); 1 / 0"),
            "%xmode Verbose",
            remotely("1 / 0", "-q"),
            "import kernel_magics; k = kernel_magics.pool['k']",
            "[k, k.info, vars(k), vars(k.info), k.info.key, str(k.info.key), f'{k.info.key}']",
            "k.info.as_dict(), k.info.endpoints(), vars(kernel_magics.pool)",
            "k.run(b'not text')",
            f"%kernel_attach {stolen}",
            f"%kernel_attach {spoilt}",
            f"%%remote {spoilt}\n1",
            "%%remote stol\n1",
            "%kernel_start --name own",
            "%connection_info own",
            "%kernel_start --env=NOVALUE",
            "%remote own __import__('os')._exit(1)",
            "%kernel_shutdown own",
            "%history",
            "print(In, Out)",
            "%tb",
            "%kernel_detach k",
        ]
        runs = [desk.run(cell) for cell in cells]
        assert sum(run.status == "ok" for run in runs) > 15
        said = everything_said(desk, runs)
        assert "127.0.0.1" in said
        for secret in (key, own_key, other_key):
            assert secret not in said
        desk.attach(desk.kernel.connection_file, "k")
        assert key in desk.run("%connection_info k --show-key").ok().stdout
    finally:
        stolen.unlink(missing_ok=True)
        spoilt.unlink(missing_ok=True)


def test_another_key_than_the_kernel_s_is_told_as_that(desk: Desk) -> None:
    stolen = desk.sandbox.runtime / "kernel-stolen.json"
    try:
        write_info(stolen, {**desk.kernel.info, "key": "another"})
        run = desk.run(f"%kernel_attach {stolen}", timeout=20.0)
    finally:
        stolen.unlink()
    if desk.kernel.kind == "floor":
        # It meets what is signed wrongly with silence, as it does everybody while it computes.
        assert run.ok().stdout.endswith("; it is busy and has not answered yet\n")
        desk.run("%kernel_detach kernel-stolen").ok()
    else:
        assert run.reply["ename"] == "AuthenticationError"
        (line,) = error_lines(run)
        assert line.startswith("AuthenticationError: cannot attach kernel-stolen: ")
        assert "signs with another key" in line


def test_a_file_that_others_can_read_is_warned_of(desk: Desk, sandbox: Sandbox) -> None:
    file = sandbox.work / "kernel-open.json"
    write_info(file, desk.kernel.info)
    file.chmod(0o644)
    run = desk.run(f"%kernel_attach {file}").ok()
    assert "can be read by other users" in run.stderr
    assert kinds(run)[-1] == "stream"
