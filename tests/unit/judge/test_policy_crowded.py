"""Ratio of two engines where cores are too few: as coarse as the times of one of them."""

import msgspec
import pytest

from perfgate.cases import Case, Load
from perfgate.judge.gate import judge
from perfgate.judge.policy import CPU_RATIO, CPU_THROUGHPUT, policy_of
from perfgate.judge.verdict import Outcome
from tests.support import builders as m

TWO_CORES = "cpu-some-cpu-avx2-x2"
# Of one half-hour.
RECORDED = (0.452, 0.418, 0.443, 0.455, 0.440, 0.412)


def case_of(numerator, denominator):
    """Throughput of a server over that of another one."""
    return Case(
        experiment="E9",
        metric="output_throughput",
        numerator=Load(server=numerator, workload=m.CLOSED),
        denominator=Load(server=denominator, workload=m.CLOSED),
        two_sided=True,
    )


OTHER_ENGINE = msgspec.structs.replace(m.DENSE_CPU, engine="sglang")
ENGINES = case_of(OTHER_ENGINE, m.DENSE_CPU)


@pytest.mark.parametrize(
    ("case", "label", "expected"),
    [
        (ENGINES, TWO_CORES, CPU_THROUGHPUT),
        (ENGINES, f"{TWO_CORES}-quota2", CPU_THROUGHPUT),
        (ENGINES, "cpu-some-cpu-avx2-x3", CPU_RATIO),
        (case_of(m.MOE_CPU, m.DENSE_CPU), TWO_CORES, CPU_RATIO),
    ],
)
def test_two_engines_need_a_core_more_than_ranks(case, label, expected):
    """On fewer their ratio has the thresholds of their own times."""
    assert expected.smallest == policy_of(case, label).smallest


@pytest.mark.parametrize(
    ("value", "outcome"), [(0.302, Outcome.PASSED), (0.2, Outcome.REGRESSED)]
)
def test_an_engine_that_gains_in_a_quiet_hour_fails_nothing(value, outcome):
    """A sharper target effect of the owner's does not count; half of the ratio fails."""
    decision = judge(
        ENGINES,
        m.seen(ENGINES, *[value] * 3),
        m.recorded(ENGINES, RECORDED, delta=0.4),
    )

    assert (outcome, "hard") == (decision.outcome, decision.gate)
