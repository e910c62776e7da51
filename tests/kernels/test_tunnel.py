"""Kernels of another machine, over a real ssh: found, used, cut off, healed, left."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pexpect
import psutil
import pytest

from kernel_magics.connect import pulse as pulse_module
from kernel_magics.connect import tunnel as tunnel_module
from kernel_magics.connect.tunnel import Tunnel
from kernel_magics.errors import (
    AmbiguousKernel,
    BadName,
    ExposedKernel,
    KernelDied,
    KernelMagicsError,
    KernelNotFound,
    ReplyLost,
    SshError,
    TransferError,
    TunnelDown,
)
from kernel_magics.kernels.kernel import Kernel
from kernel_magics.kernels.life import KernelState
from kernel_magics.kernels.pool import KernelPool
from kernel_magics.kernels.values import Progress
from kernel_magics.protocol.message import Message
from tests.support import parts
from tests.support.connection import read_info, write_info
from tests.support.kernels import HandKernel, Kind
from tests.support.processes import ssh_below
from tests.support.sandbox import CHECKOUT, Sandbox
from tests.support.sshd import HOST, Network, SshServer, network, ssh_server
from tests.support.tiers import full
from tests.support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.full

StartHand = Callable[..., HandKernel]

HEALED_WITHIN = 10.0
"""Seconds from the return of the network."""


@pytest.fixture
def server(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Generator[SshServer]:
    parts.require("sshd")
    with ssh_server(sandbox.root / "sshd") as server:
        monkeypatch.setenv("PATH", f"{server.bin}{os.pathsep}{os.environ['PATH']}")
        yield server


@pytest.fixture
def pool(server: SshServer) -> Generator[KernelPool]:
    pool = KernelPool()
    yield pool
    pool.close()


def left_there(hand: HandKernel, server: SshServer) -> str:
    """Let the file be on the far side only; return the kernel's name there."""
    there = server.runtime / hand.connection_file.name
    shutil.copy(hand.connection_file, there)
    return there.stem


@pytest.fixture
def far(hand_kernel: StartHand, server: SshServer) -> Callable[..., str]:
    """Have a kernel run there, and return its name."""
    return lambda kind="tcp": left_there(hand_kernel(kind), server)


Far = Callable[..., str]


def logins() -> list[psutil.Process]:
    """The ssh processes of ours."""
    return list(ssh_below())


def tunnel_of(kernel: Kernel) -> Tunnel:
    assert isinstance(kernel.way, Tunnel)
    return kernel.way


# Finding and using.


@pytest.mark.quick
@pytest.mark.parametrize("kind", ["tcp", *full("ipc", "curve", "floor")])
def test_a_cell_runs_there_as_it_does_here(pool: KernelPool, far: Far, kind: Kind) -> None:
    name = far(kind)
    kernel = pool.tunnel(HOST, name[-6:], "far")
    assert kernel.run("print(6 * 7)").stdout == "42\n"
    lines = "".join(f"{number}\n" for number in range(2000))
    assert kernel.run("for n in range(2000): print(n, flush=True)").stdout == lines


@pytest.mark.parametrize(
    "wanted", ["{name}", "{name}.json", "{part}", "kernel-*{part}", "/elsewhere/{name}.json"]
)
def test_a_kernel_is_found_by_its_name_or_a_part_of_it(
    pool: KernelPool, far: Far, wanted: str
) -> None:
    name = far()
    kernel = pool.attach(f"ssh://{HOST}/{wanted.format(name=name, part=name[-8:])}")
    assert kernel.name == name
    assert kernel.run("print('there')").stdout == "there\n"


def test_a_file_that_is_here_needs_none_there(
    pool: KernelPool, hand_kernel: StartHand, server: SshServer
) -> None:
    hand = hand_kernel("tcp")
    kernel = pool.tunnel(HOST, str(hand.connection_file))
    assert kernel.run("print('there')").stdout == "there\n"
    assert not any(server.runtime.iterdir())


def test_what_is_not_there_is_said_with_where_it_was_looked_for(
    pool: KernelPool, far: Far, server: SshServer
) -> None:
    far()
    with pytest.raises(KernelNotFound, match=f"no kernel matches 'nosuch'.*{server.runtime}"):
        pool.tunnel(HOST, "nosuch")
    with pytest.raises(KernelNotFound, match="needs 4 characters"):
        pool.tunnel(HOST, "abc")
    assert logins() == []  # nobody uses it


def test_several_that_match_are_listed(
    pool: KernelPool, shared_kernel: HandKernel, server: SshServer
) -> None:
    for name in ("kernel-aaaa1", "kernel-aaaa2"):
        shutil.copy(shared_kernel.connection_file, server.runtime / f"{name}.json")
    with pytest.raises(AmbiguousKernel, match="kernel-aaaa1, kernel-aaaa2"):
        pool.tunnel(HOST, "aaaa")
    assert pool.tunnel(HOST, "kernel-aaaa2").name == "kernel-aaaa2"


def test_one_that_runs_is_preferred_to_files_that_were_left(
    pool: KernelPool, far: Far, server: SshServer
) -> None:
    name = far()
    shutil.copy(server.runtime / f"{name}.json", server.runtime / f"{name}-old.json")
    assert pool.tunnel(HOST, name[-8:]).name == name


def test_files_that_are_no_kernel_s_are_passed_over(
    pool: KernelPool, far: Far, server: SshServer
) -> None:
    name = far()
    (server.runtime / "kernel-broken.json").write_text('{"ip": ')
    (server.runtime / "kernel-binary.json").write_bytes(bytes(range(256)))
    (server.runtime / "kernel-\tkm\tname.json").write_text("{}")
    (server.runtime / "kernel-folder.json").mkdir()
    (server.runtime / "jpserver-1.json").write_text("{}")
    with pool.login(HOST) as tunnel:
        (only,) = tunnel.kernels()
    assert (only.name, only.runs) == (name, True)
    assert 0 <= only.age < PATIENCE


def test_the_same_kernel_is_attached_once(pool: KernelPool, far: Far) -> None:
    name = far()
    kernel = pool.tunnel(HOST, name)
    assert pool.tunnel(HOST, name[-8:]) is kernel
    assert len(logins()) == 1


def test_two_kernels_share_one_login(pool: KernelPool, far: Far) -> None:
    one, two = pool.tunnel(HOST, far(), "one"), pool.tunnel(HOST, far(), "two")
    assert one.run("print(1)").stdout + two.run("print(2)").stdout == "1\n2\n"
    assert len(logins()) == 1


def test_a_name_that_none_can_have_is_refused(pool: KernelPool, far: Far) -> None:
    with pytest.raises(BadName):
        pool.tunnel(HOST, far(), "no good name")
    assert logins() == []


OTHER = """\
import sys
from jupyter_client.blocking.client import BlockingKernelClient
client = BlockingKernelClient(connection_file=sys.argv[1])
client.load_connection_file()
client.start_channels()
client.wait_for_ready(timeout=20)
client.execute_interactive("print('other')", timeout=20)
client.stop_channels()
"""
"""What `jupyter console --existing` does."""


@pytest.mark.parametrize("tcp", [False, True], ids=["sockets", "ports"])
def test_other_clients_may_use_the_tunnel(pool: KernelPool, far: Far, tcp: bool) -> None:
    kernel = pool.tunnel(HOST, far(), tcp=tcp)
    path = kernel.info.path
    assert path is not None
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    info = read_info(path)
    assert info is not None
    assert (info["transport"], info["ip"] == "127.0.0.1") == ("tcp" if tcp else "ipc", tcp)
    other = subprocess.run(
        [sys.executable, "-c", OTHER, str(path)], capture_output=True, text=True, timeout=PATIENCE
    )
    assert other.stdout == "other\n", other.stderr


def test_a_console_opens_on_the_file_of_a_tunnel(pool: KernelPool, far: Far) -> None:
    parts.require("console")
    path = pool.tunnel(HOST, far()).info.path
    argv = [sys.executable, "-m", "jupyter_console", "--simple-prompt", "--existing", str(path)]
    console = pexpect.spawn(argv[0], argv[1:], encoding="utf-8", timeout=PATIENCE)
    with closing(console):
        console.expect(r"In \[1\]: ")
        console.sendline("print(6 * 7000)")
        console.expect("42000")
        console.expect(r"In \[2\]: ")
        console.sendline("quit(keep_kernel=True)")
        console.expect(pexpect.EOF)


# The end.


def test_detaching_takes_the_forwards_back_and_the_last_one_the_login(
    pool: KernelPool, far: Far
) -> None:
    one, two = pool.tunnel(HOST, far(), "one"), pool.tunnel(HOST, far(), "two")
    assert one.info.path is not None
    folder = one.info.path.parent
    pool.detach("one")
    assert not one.info.path.exists()
    assert two.run("print(2)").stdout == "2\n"
    pool.detach("two")
    assert logins() == []
    assert not folder.exists()


def test_a_kernel_that_is_shut_down_ends_there(
    pool: KernelPool, hand_kernel: StartHand, server: SshServer
) -> None:
    hand = hand_kernel("tcp")
    pool.tunnel(HOST, left_there(hand, server), "far")
    _, ended = pool.shutdown("far")
    assert ended
    wait_until(lambda: not hand.process.alive, what="it has ended")
    assert logins() == []


def test_nobody_there_is_an_error_and_leaves_nothing(
    pool: KernelPool, hand_kernel: StartHand, server: SshServer
) -> None:
    hand = hand_kernel("tcp")
    name = left_there(hand, server)
    hand.close()
    with pytest.raises(KernelMagicsError, match=f"cannot attach {name}"):
        pool.tunnel(HOST, name)
    assert pool.names == []
    assert logins() == []


def test_a_kernel_that_dies_behind_a_living_tunnel_has_died(
    pool: KernelPool, hand_kernel: StartHand, server: SshServer
) -> None:
    hand = hand_kernel("tcp")
    kernel = pool.tunnel(HOST, left_there(hand, server))
    execution = kernel.submit("print('before', flush=True); import os; os._exit(1)")
    began = time.monotonic()
    with pytest.raises(KernelDied):
        execution.wait()
    assert time.monotonic() - began < 4.0
    assert tunnel_of(kernel).up


# Cuts.

COUNT = """\
import time
for number in range({number}):
    print(number, flush=True)
    time.sleep({seconds})
"""


COUNT_UNTIL = """\
import os, time
for number in range(600):
    print(number, flush=True)
    time.sleep(0.1)
    if os.path.exists({enough!r}):
        break
print(10**6)
"""


def texts(shown: Sequence[Message | str]) -> list[str]:
    return [str(each.content["text"]) for each in shown if isinstance(each, Message)]


HELD = "sum(len(m._transfers) for n, m in __import__('sys').modules.items() if n.startswith(\
'_kernel_magics_') and n.endswith('.far'))"
"""How many transfers the helper of values keeps."""


class Shown:
    """What a cell shows, with the time of it."""

    def __init__(self) -> None:
        self.items: list[tuple[float, Message | str]] = []

    def __call__(self, item: Message | str) -> None:
        self.items.append((time.monotonic(), item))

    @property
    def numbers(self) -> list[int]:
        text = "".join(texts([item for _, item in self.items]))
        return [int(number) for number in text.split()]

    def said(self, words: str) -> list[float]:
        """Return when a notice with these words was shown."""
        return [at for at, item in self.items if isinstance(item, str) and words in item]

    def resumed_after(self, then: float) -> float:
        """Return when the first output after a moment was shown."""
        return next(at for at, item in self.items if at > then and not isinstance(item, str))


@pytest.mark.quick
@pytest.mark.parametrize("times", [1, pytest.param(20, marks=pytest.mark.full)])
@pytest.mark.parametrize("who", ["the far side", *full("ssh")])
@pytest.mark.timeout(400)
def test_a_cell_goes_on_across_a_cut(
    pool: KernelPool, far: Far, server: SshServer, sandbox: Sandbox, who: str, times: int
) -> None:
    kernel = pool.tunnel(HOST, far(), "far")
    for number in range(times):
        shown = Shown()
        enough = sandbox.work / f"enough-{number}"

        def show(item: Message | str, shown: Shown = shown, enough: Path = enough) -> None:
            shown(item)
            if len(shown.items) == 4:
                server.cut() if who == "the far side" else [each.kill() for each in logins()]
            elif shown.said("was out of reach for a moment") and not isinstance(item, str):
                enough.touch()

        execution = kernel.submit(COUNT_UNTIL.format(enough=str(enough)))
        assert execution.wait(show=show, timeout=60).status == "ok"
        assert shown.numbers == sorted(set(shown.numbers))
        assert (shown.numbers[0], shown.numbers[-1]) == (0, 10**6)
        assert len(shown.said("was out of reach for a moment; output may be missing")) == 1
        assert kernel.run("print('next')").stdout == "next\n"


@pytest.mark.parametrize(
    "what, who",
    [("push", "ssh"), pytest.param("pull", "the far side", marks=pytest.mark.full)],
)
def test_a_transfer_across_a_cut_is_told_and_sets_nothing(
    pool: KernelPool, far: Far, server: SshServer, what: str, who: str
) -> None:
    kernel = pool.tunnel(HOST, far(), "far")
    kernel.run("v = b'old' * 20_000_000")
    cuts: list[int] = []

    def cut(done: int, total: int) -> None:
        if not cuts and done > total // 3:
            cuts.append(done)
            server.cut() if who == "the far side" else [each.kill() for each in logins()]

    transfer: Callable[..., object] = kernel.push if what == "push" else kernel.pull
    with pytest.raises(TransferError) as caught:
        transfer(
            {"v": b"new" * 20_000_000} if what == "push" else "v", progress=Progress(moved=cut)
        )

    assert caught.value.value == "v"
    assert len(cuts) == 1
    # When the way is there again nothing is left of it, and the next one goes.
    tunnel = tunnel_of(kernel)
    wait_until(lambda: tunnel.up, HEALED_WITHIN, what="the tunnel is up again")
    wait_until(lambda: kernel.state is KernelState.IDLE, HEALED_WITHIN, what="the kernel answers")
    wait_until(lambda: kernel.pull(HELD) == 0, HEALED_WITHIN, what="its memory there is freed")
    assert kernel.pull("v[:3]") == b"old"
    kernel.push({"v": bytes(9_000_000)})
    assert kernel.pull("len(v)") == 9_000_000


def test_a_cut_between_two_cells_is_healed_and_a_cell_meanwhile_is_refused(
    pool: KernelPool, far: Far, server: SshServer
) -> None:
    kernel = pool.tunnel(HOST, far(), "far")
    kernel.run("a = 5")
    server.cut()
    tunnel = tunnel_of(kernel)
    wait_until(lambda: not tunnel.up, what="the cut is noticed")
    with pytest.raises(TunnelDown, match="being opened again; the code did not run") as caught:
        kernel.run("a = 6")
    assert not caught.value.may_have_run
    wait_until(lambda: tunnel.up, HEALED_WITHIN, what="the tunnel is up again")
    wait_until(lambda: kernel.state is KernelState.IDLE, HEALED_WITHIN, what="the kernel answers")
    assert kernel.run("print(a)").stdout == "5\n"


def test_a_login_that_is_not_granted_again_is_given_up_until_the_user_logs_in(
    pool: KernelPool, far: Far, server: SshServer
) -> None:
    kernel = pool.tunnel(HOST, name := far(), "far")
    execution = kernel.submit("import time; time.sleep(2); print('over')")
    wait_until(lambda: execution.running, what="it runs")
    allowed = (server.folder / "authorized").read_text()
    (server.folder / "authorized").write_text("")
    server.cut()
    with pytest.raises(
        TunnelDown, match=r"Permission denied.*%kernel_tunnel logs in again"
    ) as caught:
        execution.wait(timeout=30)
    assert caught.value.may_have_run
    assert tunnel_of(kernel).hopeless
    with pytest.raises(TunnelDown) as caught:
        kernel.run("1")
    assert not caught.value.may_have_run
    (server.folder / "authorized").write_text(allowed)
    assert pool.tunnel(HOST, name) is kernel
    assert kernel.run("print('again')").stdout == "again\n"


def test_while_the_server_is_away_it_is_tried_again_and_again(
    pool: KernelPool, far: Far, server: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel_module, "LONGEST_RETRY", 0.5)
    kernel = pool.tunnel(HOST, far(), "far")
    config = server.config.read_text()
    server.config.write_text(config.replace(f"Port {server.port}", "Port 1"))
    server.cut()
    tunnel = tunnel_of(kernel)
    wait_until(lambda: "refused" in tunnel.reason, what="it was tried")
    server.config.write_text(config)
    wait_until(lambda: tunnel.up, HEALED_WITHIN, what="it is up again")
    wait_until(lambda: kernel.state is KernelState.IDLE, HEALED_WITHIN, what="the kernel answers")
    assert kernel.run("print('there')").stdout == "there\n"


def test_closing_while_it_is_down_leaves_nothing(
    pool: KernelPool, far: Far, server: SshServer
) -> None:
    kernel = pool.tunnel(HOST, far(), "far")
    assert kernel.info.path is not None
    folder: Path = kernel.info.path.parent
    server.config.write_text("")
    server.cut()
    tunnel = tunnel_of(kernel)
    wait_until(lambda: not tunnel.up, what="the cut is noticed")
    pool.close()
    assert not folder.exists()
    assert logins() == []


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beat, tell and give up five times as fast."""
    for name in ("BEAT", "EVERY", "SILENT_AFTER", "REOPEN_AFTER"):
        for module in (pulse_module, tunnel_module):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, getattr(module, name) / 5)


def served_by(server: SshServer) -> list[psutil.Process]:
    """The far processes of the only login."""
    (session,) = server.sessions()
    processes = [session, *session.children(recursive=True)]
    return [each for each in processes if "sshd" in each.name()]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("where", [pytest.param("here", marks=pytest.mark.full), "there"])
def test_a_silence_is_told_and_a_cell_meanwhile_is_refused(
    pool: KernelPool, far: Far, server: SshServer, sandbox: Sandbox, where: str
) -> None:
    kernel = pool.tunnel(HOST, far(), "far")
    tunnel, ssh = tunnel_of(kernel), logins()
    shown = Shown()
    enough = sandbox.work / "enough"
    execution = kernel.submit(COUNT_UNTIL.format(enough=str(enough)))
    wait_until(lambda: execution.running, what="it runs")
    stopped = ssh if where == "here" else served_by(server)
    for each in stopped:
        each.suspend()
    wait_until(lambda: tunnel.silent, what="the silence is noticed")
    with pytest.raises(TunnelDown, match="out of reach: nothing has come from there for") as caught:
        kernel.run("print('never')")
    assert not caught.value.may_have_run
    tried = time.monotonic() + pulse_module.REOPEN_AFTER + 1.0
    wait_until(lambda: time.monotonic() > tried, what="another login was tried")
    for each in stopped:
        each.resume()

    def show(item: Message | str) -> None:
        shown(item)
        if shown.said("is in reach again"):
            enough.touch()

    assert execution.wait(show=show, timeout=PATIENCE).status == "ok"
    *numbers, end = shown.numbers
    assert (numbers, end) == (list(range(len(numbers))), 10**6)
    assert len(shown.said("is in reach again; the connection held")) == 1
    assert not shown.said("was out of reach")
    wait_until(lambda: logins() == ssh, what="the login is the same, and the only one")


@pytest.mark.full
@pytest.mark.usefixtures("impatient")
def test_a_silent_login_is_replaced_where_nobody_can_tell_that_it_only_pauses(
    hand_kernel: StartHand, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.require("sshd")
    hand = hand_kernel("tcp")
    only = ["MaxSessions 1"]  # forwards, and no commands
    with ssh_server(sandbox.root / "sshd", server=only) as server, closing(KernelPool()) as pool:
        monkeypatch.setenv("PATH", f"{server.bin}{os.pathsep}{os.environ['PATH']}")
        kernel = pool.tunnel(HOST, str(hand.connection_file), "far")
        ssh, held = logins(), served_by(server)
        shown = Shown()
        enough = sandbox.work / "enough"
        execution = kernel.submit(COUNT_UNTIL.format(enough=str(enough)))
        wait_until(lambda: execution.running, what="it runs")
        for each in held:
            each.suspend()

        def show(item: Message | str) -> None:
            shown(item)
            if shown.said("was out of reach for a moment"):
                enough.touch()

        assert execution.wait(show=show, timeout=PATIENCE).status == "ok"
        assert shown.numbers == sorted(set(shown.numbers))
        assert shown.numbers[-1] == 10**6
        assert len(shown.said("was out of reach for a moment")) == 1
        assert len(logins()) == 1
        assert logins() != ssh
        for each in held:
            each.kill()


@pytest.mark.parametrize(
    "looks",
    [
        pytest.param(True, marks=pytest.mark.full, id="it is ended"),
        pytest.param(False, id="it cannot be ended"),
    ],
)
def test_what_the_far_side_still_holds_of_the_login_before_does_no_harm(
    hand_kernel: StartHand, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, looks: bool
) -> None:
    parts.require("sshd")
    parts.require("xpython")  # which ignores whoever comes with the identity of one that is there
    hand = hand_kernel("xpython")
    only = [] if looks else ["MaxSessions 1"]  # forwards, and no commands
    with ssh_server(sandbox.root / "sshd", server=only) as server, closing(KernelPool()) as pool:
        monkeypatch.setenv("PATH", f"{server.bin}{os.pathsep}{os.environ['PATH']}")
        kernel = pool.tunnel(HOST, str(hand.connection_file), "far")
        code = COUNT.format(number=40, seconds=0.1)
        shown = Shown()
        execution = kernel.submit(code, user_expressions={})
        with ThreadPoolExecutor(1) as waiting:
            result = waiting.submit(execution.wait, show=shown, timeout=30)
            wait_until(lambda: bool(shown.items), what="it counts")
            held = served_by(server)
            for each in held:
                each.suspend()
            for each in logins():
                each.kill()
            with pytest.raises(ReplyLost):
                result.result()
        assert shown.numbers == sorted(set(shown.numbers))
        assert (shown.numbers[0], shown.numbers[-1]) == (0, 39)
        assert shown.said("was out of reach for a moment")
        assert kernel.run("print('next')").stdout == "next\n"
        assert not (looks and any(each.is_running() for each in held))
        for each in held:
            if each.is_running():
                each.kill()


@pytest.mark.parametrize("number", [5, pytest.param(50, marks=pytest.mark.full)])
@pytest.mark.timeout(300)
def test_tunnels_one_after_another_all_stay(
    hand_kernel: StartHand, server: SshServer, number: int
) -> None:
    name = left_there(hand_kernel("tcp"), server)
    pools = [KernelPool() for _ in range(number)]
    try:
        kernels = [pool.tunnel(HOST, name) for pool in pools]
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > 5.0, what="five seconds later")
        assert [kernel.run("print(1)").stdout for kernel in kernels] == ["1\n"] * number
        assert all(tunnel_of(kernel).up for kernel in kernels)
    finally:
        for pool in pools:
            pool.close()


def test_without_a_login_there_is_no_way(pool: KernelPool, server: SshServer) -> None:
    with pytest.raises(SshError, match="Could not resolve"):
        pool.tunnel("km-test.invalid", "whatever")
    with pytest.raises(SshError, match=r"is not \[USER@\]HOST"):
        pool.attach("ssh://-oProxyCommand=x/whatever")


# The helper function that the field has known for years.

CLASSIC = """\
import sys
from jupyter_client.blocking.client import BlockingKernelClient
from kernel_magics.connect import tunnel_to_kernel
from tests.support.connection import read_info, write_info
from pathlib import Path
info = read_info(Path(sys.argv[1]))
ports = tunnel_to_kernel(sys.argv[1], sys.argv[2])
again = tunnel_to_kernel(info, sys.argv[2], sys.argv[3])
for lports in (ports, again):
    shell, iopub, stdin, hb, control = lports
    client = BlockingKernelClient()
    client.load_connection_info(info | dict(
        shell_port=shell, iopub_port=iopub, stdin_port=stdin, hb_port=hb, control_port=control))
    client.start_channels()
    client.wait_for_ready(timeout=20)
    client.execute_interactive("print('classic')", timeout=20)
    client.stop_channels()
"""


def test_tunnel_to_kernel_gives_five_ports_in_the_order_of_old(
    hand_kernel: StartHand, server: SshServer, sandbox: Sandbox
) -> None:
    hand = hand_kernel("tcp")
    argv = [sys.executable, "-c", CLASSIC, str(hand.connection_file), HOST, str(server.key)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, cwd=CHECKOUT)
    assert done.stdout == "classic\nclassic\n", done.stderr
    wait_until(lambda: server.sessions() == [], what="the logins have ended")


# Exposure.


@pytest.mark.quick
def test_plain_tcp_to_another_machine_is_refused_unless_the_user_says_so(
    pool: KernelPool, shared_kernel: HandKernel, sandbox: Sandbox
) -> None:
    path = sandbox.runtime / "kernel-exposed.json"
    info = read_info(shared_kernel.connection_file)
    assert info is not None
    write_info(path, info | {"ip": "192.0.2.1"})  # reserved for documentation: nobody is there
    with pytest.raises(ExposedKernel, match=r"plain TCP.*%kernel_tunnel 192\.0\.2\.1 .*--insecure"):
        pool.attach(path)
    assert pool.names == []
    write_info(path, info | {"ip": "0.0.0.0"})  # of this machine, as are all its own addresses
    assert pool.attach(path).run("print('here')").stdout == "here\n"
    path.unlink()


# A cable that is pulled, and pauses that are no cuts.

REPORTED_WITHIN = 15.0
"""Seconds from when the cable is pulled."""

OUT = 30.0
"""Seconds for which it is out: for longer than anybody waits for an echo."""

CABLES, ROUNDS = 10, 2


@dataclass(frozen=True)
class Cable:
    """A server at the end of a cable. Kernels there are reached by Unix sockets, which know no
    networks."""

    network: Network
    server: SshServer
    host: str

    def cut_off(self, how: str, seconds: float) -> None:
        """For a while, lose everything on the way, or have the cable pulled at our end."""
        lost = how == "lost"
        self.network.lose(lost=True) if lost else self.network.plug(in_=False)
        threading.Event().wait(seconds)
        self.network.lose(lost=False) if lost else self.network.plug(in_=True)


@pytest.fixture
def cable(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Generator[Callable[[], Cable]]:
    """Lay cables."""
    parts.require("sshd")
    parts.require("netns")
    cables: list[Cable] = []
    with ExitStack() as stack:

        def lay() -> Cable:
            there, host = stack.enter_context(network()), f"gpubox{len(cables)}"
            folder = sandbox.root / f"sshd-{there.number}"
            server = stack.enter_context(ssh_server(folder, where=there, host=host))
            cables.append(Cable(there, server, host))
            first = cables[0].server  # the one whose configuration is read
            if len(cables) == 1:
                monkeypatch.setenv("PATH", f"{server.bin}{os.pathsep}{os.environ['PATH']}")
            else:
                first.config.write_text(first.config.read_text() + server.config.read_text())
            return cables[-1]

        yield lay


Lay = Callable[[], Cable]


@dataclass
class Cut:
    """How one cell went over one cut: seconds from its beginning, and from its end."""

    how: str
    reported: float
    healed: float
    numbers: list[int]
    held: int
    gaps: int

    @property
    def fine(self) -> bool:
        """The gap is named as what it is: a pause, or one in which output was lost."""
        whole = self.numbers == list(range(250))
        return (
            self.reported < REPORTED_WITHIN
            and self.healed < HEALED_WITHIN
            and self.numbers == sorted(set(self.numbers))
            and (self.numbers[0], self.numbers[-1]) == (0, 249)
            and (self.held, self.gaps) in ([(1, 0), (0, 1)] if whole else [(0, 1)])
        )


def cut_once(kernel: Kernel, cable: Cable, how: str, delay: float) -> Cut:
    """Cut a cell off that counts; ``delay`` is from its first number."""
    shown = Shown()
    execution = kernel.submit(COUNT.format(number=250, seconds=0.2))
    with ThreadPoolExecutor(1) as waiting:
        result = waiting.submit(execution.wait, show=shown, timeout=120)
        wait_until(lambda: bool(shown.items), what="it counts")
        threading.Event().wait(delay)
        began = time.monotonic()
        cable.cut_off(how, OUT)
        back = time.monotonic()
        assert result.result().status == "ok"
    return Cut(
        how,
        shown.said("is out of reach")[0] - began,
        shown.resumed_after(back) - back,
        shown.numbers,
        len(shown.said("is in reach again; the connection held")),
        len(shown.said("was out of reach for a moment; output may be missing")),
    )


@pytest.mark.full
@pytest.mark.timeout(400)
def test_a_cell_goes_on_after_the_network_was_away_for_half_a_minute(
    cable: Lay, hand_kernel: StartHand
) -> None:
    with ExitStack() as stack:
        pool = stack.enter_context(closing(KernelPool()))
        cables = [cable() for _ in range(CABLES)]
        names = [left_there(hand_kernel("ipc"), each.server) for each in cables]
        kernels = [pool.tunnel(each.host, name) for each, name in zip(cables, names, strict=True)]
        threads = stack.enter_context(ThreadPoolExecutor(CABLES))
        delays = [place * 0.3 for place in range(CABLES)]  # different moments of the pulse
        ways = ["lost", "pulled"] * CABLES
        cuts: list[Cut] = []
        for _ in range(ROUNDS):
            cuts += threads.map(cut_once, kernels, cables, ways, delays)
        for cut in cuts:
            print(
                f"{cut.how}: reported after {cut.reported:.1f} s, healed {cut.healed:.1f} s after "
                f"its end, {len(cut.numbers)} of 250 numbers, held {cut.held}, gap {cut.gaps}"
            )
        assert [cut for cut in cuts if not cut.fine] == []
        assert [kernel.run("print('next')").stdout for kernel in kernels] == ["next\n"] * CABLES


def pause_ssh(cable: Cable, ssh: psutil.Process) -> None:
    ssh.suspend()
    threading.Event().wait(OUT)
    ssh.resume()


def pause_the_far_side(cable: Cable, ssh: psutil.Process) -> None:
    stopped = served_by(cable.server)
    for each in stopped:
        each.suspend()
    threading.Event().wait(OUT)
    for each in stopped:
        each.resume()


def pause_the_cable(cable: Cable, ssh: psutil.Process) -> None:
    cable.cut_off("pulled", 8)


def pause_the_network(cable: Cable, ssh: psutil.Process) -> None:
    cable.cut_off("lost", 8)


PAUSES = [pause_ssh, pause_the_far_side, pause_the_cable, pause_the_network, pause_the_network]


@pytest.mark.full
@pytest.mark.timeout(200)
def test_a_pause_loses_nothing(cable: Lay, hand_kernel: StartHand) -> None:
    def play(pause: Callable[[Cable, psutil.Process], None], kernel: Kernel, there: Cable) -> None:
        ssh = sshs[kernel]
        shown = Shown()
        execution = kernel.submit(COUNT.format(number=200, seconds=0.2))
        with ThreadPoolExecutor(1) as waiting:
            result = waiting.submit(execution.wait, show=shown, timeout=120)
            wait_until(lambda: bool(shown.items), what="it counts")
            began = time.monotonic()
            pause(there, ssh)
            assert result.result().status == "ok"
        assert shown.numbers == list(range(200))
        (reported,) = shown.said("is out of reach: nothing has come from there")
        assert reported - began < REPORTED_WITHIN
        assert len(shown.said("is in reach again; the connection held")) == 1
        assert not shown.said("was out of reach")

    with closing(KernelPool()) as pool, ThreadPoolExecutor(len(PAUSES)) as threads:
        sshs: dict[Kernel, psutil.Process] = {}
        cables = [cable() for _ in PAUSES]
        for there in cables:
            before = logins()
            name = left_there(hand_kernel("ipc"), there.server)
            kernel = pool.tunnel(there.host, name)
            (sshs[kernel],) = set(logins()) - set(before)
        for _ in threads.map(play, PAUSES, sshs, cables):
            pass
        same = set(sshs.values())
        wait_until(lambda: set(logins()) == same, what="the logins are the same, and the only ones")
