"""Orphans: processes of servers whose session and supervisor were both killed.

A supervisor ends its server whatever ends the session. Where it was killed too, the
engine's workers may run on. They bear the mark of their server and the names of what
their session had leased, by which the next session finds them.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from pathlib import Path

from perfgate.errors import Failure
from perfgate.servers.supervisor.client import DAEMON_ARGUMENT
from perfgate.servers.supervisor.processes import (
    MARK,
    POLL_S,
    Process,
    running_processes,
)

LEASED = "PERFGATE_LEASED"
# A session whose supervisor alone was killed ends its server itself.
_PATIENCE_S = 3.0
_SEPARATOR = ","


class ServerLeft(Failure):
    """Processes of an earlier session's server still run, and nothing watches them."""


def variables(leased: Collection[str]) -> dict[str, str]:
    """Environment by which the processes of a server can be found later.

    Args:
        leased: names of what its session has leased, unique on this machine.
    """
    if not leased:
        return {}
    return {LEASED: _SEPARATOR.join(leased)}


def orphans(
    leased: Collection[str], patience_s: float = _PATIENCE_S
) -> list[Process]:
    """Processes of servers that had leased any of these and that nothing watches.

    Args:
        leased: names as in `variables`.
        patience_s: how long they may take to end.
    """
    deadline = time.monotonic() + patience_s
    while found := _find(set(leased)):
        if time.monotonic() >= deadline:
            return found
        time.sleep(POLL_S)
    return []


def refusal(found: Collection[Process], leased: Collection[str]) -> ServerLeft:
    """The failure that names these processes, and how to end them."""
    names = "; ".join(process.describe() for process in found)
    pids = " ".join(str(process.pid) for process in found)
    return ServerLeft(
        tried=f"leasing {', '.join(leased)}",
        seen=(
            "processes of an earlier session's server still run, and neither that "
            f"session nor its supervisor does: {names}"
        ),
        remedy=f"end them, then run again: kill -9 {pids}",
    )


def _find(leased: set[str]) -> list[Process]:
    running = running_processes()
    found = []
    for process in running.values():
        environment = _environment(process.pid)
        if MARK not in environment:
            continue
        theirs = environment.get(LEASED, "").split(_SEPARATOR)
        if leased & set(theirs) and not _is_supervised(process, running):
            found.append(process)
    return sorted(found, key=lambda process: process.pid)


def _is_supervised(process: Process, running: Mapping[int, Process]) -> bool:
    """Whether a supervisor is among the ancestors: orphans become its children."""
    parent = running.get(process.parent)
    while parent is not None:
        if DAEMON_ARGUMENT in _read(parent.pid, "cmdline"):
            return True
        parent = running.get(parent.parent)
    return False


def _environment(pid: int) -> dict[str, str]:
    """The initial environment; empty where it may not be read."""
    variables = {}
    for entry in _read(pid, "environ").split("\0"):
        name, _, value = entry.partition("=")
        variables[name] = value
    return variables


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
    except OSError:
        return ""
