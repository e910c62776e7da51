"""Values to and from JavaScript and TypeScript, as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from .text import TextLanguage

RESERVED = frozenset(
    [
        "await",
        "break",
        "case",
        "catch",
        "class",
        "const",
        "continue",
        "debugger",
        "default",
        "delete",
        "do",
        "else",
        "enum",
        "export",
        "extends",
        "false",
        "finally",
        "for",
        "function",
        "if",
        "implements",
        "import",
        "in",
        "instanceof",
        "interface",
        "let",
        "new",
        "null",
        "package",
        "private",
        "protected",
        "public",
        "return",
        "static",
        "super",
        "switch",
        "this",
        "throw",
        "true",
        "try",
        "typeof",
        "var",
        "void",
        "while",
        "with",
        "yield",
    ]
)

# What JSON.stringify would leave out or change without a word.
CHECK = """
  const check = function (key, value) {
    const kept = this[key];
    if (typeof kept === "number" && !Number.isFinite(kept))
      throw new Error(kept + " has no form in JSON");
    if (["undefined", "function", "symbol", "bigint"].includes(typeof kept))
      throw new Error("a value of type " + typeof kept + " has no form in JSON");
    if (kept !== null && typeof kept === "object" && !Array.isArray(kept) && !kept.toJSON) {
      const about = Object.getPrototypeOf(kept);
      if (about !== null && Object.getPrototypeOf(about) !== null)
        throw new Error("a " + (kept.constructor || {}).name + " has no form in JSON");
    }
    return value;
  };
"""


class JavaScript(TextLanguage):
    """See :class:`.text.TextLanguage`."""

    name = "JavaScript"
    names = re.compile(r"[A-Za-z_$][\w$]*", re.ASCII)

    def is_name(self, name: str) -> bool:
        """Whether it is an identifier and no keyword."""
        return super().is_name(name) and name not in RESERVED

    def begin(self) -> str:
        """Keep the pieces where `let` and `var` do not reach."""
        return 'Reflect.set(globalThis, "__kernel_magics", {});'

    def add(self, number: int, piece: str) -> str:
        """Add to a text."""
        return (
            '(() => { const e = Reflect.get(globalThis, "__kernel_magics"); '
            f'e.v{number} = (e.v{number} || "") + "{piece}"; }})();'
        )

    def finish(self, values: Sequence[tuple[str, int, bytes]]) -> str:
        """Make all of them and only then declare the names, in one destructuring."""
        made = ", ".join(
            f"{json.dumps(name)}: make(e.v{number}, {size})"
            for number, (name, size, _) in enumerate(values)
        )
        names = ", ".join(name for name, _, _ in values)
        return (
            f"var {{ {names} }} = (() => {{\n"
            '  const e = Reflect.get(globalThis, "__kernel_magics");\n'
            "  const make = (text, size) => {\n"
            '    if ((text || "").length !== size) throw new Error("pieces of it never came");\n'
            "    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));\n"
            "    return JSON.parse(new TextDecoder().decode(bytes));\n"
            "  };\n"
            f"  const made = {{ {made} }};\n"
            '  Reflect.deleteProperty(globalThis, "__kernel_magics");\n'
            "  return made;\n"
            "})();"
        )

    def show(self, expression: str, mark: str) -> str:
        """Print it, refusing what JSON does not have."""
        return (
            f"(() => {{{CHECK}"
            f"  const text = JSON.stringify(({expression}\n), check);\n"
            "  const bytes = new TextEncoder().encode(text);\n"
            '  let chars = "";\n'
            "  for (let at = 0; at < bytes.length; at += 8192)\n"
            "    chars += String.fromCharCode(...bytes.subarray(at, at + 8192));\n"
            f'  console.log("<{mark}>" + btoa(chars) + "</{mark}>");\n'
            "})();"
        )
