"""Noise learning: variation learned from all recorded launches, by metric and kind of load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from perfgate.judge import noise_learning
from perfgate.judge.noise_learning import MachineLaunches, Series

ITL = "itl_median_ms"
SHIPPED = Path(__file__).resolve().parents[3] / "baselines"


@pytest.fixture
def rng():
    """Seeded."""
    return np.random.default_rng(20261128)


def of_sessions(logs):
    """Launches of a session each."""
    runs = [f"run-{number}" for number in range(len(logs))]
    return MachineLaunches(list(logs), runs)


def drawn(rng, cv, launches=6, metric=ITL, platform="one-gpu", machines=1):
    """A baseline whose launches vary by that much."""
    values = {}
    for number in range(machines):
        values[f"gpu-{number}"] = of_sessions(rng.normal(0.0, cv, launches))
    return Series(platform, metric, "closed", False, values)


@pytest.mark.parametrize("weight", [4.0, 12.0])
def test_fit_recovers_cv_and_weight(rng, weight):
    """Variances of 2,000 series, drawn as the model has it: s_0^2 F(5, weight)."""
    variances = 0.01**2 * rng.f(5, weight, 2000)

    spread = noise_learning.fit(variances, [5] * 2000).spread

    assert 0.01 == pytest.approx(spread.cv, rel=0.05)
    assert weight == pytest.approx(spread.degrees_of_freedom, rel=0.25)


def test_series_that_vary_alike_have_the_largest_weight(rng):
    """Their variances differ as those of six launches do."""
    variances = 0.01**2 * rng.chisquare(5, 2000) / 5

    spread = noise_learning.fit(variances, [5] * 2000).spread

    assert 0.01 == pytest.approx(spread.cv, rel=0.03)
    assert 40.0 < spread.degrees_of_freedom <= noise_learning.WEIGHT_LIMITS[1]


def test_one_wild_series_takes_the_weight(rng):
    """It varies ten times as much as 19 others, which alone would have a weight of 40.

    docs/error-rates.md says what that costs, and what it would cost to leave it out.
    """
    variances = 0.0024**2 * rng.chisquare(2, 20) / 2

    alike = noise_learning.fit(variances, [2] * 20).spread
    variances[0] = 0.024**2
    uneven = noise_learning.fit(variances, [2] * 20).spread

    assert alike.degrees_of_freedom > 10
    assert uneven.degrees_of_freedom < 5
    assert uneven.cv == pytest.approx(0.0024, rel=0.4)


def test_the_weight_is_no_more_than_was_measured(rng):
    """Two series of five launches have eight degrees of freedom together."""
    spread = noise_learning.fit([1e-4, 1e-4], [4, 4]).spread

    assert 8.0 >= spread.degrees_of_freedom


@pytest.mark.parametrize(
    ("series", "launches"), [(1, 12), (2, 3), (0, 0)], ids=str
)
def test_few_launches_give_no_group(rng, series, launches):
    """One series does not tell how much series differ; two of three launches too little."""
    rows = [drawn(rng, 0.01, launches) for _ in range(series)]

    table = noise_learning.learn(rows, "2026-11-28")

    assert {} == table.groups
    assert series * launches == table.launches


def test_each_machine_is_a_series(rng):
    """Three machines of one baseline suffice, and tell how machines differ."""
    rows = [drawn(rng, 0.01, machines=3)]

    group = noise_learning.learn(rows, "2026-11-28").groups["gpu/itl"]

    assert 3 == group.series
    assert 2.0 == group.machines.degrees_of_freedom


def test_two_machines_do_not_tell_how_machines_differ(rng):
    """Their launches still tell the noise."""
    rows = [drawn(rng, 0.01, machines=2)]

    group = noise_learning.learn(rows, "2026-11-28").groups["gpu/itl"]

    assert group.machines is None


def test_one_gpu_and_several_that_vary_alike_are_one_group(rng):
    """The likelihood ratio does not tell them apart."""
    rows = []
    for platform in ("one-gpu", "several-gpus"):
        rows += [drawn(rng, 0.01, platform=platform) for _ in range(8)]

    groups = noise_learning.learn(rows, "2026-11-28").groups

    assert {"gpu/itl", f"gpu/{ITL}/closed"} == set(groups)
    assert 16 == groups["gpu/itl"].series


def test_one_gpu_and_several_that_differ_are_groups_of_their_own(rng):
    """0.2 % and 2 %; the wider group stays for what neither knows."""
    rows = [drawn(rng, 0.002) for _ in range(8)]
    rows += [drawn(rng, 0.02, platform="several-gpus") for _ in range(8)]

    groups = noise_learning.learn(rows, "2026-11-28").groups

    assert 0.002 == pytest.approx(groups["one-gpu/itl"].launches.cv, rel=0.3)
    assert 0.02 == pytest.approx(
        groups["several-gpus/itl"].launches.cv, rel=0.3
    )
    assert "gpu/itl" in groups


def test_even_series_keep_what_they_promise_beside_uneven_ones(rng):
    """Of one GPU all vary by 1 %, of several some by 0.3 and some by 3 %."""
    rows = [drawn(rng, 0.01) for _ in range(7)]
    for cv in (0.003, 0.03) * 5:
        rows.append(drawn(rng, cv, platform="several-gpus"))

    groups = noise_learning.learn(rows, "2026-11-28").groups
    one, several = groups["one-gpu/itl"], groups["several-gpus/itl"]

    assert 0.01 == pytest.approx(one.launches.cv, rel=0.3)
    assert (
        one.launches.degrees_of_freedom
        > 2 * groups["gpu/itl"].launches.degrees_of_freedom
    )
    assert several.launches.degrees_of_freedom < one.launches.degrees_of_freedom


def test_few_machines_of_a_metric_have_the_variation_of_its_family(rng):
    """Three machines that happen to agree tell nothing about the fourth."""
    alike = {}
    for number in range(3):
        alike[f"gpu-{number}"] = of_sessions(rng.normal(0.0, 0.001, 20))
    rows = [Series("one-gpu", "itl_mean_ms", "steady", False, alike)]
    rows += [on_machines(rng, 0.05, "one-gpu") for _ in range(8)]

    groups = noise_learning.learn(rows, "2026-11-28").groups
    steady, family = groups["gpu/itl_mean_ms/steady"], groups["gpu/itl"]

    assert family.machines == steady.machines
    assert 0.001 == pytest.approx(steady.launches.cv, rel=0.3)


def on_machines(rng, spread, platform):
    """A baseline of four machines that differ so, each with launches that vary by 1 %."""
    values = {}
    for number in range(4):
        mean = rng.normal(0.0, spread)
        values[f"gpu-{number}"] = of_sessions(rng.normal(mean, 0.01, 20))
    return Series(platform, ITL, "closed", False, values)


def test_machines_that_differ_more_with_several_gpus_count_for_those_alone(rng):
    """2 % and 10 %, with launches that vary alike, which so tell more together."""
    rows = [on_machines(rng, 0.02, "one-gpu") for _ in range(8)]
    rows += [on_machines(rng, 0.10, "several-gpus") for _ in range(8)]

    groups = noise_learning.learn(rows, "2026-11-28").groups
    one, several = groups["one-gpu/itl"], groups["several-gpus/itl"]

    assert 0.02 == pytest.approx(one.machines.cv, rel=0.3)
    assert 0.10 == pytest.approx(several.machines.cv, rel=0.3)
    assert one.launches == several.launches == groups["gpu/itl"].launches
    assert 64 == one.series == several.series


def test_machines_that_differ_alike_are_one_group(rng):
    """The F-test does not tell them apart."""
    rows = []
    for platform in ("one-gpu", "several-gpus"):
        rows += [on_machines(rng, 0.02, platform) for _ in range(8)]

    groups = noise_learning.learn(rows, "2026-11-28").groups

    assert {"gpu/itl", f"gpu/{ITL}/closed"} == set(groups)


def test_one_gpu_alone_is_no_group_of_its_own(rng):
    """Nothing tells whether several GPUs vary otherwise."""
    rows = [drawn(rng, 0.01) for _ in range(8)]

    groups = noise_learning.learn(rows, "2026-11-28").groups

    assert {"gpu/itl", f"gpu/{ITL}/closed"} == set(groups)


def test_exact_metrics_are_not_learned(rng):
    """Bytes of weights do not vary; starts have a policy of their own."""
    rows = []
    for metric in ("weights_bytes_per_rank", "ready_s", "routing_shares"):
        rows += [drawn(rng, 0.01, metric=metric) for _ in range(4)]

    table = noise_learning.learn(rows, "2026-11-28")

    assert (0, {}) == (table.launches, table.groups)


def test_launches_that_agree_to_the_last_digit_have_the_smallest_cv():
    """No variance is no logarithm."""
    rows = [
        Series("cpu", ITL, "closed", False, {None: of_sessions([0.0] * 6)})
    ] * 3

    spread = noise_learning.learn(rows, "2026-11-28").groups["cpu/itl"].launches

    assert noise_learning.SMALLEST_CV == spread.cv
