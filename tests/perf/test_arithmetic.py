"""E11: How near does decoding come to what the bytes of its steps allow, and the sparse model to its line?"""

from collections.abc import Iterator

import msgspec
import pytest

from perfgate.cases import Case, Load
from perfgate.study import Study


def bandwidth(study: Study) -> Iterator[Case]:
    """Each model's bandwidth at each batch; of the GPU's peak where one is known. Reported: the ITL is judged."""
    metric = "bandwidth_utilisation" if study.gpu_count else "decode_bandwidth_gb_s"
    for server in study.models:
        for workload in study.sweep:
            yield msgspec.structs.replace(
                study.value("E11", metric, server, workload), gate="report"
            )


def moe_over_dense(study: Study) -> Iterator[Case]:
    """The sparse model's time per token over the dense one's, from batch 1 to the largest.

    At batch 1 it is the question of test_single_stream.py; the others are judged where
    absolute values are.
    """
    for workload in study.sweep:
        if workload != study.single_stream:
            of, over = (
                Load(server=server, workload=workload)
                for server in (study.moe, study.dense)
            )
            yield study.shape("E11", "itl_median_ms", of, over)


def beside_the_line(study: Study) -> Iterator[Case]:
    """The sparse model's bandwidth over the dense one's: 1 where the ratio of times is that of the bytes."""
    for workload in study.sweep:
        of, over = (
            Load(server=server, workload=workload)
            for server in (study.moe, study.dense)
        )
        case = study.ratio("E11", "decode_bandwidth_gb_s", of, over)
        yield msgspec.structs.replace(case, gate="report")


@pytest.mark.perf(cases=bandwidth)
def test_bandwidth(check, case):
    """How much of the memory's bandwidth a decode step gets."""
    check(case)


@pytest.mark.perf(cases=moe_over_dense)
def test_moe_over_dense_latency_at_batch(check, case):
    """At each batch the sparse model costs as much time per token, against the dense one, as before."""
    check(case)


@pytest.mark.perf(cases=beside_the_line)
def test_moe_over_dense_beside_the_line(check, case):
    """How far the measured ratio lies from the ratio of the bytes."""
    check(case)
