"""Figures of trends: days, versions, and the band of the newest judged run."""

import msgspec
import pytest

from perfgate.history.series import ChangePoint
from perfgate.report.figures.trend import Trend, trend, trends
from tests.unit.report.test_trends import CASE, OTHER_CASE, entry


def versioned(number, version, **how):
    """An entry of this version of the engine."""
    return msgspec.structs.replace(
        entry(number, **how), context={"vllm": version}
    )


def judged(number, baseline, allowed, case=CASE):
    """An entry that was compared."""
    return msgspec.structs.replace(
        entry(number, case=case), baseline=baseline, allowed=allowed
    )


def test_the_band_is_that_of_the_newest_judged_run():
    """A loss of a throughput lies below; the same distance on the logarithm above."""
    line = Trend((judged(1, 900.0, 0.1), judged(2, 1000.0, 0.2), entry(3)))

    assert (800.0, 1250.0) == pytest.approx(line.band)


def test_a_latency_may_rise_by_what_is_allowed():
    """Its limit is above."""
    line = Trend((judged(1, 10.0, 0.25, OTHER_CASE),))

    assert (8.0, 12.5) == pytest.approx(line.band)


def test_without_a_baseline_there_is_no_band():
    """Nothing is drawn that nobody decided."""
    line = Trend((entry(1), entry(2)))

    assert line.band is None
    assert "band" not in trend("t", CASE, line).caption


def test_versions_stand_where_they_begin():
    """The first one, and each that differs from the one before."""
    line = Trend(
        (versioned(1, "0.26.0"), versioned(2, "0.26.0"), versioned(3, "0.27.0"))
    )
    picture = trend("t", CASE, line)

    assert [(0, "vllm 0.26.0"), (2, "vllm 0.27.0")] == line.versions
    assert "1 Jun" in picture.svg
    assert "vllm 0.27.0" in picture.svg


def test_a_change_point_is_in_the_caption():
    """With the run from which on the level is another."""
    point = ChangePoint(index=1, change=-0.1, p_value=1e-5)
    picture = trend("t", CASE, Trend((entry(1), entry(2)), (point,)))

    assert "-10.0 % from run run-2 on" in picture.caption
    assert "changed here" == picture.rows[1][-1]


def test_cases_with_a_change_point_come_first():
    """One run is no trend."""
    point = ChangePoint(index=1, change=-0.1, p_value=1e-5)
    pair = (entry(1), entry(2))
    drawn = trends(
        {
            "single": Trend((entry(1),)),
            "calm": Trend(pair),
            "moved": Trend(pair, (point,)),
        },
        "",
    )

    assert 2 == len(drawn)
    assert drawn[0].description.startswith("moved")
