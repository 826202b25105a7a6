"""Noise of contrasts: learned from the store, each in groups of its own."""

import pytest

from perfgate.judge.noise_learning import MachineLaunches, Series, learn
from perfgate.judge.noise_table import (
    GroupNoise,
    NoiseTable,
    Spread,
    contrast_names,
)


def noise(cv):
    """Noise that is known well."""
    spread = Spread(cv=cv, degrees_of_freedom=10.0)
    return GroupNoise(launches=spread, series=3)


def test_the_narrowest_group_counts_first():
    """One GPU before any number, the metric under its load before its family."""
    assert [
        "one-gpu/decode_speed/shift",
        "gpu/decode_speed/shift",
    ] == contrast_names("one-gpu", "shift", "decode_speed")
    assert [
        "cpu/itl_median_ms/closed/outlier",
        "cpu/itl/outlier",
    ] == contrast_names("cpu", "outlier", "itl_median_ms", "closed")
    assert ["cpu/itl/outlier"] == contrast_names(
        "cpu", "outlier", "itl_median_ms"
    )


def test_a_contrast_is_found_by_its_names():
    """None where the table does not know it."""
    groups = {"gpu/decode_speed/shift": noise(0.01)}
    table = NoiseTable(learned="2026-06-01", launches=9, groups=groups)

    found = table.find_contrast("several-gpus", "shift", "decode_speed")

    assert noise(0.01) == found
    assert table.find_contrast("cpu", "shift", "decode_speed") is None


def test_a_contrast_is_learned_and_counts_no_values():
    """Its values are those of metrics, which were counted already."""
    machines = {
        "gpu-a": MachineLaunches([0.0, 0.01, -0.01, 0.0], ["a", "b", "c", "d"]),
        "gpu-b": MachineLaunches([0.0, 0.01, -0.01], ["e", "f", "g"]),
    }
    series = Series(
        platform="one-gpu",
        metric="decode_speed",
        arrivals=None,
        is_ratio=False,
        machines=machines,
        contrast="shift",
    )

    table = learn([series], "2026-06-01")

    assert 0 == table.launches
    assert "gpu/decode_speed/shift" in table.groups
    cv = table.groups["gpu/decode_speed/shift"].launches.cv
    assert 0.0089 == pytest.approx(cv, abs=0.001)
