"""E1: How many tokens a second does a saturated server make, with each model?"""

from collections.abc import Iterator

import pytest

from perfgate.cases import Case, Load
from perfgate.study import Study, throughput_of


def steady_state(study: Study) -> Iterator[Case]:
    """Each model under a fixed concurrency.

    Where slots free up evenly the steady window is judged; the throughput of the whole
    load, with its start and its end, is report-only then.
    """
    judged = study.closed_throughput
    for server in study.models:
        yield study.value("E1", judged, server, study.closed)
        if judged != "output_throughput":
            case = study.value("E1", "output_throughput", server, study.closed)
            yield case.report_only


def closed_loop_latency(study: Study) -> Iterator[Case]:
    """Each model's stutter and its slowest answers under that load, on GPUs.

    The mean ITL sees slow gaps that the median leaves out. The mean E2EL is report-only:
    at a fixed concurrency it is the output throughput in other units (Little's law).
    """
    if study.gpu_count == 0:
        return
    for server in study.models:
        for metric in ("itl_mean_ms", "e2el_p95_ms"):
            yield study.value("E1", metric, server, study.closed)
        case = study.value("E1", "e2el_mean_ms", server, study.closed)
        yield case.report_only


def burst(study: Study) -> Iterator[Case]:
    """Each model under the study's burst of 100 prompts, where the platform has it.

    The throughput of the steady window varies least, and sees no prefill. That of the
    whole burst does: a smaller prefill chunk cost 6 % of it and 1 % of the other. At
    fixed lengths the last two are the same figure in other units.

    The window of a sparse model is report-only with made-up routers. They are alike
    in all layers, and give its bursts one of three speeds, 5 % apart, by chance.
    """
    if study.burst is None:
        return
    for server in study.models:
        for metric in ("output_throughput", "ttft_mean_ms"):
            yield study.value("E1", metric, server, study.burst)
        case = study.value(
            "E1", "steady_output_throughput", server, study.burst
        )
        if server in study.sparse and study.has_random_routers:
            case = case.report_only
        yield case
        for metric in ("total_token_throughput", "request_throughput"):
            case = study.value("E1", metric, server, study.burst)
            yield case.report_only


def reference_over_model(study: Study) -> Iterator[Case]:
    """The reference's throughput over the model's, under the same prompts."""
    if not study.is_pair:
        return
    for workload in (study.closed, study.burst):
        if workload is not None:
            metric = throughput_of(workload)
            reference = Load(server=study.reference, workload=workload)
            model = Load(server=study.model, workload=workload)
            yield study.ratio("E1", metric, reference, model)


@pytest.mark.perf(cases=steady_state)
def test_output_throughput(check, case):
    """A server at a fixed concurrency makes as many tokens a second as before."""
    check(case)


@pytest.mark.perf(cases=closed_loop_latency)
def test_closed_loop_latency(check, case):
    """At a fixed concurrency no token and no answer takes longer than before."""
    check(case)


@pytest.mark.perf(cases=burst)
def test_burst_throughput(check, case):
    """A burst of 100 prompts is answered as fast as before."""
    check(case)


@pytest.mark.perf(cases=reference_over_model)
def test_reference_over_model_throughput(check, case):
    """The reference's throughput is the same multiple of the model's as before."""
    check(case)
