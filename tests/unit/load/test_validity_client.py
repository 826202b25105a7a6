"""Validity where the kernel says when data came: what a client spoils that runs late."""

import dataclasses

import msgspec
import pytest

from perfgate.load.validity import POLICIES, examine
from perfgate.load.workload import Workload
from tests.support.builders import MS, recording, steady_streams, transcript

CUDA = POLICIES["cuda"]
CLOSED = Workload(name="closed", num_prompts=8, max_concurrency=8)
OFTEN = [(100 * k, 100 * k + 30) for k in range(1, 10)]


def reasons(rows, gaps_ms=(), no_kernel_times="", workload=CLOSED):
    """Why a run of 5 s may not be judged."""
    recorded = msgspec.structs.replace(
        recording(5000.0, gaps_ms), no_kernel_times=no_kernel_times
    )
    return examine(workload, rows, recorded, {}, CUDA).invalid


def streams(late_ms=0.0):
    """Eight streams with a chunk each 10 ms, which left so late."""
    rows = []
    for chunks_ms in steady_streams():
        row = transcript(0.0, chunks_ms)
        due_ns = row.sent_ns - int(late_ms * MS)
        rows.append(dataclasses.replace(row, due_ns=due_ns))
    return rows


def joined(rows, gaps_ms):
    """What a client has that did not read meanwhile: all of a gap's chunks at its last one."""
    found = []
    for row in rows:
        times = list(row.chunk_ns)
        for start_ms, end_ms in gaps_ms:
            inside = [ns for ns in times if start_ms * MS <= ns <= end_ms * MS]
            times = [max(inside) if ns in inside else ns for ns in times]
        found.append(dataclasses.replace(row, chunk_ns=tuple(times)))
    return found


def test_an_absence_is_no_reason_where_the_kernel_knew():
    """The same absences spoil a run whose times are the client's own."""
    assert () == reasons(streams(), OFTEN)
    (reason,) = reasons(streams(), OFTEN, no_kernel_times="https")
    assert reason.startswith("the client did not run for a total of 270 ms")


def test_chunks_that_were_read_together_are_a_reason():
    """Their times are not known: the kernel's is that of the last one."""
    (reason,) = reasons(joined(streams(), OFTEN), OFTEN)

    assert (
        "the client did not run for a total of 270 ms and read 19.4 % of the chunks "
        "together with the one before, limit 1.0 %: their times are not known"
    ) == reason


def test_chunks_that_the_server_sent_together_are_none():
    """While the client ran, one time for two chunks is what the server did."""
    elsewhere = [(3000, 3300)]

    assert () == reasons(joined(streams(), OFTEN), elsewhere)


@pytest.mark.parametrize(("late_ms", "count"), [(45, 0), (60, 1)])
def test_slots_that_stay_empty_are_a_reason(late_ms, count):
    """A closed loop that is refilled late offers less load; an open loop has a rule of its own."""
    found = reasons(streams(late_ms))
    rate = Workload(name="rate", num_prompts=8, request_rate=1.0)

    assert count == len(found)
    assert () == reasons(streams(late_ms), workload=rate)
    for reason in found:
        assert (
            "the client filled its slots late: they were empty for 60 ms on average, "
            "limit 50 ms"
        ) == reason
