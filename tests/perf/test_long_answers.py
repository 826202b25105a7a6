"""E18: Does decoding keep its speed over long answers?"""

from collections.abc import Iterator

import pytest

from perfgate.cases import Case
from perfgate.study import Study, throughput_of


def long_answers(study: Study) -> Iterator[Case]:
    """Each model's throughput in the steady state, and its ITL."""
    for server in study.models:
        for workload in study.long_answers:
            for metric in (throughput_of(workload), "itl_median_ms"):
                yield study.value("E18", metric, server, workload)


@pytest.mark.perf(cases=long_answers)
def test_long_answers(check, case):
    """Long answers are decoded as fast as before."""
    check(case)
