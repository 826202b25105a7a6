"""A run is compared with recorded launches: loss, threshold, outcome."""

import dataclasses
import datetime
import math

import msgspec
import pytest

from perfgate.judge.baseline_schema import Known
from perfgate.judge.noise import Noise
from perfgate.judge.policy import GPU_RATE
from perfgate.judge.recorded import Comparison
from perfgate.judge.verdict import Outcome
from tests.support.builders import CPU_RATIO, ITL, THROUGHPUT, recorded, seen

TODAY = datetime.date(2026, 6, 1)
LAUNCHES = (100.0,) * 6


def noise(sigma=0.001, established=True):
    """Of launches whose geometric mean is 100."""
    return Noise(
        center=math.log(100.0),
        sigma=sigma,
        degrees_of_freedom=5.0,
        launches=6,
        runs=6,
        effective_sessions=6.0,
        established=established,
    )


def compared(*values, case=THROUGHPUT, sigma=0.001, **baseline):
    """Launches of a run with these values, against a baseline of 100."""
    return Comparison(
        case,
        seen(case, *values),
        recorded(case, LAUNCHES, **baseline),
        noise(sigma),
        GPU_RATE,
    )


@pytest.mark.parametrize(
    ("case", "value", "loss"),
    [
        (THROUGHPUT, 90.0, -math.log(0.9)),
        (THROUGHPUT, 110.0, -math.log(1.1)),
        (ITL, 110.0, math.log(1.1)),
        (ITL, 90.0, math.log(0.9)),
        (CPU_RATIO, 110.0, math.log(1.1)),
        (CPU_RATIO, 90.0, -math.log(0.9)),
    ],
)
def test_loss_is_positive_where_it_got_worse(case, value, loss):
    """Of a throughput where it fell, of a latency where it rose; of a two-sided case always."""
    assert loss == pytest.approx(compared(value, case=case).loss)


def test_the_geometric_mean_of_the_launches_counts():
    """100 and 81 come to 90: 10 % less than the baseline."""
    assert -0.1 == pytest.approx(compared(100.0, 81.0).change)


def test_the_threshold_falls_with_the_launches():
    """Three launches are known better than one; more noise allows for more."""
    one, three = compared(90.0), compared(90.0, 90.0, 90.0)
    noisy = compared(90.0, sigma=0.05)

    assert three.threshold <= one.threshold < noisy.threshold
    assert one.fast_pass_threshold <= one.threshold


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ((100.0,), Outcome.PASSED),
        ((90.0, 90.0, 90.0), Outcome.REGRESSED),
        ((110.0, 110.0, 110.0), Outcome.IMPROVED),
        ((60.0, 90.0, 120.0), Outcome.INCONCLUSIVE),
        ((40.0, 45.0, 50.0), Outcome.REGRESSED),
        ((100.0, 70.0, 100.0), Outcome.REGRESSED),
        ((90.0, 60.0, 50.0), Outcome.REGRESSED),
        ((150.0, 60.0), Outcome.INCONCLUSIVE),
        ((100.0, 50.0), Outcome.REGRESSED),
        ((80.0, 50.0), Outcome.REGRESSED),
    ],
    ids=[
        "same",
        "less",
        "more",
        "unsteady",
        "unsteady and far",
        "mixed",
        "slow",
        "two unsteady",
        "two mixed",
        "two slow",
    ],
)
def test_the_outcome_follows_from_loss_and_threshold(values, outcome):
    """Launches that vary beyond the noise decide nothing, unless all are far off."""
    assert outcome is compared(*values).judgement(TODAY).outcome


@pytest.mark.parametrize(
    ("spread", "is_clear"), [(0.0, True), (0.06, True), (0.07, False)]
)
def test_unsteady_launches_show_a_loss_beyond_their_own_error(spread, is_clear):
    """Three launches around a loss of 0.5: t(0.995; 2) is 9.925, the threshold 0.1076.

    Beyond it remain 0.39, which is 9.925 standard errors of a spread of 0.068.
    """
    values = [100 * math.exp(-0.5 + spread * side) for side in (-1, 0, 1)]

    row = compared(*values, sigma=0.02)

    assert (0.5, 0.1076) == pytest.approx((row.loss, row.threshold), abs=1e-4)
    assert is_clear is row.is_clear


def test_mixed_launches_are_a_regression_of_the_start():
    """The summary says which share of the launches is slow."""
    for values in ((100.0, 70.0, 100.0), (100.0, 70.0)):
        mixed = compared(*values)
        summary = mixed.summary(mixed.judgement(TODAY), "tok/s")

        assert f"1 of {len(values)} launches is 30.0 % worse" in summary


def test_a_loss_below_the_floor_passes():
    """10 tok/s of 100 are less than what counts, if with the margin too.

    The loss is 10.54 %, the margin of three launches 0.18 %. A floor of 11 tok/s is
    -ln 0.89 = 11.65 %, one of 10.1 tok/s -ln 0.899 = 10.65 %.
    """
    below = compared(90.0, 90.0, 90.0, floor=11.0)
    beside = compared(90.0, 90.0, 90.0, floor=10.1)

    assert Outcome.PASSED is below.judgement(TODAY).outcome
    assert Outcome.NOT_EXCLUDED is beside.judgement(TODAY).outcome
    details = below.details(below.judgement(TODAY))
    assert any("11 tok/s" in line for line in details)


def test_a_floor_above_the_recorded_value_passes_any_loss():
    """Of 100 tok/s no more than 100 can be lost."""
    judged = compared(1.0, 1.0, 1.0, floor=200.0)

    assert Outcome.PASSED is judged.judgement(TODAY).outcome


KNOWN = Known(
    worse_by=0.1, change=-0.1, reason="a safer kernel", until="2026-07-01"
)


@pytest.mark.parametrize(
    ("value", "today", "outcome"),
    [
        (90.0, TODAY, Outcome.PASSED),
        (70.0, TODAY, Outcome.REGRESSED),
        (90.0, datetime.date(2026, 7, 2), Outcome.REGRESSED),
        (100.0, TODAY, Outcome.INVALID),
    ],
    ids=["as-accepted", "worse", "expired", "gone"],
)
def test_an_accepted_loss_excuses_no_other(value, today, outcome):
    """Until its day, and up to its size; where it is gone the baseline is to be made anew."""
    baseline = compared(value, value, value)
    metric = msgspec.structs.replace(baseline.baseline.metric, known=KNOWN)
    judged = compared(value, value, value, known=metric.known)

    judgement = judged.judgement(today)

    assert outcome is judgement.outcome
    assert KNOWN == judgement.known
    assert (outcome is Outcome.REGRESSED) == bool(judgement.objection)


@pytest.mark.parametrize(
    ("value", "today", "end"),
    [
        (90.0, TODAY, "; a loss of 10.0 % is accepted until 2026-07-01"),
        (
            70.0,
            TODAY,
            "; a loss of 10.0 % was accepted until 2026-07-01: the loss is now larger than "
            "the accepted one",
        ),
        (
            90.0,
            datetime.date(2026, 7, 2),
            "; a loss of 10.0 % was accepted until 2026-07-01: that day has passed",
        ),
    ],
    ids=["as-accepted", "worse", "expired"],
)
def test_the_summary_says_what_an_accepted_loss_decided(value, today, end):
    """Else a loss passed beyond its threshold, or was red from one day to the next, unsaid."""
    judged = compared(value, value, value, known=KNOWN)

    assert judged.summary(judged.judgement(today), "tok/s").endswith(end)


def test_an_accepted_loss_is_not_named_where_it_decided_nothing():
    """A loss within the threshold passes by itself."""
    judged = compared(96.0, 96.0, 96.0, known=KNOWN, sigma=0.05)

    summary = judged.summary(judged.judgement(TODAY), "tok/s")

    assert "accepted" not in summary


@pytest.mark.parametrize(
    ("values", "launches"),
    [((100.0,), 0), ((90.0,), 2), ((90.0, 90.0, 90.0), 0)],
)
def test_more_launches_are_asked_for_once(values, launches):
    """After a single launch that does not pass alone."""
    comparison = compared(*values)
    outcome = comparison.judgement(TODAY).outcome

    assert launches == comparison.needs_launches(outcome)


@pytest.mark.parametrize(
    ("sigma", "is_hidden"), [(0.001, False), (0.009, False), (0.020, True)]
)
def test_noise_above_the_ceiling_is_said(sigma, is_hidden):
    """Three launches, six recorded, five degrees of freedom: an error of 0.91 sigma.

    The noise bound is 5.4 sigma; the ceiling is 0.051 as a logarithm.
    """
    comparison = compared(99.0, 99.0, 99.0, sigma=sigma)
    details = " ".join(comparison.details(comparison.judgement(TODAY)))

    assert is_hidden == ("The noise bound lies above the ceiling" in details)


def test_a_ceiling_below_the_target_effect_is_raised_and_says_so():
    """The target effect is 2 %: no smaller loss is to be caught."""
    comparison = dataclasses.replace(
        compared(100.0), policy=dataclasses.replace(GPU_RATE, fail_over=0.01)
    )
    details = comparison.details(comparison.judgement(TODAY))

    assert "A ceiling below the target effect counts as 2.0 %." in details


def test_no_launch_that_gets_slower_takes_a_regression_back():
    """With the first one at 100 two of three were slow, at 90 all of them are."""
    values = ((100.0, 50.0, 30.0), (90.0, 50.0, 30.0), (80.0, 50.0, 30.0))
    outcomes = {compared(*row).judgement(TODAY).outcome for row in values}

    assert {Outcome.REGRESSED} == outcomes
