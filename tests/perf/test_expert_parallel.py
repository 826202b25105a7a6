"""E10: Is expert parallelism (whole experts on a rank) faster than splitting each expert?"""

from collections.abc import Iterator

import pytest

from perfgate.cases import Case, Load
from perfgate.study import Study


def ep_over_tp(study: Study) -> Iterator[Case]:
    """Each sparse model with expert parallelism over tensor parallelism, on as many ranks.

    Report-only on the CPU, where it is skipped until an engine runs it. A single stream
    is report-only with made-up routers, too. They are alike, and send a token to the
    same two experts in every layer. A step then takes one of two times (10.4 or 7.2
    ms on two H100): both experts are on one rank, or on two. The median of that is
    chance.
    """
    for spread, split in study.spread_and_split:
        for workload, metric in (
            (study.closed, study.closed_throughput),
            (study.single_stream, "itl_median_ms"),
        ):
            expert_parallel = Load(server=spread, workload=workload)
            tensor_parallel = Load(server=split, workload=workload)
            case = study.shape("E10", metric, expert_parallel, tensor_parallel)
            is_single = workload == study.single_stream
            if is_single and study.has_random_routers:
                case = case.report_only
            yield case


@pytest.mark.perf(cases=ep_over_tp)
def test_ep_over_tp(check, case):
    """Expert parallelism gains or costs as much as before.

    `perfgate estimate --ep` says how many bytes the ranks exchange.
    """
    check(case)
