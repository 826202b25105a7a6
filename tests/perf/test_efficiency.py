"""E7: How many tokens a second does a gigabyte of memory buy?"""

from collections.abc import Iterator

import msgspec
import pytest

from perfgate.cases import Case, Load
from perfgate.study import Study


def per_gigabyte(study: Study) -> Iterator[Case]:
    """Each model's throughput over the memory that it holds."""
    for server in study.models:
        yield study.value("E7", "output_throughput_per_gb", server, study.closed)


def dense_over_moe(study: Study) -> Iterator[Case]:
    """The dense model's efficiency over the sparse one's; reported, since its parts are judged by themselves."""
    of, over = (
        Load(server=server, workload=study.closed)
        for server in (study.dense, study.moe)
    )
    yield Case(
        experiment="E7",
        metric="output_throughput_per_gb",
        of=of,
        over=over,
        gate="report",
    )


def energy(study: Study) -> Iterator[Case]:
    """Each model's energy for an output token, where GPUs count it: on the CPU nothing does, so nothing is asked."""
    if study.gpu_count:
        for server in study.models:
            for workload in (study.closed, study.single_stream):
                case = study.value("E7", "energy_per_output_token_j", server, workload)
                yield msgspec.structs.replace(case, gate="report")


@pytest.mark.perf(cases=per_gigabyte)
def test_throughput_per_gigabyte(check, case):
    """A gigabyte buys as many tokens a second as before."""
    check(case)


@pytest.mark.perf(cases=dense_over_moe)
def test_dense_over_moe_efficiency(check, case):
    """How much more a gigabyte buys with the dense model."""
    check(case)


@pytest.mark.perf(cases=energy)
def test_energy_per_token(check, case):
    """What a token costs in energy."""
    check(case)
