"""Values to and from R, JavaScript and bash: the table of ``docs/variables.md``, row by row."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel_magics.connect.launch import LaunchOptions
from kernel_magics.errors import TransferError
from kernel_magics.kernels.kernel import Kernel
from kernel_magics.kernels.pool import KernelPool
from tests.support import parts
from tests.support.sandbox import Sandbox

COMMANDS: dict[str, Callable[[], list[str]]] = {
    "ir": lambda: ["R", "--slave", "-e", "IRkernel::main()", "--args", "{connection_file}"],
    "jslab": lambda: [str(parts.tslab()), "kernel", "--config-path", "{connection_file}", "--js"],
    "bash": lambda: [sys.executable, "-m", "bash_kernel", "-f", "{connection_file}"],
}


@pytest.fixture(scope="module")
def kernels(shared_sandbox: Sandbox) -> Generator[dict[str, Kernel]]:
    """A kernel of each language that is here."""
    started: dict[str, Kernel] = {}
    with pytest.MonkeyPatch.context() as patch, closing(KernelPool()) as pool:
        for name, value in shared_sandbox.variables.items():
            patch.setenv(name, value)
        patch.setattr(tempfile, "tempdir", str(shared_sandbox.temporary))
        data = shared_sandbox.jupyter["JUPYTER_DATA_DIR"]
        for part, command in COMMANDS.items():
            if not parts.PARTS[part][0]():
                continue
            folder = data / "kernels" / part
            folder.mkdir(parents=True, exist_ok=True)
            about = {"argv": command(), "display_name": part, "language": part}
            (folder / "kernel.json").write_text(json.dumps(about))
            tslab = parts.tslab()
            cwd = str(tslab.parents[2]) if part == "jslab" and tslab else None
            started[part] = pool.start(LaunchOptions(spec=part, cwd=cwd), part)
        yield started


@pytest.fixture
def kernel(kernels: dict[str, Kernel], language: str) -> Kernel:
    parts.require(language)
    return kernels[language]


ROWS: list[tuple[str, Any, str, Any]] = [
    # language, what is pushed, what it is there, what comes back
    ("ir", None, "is.null(v)", None),
    ("ir", True, "is.logical(v) && length(v) == 1", True),
    ("ir", 7, "is.integer(v)", 7),
    ("ir", 0.1, "is.double(v)", 0.1),
    ("ir", 2.0, "is.double(v)", 2.0),
    ("ir", 3_000_000_000, "is.double(v)", 3_000_000_000.0),
    ("ir", "a 'b' \"c\"\n\\ ü €\t", "is.character(v)", "a 'b' \"c\"\n\\ ü €\t"),
    ("ir", [1, 2.5], "is.double(v) && length(v) == 2", [1, 2.5]),
    ("ir", ["x", "y"], "is.character(v) && length(v) == 2", ["x", "y"]),
    ("ir", [5], "is.integer(v) && length(v) == 1", 5),
    ("ir", [1, "a", None], "is.list(v) && length(v) == 3", [1, "a", None]),
    ("ir", [], "is.list(v) && length(v) == 0", []),
    ("ir", {"a": 1, "b": [1, 2]}, "is.list(v) && v$b[2] == 2", {"a": 1, "b": [1, 2]}),
    ("ir", {}, "is.list(v) && length(v) == 0", {}),
    ("jslab", None, "v === null", None),
    ("jslab", True, "v === true", True),
    ("jslab", 7, "v === 7", 7),
    ("jslab", 0.1, "v === 0.1", 0.1),
    ("jslab", "a 'b' `c` ${d}\n\\ ü €", "typeof v === 'string'", "a 'b' `c` ${d}\n\\ ü €"),
    ("jslab", [1, "a", None], "Array.isArray(v) && v.length === 3", [1, "a", None]),
    ("jslab", {"a": {"b": []}}, "v.a.b.length === 0", {"a": {"b": []}}),
    ("bash", "a 'b' \"c\" $d `e`\n\\ ü\n\n", '[[ ${#v} -gt 5 ]]', "a 'b' \"c\" $d `e`\n\\ ü\n\n"),
    ("bash", "", "[[ -z $v ]]", ""),
    ("bash", 7, "[[ $v -eq 7 ]]", "7"),
    ("bash", 0.5, "[[ $v == 0.5 ]]", "0.5"),
    ("bash", True, "[[ $v == true ]]", "true"),
    ("bash", ["x y", "", "z\n"], "[[ ${#v[@]} -eq 3 && -z ${v[1]} ]]", ["x y", "", "z\n"]),
    ("bash", [], "[[ ${#v[@]} -eq 0 ]]", []),
    ("bash", {"a b": "1", "c": "]"}, "[[ ${v[a b]} -eq 1 ]]", {"a b": "1", "c": "]"}),
]  # fmt: skip


@pytest.mark.full
@pytest.mark.parametrize(
    "language, value, there, back", ROWS, ids=[f"{row[0]}-{row[1]!r:.12}" for row in ROWS]
)
def test_a_value_is_there_what_the_table_says_and_comes_back_as_it_says(
    kernel, language, value, there, back
):
    kernel.push({"v": value})

    assert is_so(kernel, language, there)
    found = kernel.pull("v")
    assert (found, type(found)) == (back, type(back))


def is_so(kernel: Kernel, language: str, test: str) -> bool:
    match language:
        case "ir":
            return kernel.run(f"cat({test})").stdout == "TRUE"
        case "jslab":
            return kernel.run(f"console.log({test})").stdout.strip() == "true"
    return kernel.run(f"{test} && echo yes").stdout.strip() == "yes"


@pytest.mark.full
@pytest.mark.parametrize(
    "language, value",
    [
        ("ir", float("nan")), ("ir", 2**60), ("ir", {1: 2}), ("ir", object()), ("ir", b"x"),
        ("jslab", float("inf")), ("jslab", 2**60), ("jslab", {None: 2}), ("jslab", {1, 2}),
        ("bash", None), ("bash", "a\0b"), ("bash", [[1]]), ("bash", {"": "x"}), ("bash", {1: "x"}),
    ],
)  # fmt: skip
def test_what_a_language_has_nothing_for_is_refused_and_nothing_is_set(kernel, language, value):
    with pytest.raises(TransferError) as caught:
        kernel.push({"fine": "1", "wrong": value})

    assert caught.value.value == "wrong"
    with pytest.raises(TransferError):
        kernel.pull("fine")


@pytest.mark.full
@pytest.mark.parametrize(
    "language, code, expression",
    [
        ("ir", "", "sum"), ("ir", "", "NaN"), ("ir", "", "no_such_thing"), ("ir", "", "1 +"),
        ("ir", "", "complex(1)"), ("ir", "", "globalenv()"),
        ("jslab", "", "1 / 0"), ("jslab", "", "() => 1"), ("jslab", "", "new Map([[1, 2]])"),
        ("jslab", "", "[undefined]"), ("jslab", "", "no_such_thing"), ("jslab", "", "undefined"),
        ("jslab", "var me = []; me.push(me)", "me"),
        ("bash", "", "no_such_thing"),
    ],
)  # fmt: skip
def test_what_json_has_nothing_for_does_not_come(kernel, language, code, expression):
    if code:
        kernel.pull("1")  # tslab aborts what follows an error too closely; a transfer waits
        kernel.run(code)

    with pytest.raises(TransferError) as caught:
        kernel.pull(expression)

    assert caught.value.value == expression
    kernel.push({"afterwards": "fine"})
    assert kernel.pull("afterwards") == "fine"


@pytest.mark.full
@pytest.mark.parametrize(
    "language, name",
    [("ir", "if"), ("ir", "1a"), ("jslab", "let"), ("jslab", "a-b"), ("bash", "a.b")],
)
def test_a_name_that_no_variable_there_can_have_is_refused(kernel, language, name):
    with pytest.raises(TransferError, match="called so"):
        kernel.push({name: 1})


@pytest.mark.full
@pytest.mark.parametrize("language", ["ir", "jslab", "bash"])
def test_a_long_text_arrives_whole(kernel, language):
    text = "0123456789abcde\n" * (2_000 if language == "bash" else 20_000)

    kernel.push({"long_text": text})

    assert kernel.pull("long_text") == text


@pytest.mark.full
@pytest.mark.parametrize("language", ["ir", "jslab", "bash"])
def test_expressions_come_as_well(kernel, language):
    kernel.push({"a": 20, "b": 22})

    sums = {"ir": "a + b", "jslab": "a + b", "bash": "$((a + b))"}
    assert str(kernel.pull(sums[language])) == "42"


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | FLOATS | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
FEW = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.full
@pytest.mark.parametrize("language", ["jslab"])
@FEW
@given(value=VALUES)
def test_json_goes_to_javascript_and_back(kernel, language, value):
    kernel.push({"v": value})

    assert kernel.pull("v") == value


@pytest.mark.full
@pytest.mark.parametrize("language", ["ir"])
@FEW
@given(value=st.lists(SCALARS.filter(lambda one: one is not None), min_size=2, max_size=5))
def test_lists_go_to_r_and_back(kernel, language, value):
    kernel.push({"v": value})

    assert kernel.pull("v") == value


@pytest.mark.full
@pytest.mark.parametrize("language", ["bash"])
@FEW
@given(
    value=st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9),
        max_size=4,
    )
)
def test_texts_go_to_bash_and_back(kernel, language, value):
    kernel.push({"v": value})

    assert kernel.pull("v") == value
