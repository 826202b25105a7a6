"""Reports: every kind of session writes all four files, and each of them parses."""

from __future__ import annotations

import signal
import sqlite3
import sys

import pytest

from tests.support import fake_suite
from tests.support.fault_checker import Findings, check_reports, has_traceback
from tests.support.small_project import Project, measures

PAIRS = ("--against-engine", f"fake={sys.executable}", "-k", "test_each")
# Kind of session -> its options and variables.
SESSIONS = {
    "plain": ((), {}),
    "pairs": (PAIRS, {}),
    "screened": ((*PAIRS, "--pairs", "suspect"), {}),
    "workers": (("-n", "2"), {"FAKE_GPUS": "2"}),
    "failed-start": (
        (),
        {"FAKE_MISBEHAVIOUR": "mixtral-8x7b: --exit-at-start 3"},
    ),
    "died": (
        (),
        {"FAKE_MISBEHAVIOUR": "mixtral-8x7b: --die-after-requests 60"},
    ),
    "none-started": (
        ("-k", "mixtral and not over"),
        {"FAKE_MISBEHAVIOUR": "mixtral-8x7b: --exit-at-start 3"},
    ),
}


@pytest.fixture
def small(tmp_path):
    """A small project."""
    return Project(tmp_path)


def play(small, *options, **more):
    """A session with a report, to its end."""
    run = small.runs / "r"
    words = ("--run-dir", str(run), "--perf-report", "yes", *options)
    session = small.start(*words, **more)
    session.wait()
    return session


def broken(small, session):
    """What is wrong with the files of the run."""
    found = Findings()
    check_reports(small.runs / "r", found)
    found.require(not has_traceback(session), session.output)
    return found.lines


@pytest.mark.parametrize(("options", "env"), SESSIONS.values(), ids=SESSIONS)
def test_a_session_has_all_its_files(small, options, env):
    """Whatever was measured, and however."""
    session = play(small, *options, env=env)

    assert [] == broken(small, session)


def test_an_attached_session_has_all_its_files(small):
    """Though nothing is known of its server but its answers."""
    with fake_suite.running(itl_s=0.004) as url:
        options = ("--engine", "fake", "--attach", f"fake={url}")
        session = play(small, *options, platform=("-m", "cpu"))

    assert [] == broken(small, session)
    assert 0 == session.process.returncode


def test_a_resumed_session_has_all_its_files(small):
    """Of the whole run."""
    play(small, "-k", "test_each")
    session = play(small, "--resume")

    assert [] == broken(small, session)


def test_an_interrupted_session_has_all_its_files(small):
    """Of what it had measured; a second command adds the rest."""
    run = small.runs / "r"
    session = small.start("--run-dir", str(run), "--perf-report", "yes")
    session.wait_for(run, measures)
    session.send(signal.SIGINT)

    assert [] == broken(small, session)
    assert "The run was cut off in launch 1" in session.output


def test_a_broken_baseline_that_nobody_asks_takes_nothing_along(small):
    """Its name is a line; every file, and the verdicts, are as without it."""
    small.baselines.mkdir()
    other = small.baselines / "h200x1" / "fake-other-tp1"
    other.mkdir(parents=True)
    (other / "closed.json").write_text("<<<<<<< HEAD\n{}")

    session = play(small)

    assert [] == broken(small, session)
    assert 0 == session.process.returncode
    assert str(other / "closed.json") in session.output


@pytest.mark.parametrize("kind", ["corrupt", "of another version"])
def test_a_history_that_cannot_be_used_takes_nothing_along(small, kind):
    """Its name and the remedy are a line."""
    history = small.folder / "history.sqlite3"
    history.write_text("no database")
    if kind == "of another version":
        history.unlink()
        with sqlite3.connect(history) as database:
            database.execute("PRAGMA user_version = 7")

    session = play(small, "--history", str(history))

    assert [] == broken(small, session)
    assert f"no trends: using the history {history}" in session.output
