"""Removed files: what the supervisor cleaned up after a server, as text for the user."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from perfgate.formatting import count
from perfgate.servers.launch_record import LaunchRecord
from perfgate.servers.supervisor.processes import RemovedFile

_MIB = 2**20
_KIB = 2**10


def describe_removed(files: Iterable[RemovedFile]) -> tuple[str, ...]:
    """A text for each kind: "2 shared-memory segments (12 MiB)", "1 socket"."""
    sizes = []
    sockets = 0
    for file in files:
        if file.is_socket:
            sockets += 1
        else:
            sizes.append(file.size_bytes)
    texts = []
    if sizes:
        segments = count(len(sizes), "shared-memory segment")
        texts.append(f"{segments} ({_format_size(sum(sizes))})")
    if sockets:
        texts.append(count(sockets, "socket"))
    return tuple(texts)


def removed_line(removed: Sequence[str]) -> str:
    """The line for the user: "removed after the server ended: 1 socket"; "" if nothing.

    Args:
        removed: texts of `describe_removed`, as a launch's record has them.
    """
    if not removed:
        return ""
    return f"removed after the server ended: {', '.join(removed)}"


def removed_notice(record: LaunchRecord) -> str:
    """`removed_line` with the server and the number of its launch; "" if nothing."""
    line = removed_line(record.removed)
    if not line:
        return ""
    return f"{record.key}, launch {record.session_index + 1}: {line}"


def _format_size(size_bytes: int) -> str:
    if size_bytes < _MIB:
        return f"{size_bytes / _KIB:.0f} KiB"
    return f"{size_bytes / _MIB:.0f} MiB"
