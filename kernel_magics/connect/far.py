"""What runs on a far machine: its connection files, read over a login.

Nothing is needed there but a POSIX shell. The rules for where the files are, are those of
`jupyter_core.paths.jupyter_runtime_dir`."""

from __future__ import annotations

import fnmatch
import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import AmbiguousKernel, ConnectionFileError, KernelNotFound
from .find import SHORTEST_FRAGMENT
from .info import SIZE_LIMIT, ConnectionInfo
from .ssh import Login

LIST_TIMEOUT = 30.0
"""Seconds for the far shell; 0.2 are usual."""

FOLDERS = """
b=$JUPYTER_DATA_DIR
if [ -z "$b" ]; then
    case $(uname) in
    Darwin) b=$HOME/Library/Jupyter ;;
    *) b=${XDG_DATA_HOME:-$HOME/.local/share}/jupyter ;;
    esac
fi
d=${JUPYTER_RUNTIME_DIR:-$b/runtime}
"""
"""The data directory in ``b``, the runtime directory in ``d``."""

LIST = f"""{FOLDERS}
printf 'km\\tfolder\\t%s\\n' "$d"
show() {{
    t=$(date -r "$1" +%s 2>/dev/null || stat -f %m "$1" 2>/dev/null || echo 0)
    printf 'km\\tfile\\t%s\\t%s\\t' "$t" "${{1##*/}}"
    head -c {SIZE_LIMIT + 1} "$1" | od -An -v -tx1 | tr -d ' \\n'
    echo
}}
if [ -n "$only" ]; then
    for f in "$d/$only.json" "$d/kernel-$only.json"; do
        [ -f "$f" ] && [ -r "$f" ] && show "$f" && exit
    done
fi
printf 'km\\tnow\\t%s\\n' "$(date +%s)"
ps -u "$(id -u)" -o args= 2>/dev/null | while IFS= read -r line; do
    case $line in *.json*) printf 'km\\tprocess\\t%s\\n' "$line" ;; esac
done
for f in "$d"/*.json; do
    case $f in */jpserver-*|*/nbserver-*) continue ;; esac
    [ -f "$f" ] && [ -r "$f" ] || continue
    show "$f"
done
"""
"""Bytes travel as hexadecimal digits: every shell leaves those alone. With ``only`` set, and a file
of that very name there, that is all; the rest takes longer."""

_PLAIN = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)


@dataclass(frozen=True)
class FarKernel:
    """A connection file there. ``runs`` is None when the process table could not be read.

    ``age`` is in seconds, by that machine's clock."""

    info: ConnectionInfo
    folder: str
    age: float
    runs: bool | None

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return PurePosixPath(str(self.info.path)).stem


def kernels(login: Login, only: str = "") -> list[FarKernel]:
    """Return what has a connection file in the far runtime directory, youngest first; or just the
    one that is called ``only``, if there is one.

    Raises:
        SshError: it could not be read.
    """
    only = only if _PLAIN.fullmatch(only) else ""
    lines = login.run(f"only={only}\n{LIST}", timeout=LIST_TIMEOUT)
    folder = next((fields[1] for fields in lines if fields[0] == "folder"), "")
    now = next((float(fields[1]) for fields in lines if fields[0] == "now"), 0.0)
    processes = [fields[1] for fields in lines if fields[0] == "process"]
    found: list[FarKernel] = []
    for fields in lines:
        if fields[0] != "file" or len(fields) != 4:
            continue
        _, modified, name, content = fields
        if not name.isprintable():
            continue  # it would be shown
        try:
            values = json.loads(bytes.fromhex(content))
            info = ConnectionInfo.from_dict(values, Path(folder, name))
        except (ValueError, RecursionError, AttributeError, ConnectionFileError):
            continue  # stale and foreign files are normal there
        runs = any(name in process for process in processes) if processes else None
        found.append(FarKernel(info, folder, max(0.0, now - float(modified)), runs))
    return sorted(found, key=lambda each: each.age)


def find(wanted: str, login: Login) -> ConnectionInfo:
    """Return the one kernel there that answers to a name, an id or a fragment.

    Raises:
        KernelNotFound, AmbiguousKernel: none does, or several do.
        SshError: it could not be read.
    """
    name = PurePosixPath(wanted).name.removesuffix(".json")
    found, host = kernels(login, name), login.destination
    looked = [f"{host}:{found[0].folder}" if found else f"the runtime directory of {host}"]
    for exact in (name, f"kernel-{name}"):
        for each in found:
            if each.name == exact:
                return each.info
    if len(name) < SHORTEST_FRAGMENT:
        hint = f"A fragment of a connection file needs {SHORTEST_FRAGMENT} characters"
        raise KernelNotFound(wanted, looked, hint)
    pattern = name if any(mark in name for mark in "*?[") else f"*{name}*"
    matches = [each for each in found if fnmatch.fnmatchcase(each.name, pattern)]
    # A copied or renamed file is in no command line: then whether it answers has to show.
    matches = [each for each in matches if each.runs is not False] or matches
    if len(matches) > 1:
        raise AmbiguousKernel(wanted, sorted(each.name for each in matches))
    if not matches:
        raise KernelNotFound(wanted, looked)
    return matches[0].info
