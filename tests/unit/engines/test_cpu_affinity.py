"""CPU affinity: each rank of a CPU server has cores of its own."""

import pytest

from perfgate.engines.cpu_affinity import bind_cores


@pytest.mark.parametrize(
    ("ranks", "cores", "expected"),
    [
        (1, (0, 1), "0,1"),
        (2, (0, 1), "0|1"),
        (2, (2, 3, 6, 7), "2,3|6,7"),
        (2, (0, 1, 2), "0|1"),  # the third is left to the client
        (4, (0, 1, 2, 3), "0|1|2|3"),
    ],
)
def test_each_rank_has_its_own_cores(ranks, cores, expected):
    """Cores are shared out evenly and no core is given twice."""
    assert expected == bind_cores(ranks, cores)
