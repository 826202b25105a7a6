"""The offset between the two clocks, and a clock that is set."""

import pytest

from perfgate.load.clock import ClockOffset, offset_ns


def test_the_least_interrupted_reading_counts():
    """A reading between which the client was interrupted is further off."""
    monotonic = iter([0, 900, 1000, 1010, 2000, 2500, 3000, 3400, 4000, 4300])
    realtime = iter([10_800, 11_005, 12_400, 13_300, 14_200])

    assert 10_000 == offset_ns(lambda: next(monotonic), lambda: next(realtime))


@pytest.mark.parametrize(
    ("offsets", "set_by"),
    [
        ([500, 520, 480], 0),
        ([500, 500 + 2_000_000], 2_000_000),
        ([500, 500 - 3_600_000_000_000, 500], -3_600_000_000_000),
    ],
)
def test_a_clock_that_is_set_is_found(offsets, set_by):
    """Small differences are those of reading; a step stays known, though set back."""
    coming = iter(offsets)
    clock = ClockOffset(lambda: next(coming))
    for _ in offsets[1:]:
        clock.check()

    assert set_by == clock.set_by_ns
