"""E2: How long does one user wait for each token when nobody else is there?"""

from collections.abc import Iterator

import pytest

from perfgate.cases import Case, Load
from perfgate.study import Study


def alone(study: Study) -> Iterator[Case]:
    """Each model answering one request at a time."""
    for server in study.models:
        for metric in ("itl_median_ms", "tpot_median_ms", "ttft_median_ms"):
            yield study.value("E2", metric, server, study.single_stream)


def moe_over_dense(study: Study) -> Iterator[Case]:
    """The sparse model's time per token over the dense one's."""
    of, over = (
        Load(server=server, workload=study.single_stream)
        for server in (study.moe, study.dense)
    )
    yield study.ratio("E2", "itl_median_ms", of, over)


@pytest.mark.perf(cases=alone)
def test_single_stream_latency(check, case):
    """One request at a time is answered as fast as before."""
    check(case)


@pytest.mark.perf(cases=moe_over_dense)
def test_moe_over_dense_latency(check, case):
    """The sparse model costs as much time per token, against the dense one of this very session, as before."""
    check(case)
