"""Verdicts of ratios: the side that moved is named."""

import math

import pytest

from perfgate.accept.accept import accept
from perfgate.accept.choice import Choice
from perfgate.accept.refusals import RecordingRefused
from perfgate.cases import Case
from perfgate.judge.baseline_schema import read_recorded
from perfgate.judge.baseline_store import Store
from perfgate.judge.gate import judge
from perfgate.judge.observation import Observation
from perfgate.judge.ratio import loss, moved_side, moves
from perfgate.judge.verdict import Outcome
from perfgate.results import schema as rundata
from perfgate.results.samples import Sample
from tests.support import builders as m

GPU_ITL = Case(
    experiment="E2",
    metric="itl_median_ms",
    numerator=m.MOE_LOAD,
    denominator=m.DENSE_LOAD,
)


def judged(case: Case, of: float, over: float) -> Outcome:
    """The verdict on these sides; the baseline is 300 over 100, its launches vary by 0.2 %."""
    base = m.recorded(case, [3.0 * factor for factor in m.QUIET])
    seen = m.seen(case, *[of / over] * 3)
    samples = tuple(
        Sample(
            run="r", launch=n, value=of / over, numerator=of, denominator=over
        )
        for n in range(3)
    )
    return judge(
        case, Observation(**{**vars(seen), "samples": samples}), base
    ).outcome


@pytest.mark.parametrize(
    ("of", "over", "outcome"),
    [
        (300.0, 100.0, Outcome.PASSED),
        (270.0, 100.0, Outcome.REGRESSED),  # the numerator lost throughput
        (
            300.0,
            90.0,
            Outcome.REGRESSED,
        ),  # the denominator did: the ratio is larger, and nothing to keep
        (330.0, 100.0, Outcome.IMPROVED),
        (
            300.0,
            110.0,
            Outcome.IMPROVED,
        ),  # the denominator gained: the ratio is smaller, and nothing was lost
        (270.0, 95.0, Outcome.REGRESSED),  # both lost, the numerator more
        (285.0, 90.0, Outcome.REGRESSED),  # both lost, the denominator more
        (
            318.0,
            95.0,
            Outcome.REGRESSED,
        ),  # the numerator gained, and the denominator lost all the same
        (318.0, 100.3, Outcome.IMPROVED),
    ],
)
def test_the_side_that_moved_decides(of, over, outcome):
    """A faster sparse model fails no ratio, and a slower one makes none an improvement."""
    assert outcome is judged(m.RATIO, of, over)


def test_of_latencies_more_is_worse():
    """The same with a metric of which less is better."""
    outcomes = [
        judged(GPU_ITL, of, over)
        for of, over in ((330.0, 100.0), (300.0, 110.0), (300.0, 90.0))
    ]

    assert [Outcome.REGRESSED, Outcome.REGRESSED, Outcome.IMPROVED] == outcomes


def test_on_the_cpu_any_move_counts():
    """There absolute values do not tell which side moved."""
    moved = [
        judged(m.CPU_RATIO, of, over)
        for of, over in ((300.0, 50.0), (300.0, 200.0))
    ]

    assert [Outcome.REGRESSED] * 2 == moved


def test_a_ratio_that_improved_is_accepted_without_a_reason(tmp_path):
    """A faster sparse model lowers dense over sparse; that is nothing that crept."""
    store = Store(tmp_path / "baselines")

    def run(number, sparse):
        values = {
            m.DENSE_LOAD: {"output_throughput": [9000.0]},
            m.MOE_LOAD: {"output_throughput": [sparse]},
        }
        rundata.save(
            m.run(values, [m.RATIO], f"202606{number:02}-120000-1"),
            tmp_path / str(number),
        )
        return tmp_path / str(number)

    for number, factor in enumerate(m.QUIET, 1):
        accept([run(number, 3000.0 * factor)], store, Choice(), env={})
    accept([run(7, 3600.0)], store, Choice(), env={})

    metric = read_recorded(store.path(m.RATIO, "h200x2")).metrics[
        "output_throughput"
    ]
    assert [2.5] == [point.value for point in metric.launches]
    with pytest.raises(RecordingRefused, match="the new value is worse"):
        accept([run(8, 3000.0)], store, Choice(), env={})


def test_sides_that_are_not_known():
    """Without the sides of then, any move counts."""
    assert None is moves([(3.0, 1.0)], [])
    assert math.log(2) == pytest.approx(
        loss(math.log(0.5), None, higher=True, tolerance=0.01)
    )
    assert math.log(2) == pytest.approx(
        loss(math.log(2), None, higher=True, tolerance=0.01)
    )


@pytest.mark.parametrize(
    ("of", "over", "moved"),
    [
        (270.0, 98.0, "numerator"),
        (295.0, 80.0, "denominator"),
        (270.0, 90.0, "both"),
        (270.0, 93.0, "both"),
    ],
)
def test_the_side_that_moved_is_the_one_that_moved_twice_as_much(
    of, over, moved
):
    """In logarithms, from 300 over 100; where neither did, both are named."""
    assert moved == moved_side([(of, over)], [(300.0, 100.0)])
