"""E1: How many tokens a second does a busy server make, and how many fewer if the model is sparse?"""

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
    if study.burst is not None:
        for server in study.models:
            yield study.value("E1", "output_throughput", server, study.burst)
            # With lengths that are fixed these are the same figure in other units: one
            # loss is to be one red case.
            for metric in ("total_token_throughput", "request_throughput"):
                yield msgspec.structs.replace(
                    study.value("E1", metric, server, study.burst), gate="report"
                )


def dense_over_moe(study: Study) -> Iterator[Case]:
    """The dense model's throughput over the sparse one's, under the same prompts."""
    for workload in (study.closed, study.burst):
        if workload is not None:
            of, over = (
                Load(server=server, workload=workload)
                for server in (study.dense, study.moe)
            )
            yield study.ratio("E1", "output_throughput", of, over)


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
    """The sparse model costs as much throughput, against the dense one of this very session, as before."""
    check(case)
