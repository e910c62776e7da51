"""Values to and from R, JavaScript and bash: the table of ``docs/variables.md``, row by row."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel_magics.connect.launch import LaunchOptions
from kernel_magics.errors import TransferError
from kernel_magics.kernels.kernel import Kernel
from kernel_magics.kernels.pool import KernelPool
from tests.support import languages, parts
from tests.support.sandbox import Sandbox

LANGUAGES = ("ir", "jslab", "deno", "bash")


@pytest.fixture(scope="module")
def kernels(shared_sandbox: Sandbox) -> Generator[dict[str, Kernel]]:
    """A kernel of each language that is here."""
    started: dict[str, Kernel] = {}
    with pytest.MonkeyPatch.context() as patch, closing(KernelPool()) as pool:
        for name, value in shared_sandbox.variables.items():
            patch.setenv(name, value)
        patch.setattr(tempfile, "tempdir", str(shared_sandbox.temporary))
        for language in LANGUAGES:
            if parts.PARTS[language][0]():
                options = languages.kernelspec(language, shared_sandbox)
                started[language] = pool.start(LaunchOptions(**options), language)
        yield started


@pytest.fixture
def kernel(kernels: dict[str, Kernel], language: str) -> Kernel:
    parts.require(language)
    return kernels[language]


JAVASCRIPT: list[tuple[Any, str, Any]] = [
    # what is pushed, what it is there, what comes back
    (None, "v === null", None),
    (True, "v === true", True),
    (7, "v === 7", 7),
    (0.1, "v === 0.1", 0.1),
    ("a 'b' `c` ${d}\n\\ ü €", "typeof v === 'string'", "a 'b' `c` ${d}\n\\ ü €"),
    ([1, "a", None], "Array.isArray(v) && v.length === 3", [1, "a", None]),
    ({"a": {"b": []}}, "v.a.b.length === 0", {"a": {"b": []}}),
]

ROWS: list[tuple[str, Any, str, Any]] = [
    # language, and the same
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
    *[(language, *row) for language in ("jslab", "deno") for row in JAVASCRIPT],
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
        case "jslab" | "deno":
            return kernel.run(f"console.log({test})").stdout.strip() == "true"
    return kernel.run(f"{test} && echo yes").stdout.strip() == "yes"


@pytest.mark.full
@pytest.mark.parametrize(
    "language, value",
    [
        ("ir", float("nan")), ("ir", 2**60), ("ir", {1: 2}), ("ir", object()), ("ir", b"x"),
        ("jslab", float("inf")), ("jslab", 2**60), ("jslab", {None: 2}), ("jslab", {1, 2}),
        ("deno", float("nan")), ("deno", 2**60), ("deno", {None: 2}), ("deno", object()),
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
        ("deno", "", "1 / 0"), ("deno", "", "() => 1"), ("deno", "", "new Map([[1, 2]])"),
        ("deno", "", "[undefined]"), ("deno", "", "no_such_thing"), ("deno", "", "1n"),
        ("deno", "var me = []; me.push(me)", "me"),
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
    [("ir", "if"), ("ir", "1a"), ("jslab", "let"), ("deno", "a-b"), ("bash", "a.b")],
)
def test_a_name_that_no_variable_there_can_have_is_refused(kernel, language, name):
    with pytest.raises(TransferError, match="called so"):
        kernel.push({name: 1})


@pytest.mark.full
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_long_text_arrives_whole(kernel, language):
    text = "0123456789abcde\n" * (2_000 if language == "bash" else 20_000)

    kernel.push({"long_text": text})

    assert kernel.pull("long_text") == text


@pytest.mark.full
@pytest.mark.parametrize("language", LANGUAGES)
def test_expressions_come_as_well(kernel, language):
    kernel.push({"a": 20, "b": 22})

    total = "$((a + b))" if language == "bash" else "a + b"
    assert str(kernel.pull(total)) == "42"


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
@pytest.mark.parametrize("language", ["jslab", "deno"])
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
