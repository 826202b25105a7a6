"""What a run excludes: NOT_EXCLUDED, what PASSED promises, and what would exclude a loss."""

from __future__ import annotations

import dataclasses
import datetime
import math
import random
from pathlib import Path

import msgspec
import pytest

from perfgate.judge import noise_table
from perfgate.judge.noise import THRESHOLD_SHARE, Noise, log_loss, noise_of
from perfgate.judge.policy import GPU_RATE
from perfgate.judge.recorded import Comparison
from perfgate.judge.verdict import Outcome
from tests.support.builders import (
    CPU_RATIO,
    ITL,
    RATIO,
    THROUGHPUT,
    recorded,
    seen,
)

TODAY = datetime.date(2026, 6, 1)
SHIPPED = Path(__file__).resolve().parents[3] / "baselines" / noise_table.FILE


def compared(*values, sigma=0.001, case=THROUGHPUT, delta=None):
    """Launches of a run against six of 100, with five degrees of freedom."""
    noise = Noise(math.log(100.0), sigma, 5.0, 6, 6, 6.0, True)
    baseline = recorded(case, [100.0] * 6, delta=delta)
    return Comparison(case, seen(case, *values), baseline, noise, GPU_RATE)


def outcome_of(comparison):
    """The outcome without an accepted loss."""
    return comparison.judgement(TODAY).outcome


@pytest.mark.parametrize(
    ("values", "sigma", "outcome"),
    [
        ((100.0,), 0.01, Outcome.PASSED),
        ((100.0,), 0.03, Outcome.NOT_EXCLUDED),
        ((97.0,), 0.01, Outcome.NOT_EXCLUDED),
        ((94.0,) * 3, 0.01, Outcome.REGRESSED),
        ((112.0,) * 3, 0.01, Outcome.IMPROVED),
        ((60.0, 90.0, 120.0), 0.01, Outcome.INCONCLUSIVE),
    ],
    ids=["equal", "noisy", "slower", "lost", "gained", "contradict"],
)
def test_each_outcome(values, sigma, outcome):
    """One launch has a margin of 2.18 % at 1 %, 6.5 % at 3 %; the ceiling is 5.13 %.

    2.015 x sigma x sqrt(1 + 1/6). A throughput of 97 is 3.05 % less, as a logarithm.
    """
    assert outcome is outcome_of(compared(*values, sigma=sigma))


@pytest.mark.parametrize(
    ("case", "value", "loss"),
    [(THROUGHPUT, 99.0, -math.log(0.99)), (ITL, 101.0, math.log(1.01))],
)
def test_passed_states_what_is_excluded(case, value, loss):
    """The loss and its margin, as a fraction: of a rate 1 - e^-x, of a time e^x - 1."""
    comparison = compared(value, case=case)
    judgement = comparison.judgement(TODAY)
    margin = 2.015 * 0.001 * math.sqrt(7 / 6)

    expected = math.expm1(loss + margin)
    if case is THROUGHPUT:
        expected = -math.expm1(-loss - margin)
    assert Outcome.PASSED is judgement.outcome
    assert expected == pytest.approx(comparison.excluded, rel=1e-3)
    text = comparison.summary(judgement, "")
    assert f"a loss above {100 * expected:.1f} % is excluded" in text


def test_not_excluded_states_what_may_be_lost():
    """The ceiling, and how large the loss may be."""
    comparison = compared(97.0, sigma=0.01)
    text = comparison.summary(comparison.judgement(TODAY), "tok/s")

    most = -math.expm1(math.log(0.97) - 2.015 * 0.01 * math.sqrt(7 / 6))
    assert f"not excluded, it may be up to {100 * most:.1f} %" in text
    assert "a loss of 5.0 % is not excluded" in text


def test_what_is_excluded_is_true_in_95_of_100_runs():
    """2,000 runs that lost 2 %, each with a baseline of its own; half the noise is the day's."""
    rng = random.Random(20261128)
    share = math.sqrt(1 / 2)
    runs = [f"run-{number}" for number in range(6)]
    held = 0
    for _ in range(2000):
        before = [100 * math.exp(rng.gauss(0.0, 0.01)) for _ in runs]
        day = 98 * math.exp(rng.gauss(0.0, 0.01 * share))
        values = []
        for _ in range(3):
            values.append(day * math.exp(rng.gauss(0.0, 0.01 * share)))
        comparison = Comparison(
            THROUGHPUT,
            seen(THROUGHPUT, *values),
            recorded(THROUGHPUT, before),
            noise_of(before, runs, GPU_RATE),
            GPU_RATE,
        )
        held += comparison.excluded >= 0.02

    assert 0.95 == pytest.approx(held / 2000, abs=0.015)


def test_a_gain_beyond_its_margin_excludes_any_loss():
    """Of at least nothing: not a negative one."""
    assert 0.0 == compared(103.0).excluded


def test_an_owner_who_lets_more_pass_needs_less_excluded():
    """The ceiling is the larger of the policy's and the owner's target effect."""
    noisy = {"sigma": 0.03}

    assert Outcome.NOT_EXCLUDED is outcome_of(compared(100.0, **noisy))
    assert Outcome.PASSED is outcome_of(compared(100.0, delta=0.10, **noisy))
    assert 0.05 == compared(100.0, delta=0.01).ceiling


def test_minimum_detectable_effect_is_threshold_and_margin():
    """A loss of that size is beyond the threshold in 95 of 100 runs."""
    quiet = compared(100.0)
    expected = quiet.threshold + quiet.margin

    assert quiet.threshold == pytest.approx(-THRESHOLD_SHARE * math.log(0.98))
    assert -math.expm1(-expected) == pytest.approx(quiet.mde)


@pytest.mark.parametrize(
    ("case", "rows", "alpha"),
    [
        (THROUGHPUT, 1, 0.001),
        (THROUGHPUT, 100, 5e-5),
        (RATIO, 1, 0.0005),
        (CPU_RATIO, 100, 2.5e-5),
    ],
)
def test_the_threshold_allows_its_share_of_false_alarms(case, rows, alpha):
    """5 in 1,000 runs divided among the rows; a ratio may move in two directions."""
    plain = compared(100.0, sigma=0.01, case=case)
    observation = dataclasses.replace(plain.observation, judged_rows=rows)
    comparison = dataclasses.replace(plain, observation=observation)

    assert alpha == pytest.approx(comparison.alpha)
    bound = comparison.noise.noise_bound(1, alpha)
    assert bound == pytest.approx(comparison.threshold)


def test_it_says_how_many_unchanged_launches_exceed_the_threshold():
    """In a run of ten rows each has a tenth of the 0.5 %."""
    plain = compared(100.0, 100.0, 100.0, sigma=0.005)
    observation = dataclasses.replace(plain.observation, judged_rows=10)
    comparison = dataclasses.replace(plain, observation=observation)

    details = comparison.details(comparison.judgement(TODAY))
    assert any("at most 0.05 %" in line for line in details)


@pytest.mark.parametrize(
    ("values", "sigma", "advice"),
    [
        ((96.0,), 0.0125, "launch it 3 times (--launches 3)"),
        ((97.0,), 0.01, "launch it 3 times (--launches 3)"),
        ((96.0,) * 3, 0.01, "The loss is too close to 5.0 %"),
        ((96.0,), 0.0145, "record 4 more launches (`"),
        ((96.0,), 0.0140, "record 1 more launch (`"),
        ((100.0,), 0.03, "No number of launches excludes a loss of 5.0 %"),
    ],
    ids=[
        "launch-more",
        "launch-again",
        "too-close",
        "record-more",
        "record-one-more",
        "too-noisy",
    ],
)
def test_advice_where_a_loss_is_not_excluded(values, sigma, advice):
    """The margin must come down to half of 5.13 %.

    It is 2.015 x sigma x sqrt(1/2 + 1/2k + 1/n). At 1.25 % it is 2.72 % with n = 6 and
    k = 1, 2.30 % with k = 3. At 1.4 % it is 2.54 % with n = 7. At 1 % one launch would
    do, were it not slower. At 1.45 % it is 2.577 % with n = 9 and k = 3, 2.558 % with
    n = 10. At 3 % n = 30 is too few.
    """
    comparison = compared(*values, sigma=sigma)
    judgement = comparison.judgement(TODAY)

    assert Outcome.NOT_EXCLUDED is judgement.outcome
    assert advice in comparison.advice(judgement)


def test_one_recorded_launch_finds_a_loss_of_2_percent_of_the_itl():
    """Day one: with the shipped noise table the threshold of three launches is below 2 %.

    On two GPUs, closed loop. Without the table the assumed noise would count.
    """
    table = noise_table.read(SHIPPED)
    group = table.find("several-gpus", "itl_median_ms", "closed")
    learned = noise_of([100.0], ["run-0"], GPU_RATE, prior=group.launches)
    assumed = noise_of([100.0], ["run-0"], GPU_RATE)
    baseline = recorded(ITL, [100.0], delta=None)
    thresholds = []
    for noise in (learned, assumed):
        comparison = Comparison(
            ITL, seen(ITL, *[100.0] * 3), baseline, noise, GPU_RATE
        )
        thresholds.append(comparison.threshold)

    assert log_loss(0.02, higher_is_better=False) > thresholds[0]
    assert thresholds[0] < thresholds[1]


@pytest.mark.parametrize(
    ("value", "outcome"),
    [(110.0, Outcome.PASSED), (117.0, Outcome.NOT_EXCLUDED)],
)
def test_a_floor_above_the_ceiling_is_the_number_that_decides(value, outcome):
    """It is said as well: 20 of 100 never count, so a loss of 20 % must be excluded."""
    noise = Noise(math.log(100.0), 0.03, 5.0, 6, 6, 6.0, True)
    baseline = recorded(ITL, [100.0] * 6, floor=20.0)
    comparison = Comparison(ITL, seen(ITL, value), baseline, noise, GPU_RATE)

    judgement = comparison.judgement(TODAY)

    assert outcome is judgement.outcome
    assert 0.20 == pytest.approx(comparison.fail_over)
    assert (
        "A loss of less than 20 ms never counts, so the ceiling is 20.0 % here."
        in comparison.details(judgement)
    )
    is_open = outcome is Outcome.NOT_EXCLUDED
    summary = comparison.summary(judgement, "ms")
    assert is_open is ("a loss of 20.0 % is not excluded" in summary)
    assert is_open is ("a loss of 20.0 %" in comparison.advice(judgement))


def ratio_of(above, below, sigma=0.03):
    """A launch with these sides against launches of 1,000 over 1,000."""
    launch = seen(RATIO, above / below).samples[0]
    current = msgspec.structs.replace(
        launch, numerator=above, denominator=below
    )
    baseline = recorded(RATIO, [1.0] * 6)
    launches = []
    for sample in baseline.metric.launches:
        launches.append(
            msgspec.structs.replace(
                sample, numerator=1000.0, denominator=1000.0
            )
        )
    observation = dataclasses.replace(
        seen(RATIO, above / below), samples=(current,)
    )
    noise = Noise(0.0, sigma, 5.0, 6, 6, 6.0, True)
    return Comparison(
        RATIO, observation, baseline.with_launches(launches), noise, GPU_RATE
    )


@pytest.mark.parametrize(
    ("above", "below", "lost"),
    [
        (1000.0, 1000.0, 0.0),
        (920.0, 1000.0, 0.08),
        (970.0, 1030.0, 0.03),
        (1000.0, 1080.0, 0.0),
        (960.0, 961.0, 0.00104),
    ],
    ids=["equal", "lost", "both", "gained", "slower machine"],
)
def test_a_ratio_excludes_no_loss_that_one_side_had(above, below, lost):
    """A side may lose up to the tolerance, and the ratio still counts as a gain.

    -8 % by a numerator that lost 8 % had been PASSED with "a loss above 0.0 % is
    excluded", where an equal ratio was NOT_EXCLUDED.
    """
    comparison = ratio_of(above, below)

    expected = log_loss(lost, higher_is_better=True) + comparison.margin
    assert expected == pytest.approx(
        log_loss(comparison.excluded, higher_is_better=True), abs=1e-5
    )
    assert Outcome.NOT_EXCLUDED is outcome_of(comparison)


def test_a_ratio_whose_side_gained_passes_where_the_noise_is_small():
    """Nothing was lost, so only the margin is left open."""
    assert Outcome.PASSED is outcome_of(ratio_of(1000.0, 1030.0, sigma=0.01))


@pytest.mark.parametrize(
    "values",
    [
        (60.0, 120.0, 140.0),
        (60.0, 150.0, 150.0),
        (94.0, 102.0, 103.0),
        (60.0, 166.0),
        (97.0, 103.0),
        (60.0, 210.0),
    ],
    ids=[
        "unchanged on average",
        "gained on average",
        "a little apart",
        "two of them",
        "two a little apart",
        "two gained on average",
    ],
)
def test_launches_that_contradict_each_other_exclude_no_loss(values):
    """By the noise of the baseline alone a loss above 0.1 % had been excluded, or it gained."""
    comparison = compared(*values)
    judgement = comparison.judgement(TODAY)

    assert Outcome.NOT_EXCLUDED is judgement.outcome
    assert comparison.excluded > 0.05
    assert "what else ran" in comparison.advice(judgement)


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ((97.0, 100.0, 100.0), Outcome.PASSED),
        ((115.0, 117.0, 120.0), Outcome.IMPROVED),
        ((109.0, 112.0), Outcome.IMPROVED),
    ],
)
def test_what_launches_show_however_they_vary_stands(values, outcome):
    """Their mean less 2.92 of its standard errors is above the ceiling all the same.

    Of two launches 6.31.
    """
    comparison = compared(*values)

    assert comparison.is_unsteady
    assert outcome is outcome_of(comparison)


@pytest.mark.parametrize("launches", [2, 3])
def test_few_large_losses_pass_where_launches_scatter(launches):
    """Losses of 8 % on average, launches 10 % apart: of two launches 17 % had been green."""
    rng = random.Random(4)
    green = 0
    for _ in range(500):
        losses = [rng.gauss(0.08, 0.10) for _ in range(launches)]
        values = [100 * math.exp(-loss) for loss in losses]
        outcome = outcome_of(compared(*values, sigma=0.003))
        green += outcome in (Outcome.PASSED, Outcome.IMPROVED)

    assert green < 0.05 * 500
