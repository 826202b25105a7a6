"""E5: Is the dense model any faster on two GPUs than on one?"""

from collections.abc import Iterator

import pytest

from perfgate.cases import Case, Load
from perfgate.study import Study


def speed_up(study: Study) -> Iterator[Case]:
    """Throughput and time per token at TP=2 over TP=1, of the dense model."""
    if study.dense.tensor_parallel_size > 1 and study.dense_tp1 is not None:
        for workload, metric in (
            (study.closed, "output_throughput"),
            (study.single_stream, "itl_median_ms"),
        ):
            of, over = (
                Load(server=server, workload=workload)
                for server in (study.dense, study.dense_tp1)
            )
            yield study.ratio("E5", metric, of, over)
        if study.burst is not None:
            of, over = (
                Load(server=server, workload=study.burst)
                for server in (study.dense, study.dense_tp1)
            )
            yield study.ratio("E5", "output_throughput", of, over)


def alone_on_one(study: Study) -> Iterator[Case]:
    """The dense model on one GPU under the study's burst."""
    if (
        study.dense.tensor_parallel_size > 1
        and study.dense_tp1 is not None
        and study.burst is not None
    ):
        for metric in (
            "output_throughput",
            "total_token_throughput",
            "request_throughput",
        ):
            yield study.value("E5", metric, study.dense_tp1, study.burst)


@pytest.mark.perf(cases=speed_up)
def test_tp2_over_tp1(check, case):
    """Splitting the dense model over two ranks gains or costs as much as before."""
    check(case)


@pytest.mark.perf(cases=alone_on_one)
def test_burst_on_one_gpu(check, case):
    """The dense model on one GPU answers the study's burst as fast as before."""
    check(case)
