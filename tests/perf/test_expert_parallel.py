"""E10: Is it faster to spread the experts over the ranks whole than to split each of them?"""

from collections.abc import Iterator

from fixtures.case import Case, Load
from fixtures.study import Study, asks


def ep_over_tp(study: Study) -> Iterator[Case]:
    """The sparse model with expert parallelism over that with tensor parallelism alone, on as many ranks.

    Reported on the CPU, where it is skipped as long as no engine runs it.
    """
    if study.moe_ep is not None:
        for workload, metric in ((study.closed, "output_throughput"), (study.single_stream, "itl_median_ms")):
            of, over = (Load(server=server, workload=workload) for server in (study.moe_ep, study.moe))
            yield study.shape("E10", metric, of, over)


@asks(ep_over_tp)
def test_ep_over_tp(check, case):
    """Spreading the experts gains or costs as much as before; `perfgate estimate --ep` says what is exchanged."""
    check(case)
