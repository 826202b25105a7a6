"""E13: How fast are the models under workloads that the study adds, by the metrics it names?"""

from collections.abc import Iterator

import pytest

from perfgate.cases import Case, Load
from perfgate.study import Study


def each_model(study: Study) -> Iterator[Case]:
    """Each model under each workload that names what is judged."""
    for name, metrics in study.judged_workloads.items():
        for server in study.models:
            for metric in metrics:
                yield study.value("E13", metric, server, study.workload(name))


def model_over_reference(study: Study) -> Iterator[Case]:
    """The same metrics of the model over those of its reference."""
    if not study.is_pair:
        return
    for name, metrics in study.judged_workloads.items():
        workload = study.workload(name)
        model = Load(server=study.model, workload=workload)
        reference = Load(server=study.reference, workload=workload)
        for metric in metrics:
            yield study.ratio("E13", metric, model, reference)


@pytest.mark.perf(cases=each_model)
def test_workload(check, case):
    """Under a workload of the study's own the server is as fast as before."""
    check(case)


@pytest.mark.perf(cases=model_over_reference)
def test_workload_over_reference(check, case):
    """Under it the model is the same multiple of its reference as before."""
    check(case)
