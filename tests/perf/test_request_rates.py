"""E3: Does latency stay in its range as requests come faster?"""

from collections.abc import Iterator

import pytest

from perfgate.cases import Case, Load
from perfgate.study import Study


def at_each_rate(study: Study) -> Iterator[Case]:
    """Each model under open-loop Poisson arrivals."""
    for server in study.models:
        for workload in study.rates:
            for metric in ("itl_median_ms", "ttft_median_ms", "output_throughput"):
                yield study.value("E3", metric, server, workload)


def range_over_rates(study: Study) -> Iterator[Case]:
    """The ITL median at the highest rate over that at the lowest: how wide the range is."""
    for server in study.models if study.rates else ():
        of, over = (
            Load(server=server, workload=workload)
            for workload in (study.rates[-1], study.rates[0])
        )
        yield study.ratio("E3", "itl_median_ms", of, over)


@pytest.mark.perf(cases=at_each_rate)
def test_latency_at_rate(check, case):
    """At each request rate the server answers as fast as before."""
    check(case)


@pytest.mark.perf(cases=range_over_rates)
def test_itl_range(check, case):
    """From the lowest to the highest rate the inter-token latency grows no more than before."""
    check(case)
