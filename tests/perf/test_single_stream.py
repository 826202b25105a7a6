"""E2: How long does one user wait for each token on an idle server?"""

from collections.abc import Iterator

import pytest

from perfgate.cases import Case, Load
from perfgate.study import Study


def single_stream(study: Study) -> Iterator[Case]:
    """Each model answering one request at a time.

    The median TPOT is report-only: of one stream it is the median ITL again.
    """
    for server in study.models:
        for metric in ("itl_median_ms", "ttft_median_ms"):
            yield study.value("E2", metric, server, study.single_stream)
        case = study.value("E2", "tpot_median_ms", server, study.single_stream)
        yield case.report_only


def whole_answer(study: Study) -> Iterator[Case]:
    """Each model's mean ITL, which sees rare slow gaps, and its mean E2EL; on GPUs."""
    if study.gpu_count == 0:
        return
    for server in study.models:
        for metric in ("itl_mean_ms", "e2el_mean_ms"):
            yield study.value("E2", metric, server, study.single_stream)


def model_over_reference(study: Study) -> Iterator[Case]:
    """The model's ITL over its reference's."""
    if not study.is_pair:
        return
    model = Load(server=study.model, workload=study.single_stream)
    reference = Load(server=study.reference, workload=study.single_stream)
    yield study.ratio("E2", "itl_median_ms", model, reference)


@pytest.mark.perf(cases=single_stream)
def test_single_stream_latency(check, case):
    """One request at a time is answered as fast as before."""
    check(case)


@pytest.mark.perf(cases=whole_answer)
def test_single_stream_answer(check, case):
    """No gap within an answer, and no answer, takes longer than before."""
    check(case)


@pytest.mark.perf(cases=model_over_reference)
def test_model_over_reference_latency(check, case):
    """The model's ITL is the same multiple of its reference's as before."""
    check(case)
