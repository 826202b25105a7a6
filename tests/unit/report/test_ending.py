"""What a session leaves at its end: report, history, proposed baselines."""

import pytest

from perfgate.config.config import Config
from perfgate.history.store import History
from perfgate.judge.baseline_store import Store
from perfgate.report import ending
from perfgate.report.artifacts import BENCHMARK, JUNIT, PAGE, SUMMARY
from tests.support.builders import MOE_LOAD, THROUGHPUT, run


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A session's configuration in an empty folder, outside a CI service."""
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    (tmp_path / "run").mkdir()

    def make(**fields):
        settings = {"writes_report": False, "proposes_baselines": False}
        return Config(
            run_dir=tmp_path / "run",
            store=Store(tmp_path / "baselines"),
            history=tmp_path / "history.sqlite3",
            **settings | fields,
        )

    return make


def results():
    """A run that measured one case on one launch."""
    return run({MOE_LOAD: {"output_throughput": [1000.0]}}, [THROUGHPUT])


def test_nothing_is_written_that_no_option_asks_for(config, tmp_path):
    """No line, no file."""
    assert [] == ending.write_artifacts(results(), config())
    assert [] == list((tmp_path / "run").iterdir())
    assert not (tmp_path / "history.sqlite3").exists()


def test_the_report_is_written_after_the_run_entered_the_history(
    config, tmp_path
):
    """The line names the page; the other files are in the same folder."""
    lines = ending.write_artifacts(results(), config(writes_report=True))

    page = tmp_path / "run" / "report.html"
    assert any(str(page) in line for line in lines)
    assert page.is_file()
    assert (tmp_path / "run" / "junit.xml").is_file()
    entries = History(tmp_path / "history.sqlite3").entries()
    assert [THROUGHPUT.id] == [entry.case for entry in entries]


def test_a_broken_history_takes_nothing_else_along(config, tmp_path):
    """It is a line; the four files are written, the page without trends."""
    (tmp_path / "history.sqlite3").write_text("no database")

    broken, report = ending.write_artifacts(
        results(), config(writes_report=True)
    )

    assert broken.startswith("no trends: using the history")
    assert f"perfgate report {tmp_path / 'run'}" in broken
    assert report.startswith("report: ")
    assert sorted([PAGE, SUMMARY, JUNIT, BENCHMARK]) == sorted(
        path.name for path in (tmp_path / "run").iterdir()
    )


def test_a_broken_baseline_takes_nothing_else_along(config, tmp_path):
    """What shows baselines is written without them, and names the file."""
    settings = config(writes_report=True)
    broken = settings.store.path(THROUGHPUT, "h200x2")
    broken.parent.mkdir(parents=True)
    broken.write_text("<<<<<<< HEAD")

    lines = ending.write_artifacts(results(), settings)

    assert [SUMMARY, PAGE] == [
        line.split()[0] for line in lines if str(broken) in line
    ]
    assert 4 == len(list((tmp_path / "run").iterdir()))


def test_proposed_baselines_are_written_next_to_the_run(config, tmp_path):
    """The line has the command that accepts them; the store itself is not touched."""
    (line,) = ending.write_artifacts(results(), config(proposes_baselines=True))

    proposed = list((tmp_path / "run" / ending.PROPOSED).rglob("*.json"))
    assert 1 == len(proposed)
    assert f"`perfgate accept {tmp_path / 'run'}`" in line
    assert not (tmp_path / "baselines").exists()


def test_what_cannot_be_proposed_is_a_line(config, tmp_path):
    """With the reason, such as a baseline file that cannot be read."""
    wanted = config(proposes_baselines=True)
    broken = wanted.store.path(THROUGHPUT, "h200x2")
    broken.parent.mkdir(parents=True)
    broken.write_text("{")

    (line,) = ending.write_artifacts(results(), wanted)

    assert line.startswith("no proposed baselines: ")
    assert str(broken) in line
    assert not (tmp_path / "run" / ending.PROPOSED).exists()
