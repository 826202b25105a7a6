"""Mixed launches: some as the baseline, the others slower; what is of neither kind is none."""

import pytest

from perfgate.judge.mixture import mixture

THRESHOLD = 0.05


@pytest.mark.parametrize(
    ("values", "higher", "slow"),
    [
        ((100.0, 70.0, 101.0), True, 1),
        ((100.0, 70.0, 71.0), True, 2),
        ((100.0, 130.0, 101.0), False, 1),
        ((100.0, 130.0, 101.0), True, None),
        ((70.0, 70.0, 70.0), True, None),
        ((100.0, 101.0, 99.0), True, None),
        ((60.0, 90.0, 120.0), True, None),
    ],
)
def test_two_kinds_of_launches_are_told_apart(values, higher, slow):
    """Of throughputs as of latencies; a launch that is faster belongs to neither kind."""
    kinds = mixture(values, 100.0, THRESHOLD, higher)

    if slow is None:
        assert kinds is None
    else:
        assert (slow, 3 - slow) == (len(kinds.slow), kinds.matching)


def test_the_sentence_says_how_many_are_how_much_worse():
    """In the unit of the metric: 30 % less throughput."""
    kinds = mixture((100.0, 70.0, 100.0), 100.0, THRESHOLD, True)
    sentence = kinds.sentence(True)

    assert "1 of 3 launches is 30.0 % worse" in sentence
    assert "the others match it: a regression of the start" in sentence


def test_the_sentence_says_that_one_launch_alone_matches():
    """Of two launches, or of three."""
    for values in ((100.0, 70.0), (70.0, 100.0, 70.0)):
        kinds = mixture(values, 100.0, THRESHOLD, True)

        assert "the other one matches it" in kinds.sentence(True)


def test_the_loss_of_slow_launches_is_their_mean():
    """Of the logarithms: of 60 and 80 tok/s that of 69.3."""
    kinds = mixture((100.0, 60.0, 80.0), 100.0, THRESHOLD, True)

    assert "2 of 3 launches are 30.7 % worse" in kinds.sentence(True)
