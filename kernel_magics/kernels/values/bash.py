"""Values to and from bash 4.4 or later: texts, arrays of texts, and arrays of them by text.

A value is a letter and its texts, each with a NUL behind it, which no text of bash can hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .packing import CannotPack
from .text import TextLanguage

STRING, ARRAY, BY_NAME = b"s", b"a", b"d"


class Bash(TextLanguage):
    """See :class:`.text.TextLanguage`."""

    name = "bash"
    names = re.compile(r"[A-Za-z_]\w*", re.ASCII)
    piece = 3000
    """bash_kernel types it into a terminal, which takes 4096 characters of a line."""

    def encode(self, value: Any) -> bytes:
        """A scalar as its text; a list and a dictionary of scalars as arrays."""
        if type(value) in (list, tuple):
            return ARRAY + b"".join(map(_text, value))
        if type(value) is dict:
            if "" in value:
                raise CannotPack("bash takes no empty key")
            pairs = (part for key, each in value.items() for part in (_key(key), each))
            return BY_NAME + b"".join(map(_text, pairs))
        return STRING + _text(value)

    def decode(self, data: bytes) -> Any:
        """Return a str, a list of str or a dict of str."""
        kind, body = data[:1], data[1:]
        if body and not body.endswith(b"\0"):
            raise ValueError("it was cut off")
        texts = [each.decode("utf-8", "surrogateescape") for each in body.split(b"\0")[:-1]]
        if kind == STRING and len(texts) == 1:
            return texts[0]
        if kind == ARRAY:
            return texts
        if kind == BY_NAME and len(texts) % 2 == 0:
            return dict(zip(texts[::2], texts[1::2], strict=True))
        raise ValueError("it is neither a text nor an array")

    def begin(self) -> str:
        """Forget the pieces."""
        return "unset ${!__km_@}"

    def add(self, number: int, piece: str) -> str:
        """Add to a text."""
        return f"__km_{number}+={piece}"

    def finish(self, values: Sequence[tuple[str, int, bytes]]) -> str:
        """Look at all of them before the first is set; as one line, for one exit status."""
        tests = [f"[[ ${{#__km_{n}}} -eq {size} ]]" for n, (_, size, _) in enumerate(values)]
        tests += [f"[[ ${{{name}@a}} != *r* ]]" for name, _, _ in values]
        steps = "; ".join(_set(number, name, data) for number, (name, _, data) in enumerate(values))
        return f"if {' && '.join(tests)}; then {steps}; unset ${{!__km_@}}; else false; fi"

    def show(self, expression: str, mark: str) -> str:
        """A name is shown as what it is, anything else as the text that it expands to."""
        base64 = "base64 | tr -d '\\n'"
        if not self.is_name(expression):
            told = f"printf 's%s\\0' \"{expression}\""
        else:
            name = expression
            told = (
                f"read -r _ __km_f _ < <(declare -p {name}); case $__km_f in "
                f'*A*) printf d; for __km_k in "${{!{name}[@]}}"; do '
                f'printf \'%s\\0%s\\0\' "$__km_k" "${{{name}[$__km_k]}}"; done;; '
                f"*a*) printf a; [[ ${{#{name}[@]}} -eq 0 ]] || "
                f"printf '%s\\0' \"${{{name}[@]}}\";; "
                f"*) printf 's%s\\0' \"${name}\";; esac"
            )
        known = f"declare -p {expression} >/dev/null && " if self.is_name(expression) else ""
        return f"{known}{{ printf '<{mark}>'; {{ {told}; }} | {base64}; printf '</{mark}>\\n'; }}"


def _set(number: int, name: str, data: bytes) -> str:
    fill = f"mapfile -d '' -t __km_v < <(printf %s \"$__km_{number}\" | base64 -d | tail -c +2)"
    if data[:1] == STRING:
        return f'{fill}; unset -v {name}; {name}="${{__km_v[0]}}"'
    if data[:1] == ARRAY:
        return f'{fill}; unset -v {name}; declare -ga {name}=("${{__km_v[@]}}")'
    return (
        f"{fill}; unset -v {name}; declare -gA {name}=(); "
        "for ((__km_i = 0; __km_i < ${#__km_v[@]}; __km_i += 2)); do "
        f'{name}["${{__km_v[__km_i]}}"]="${{__km_v[__km_i + 1]}}"; done'
    )


def _key(key: object) -> str:
    if type(key) is not str:
        raise CannotPack(f"its key {key!r:.60} is no text")
    return key


def _text(value: object) -> bytes:
    if type(value) is bool:
        value = "true" if value else "false"
    elif type(value) in (int, float):
        value = repr(value)
    if type(value) is not str:
        raise CannotPack(f"bash has nothing like a {type(value).__name__}")
    data = value.encode("utf-8", "surrogateescape")
    if b"\0" in data:
        raise CannotPack("bash holds no NUL in a text")
    return data + b"\0"
