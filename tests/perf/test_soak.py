"""E16: Is a server as fast, and as small, after minutes of load? Only with --soak."""

from collections.abc import Iterator

import pytest

from perfgate.cases import Case, Load
from perfgate.study import Study

METRICS = ("output_throughput", "itl_median_ms", "ttft_median_ms")


def end_over_beginning(study: Study) -> Iterator[Case]:
    """The closed load at the end of the session over the same at its beginning."""
    if not study.soak_minutes:
        return
    for server in study.models:
        end = Load(server=server, workload=study.soaked(study.closed))
        beginning = Load(server=server, workload=study.closed)
        for metric in METRICS:
            yield study.ratio("E16", metric, end, beginning)


def growth(study: Study) -> Iterator[Case]:
    """Memory after all of the load over that before it."""
    if not study.soak_minutes:
        return
    metrics = ["memory_growth"]
    if study.gpu_count:
        metrics.append("gpu_memory_growth")
    for server in study.models:
        for metric in metrics:
            yield study.value("E16", metric, server, None)


@pytest.mark.perf(cases=end_over_beginning)
def test_end_over_beginning(check, case):
    """After the soak the same load is answered as it was at first."""
    check(case)


@pytest.mark.perf(cases=growth)
def test_memory_growth(check, case):
    """The server grows no more under load than before."""
    check(case)
