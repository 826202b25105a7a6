"""A report says what was cleaned up after servers."""

from __future__ import annotations

import msgspec

from perfgate.report import notices
from tests.support import builders as m


def test_removed_files_are_in_the_notices():
    """A launch after which something was removed has a line of its own; others have none."""
    results = m.run({m.MOE_LOAD: {"output_throughput": [1.0, 1.0]}}, [])
    first, second = results.launches
    start = msgspec.structs.replace(first.start, removed=("1 socket",))
    first = msgspec.structs.replace(first, start=start)
    results = msgspec.structs.replace(results, launches=(first, second))

    (line,) = notices.removed(results)

    assert (
        f"{m.MOE.key}, launch 1: removed after the server ended: 1 socket"
        == line
    )
    assert line in notices.important(results)
