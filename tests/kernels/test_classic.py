"""``docs/classic.md``, row by row: what the classic client and manager do, and the call here."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import json
import os
import re
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq
from jupyter_client import manager
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.client import KernelClient
from jupyter_client.connect import ConnectionFileMixin
from jupyter_core.utils import ensure_event_loop

import kernel_magics
from kernel_magics.errors import KernelNotFound, LaunchError, RemoteError
from kernel_magics.kernels.kernel import Kernel
from kernel_magics.kernels.life import KernelState
from kernel_magics.protocol.message import Message
from tests.support.kernels import HandKernel
from tests.support.sandbox import CHECKOUT, Sandbox
from tests.support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.full

StartHand = Callable[..., HandKernel]
Test = Callable[..., None]

PAGE = CHECKOUT / "docs" / "classic.md"

TESTS: dict[str, Test] = {}
"""By what stands in the first column of the table, up to the bracket."""


def row(*names: str) -> Callable[[Test], Test]:
    """The test of a row; of several names, once for each as ``name``."""

    def register(test: Test) -> Test:
        assert not TESTS.keys() & set(names), names
        TESTS.update(dict.fromkeys(names, test))
        return pytest.mark.parametrize("name", names)(test) if len(names) > 1 else test

    return register


@pytest.fixture(scope="module", autouse=True)
def event_loop_of_the_classic_client() -> Generator[None]:
    """Its blocking methods make one for this thread, and never close it."""
    with closing(ensure_event_loop()):
        yield


@pytest.fixture(autouse=True)
def the_pool_is_closed() -> Generator[None]:
    yield
    kernel_magics.pool.close()


@pytest.fixture
def kernel(shared_kernel: HandKernel) -> Kernel:
    """A real kernel that others use as well: leave it as it was."""
    return kernel_magics.attach(shared_kernel.connection_file)


@pytest.fixture
def owned() -> Kernel:
    """A kernel that we started."""
    return kernel_magics.start()


@pytest.fixture
def client(kernel: Kernel) -> Generator[BlockingKernelClient]:
    """What ``kernel.client()`` gives."""
    client = kernel.client()
    yield client
    client.stop_channels()


def content(reply: Message | None) -> dict[str, Any]:
    assert reply is not None
    return reply.content


def answer_to(request: str, get: Callable[..., Any]) -> dict[str, Any]:
    """The reply to a request of the classic client."""
    while (message := get(timeout=PATIENCE))["parent_header"].get("msg_id") != request:
        pass
    return dict(message)


def gone(pid: int | None) -> bool:
    """Whether a process has ended, waited for or not."""
    assert pid is not None
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def killed(kernel: Kernel) -> None:
    """Kill it; return when that is known."""
    kernel.signal(signal.SIGKILL)
    wait_until(lambda: not kernel.alive, what="it is dead")


# The page.


def rows() -> Iterator[tuple[str, str]]:
    """What the tables say: first column up to the bracket, second column."""
    for line in PAGE.read_text("utf-8").splitlines():
        if line.startswith("| `"):
            classic, here, _ = re.split(r" \|(?: |$)", line.removeprefix("| "), maxsplit=2)
            yield classic.strip("`").partition("(")[0], here


def public(kind: type) -> set[str]:
    """The methods and properties that a class itself has for everybody."""
    return {
        name
        for name, what in vars(kind).items()
        if not name.startswith("_") and (inspect.isroutine(what) or isinstance(what, property))
    }


INSTALLED = {
    *(f"client.{name}" for kind in (KernelClient, BlockingKernelClient) for name in public(kind)),
    *(f"manager.{name}" for name in public(manager.KernelManager)),
    *public(ConnectionFileMixin),
    *(name for name in vars(manager) if name.startswith(("start_new_", "run_kernel"))),
}

NEWER = {"manager.resolve_path"}
"""What the oldest supported version does not have."""


@pytest.mark.quick
def test_the_page_has_a_row_for_every_public_method_property_and_function() -> None:
    assert len(INSTALLED) > 60
    assert sorted(INSTALLED - {name for name, _ in rows()}) == []


@pytest.mark.quick
def test_the_page_has_no_row_for_what_does_not_exist() -> None:
    assert sorted({name for name, _ in rows()} - INSTALLED - NEWER) == []


@pytest.mark.quick
def test_each_row_has_a_test_and_each_test_a_row() -> None:
    names = [name for name, _ in rows()]
    assert len(names) == len(set(names))
    assert sorted(names) == sorted(TESTS)


@pytest.mark.quick
@pytest.mark.parametrize("name, here", [*rows()], ids=[name for name, _ in rows()])
def test_the_call_of_a_row_is_what_its_test_makes(name: str, here: str) -> None:
    calls = re.findall(r"\.(\w+)|(\w+)=|\"(\w+_request)\"", here)
    words = {word for call in calls for word in call if word}
    assert words
    source = inspect.getsource(TESTS[name])
    # What a test of several rows is given as ``name`` stands in the list of its rows.
    assert sorted(words - set(re.findall(r"\w+", source))) == []


# The client.


@row("client.start_channels")
def test_attaching_opens_the_channels(hand_kernel: StartHand) -> None:
    hand_kernel(name="long-job-6759")
    kernel = kernel_magics.attach("6759")
    assert kernel.alive
    assert kernel.run("print('all of them')").stdout == "all of them\n"


@row("client.stop_channels")
def test_detaching_closes_the_channels_and_the_kernel_runs_on(
    kernel: Kernel, shared_kernel: HandKernel
) -> None:
    kernel.detach()
    assert (kernel.alive, kernel_magics.pool.names) == (False, [])
    assert shared_kernel.value("1") == 1


@row("client.channels_running", "client.is_alive", "manager.is_alive")
def test_alive_is_whether_there_is_a_kernel_that_we_hold(name: str) -> None:
    with kernel_magics.start() as kernel:
        assert kernel.alive
        assert kernel.state in (KernelState.IDLE, KernelState.BUSY)
        killed(kernel)
        assert not kernel.alive
        assert kernel.finding is not None
        assert "SIGKILL" in kernel.finding.reason


@row("client.shell_channel")
def test_a_request_on_shell(kernel: Kernel, client: BlockingKernelClient) -> None:
    reply = kernel.request("shell", "kernel_info_request", timeout=PATIENCE)
    assert content(reply)["implementation"] == "ipython"
    channel = client.shell_channel
    channel.send(client.session.msg("kernel_info_request"))
    assert channel.get_msg(timeout=PATIENCE)["content"]["implementation"] == "ipython"


@row("client.control_channel")
def test_a_request_on_control_is_answered_while_a_cell_runs(
    kernel: Kernel, client: BlockingKernelClient, shared_kernel: HandKernel
) -> None:
    with shared_kernel.busy():
        reply = kernel.request("control", "kernel_info_request", timeout=PATIENCE)
        assert content(reply)["implementation"] == "ipython"
        channel = client.control_channel
        channel.send(client.session.msg("kernel_info_request"))
        assert channel.get_msg(timeout=PATIENCE)["content"]["implementation"] == "ipython"


class List:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.finished = False

    def output(self, message: Message) -> None:
        self.texts.append(message.content["text"])

    def notice(self, text: str) -> None:
        self.texts.append(text)

    def finish(self) -> None:
        self.finished = True


@row("client.iopub_channel")
def test_a_sink_is_handed_what_a_cell_publishes(
    kernel: Kernel, client: BlockingKernelClient
) -> None:
    sink = List()
    kernel.submit("print('to the sink')", sink).wait()
    assert ("".join(sink.texts), sink.finished) == ("to the sink\n", True)
    messages = iter(lambda: client.iopub_channel.get_msg(timeout=PATIENCE), None)
    published = next(each for each in messages if each["msg_type"] == "stream")
    assert published["content"]["text"] == "to the sink\n"


@row("client.stdin_channel", "client.get_stdin_msg", "client.input")
def test_a_prompt_is_answered_by_what_asks(
    kernel: Kernel, client: BlockingKernelClient, name: str
) -> None:
    asked: list[tuple[str, bool]] = []

    def ask(prompt: str, password: bool) -> str:
        asked.append((prompt, password))
        return "Ada"

    code = "print('hello', input('who? '), __import__('getpass').getpass('how? '))"
    assert kernel.run(code, ask=ask).stdout.endswith("hello Ada Ada\n")
    assert asked == [("who? ", False), ("how? ", True)]
    request = client.execute("print(input('and there? '))", store_history=False)
    assert client.get_stdin_msg(timeout=PATIENCE)["content"]["prompt"] == "and there? "
    assert not client.stdin_channel.msg_ready()
    client.input("yes")
    assert answer_to(request, client.get_shell_msg)["content"]["status"] == "ok"


@row("client.hb_channel")
def test_the_heart_is_listened_to(kernel: Kernel, client: BlockingKernelClient) -> None:
    assert kernel.alive
    wait_until(client.hb_channel.is_beating, what="it beats")


@row("client.get_shell_msg")
def test_a_reply_on_shell_belongs_to_its_request(
    kernel: Kernel, client: BlockingKernelClient
) -> None:
    other = kernel.submit("'something else that is answered before'", store_history=False)
    reply = kernel.request("shell", "kernel_info_request", timeout=PATIENCE)
    assert content(reply)["implementation"] == "ipython"
    other.wait()
    request = client.kernel_info()
    assert client.get_shell_msg(timeout=PATIENCE)["parent_header"]["msg_id"] == request


@row("client.get_control_msg")
def test_a_reply_on_control_belongs_to_its_request(
    kernel: Kernel, client: BlockingKernelClient
) -> None:
    reply = kernel.request("control", "kernel_info_request", timeout=PATIENCE)
    assert content(reply)["implementation"] == "ipython"
    request = client.session.msg("kernel_info_request")
    client.control_channel.send(request)
    reply = client.get_control_msg(timeout=PATIENCE)
    assert reply["parent_header"]["msg_id"] == request["header"]["msg_id"]


@row("client.get_iopub_msg")
def test_the_outputs_of_a_cell_and_what_others_publish(
    kernel: Kernel, client: BlockingKernelClient, shared_kernel: HandKernel
) -> None:
    # What is written at once comes at once; a newline may come by itself.
    outputs = kernel.run("print('mine', end=''); 6 * 7").outputs
    assert [each.type for each in outputs] == ["stream", "execute_result"]
    theirs = "print('of somebody else', end='')"
    shared_kernel.ask(theirs)
    while client.get_iopub_msg(timeout=PATIENCE)["content"].get("text") != "of somebody else":
        pass


@row("client.wait_for_ready", "manager.ready", "manager.post_start_kernel")
def test_a_start_returns_when_the_kernel_answers_and_publishes(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    kernel = kernel_magics.start()
    assert kernel.state in (KernelState.IDLE, KernelState.BUSY)
    assert kernel.run("print('at once')").stdout == "at once\n"
    with pytest.raises(LaunchError, match="no such thing"):
        kernel_magics.start(env={"PYTHONHOME": "no such thing"})


@row("client.execute")
def test_a_cell_is_submitted(kernel: Kernel) -> None:
    execution = kernel.submit("6 * 7", user_expressions={"half": "21"}, store_history=False)
    result = execution.wait()
    assert result.status == "ok"
    assert result.user_expressions["half"]["data"]["text/plain"] == "21"


@pytest.mark.quick
@row("client.execute_interactive")
def test_a_cell_is_run_with_its_outputs_and_prompts(kernel: Kernel) -> None:
    shown: list[Message | str] = []
    show = shown.append

    def ask(prompt: str, password: bool) -> str:
        return "42"

    kernel.run("print(input())", show=show, ask=ask, timeout=60)
    texts = [each.content["text"] for each in shown if isinstance(each, Message)]
    assert "".join(texts) == "42\n"
    with pytest.raises(RemoteError) as caught:
        kernel.run("1 / 0", show=show)
    assert caught.value.ename == "ZeroDivisionError"


@row("client.complete")
def test_completion(kernel: Kernel) -> None:
    completion = kernel.complete("impor", 5, timeout=PATIENCE)
    assert completion is not None
    assert "import" in completion.matches


@row("client.inspect")
def test_inspection(kernel: Kernel) -> None:
    inspection = kernel.inspect("print", 5, timeout=PATIENCE)
    assert inspection is not None
    assert "sep" in inspection.data["text/plain"]


@row("client.history")
def test_history(owned: Kernel) -> None:
    owned.run("'to be remembered'")
    asked = {"hist_access_type": "tail", "n": 3, "raw": True, "output": False}
    reply = owned.request("shell", "history_request", asked, timeout=PATIENCE)
    assert content(reply)["history"][-1][2] == "'to be remembered'"


@row("client.kernel_info")
def test_the_kernel_info_is_known(kernel: Kernel) -> None:
    assert kernel.kernel_info["implementation"] == "ipython"
    assert kernel.language == "python"


@row("client.comm_info")
def test_the_open_comms(owned: Kernel) -> None:
    code = "from comm import create_comm; comm = create_comm(target_name='km'); print(comm.comm_id)"
    number = owned.run(code).stdout.strip()
    reply = owned.request("shell", "comm_info_request", timeout=PATIENCE)
    assert content(reply)["comms"][number] == {"target_name": "km"}


@row("client.is_complete")
def test_whether_code_is_complete(kernel: Kernel) -> None:
    for code, status in {"1": "complete", "if 1:": "incomplete", "1 +* 1": "invalid"}.items():
        completeness = kernel.is_complete(code, timeout=PATIENCE)
        assert completeness is not None
        assert completeness.status == status


@row("client.shutdown")
def test_shutting_down_also_what_is_not_ours(hand_kernel: StartHand) -> None:
    hand = hand_kernel()
    kernel = kernel_magics.attach(hand.connection_file)
    assert kernel.shutdown() is True
    wait_until(lambda: not hand.process.alive, what="the process has ended")
    assert kernel_magics.pool.names == []


# The manager.


@row("manager.start_kernel")
def test_starting_a_kernel_where_and_with_what_it_needs(sandbox: Sandbox) -> None:
    cwd, env = str(sandbox.work), {"KM_WORD": "hello"}
    kernel = kernel_magics.start("python3", cwd=cwd, env=env)
    told = kernel.run("import os; print(os.getcwd(), os.environ['KM_WORD'])").stdout
    assert told == f"{cwd} hello\n"


SAYS_GOODBYE = "import atexit, pathlib; atexit.register(pathlib.Path({!r}).touch)"


@row("manager.restart_kernel")
def test_restarting_politely_and_now(sandbox: Sandbox) -> None:
    with kernel_magics.start() as kernel:
        for now in (True, False):
            goodbye, pid = sandbox.work / f"goodbye-{now}", kernel.pid
            kernel.run(SAYS_GOODBYE.format(str(goodbye)))
            kernel.restart(now=now)
            assert gone(pid)
            assert kernel.pid != pid
            assert goodbye.exists() is not now
            assert kernel.run("print('pathlib' in globals())").stdout == "False\n"


@row("manager.interrupt_kernel")
def test_interrupting_also_what_is_not_ours(
    kernel: Kernel, owned: Kernel, sandbox: Sandbox
) -> None:
    for number, each in enumerate((kernel, owned)):
        begun = sandbox.work / f"begun{number}"
        execution = each.submit(f"open({str(begun)!r}, 'w').close()\nwhile True: pass")
        wait_until(begun.exists, what="it runs")
        each.interrupt()
        with pytest.raises(RemoteError) as caught:
            execution.wait(timeout=PATIENCE)
        assert caught.value.ename == "KeyboardInterrupt"


@row("manager.signal_kernel")
def test_signals_reach_the_process(sandbox: Sandbox) -> None:
    heard = sandbox.work / "heard"
    with kernel_magics.start() as kernel:
        kernel.run(
            f"import signal\ndef hear(*_): open({str(heard)!r}, 'w').close()\n"
            "signal.signal(signal.SIGUSR1, hear)"
        )
        kernel.signal(signal.SIGUSR1)
        wait_until(heard.exists, what="the signal was heard")
        assert kernel.alive


@row("manager.shutdown_kernel")
def test_shutting_down_politely_and_now(sandbox: Sandbox) -> None:
    for now in (True, False):
        goodbye, kernel = sandbox.work / f"goodbye-{now}", kernel_magics.start()
        kernel.run(SAYS_GOODBYE.format(str(goodbye)))
        assert kernel.shutdown(now=now) is True
        assert gone(kernel.pid)
        assert goodbye.exists() is not now


@row("manager.request_shutdown")
def test_a_kernel_that_is_asked_to_end_says_yes_and_ends() -> None:
    with kernel_magics.start() as kernel:
        asked = {"restart": False}
        reply = kernel.request("control", "shutdown_request", asked, timeout=PATIENCE)
        assert content(reply) == {"status": "ok", "restart": False}
        wait_until(lambda: not kernel.alive, what="it has ended")
        assert kernel.finding is not None
        assert "exit code 0" in kernel.finding.reason


@row("manager.finish_shutdown")
def test_a_kernel_that_does_not_end_when_asked_to_is_killed() -> None:
    kernel = kernel_magics.start()
    kernel.run(
        "import signal, time\n"
        "for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)\n"
        "import atexit; atexit.register(time.sleep, 600)"
    )
    assert kernel.shutdown() is True
    assert gone(kernel.pid)


@row("manager.cleanup_resources", "cleanup_connection_file", "cleanup_ipc_files")
def test_a_shutdown_leaves_no_file(sandbox: Sandbox, name: str) -> None:
    kernel = kernel_magics.start()
    file, sockets = kernel.info.path, Path(kernel.info.ip).parent
    assert file is not None
    assert file.exists()
    assert len(list(sockets.glob("k-*"))) == 5
    kernel.shutdown()
    assert not file.exists()
    assert not sockets.exists()


@row("manager.has_kernel", "manager.owns_kernel")
def test_what_is_ours_has_its_process_at_hand(kernel: Kernel, name: str) -> None:
    assert kernel.owned is None
    with kernel_magics.start() as ours:
        assert ours.owned is not None
        assert ours.alive
    assert not ours.alive


@row("manager.format_kernel_cmd")
def test_the_command_that_it_is_started_with(owned: Kernel) -> None:
    assert owned.owned is not None
    assert owned.owned.command == psutil.Process(owned.pid).cmdline()
    assert str(owned.info.path) in owned.owned.command


@row("manager.client", "blocking_client")
def test_a_client_of_jupyter_clients_own(kernel: Kernel, name: str) -> None:
    client = kernel.client()
    try:
        assert isinstance(client, BlockingKernelClient)
        assert client.channels_running
        reply = client.execute_interactive("print('heard')", store_history=False, timeout=PATIENCE)
        assert reply["content"]["status"] == "ok"
    finally:
        client.stop_channels()
    assert not client.channels_running


@row("manager.add_restart_callback", "manager.remove_restart_callback")
def test_callbacks_fire_and_can_be_removed(hand_kernel: StartHand, name: str) -> None:
    hand = hand_kernel()
    kernel = kernel_magics.attach(hand.connection_file)
    restarted, died, removed = threading.Event(), threading.Event(), threading.Event()
    kernel.add_restart_callback(restarted.set)
    kernel.add_restart_callback(removed.set, "dead")
    kernel.add_restart_callback(died.set, "dead")
    kernel.remove_restart_callback(removed.set, "dead")
    hand.restart_behind_same_ports()
    if not kernel.alive:  # it took longer than the grace; then it is noticed when it is used next
        died.clear()
        kernel.connect()
    assert restarted.wait(PATIENCE)
    hand.kill()
    assert died.wait(PATIENCE)
    assert not removed.is_set()


@row("manager.start_restarter", "manager.stop_restarter")
def test_a_kernel_that_dies_is_restarted_as_long_as_that_is_wanted(name: str) -> None:
    with kernel_magics.start() as kernel:
        restarted = threading.Event()
        kernel.add_restart_callback(kernel.restart, "dead")
        kernel.add_restart_callback(restarted.set)
        kernel.signal(signal.SIGKILL)
        assert restarted.wait(PATIENCE)
        assert kernel.run("print('again')").stdout == "again\n"
        kernel.remove_restart_callback(kernel.restart, "dead")
        restarted.clear()
        killed(kernel)
        assert not restarted.is_set()


@row("manager.pre_start_kernel")
def test_a_start_prepares_file_and_command(sandbox: Sandbox) -> None:
    kernel = kernel_magics.start()
    assert kernel.info.path is not None
    assert kernel.info.path.parent == sandbox.runtime
    assert kernel.owned is not None
    assert kernel.owned.command[-1] == str(kernel.info.path)


@row("manager.kernel_spec")
def test_the_kernelspec(owned: Kernel) -> None:
    assert owned.owned is not None
    assert owned.owned.spec_name.startswith("Python 3")
    assert owned.owned.options.spec == "python3"


@row("manager.ipykernel")
def test_whether_it_is_ipykernel(
    kernel: Kernel, hand_kernel: StartHand, echo_kernel: HandKernel
) -> None:
    assert kernel.kernel_info["implementation"] == "ipython"
    other = kernel_magics.attach(echo_kernel.connection_file)
    assert other.kernel_info["implementation"] == "echo"


@row("manager.resolve_path")
def test_a_path_as_the_kernel_sees_it(sandbox: Sandbox) -> None:
    kernel = kernel_magics.start(cwd=str(sandbox.work))
    assert kernel.owned is not None
    assert kernel.owned.options.cwd is not None
    resolved = Path(kernel.owned.options.cwd, "data.csv").resolve()
    told = kernel.run("import pathlib; print(pathlib.Path('data.csv').resolve())").stdout
    assert told == f"{resolved}\n"


@row("manager.update_env")
def test_another_environment_from_the_next_restart_on() -> None:
    kernel = kernel_magics.start(env={"KM_WORD": "old"})
    assert kernel.owned is not None
    env = {"KM_WORD": "new"}
    kernel.owned.options = dataclasses.replace(kernel.owned.options, env=env)
    kernel.restart(now=True)
    assert kernel.run("import os; print(os.environ['KM_WORD'])").stdout == "new\n"


# Both: connection files and sockets.


@row("get_connection_info", "write_connection_file")
def test_the_file_of_a_started_kernel_says_what_is_known_of_it(owned: Kernel, name: str) -> None:
    assert owned.info.path is not None
    assert owned.info.path.stat().st_mode & 0o777 == 0o600
    written = json.loads(owned.info.path.read_text())
    known = owned.info.as_dict(show_key=True)
    assert {field: written[field] for field in known} == known
    assert owned.info.as_dict()["key"] != known["key"]


@row("ports")
def test_the_ports(kernel: Kernel, shared_kernel: HandKernel) -> None:
    for port in ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port"):
        assert getattr(kernel.info, port) == shared_kernel.info[port]
    assert kernel.info.shell_port > 0


@row("load_connection_file")
def test_a_kernel_is_attached_by_its_file(shared_kernel: HandKernel) -> None:
    path = shared_kernel.connection_file
    kernel = kernel_magics.attach(path)
    assert kernel.info == kernel_magics.ConnectionInfo.from_file(path)
    assert kernel.run("print(1)").stdout == "1\n"


@row("load_connection_info")
def test_a_connection_is_read_from_a_dictionary(kernel: Kernel, shared_kernel: HandKernel) -> None:
    info = kernel_magics.ConnectionInfo.from_dict(shared_kernel.info)
    assert info.is_same_kernel(kernel.info)


@row("cleanup_random_ports")
def test_a_second_start_has_the_name_and_nothing_else_of_the_first() -> None:
    kernel = kernel_magics.start(name="gpu")
    kernel.shutdown()
    with pytest.raises(KernelNotFound):
        kernel_magics.pool["gpu"]
    new = kernel_magics.start(name=kernel.name)
    assert (new.name, new.info.is_same_kernel(kernel.info)) == ("gpu", False)


@row("connect_shell", "connect_control")
def test_a_bare_socket_for_requests(client: BlockingKernelClient, name: str) -> None:
    sock = getattr(client, name)(identity=b"another")
    client.session.send(sock, "kernel_info_request")
    assert sock.poll(PATIENCE * 1000)
    _, reply = client.session.recv(sock)
    assert reply["content"]["implementation"] == "ipython"


@row("connect_iopub")
def test_a_bare_socket_for_what_is_published(kernel: Kernel, client: BlockingKernelClient) -> None:
    sock = client.connect_iopub()
    wait_until(lambda: kernel.run("1") and sock.poll(100), what="something is published")
    _, published = client.session.recv(sock)
    # The subscription may take effect in the middle of a cell.
    types = ("status", "iopub_welcome", "execute_input", "execute_result")
    assert published["header"]["msg_type"] in types


@row("connect_stdin")
def test_a_bare_socket_for_prompts(kernel: Kernel, client: BlockingKernelClient) -> None:
    # A prompt goes to the client whose identity the request came with.
    shell, stdin = client.connect_shell(identity=b"me"), client.connect_stdin(identity=b"me")
    # It is lost as long as that is not connected.
    hello = "get_ipython().kernel.stdin_socket.send_multipart([b'me', b'hello']);"
    wait_until(lambda: kernel.run(hello) and stdin.poll(100), what="stdin is connected")
    asked = {"code": "input('who? ')", "allow_stdin": True, "store_history": False}
    client.session.send(shell, "execute_request", {**asked, "silent": True})
    frames = [b"hello"]
    while frames == [b"hello"]:
        assert stdin.poll(PATIENCE * 1000)
        frames = stdin.recv_multipart()
    _, frames = client.session.feed_identities(frames)
    prompt = client.session.deserialize(frames)
    assert prompt["content"]["prompt"] == "who? "
    client.session.send(stdin, "input_reply", {"value": "me"})
    assert shell.poll(PATIENCE * 1000)


@row("connect_hb")
def test_a_bare_socket_for_the_heartbeat(client: BlockingKernelClient) -> None:
    sock: zmq.Socket[bytes] = client.connect_hb()
    sock.send(b"still there?")
    assert sock.poll(PATIENCE * 1000)
    assert sock.recv() == b"still there?"


# Functions.


@row("start_new_kernel")
def test_a_kernel_and_its_client() -> None:
    kernel = kernel_magics.start()
    client = kernel.client()
    try:
        client.wait_for_ready(timeout=PATIENCE)
        reply = client.execute_interactive("6 * 7", timeout=PATIENCE)
        assert reply["content"]["status"] == "ok"
    finally:
        client.stop_channels()


@row("start_new_async_kernel")
def test_a_kernel_is_started_from_a_coroutine() -> None:
    async def main() -> str:
        kernel = await asyncio.to_thread(kernel_magics.start)
        result = await asyncio.to_thread(kernel.run, "print('awaited')")
        return result.stdout

    assert asyncio.run(main()) == "awaited\n"


@row("run_kernel")
def test_a_kernel_for_a_block() -> None:
    with kernel_magics.start() as kernel:
        pid = int(kernel.run("import os; print(os.getpid())").stdout)
        assert pid != os.getpid()
    assert gone(pid)
    with pytest.raises(ZeroDivisionError), kernel_magics.start() as kernel:
        raise ZeroDivisionError
    assert gone(kernel.pid)
