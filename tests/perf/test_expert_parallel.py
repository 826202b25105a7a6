"""E10: Is it faster to spread the experts over the ranks whole than to split each of them?"""

from collections.abc import Iterator

import msgspec
import pytest

from perfgate.cases import Case, Load
from perfgate.study import Study


def ep_over_tp(study: Study) -> Iterator[Case]:
    """The sparse model with expert parallelism over that with tensor parallelism alone, on as many ranks.

    Reported on the CPU, where it is skipped as long as no engine runs it. One stream is
    reported with made-up weights too: routers that are all alike send a token to the
    same two experts in every layer, so that a step takes one of two times (10.4 or 7.2
    ms on two H100), as these lie on one rank or on two. The median of that is a coin's
    toss.
    """
    if study.moe_ep is None:
        return
    for workload, metric in (
        (study.closed, "output_throughput"),
        (study.single_stream, "itl_median_ms"),
    ):
        of, over = (
            Load(server=server, workload=workload)
            for server in (study.moe_ep, study.moe)
        )
        case = study.shape("E10", metric, of, over)
        is_toss = workload == study.single_stream and study.moe.load_format == "dummy"
        yield msgspec.structs.replace(case, gate="report") if is_toss else case


@pytest.mark.perf(cases=ep_over_tp)
def test_ep_over_tp(check, case):
    """Spreading the experts gains or costs as much as before; `perfgate estimate --ep` says what is exchanged."""
    check(case)
