"""Sequential test: when pairs are enough to call a build good or bad."""

from __future__ import annotations

import math

import pytest

from perfgate.bisect.sequential import (
    MOST_PRIOR_FREEDOM,
    Estimate,
    estimate,
    nearest_side,
    side,
    spread_of_pairs,
)
from perfgate.judge.noise_table import Spread


def of(loss, error, freedom=20.0):
    """An estimate of that loss."""
    return Estimate(loss, error, freedom, pairs=1)


def test_a_pair_varies_as_two_launches():
    """Where nothing was measured twice, what is known beforehand counts alone."""
    prior = Spread(cv=0.01, degrees_of_freedom=4.0)

    spread = spread_of_pairs([[0.1], [0.0]], prior)

    assert (math.sqrt(2) * 0.01, 4.0) == pytest.approx(
        (spread.cv, spread.degrees_of_freedom)
    )


def test_prior_counts_no_more_than_ten_pairs():
    """A machine noisier than the recorded ones shows it after some pairs."""
    prior = Spread(cv=0.001, degrees_of_freedom=60.0)

    spread = spread_of_pairs([[0.0, 0.1], [0.3, 0.2, 0.25]], prior)

    squares = 0.1**2 / 2 + 0.1**2 / 2
    variance = (MOST_PRIOR_FREEDOM * 2 * 0.001**2 + squares) / 13
    assert (math.sqrt(variance), 13.0) == pytest.approx(
        (spread.cv, spread.degrees_of_freedom)
    )


def test_noise_is_within_a_build_and_not_between_builds():
    """A good and a bad build differ, and their pairs agree: there is no noise to add."""
    prior = Spread(cv=0.002, degrees_of_freedom=5.0)

    together = spread_of_pairs([[0.0, 0.0], [0.5, 0.5]], prior)

    assert together.cv < math.sqrt(2) * 0.002


def test_mean_of_pairs_is_known_better():
    """Four pairs halve the error."""
    spread = Spread(cv=0.02, degrees_of_freedom=9.0)

    found = estimate([0.1, 0.1, 0.2, 0.2], spread)

    assert (0.15, 0.01, 9.0, 4) == pytest.approx(
        (found.loss, found.error, found.degrees_of_freedom, found.pairs)
    )


@pytest.mark.parametrize(
    ("loss", "expected"),
    [(0.0, "good"), (0.1, "bad"), (0.05, "unsure"), (0.055, "unsure")],
)
def test_side_of_a_build_by_a_clear_end(loss, expected):
    """Nothing lost is good, all lost is bad; half of it is neither."""
    assert expected == side(of(loss, 0.01), of(0.1, 0.01))


def test_noise_leaves_a_side_open():
    """The same loss is sure in a quiet metric, and not in a noisy one."""
    assert "good" == side(of(0.0, 0.01), of(0.1, 0.01))
    assert "unsure" == side(of(0.0, 0.05), of(0.1, 0.05))


def test_badly_known_noise_leaves_more_open():
    """By two degrees of freedom the same figures are not sure."""
    assert "good" == side(of(0.0, 0.02, 1e9), of(0.1, 0.02, 1e9))
    assert "unsure" == side(of(0.0, 0.02, 2.0), of(0.1, 0.02, 2.0))


def test_sure_is_99_to_1():
    """Wald: the error of the two together decides, and what they are apart."""
    bad, error = 0.1, 0.02
    together = error * math.sqrt(1 + 1 / 4)
    needed = math.log(99) * together**2 / bad
    many = 1e12

    just = side(of(bad / 2 - 1.01 * needed, error, many), of(bad, error, many))
    not_yet = side(
        of(bad / 2 - 0.99 * needed, error, many), of(bad, error, many)
    )

    assert ("good", "unsure") == (just, not_yet)


def test_likelier_side():
    """By half of the loss."""
    assert "good" == nearest_side(of(0.04, 0.1), of(0.1, 0.1))
    assert "bad" == nearest_side(of(0.06, 0.1), of(0.1, 0.1))
