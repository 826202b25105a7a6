"""E5: Is the dense model any faster on several GPUs than on one?"""

from collections.abc import Iterator

import pytest

from perfgate.cases import Case, Load
from perfgate.study import Study


def speed_up(study: Study) -> Iterator[Case]:
    """Output throughput and ITL of the dense model on all ranks over one."""
    if study.dense_tp1 is None or study.models[-1].ranks == 1:
        return
    for workload, metric in (
        (study.closed, study.closed_throughput),
        (study.single_stream, "itl_median_ms"),
        (study.burst, "output_throughput"),
    ):
        if workload is not None:
            all_ranks = Load(server=study.models[-1], workload=workload)
            one_rank = Load(server=study.dense_tp1, workload=workload)
            yield study.ratio("E5", metric, all_ranks, one_rank)


def burst_on_one_gpu(study: Study) -> Iterator[Case]:
    """The dense model on one GPU under the study's burst."""
    if study.dense_tp1 is None or study.models[-1].ranks == 1:
        return
    if study.burst is None:
        return
    for metric in (
        "output_throughput",
        "steady_output_throughput",
        "ttft_mean_ms",
    ):
        yield study.value("E5", metric, study.dense_tp1, study.burst)
    # The judged throughput in other units, as in test_saturated_throughput.py.
    for metric in ("total_token_throughput", "request_throughput"):
        case = study.value("E5", metric, study.dense_tp1, study.burst)
        yield case.report_only


@pytest.mark.perf(cases=speed_up)
def test_tp2_over_tp1(check, case):
    """Splitting the dense model over the ranks gains or costs as much as before."""
    check(case)


@pytest.mark.perf(cases=burst_on_one_gpu)
def test_burst_on_one_gpu(check, case):
    """The dense model on one GPU answers the study's burst as fast as before."""
    check(case)
