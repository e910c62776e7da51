"""How the kernels of other languages are started, by hand and by the pool; see ``parts.PARTS``."""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path
from typing import Any

from tests.support import parts
from tests.support.sandbox import Sandbox

FILE = "{connection_file}"


def command(language: str) -> list[str]:
    """Its command line, as a kernelspec has it."""
    match language:
        case "ir":
            return ["R", "--slave", "-e", "IRkernel::main()", "--args", FILE]
        case "jslab":
            return [str(parts.tslab()), "kernel", "--config-path", FILE, "--js"]
        case "deno":
            return [str(parts.deno()), "jupyter", "--kernel", "--conn", FILE]
    module = {
        "bash": "bash_kernel",
        "xpython": "xpython_launcher",
        "octave": "octave_kernel",
        "scheme": "calysto_scheme",
        "gnuplot": "gnuplot_kernel",
    }[language]
    return [sys.executable, "-m", module, "-f", FILE]


def folder(language: str) -> Path | None:
    """Where it has to be started; None where that is all the same."""
    program = parts.tslab() if language == "jslab" else None
    return program.parents[2] if program is not None else None


def environment(language: str, sandbox: Sandbox) -> dict[str, str]:
    """What has to be set so that it writes nothing into the user's own folders."""
    return {"DENO_DIR": str(sandbox.root / "deno")} if language == "deno" else {}


def kernelspec(language: str, sandbox: Sandbox) -> dict[str, Any]:
    """Write its kernelspec into the sandbox, and return the options that start it from that."""
    place = sandbox.jupyter["JUPYTER_DATA_DIR"] / "kernels" / language
    place.mkdir(parents=True, exist_ok=True)
    about = {
        "argv": command(language),
        "display_name": language,
        "language": language,
        "env": environment(language, sandbox),
    }
    # At one stroke: somebody else may be reading the one before.
    new = place / f"kernel-{uuid.uuid4().hex}.new"
    new.write_text(json.dumps(about))
    new.replace(place / "kernel.json")
    cwd = folder(language)
    return {"spec": language, "cwd": None if cwd is None else str(cwd)}
