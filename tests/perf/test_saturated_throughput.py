"""E1: How many tokens a second does a saturated server make, with each model?"""

from collections.abc import Iterator

import msgspec
import pytest

from perfgate.cases import Case, Load
from perfgate.study import Study


def steady_state(study: Study) -> Iterator[Case]:
    """Each model under a fixed concurrency."""
    for server in study.models:
        yield study.value("E1", "output_throughput", server, study.closed)


def burst(study: Study) -> Iterator[Case]:
    """Each model under the study's burst of 100 prompts, where the platform has it."""
    if study.burst is None:
        return
    for server in study.models:
        yield study.value("E1", "output_throughput", server, study.burst)
        # At fixed lengths these are the same figure in other units. One loss must fail
        # one case.
        for metric in ("total_token_throughput", "request_throughput"):
            case = study.value("E1", metric, server, study.burst)
            yield msgspec.structs.replace(case, gate="report")


def dense_over_moe(study: Study) -> Iterator[Case]:
    """The dense model's throughput over the sparse one's, under the same prompts."""
    for workload in (study.closed, study.burst):
        if workload is not None:
            dense = Load(server=study.dense, workload=workload)
            sparse = Load(server=study.moe, workload=workload)
            yield study.ratio("E1", "output_throughput", dense, sparse)


@pytest.mark.perf(cases=steady_state)
def test_output_throughput(check, case):
    """A server at a fixed concurrency makes as many tokens a second as before."""
    check(case)


@pytest.mark.perf(cases=burst)
def test_burst_throughput(check, case):
    """A burst of 100 prompts is answered as fast as before, and near what was published."""
    check(case)


@pytest.mark.perf(cases=dense_over_moe)
def test_dense_over_moe_throughput(check, case):
    """The dense model's throughput is the same multiple of the sparse one's as before."""
    check(case)
