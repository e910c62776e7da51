"""A connection file comes from anybody who can write to a folder, so it is read like an upload."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import stat
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel_magics.connect.info import (
    PORTS,
    SIZE_LIMIT,
    ConnectionInfo,
)
from kernel_magics.errors import ConnectionFileError
from kernel_magics.protocol.secret import HIDDEN, Secret
from tests.support.connection import write_info

CANARY = "canary-7f3a"
"""The key in these files: wherever this word can be read, a key leaks."""

AT_ONCE = 5.0
"""Seconds, on a machine that may be very busy; an answer about any file takes milliseconds."""

MISSING = object()

# A busy machine may take long over a single example.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

on_posix = pytest.mark.skipif(os.name != "posix", reason="modes and FIFOs of POSIX")


def entries(**changes: Any) -> dict[str, Any]:
    """What a good connection file holds, with changes; MISSING takes an entry away."""
    values = {
        "transport": "tcp",
        "ip": "127.0.0.1",
        **dict(zip(PORTS, range(50001, 50006), strict=True)),
        "key": CANARY,
        "signature_scheme": "hmac-sha256",
        "kernel_name": "python3",
        **changes,
    }
    return {name: value for name, value in values.items() if value is not MISSING}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kernel-1.json"


def error_of(path: Path) -> ConnectionFileError:
    """The error of reading this file, which has to come at once."""
    begin = time.monotonic()
    with pytest.raises(ConnectionFileError) as caught:
        ConnectionInfo.from_file(path)
    assert time.monotonic() - begin < AT_ONCE
    return caught.value


# What a good file says.


def test_a_good_file_is_read(path: Path) -> None:
    write_info(path, entries())
    info = ConnectionInfo.from_file(path)
    assert (info.transport, info.ip, info.kernel_name) == ("tcp", "127.0.0.1", "python3")
    assert [getattr(info, port) for port in PORTS] == [50001, 50002, 50003, 50004, 50005]
    assert (info.key, info.path) == (Secret(CANARY.encode()), path)


@pytest.mark.parametrize("form", [str, Path])
def test_a_relative_path_becomes_absolute(
    path: Path, form: Callable[[str], str | Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_info(path, entries())
    monkeypatch.chdir(path.parent)
    assert ConnectionInfo.from_file(form(path.name)).path == path


@pytest.mark.parametrize(
    "name, value",
    [("transport", "tcp"), ("signature_scheme", "hmac-sha256"), ("kernel_name", "")],
)
def test_what_old_files_lack_has_its_usual_value(name: str, value: str) -> None:
    assert getattr(ConnectionInfo.from_dict(entries(**{name: MISSING})), name) == value


def test_unknown_entries_are_passed_over() -> None:
    assert ConnectionInfo.from_dict(entries(colour="x")) == ConnectionInfo.from_dict(entries())


@pytest.mark.parametrize("scheme", ["hmac-sha256", "hmac-sha384", "hmac-sha512"])
def test_the_known_signature_schemes_are_taken(scheme: str) -> None:
    info = ConnectionInfo.from_dict(entries(signature_scheme=scheme))
    assert info.signature_scheme == scheme


@pytest.mark.parametrize("port", [1, 65535])
def test_the_outermost_ports_are_taken(port: int) -> None:
    assert ConnectionInfo.from_dict(entries(hb_port=port)).hb_port == port


# Files that cannot be used as a whole.


def make_fifo(path: Path) -> None:
    os.mkfifo(path, 0o600)


def make_big(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(50 * 2**20)
    path.chmod(0o600)


def make_loop(path: Path) -> None:
    path.symlink_to(path)


def containing(content: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.touch(0o600)
        path.write_bytes(content)

    return make


def nothing(path: Path) -> None:
    pass


GOOD = json.dumps(entries()).encode()

UNUSABLE = [
    pytest.param(nothing, "no such file", id="missing"),
    pytest.param(containing(b""), "empty", id="empty"),
    pytest.param(containing(b" \n"), "empty", id="blank"),
    pytest.param(containing(GOOD[:-20]), "half written", id="truncated"),
    pytest.param(containing(GOOD + b"x"), "not JSON", id="more behind the end"),
    pytest.param(containing(json.dumps([entries()]).encode()), "dictionary", id="a list"),
    pytest.param(containing(json.dumps(CANARY).encode()), "dictionary", id="a text"),
    pytest.param(containing(b"null"), "dictionary", id="null"),
    pytest.param(containing(bytes(range(256))), "not JSON", id="binary"),
    pytest.param(containing(b"\xff\xfe" + GOOD), "not JSON", id="no UTF-8"),
    pytest.param(containing(b'{"a":' * 10_000), "nested", id="deep"),
    pytest.param(containing(b'{"hb_port": %s}' % (b"1" * 5000)), "not JSON", id="huge integer"),
    pytest.param(containing(GOOD + b" " * SIZE_LIMIT), "larger than 64 KiB", id="too large"),
    pytest.param(make_big, "larger than 64 KiB", id="50 MB"),
    pytest.param(Path.mkdir, "regular file", id="folder"),
    pytest.param(make_fifo, "regular file", id="FIFO", marks=on_posix),
    pytest.param(make_loop, "symbolic links", id="a link to itself", marks=on_posix),
]


@pytest.mark.parametrize("make, reason", UNUSABLE)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(
    path: Path, make: Callable[[Path], None], reason: str
) -> None:
    make(path)
    error = error_of(path)
    assert (error.path, error.field) == (str(path), None)
    assert reason in error.reason
    assert str(error) == f"{path}: {error.reason}"


@pytest.mark.parametrize("make, reason", UNUSABLE)
def test_reading_a_file_that_cannot_be_used_leaves_nothing_open(
    path: Path, make: Callable[[Path], None], reason: str
) -> None:
    make(path)
    before = len(os.listdir("/dev/fd"))  # noqa: PTH208 - numbers
    error_of(path)
    assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208 - numbers


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero"])
@on_posix
def test_a_device_is_no_connection_file(device: str) -> None:
    assert error_of(Path(device)).reason == "is not a regular file"


@pytest.mark.skipif(sys.platform != "linux", reason="a file that opens and cannot be read")
def test_a_file_that_opens_but_cannot_be_read_is_named() -> None:
    error = error_of(Path("/proc/self/mem"))
    assert (error.path, error.reason) == ("/proc/self/mem", "input/output error")


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 5000], ids=["NUL", "surrogate", "long"])
def test_a_path_that_no_file_can_have_is_a_file_that_cannot_be_used(
    tmp_path: Path, name: str
) -> None:
    error_of(tmp_path / name)


@on_posix
def test_a_file_that_everybody_can_write_proves_nothing(path: Path) -> None:
    write_info(path, entries())
    path.chmod(0o602)
    assert "written by every user" in error_of(path).reason


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
@on_posix
def test_a_file_that_others_can_read_is_used_with_a_warning(path: Path, mode: int) -> None:
    write_info(path, entries())
    path.chmod(mode)
    with pytest.warns(UserWarning, match=f"{path.name} can be read by other users.*chmod 600"):
        info = ConnectionInfo.from_file(path)
    assert info.ip == "127.0.0.1"


@on_posix
def test_the_warning_points_to_the_line_that_read_the_file(path: Path) -> None:
    write_info(path, entries())
    path.chmod(0o644)
    with pytest.warns(UserWarning, match="can be read") as caught:
        ConnectionInfo.from_file(path)
    assert [warning.filename for warning in caught] == [__file__]


def test_a_private_file_is_read_without_a_warning(
    path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    write_info(path, entries())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    ConnectionInfo.from_file(path)
    assert not recwarn.list


# Entries that cannot be what they are.


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


CURVE_PUBLIC, CURVE_SECRET = (key.decode() for key in zmq.curve_keypair())

BAD_PORTS = ["50001", "", True, 0, -1, 65536, 10**30, 50001.0, 1e400, None, MISSING, [1], {}]
BAD_KEYS = ["", None, MISSING, 7, [CANARY], {"key": CANARY}, True]
BAD_SCHEMES = ["hmac-md5", "hmac-sha1", "sha256", "", None, 256, ["hmac-sha256"], "hmac-sha256 "]
BAD_TRANSPORTS = ["udp", "TCP", "", None, 1, ["tcp"], "inproc", "tcp://"]
BAD_ADDRESSES = [
    "",
    None,
    MISSING,
    127,
    ["127.0.0.1"],
    " 127.0.0.1",
    "127.0.0.1 ",
    "127.0.0.1\n",
    "a host",
    "tcp://127.0.0.1",
    "127.0.0.1;127.0.0.2",
    "127.0.0.1/",
    "user@host",
    "-oProxyCommand=x",
    "-A",
    "$(reboot)",
    "`reboot`",
    "%",
    "...",
    "127.0.0.1\0",
    "höst",
    "\uff11.0.0.1",  # a full-width 1
    "\ud800",
    "x" * 254,
]
BAD_SOCKETS = ["", None, MISSING, 5, "/tmp/a\0b", "/tmp/" + "x" * 104, "/tmp/" + "é" * 60, "\ud800"]
BAD_CURVE_KEYS = ["", 7, "x" * 39, "x" * 41, "é" * 40, "x" * 39 + "\n", "~" * 40, "'" * 40]

BAD_ENTRIES = [
    *({port: value} for port in ("shell_port", "hb_port") for value in BAD_PORTS),
    *({"key": value} for value in BAD_KEYS),
    *({"signature_scheme": value} for value in BAD_SCHEMES),
    *({"transport": value} for value in BAD_TRANSPORTS),
    *({"ip": value} for value in BAD_ADDRESSES),
    *({"ip": value, "transport": "ipc"} for value in BAD_SOCKETS),
    *({"curve_publickey": value, "curve_secretkey": CURVE_SECRET} for value in BAD_CURVE_KEYS),
    *({"curve_secretkey": value, "curve_publickey": CURVE_PUBLIC} for value in BAD_CURVE_KEYS),
]


def name_of(changes: dict[str, Any]) -> str:
    (field, value), *_ = changes.items()
    shown = "missing" if value is MISSING else ascii(value)
    return f"{changes.get('transport', '')} {field}={shown[:30]}".strip()


@pytest.mark.parametrize("changes", BAD_ENTRIES, ids=name_of)
def test_a_bad_entry_is_named_with_file_field_and_reason(
    path: Path, changes: dict[str, Any]
) -> None:
    write_info(path, entries(**changes))
    error = error_of(path)
    assert (error.path, error.field) == (str(path), next(iter(changes)))
    assert str(error) == f"{path}: {error.field}: {error.reason}"
    assert error.reason.startswith("is ")


@pytest.mark.parametrize("port", [name for name in PORTS if name != "shell_port"])
def test_two_channels_cannot_share_a_port(path: Path, port: str) -> None:
    write_info(path, entries(**{port: 50001}))
    assert (error_of(path).field, error_of(path).reason) == (
        port,
        "is the same as shell_port (50001)",
    )


@pytest.mark.parametrize("half", ["curve_publickey", "curve_secretkey"])
def test_half_a_pair_of_curve_keys_is_an_error(path: Path, half: str) -> None:
    write_info(path, entries(**{half: CURVE_PUBLIC}))
    assert "without" in error_of(path).reason


@pytest.mark.parametrize("field", ["shell_port", "ip", "transport", "key", "curve_publickey"])
def test_an_entry_nested_to_any_depth_is_a_bad_one(path: Path, field: str) -> None:
    # Close to the interpreter's limit reading it may still succeed, and showing it fail.
    for depth in range(880, 1000, 3):
        content = json.dumps(entries(**{field: "NESTED"}))
        containing(content.replace('"NESTED"', "[" * depth + "]" * depth).encode())(path)
        path.chmod(0o600)
        error_of(path)


@pytest.mark.parametrize(
    "value", [10**5000, nested(5000), float("nan")], ids=["huge", "deep", "nan"]
)
def test_a_dictionary_made_by_hand_is_checked_alike(value: object) -> None:
    with pytest.raises(ConnectionFileError, match="connection info: hb_port"):
        ConnectionInfo.from_dict(entries(hb_port=value))


def test_a_long_value_is_shown_in_part() -> None:
    with pytest.raises(ConnectionFileError) as caught:
        ConnectionInfo.from_dict(entries(ip="x" * 10_000))
    assert len(str(caught.value)) < 200


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


FIELDS = sorted(entries(curve_publickey="", curve_secretkey=""))


@given(st.dictionaries(st.sampled_from(FIELDS), ANYTHING, min_size=1))
@patient
def test_any_entries_are_a_connection_or_one_error(changes: dict[str, Any]) -> None:
    try:
        ConnectionInfo.from_dict(entries(**changes))
    except ConnectionFileError as error:
        field = error.field
    else:
        return
    assert field in changes


# The key is seen only by who asks for it.


def curve_info() -> ConnectionInfo:
    return ConnectionInfo.from_dict(
        entries(curve_publickey=CURVE_PUBLIC, curve_secretkey=CURVE_SECRET)
    )


def logged(info: ConnectionInfo) -> str:
    record = logging.LogRecord("name", logging.INFO, "path", 1, "%s %r", (info, info.key), None)
    return logging.Formatter().format(record)


@pytest.mark.parametrize(
    "show",
    [
        pytest.param(repr, id="repr"),
        pytest.param(str, id="str"),
        pytest.param("{}".format, id="format"),
        pytest.param(logged, id="log"),
        pytest.param(lambda info: repr(vars(info)), id="vars"),
        pytest.param(lambda info: repr(dataclasses.asdict(info)), id="asdict"),
        pytest.param(lambda info: repr(dataclasses.astuple(info)), id="astuple"),
        pytest.param(lambda info: repr(dataclasses.replace(info, ip="::1")), id="replace"),
        pytest.param(lambda info: repr(info.as_dict()), id="as_dict"),
        pytest.param(lambda info: json.dumps(info.as_dict()), id="as JSON"),
        pytest.param(lambda info: repr(info.endpoints()), id="endpoints"),
        pytest.param(lambda info: f"{info.key} {info.key!r} {info.curve_secretkey}", id="key"),
    ],
)
@pytest.mark.parametrize(
    "secret", [CANARY, CURVE_SECRET, CURVE_PUBLIC], ids=["key", "secret", "public"]
)
def test_no_way_of_showing_an_info_shows_a_key(
    show: Callable[[ConnectionInfo], str], secret: str
) -> None:
    assert secret not in show(curve_info())


def test_a_secret_says_that_it_is_hidden() -> None:
    assert f"{Secret(b'x')}" == HIDDEN


def shown_by_reading(path: Path) -> str:
    """All that a user or a log could see of it, whatever comes."""
    try:
        return repr(ConnectionInfo.from_file(path))
    except Exception as error:
        lines = traceback.format_exception(error)
        return "\n".join([str(error), repr(error), repr(vars(error)), *lines])


@pytest.mark.parametrize("changes", BAD_ENTRIES, ids=name_of)
def test_reading_a_bad_entry_does_not_show_the_key(path: Path, changes: dict[str, Any]) -> None:
    write_info(path, entries(**changes))
    assert CANARY not in shown_by_reading(path)


@pytest.mark.parametrize("make, reason", UNUSABLE)
def test_reading_a_file_that_cannot_be_used_does_not_show_the_key(
    path: Path, make: Callable[[Path], None], reason: str
) -> None:
    make(path)
    assert CANARY not in shown_by_reading(path)


@on_posix
def test_no_warning_shows_the_key(path: Path) -> None:
    write_info(path, entries())
    path.chmod(0o644)
    with pytest.warns(UserWarning, match="can be read") as caught:
        ConnectionInfo.from_file(path)
    assert CANARY not in str(caught[0].message)


def test_the_key_is_there_for_who_asks() -> None:
    assert curve_info().key.reveal() == CANARY.encode()


def test_secrets_are_equal_by_value() -> None:
    assert len({Secret(b"x"), Secret(b"x"), Secret(b"y")}) == 2


def test_a_secret_is_not_equal_to_its_bytes() -> None:
    assert Secret(b"x") != b"x"


# Where it leads.


@pytest.mark.parametrize(
    "changes, url",
    [
        pytest.param({"ip": "10.1.2.3"}, "tcp://10.1.2.3:50001", id="IPv4"),
        pytest.param({"ip": "gpu-1.lab"}, "tcp://gpu-1.lab:50001", id="a name"),
        pytest.param({"ip": "::1"}, "tcp://[::1]:50001", id="IPv6"),
        pytest.param({"ip": "fe80::1%eth0"}, "tcp://[fe80::1%eth0]:50001", id="IPv6 with a zone"),
        pytest.param({"ip": "0.0.0.0"}, "tcp://127.0.0.1:50001", id="every interface"),
        pytest.param({"ip": "*"}, "tcp://127.0.0.1:50001", id="every interface in zmq's words"),
        pytest.param({"ip": "/tmp/k", "transport": "ipc"}, "ipc:///tmp/k-50001", id="ipc"),
        pytest.param({"ip": "kernel-ipc", "transport": "ipc"}, "ipc://kernel-ipc-50001", id="near"),
    ],
)
def test_a_channel_has_the_address_that_zmq_wants(changes: dict[str, Any], url: str) -> None:
    assert ConnectionInfo.from_dict(entries(**changes)).url("shell_port") == url


def test_the_endpoints_are_the_channels_that_are_used() -> None:
    endpoints = ConnectionInfo.from_dict(entries()).endpoints()
    assert endpoints.urls == {
        "shell": "tcp://127.0.0.1:50001",
        "iopub": "tcp://127.0.0.1:50002",
        "stdin": "tcp://127.0.0.1:50003",
        "control": "tcp://127.0.0.1:50004",
    }


def test_without_curve_keys_the_endpoints_are_plain() -> None:
    endpoints = ConnectionInfo.from_dict(entries()).endpoints()
    assert (endpoints.curve_server_key, endpoints.curve_keys) == (None, None)


def test_with_curve_keys_the_endpoints_have_them() -> None:
    endpoints = curve_info().endpoints()
    assert endpoints.curve_server_key == Secret(CURVE_PUBLIC.encode())
    assert endpoints.curve_keys == (Secret(CURVE_PUBLIC.encode()), Secret(CURVE_SECRET.encode()))


def test_a_kernel_is_named_as_its_file(path: Path) -> None:
    assert ConnectionInfo.from_dict(entries(), path).name == "kernel-1"


def test_a_kernel_without_a_file_is_named_as_its_address() -> None:
    assert ConnectionInfo.from_dict(entries()).name == "tcp://127.0.0.1:50001"


# As a connection file again.


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="tcp"),
        pytest.param({"transport": "ipc", "ip": "/tmp/k"}, id="ipc"),
        pytest.param(
            {"curve_publickey": CURVE_PUBLIC, "curve_secretkey": CURVE_SECRET}, id="curve"
        ),
    ],
)
def test_the_entries_with_the_key_are_those_that_came(changes: dict[str, Any]) -> None:
    assert ConnectionInfo.from_dict(entries(**changes)).as_dict(show_key=True) == entries(**changes)


@given(st.text(min_size=1))
@patient
def test_a_key_of_any_text_comes_back(key: str) -> None:
    assert ConnectionInfo.from_dict(entries(key=key)).as_dict(show_key=True)["key"] == key


@pytest.mark.parametrize("field", ["key", "curve_publickey", "curve_secretkey"])
def test_the_entries_without_the_key_say_that_it_is_hidden(field: str) -> None:
    assert curve_info().as_dict()[field] == HIDDEN


def test_the_entries_without_the_key_cannot_pass_for_a_connection_file() -> None:
    with pytest.raises(ConnectionFileError):
        ConnectionInfo.from_dict(curve_info().as_dict())


# One kernel or two.


@pytest.mark.parametrize(
    "changes, same",
    [
        pytest.param({}, True, id="the same"),
        pytest.param({"ip": "10.0.0.1"}, True, id="by another address"),
        pytest.param({"key": "other"}, False, id="another key"),
        pytest.param({"shell_port": 1}, False, id="another port"),
    ],
)
def test_two_files_lead_to_one_kernel_if_key_and_port_agree(
    changes: dict[str, Any], same: bool
) -> None:
    here, there = ConnectionInfo.from_dict(entries()), ConnectionInfo.from_dict(entries(**changes))
    assert here.is_same_kernel(there) is same


def test_a_fingerprint_tells_kernels_apart() -> None:
    keys = ("one", "two", "one")
    prints = [ConnectionInfo.from_dict(entries(key=key)).fingerprint for key in keys]
    assert len(set(prints)) == 2
    assert prints[0] == prints[2]


def test_a_fingerprint_does_not_show_the_key() -> None:
    assert CANARY not in curve_info().fingerprint


def test_infos_of_two_files_with_the_same_entries_are_equal(path: Path) -> None:
    assert ConnectionInfo.from_dict(entries()) == ConnectionInfo.from_dict(entries(), path)


def test_an_info_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        curve_info().ip = "10.0.0.1"  # type: ignore[misc]
