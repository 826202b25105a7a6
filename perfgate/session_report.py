"""Session report: hooks that show the plan, the progress and the results of a session.

When the session ends, the servers are stopped, the run and its reports are written, and
a missing verdict fails the session but with --gate=advisory. The plugin registers this
module in a project.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pytest

from perfgate import formatting, perf_tests
from perfgate.config import other_plugins
from perfgate.errors import Failure
from perfgate.fixtures import SESSION
from perfgate.foreign_text import encodable
from perfgate.judge import run_status
from perfgate.results.schema import RunResults
from perfgate.run.session import PerfSession

# Lines about the files that were written at the end, for the terminal.
_ARTIFACT_LINES = pytest.StashKey[list[str]]()
# Exit status -> why nothing was measured that could run here.
_UNMEASURED: Mapping[int, str] = {
    pytest.ExitCode.INTERRUPTED: "interrupted before a server was launched",
    pytest.ExitCode.INTERNAL_ERROR: "pytest failed, see its output",
    pytest.ExitCode.USAGE_ERROR: "pytest refused the command, see its output",
}


def pytest_report_header(config: pytest.Config) -> list[str]:
    """GPUs that are left out, and a driver that does not answer; nothing as a rule."""
    perf = config.stash[SESSION]
    if not _measures(perf):
        return []
    notes = list(perf.hardware.gpu_notes)
    limit = other_plugins.time_limit(config)
    if limit:
        notes.append(
            f"{limit} does not end perf tests, of which some launch a server: see "
            "--stall-timeout"
        )
    return [f"perfgate: {note}" for note in notes]


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """With --plan show the plan, with --units list them, and run nothing."""
    perf = session.config.stash[SESSION]
    if perf.config.units is not None and not perf.config.collect_only:
        try:
            perf_tests.write_units(perf, session.items, perf.config.units)
        except Failure as failure:
            raise pytest.UsageError(str(failure)) from failure
        return True
    if not perf.config.plan or perf.config.collect_only:
        return None
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.section("performance gate: plan")
        try:
            for line in _plan(perf, reporter._tw):
                reporter.write_line(line)
        except Failure as failure:
            raise pytest.UsageError(str(failure)) from failure
    return True


def _plan(perf: PerfSession, terminal: Any) -> Iterator[str]:
    from perfgate.report import plan, plan_table

    width = terminal.fullwidth
    if not terminal.hasmarkup:
        width = max(width, plan_table.LINE_WIDTH)
    if perf.server_tests:
        tests = formatting.count(len(perf.server_tests), "test")
        yield f"{tests} with servers of its own: not in this plan"
    cases = perf.runnable_cases or perf.cases
    if cases:
        gpus = {name: perf.study.gpu_of(name) for name in perf.platforms}
        skip_reasons = tuple(dict.fromkeys(perf.skip_reasons.values()))
        planned = plan.PlannedSession(
            perf.config, cases, perf.hardware, gpus, skip_reasons
        )
        yield plan.text(planned, width)
    elif not perf.server_tests:
        yield _nothing_selected(perf)


def _nothing_selected(perf: PerfSession) -> str:
    if perf.platforms:
        return "no perf test is selected: check -k, the paths and the test ids"
    names = " or -m ".join(perf.study.platforms)
    return f"no perf test is selected: add -m {names}"


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Stop the servers, write the run and its reports, and apply --gate."""
    config = session.config
    perf = config.stash[SESSION]
    if not _measures(perf):
        return
    _end_workers(config)
    lines = _close(session, perf, exitstatus)
    if hasattr(config, "workeroutput"):
        perf_tests.send_to_controller(perf, config.workeroutput)
        return
    is_red = run_status.session_fails(
        perf.results, perf.unjudged(), perf.config.gate
    )
    if is_red and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    config.stash[_ARTIFACT_LINES] = [*lines, *_write_artifacts(perf)]


def _asked(perf: PerfSession, exitstatus: int) -> bool:
    """Whether something was to be measured, as far as it is known."""
    if exitstatus in _UNMEASURED:
        return True
    return bool(perf.runnable_cases or perf.skip_reasons or perf.server_tests)


def _end_workers(config: pytest.Config) -> None:
    """End the workers of a session that was broken off: they write until then."""
    session: Any = config.pluginmanager.get_plugin("dsession")
    manager = getattr(session, "nodemanager", None)
    if manager is not None:
        manager.teardown_nodes()


def _close(
    session: pytest.Session, perf: PerfSession, exitstatus: int
) -> list[str]:
    """Stop the servers and write the run; a failure fails the session and is a line."""
    try:
        perf.close(complete=perf.has_finished_loop)
        if perf.results is None and _asked(perf, exitstatus):
            reason = _UNMEASURED.get(exitstatus, "no test asked for it")
            perf.record_nothing(reason)
    except Failure as failure:
        if session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        return [f"The session did not end properly: {failure}"]
    return []


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let other sessions use the run directory."""
    config.stash[SESSION].release()


def _measures(perf: PerfSession) -> bool:
    return bool(perf.platforms) and perf.config.runs_tests


def _write_artifacts(perf: PerfSession) -> list[str]:
    """Write report, history and proposed baselines; returns lines for the terminal."""
    if perf.results is None:
        return []
    from perfgate.report import ending

    return ending.write_artifacts(perf.results, perf.config, perf.is_merged)


def pytest_terminal_summary(
    terminalreporter: Any, config: pytest.Config
) -> None:
    """Show the table, what needs attention, and where the data are."""
    perf = config.stash[SESSION]
    if not _measures(perf):
        return
    from perfgate.report.screen import Screen

    terminalreporter.section("performance gate")
    results = perf.results
    if results is None or results.is_empty:
        _show_nothing_measured(perf, terminalreporter)
        for line in config.stash.get(_ARTIFACT_LINES, []):
            terminalreporter.write_line(line)
        return
    screen = Screen(
        str(perf.config.run_dir),
        terminalreporter._tw.fullwidth,
        terminalreporter._tw.hasmarkup,
        perf.config.verbose,
    )
    lines = [
        *screen.answer(results, len(perf.unjudged())),
        *screen.details(results),
        *map(screen.fitted, _notes(perf, results)),
    ]
    for line in config.stash.get(_ARTIFACT_LINES, []):
        # A command for a CI service is one line.
        if not line.startswith("::"):
            line = screen.fitted(line)
        lines.append(line)
    for line in lines:
        terminalreporter.write_line(line)


def _show_nothing_measured(perf: PerfSession, terminalreporter: Any) -> None:
    write = terminalreporter.write_line
    write("Nothing was measured: no perf test ran", yellow=True)
    for reason, test_count in Counter(perf.skip_reasons.values()).items():
        write(f"{formatting.count(test_count, 'test')} skipped: {reason}")
    if perf.config.gate != "advisory":
        case_count = len(perf.cases) + len(perf.server_tests)
        missing = formatting.count(case_count, "case")
        verb = "has" if case_count == 1 else "have"
        write(
            f"--gate={perf.config.gate}: the run fails, {missing} {verb} no verdict",
            red=True,
        )


def _notes(perf: PerfSession, results: RunResults) -> Iterator[str]:
    """The lines below what the answer rests on."""
    from perfgate.report import headline, notices, terminal

    config = perf.config
    counted = terminal.totals_line(results, config.gate, len(perf.unjudged()))
    yield f"gate={config.gate}: {counted}"
    yield from _shown(
        lambda: filter(None, [headline.other_versions(results, config.store)])
    )
    yield from notices.lacking(results)
    yield from notices.report_only(results)
    yield from notices.screened(results)
    yield from notices.datasets(results)
    yield f"launches: {notices.launches(results)}"
    yield from notices.builds(results)
    yield from _shown(
        lambda: notices.unused(perf.unused_baselines(), config.verbose)
    )
    yield f"run data: {terminal.run_data_path(config.run_dir)}"
    if not results.is_whole:
        yield from notices.ended_early(results)
        yield (
            "The run ended early. Resume it: the same command with "
            f"--run-dir={shlex.quote(str(config.run_dir))} --resume"
        )


def _shown(lines: Callable[[], Iterable[str]]) -> Iterator[str]:
    """Lines that need a baseline; where one cannot be read, the reason in their place."""
    try:
        yield from lines()
    except Failure as failure:
        yield str(failure)


@contextlib.contextmanager
def _uncaptured(config: pytest.Config) -> Iterator[None]:
    """Output that passes pytest's capturing."""
    capture = config.pluginmanager.get_plugin("capturemanager")
    if capture is None:
        yield
        return
    with capture.global_and_fixture_disabled():
        yield


def write_out(stream: Any, text: str) -> None:
    """Write to a stream at once, whatever its encoding lacks."""
    stream.write(encodable(text, stream.encoding))
    stream.flush()


@pytest.hookimpl(trylast=True)
def pytest_perfgate_progress(config: pytest.Config) -> Any:
    """Progress on pytest's terminal; silent in a worker, which has none.

    The last one, for a conftest.py is registered before this module.
    """
    from perfgate.progress import Progress

    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return Progress(lambda text: None, rewritable=False)
    is_first = True

    def write(text: str) -> None:
        nonlocal is_first
        with _uncaptured(config):
            if is_first:
                reporter.ensure_newline()
                is_first = False
            write_out(sys.__stdout__, text)

    return Progress(write, rewritable=bool(reporter.isatty))
