"""Change: machines compared with themselves see less than machines compared with others."""

from __future__ import annotations

import math

import pytest

from perfgate.fleet import change
from perfgate.fleet.change import Prior
from perfgate.judge.verdict import Outcome

PRIOR = Prior(launches_cv=0.003, machines_cv=0.012)
PLACES = {"a": 0.02, "b": -0.01, "c": 0.0, "d": 0.03}
TARGET = math.log1p(0.02)


def before(each=3):
    """Recorded launches of each machine."""
    noise = (0.002, -0.002, 0.0, 0.001)[:each]
    return {name: [place + e for e in noise] for name, place in PLACES.items()}


def now(loss, places=PLACES):
    """A launch of each machine after a loss."""
    return {name: [place + loss] for name, place in places.items()}


@pytest.mark.parametrize(
    ("loss", "outcome"),
    [
        (0.0, Outcome.PASSED),
        (0.05, Outcome.REGRESSED),
        (-0.05, Outcome.IMPROVED),
    ],
)
def test_machines_are_compared_with_themselves(loss, outcome):
    """How they differ falls out: what is left is what a launch varies by."""
    found = change.compare(now(loss), before(), PRIOR)

    assert loss == pytest.approx(found.loss, abs=0.001)
    assert (4, 4, True) == (found.machines, found.launches, found.is_own)
    assert outcome == found.outcome(TARGET)
    assert found.error < 0.005


def test_new_machines_are_compared_with_recorded_ones():
    """The machine is the unit, so that less is seen; nothing is called passed for it."""
    others = {f"new-{name}": place for name, place in PLACES.items()}

    found = change.compare(now(0.0, others), before(), PRIOR)

    assert (4, False) == (found.machines, found.is_own)
    assert 0.01 < found.error
    assert Outcome.NOT_EXCLUDED == found.outcome(math.log1p(0.01))


def test_one_machine_alone_is_compared_with_others():
    """One difference has no variance of its own."""
    one = {"a": [0.0], "new": [0.0]}

    assert not change.compare(one, before(), PRIOR).is_own


def test_a_loss_within_the_noise_is_not_decided():
    """Beyond the threshold, but not beyond what an unchanged fleet may show."""
    others = {f"new-{name}": place for name, place in PLACES.items()}

    found = change.compare(now(0.016, others), before(), PRIOR)

    assert Outcome.INCONCLUSIVE == found.outcome(TARGET)


def test_rows_of_a_run_share_the_false_alarms():
    """With a hundred rows each is allowed a hundredth."""
    few = change.compare(now(0.0), before(), PRIOR, rows=1)
    many = change.compare(now(0.0), before(), PRIOR, rows=100)

    assert few.alarm < many.alarm
    assert few.error == many.error
