"""Series behind the figures: the measured values."""

from perfgate.report.figures.series import timeline
from tests.support.judged_runs import judged


def test_timeline_shows_the_stall():
    """The slice in which all streams stalled holds the longest gap."""
    line = timeline(judged("PASSED").measurements[0].repetitions[0])

    assert line is not None
    assert 500.0 == max(gap for gap in line.longest_ms if gap > 0)
    assert 8 == line.streams.max()
