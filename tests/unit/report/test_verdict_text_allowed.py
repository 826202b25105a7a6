"""Change and allowed change of a table: what is printed agrees with what was decided."""

import msgspec
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from perfgate.judge.gate import judge
from perfgate.judge.verdict import Outcome
from perfgate.report import verdict_text
from tests.support import builders as m
from tests.support.judged_runs import judged

CASES = (m.THROUGHPUT, m.ITL, m.RATIO, m.CPU_RATIO)
# What a loss within the threshold never is.
LOST = (Outcome.REGRESSED, Outcome.INCONCLUSIVE)


def number(text):
    """The number in front of a printed change."""
    if text.startswith("unchanged"):
        return 0.0
    return float(text.partition(" ")[0])


def is_beyond(change, allowed):
    """Whether a change is larger than the one of its sign that is allowed."""
    for limit in map(number, allowed.split(" / ")):
        if limit < 0 and change < limit:
            return True
        if limit > 0 and change > limit:
            return True
    return False


def is_equal(change, allowed):
    """Whether a change is printed like what is allowed."""
    return change in map(number, allowed.split(" / "))


@given(
    case=st.sampled_from(CASES),
    change=st.floats(-0.6, 1.2),
    target=st.sampled_from([0.02, 0.1, 0.4, 0.6]),
    spread=st.floats(0.0001, 0.1),
    floor=st.sampled_from([0.0, 3.0, 20.0]),
)
@example(case=m.RATIO, change=0.21875, target=0.02, spread=0.03125, floor=20.0)
def test_what_is_beyond_what_is_allowed_never_passed(
    case, change, target, spread, floor
):
    """And what is within it never counts as a loss, whatever the digits."""
    # At the floor no digit tells one from the other.
    assume(abs(abs(change) * 100 - floor) > 1e-3)
    recorded = [100.0 * (1 + spread * n) for n in (-1, 1, -0.5, 0.5, 0, 0)]
    base = m.recorded(case, recorded, delta=target, floor=floor)

    verdict = judge(case, m.seen(case, *[100.0 * (1 + change)] * 3), base)

    printed = number(verdict_text.change(verdict))
    allowed = verdict_text.allowed(verdict)
    assert not is_equal(printed, allowed)
    # A ratio that moved by a gain lost nothing.
    if is_beyond(printed, allowed) and verdict.worse_by > 0:
        assert Outcome.PASSED is not verdict.outcome
    else:
        assert verdict.outcome not in LOST


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.metric)
@pytest.mark.parametrize("distance", [-3e-4, -1e-5, 1e-5, 3e-4])
def test_a_change_next_to_the_threshold_is_told_from_it(case, distance):
    """With one more digit, or two."""
    base = m.recorded(case, [100.0] * 6, delta=0.4)
    first = judge(case, m.seen(case, 100.0, 100.0, 100.0), base)
    rises = case is m.ITL
    size = first.threshold + distance
    if case.is_ratio:
        rises = False
    value = 100 * (1 + size if rises else 1 - size)

    verdict = judge(case, m.seen(case, value, value, value), base)

    printed = number(verdict_text.change(verdict))
    allowed = verdict_text.allowed(verdict)
    assert (distance > 0) == is_beyond(printed, allowed)
    assert (distance > 0) == (verdict.outcome is Outcome.REGRESSED)
    numbers = [text.strip() for text in allowed.split("/")]
    assert all(text in verdict.summary for text in numbers)


def test_what_is_not_excluded_shows_what_it_may_be():
    """The ceiling decides, and the possible loss is beyond it."""
    (row,) = judged("NOT_EXCLUDED").verdicts
    row = msgspec.structs.replace(
        row, change=-0.03, excluded=0.079, allowed=0.05
    )
    ratio = msgspec.structs.replace(
        row, case="A--over--B/w/output_throughput", unit="x", change=0.02
    )

    assert "-3.0 % (slower), may be -7.9 %" == verdict_text.change(row)
    assert "-5.0 %" == verdict_text.allowed(row)
    assert "+2.0 %, may be +8.6 %" == verdict_text.change(ratio)
    assert "-5.0 % / +5.3 %" == verdict_text.allowed(ratio)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "-2.0 %"),
        ({"metric": "itl_median_ms"}, "+2.0 %"),
        ({"metric": "of_a_project", "change": 0.1, "worse_by": 0.1}, "+2.0 %"),
        ({"metric": "of_a_project", "change": 0.1, "worse_by": -0.1}, "-2.0 %"),
        ({"metric": "of_a_project", "change": None}, "2.0 %"),
        ({"threshold": 1.0}, "-100.0 %"),
        ({"allowed": 0.05}, "-5.0 %"),
        ({"threshold": None}, "-"),
    ],
)
def test_allowed_has_the_sign_of_a_loss(changes, expected):
    """By the metric, or by the loss where a project defined it."""
    (row,) = judged("PASSED").verdicts

    assert expected == verdict_text.allowed(
        msgspec.structs.replace(row, **changes)
    )
