"""Change points: steps and trends towards worse are found, and unchanged series show none."""

import numpy as np
import pytest

from perfgate.accept.change_points import MAX_P, worsening

NOISE = 0.003
SMALLEST = 0.02


def noise(number, runs):
    """An unchanged series of logarithms."""
    return np.random.default_rng(number).normal(0, NOISE, runs)


def ramp(runs, each):
    """A loss that grows by `each` a run."""
    return each * np.arange(runs)


def step(runs, index, size):
    """A loss from one run on."""
    return np.where(np.arange(runs) < index, 0.0, size)


def found(losses):
    """The change of a series."""
    return worsening(losses.tolist(), SMALLEST)


def test_a_ramp_is_a_trend():
    """0.5 % a run over ten runs: its size is that of the whole way."""
    change = found(noise(1, 10) + ramp(10, 0.005))

    assert ("trend", 0) == (change.kind, change.index)
    assert 0.045 == pytest.approx(change.loss, abs=0.008)
    assert change.p_value <= MAX_P


def test_a_step_is_found_where_it_is():
    """3 % from the 13th of 24 runs on."""
    change = found(noise(2, 24) + step(24, 12, 0.03))

    assert ("step", 12) == (change.kind, change.index)
    assert 0.03 == pytest.approx(change.loss, abs=0.004)
    assert change.p_value <= MAX_P


def test_a_change_towards_better_is_none():
    """Neither a ramp nor a step."""
    assert None is found(noise(3, 20) - ramp(20, 0.005))
    assert None is found(noise(4, 20) - step(20, 10, 0.03))


def test_a_change_below_the_smallest_loss_is_none():
    """However certain it is: drivers and clocks do as much."""
    assert None is found(noise(5, 30) + step(30, 15, 0.015))
    assert None is found(noise(5, 30) + ramp(30, 0.0004))


def test_a_few_runs_show_nothing():
    """Six runs in order have a chance of 1 in 720."""
    assert None is found(ramp(6, 0.01))
    assert None is not found(ramp(7, 0.01))


def test_a_loss_that_is_gone_is_none():
    """A slow run in the middle, and the level of before after it."""
    assert None is found(noise(6, 20) + step(20, 9, 0.04) - step(20, 11, 0.04))


def test_unchanged_series_show_none_at_any_noise():
    """Both tests at most 0.05 % each: among 400 series of 20 runs, one at most."""
    losses = np.random.default_rng(7).normal(0, 0.05, (400, 20))
    changes = [found(series) for series in losses]

    assert sum(change is not None for change in changes) <= 1


def test_the_same_series_gives_the_same_change():
    """Permutations are seeded."""
    losses = noise(8, 16) + step(16, 8, 0.03)

    assert found(losses) == found(losses)
