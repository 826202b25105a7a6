"""Simulation of creep: what is stopped, how early, and how rarely an unchanged year is."""

import statistics

import pytest
from click.testing import CliRunner

from benchmarks.creep_simulation import STARTS, WEEKS, main, years_of


@pytest.fixture(autouse=True)
def _no_sync(monkeypatch):
    """Files need not outlive a loss of power."""
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.mark.parametrize("start", STARTS, ids=lambda start: start.name)
def test_half_a_percent_a_week_is_stopped_at_5_percent(start):
    """From every beginning, in the median of five years."""
    losses = [year.loss for year in years_of(start, 0.005, 5)]

    assert statistics.median(losses) <= 0.05


def test_an_unchanged_year_is_not_stopped():
    """All 52 weeks are accepted."""
    (year,) = years_of(STARTS[0], 0.0, 1)

    assert ("never", WEEKS, 0.0) == (year.stopped, year.week, year.loss)


def test_table(monkeypatch):
    """A row for each beginning and speed."""
    monkeypatch.setattr("benchmarks.creep_simulation.CREEPS", (0.01,))

    done = CliRunner().invoke(main, ["--scale", "0.01"])

    assert 0 == done.exit_code, done.output
    assert 2 + len(STARTS) == len(done.output.splitlines())
    assert "| one launch of this machine | 1 % | " in done.output
