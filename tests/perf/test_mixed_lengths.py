"""E19: How fast are prompts of all lengths taken in beside decoding?"""

from collections.abc import Iterator

import pytest

from perfgate.cases import Case
from perfgate.study import Study, throughput_of


def mixed(study: Study) -> Iterator[Case]:
    """Each model's throughput in the steady state, its mean ITL and its mean TTFT.

    A long prompt beside decoding makes a few long gaps, which the mean sees and the
    median does not.
    """
    for server in study.models:
        for workload in study.mixed:
            for metric in (
                throughput_of(workload),
                "itl_mean_ms",
                "ttft_mean_ms",
            ):
                yield study.value("E19", metric, server, workload)


@pytest.mark.perf(cases=mixed)
def test_mixed_lengths(check, case):
    """Prompts of all lengths beside decoding cost as much as before."""
    check(case)
