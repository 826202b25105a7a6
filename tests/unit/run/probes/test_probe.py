"""Figures of all probes become part of the repetition that they read."""

from perfgate.run.probes.probe import NOTHING, Figures, with_figures
from tests.support.builders import repetition


def test_figures_of_all_probes_are_added():
    """What the repetition had stays; a value of a later probe counts."""
    row = repetition(0, {"itl_median_ms": 8.0}, ("late",), notes=("n",))
    power = Figures(values={"energy_j": 3.0}, notes=("no clocks",))
    hot = Figures(values={"energy_j": 4.0}, invalid=("throttled",))

    whole = with_figures(row, [power, NOTHING, hot])

    assert {"itl_median_ms": 8.0, "energy_j": 4.0} == whole.values
    assert ("late", "throttled") == whole.invalid
    assert ("n", "no clocks") == whole.notes
    assert {"itl_median_ms": 8.0} == row.values


def test_without_figures_nothing_changes():
    """A server without GPUs has none."""
    row = repetition(0, 1.0)

    assert row == with_figures(row, [NOTHING])
    assert row == with_figures(row, [])
