"""The tables of docs/fleet.md: what a fleet sees, and what its driver costs."""

from __future__ import annotations

import math

import pytest

from benchmarks import fleet_scale, fleet_sight
from perfgate.fleet.change import Prior

PRIOR = Prior(launches_cv=0.005, machines_cv=0.012)


def test_more_machines_see_more():
    """Hardly any unchanged fleet is red; a large one sees 2 % where a small one does not."""
    few = fleet_sight.red_rate(PRIOR, 2, 0.02, own=True, trials=100)
    many = fleet_sight.red_rate(PRIOR, 32, 0.02, own=True, trials=100)
    false = fleet_sight.red_rate(PRIOR, 32, 0.0, own=True, trials=100)

    assert few < many
    assert 0.99 < many
    assert false < 0.02


def test_machines_with_a_past_see_more_than_others():
    """How machines differ falls out."""
    own = fleet_sight.sight(PRIOR, 16, own=True, trials=50)
    other = fleet_sight.sight(PRIOR, 16, own=False, trials=50)

    assert own < other


@pytest.mark.parametrize(
    ("table", "rows"),
    [
        (fleet_sight.sight_table, len(fleet_sight.FLEETS)),
        (fleet_sight.outlier_table, len(fleet_sight.FLEETS) - 1),
    ],
)
def test_a_table_has_a_row_for_each_fleet(table, rows):
    """With as many cells."""
    lines = list(table(PRIOR, 10))

    assert 2 + rows == len(lines)
    assert 1 == len({line.count("|") for line in lines})


def test_a_driver_is_measured():
    """Each launch has a part on the disk; twice as many launches take more of it."""
    small = fleet_scale.measured(4, 40)
    large = fleet_scale.measured(8, 80)

    assert (40, 80) == (small.launches, large.launches)
    assert 2 == pytest.approx(large.parts_mb / small.parts_mb, rel=0.05)
    assert math.isfinite(large.drive_s)
    assert 2 + 2 == len(list(fleet_scale.table([small, large])))
