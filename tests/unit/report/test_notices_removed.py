"""A report says what was cleaned up after servers."""

from __future__ import annotations

import msgspec

from perfgate.report import notices
from perfgate.servers.launch_record import Removed
from tests.support import builders as m


def with_removed(launch, removed):
    """The launch after which this was removed."""
    start = msgspec.structs.replace(launch.start, removed=removed)
    return msgspec.structs.replace(launch, start=start)


def test_removed_files_are_in_the_notices():
    """A launch that left shared memory has a line; one that left sockets alone has none."""
    results = m.run({m.MOE_LOAD: {"output_throughput": [1.0, 1.0]}}, [])
    first, second = results.launches
    first = with_removed(first, Removed(segments=1, segment_bytes=2 * 2**20))
    second = with_removed(second, Removed(sockets=3))
    results = msgspec.structs.replace(results, launches=(first, second))

    (line,) = notices.removed(results)

    assert (
        f"{m.MOE.key}, launch 1: removed after the server ended: "
        "1 shared-memory segment (2 MiB)" == line
    )
    assert line in notices.important(results)
