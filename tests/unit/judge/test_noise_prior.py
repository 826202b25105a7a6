"""Noise with what the store knows: prior, drift, rows, margin, launches to exclude."""

from __future__ import annotations

import dataclasses
import math
import statistics

import pytest

from perfgate.judge.noise import (
    ALPHA,
    FALSE_ALARMS_PER_RUN,
    Noise,
    launches_to_exclude,
    loss_threshold,
    noise_of,
    row_alpha,
    t_quantile,
)
from perfgate.judge.noise_table import Spread
from perfgate.judge.policy import GPU_RATE, START_UP

PRIOR = Spread(cv=0.01, degrees_of_freedom=12.0)
VALUES = (1000.0, 1010.0, 990.0, 1005.0, 1020.0, 995.0)


def runs(count):
    """Names of that many runs."""
    return [f"run-{number:02}" for number in range(count)]


def known(sigma=0.01, launches=6):
    """Variation that five degrees of freedom tell."""
    return Noise(0.0, sigma, 5.0, launches, launches, float(launches), True)


def test_the_prior_weighs_with_its_degrees_of_freedom():
    """Six launches of six runs have 5 degrees of freedom, the prior 12."""
    noise = noise_of(VALUES, runs(6), GPU_RATE, prior=PRIOR)

    own = statistics.variance(map(math.log, VALUES))
    expected = (5 * own + 12 * 0.01**2) / 17
    assert pytest.approx(expected) == noise.sigma**2
    assert (17.0, True) == (noise.degrees_of_freedom, noise.established)
    assert PRIOR == noise.prior


def test_a_single_launch_has_the_noise_of_the_prior():
    """The assumed CV of the policy does not count where the store knows the metric."""
    noise = noise_of([1000.0], runs(1), GPU_RATE, prior=PRIOR)

    assert pytest.approx(0.01) == noise.sigma
    assert (12.0, True) == (noise.degrees_of_freedom, noise.established)


def test_a_prior_that_promises_little_is_not_established():
    """Three degrees of freedom are less than six launches have."""
    little = Spread(cv=0.01, degrees_of_freedom=3.0)

    noise = noise_of([1000.0], runs(1), GPU_RATE, prior=little)

    assert (3.0, False) == (noise.degrees_of_freedom, noise.established)


def test_launches_of_one_session_are_no_variation_where_the_store_knows_it():
    """They agree better than those of two days; without a prior they count."""
    values = (1000.0, 1000.1, 999.9)

    with_prior = noise_of(values, ["a"] * 3, GPU_RATE, prior=PRIOR)
    without = noise_of(values, ["a"] * 3, GPU_RATE)

    assert pytest.approx(0.01) == with_prior.sigma
    assert 12.0 == with_prior.degrees_of_freedom
    # (3 + 1) / 2 - 1 of their own, and 4 of the assumed CV.
    assert 5.0 == without.degrees_of_freedom
    assert without.sigma < GPU_RATE.assumed_cv


def test_a_drift_does_not_widen_its_own_threshold():
    """Ten launches that fall by 1 % each: half the mean square of the differences counts."""
    logs = [-0.01 * number for number in range(10)]
    values = [math.exp(log) for log in logs]

    drifting = noise_of(values, runs(10), GPU_RATE)
    mixed = [values[number] for number in (0, 9, 1, 8, 2, 7, 3, 6, 4, 5)]
    in_no_order = noise_of(mixed, runs(10), GPU_RATE)

    assert pytest.approx(0.01**2 / 2) == drifting.sigma**2
    assert pytest.approx(statistics.stdev(logs)) == in_no_order.sigma


def test_launches_to_and_fro_are_no_drift():
    """Their differences are larger than they vary: the variance counts."""
    logs = [0.01 * (-1) ** number for number in range(10)]

    noise = noise_of([math.exp(log) for log in logs], runs(10), GPU_RATE)

    assert pytest.approx(statistics.stdev(logs)) == noise.sigma


def test_a_variation_that_the_policy_fixes_counts_alone():
    """Starts are in one of two states: neither launches nor prior tell their noise."""
    noise = noise_of(VALUES, runs(6), START_UP, prior=PRIOR)

    assert (0.15, 30.0) == (noise.sigma, noise.degrees_of_freedom)


@pytest.mark.parametrize(
    ("rows", "alpha"),
    [(0, 0.001), (1, 0.001), (5, 0.001), (10, 0.0005), (500, 1e-5)],
)
def test_the_rows_of_a_run_share_its_false_alarms(rows, alpha):
    """5 in 1,000 runs, divided among the rows; never more than 1 in 1,000 for one."""
    assert alpha == pytest.approx(row_alpha(rows))
    assert (0.001, 0.005) == (ALPHA, FALSE_ALARMS_PER_RUN)


@pytest.mark.parametrize(
    ("sigma", "alpha", "expected"),
    [
        (0.001, 0.001, -0.65 * math.log(0.98)),
        (0.01, 0.001, 5.893 * 0.009129),
        (0.01, 0.0005, 6.869 * 0.009129),
        (0.03, 0.001, 5.893 * 0.027386),
    ],
    ids=["target", "noise", "many-rows", "above-the-ceiling"],
)
def test_threshold_is_the_larger_of_target_and_noise(sigma, alpha, expected):
    """Six launches recorded and three now: the error is sigma x sqrt(1/2 + 1/6 + 1/6).

    t(5) is 5.893 at 1 in 1,000, 6.869 at 1 in 2,000.
    """
    line = loss_threshold(
        0.02, known(sigma), 3, higher_is_better=True, alpha=alpha
    )

    assert pytest.approx(expected, rel=1e-3) == line


@pytest.mark.parametrize(
    ("sigma", "freedom", "expected"),
    [
        (0.005, 5.0, 6.869 * 0.0045644),
        (0.005, 1.0, -4 * math.log(0.95)),
        (0.05, 1.0, 18 * 0.045644),
    ],
    ids=["known", "four-ceilings", "eighteen-errors"],
)
def test_a_loss_of_four_ceilings_and_of_eighteen_errors_never_passes(
    sigma, freedom, expected
):
    """Of 5 %, in a run of ten rows. With one degree of freedom t is 637 at 1 in 2,000.

    The error is sigma x sqrt(1/2 + 1/6 + 1/6).
    """
    noise = dataclasses.replace(known(sigma), degrees_of_freedom=freedom)
    line = loss_threshold(
        0.02, noise, 3, higher_is_better=True, alpha=row_alpha(10), ceiling=0.05
    )

    assert pytest.approx(expected, rel=1e-3) == line


@pytest.mark.parametrize("launches", [1, 3])
def test_margin_is_the_one_sided_interval_of_the_loss(launches):
    """t(0.95; 5) is 2.015."""
    shared = 1 / 2 + 1 / 2 / launches
    error = 0.01 * math.sqrt(shared + 1 / 6)

    assert pytest.approx(2.015 * error, rel=1e-3) == known().margin(launches)
    assert pytest.approx(error) == known().error(launches)


def test_launches_of_other_machines_do_not_average_out():
    """Where each launch stands for a machine, three now are as good as one."""
    machines = Noise(0.0, 0.01, 5.0, 6, 6, 6.0, True, shared=1.0)

    assert machines.error(1) == machines.error(3)


@pytest.mark.parametrize(
    ("ceiling", "expected"),
    [(0.044, (6, 1)), (0.040, (6, 3)), (0.036, (8, 3)), (0.033, None)],
    ids=["as-it-is", "launch-more", "record-more", "never"],
)
def test_launches_to_exclude_a_loss(ceiling, expected):
    """At 1 %, where the margin is half of the ceiling.

    2.015 x 1 % x sqrt(1/2 + 1/2k + 1/n): 2.18 % (n 6, k 1), 1.84 % (6, 3), 1.81 % (7,
    3), 1.79 % (8, 3), 1.69 % (30, 3).
    """
    assert expected == launches_to_exclude(known(), ceiling)


def test_more_degrees_of_freedom_narrow_every_bound():
    """With the same variation: six launches beside a store say more than six alone."""
    assert t_quantile(17.0) < t_quantile(5.0)
    alone = noise_of(VALUES, runs(6), GPU_RATE)
    prior = Spread(cv=alone.sigma, degrees_of_freedom=12.0)
    both = noise_of(VALUES, runs(6), GPU_RATE, prior=prior)

    assert both.sigma == pytest.approx(alone.sigma)
    assert both.margin(1) < alone.margin(1)
    assert both.noise_bound(1) < alone.noise_bound(1)
