"""Thresholds in words: they have the direction of the change that they limit."""

import math

import pytest

from perfgate.judge import wording


@pytest.mark.parametrize(
    ("higher_is_better", "either_way", "expected"),
    [
        (True, False, "-9.1 %"),
        (False, False, "+10.0 %"),
        (True, True, "-9.1 % / +10.0 %"),
    ],
)
def test_threshold_is_told_as_the_change_it_allows(
    higher_is_better, either_way, expected
):
    """A loss of ln 1.1: a throughput may fall to 1 / 1.1, a latency may rise to 1.1."""
    limits = wording.limits(math.log(1.1), higher_is_better, either_way)

    assert expected == wording.threshold(limits)
