"""Whether anything comes through a login, told by an echo, and what to think of it if not.

ssh's own keepalive ends a login that has been silent for a while, whatever the reason, and with it
what was under way. But a pause is no cut: after a network's short absence, and behind a stopped
process, everything arrives in the end. So silence is told early, and a login is given up only for
another one that stands. No threads, no clock of its own."""

from __future__ import annotations

from ..errors import SshError
from .ssh import TRAFFIC_SHOWS, Login

BEAT = 1.0
"""Seconds between looks."""

EVERY = 2.0
"""Seconds after an echo before the next is asked for."""

SILENT_AFTER = 5.0
"""Seconds for which an echo may be missing before that is told: a cut is, after 5 to 9 s."""

REOPEN_AFTER = 16.0
"""Seconds for which an echo may be missing before a second login is tried. TCP doubles the interval
at which it repeats what was lost: a network that was away for 8 s is used again within 16."""

LOOK_TIMEOUT = 10.0
"""Seconds for the far process table."""

TRICKLE = 4096
"""Bytes that ssh reads between two looks when it reads what we ask of it at most. With more, an
echo is only late: behind a large output on a slow line."""


class Pulse:
    """The echoes of one login."""

    def __init__(self, login: Login, now: float) -> None:
        self._login = login
        self._owed_since: float | None = None
        self._looked_at = now
        self._asked_at = now
        self._traffic = login.traffic

    def silence(self, now: float) -> float:
        """Beat, and return for how many seconds an echo has been owed; call this every ``BEAT``."""
        late = now - self._looked_at - BEAT
        traffic = self._login.traffic
        if self._owed_since is not None:
            if self._login.heard_at >= self._asked_at:
                self._owed_since = None
            elif traffic - self._traffic > TRICKLE and now - self._owed_since < SILENT_AFTER:
                self._owed_since = now  # later, it may be that only the way from there leads again
            elif late > BEAT:
                self._owed_since += late  # it was us who slept
        self._looked_at, self._traffic = now, traffic
        if self._owed_since is None and now - self._asked_at >= EVERY:
            self._owed_since = self._asked_at = now
            self._login.pulse()
        return 0.0 if self._owed_since is None else now - self._owed_since

    def may_be_replaced(self, silence: float) -> bool:
        """Whether to try a second login: not for an ssh that is stopped, which will go on."""
        return TRAFFIC_SHOWS and silence >= REOPEN_AFTER and not self._login.stopped


END = """
kill $far; kill -CONT $far; n=0
while kill -0 $far 2>/dev/null && [ $n -lt 100 ]; do n=$((n+1)); ps -p $far >/dev/null; done
kill -0 $far 2>/dev/null || echo ended
"""
"""In any POSIX shell, of which not all sleep for less than a second."""


def is_paused(pids: tuple[int, int] | None, login: Login) -> bool:
    """Ask by one login whether the far process of another is stopped; then it will go on.

    Raises:
        SshError: it could not be asked.
    """
    return any(state.startswith("T") for state in _of_session(pids, login, "ps -o stat= -p $far"))


def end_there(pids: tuple[int, int] | None, login: Login) -> bool:
    """End the far process of a login that was given up; return whether none is left.

    Else it might hold its connections to kernels for hours, and some (xeus) take nobody else with
    our identity as long as it does.

    Raises:
        SshError: it could not be done.
    """
    if pids is None:
        return False
    return _of_session(pids, login, END) in ([], ["ended"])


def _of_session(pids: tuple[int, int] | None, login: Login, command: str) -> list[str]:
    """Run a command about the far process of a login, if that still is what it was: the parent of
    the held session, whatever else has its number now."""
    if pids is None:
        return []
    far, session = pids
    script = f"""
far={far}
ps -o pid= -p $$ >/dev/null 2>&1 || exit
parent=$(ps -o ppid= -p {session} | tr -d ' ')
printf 'km\\tasked\\n'
[ "$parent" = $far ] || exit
case $(ps -o comm= -p $far) in *sshd*) printf 'km\\t%s\\n' "$({command})" ;; esac
"""
    lines = login.run(script, timeout=LOOK_TIMEOUT)
    if not lines:
        raise SshError(str(login.destination), "its process table cannot be read")
    return [fields[0] for fields in lines[1:]]
