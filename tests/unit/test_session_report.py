"""The hooks that show a session: plan, table, and what --gate=required makes of it."""

import types

import msgspec
import pytest

from perfgate import session_report
from perfgate.files import RunDataError
from perfgate.fixtures import SESSION
from perfgate.report import ending, terminal
from tests.support.builders import THROUGHPUT
from tests.support.judged_runs import judged
from tests.support.studies import SHIPPED

OK = pytest.ExitCode.OK
FAILED = pytest.ExitCode.TESTS_FAILED


class Terminal:
    """Keeps the lines that are written."""

    def __init__(self):
        self.lines = []
        self.sections = []
        self._tw = types.SimpleNamespace(fullwidth=100, hasmarkup=False)

    def section(self, title):
        self.sections.append(title)

    def write_line(self, line, **markup):
        self.lines.append(line)


@pytest.fixture
def session(tmp_path):
    """A pytest session with a perf session that has these results."""

    def make(results=None, unjudged=(), **options):
        config = {
            "plan": False,
            "units": None,
            "collect_only": False,
            "runs_tests": True,
            "verbose": False,
            "gate": "advisory",
            "run_dir": tmp_path,
            "store": None,
        } | options
        perf = types.SimpleNamespace(
            config=types.SimpleNamespace(**config),
            results=results,
            platforms=("h200",),
            study=SHIPPED,
            cases=(THROUGHPUT,),
            runnable_cases=(),
            server_tests=set(),
            skip_reasons={},
            is_merged=False,
            hardware=None,
            closed=[],
            unjudged=lambda: list(unjudged),
            unused_baselines=list,
            has_finished_loop=True,
        )
        perf.close = lambda complete: perf.closed.append(complete)
        reporter = Terminal()
        manager = types.SimpleNamespace(get_plugin=lambda name: reporter)
        stash = pytest.Stash()
        stash[SESSION] = perf
        return types.SimpleNamespace(
            config=types.SimpleNamespace(stash=stash, pluginmanager=manager),
            perf=perf,
            reporter=reporter,
            exitstatus=OK,
            shouldfail=False,
            shouldstop=False,
        )

    return make


@pytest.fixture
def written(monkeypatch):
    """Replaces the artifacts of a session's end; returns the runs that they are of."""
    runs = []

    def write(results, config, is_merged):
        runs.append(results)
        return ["report: here"]

    monkeypatch.setattr(ending, "write_artifacts", write)
    return runs


def show(session):
    """The lines of the summary."""
    session_report.pytest_terminal_summary(session.reporter, session.config)
    return session.reporter.lines


@pytest.mark.parametrize(
    ("outcome", "options", "status"),
    [
        ("PASSED", {"gate": "required"}, OK),
        ("NO_BASELINE", {"gate": "advisory"}, OK),
        ("NO_BASELINE", {"gate": "required"}, FAILED),
        ("NOT_EXCLUDED", {"gate": "required"}, OK),
        ("NOT_EXCLUDED", {"gate": "strict"}, FAILED),
    ],
)
def test_what_is_missing_fails_a_required_gate(
    session, written, outcome, options, status
):
    """Though every test passed or was skipped; not an advisory one."""
    ended = session(judged(outcome), **options)

    session_report.pytest_sessionfinish(ended, OK)

    assert status == ended.exitstatus
    assert [ended.perf.results] == written


def test_an_unjudged_case_fails_a_required_gate(session, written):
    """A case that was selected has no verdict."""
    ended = session(judged("PASSED"), [THROUGHPUT], gate="required")

    session_report.pytest_sessionfinish(ended, OK)

    assert FAILED == ended.exitstatus


@pytest.mark.parametrize("status", [OK, FAILED])
@pytest.mark.parametrize("has_finished", [True, False])
def test_a_session_is_complete_if_its_loop_returned(
    session, written, status, has_finished
):
    """Whatever the exit status says: a second Ctrl-C may come before pytest has set it."""
    ended = session(judged("PASSED"))
    ended.perf.has_finished_loop = has_finished

    session_report.pytest_sessionfinish(ended, status)

    assert [has_finished] == ended.perf.closed


def test_a_session_that_cannot_be_closed_fails_with_a_line(session, written):
    """The table and the reports of what was measured are still shown."""

    def close(complete):
        raise RunDataError("writing results.json", "no space", "free space")

    ended = session(judged("PASSED"))
    ended.perf.close = close

    session_report.pytest_sessionfinish(ended, OK)

    assert FAILED == ended.exitstatus
    assert [ended.perf.results] == written
    assert any("did not end properly" in line for line in show(ended))


def test_a_session_without_platform_writes_nothing(session, written):
    """A plain `pytest` has nothing to do with the gate."""
    ended = session(judged("PASSED"))
    ended.perf.platforms = ()

    session_report.pytest_sessionfinish(ended, OK)

    assert [] == ended.perf.closed == written
    assert [] == show(ended)


def test_the_summary_ends_with_where_the_data_are(session, written, tmp_path):
    """The answer, table, gate, launches, run data, in this order; then what was written."""
    ended = session(judged("REGRESSED"))
    session_report.pytest_sessionfinish(ended, OK)

    lines = show(ended)

    assert "Red: 1 of 1 rows regressed" == lines[0]
    assert terminal.table(ended.perf.results, 100, False, False) in lines
    starts = [line.partition(" ")[0] for line in lines[1:]]
    order = ["gate=advisory:", "launches:", "run", "report:"]
    assert order == [start for start in starts if start in order]
    assert f"run data: {terminal.run_data_path(tmp_path)}" in lines


def test_a_run_that_was_cut_off_says_how_to_resume(session, written, tmp_path):
    """By the same command, with the run directory and --resume."""
    results = msgspec.structs.replace(judged("PASSED"), complete=False)

    lines = show(session(results))

    assert any(f"--run-dir={tmp_path} --resume" in line for line in lines)


def test_nothing_measured_says_why(session):
    """Equal reasons are counted; a required gate is red."""
    ended = session(gate="required")
    ended.perf.skip_reasons = {"a": "no GPU", "b": "no GPU"}

    first, *others = show(ended)

    assert first.startswith("Nothing was measured")
    assert "2 tests skipped: no GPU" == others[0]
    assert "1 case " in others[1]


def test_the_plan_takes_the_place_of_the_tests(session):
    """With --plan alone; a session that only collects shows its tests."""
    ended = session(plan=True)
    ended.perf.cases = ()

    assert session_report.pytest_runtestloop(ended)
    assert ["performance gate: plan"] == ended.reporter.sections
    assert any("no perf test is selected" in x for x in ended.reporter.lines)
    for options in ({}, {"plan": True, "collect_only": True}):
        assert None is session_report.pytest_runtestloop(session(**options))


def test_a_plan_that_cannot_be_made_is_a_usage_error(session, monkeypatch):
    """Such as one that needs a baseline file which is broken."""

    def refuse(*_):
        raise RunDataError("reading the baseline", "<<<", "restore it")

    monkeypatch.setattr(session_report, "_plan", refuse)

    with pytest.raises(pytest.UsageError, match="restore it"):
        session_report.pytest_runtestloop(session(plan=True))


def test_progress_is_silent_without_a_terminal():
    """A worker of pytest-xdist has none."""
    manager = types.SimpleNamespace(get_plugin=lambda name: None)
    config = types.SimpleNamespace(pluginmanager=manager)

    progress = session_report.pytest_perfgate_progress(config)

    progress.line("nobody sees it")
