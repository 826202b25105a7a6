"""E17: How long does a long prompt take, and decoding behind it?"""

from collections.abc import Iterator

import pytest

from perfgate.cases import Case, Load
from perfgate.engines.base import ServerConfig
from perfgate.load.workload import Workload
from perfgate.study import Study


def prompts(
    study: Study, server: ServerConfig
) -> Iterator[tuple[ServerConfig, Workload]]:
    """Each long prompt, with the model's server whose context holds it."""
    for workload in study.prefill:
        fitting = study.fitting(server, workload)
        if fitting is not None:
            yield fitting, workload


def long_prompts(study: Study) -> Iterator[Case]:
    """Each model's TTFT, which is the device's own work here, and its ITL."""
    for server in study.models:
        for fitting, workload in prompts(study, server):
            for metric in ("ttft_median_ms", "itl_median_ms"):
                yield study.value("E17", metric, fitting, workload)


def model_over_reference(study: Study) -> Iterator[Case]:
    """The model's TTFT over its reference's."""
    if not study.is_pair:
        return
    references = {}
    for server, workload in prompts(study, study.reference):
        references[workload.name] = Load(server=server, workload=workload)
    for server, workload in prompts(study, study.model):
        reference = references.get(workload.name)
        if reference is not None:
            model = Load(server=server, workload=workload)
            yield study.shape("E17", "ttft_median_ms", model, reference)


@pytest.mark.perf(cases=long_prompts)
def test_prefill(check, case):
    """A long prompt is taken in, and decoded behind, as fast as before."""
    check(case)


@pytest.mark.perf(cases=model_over_reference)
def test_model_over_reference_prefill(check, case):
    """A long prompt takes the model the same multiple of its reference's time as before."""
    check(case)
