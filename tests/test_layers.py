"""Which module may import what: imports point down only, and each library has its layer.

The layers and their order are those of ``docs/design.md``. Imports count wherever they stand:
at the top, inside a function, or (but for the package's own ``__init__``) for types only.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "kernel_magics"

# From the ground up; each with the libraries that it may import besides the standard one.
LAYERS: dict[str, frozenset[str]] = {
    "errors": frozenset(),
    "protocol": frozenset(),
    "wire": frozenset({"zmq", "websockets"}),
    "connect": frozenset({"jupyter_client", "jupyter_core", "psutil"}),
    "kernels": frozenset(),
    "api": frozenset(),
    "frontend": frozenset({"IPython", "comm", "ipykernel", "traitlets", "zmq"}),
}
ORDER = list(LAYERS)
# In `kernel_magics/__init__.py` these functions run only inside IPython.
EXTENSION_HOOKS = {"load_ipython_extension", "unload_ipython_extension"}
# Slow to import, and of no use to somebody who only wants to catch an error.
NOT_AT_ONCE = ["IPython", "ipykernel", "jupyter_client", "zmq"]
# Where a library is installed under another name than it is imported by.
DISTRIBUTIONS = {"zmq": "pyzmq"}


@dataclass(frozen=True)
class Import:
    """One imported name, absolute and dotted."""

    target: str
    line: int
    function: str | None = None  # the outermost function it stands in
    for_types: bool = False  # under `if TYPE_CHECKING`: never executed


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


SOURCES = {module_name(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}


def layer_of(module: str) -> str | None:
    """``errors`` for ``kernel_magics.errors``; None for the package itself, above all layers."""
    return module.split(".")[1] if "." in module else None


def imports_of(module: str, source: str, *, is_package: bool) -> list[Import]:
    """Every import in ``source``, relative ones made absolute."""
    package = module if is_package else module.rpartition(".")[0]

    def targets(node: ast.AST) -> Iterator[str]:
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield alias.name
            case ast.ImportFrom(module=name, names=names, level=level):
                base = name or ""
                if level:
                    above = package.rsplit(".", level - 1)[0]
                    base = f"{above}.{name}" if name else above
                for alias in names:
                    # `from kernel_magics import wire` imports a layer, by a longer way.
                    yield f"{base}.{alias.name}" if base == PACKAGE else base
            case ast.Call(
                func=ast.Name(id="__import__" | "import_module")
                | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield f"{package}{name}" if name.startswith(".") else name

    def walk(node: ast.AST, here: Import) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            inside = replace(here, line=getattr(child, "lineno", here.line))
            for target in targets(child):
                yield replace(inside, target=target)
            match child:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    inside = replace(inside, function=here.function or name)
                case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=[]):
                    inside = replace(inside, for_types=True)
            yield from walk(child, inside)

    return list(walk(ast.parse(source), Import("", 1)))


def offence(module: str, found: Import) -> str | None:
    """What is wrong with ``module`` importing this, or None."""
    layer, root = layer_of(module), found.target.partition(".")[0]
    if layer is None:
        if found.function in EXTENSION_HOOKS or found.for_types:
            return None
        if root == PACKAGE and layer_of(found.target) == "frontend":
            return "frontend is imported only when the extension is loaded"
        if root == PACKAGE or root in sys.stdlib_module_names:
            return None
        return f"the package itself must not import {root}"
    if layer not in LAYERS:
        return f"{layer} is no layer: {', '.join(ORDER)}"
    if root == PACKAGE:
        target = layer_of(found.target)
        if target is None or target not in LAYERS:
            return f"{layer} imports the package, which is above it"
        if ORDER.index(target) > ORDER.index(layer):
            return f"{layer} imports {target}, which is above it"
        return None
    if root in sys.stdlib_module_names or root in LAYERS[layer]:
        return None
    return f"{layer} must not import {root}"


def imports_in_file(module: str) -> list[Import]:
    path = SOURCES[module]
    return imports_of(module, path.read_text("utf-8"), is_package=path.stem == "__init__")


def offences(module: str, imports: list[Import]) -> list[str]:
    return [f"line {one.line}: {problem}" for one in imports if (problem := offence(module, one))]


def test_the_modules_are_found():
    assert {PACKAGE, f"{PACKAGE}.errors", f"{PACKAGE}.protocol"} <= SOURCES.keys()
    assert {layer_of(module) for module in SOURCES} == {None, *LAYERS}


@pytest.mark.parametrize("module", SOURCES)
def test_a_module_imports_only_what_its_layer_may(module):
    assert offences(module, imports_in_file(module)) == []


@pytest.mark.parametrize(
    "module, source",
    [
        ("errors", "import zmq"),
        ("errors", "from .protocol import message"),
        ("protocol.message", "import jupyter_client.session"),
        ("protocol.message", "from ..wire.zmq import Channel"),
        ("protocol.message", "from .. import wire"),
        ("protocol.message", "from kernel_magics.wire import zmq"),
        ("protocol.message", "import kernel_magics"),
        ("protocol.message", "from kernel_magics import attach"),
        ("wire.reactor", "def poll():\n    import IPython"),
        ("wire.reactor", "def load_ipython_extension(shell):\n    import IPython"),
        ("wire.reactor", "if TYPE_CHECKING:\n    from ..connect.info import ConnectionInfo"),
        ("connect.find", "import zmq"),
        ("kernels.kernel", "import zmq"),
        ("kernels.values.python", "from ...frontend import magics"),
        ("kernels.pool", "import importlib\nimportlib.import_module('ipykernel.kernelapp')"),
        ("frontend.magics", "import pandas"),
        ("helpers", "import json"),
        ("", "from .frontend import magics"),
        ("", "import IPython"),
        ("", "def attach():\n    from ipykernel import kernelapp"),
        ("", "if TYPE_CHECKING:\n    pass\nelse:\n    import IPython"),
        ("kernels.pool", "from ..api import pool"),
        ("api", "import zmq"),
    ],
)
def test_an_import_that_breaks_the_layers_is_noticed(module, source):
    name = f"{PACKAGE}.{module}" if module else PACKAGE

    assert len(offences(name, imports_of(name, source, is_package=not module))) == 1


@pytest.mark.parametrize(
    "module, source",
    [
        ("protocol.message", "import hmac\nfrom ..errors import ProtocolError"),
        ("protocol.message", "from . import execution\nfrom .. import errors"),
        ("wire.zmq", "import zmq\nfrom .transport import Transport"),
        ("connect.launch", "from jupyter_client.manager import KernelManager\nfrom .. import wire"),
        ("kernels.values.python", "import pickle\nfrom ...protocol import message"),
        ("frontend.magics", "from IPython.core.magic import Magics\nfrom ..kernels import pool"),
        ("frontend.magics", "from ..api import pool"),
        ("", "def load_ipython_extension(shell):\n    from .frontend import magics"),
        ("", "if TYPE_CHECKING:\n    from IPython.core.interactiveshell import InteractiveShell"),
    ],
)
def test_an_import_that_keeps_the_layers_passes(module, source):
    name = f"{PACKAGE}.{module}" if module else PACKAGE

    assert offences(name, imports_of(name, source, is_package=not module)) == []


def test_the_map_of_the_house_shows_every_file_in_its_place():
    house = (ROOT / "docs/design.md").read_text().split("```")[1]
    shown: set[str] = set()
    folder = ""
    for line in house.splitlines():
        if match := re.match(r"( *)([\w.]+?)(/?)(?: |$)", line):
            indent, name, is_folder = match.groups()
            if len(indent) == 2 and is_folder:
                folder = f"{name}/"
            elif name.endswith(".py"):
                shown.add(name if len(indent) == 2 else folder + name)
    there = {str(path.relative_to(ROOT / PACKAGE)) for path in (ROOT / PACKAGE).glob("*/*.py")}
    there |= {path.name for path in (ROOT / PACKAGE).glob("*.py")}
    assert shown == {name for name in there if not name.endswith("/__init__.py")}


def test_every_imported_library_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    requirements = chain(project["dependencies"], *extras)
    declared = {re.split(r"[^\w.-]", one)[0].lower().replace("-", "_") for one in requirements}

    imports = chain.from_iterable(imports_in_file(module) for module in SOURCES)
    libraries = {one.target.partition(".")[0] for one in imports}
    libraries -= {PACKAGE, *sys.stdlib_module_names}

    assert {DISTRIBUTIONS.get(library, library).lower() for library in libraries} <= declared


@pytest.mark.parametrize("module", [PACKAGE, f"{PACKAGE}.connect"])
def test_importing_the_package_does_not_import_what_is_slow(module):
    code = (
        f"import json, sys; before = set(sys.modules); import {module}, kernel_magics;"
        " print(json.dumps([kernel_magics.__file__, sorted(set(sys.modules) - before)]))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    file, modules = json.loads(answer.stdout)

    assert Path(file) == ROOT / PACKAGE / "__init__.py"
    assert not {module.partition(".")[0] for module in modules} & set(NOT_AT_ONCE)
