"""From a name to a connection file. The kernels here are sockets that listen, and no more."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from kernel_magics.connect import find as module
from kernel_magics.connect.find import find, listens, running
from kernel_magics.connect.info import PORTS, ConnectionInfo
from kernel_magics.errors import (
    AmbiguousKernel,
    ConnectionFileError,
    KernelMagicsError,
    KernelNotFound,
)
from tests.support.connection import write_info
from tests.support.sandbox import Sandbox

Make = Callable[..., ConnectionInfo]
"""``make(name, **changes)`` writes a connection file ``name.json`` and says what is in it."""


@pytest.fixture
def folder(runtime_dir: Path) -> Generator[Path]:
    """The runtime folder, which is emptied again."""
    yield runtime_dir
    shutil.rmtree(runtime_dir, ignore_errors=True)


def write(path: Path, **changes: Any) -> ConnectionInfo:
    ports = dict(zip(PORTS, range(1, 6), strict=True))
    info = {"transport": "tcp", "ip": "127.0.0.1", "key": "k", **ports, **changes}
    write_info(path, info)
    return ConnectionInfo.from_dict(info, path)


@pytest.fixture
def dead(folder: Path, closing: ExitStack) -> Make:
    """Make connection files of kernels that are gone: their port is taken, but nobody listens."""

    def make(name: str, **changes: Any) -> ConnectionInfo:
        sock = closing.enter_context(socket.socket())
        sock.bind(("127.0.0.1", 0))
        return write(folder / f"{name}.json", shell_port=sock.getsockname()[1], **changes)

    return make


@pytest.fixture
def alive(folder: Path, closing: ExitStack) -> Make:
    """Make connection files of kernels that listen, on tcp."""

    def make(name: str, **changes: Any) -> ConnectionInfo:
        sock = closing.enter_context(socket.create_server(("127.0.0.1", 0)))
        return write(folder / f"{name}.json", shell_port=sock.getsockname()[1], **changes)

    return make


@pytest.fixture
def alive_on_ipc(folder: Path, sandbox: Sandbox, closing: ExitStack) -> Make:
    """Make connection files of kernels that listen, on Unix sockets."""

    def make(name: str, **changes: Any) -> ConnectionInfo:
        address = sandbox.work / name
        sock = closing.enter_context(socket.socket(socket.AF_UNIX))
        sock.bind(f"{address}-1")
        sock.listen()
        return write(folder / f"{name}.json", transport="ipc", ip=str(address), **changes)

    return make


def broken(path: Path) -> None:
    path.write_text("{")
    path.chmod(0o600)


def not_found(wanted: str) -> KernelNotFound:
    with pytest.raises(KernelNotFound) as caught:
        find(wanted)
    assert type(caught.value) is KernelNotFound
    return caught.value


# A path.


def test_a_path_is_that_file(tmp_path: Path) -> None:
    info = write(tmp_path / "anything.txt")
    assert find(str(info.path)).path == info.path


@pytest.mark.parametrize("wanted", ["file.json", "./file.json", "../here/file.json"])
def test_a_path_may_start_in_the_working_directory(
    tmp_path: Path, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here := tmp_path / "here").mkdir()
    write(here / "file.json", kernel_name="this one")
    monkeypatch.chdir(here)
    assert find(wanted).kernel_name == "this one"


def test_a_word_is_not_a_path_only_because_a_file_has_that_name(
    tmp_path: Path, dead: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = dead("kernel-data")
    (tmp_path / "data").write_text("1, 2, 3")
    monkeypatch.chdir(tmp_path)
    assert find("data") == info


def test_a_path_may_start_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "file.json")
    assert find("~/file.json").path == tmp_path / "file.json"


def test_a_path_is_not_asked_whether_it_is_alive(dead: Make) -> None:
    info = dead("kernel-abcd1234")
    assert find(str(info.path)) == info


def test_a_path_without_a_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "missing.json"
    with pytest.raises(ConnectionFileError, match="no such file") as caught:
        find(str(path))
    assert caught.value.path == str(path)


# An exact id.


@pytest.mark.parametrize("wanted", ["kernel-abcd1234", "kernel-abcd1234.json", "abcd1234"])
def test_an_exact_id_is_that_file_alive_or_not(dead: Make, wanted: str) -> None:
    info = dead("kernel-abcd1234")
    assert find(wanted) == info


def test_an_exact_id_needs_no_prefix(dead: Make) -> None:
    info = dead("my-own-name")
    assert find("my-own-name") == info


def test_an_exact_id_goes_before_others_that_contain_it(alive: Make) -> None:
    info = alive("kernel-abcd")
    alive("kernel-abcd1234")
    assert find("abcd") == info


@pytest.mark.parametrize("short", ["1", "abc"])
def test_an_exact_id_may_be_short(dead: Make, short: str) -> None:
    info = dead(f"kernel-{short}")
    assert find(short) == info


def test_an_exact_id_of_a_broken_file_is_the_error_of_that_file(folder: Path) -> None:
    broken(folder / "kernel-abcd1234.json")
    with pytest.raises(ConnectionFileError) as caught:
        find("abcd1234")
    assert caught.value.path == str(folder / "kernel-abcd1234.json")


# A fragment.


@pytest.mark.parametrize("fragment", ["abcd", "cd12", "kernel-ab", "1234", "abcd123.json"])
@pytest.mark.parametrize("make", ["alive", "alive_on_ipc"])
def test_a_fragment_is_the_one_kernel_that_listens(
    request: pytest.FixtureRequest, make: str, fragment: str
) -> None:
    info = request.getfixturevalue(make)("kernel-abcd1234")
    assert find(fragment) == info


@pytest.mark.parametrize("fragment", ["", "a", "abc", "abc.json", "a*c"])
def test_a_fragment_of_less_than_four_characters_is_refused(alive: Make, fragment: str) -> None:
    alive("kernel-abcd1234")
    error = not_found(fragment)
    assert error.wanted == fragment
    assert "needs 4 characters" in str(error)


def test_a_fragment_does_not_match_the_ending(alive: Make) -> None:
    alive("kernel-abcd1234")
    not_found("34.js")


def test_upper_and_lower_case_differ(alive: Make) -> None:
    alive("kernel-abcd1234")
    not_found("ABCD")


def test_dead_files_do_not_match(dead: Make, alive: Make) -> None:
    dead("kernel-abcd1")
    info = alive("kernel-abcd2")
    dead("kernel-abcd3")
    assert find("abcd") == info


@pytest.mark.parametrize(
    "names, words", [(["abcd1"], "1 file matches"), (["abcd1", "abcd2"], "2 files match")]
)
def test_when_only_dead_files_match_the_error_says_so(
    dead: Make, names: list[str], words: str
) -> None:
    for name in names:
        dead(f"kernel-{name}")
    assert f"{words}, but no kernel listens there" in str(not_found("abcd"))


def test_when_nothing_matches_the_error_says_where_it_looked(folder: Path) -> None:
    assert str(folder) in not_found("abcd").searched


def test_a_runtime_folder_that_does_not_exist_holds_nothing(folder: Path) -> None:
    folder.rmdir()
    not_found("abcd")


def test_several_kernels_that_match_are_an_error_that_lists_them(alive: Make) -> None:
    for name in ("kernel-abcd2", "kernel-other", "kernel-abcd1"):
        alive(name)
    with pytest.raises(AmbiguousKernel) as caught:
        find("abcd")
    assert caught.value.matches == ["kernel-abcd1", "kernel-abcd2"]
    assert "kernel-abcd1, kernel-abcd2" in str(caught.value)


@pytest.mark.parametrize(
    "make", [broken, os.mkfifo, Path.mkdir], ids=["half written", "FIFO", "folder"]
)
def test_a_broken_file_that_alone_matches_is_the_error(
    folder: Path, make: Callable[[Path], None]
) -> None:
    path = folder / "kernel-abcd1234.json"
    make(path)
    with pytest.raises(ConnectionFileError) as caught:
        find("abcd")
    assert caught.value.path == str(path)


def test_a_broken_file_beside_a_kernel_does_not_matter(folder: Path, alive: Make) -> None:
    broken(folder / "kernel-abcd1.json")
    info = alive("kernel-abcd2")
    assert find("abcd") == info


def test_a_broken_file_beside_a_dead_one_does_not_matter(folder: Path, dead: Make) -> None:
    broken(folder / "kernel-abcd1.json")
    dead("kernel-abcd2")
    assert "2 files match" in str(not_found("abcd"))


@pytest.mark.parametrize("server", ["jpserver-12345", "nbserver-12345"])
def test_files_of_servers_are_not_kernels(alive: Make, server: str) -> None:
    alive(server)
    not_found("12345")


def test_files_with_another_ending_are_not_kernels(alive: Make) -> None:
    path = alive("kernel-abcd1234").path
    assert path is not None
    path.rename(path.with_suffix(".html"))
    not_found("abcd")


# A glob.


@pytest.mark.parametrize(
    "glob", ["kernel-ab*", "*1234", "kernel-ab?d*", "kernel-[ab]*", "kern*.json"]
)
def test_a_glob_is_the_one_kernel_whose_whole_name_it_matches(alive: Make, glob: str) -> None:
    info = alive("kernel-abcd1234")
    alive("other")
    assert find(glob) == info


def test_a_glob_is_not_looked_for_inside_a_name(alive: Make) -> None:
    alive("kernel-abcd1234")
    not_found("abcd*")


def test_a_glob_without_a_match_is_an_error(alive: Make) -> None:
    alive("kernel-abcd1234")
    not_found("kernel-x*")


def test_a_glob_that_matches_several_kernels_is_an_error_that_lists_them(alive: Make) -> None:
    alive("kernel-abcd1")
    alive("kernel-abcd2")
    with pytest.raises(AmbiguousKernel) as caught:
        find("kernel-*")
    assert caught.value.matches == ["kernel-abcd1", "kernel-abcd2"]


# Names that no kernel can have.


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param("x" * 300, id="longer than a file's name"),
        pytest.param("abcd\0", id="NUL"),
        pytest.param("abcd/\0", id="NUL in a path"),
        pytest.param("\ud800bcd", id="lone surrogate"),
        pytest.param("/\ud800bcd", id="lone surrogate in a path"),
        pytest.param("~nobody-of-that-name/kernel.json", id="home of an unknown user"),
        pytest.param("~nobody-of-that-name", id="an unknown user"),
        pytest.param("..", id="parent folder"),
        pytest.param("/", id="root folder"),
        pytest.param("[[[[", id="half a glob"),
    ],
)
def test_a_name_that_no_kernel_can_have_is_an_error_of_ours(folder: Path, wanted: str) -> None:
    with pytest.raises(KernelMagicsError):
        find(wanted)


# What runs here.


def test_what_runs_are_the_kernels_that_listen(
    folder: Path, alive: Make, alive_on_ipc: Make, dead: Make
) -> None:
    infos = [alive("kernel-1"), alive_on_ipc("kernel-2")]
    dead("kernel-3")
    broken(folder / "kernel-4.json")
    os.mkfifo(folder / "kernel-5.json")
    alive("jpserver-6")
    assert [found.info for found in running()] == infos


def test_what_runs_is_known_by_name_and_by_the_time_of_its_file(alive: Make) -> None:
    path = alive("kernel-1").path
    assert path is not None
    os.utime(path, (1000.0, 2000.0))
    [found] = running()
    assert (found.name, found.modified) == ("kernel-1", 2000.0)


def test_what_runs_may_be_looked_for_in_another_folder(
    folder: Path, alive: Make, tmp_path: Path
) -> None:
    path = alive("kernel-1").path
    assert path is not None
    moved = path.rename(tmp_path / "kernel-2.json")
    assert [found.info.path for found in running(tmp_path)] == [moved]
    assert list(running()) == []


def test_in_a_folder_that_does_not_exist_nothing_runs(tmp_path: Path) -> None:
    assert list(running(tmp_path / "missing")) == []


def test_a_file_that_vanishes_meanwhile_is_passed_over(
    alive: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = alive("kernel-1")
    assert info.path is not None

    def read_and_remove(path: Path, *, warn: bool) -> ConnectionInfo:
        path.unlink()
        return info

    monkeypatch.setattr(ConnectionInfo, "from_file", read_and_remove)
    assert list(running()) == []


def test_the_runtime_folder_is_that_of_jupyter(runtime_dir: Path) -> None:
    assert module.runtime_dir() == runtime_dir


@pytest.mark.parametrize("make", ["alive", "dead"])
def test_looking_at_what_runs_does_not_warn_of_what_others_can_read(
    request: pytest.FixtureRequest, make: str, recwarn: pytest.WarningsRecorder
) -> None:
    path = request.getfixturevalue(make)("kernel-1").path
    path.chmod(0o644)
    list(running())
    assert not recwarn.list


# Whether anybody listens.


def test_a_socket_that_listens_is_a_kernel_that_listens(alive: Make, alive_on_ipc: Make) -> None:
    assert listens(alive("kernel-1"))
    assert listens(alive_on_ipc("kernel-2"))


@pytest.mark.parametrize("ip", ["0.0.0.0", "*", "localhost"])
def test_a_kernel_on_every_interface_is_found_on_this_machine(alive: Make, ip: str) -> None:
    assert listens(alive("kernel-1", ip=ip))


def test_a_port_without_a_listener_is_not_a_kernel(dead: Make) -> None:
    assert not listens(dead("kernel-1"))


def test_a_socket_file_without_a_listener_is_not_a_kernel(
    folder: Path, sandbox: Sandbox, closing: ExitStack
) -> None:
    sock = closing.enter_context(socket.socket(socket.AF_UNIX))
    sock.bind(str(sandbox.work / "k-1"))
    assert not listens(write(folder / "k.json", transport="ipc", ip=str(sandbox.work / "k")))


def test_a_socket_file_that_is_missing_is_not_a_kernel(folder: Path, sandbox: Sandbox) -> None:
    assert not listens(write(folder / "k.json", transport="ipc", ip=str(sandbox.work / "k")))


def test_a_host_name_that_cannot_be_one_is_not_a_kernel(folder: Path) -> None:
    assert not listens(write(folder / "k.json", ip="x" * 100))


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_a_kernel_that_is_slow_to_accept_counts_as_one_that_listens(
    folder: Path, sandbox: Sandbox, closing: ExitStack, transport: str
) -> None:
    family = socket.AF_INET if transport == "tcp" else socket.AF_UNIX
    server = closing.enter_context(socket.socket(family))
    server.bind(("127.0.0.1", 0) if transport == "tcp" else str(sandbox.work / "k-1"))
    server.listen(0)
    for _ in range(4):  # more than may wait to be accepted
        client = closing.enter_context(socket.socket(family))
        client.setblocking(False)
        client.connect_ex(server.getsockname())
    where = (
        {"shell_port": server.getsockname()[1]}
        if transport == "tcp"
        else {"ip": str(sandbox.work / "k")}
    )
    assert listens(write(folder / "k.json", transport=transport, **where))
