"""E3: Does latency stay in its range as requests come faster?"""

from collections.abc import Iterator

import pytest

from perfgate.cases import Case, Load
from perfgate.study import Study


def each_rate(study: Study) -> Iterator[Case]:
    """Each model under open-loop Poisson arrivals.

    Output throughput is report-only: the arrivals set it.
    """
    for server in study.models:
        for workload in study.rates:
            for metric in ("itl_median_ms", "ttft_median_ms"):
                yield study.value("E3", metric, server, workload)
            case = study.value("E3", "output_throughput", server, workload)
            yield case.report_only


def conversations(study: Study) -> Iterator[Case]:
    """Each model with prompts of a data set, where its rates have none."""
    for server in study.models:
        for workload in study.conversations:
            for metric in ("itl_median_ms", "ttft_median_ms"):
                yield study.value("E3", metric, server, workload)


def answers_at_rate(study: Study) -> Iterator[Case]:
    """Each model's mean ITL, and the mean and the slowest tenth of its E2EL; on GPUs.

    The 95th percentile of E2EL asks for more than the 100 requests of a rate.
    """
    if study.gpu_count == 0:
        return
    for server in study.models:
        for workload in study.rates:
            for metric in ("itl_mean_ms", "e2el_mean_ms", "e2el_p90_ms"):
                yield study.value("E3", metric, server, workload)


def range_over_rates(study: Study) -> Iterator[Case]:
    """The median ITL at the highest rate over that at the lowest."""
    if not study.rates:
        return
    for server in study.models:
        highest = Load(server=server, workload=study.rates[-1])
        lowest = Load(server=server, workload=study.rates[0])
        yield study.ratio("E3", "itl_median_ms", highest, lowest)


@pytest.mark.perf(cases=each_rate)
def test_latency_at_rate(check, case):
    """At each request rate the server answers as fast as before."""
    check(case)


@pytest.mark.perf(cases=conversations)
def test_conversations(check, case):
    """Conversations are answered as fast as before."""
    check(case)


@pytest.mark.perf(cases=answers_at_rate)
def test_answers_at_rate(check, case):
    """At each request rate no gap and no answer takes longer than before."""
    check(case)


@pytest.mark.perf(cases=range_over_rates)
def test_itl_range(check, case):
    """From the lowest to the highest rate the ITL grows no more than before."""
    check(case)
