"""E11: How near does decoding come to the memory bandwidth, and a model to its reference?"""

from collections.abc import Iterator

import pytest

from perfgate.cases import Case, Load
from perfgate.study import Study


def bandwidth(study: Study) -> Iterator[Case]:
    """Each model's decode bandwidth at each batch size, on GPUs relative to the peak.

    It is report-only, because the ITL is judged.
    """
    metric = (
        "bandwidth_utilisation" if study.gpu_count else "decode_bandwidth_gb_s"
    )
    for server in study.models:
        for workload in study.sweep:
            case = study.value("E11", metric, server, workload)
            yield case.report_only


def model_over_reference(study: Study) -> Iterator[Case]:
    """The model's ITL over its reference's, from batch 2 to the largest.

    Batch 1 belongs to test_single_stream.py. The others are judged where absolute
    values are.
    """
    if not study.is_pair:
        return
    for workload in study.sweep:
        if workload != study.single_stream:
            model = Load(server=study.model, workload=workload)
            reference = Load(server=study.reference, workload=workload)
            yield study.shape("E11", "itl_median_ms", model, reference)


def bandwidth_ratio(study: Study) -> Iterator[Case]:
    """The model's bandwidth over its reference's.

    It is 1 where the ratio of the times is the ratio of the bytes.
    """
    if not study.is_pair:
        return
    for workload in study.sweep:
        model = Load(server=study.model, workload=workload)
        reference = Load(server=study.reference, workload=workload)
        case = study.ratio("E11", "decode_bandwidth_gb_s", model, reference)
        yield case.report_only


@pytest.mark.perf(cases=bandwidth)
def test_bandwidth(check, case):
    """A decode step gets as much memory bandwidth as before."""
    check(case)


@pytest.mark.perf(cases=model_over_reference)
def test_model_over_reference_latency_at_batch(check, case):
    """At each batch size a model's ITL is the same multiple of its reference's."""
    check(case)


@pytest.mark.perf(cases=bandwidth_ratio)
def test_model_over_reference_beside_the_line(check, case):
    """The ratio of the models' bandwidths is as before."""
    check(case)
