"""The notebook host hears everything that its kernel says, in order, cell by cell."""

from collections.abc import Callable

import pytest

from tests.support import parts
from tests.support.hosts import KernelHost
from tests.support.waiting import wait_until

pytestmark = pytest.mark.full

Start = Callable[..., KernelHost]


@pytest.mark.quick
def test_a_cell_gives_its_outputs_in_order(kernel_host: Start) -> None:
    run = kernel_host().run(
        "import sys\n"
        "from IPython.display import display\n"
        "sys.stdout.write('out\\n'); sys.stdout.flush()\n"
        "display({'text/plain': 'shown'}, raw=True, metadata={'m': 1})\n"
        "sys.stderr.write('err\\n'); sys.stderr.flush()\n"
        "6 * 7"
    )
    kinds = ["stream", "display_data", "stream", "execute_result"]
    assert [output.msg_type for output in run.outputs] == kinds
    assert (run.stdout, run.stderr, run.result) == ("out\n", "err\n", "42")
    assert run.outputs[1].metadata == {}
    assert run.outputs[1].content["metadata"] == {"m": 1}
    assert run.status == "ok"
    headers = [message["header"]["msg_type"] for message in run.messages]
    assert headers == ["status", "execute_input", *kinds, "status"]


def test_a_failed_cell_is_told_and_can_be_insisted_upon(kernel_host: Start) -> None:
    run = kernel_host().run("1 / 0")
    assert (run.status, run.reply["ename"]) == ("error", "ZeroDivisionError")
    assert "ZeroDivisionError" in run.error
    with pytest.raises(AssertionError, match=r"the cell failed: .*ZeroDivisionError"):
        run.ok()


@pytest.mark.quick
def test_questions_are_answered_by_the_test(kernel_host: Start) -> None:
    asked: list[tuple[str, bool]] = []

    def on_input(prompt: str, password: bool) -> str:
        asked.append((prompt, password))
        return f"answer {len(asked)}"

    host = kernel_host()
    run = host.run("import getpass; print(input('a? '), getpass.getpass('b? '))", on_input=on_input)
    assert run.stdout == "answer 1 answer 2\n"
    assert asked == run.inputs == [("a? ", False), ("b? ", True)]
    assert host.run("input()").reply["ename"] == "StdinNotImplementedError"


def test_an_interrupt_ends_the_running_cell(kernel_host: Start) -> None:
    host = kernel_host()
    run = host.start("print('begun', flush=True)\nwhile True: pass")
    host.wait_for(lambda: run.stdout, what="the cell has begun")
    host.interrupt()
    assert run.wait().reply["ename"] == "KeyboardInterrupt"
    assert host.run("1").result == "1"


def test_late_output_is_kept_with_its_own_cell(kernel_host: Start) -> None:
    host = kernel_host()
    first = host.run(
        "import threading\n"
        "go = threading.Event()\n"
        "kernel = get_ipython().kernel; parent = kernel.get_parent()\n"
        "def late():\n"
        "    go.wait(); kernel.session.send(kernel.iopub_socket, 'stream',\n"
        "        {'name': 'stdout', 'text': 'late'}, parent=parent)\n"
        "threading.Thread(target=late).start()"
    )
    second = host.run("go.set()")
    host.wait_for(lambda: first.stdout, what="the late output")
    assert (first.stdout, second.stdout) == ("late", "")


def test_nothing_is_lost_that_nobody_reads_yet(kernel_host: Start) -> None:
    host = kernel_host()
    # More than the limits of both sockets and the buffers between them would hold together.
    run = host.start("for number in range(4000): print(number, 'x' * 10_000, flush=True)")
    # Looked at from aside: the kernel is through before anything is read.
    wait_until(host.client.shell_channel.msg_ready, what="the cell's reply")
    run.wait()
    assert [int(line.split()[0]) for line in run.stdout.splitlines()] == list(range(4000))


@pytest.mark.quick
def test_a_dead_host_is_named_at_once(kernel_host: Start) -> None:
    host = kernel_host()
    with pytest.raises(RuntimeError, match="the host's process has ended"):
        host.run("import os; os._exit(1)")


def test_completion_inspection_and_any_message(kernel_host: Start) -> None:
    host = kernel_host()
    host.run("some_name = 1").ok()
    assert "some_name" in host.complete("some_na")["matches"]
    assert host.inspect("some_name")["found"]
    assert host.ask("comm_info_request")["comms"] == {}
    assert host.ask("kernel_info_request", channel="control")["status"] == "ok"


def test_it_is_a_server_s_child_that_can_import_this_checkout(kernel_host: Start) -> None:
    run = kernel_host().run(
        "import os, tests.support\n"
        "print('JPY_PARENT_PID' in os.environ, 'PYTEST_CURRENT_TEST' in os.environ)"
    )
    assert run.stdout == "True False\n"


def test_the_oldest_ipykernel_is_a_host_too(kernel_host: Start) -> None:
    parts.require("floor")
    host = kernel_host(python=parts.floor_python())
    assert host.run("__import__('ipykernel').__version__").result == "'6.29.0'"
    run = host.run("print(input('? '))", on_input=lambda prompt, password: "yes")
    assert run.stdout == "yes\n"
