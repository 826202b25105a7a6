"""Noise with what the store knows: prior, drift, ceiling, margin, launches to exclude."""

from __future__ import annotations

import math
import statistics

import pytest

from perfgate.judge.noise import (
    ALPHA,
    CEILING_ALPHA,
    Noise,
    launches_to_exclude,
    log_loss,
    loss_threshold,
    noise_of,
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
    return Noise(0.0, sigma, 5.0, launches, launches, True)


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
    ("sigma", "expected"),
    [(0.001, "target"), (0.007, "noise"), (0.012, "ceiling"), (0.03, "noise")],
)
def test_the_ceiling_is_the_threshold_only_where_unchanged_launches_stay_below(
    sigma, expected
):
    """Of 5 % (5.13 % as a logarithm), six launches recorded and three now.

    Their standard error is 0.9129 sigma; t(5) is 5.893 at ALPHA, 3.365 at
    CEILING_ALPHA. At 0.7 % the noise bound is 3.8 %. At 1.2 % it is 6.5 %, and the
    bound at CEILING_ALPHA 3.7 %. At 3 % that one is 9.2 %, above the ceiling.
    """
    noise = known(sigma)
    error = sigma * math.sqrt(1 / 2 + 1 / 6 + 1 / 6)
    limits = {
        "target": -0.65 * math.log(0.98),
        "noise": 5.893 * error,
        "ceiling": -math.log(0.95),
    }

    line = loss_threshold(0.02, noise, 3, higher_is_better=True, ceiling=0.05)

    assert pytest.approx(limits[expected], rel=1e-3) == line


def test_a_target_effect_above_the_ceiling_is_cut_down_to_it():
    """65 % of a target of 10 % are 6.8 %; the ceiling is 5 %."""
    line = loss_threshold(
        0.10, known(0.001), 3, higher_is_better=True, ceiling=0.05
    )

    assert pytest.approx(log_loss(0.05, higher_is_better=True)) == line


def test_alphas_are_one_in_a_thousand_and_one_in_a_hundred():
    """A run with a ceiling raises at most ten times as many false alarms."""
    assert (0.001, 0.01) == (ALPHA, CEILING_ALPHA)


@pytest.mark.parametrize("launches", [1, 3])
def test_margin_is_the_one_sided_interval_of_the_loss(launches):
    """t(0.95; 5) is 2.015."""
    shared = 1 / 2 + 1 / 2 / launches
    error = 0.01 * math.sqrt(shared + 1 / 6)

    assert pytest.approx(2.015 * error, rel=1e-3) == known().margin(launches)
    assert pytest.approx(error) == known().error(launches)


def test_launches_of_other_machines_do_not_average_out():
    """Where each launch stands for a machine, three now are as good as one."""
    machines = Noise(0.0, 0.01, 5.0, 6, 6, True, shared=1.0)

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
