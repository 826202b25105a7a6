"""History series: one hardware for each case; level shifts that the gate cannot detect."""

import random
import sys
import types

import msgspec
import pytest

from perfgate.history import series as history
from perfgate.history.series import (
    ChangePoint,
    HistoryError,
    change_points,
    format_series,
    series,
)
from perfgate.history.store import History
from perfgate.locations import HISTORY_FILE
from perfgate.results.schema import save
from tests.support import builders as m
from tests.support.builders import saved


def refresh(folder):
    """The entries after the run store was looked through."""
    store = History(folder / HISTORY_FILE)
    store.refresh(folder)
    return store.entries()


def test_series_is_of_one_case_on_one_hardware(tmp_path):
    """Runs on two kinds of hardware are never one series; an unknown case is an error."""
    saved(tmp_path, 2, 1001.0)
    saved(tmp_path, 1, 1000.0)
    saved(tmp_path, 3, 700.0, machine=m.hardware("h100"))
    entries = refresh(tmp_path)
    with pytest.raises(HistoryError, match="h100x2, h200x2"):
        series(entries, m.THROUGHPUT.id)
    assert [1000.0, 1001.0] == [
        pytest.approx(e.value)
        for e in series(entries, m.THROUGHPUT.id, "h200x2")
    ]
    with pytest.raises(HistoryError, match="no/such/case"):
        series(entries, "no/such/case")


def test_told_draws_a_rule_where_the_level_changed(tmp_path):
    """The rule stands before the first run of the new level and names the changed context."""
    saved(tmp_path, 1, 1000.0)
    saved(tmp_path, 2, 900.0, machine=m.hardware(driver="590.2"))
    text = format_series(
        series(refresh(tmp_path), m.THROUGHPUT.id),
        [ChangePoint(index=1, change=-0.1, p_value=1e-5)],
    )
    first, rule, second = text.splitlines()
    assert (
        "-10.0 % from here on (p = 1e-05); driver: 580.1 before, 590.2 after"
        in rule
    )
    assert ("1,000 tok/s" in first, "900 tok/s" in second) == (True, True)
    _, drift, _ = format_series(
        series(refresh(tmp_path), m.THROUGHPUT.id), []
    ).splitlines()
    assert "driver: 580.1 before, 590.2 after" == drift.strip()


def test_changed_answers_are_counted_and_not_shown(tmp_path):
    """Their hashes mean nothing to a reader."""
    for day, answers in enumerate((("aaaaaa", "bbbbbb"), ("aaaaaa", "x")), 1):
        run = saved(tmp_path, day, 1000.0)
        launches = [
            msgspec.structs.replace(row, answers=answers)
            for row in run.launches
        ]
        run = msgspec.structs.replace(run, launches=tuple(launches))
        save(run, tmp_path / run.run_id)
    entries = series(refresh(tmp_path), m.THROUGHPUT.id)

    _, changed, _ = format_series(entries, []).splitlines()
    assert (
        "answers: 0 of 2 changed before, 1 of 2 changed after"
        == changed.strip()
    )


def test_otava_finds_a_step():
    """30 runs with 0.3 % noise and a step of 3 % after the 20th: one change point, there."""
    pytest.importorskip(
        "otava.analysis", reason="needs the extra perfgate[history]"
    )
    rng = random.Random(3)
    values = [
        1000 * (0.97 if n >= 20 else 1.0) * (1 + rng.gauss(0, 0.003))
        for n in range(30)
    ]
    (point,) = change_points(values)
    assert 20 == point.index
    assert pytest.approx(-0.03, abs=0.005) == point.change


def test_otava_is_silent_without_a_step():
    """30 runs of noise alone have no change point, and five runs are never asked."""
    pytest.importorskip(
        "otava.analysis", reason="needs the extra perfgate[history]"
    )
    rng = random.Random(4)
    assert [] == change_points(
        [1000 * (1 + rng.gauss(0, 0.003)) for _ in range(30)]
    )
    assert [] == change_points([1000.0, 500.0, 1000.0, 500.0, 1000.0])


def test_what_otava_finds_is_read(monkeypatch):
    """A stand-in for it: lists, at most one in a thousand by chance, and 0.5 % at least."""
    asked = []

    def find(values, max_pvalue, min_magnitude):
        asked.append((values, max_pvalue, min_magnitude))
        stats = types.SimpleNamespace(
            pvalue=0.0004, forward_rel_change=lambda: -0.03
        )
        return [types.SimpleNamespace(index=4, stats=stats)], None

    analysis = types.ModuleType("otava.analysis")
    analysis.compute_change_points = find
    monkeypatch.setitem(sys.modules, "otava", types.ModuleType("otava"))
    monkeypatch.setitem(sys.modules, "otava.analysis", analysis)
    values = (10.0, 10.0, 10.0, 10.0, 9.7, 9.7)

    assert [ChangePoint(index=4, change=-0.03, p_value=0.0004)] == (
        change_points(values)
    )
    assert [] == change_points(values[:5])
    assert [(list(values), 0.001, 0.005)] == asked


def test_without_otava_the_remedy_is_format_series(monkeypatch):
    """Where Otava is not installed the error says how to get it."""

    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(history.importlib, "import_module", missing)
    with pytest.raises(
        HistoryError, match=r"pip install 'perfgate\[history\]'"
    ):
        change_points([1.0] * 10)
