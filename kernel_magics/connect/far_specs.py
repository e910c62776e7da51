"""What starts a kernel on a far machine: its kernelspecs, read over a login.

Nothing is needed there but a POSIX shell and what the kernel itself needs. The rules are those of
`jupyter_core.paths.jupyter_path` and `jupyter_client`'s kernelspecs; no Python of there is asked,
but for a `python3` without a kernelspec."""

from __future__ import annotations

import json
import random
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from string import Template

from ..errors import LaunchError
from .far import FOLDERS
from .info import PORTS, SIZE_LIMIT
from .launch import LaunchOptions, is_python
from .tunnel import Tunnel

LOOK_TIMEOUT = 30.0
"""Seconds for the far shell, and for the user's own start-up files there."""

CANDIDATES = 40
"""Ports that are proposed, of which the first five that nobody uses are taken."""

LOOK = (
    (
        FOLDERS
        + r"""
umask 077
t=${TMPDIR:-/tmp}
case $t in /*) [ -w "$t" ] && [ ${#t} -le 50 ] || t=/tmp ;; *) t=/tmp ;; esac
hex() { od -An -v -tx1 | tr -d ' \n'; }
say() {
    printf 'km\t%s' "$1"
    shift
    for w; do printf '\t'; printf %s "$w" | hex; done
    echo
}
shells_path() {
    # By a file: a daemon that a start-up file leaves running would keep a pipe open.
    "${SHELL:-/bin/sh}" "$1" 'printf "\nkm-path\t%s\n" "$PATH"' </dev/null >"$t/$token" 2>/dev/null
    sed -n 's/^km-path	//p' "$t/$token" | tail -n 1
    rm -f "$t/$token"
}
interpreter() {
    for c in "$python" "$python/bin/python"; do
        if [ -f "$c" ] && [ -x "$c" ]; then
            case $c in /*) ;; *) c=$PWD/$c ;; esac
            say python "$c"
            return 0
        fi
    done
    case $python in */*) return 1 ;; esac
    c=$(command -v -- "$python")
    case $c in /*) say python "$c" && has_kernel "$c" ;; *) return 1 ;; esac
}
has_kernel() { "$1" -c 'import ipykernel_launcher' </dev/null >/dev/null 2>&1; }
look() {
    j=$(command -v jupyter)
    jp=
    case $j in
    /*)
        jp=$(sed -n '1s/^#! *\([^ ]*\).*/\1/p;q' "$j" 2>/dev/null)
        case $jp in /*/bin/python*) ;; *) jp=${j%/*}/python ;; esac
        [ -x "$jp" ] || jp=
        ;;
    esac
    env=${jp%/bin/*}
    if [ -n "$jp" ] && [ ! -d "$env/share/jupyter" ]; then  # a shim, a wrapper
        env=$("$jp" -c 'import sys; print(sys.prefix)' </dev/null 2>/dev/null)
    fi
    prefers_env=
    if [ -n "$env" ] && { [ -f "$env/pyvenv.cfg" ] || [ -d "$env/conda-meta" ]; }; then
        prefers_env=1
    fi
    case $JUPYTER_PREFER_ENV_PATH in
    '') ;;
    0|no|n|false|off) prefers_env= ;;
    *) prefers_env=1 ;;
    esac
    set --
    rest=$JUPYTER_PATH:
    while [ -n "$rest" ]; do
        p=${rest%%:*}
        rest=${rest#*:}
        [ -z "$p" ] || set -- "$@" "$p"
    done
    [ -n "$prefers_env" ] || set -- "$@" "$b" "$HOME/.local/share/jupyter"
    for p in "$env/bin/" "$j" "$(command -v python3)" "$(command -v python)"; do
        case $p in /*/bin/*) set -- "$@" "${p%/bin/*}/share/jupyter" ;; esac
    done
    set -- "$@" "$b" "$HOME/.local/share/jupyter" /usr/local/share/jupyter /usr/share/jupyter
    for p; do
        p=$p/kernels
        for s in "$p"/*/kernel.json; do
            [ -f "$s" ] && [ -r "$s" ] || continue
            s=${s%/kernel.json}
            say name "${s##*/}"
        done
        if [ -f "$p/$want/kernel.json" ] && [ -r "$p/$want/kernel.json" ]; then
            say spec "$p/$want" "$jp" "$PATH"
            printf 'km\tcontent\t'
            head -c LIMIT "$p/$want/kernel.json" | hex
            echo
            # Enough of its command to see whether this PATH knows it.
            a=$(tr -d '\n' <"$p/$want/kernel.json" |
                sed -n 's/.*"argv"[^[]*\[[^"]*"\([^"]*\)".*/\1/p')
            case $a in
            ''|*/*) return 0 ;;
            python|python[0-9]*)
                [ -n "$jp" ]
                return
                ;;
            esac
            command -v -- "$a" >/dev/null
            return
        fi
    done
    [ "$want" = python3 ] || return 1
    for p in "$jp" "$(command -v python3)"; do
        if [ -n "$p" ] && has_kernel "$p"; then
            say python "$p"
            return 0
        fi
    done
    return 1
}
cd || exit
say folders "$d" "$t"
plain=$PATH
for how in plain -lc -lic; do
    if [ "$how" != plain ]; then
        p=$(shells_path "$how")
        [ -n "$p" ] || continue
        PATH=$p:$plain
        export PATH
    fi
    if [ -n "$python" ]; then interpreter && break; else look && break; fi
done
say path "$PATH"
used=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null)
[ -n "$used" ] || used=$(netstat -an 2>/dev/null)
n=0
for p in $ports; do
    case $used in *":$(printf %04X "$p") "*|*[.:]"$p "*) continue ;; esac
    printf 'km\tport\t%s\n' "$p"
    n=$((n + 1))
    [ $n -lt FIVE ] || break
done
"""
    )
    .replace("LIMIT", str(SIZE_LIMIT + 1))
    .replace("FIVE", str(len(PORTS)))
)
"""Three looks: with the PATH that a command gets, with a login shell's, with an interactive one's.
The last kernelspec that was told is the one; an earlier one had a command that its PATH did not
know."""

_SPEC = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_FIELD = re.compile(r"\{([A-Za-z0-9_]+)\}")
_PYTHON = re.compile(r"python[0-9.]*")


@dataclass(frozen=True)
class FarCommand:
    """What to start there, and where.

    ``argv`` has ``{connection_file}`` in it. ``environment`` is of shell words, quoted. ``folder``
    is the runtime directory, ``temporary`` where private folders may be made. ``ports`` nobody used
    a moment ago."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    path: str
    folder: str
    temporary: str
    ports: tuple[int, ...]
    by_signal: bool
    """It is interrupted by SIGINT, and knows no ``interrupt_request``."""

    @property
    def is_python(self) -> bool:
        """It stands on ipykernel, as far as its command tells."""
        return is_python(self.argv)

    def words(self, connection_file: str) -> list[str]:
        """Return the command line."""
        return [each.replace("{connection_file}", connection_file) for each in self.argv]


def check(options: LaunchOptions, spec: str) -> None:
    """Refuse what cannot be meant, before anybody logs in.

    Raises:
        LaunchError: it says what was wanted.
    """

    def refuse(reason: str) -> None:
        raise LaunchError(options.label, reason)

    if not _SPEC.fullmatch(spec):
        refuse(f"{spec!r} is no kernelspec's name, which has letters, digits, '-', '_' and '.'")
    for name, value in options.env.items():
        if not _VARIABLE.fullmatch(name):
            refuse(f"{name!r} cannot name a variable of a POSIX shell")
        if not _is_text(value):
            refuse(f"the variable {name} has a value that no process can be given")
    for what, word in (("interpreter", options.python), ("folder", options.cwd)):
        if word is not None and not (word and _is_text(word)):
            refuse(f"{word!r} is no {what}")


def find(tunnel: Tunnel, options: LaunchOptions, spec: str) -> FarCommand:
    """Return what starts a kernel there: the interpreter of the options, else the kernelspec.

    Raises:
        LaunchError: there is no such thing there.
        SshError: it could not be looked for.
    """
    drawn = random.sample(range(20000, 32000), CANDIDATES)  # below those of outgoing connections
    head = {
        "want": shlex.quote(spec),
        "python": home_word(options.python or ""),
        "ports": shlex.quote(" ".join(map(str, drawn))),
        "token": f"km-{random.getrandbits(64):016x}",
    }
    script = "".join(f"{name}={word}\n" for name, word in head.items()) + LOOK
    told: dict[str, list[str]] = {}
    names: set[str] = set()
    ports: list[int] = []
    for what, *fields in tunnel.run(script, timeout=LOOK_TIMEOUT):
        if what == "port":
            ports.append(int(fields[0]))
            continue
        texts = [bytes.fromhex(each).decode("utf-8", "surrogateescape") for each in fields]
        if what == "name":
            names.add(texts[0])
        else:
            told[what] = texts
    folder, temporary = told["folders"]
    host = tunnel.destination
    if "python" in told and "spec" not in told:
        argv = (told["python"][0], "-m", "ipykernel_launcher", "-f", "{connection_file}")
        return FarCommand(
            argv, {}, told["path"][0], folder, temporary, tuple(ports), by_signal=False
        )
    if options.python is not None:
        raise LaunchError(options.label, f"there is no such interpreter on {host}")
    if "spec" not in told:
        known = sorted(name for name in names if _SPEC.fullmatch(name))
        raise LaunchError(
            options.label,
            f"{host} has no such kernelspec; there are {', '.join(known) or 'none'} "
            "(--python PATH starts an environment without one)",
        )
    resources, python, path = told["spec"]
    words, env, by_signal = _read(told["content"][0], options.label, f"{host}:{resources}")
    prefix = (
        str(PurePosixPath(python).parent.parent) if python else resources.partition("/share/")[0]
    )
    if _PYTHON.fullmatch(words[0]):
        words[0] = python or words[0]  # as jupyter_client does: the one that jupyter runs in
    known_fields = {"resource_dir": resources, "prefix": prefix}
    command = tuple(_FIELD.sub(lambda m: known_fields.get(m[1], m[0]), each) for each in words)
    return FarCommand(
        command,
        {name: _expanding(value) for name, value in env.items() if _VARIABLE.fullmatch(name)},
        path,
        folder,
        temporary,
        tuple(ports),
        by_signal=by_signal and not is_python(command),
    )


def home_word(path: str) -> str:
    """Return a path as one word of a POSIX shell; ``~`` is the home folder there."""
    if path == "~" or path.startswith("~/"):
        return '"$HOME"' + shlex.quote(path[1:])
    return shlex.quote(path)


def _read(content: str, label: str, where: str) -> tuple[list[str], dict[str, str], bool]:
    """Take a kernelspec apart, which is a file that anybody wrote."""
    problem = "is no JSON, or larger than 64 KiB"
    try:
        values = json.loads(content)
        argv, env = values["argv"], values.get("env") or {}
        problem = "has an argv or env that no process can be given"
        texts = [*argv, *env, *env.values()]
        mode = values.get("interrupt_mode", "signal")
        if (
            argv
            and isinstance(argv, list)
            and all(isinstance(t, str) and _is_text(t) for t in texts)
        ):
            return list(argv), dict(env), mode != "message"
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        pass
    raise LaunchError(label, f"its kernelspec, in {where}, {problem}")


def _expanding(value: str) -> str:
    """Return a value as one word of a POSIX shell; ``${NAME}`` is a variable there."""
    word, end = "", 0
    for match in Template.pattern.finditer(value):
        word += shlex.quote(value[end : match.start()]) if match.start() > end else ""
        name = match["named"] or match["braced"]
        # As jupyter_client does: what is not set stays as it is.
        word += (
            f'"${{{name}-\\${name}}}"'
            if name
            else shlex.quote("$" if match["escaped"] else match[0])
        )
        end = match.end()
    return word + shlex.quote(value[end:])


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in word
