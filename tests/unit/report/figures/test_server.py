"""Figures of a server: memory of one rank."""

import pytest

from perfgate.cases import Load
from perfgate.report.figures import server as figures_server
from perfgate.results.samples import RunIndex
from tests.support import builders as m


@pytest.mark.parametrize(("server", "share"), [(m.MOE, 1), (m.MOE_CPU, 2)])
def test_memory_is_that_of_one_rank(server, share):
    """On a GPU the peak is one rank's.

    On the CPU it is that of all processes, and each rank has its share.
    """
    held = {
        "weights_bytes_per_rank": [10e9],
        "kv_cache_bytes": [20e9],
        "memory_peak_bytes": [80e9],
    }
    picture = figures_server.memory(
        RunIndex(m.run({Load(server=server): held}, [])), ""
    )
    rest = (80 - share * 30) / share

    assert (
        (server.key, "10 GB", "20 GB", "0 GB", f"{rest:.3g} GB"),
    ) == picture.rows
    assert ("Memory per GPU", "Memory per rank")[share - 1] == picture.title
