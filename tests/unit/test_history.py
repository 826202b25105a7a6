"""Does the history hold every run once, and find a step that the gate cannot see?"""

import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from perfgate.history import series as history
from perfgate.history.series import ChangePoint, HistoryError, change_points, entries_of, series, told
from perfgate.history.store import FORMER_FILE, History
from perfgate.locations import HISTORY_FILE
from perfgate.results import schema as rundata
from tests.unit import measured as m

ROOT = Path(__file__).resolve().parent.parent.parent


def saved(folder, number, value, **how):
    """A run in the run store with this throughput."""
    results = m.run({m.MOE_LOAD: {"output_throughput": [value]}}, [m.THROUGHPUT], f"202606{number:02}-120000-1", **how)
    rundata.save(results, folder / results.run_id)
    return results


def test_runs_are_added_once(tmp_path):
    """Appending a run twice, and refreshing beside it, leaves one entry."""
    results = saved(tmp_path, 1, 1000.0)
    store = History(tmp_path / HISTORY_FILE)
    assert [1, 0] == [store.append(results), store.append(results)]
    store.refresh(tmp_path)
    (entry,) = store.entries()
    assert (results.run_id, "h200x2", {"driver": "580.1"}) == (
        entry.run,
        entry.hardware,
        {"driver": entry.context["driver"]},
    )


def refresh(folder):
    """The entries after the run store was looked through."""
    store = History(folder / HISTORY_FILE)
    store.refresh(folder)
    return store.entries()


def test_entries_outlive_run_directories(tmp_path):
    """What was added stays when the run's folder is deleted."""
    results = saved(tmp_path, 1, 1000.0)
    refresh(tmp_path)
    (tmp_path / results.run_id / rundata.RESULTS_FILE).unlink()
    assert [1000.0] == [pytest.approx(entry.value) for entry in refresh(tmp_path)]


def test_injected_partial_and_broken_runs_stay_out(tmp_path):
    """Runs that were slowed down on purpose, did not end, or cannot be read are not history."""
    saved(tmp_path, 1, 500.0, injected={"token_delay_ms": 5.0})
    saved(tmp_path, 2, 600.0, complete=False)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / rundata.RESULTS_FILE).write_text("{")
    saved(tmp_path, 3, 1000.0)
    assert ["20260603-120000-1"] == [entry.run for entry in refresh(tmp_path)]


def test_writers_wait_for_each_other(tmp_path):
    """Several processes that add different runs at once lose none of them."""
    runs = [saved(tmp_path / "runs", n, 1000.0 + n).run_id for n in range(1, 9)]
    program = (
        "import sys; from pathlib import Path; from perfgate.history.store import History; "
        "from perfgate.results.schema import load; "
        "[History(Path(sys.argv[1])).append(load(Path(p))) for p in sys.argv[2:]]"
    )
    command = [sys.executable, "-c", program, str(tmp_path / HISTORY_FILE)]
    folders = [str(tmp_path / "runs" / run) for run in runs]
    writers = [subprocess.Popen([*command, *part], cwd=ROOT) for part in (folders[:5], folders[3:], folders[::-1])]
    assert [0, 0, 0] == [writer.wait() for writer in writers]
    assert sorted(runs) == [entry.run for entry in History(tmp_path / HISTORY_FILE).entries()]


def test_json_lines_are_taken_over(tmp_path):
    """The history that was kept before, as JSON lines, is in the new file; a broken line is named."""
    entries = entries_of(saved(tmp_path / "elsewhere", 1, 1000.0))
    former = tmp_path / FORMER_FILE
    former.write_bytes(b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries))
    assert entries == History(tmp_path / HISTORY_FILE).entries()
    former.write_text('{"run": 1}\n')
    with pytest.raises(HistoryError, match="line 1"):
        History(tmp_path / "other.sqlite3").entries()


def test_what_is_no_history_is_an_error(tmp_path):
    """A file of another kind, or of a later schema, is an error that names it and is left as it was."""
    (tmp_path / "text").write_text("no database, but long enough to be read as one" * 50)
    with sqlite3.connect(tmp_path / "later") as database:
        database.execute("PRAGMA user_version = 7")
    database.close()
    for name, words in (("text", "not a database"), ("later", "version 7")):
        with pytest.raises(HistoryError, match=words):
            History(tmp_path / name).entries()


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
    assert "-10.0 % from here on (p = 1e-05); driver: 580.1 before, 590.2 after" in rule
    assert ("1000" in first, "900" in second) == (True, True)
    _, drift, _ = told(series(refresh(tmp_path), m.THROUGHPUT.id), []).splitlines()
    assert "driver: 580.1 before, 590.2 after" == drift.strip()


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
    with pytest.raises(HistoryError, match=r"pip install -e .\.\[history\]"):
        change_points([1.0] * 10)
