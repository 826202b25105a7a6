"""Does the history hold every run once, and find a step that the gate cannot see?"""

import random

import pytest

from fixtures import rundata
from fixtures.judge import history
from fixtures.judge.history import (
    HISTORY_FILE,
    ChangePoint,
    HistoryError,
    append,
    change_points,
    read,
    refresh,
    series,
    told,
)
from tests.unit import measured as m


def saved(folder, number, value, **how):
    """A run in the run store with this throughput."""
    results = m.run({m.MOE_LOAD: {"output_throughput": [value]}}, [m.THROUGHPUT], f"202606{number:02}-120000-1", **how)
    rundata.save(results, folder / results.run_id)
    return results


def test_runs_are_added_once(tmp_path):
    """Appending a run twice, and refreshing beside it, leaves one line."""
    results = saved(tmp_path, 1, 1000.0)
    path = tmp_path / HISTORY_FILE
    assert [1, 0] == [append(results, path), append(results, path)]
    assert 1 == len(refresh(tmp_path)) == len(read(path))


def test_lines_outlive_run_directories(tmp_path):
    """What was added stays when the run's folder is deleted."""
    results = saved(tmp_path, 1, 1000.0)
    refresh(tmp_path)
    (tmp_path / results.run_id / rundata.RESULTS_FILE).unlink()
    assert [1000.0] == [pytest.approx(entry.value) for entry in refresh(tmp_path)]


def test_planted_partial_and_broken_runs_stay_out(tmp_path):
    """Runs that were slowed down on purpose, did not end, or cannot be read are not history."""
    saved(tmp_path, 1, 500.0, planted={"token_delay_ms": 5.0})
    saved(tmp_path, 2, 600.0, complete=False)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / rundata.RESULTS_FILE).write_text("{")
    saved(tmp_path, 3, 1000.0)
    assert ["20260603-120000-1"] == [entry.run for entry in refresh(tmp_path)]


def test_broken_line_is_named(tmp_path):
    """A line that is not of the form is an error with its number."""
    saved(tmp_path, 1, 1000.0)
    refresh(tmp_path)
    with (tmp_path / HISTORY_FILE).open("a") as file:
        file.write('{"run": 1}\n')
    with pytest.raises(HistoryError, match="line 2"):
        read(tmp_path / HISTORY_FILE)


def test_series_is_of_one_case_on_one_hardware(tmp_path):
    """Runs on two kinds of hardware are never one series; an unknown case is an error."""
    saved(tmp_path, 2, 1001.0)
    saved(tmp_path, 1, 1000.0)
    saved(tmp_path, 3, 700.0, machine=m.hardware("h100"))
    entries = refresh(tmp_path)
    with pytest.raises(HistoryError, match="h100x2, h200x2"):
        series(entries, m.THROUGHPUT.id)
    assert [1000.0, 1001.0] == [pytest.approx(e.value) for e in series(entries, m.THROUGHPUT.id, "h200x2")]
    with pytest.raises(HistoryError, match="no/such/case"):
        series(entries, "no/such/case")


def test_told_draws_a_rule_where_the_level_changed(tmp_path):
    """The rule stands before the first run of the new level and names the context that changed with it."""
    saved(tmp_path, 1, 1000.0)
    saved(tmp_path, 2, 900.0, machine=m.hardware(driver="590.2"))
    text = told(series(refresh(tmp_path), m.THROUGHPUT.id), [ChangePoint(index=1, change=-0.1, p_value=1e-5)])
    first, rule, second = text.splitlines()
    assert "lower by 10.0 % from here on (p = 1e-05); driver: 590.2 now, 580.1 in the baseline" in rule
    assert ("1000" in first, "900" in second) == (True, True)


def test_otava_finds_a_step():
    """30 runs with 0.3 % noise and a step of 3 % after the 20th: one change point, there."""
    pytest.importorskip("otava.analysis", reason="needs the extra perfgate[history]")
    rng = random.Random(3)
    values = [1000 * (0.97 if n >= 20 else 1.0) * (1 + rng.gauss(0, 0.003)) for n in range(30)]
    (point,) = change_points(values)
    assert 20 == point.index
    assert pytest.approx(-0.03, abs=0.005) == point.change


def test_otava_is_silent_without_a_step():
    """30 runs of noise alone have no change point, and five runs are never asked."""
    pytest.importorskip("otava.analysis", reason="needs the extra perfgate[history]")
    rng = random.Random(4)
    assert [] == change_points([1000 * (1 + rng.gauss(0, 0.003)) for _ in range(30)])
    assert [] == change_points([1000.0, 500.0, 1000.0, 500.0, 1000.0])


def test_without_otava_the_remedy_is_told(monkeypatch):
    """Where Otava is not installed the error says how to get it."""

    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(history.importlib, "import_module", missing)
    with pytest.raises(HistoryError, match=r"perfgate\[history\]"):
        change_points([1.0] * 10)
