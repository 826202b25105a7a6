"""Removed files: what the supervisor cleaned up after a server, as text for the user."""

from __future__ import annotations

from collections.abc import Iterable

from perfgate.formatting import count
from perfgate.servers.launch_record import LaunchRecord, Removed
from perfgate.servers.supervisor.processes import RemovedFile

_MIB = 2**20
_KIB = 2**10
# Less memory is no notice: SGLang leaves 24 to 28 KiB whenever it stops.
_NOTICED_BYTES = _MIB


def count_removed(files: Iterable[RemovedFile]) -> Removed | None:
    """Shared memory and sockets among the removed files; None if there are none."""
    segments = segment_bytes = sockets = 0
    for file in files:
        if file.is_socket:
            sockets += 1
        else:
            segments += 1
            segment_bytes += file.size_bytes
    if not segments and not sockets:
        return None
    return Removed(
        segments=segments, segment_bytes=segment_bytes, sockets=sockets
    )


def removed_line(removed: Removed) -> str:
    """The line for the user: "removed after the server ended: 1 socket"."""
    texts = []
    if removed.segments:
        segments = count(removed.segments, "shared-memory segment")
        texts.append(f"{segments} ({_format_size(removed.segment_bytes)})")
    if removed.sockets:
        texts.append(count(removed.sockets, "socket"))
    return f"removed after the server ended: {', '.join(texts)}"


def removed_notice(record: LaunchRecord) -> str:
    """`removed_line` with the server and its launch, where much memory would have stayed.

    "" for less than 1 MiB, and for sockets alone: vLLM leaves some whenever it stops.
    """
    if record.removed is None or record.removed.segment_bytes < _NOTICED_BYTES:
        return ""
    line = removed_line(record.removed)
    return f"{record.key}, launch {record.session_index + 1}: {line}"


def _format_size(size_bytes: int) -> str:
    if size_bytes < _MIB:
        return f"{size_bytes / _KIB:.0f} KiB"
    return f"{size_bytes / _MIB:.0f} MiB"
