"""Kernels of another machine, over a real ssh: found, used, cut off, healed, left."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from kernel_magics.connect import tunnel as tunnel_module
from kernel_magics.connect.tunnel import Tunnel
from kernel_magics.errors import (
    AmbiguousKernel,
    BadName,
    ExposedKernel,
    KernelDied,
    KernelMagicsError,
    KernelNotFound,
    SshError,
    TunnelDown,
)
from kernel_magics.kernels.kernel import Kernel
from kernel_magics.kernels.life import KernelState
from kernel_magics.kernels.pool import KernelPool
from kernel_magics.protocol.message import Message
from tests.support import parts
from tests.support.connection import read_info, write_info
from tests.support.kernels import HandKernel, Kind
from tests.support.sandbox import CHECKOUT, Sandbox
from tests.support.sshd import HOST, Network, SshServer, network, ssh_server
from tests.support.waiting import PATIENCE, wait_until

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
    return [each for each in psutil.Process().children() if each.name() == "ssh"]


def tunnel_of(kernel: Kernel) -> Tunnel:
    assert isinstance(kernel.way, Tunnel)
    return kernel.way


# Finding and using.


@pytest.mark.parametrize("kind", ["tcp", "ipc", "curve", "floor"])
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


def texts(shown: Sequence[Message | str]) -> list[str]:
    return [str(each.content["text"]) for each in shown if isinstance(each, Message)]


def notices(shown: Sequence[Message | str]) -> list[str]:
    return [each for each in shown if isinstance(each, str)]


@pytest.mark.parametrize("times", [1, pytest.param(20, marks=pytest.mark.full)])
@pytest.mark.parametrize("who", ["the far side", "ssh"])
@pytest.mark.timeout(400)
def test_a_cell_goes_on_across_a_cut(
    pool: KernelPool, far: Far, server: SshServer, who: str, times: int
) -> None:
    kernel = pool.tunnel(HOST, far(), "far")
    for _ in range(times):
        shown: list[Message | str] = []

        def show(item: Message | str, shown: list[Message | str] = shown) -> None:
            shown.append(item)
            if len(shown) == 4:
                server.cut() if who == "the far side" else [each.kill() for each in logins()]

        execution = kernel.submit(COUNT.format(number=20, seconds=0.1))
        assert execution.wait(show=show, timeout=60).status == "ok"
        numbers = [int(text) for text in "".join(texts(shown)).split()]
        assert numbers == sorted(set(numbers))
        assert (numbers[0], numbers[-1]) == (0, 19)
        assert any("was out of reach for a moment" in each for each in notices(shown))
        assert kernel.run("print('next')").stdout == "next\n"


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
    wait_until(lambda: kernel.state is KernelState.BUSY, what="it runs")
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


# A cable that is pulled.

REPORTED_WITHIN = 17.0
"""Seconds: keepalives every 5 s, the third of which has to be missing."""


@pytest.fixture
def cable(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> Generator[tuple[Network, SshServer]]:
    """A server at the end of a cable. Kernels there are reached by Unix sockets, which know no
    networks."""
    parts.require("sshd")
    parts.require("netns")
    with network() as there, ssh_server(sandbox.root / "sshd", where=there) as server:
        monkeypatch.setenv("PATH", f"{server.bin}{os.pathsep}{os.environ['PATH']}")
        yield there, server


@pytest.mark.full
@pytest.mark.timeout(200)
def test_a_cell_goes_on_after_the_cable_was_out_for_half_a_minute(
    cable: tuple[Network, SshServer], hand_kernel: StartHand
) -> None:
    there, server = cable
    name = left_there(hand_kernel("ipc"), server)
    with closing(KernelPool()) as pool:
        kernel = pool.tunnel(HOST, name, "far")
        tunnel = tunnel_of(kernel)
        shown: list[Message | str] = []
        execution = kernel.submit(COUNT.format(number=250, seconds=0.2))
        out, back = threading.Event(), threading.Event()

        def pull() -> None:
            out.wait()
            there.plug(in_=False)
            began = time.monotonic()
            wait_until(lambda: not tunnel.up, REPORTED_WITHIN, what="the cut is reported")
            back.wait(30 - (time.monotonic() - began))
            there.plug(in_=True)
            wait_until(lambda: tunnel.up, HEALED_WITHIN, what="the tunnel is up again")
            back.set()

        def show(item: Message | str) -> None:
            shown.append(item)
            out.set()

        pulling = threading.Thread(target=pull)
        pulling.start()
        assert execution.wait(show=show, timeout=120).status == "ok"
        pulling.join()
        assert back.is_set()
        numbers = [int(text) for text in "".join(texts(shown)).split()]
        assert numbers == sorted(set(numbers))
        assert (numbers[0], numbers[-1]) == (0, 249)
        assert any("was out of reach for a moment" in each for each in notices(shown))


@pytest.mark.full
@pytest.mark.timeout(200)
@pytest.mark.parametrize("what", ["the cable is out for 8 s", "ssh is stopped for 30 s"])
def test_a_pause_loses_nothing(
    cable: tuple[Network, SshServer], hand_kernel: StartHand, what: str
) -> None:
    there, server = cable
    name = left_there(hand_kernel("ipc"), server)
    with closing(KernelPool()) as pool:
        kernel = pool.tunnel(HOST, name, "far")
        shown: list[Message | str] = []
        execution = kernel.submit(COUNT.format(number=200, seconds=0.2))
        begun = threading.Event()

        def pause() -> None:
            begun.wait()
            if what.startswith("ssh"):
                (ssh,) = logins()
                ssh.suspend()
                threading.Event().wait(30)
                ssh.resume()
            else:
                there.plug(in_=False)
                threading.Event().wait(8)
                there.plug(in_=True)

        def show(item: Message | str) -> None:
            shown.append(item)
            begun.set()

        pausing = threading.Thread(target=pause)
        pausing.start()
        assert execution.wait(show=show, timeout=120).status == "ok"
        pausing.join()
        assert [int(text) for text in "".join(texts(shown)).split()] == list(range(200))
        assert not any("out of reach" in each for each in notices(shown))
