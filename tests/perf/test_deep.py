"""E15: Saturation, a prefix cache, speculative decoding: loads that --deep asks for by name."""

from collections.abc import Iterator

import pytest

from perfgate.cases import Case
from perfgate.study import Study


def deep(study: Study) -> Iterator[Case]:
    """Each model under each deep load; the load that the study file declares says by what."""
    for table in study.deep.values():
        for model in study.models:
            server = study.deep_server(table, model)
            if server is None:
                continue
            for name in table.workloads:
                workload = study.workload(name)
                for metric in table.judged:
                    yield study.value("E15", metric, server, workload)
                for metric in table.report_only:
                    case = study.value("E15", metric, server, workload)
                    yield case.report_only


@pytest.mark.perf(cases=deep)
def test_deep_load(check, case):
    """Under a load that goes further, the server does as well as before."""
    check(case)
