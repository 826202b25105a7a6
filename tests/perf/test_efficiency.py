"""E7: How many tokens a second does a gigabyte of memory buy?"""

from collections.abc import Iterator

import pytest

from perfgate.cases import Case, Load
from perfgate.study import Study


def per_gigabyte(study: Study) -> Iterator[Case]:
    """Each model's output throughput over the memory that it holds.

    It is report-only: the throughput and the peak of memory are judged.
    """
    for server in study.models:
        case = study.value(
            "E7", "output_throughput_per_gb", server, study.closed
        )
        yield case.report_only


def reference_over_model(study: Study) -> Iterator[Case]:
    """The reference's efficiency over the model's; report-only as both are."""
    if not study.is_pair:
        return
    yield Case(
        experiment="E7",
        metric="output_throughput_per_gb",
        numerator=Load(server=study.reference, workload=study.closed),
        denominator=Load(server=study.model, workload=study.closed),
        gate="report",
    )


def energy(study: Study) -> Iterator[Case]:
    """Each model's energy per output token; on GPUs only, which count it."""
    if study.gpu_count == 0:
        return
    for server in study.models:
        for workload in (study.closed, study.single_stream):
            case = study.value(
                "E7", "energy_per_output_token_j", server, workload
            )
            yield case.report_only


def host_cpu(study: Study) -> Iterator[Case]:
    """CPU time of each model's server, and of its first process, for a token; on GPUs.

    On a CPU the ranks compute there. Report-only: what varies is not recorded yet.
    """
    if study.gpu_count == 0:
        return
    for server in study.models:
        for metric in ("host_cpu", "front_cpu"):
            name = f"{metric}_ms_per_output_token"
            case = study.value("E7", name, server, study.single_stream)
            yield case.report_only


@pytest.mark.perf(cases=per_gigabyte)
def test_throughput_per_gigabyte(check, case):
    """A gigabyte buys as many tokens a second as before."""
    check(case)


@pytest.mark.perf(cases=reference_over_model)
def test_reference_over_model_efficiency(check, case):
    """A gigabyte buys as many times more tokens with the reference as before."""
    check(case)


@pytest.mark.perf(cases=energy)
def test_energy_per_token(check, case):
    """A token costs as much energy as before."""
    check(case)


@pytest.mark.perf(cases=host_cpu)
def test_host_cpu_per_token(check, case):
    """A token costs the server's processes as much CPU time as before."""
    check(case)
