"""Leash: a process that ends a session when the fleet's worker on its host is gone.

A worker of Ray may be killed at any moment, and would leave pytest behind. The leash
reads a pipe of the worker: at its end, or after the time limit, it kills the session.
If the leash is killed, the kernel kills the session (PR_SET_PDEATHSIG). The servers
are then ended by their supervisors.

    python -m perfgate.fleet.leash LIMIT_S LOG COMMAND...
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from perfgate.servers.supervisor.daemon import die_with_parent

LIMIT_STATUS = 124  # as of timeout(1)
POLL_S = 0.2


def hold(command: Sequence[str], log: Path, limit_s: float, pipe: int) -> int:
    """Run a command until it ends, the pipe does, or the time is over.

    Returns:
        Its exit status; `LIMIT_STATUS` after the time limit.
    """
    until_s = time.monotonic() + limit_s
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    while True:
        status = child.poll()
        if status is not None:
            return status
        ready, _, _ = select.select([pipe], [], [], POLL_S)
        if ready and not os.read(pipe, 1):
            _kill(child)
            return -signal.SIGKILL
        if time.monotonic() > until_s:
            _kill(child)
            return LIMIT_STATUS


def _kill(child: subprocess.Popen[bytes]) -> None:
    """Kill the session's process group: pytest, its workers and load clients."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def main() -> None:
    """Hold the command that the arguments name."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    limit_s, log, *command = sys.argv[1:]
    status = hold(command, Path(log), float(limit_s), sys.stdin.fileno())
    if status < 0:
        status = 128 - status
    sys.exit(status)


if __name__ == "__main__":
    main()
