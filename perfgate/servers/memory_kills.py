"""Memory kills: why a server ended whose log has no error, since the kernel killed it."""

from __future__ import annotations

import signal

from perfgate.machine.container import OomWatch
from perfgate.servers.log import UNKNOWN

OUT_OF_MEMORY = (
    "give the container or the host more memory, serve with fewer ranks (--tp), or "
    "lower the engine's KV cache; `dmesg | grep -i oom` names what was killed"
)
KILLED = (
    "something outside killed it: `dmesg | grep -i oom` shows what the kernel killed; "
    "else a batch system's limit, or another user"
)


def explain(
    watch: OomWatch, exit_code: int | None, remedy: str, error: str = ""
) -> tuple[str, str]:
    """What was killed, for the message, and the remedy.

    Args:
        watch: since the launch.
        exit_code: of the server; None while it runs.
        remedy: by the server's log. Kills on the host, which may be of others, do not
            replace a remedy that is known.
        error: the first one in its log. A front end that finds its ranks failed, as
            SGLang's does, kills all of its processes, and itself.
    """
    killed = watch.killed_here()
    if killed:
        return killed, OUT_OF_MEMORY
    killed = watch.killed_on_host()
    if remedy != UNKNOWN:
        return killed, remedy
    if killed:
        return killed, OUT_OF_MEMORY
    if exit_code == -signal.SIGKILL and not error:
        return "", KILLED
    return "", remedy
