"""History store: every run once, with concurrent writers."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from perfgate.history.series import HistoryError, entries_of
from perfgate.history.store import FORMER_FILE, History
from perfgate.locations import HISTORY_FILE
from perfgate.results import schema as rundata
from perfgate.results.verdict import Outcome, Verdict
from tests.support.builders import saved

ROOT = Path(__file__).resolve().parents[3]


def test_runs_are_added_once(tmp_path):
    """Appending a run twice, with a concurrent refresh, leaves one entry."""
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
    assert [1000.0] == [
        pytest.approx(entry.value) for entry in refresh(tmp_path)
    ]


def test_known_runs_are_not_read_again(tmp_path, monkeypatch):
    """A store of many runs costs a refresh the reading of the new ones alone."""
    saved(tmp_path, 1, 1000.0)
    saved(tmp_path, 2, 600.0, complete=False)
    loaded = []
    load = rundata.load
    monkeypatch.setattr(
        rundata, "load", lambda path: (loaded.append(path), load(path))[1]
    )
    refresh(tmp_path)
    refresh(tmp_path)
    new = saved(tmp_path, 3, 1000.0)

    assert 2 == len(refresh(tmp_path))
    assert ["20260601-120000-1", new.run_id] == [path.name for path in loaded]


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
    writers = [
        subprocess.Popen([*command, *part], cwd=ROOT)
        for part in (folders[:5], folders[3:], folders[::-1])
    ]
    assert [0, 0, 0] == [writer.wait() for writer in writers]
    assert sorted(runs) == [
        entry.run for entry in History(tmp_path / HISTORY_FILE).entries()
    ]


def test_json_lines_are_imported(tmp_path):
    """The former history in JSON lines is in the new file; a broken line is named."""
    entries = entries_of(saved(tmp_path / "elsewhere", 1, 1000.0))
    former = tmp_path / FORMER_FILE
    former.write_bytes(
        b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries)
    )
    assert entries == History(tmp_path / HISTORY_FILE).entries()
    former.write_text('{"run": 1}\n')
    with pytest.raises(HistoryError, match="line 1"):
        History(tmp_path / "other.sqlite3").entries()


def test_what_is_no_history_is_an_error(tmp_path):
    """A file of another kind or a later schema is an error that names it; it stays as it was."""
    (tmp_path / "text").write_text(
        "no database, but long enough to be read as one" * 50
    )
    with sqlite3.connect(tmp_path / "later") as database:
        database.execute("PRAGMA user_version = 7")
    database.close()
    for name, words in (("text", "not a database"), ("later", "version 7")):
        with pytest.raises(HistoryError, match=words):
            History(tmp_path / name).entries()


def test_a_history_of_the_first_version_gets_the_new_columns(tmp_path):
    """Its entries stay as they are, and do not know what they were compared with."""
    history = History(tmp_path / HISTORY_FILE)
    history.append(saved(tmp_path / "runs", 1, 1000.0))
    with sqlite3.connect(history.path) as database:
        for name in ("baseline", "allowed"):
            database.execute(f"ALTER TABLE entries DROP COLUMN {name}")
        database.execute("PRAGMA user_version = 1")
    database.close()
    (entry,) = history.entries()
    history.append(saved(tmp_path / "runs", 2, 990.0))

    assert 1000.0 == pytest.approx(entry.value)
    assert (None, None) == (entry.baseline, entry.allowed)
    assert 2 == len(history.entries())


def test_what_a_value_was_compared_with_is_kept(tmp_path):
    """Baseline and allowed loss of its verdict come back as they were."""
    results = saved(tmp_path / "runs", 1, 1000.0)
    verdict = Verdict(
        case=results.cases[0].id,
        metric=results.cases[0].metric,
        outcome=Outcome.PASSED,
        gate="hard",
        summary="",
        baseline=1010.0,
        allowed=0.05,
    )
    results = msgspec.structs.replace(results, verdicts=(verdict,))
    history = History(tmp_path / HISTORY_FILE)
    history.append(results)
    (entry,) = history.entries()

    assert (1010.0, 0.05) == (entry.baseline, entry.allowed)
