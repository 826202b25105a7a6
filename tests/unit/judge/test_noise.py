"""Noise: variation of launches, noise bound, loss threshold, fast-pass threshold."""

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfgate.judge.noise import (
    THRESHOLD_SHARE,
    Noise,
    fast_pass_threshold,
    fraction_of,
    launches_needed,
    log_loss,
    loss_of,
    loss_threshold,
    noise_of,
    step_up,
    successive_variance,
    t_quantile,
)
from perfgate.judge.policy import (
    CPU_ABSOLUTE,
    CPU_RATIO,
    CPU_THROUGHPUT,
    EXACT,
    GPU_RATE,
    GPU_TAIL,
    GPU_TTFT,
    policy_for,
)
from tests.support.builders import QUIET


def runs(count):
    """Names of that many runs."""
    return [f"run-{n}" for n in range(count)]


def test_line_share_follows_from_the_error_rates():
    """z(0.999) / (z(0.999) + z(0.95)) = 3.090 / 4.735 = 0.653."""
    from scipy.stats import (
        norm,
    )  # here: all other tests are collected without it

    assert pytest.approx(THRESHOLD_SHARE, abs=0.005) == norm.ppf(0.999) / (
        norm.ppf(0.999) + norm.ppf(0.95)
    )


@pytest.mark.parametrize("freedom", [1, 3.5, 5, 29])
def test_quantile_is_students(freedom):
    """The light function used here agrees with scipy.stats, also between whole degrees."""
    from scipy.stats import t

    assert pytest.approx(t.ppf(0.999, freedom)) == t_quantile(freedom)


def test_noise_bound_of_a_known_variation():
    """Six launches, one a run, sd 1 %, three now: the bound is 5.380 %.

    t(5) x 1 % x sqrt(1/2 + 1/6 + 1/6) = 5.893 x 0.9129 %.
    """
    noise = Noise(0.0, 0.01, 5.0, 6, 6, 6.0, True)
    assert pytest.approx(
        5.893 * 0.01 * math.sqrt(1 / 2 + 1 / 6 + 1 / 6), rel=1e-3
    ) == noise.noise_bound(3)


@pytest.mark.parametrize(
    ("sigma", "expected"), [(0.001, 1.0), (0.002, 0.875), (0.01, 0.729)]
)
def test_fast_pass_threshold(sigma, expected):
    """Target effect less t(0.995; 5) x sigma x sqrt(7/6), and at most the threshold.

    At 1 %: the threshold is 5.380 %, so 5.380 / 0.65 - 4.032 x 1.0801 = 3.922 %,
    0.729 of it. At 0.2 %: the threshold is 1.313 %, so 2.020 - 0.871 = 1.149 %. At
    0.1 % it would be 1.585 %.
    """
    noise = Noise(0.0, sigma, 5.0, 6, 6, 6.0, True)
    line = loss_threshold(0.02, noise, 3, higher_is_better=True)
    assert pytest.approx(expected * line, rel=0.03) == fast_pass_threshold(
        0.02, noise, higher_is_better=True
    )


@given(
    sigma=st.floats(1e-5, 0.5),
    freedom=st.floats(1, 30),
    launches=st.integers(1, 30),
    target_effect=st.floats(0.02, 0.5),
)
def test_fast_pass_is_between_half_the_threshold_and_the_threshold(
    sigma, freedom, launches, target_effect
):
    """Whatever the noise: below half the threshold it always passes, beyond it never does."""
    noise = Noise(
        0.0, sigma, freedom, launches, launches, float(launches), True
    )
    line = loss_threshold(target_effect, noise, 3, higher_is_better=True)
    assert (
        line / 2
        <= fast_pass_threshold(target_effect, noise, higher_is_better=True)
        <= line
    )


def test_quiet_launches_are_judged_by_the_smallest_target_effect():
    """Six that vary by 0.19 %, three now: the noise bound is 1.02 %, below 1.313 %."""
    noise = noise_of(QUIET, runs(6), GPU_RATE)
    line = loss_threshold(GPU_RATE.smallest, noise, 3, higher_is_better=True)

    assert pytest.approx(-0.65 * math.log(0.98), rel=1e-3) == line
    assert noise.noise_bound(3) < line


def test_launches_that_say_little_count_beside_the_assumed_noise():
    """Five of five runs have 4 degrees of freedom, six of two runs 3; 1.1 % has 4."""
    five = noise_of(QUIET[:5], runs(5), GPU_RATE)
    two_runs = noise_of(QUIET, ["a", "a", "a", "b", "b", "b"], GPU_RATE)

    assumed = GPU_RATE.assumed_cv**2
    of_five = statistics.variance(map(math.log, QUIET[:5]))
    # Three launches of a session show 80 % of the variance of six.
    of_six = statistics.variance(map(math.log, QUIET)) / 0.8
    assert pytest.approx((4 * of_five + 4 * assumed) / 8) == five.sigma**2
    assert pytest.approx((3 * of_six + 4 * assumed) / 7) == two_runs.sigma**2
    assert (8.0, False) == (five.degrees_of_freedom, five.established)
    assert (7.0, False) == (two_runs.degrees_of_freedom, two_runs.established)


def test_provisional_noise_lies_between_assumed_and_seen():
    """One launch has the assumed noise; five steady ones pull it down, never to nothing."""
    one = noise_of([1.0], runs(1), GPU_RATE).sigma
    five = noise_of([1.0] * 5, runs(5), GPU_RATE).sigma
    assert pytest.approx(GPU_RATE.assumed_cv) == one
    # (4 x 0 + 4 x 0.011^2) / 8 = 0.011^2 / 2
    assert pytest.approx(GPU_RATE.assumed_cv / math.sqrt(2)) == five


def test_launches_of_one_run_count_less():
    """Six launches of three runs have (6 + 3) / 2 - 1 = 3.5 degrees of freedom, of six runs 5."""
    values = [1.0, 1.01, 0.99, 1.0, 1.02, 0.98]
    assert (
        3.5
        == noise_of(
            values, ["a", "a", "b", "b", "c", "c"], GPU_RATE
        ).degrees_of_freedom
    )
    assert 5.0 == noise_of(values, runs(6), GPU_RATE).degrees_of_freedom


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [
        (0.02, 0.02),
        (0.0201, 0.025),
        (0.0999, 0.10),
        (0.101, 0.11),
        (0.21, 0.25),
    ],
)
def test_round_figures(fraction, expected):
    """Half percents below 10 %, whole ones below 20 %, then fives; a round figure stays."""
    assert expected == step_up(fraction)


def test_launches_needed_grows_with_noise():
    """At 0.3 % a loss of 2 % is detected from 8 launches on; at 2 % never.

    Wanted: t x sqrt(2/3 + 1/n) <= 0.65 x 2.02 % / 0.3 % = 4.377. With seven launches it
    is 5.208 x 0.8997 = 4.686, with eight 4.785 x 0.8898 = 4.258.
    """
    quiet = Noise(0.0, 0.003, 5.0, 6, 6, 6.0, True)
    loud = Noise(0.0, 0.02, 5.0, 6, 6, 6.0, True)

    assert 8 == launches_needed(quiet, 0.02, higher_is_better=True)
    assert launches_needed(loud, 0.02, higher_is_better=True) is None


@pytest.mark.parametrize("higher", [True, False])
def test_loss_and_fraction_are_inverse(higher):
    """A throughput at half is ln 2 worse and a latency at double as well: 50 % and 100 %."""
    assert pytest.approx(math.log(2)) == log_loss(
        0.5 if higher else 1.0, higher
    )
    assert pytest.approx(0.07) == fraction_of(log_loss(0.07, higher), higher)


@pytest.mark.parametrize(
    ("label", "metric", "ratio", "expected"),
    [
        ("h200x2", "output_throughput", False, GPU_RATE),
        ("h200x2", "itl_median_ms", True, GPU_RATE),
        ("a100x1", "ttft_median_ms", False, GPU_TTFT),
        ("h100x2", "itl_p99_ms", False, GPU_TAIL),
        ("cpu-avx2", "output_throughput", True, CPU_RATIO),
        ("cpu-avx2", "output_throughput", False, CPU_THROUGHPUT),
        ("cpu-avx2", "ttft_p99_ms", True, CPU_ABSOLUTE),
        ("cpu-avx2", "kv_cache_tokens", False, EXACT),
        ("h200x2", "weights_over_arithmetic", False, EXACT),
    ],
)
def test_policy_table(label, metric, ratio, expected):
    """Which row of the table applies to what."""
    assert expected == policy_for(label, metric, ratio)


def test_neighbouring_differences_hardly_see_a_drift():
    """0.3 % of noise over 20 weeks, with and without 1 % a week: CV below 1 %, not 6 %."""
    rng = random.Random(20261128)
    unchanged = [rng.gauss(0.0, 0.003) for _ in range(20)]
    drifting = [log + 0.01 * week for week, log in enumerate(unchanged)]
    noise, _ = successive_variance(unchanged)
    with_drift, _ = successive_variance(drifting)

    # The drift adds half of its square.
    assert math.sqrt(with_drift) < 0.01
    assert statistics.stdev(drifting) > 0.05
    assert with_drift - noise == pytest.approx(0.01**2 / 2, rel=0.3)


def test_neighbouring_differences_agree_with_the_variance():
    """Of 4,000 unchanged series of eight: in the mean, and in how much they vary."""
    rng = random.Random(8)
    variances = []
    for _ in range(4000):
        series = [rng.gauss(0.0, 1.0) for _ in range(8)]
        variance, freedom = successive_variance(series)
        variances.append(variance)

    assert 1.0 == pytest.approx(statistics.fmean(variances), abs=0.05)
    assert 2 * 7**2 / 20 == freedom
    spread = statistics.variance(variances)
    assert 2 / freedom == pytest.approx(spread, rel=0.15)


def test_two_launches_have_one_difference():
    """Half of its square, with one degree of freedom."""
    assert (0.5, 1.0) == successive_variance([0.0, 1.0])


@pytest.mark.parametrize(
    ("value", "higher", "expected"),
    [
        (11.0, False, math.log(1.1)),
        (9.0, True, -math.log(0.9)),
        (11.0, True, -math.log(1.1)),
        (10.0, False, 0.0),
    ],
)
def test_loss_is_positive_where_worse(value, higher, expected):
    """Of a latency that grew, and of a throughput that fell."""
    assert expected == pytest.approx(loss_of(value, 10.0, higher))
