"""Forecast: how long a fleet takes."""

from perfgate.fleet import forecast
from perfgate.fleet.scheduler import Durations
from tests.support.fake_cluster import unit
from tests.support.fleets import place, state

SMALL = unit("small")
H100 = unit("other", gpu="h100")
KNOWN = Durations({("small", "h200"): 60.0})


def test_the_forecast_is_that_of_the_schedule():
    """Six launches of a minute on two hosts take three minutes; no host has the other kind."""
    run = state(SMALL, H100, launches=6)

    cast = forecast.forecast(
        run, [place("a", SMALL, H100), place("b", SMALL, H100)], KNOWN
    )

    assert 180.0 == cast.end_s
    assert {"a": 180.0, "b": 180.0} == cast.busy_s
    assert {"1x h200": 120.0} == cast.waits_s
    assert 6 == len(cast.never)
    assert 12 == len(run.open)
