"""Perf tests: hooks that make, order, run and report them; the plugin registers them in a project.

A perf test names its cases with ``@pytest.mark.perf(cases=QUESTION)``; it becomes one
test for each case and selected platform.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from perfgate import formatting
from perfgate.cases import Case
from perfgate.errors import Failure
from perfgate.fixtures import SESSION
from perfgate.judge import run_status
from perfgate.load.metrics import METRICS
from perfgate.run.session import PerfSession
from perfgate.study import servers_of

MARK = "perf"
LINES = pytest.StashKey[
    list[str]
]()  # what was written when the session ended, for the terminal


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell each worker where the session's data go."""
    node.workerinput["perfgate_run_dir"] = str(node.config.stash[SESSION].run_dir)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Hear from each worker which cases were selected: the controller collects none itself."""
    told = getattr(node, "workeroutput", {})
    if "perfgate_expected" in told:
        perf = node.config.stash[SESSION]
        perf.expected = msgspec.json.decode(
            told["perfgate_expected"], type=tuple[Case, ...]
        )
        perf.hear(told["perfgate_asked"], told["perfgate_files"])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give all tests of a server to one worker."""
    if not config.stash[SESSION].requested:
        return None
    from perfgate.run.xdist import ByServer

    return ByServer(config, log)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each case that a perf test asks on the selected platforms."""
    mark = metafunc.definition.get_closest_marker(MARK)
    if mark is None:
        return
    perf = metafunc.config.stash[SESSION]
    if "perf_platform" in metafunc.fixturenames:
        params = [
            pytest.param(name, marks=getattr(pytest.mark, name), id=name)
            for name in perf.requested
        ]
        metafunc.parametrize("perf_platform", params)
        return
    if "case" not in metafunc.fixturenames:
        return
    params = []
    for platform, case in _asked(metafunc, perf, mark):
        perf.asked.add(case.id)
        name = f"{platform}-{case.id}"
        params.append(pytest.param(case, marks=getattr(pytest.mark, platform), id=name))
    metafunc.parametrize("case", params)


def _asked(
    metafunc: pytest.Metafunc, perf: PerfSession, mark: pytest.Mark
) -> Iterator[tuple[str, Case]]:
    """Platform and case of everything that a perf test asks."""
    unknown = set(mark.kwargs) - {"cases", "engines"}
    if unknown or mark.args or not mark.kwargs:
        raise pytest.UsageError(
            f"{metafunc.definition.nodeid}: write @pytest.mark.perf(cases=QUESTION), or "
            f"engines=QUESTION; found {mark.args or sorted(mark.kwargs)}"
        )
    subjects: list[tuple[Any, Callable[[Any], Iterable[Case]]]] = []
    if "cases" in mark.kwargs:
        subjects += [(study, mark.kwargs["cases"]) for study in perf.studies()]
    if "engines" in mark.kwargs:
        subjects += [(versus, mark.kwargs["engines"]) for versus in perf.versus()]
    for subject, question in subjects:
        cases = list(question(subject))
        metafunc.config.hook.pytest_perfgate_cases(
            subject=subject, question=metafunc.function.__name__, cases=cases
        )
        for case in cases:
            _check_metric(metafunc, case)
            yield subject.platform, case


def _check_metric(metafunc: pytest.Metafunc, case: Case) -> None:
    """A metric that does not exist is refused before anything is measured."""
    if case.metric not in METRICS:
        near = formatting.suggestion(case.metric, METRICS)
        raise pytest.UsageError(
            f"{metafunc.definition.nodeid}: no metric is called {case.metric!r}; "
            f"{near}there are: {', '.join(METRICS)}"
        )


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """Note which files were read, and which tests start servers themselves."""
    perf = item.config.stash[SESSION]
    perf.files.add(item.path)
    if _is_in_hand(item):
        perf.asked.add(item.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave out what was not named, skip what this machine cannot run, put comparisons last."""
    perf = config.stash[SESSION]
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        if not _is_perf(item) or _platform(item) in perf.requested:
            kept.append(item)
        else:
            left_out.append(item)
    items[:] = sorted(kept, key=_order)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    cases = [item for item in items if _has_case(item)]
    perf.expected = tuple(_case(item) for item in cases)
    try:
        servers_of(perf.expected)
    except Failure as failure:
        raise pytest.UsageError(str(failure)) from failure
    perf.in_hand = {item.nodeid for item in items if _is_in_hand(item)}
    if config.option.collectonly:
        return
    for item in cases:
        _skip_if_lacking(perf, item)
    perf.runnable = tuple(
        _case(item) for item in cases if item.get_closest_marker("skip") is None
    )


def _skip_if_lacking(perf: PerfSession, item: pytest.Item) -> None:
    reason = perf.cannot_run(str(_platform(item)), _case(item))
    if reason is None:
        return
    item.add_marker(pytest.mark.skip(reason=reason))
    perf.skipped[item.nodeid] = reason
    if _case(item).gate == "hard":
        perf.lacking[_case(item).id] = reason


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Let pytest's summary fold equal reasons of skips by file, as it does for unmarked tests."""
    report = yield
    if _is_perf(item):
        report.keywords.pop("pytestmark", None)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """With --plan say what would be done, and do nothing."""
    config = session.config
    if not config.option.plan or config.option.collectonly:
        return None
    from perfgate.report import plan

    perf = config.stash[SESSION]
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return True
    reporter.section("performance gate: plan")
    if perf.in_hand:
        tests = formatting.count(len(perf.in_hand), "test")
        reporter.write_line(
            f"with servers in hand: {tests}, whose launches are known when they run"
        )
    cases = perf.runnable or perf.expected
    if not cases and perf.in_hand:
        return True
    if not cases:
        names = " or -m ".join(perf.study.platforms)
        reporter.write_line(f"no perf test is selected: add -m {names}")
        return True
    asked = plan.Asked(
        cases=cases,
        launches=config.option.launches,
        is_pair=bool(perf.against),
        hardware=perf.hardware,
        platforms=tuple((name, perf.study.gpu_of(name)) for name in perf.requested),
        runs=_run_store(perf),
        skipped=tuple(dict.fromkeys(perf.skipped.values())),
    )
    reporter.write_line(plan.text(asked, perf.store, reporter._tw.fullwidth))
    return True


def _run_store(perf: PerfSession) -> Path:
    """Where earlier runs lie: beside the history that --history names, else the project's."""
    if perf.option.history:
        return Path(perf.option.history).parent
    return perf.project.locations.runs


def _case(item: pytest.Item) -> Case:
    case: Case = item.callspec.params["case"]  # type: ignore[attr-defined]
    return case


def _has_case(item: pytest.Item) -> bool:
    """Whether it is one case of a question, known before it runs."""
    if not _is_perf(item) or _platform(item) is None:
        return False
    callspec = getattr(item, "callspec", None)
    return callspec is not None and isinstance(callspec.params.get("case"), Case)


def _is_in_hand(item: pytest.Item) -> bool:
    """Whether it starts servers itself, on a selected platform."""
    return _platform(item) in item.config.stash[SESSION].requested and not _has_case(
        item
    )


def _platform(item: pytest.Item) -> str | None:
    """The platform of a perf test, None for any other."""
    if _is_perf(item):
        for name in item.config.stash[SESSION].study.platforms:
            if item.get_closest_marker(name):
                return name
    return None


def _is_perf(item: pytest.Item) -> bool:
    """Whether it asks about servers.

    A question without a platform has no case, as where one engine alone is selected.
    """
    return item.get_closest_marker(MARK) is not None


def _order(item: pytest.Item) -> tuple[int, str]:
    """Other tests, then each server's own cases, then comparisons of two servers."""
    if not _has_case(item):
        return 0, ""
    case = _case(item)
    if case.over is not None and case.over.server != case.of.server:
        return 2, ""
    return 1, case.of.server.key


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Stop the servers, write the run and its reports, turn what is missing red if required."""
    config = session.config
    perf = config.stash[SESSION]
    if not perf.requested or perf.only_looks:
        return
    stopped = session.shouldfail or session.shouldstop  # --maxfail
    whole = (
        exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and not stopped
    )
    perf.close(complete=whole)
    if hasattr(config, "workeroutput"):
        config.workeroutput["perfgate_expected"] = msgspec.json.encode(
            perf.expected
        ).decode()
        config.workeroutput["perfgate_asked"] = sorted(perf.asked - perf.in_hand)
        config.workeroutput["perfgate_files"] = sorted(map(str, perf.files))
        return
    is_green = run_status.is_green_session(perf.results, perf.unjudged())
    if perf.required and exitstatus == pytest.ExitCode.OK and not is_green:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    config.stash[LINES] = _write_results(perf)


def _write_results(perf: PerfSession) -> list[str]:
    """Report, history and proposed baselines of the run; returns lines for the terminal."""
    if perf.results is None:
        return []
    from perfgate.report import ending

    proposal = None
    if perf.option.baseline_record:
        proposal = perf.store.root
    return ending.write(
        perf.results,
        perf.run_dir,
        ending.Wanted(
            store=perf.store,
            history=Path(perf.option.history or perf.project.locations.history),
            report=perf.option.perf_report != "no",
            proposal=proposal,
            is_gathered=perf.is_gathered,
        ),
    )


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """One table, then what needs attention and where the data lie."""
    perf = config.stash[SESSION]
    if not perf.requested or perf.only_looks:
        return
    from perfgate.report import terminal

    write = terminalreporter.write_line
    terminalreporter.section("performance gate")
    results = perf.results
    if results is None:
        write("Nothing was measured: no perf test ran.", yellow=True)
        for reason, number in Counter(perf.skipped.values()).items():
            write(f"{formatting.count(number, 'test')} skipped: {reason}")
        if perf.required:
            missing = formatting.count(len(perf.expected) + len(perf.in_hand), "case")
            write(
                f"--gate=required: {missing} without a verdict: this run is red.",
                red=True,
            )
        return
    verbose = config.option.verbose > 0
    width, has_colour = terminalreporter._tw.fullwidth, terminalreporter._tw.hasmarkup
    write(terminal.table(results, width, has_colour, verbose))
    for line in _below_the_table(perf, results):
        write(line)
    for line in config.stash.get(LINES, []):
        write(line)


def _below_the_table(perf: PerfSession, results: Any) -> Iterator[str]:
    from perfgate.report import notices, terminal

    yield from notices.injected(results)
    yield from filter(None, terminal.engine_notes(results))
    yield from terminal.improvements(results, str(perf.run_dir))
    yield from filter(None, [terminal.in_common(results)])
    headline = terminal.headline(results, perf.required, len(perf.unjudged()))
    yield f"gate={perf.option.gate}: {headline}"
    yield from notices.faults(results)
    yield from notices.lacking(results)
    yield from notices.report_only(results)
    yield f"launches: {notices.launches(results)}"
    yield from notices.builds(results)
    for case in perf.unused_baselines():
        yield (
            "recorded, but no test asks for it (remove it from its file, or "
            f"bring the test back): {case}"
        )
    yield f"run data: {terminal.run_data_path(perf.run_dir)}"
    if not results.complete:
        yield (
            f"it ended early; to go on: the same command with --run-dir={perf.run_dir} --resume"
        )


@contextlib.contextmanager
def _uncaptured(config: pytest.Config) -> Iterator[None]:
    capture = config.pluginmanager.get_plugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
        yield


def pytest_perfgate_progress(config: pytest.Config) -> Any:
    """Progress on pytest's terminal, past its capturing; silent in a worker, which has none."""
    from perfgate.progress import Progress

    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return Progress(lambda text: None, rewritable=False)
    begun = False

    def write(text: str) -> None:
        nonlocal begun
        with _uncaptured(config):
            if not begun:
                reporter.ensure_newline()
                begun = True
            sys.__stdout__.write(text)  # type: ignore[union-attr]
            sys.__stdout__.flush()  # type: ignore[union-attr]

    return Progress(write, rewritable=bool(reporter.isatty))
