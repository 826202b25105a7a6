"""What launches of one session tell: their mean is known less well, and they vary less."""

from __future__ import annotations

import numpy as np
import pytest

from perfgate.judge import noise_learning
from perfgate.judge.noise import Noise, noise_of
from perfgate.judge.noise_learning import MachineLaunches, Series
from perfgate.judge.policy import Policy
from perfgate.judge.sessions import (
    MACHINE_SHARE,
    degrees_of_freedom,
    effective_sessions,
    mean_share,
    shown_share,
)

PLAIN = Policy(
    smallest=0.02, fail_over=0.05, floor=0.0, assumed_cv=0.01, paired=0.02
)
# Six launches of one run, of three, of six, and unevenly of two.
SESSIONS = {
    "one": ["a"] * 6,
    "three": ["a", "a", "b", "b", "c", "c"],
    "six": list("abcdef"),
    "uneven": ["a", "a", "a", "a", "a", "b"],
}


@pytest.mark.parametrize(
    ("name", "sessions"),
    [("one", 1.0), ("three", 3.0), ("six", 6.0), ("uneven", 36 / 26)],
)
def test_effective_sessions(name, sessions):
    """Uneven ones count for fewer."""
    assert sessions == pytest.approx(effective_sessions(SESSIONS[name]))


@pytest.mark.parametrize("runs", SESSIONS.values(), ids=SESSIONS)
def test_error_and_shown_variance_are_those_of_drawn_launches(runs):
    """20,000 baselines whose sessions share half of the variance."""
    rng = np.random.default_rng(20261130)
    names = sorted(set(runs))
    of_session = rng.normal(0, np.sqrt(MACHINE_SHARE), (20000, len(names)))
    of_launch = rng.normal(0, np.sqrt(1 - MACHINE_SHARE), (20000, len(runs)))
    launches = of_session[:, [names.index(run) for run in runs]] + of_launch

    noise = noise_with(runs)
    shown = launches.var(axis=1, ddof=1).mean()
    of_mean = launches.mean(axis=1).var()
    now = MACHINE_SHARE + (1 - MACHINE_SHARE) / 3

    assert shown == pytest.approx(shown_share(runs), rel=0.03)
    assert of_mean == pytest.approx(
        mean_share(len(runs), effective_sessions(runs)), rel=0.03
    )
    assert of_mean + now == pytest.approx(noise.error(3) ** 2, rel=0.03)


def noise_with(runs):
    """A variation of 1 that is known, and launches of these runs."""
    sessions = effective_sessions(runs)
    return Noise(0.0, 1.0, 30.0, len(runs), len(set(runs)), sessions, True)


def test_launches_of_one_session_promise_less_than_those_of_several():
    """The minimum detectable effect, at the same variation."""
    one, three, six = (
        noise_with(SESSIONS[name]).mde(False)
        for name in ("one", "three", "six")
    )

    assert one > three > six


def test_a_store_varies_by_more_than_single_sessions_show():
    """Series of one session each stand for twice their variance, with the same weight."""
    alone, apart = (learned(runs) for runs in (["a"] * 3, ["a", "b", "c"]))

    assert 2 * apart.cv**2 == pytest.approx(alone.cv**2, rel=0.01)
    assert apart.degrees_of_freedom == alone.degrees_of_freedom


def learned(runs):
    """What 20 series say whose launches are of these runs."""
    rng = np.random.default_rng(20261130)
    series = []
    for _ in range(20):
        logs = list(rng.normal(0.0, 0.01, len(runs)))
        machines = {"gpu": MachineLaunches(logs, runs)}
        series.append(
            Series("one-gpu", "itl_median_ms", "closed", False, machines)
        )
    groups = noise_learning.learn(series, "2026-11-30").groups
    return groups["gpu/itl_median_ms/closed"].launches


def test_further_launches_are_of_a_session_each():
    """What a recommendation to record more launches counts with."""
    grown = noise_with(SESSIONS["one"]).with_launches(8)

    assert effective_sessions(["a"] * 6 + ["b", "c"]) == pytest.approx(
        grown.effective_sessions
    )
    assert (8, 3) == (grown.launches, grown.runs)


def test_noise_of_a_baseline_counts_its_sessions():
    """As the launches name their runs."""
    values = [1.0, 1.01, 0.99, 1.0, 1.01, 0.99]

    noise = noise_of(values, SESSIONS["three"], PLAIN)

    assert 3.0 == noise.effective_sessions


@pytest.mark.parametrize(
    ("launches", "sessions", "freedom"), [(6, 6, 5.0), (6, 3, 3.5), (2, 1, 1.0)]
)
def test_degrees_of_freedom(launches, sessions, freedom):
    """Between those of the launches and those of the sessions, and one at least."""
    assert freedom == degrees_of_freedom(launches, sessions)
