"""What the supervisor cleaned up after a server is reported by kind and size."""

from __future__ import annotations

import msgspec
import pytest

from perfgate.servers.launch_record import LaunchRecord, Removed
from perfgate.servers.removed import count_removed, removed_line, removed_notice
from perfgate.servers.supervisor.processes import RemovedFile

SOCKET = RemovedFile("/tmp/a.sock", is_socket=True, size_bytes=0)
SEGMENT = RemovedFile("/dev/shm/psm_1", is_socket=False, size_bytes=6 * 2**20)
SMALL = RemovedFile("/dev/shm/psm_2", is_socket=False, size_bytes=4096)
RECORD = LaunchRecord(
    key="vllm-m-tp2",
    session_index=1,
    argv=("vllm",),
    env={},
    pid=1,
    log="x.log",
    started_unix_s=1.0,
)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ((SOCKET,), "removed after the server ended: 1 socket"),
        (
            (SMALL,),
            "removed after the server ended: 1 shared-memory segment (4 KiB)",
        ),
        (
            (SEGMENT, SOCKET, SEGMENT),
            "removed after the server ended: 2 shared-memory segments (12 MiB), 1 socket",
        ),
    ],
    ids=["socket", "small", "both"],
)
def test_line_counts_each_kind(files, expected):
    """Each kind has its count, and shared memory its size."""
    assert expected == removed_line(count_removed(files))


def test_nothing_is_no_record():
    """A server that left nothing has none."""
    assert count_removed(()) is None


def test_notice_names_server_and_launch():
    """The notice of a report adds the server and the number of its launch."""
    left = Removed(segments=2, segment_bytes=12 * 2**20, sockets=1)
    cleaned = msgspec.structs.replace(RECORD, removed=left)

    expected = (
        "vllm-m-tp2, launch 2: removed after the server ended: "
        "2 shared-memory segments (12 MiB), 1 socket"
    )
    assert expected == removed_notice(cleaned)


@pytest.mark.parametrize(
    "left",
    [
        None,
        Removed(sockets=3),
        Removed(segments=3, segment_bytes=28 * 2**10, sockets=3),
    ],
    ids=["nothing", "sockets", "little"],
)
def test_what_engines_leave_at_every_stop_is_no_notice(left):
    """Sockets of vLLM, and 28 KiB of SGLang: each launch would have a line."""
    assert "" == removed_notice(msgspec.structs.replace(RECORD, removed=left))
