"""E4: Is a larger batch still nearly free in latency and worth it in throughput?"""

from collections.abc import Iterator

import pytest

from perfgate.cases import Case, Load
from perfgate.study import Study


def each_batch(study: Study) -> Iterator[Case]:
    """Each model at every concurrency of the study, on GPUs 1 to 64."""
    # In test_single_stream.py and test_saturated_throughput.py.
    others = (study.single_stream, study.closed)
    for server in study.models:
        for workload in dict.fromkeys((*study.batches, *study.sweep)):
            if workload in others:
                continue
            for metric in ("itl_median_ms", "output_throughput"):
                yield study.value("E4", metric, server, workload)


def growth(study: Study) -> Iterator[Case]:
    """Concurrency 32 over concurrency 1, in ITL and in output throughput."""
    for server in study.models:
        largest = Load(server=server, workload=study.batches[-1])
        smallest = Load(server=server, workload=study.batches[0])
        for metric in ("itl_median_ms", "output_throughput"):
            yield study.ratio("E4", metric, largest, smallest)


@pytest.mark.perf(cases=each_batch)
def test_batch(check, case):
    """At each concurrency the server is as fast as before."""
    check(case)


@pytest.mark.perf(cases=growth)
def test_growth_with_batch(check, case):
    """From concurrency 1 to 32 latency grows no more, and throughput no less, than before."""
    check(case)
