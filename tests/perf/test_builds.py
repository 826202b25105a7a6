"""E20: Does an engine's step take as long as that of the base build, on this machine?

No baseline is stored: both builds are alive at once and take turns. The base build is
that of --against-engine, or else that of the engine's lock file.
"""

from collections.abc import Iterator

import msgspec
import pytest

from perfgate.cases import Case
from perfgate.load.turns import judged_times
from perfgate.study import Study


def batches(study: Study) -> Iterator[Case]:
    """Time of each batch of each held model; judged on every machine."""
    for server in study.timed_in_turns:
        for workload in study.held_workloads:
            for metric in judged_times(server.device):
                case = study.value("E20", metric, server, workload)
                yield msgspec.structs.replace(case, gate="hard")


@pytest.mark.perf(cases=batches)
def test_time_of_a_batch(check, case):
    """A batch takes no longer than with the base build."""
    check(case)
