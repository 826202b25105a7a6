"""Outliers: a sick machine is named, and healthy ones hardly ever are."""

from __future__ import annotations

import numpy as np
import pytest

from perfgate.fleet import outliers

HEALTHY = {"a": 0.0, "b": 0.006, "c": -0.005, "d": 0.002, "e": -0.001}


def rows(losses, count=6):
    """So many rows in which each machine has this loss."""
    return {f"row-{number}": dict(losses) for number in range(count)}


def test_a_slow_machine_is_named():
    """With how much slower it is, the threshold, and what it was compared with."""
    (found,) = outliers.find(rows(HEALTHY | {"sick": 0.1}))

    assert "sick" == found.machine
    assert 0.105 == pytest.approx(found.slower_by, abs=0.002)
    assert 0 < found.threshold < 0.08
    assert (6, 5) == (found.rows, found.others)


def test_a_fast_machine_is_named_too():
    """Its loss is negative."""
    (found,) = outliers.find(rows(HEALTHY | {"fast": -0.1}))

    assert ("fast", -0.1) == (
        found.machine,
        pytest.approx(found.slower_by, abs=0.01),
    )


@pytest.mark.parametrize("machines", [["a"], ["a", "sick"]])
def test_two_machines_cannot_tell(machines):
    """Of two that differ, nobody knows which one is sick."""
    losses = dict.fromkeys(machines, 0.0) | {machines[-1]: 0.3}

    assert [] == outliers.find(rows(losses))


def test_a_change_of_all_is_no_outlier():
    """A regression of the engine moves every machine."""
    losses = {name: loss + 0.3 for name, loss in HEALTHY.items()}

    assert [] == outliers.find(rows(losses))


def test_rows_that_one_machine_measured_say_nothing():
    """A machine is compared by what others measured as well."""
    losses = rows(HEALTHY) | {"alone": {"sick": 5.0}}

    assert [] == outliers.find(losses)


def test_healthy_fleets_name_hardly_any():
    """Of 400 fleets that differ as it is assumed, at most three times as many as promised."""
    rng = np.random.default_rng(7)
    named = 0
    for _ in range(400):
        places = rng.normal(0.0, outliers.BETWEEN_CV, size=8)
        losses = {str(n): float(place) for n, place in enumerate(places)}
        named += bool(outliers.find(rows(losses, 1)))

    assert named <= 3 * 400 * outliers.FALSE_ALARMS
