"""How does pytest run the suite? The only module that knows pytest.

A perf test names its cases with `perfgate.study.asks`; it becomes one test for each case and platform. ``-m PLATFORM``
selects; without a platform in ``-m`` no perf test is selected and no server is ever started.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from perfgate.cases import Case
from perfgate.config.options import add_options
from perfgate.errors import Failure
from perfgate.judge.verdict import Outcome, Verdict
from perfgate.results.schema import RunResults
from perfgate.run.session import PerfSession
from perfgate.study.study import PLATFORMS

# Selected only when named: they take minutes.
_ON_REQUEST = ("engine", "slow")
_SESSION = pytest.StashKey[PerfSession]()
_TOLD_BY = pytest.StashKey[dict[str, str]]()  # a failure's message -> the test that told it


def pytest_addoption(parser: pytest.Parser) -> None:
    """The suite's options."""
    add_options(parser.getgroup("perfgate", "performance gate").addoption)


def pytest_configure(config: pytest.Config) -> None:
    """Read -m and the options once, and refuse what cannot be meant."""
    words = set(re.findall(r"[A-Za-z_]\w*", config.option.markexpr or "")) - {"and", "or", "not", "True", "False"}
    known = {line.split(":")[0].split("(")[0].strip() for line in config.getini("markers")}
    if unknown := sorted(words - known):
        markers = ", ".join(sorted(known))
        raise pytest.UsageError(f"-m names {', '.join(unknown)}, which is no marker; there are: {markers}")
    told = getattr(config, "workerinput", {})
    run_dir = told.get("perfgate_run_dir")
    perf = PerfSession(
        config.option, config.rootpath, words, told.get("workerid"), None if run_dir is None else Path(run_dir)
    )
    if not told:
        try:
            gated = any(str(arg).startswith("--gate") for arg in config.invocation_params.args)
            perf.check(int(getattr(config.option, "numprocesses", None) or 0), gated)
        except Failure as failure:
            raise pytest.UsageError(str(failure)) from failure
    config.stash[_SESSION] = perf
    config.stash[_TOLD_BY] = {}


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell each worker where the session's data go."""
    node.workerinput["perfgate_run_dir"] = str(node.config.stash[_SESSION].run_dir)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Hear from each worker which cases were selected: the controller collects none itself."""
    told = getattr(node, "workeroutput", {})
    if "perfgate_expected" in told:
        perf = node.config.stash[_SESSION]
        perf.expected = msgspec.json.decode(told["perfgate_expected"], type=tuple[Case, ...])
        perf.hear(told["perfgate_asked"], told["perfgate_files"])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give all tests of a server to one worker."""
    if not config.stash[_SESSION].requested:
        return None
    from perfgate.run.xdist import ByServer

    return ByServer(config, log)


def _tell(config: pytest.Config) -> Any:
    """Progress on pytest's terminal, past its capturing; silent in a worker, which has none."""
    from perfgate.progress import Progress

    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return Progress(lambda text: None, rewritable=False)
    capture = config.pluginmanager.get_plugin("capturemanager")
    begun = False

    def write(text: str) -> None:
        nonlocal begun
        with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
            if not begun:
                reporter.ensure_newline()
                begun = True
            sys.__stdout__.write(text)  # type: ignore[union-attr]
            sys.__stdout__.flush()  # type: ignore[union-attr]

    return Progress(write, rewritable=bool(reporter.isatty))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each case that a perf test asks."""
    perf = metafunc.config.stash[_SESSION]
    of_two = getattr(metafunc.function, "asks_both", None)
    question = of_two or getattr(metafunc.function, "asks", None)
    if question is None:
        return
    asked = [
        (subject.platform, case)
        for subject in (perf.versus() if of_two else perf.studies())
        for case in question(subject)
    ]
    perf.asked |= {case.id for platform, case in asked if platform in perf.requested}
    params = [
        pytest.param(case, marks=getattr(pytest.mark, platform), id=f"{platform}-{case.id}") for platform, case in asked
    ]
    metafunc.parametrize("case", params)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the unit tests unread when only perf tests are selected: collecting then takes half the time."""
    perf = config.stash[_SESSION]
    unit = config.rootpath / "tests" / "unit"
    named = any((config.invocation_params.dir / arg.split("::")[0]).is_relative_to(unit) for arg in config.args)
    only_perf = bool(perf.requested) and perf.words <= set(PLATFORMS)
    return True if collection_path == unit and only_perf and not named else None


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """Note which files were read."""
    item.config.stash[_SESSION].files.add(item.path)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what was not named, skip what this machine cannot run, and put comparisons last."""
    perf = config.stash[_SESSION]
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        platform = _platform(item)
        named = platform in perf.requested if platform else not _is_perf(item) and all(
            mark in perf.words or item.get_closest_marker(mark) is None for mark in _ON_REQUEST
        )  # fmt: skip
        (kept if named else left_out).append(item)
    items[:] = sorted(kept, key=_order)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    cases = [item for item in items if _platform(item)]
    perf.expected = tuple(_case(item) for item in cases)
    if not cases or config.option.collectonly:
        return
    for item in cases:
        if reason := perf.cannot_run(str(_platform(item)), _case(item)):
            item.add_marker(pytest.mark.skip(reason=reason))
            perf.skipped[item.nodeid] = reason
            if _case(item).gate == "hard":
                perf.lacking[_case(item).id] = reason
    perf.runnable = tuple(_case(item) for item in cases if item.get_closest_marker("skip") is None)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """With --plan say what would be done, and do nothing."""
    if not session.config.option.plan or session.config.option.collectonly:
        return None
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    reporter.section("performance gate: plan")
    reporter.write_line(session.config.stash[_SESSION].plan(reporter._tw.fullwidth))
    return True


def _case(item: pytest.Item) -> Case:
    case: Case = item.callspec.params["case"]  # type: ignore[attr-defined]
    return case


def _platform(item: pytest.Item) -> str | None:
    """The platform of a perf test, None for any other."""
    return next((name for name in PLATFORMS if item.get_closest_marker(name)), None) if _is_perf(item) else None


def _is_perf(item: pytest.Item) -> bool:
    """Whether it asks about servers; without a platform it has no case, as where one engine alone is selected."""
    function = getattr(item, "function", None)
    return hasattr(function, "asks") or hasattr(function, "asks_both")


def _order(item: pytest.Item) -> tuple[int, str]:
    """Unit tests, then each server's own cases, then comparisons of two servers."""
    if _platform(item) is None:
        return 0, ""
    case = _case(item)
    compares = case.over is not None and case.over.server != case.of.server
    return (2, "") if compares else (1, case.of.server.key)


@pytest.fixture
def check(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Callable[[Case], None]:
    """Judge a case: measures what is missing, fails, skips or passes as the gate decides.

    What a server failed of is told whole once, however many cases need it.
    """
    perf, told_by = request.config.stash[_SESSION], request.config.stash[_TOLD_BY]

    def judge(case: Case) -> None:
        from perfgate.judge.verdict import is_red

        try:
            verdict = perf.open(_tell(request.config)).campaign.judge(case, request.node.nodeid)
        except Failure as failure:
            first = told_by.setdefault(str(failure), request.node.nodeid)
            told = str(failure) if first == request.node.nodeid else failure.brief(first)
            # Without "from None" pytest would show it twice, as the cause of itself.
            raise pytest.fail.Exception(told, pytrace=False) from None
        for name in ("outcome", "value", "baseline", "change", "alarm_line", "delta", "launches"):
            if (value := getattr(verdict, name)) is not None:
                record_property(name, str(value))
        if is_red(verdict.outcome, verdict.gate, perf.required):
            pytest.fail(verdict.message, pytrace=False)
        if is_red(verdict.outcome, verdict.gate, required=True):
            pytest.skip(_why(verdict))

    return judge


def _why(verdict: Verdict) -> str:
    """The message; where nothing was recorded, what is the same for all such cases: pytest counts equal reasons."""
    if verdict.outcome is not Outcome.NO_BASELINE or verdict.baseline is not None:
        return verdict.message
    return "\n".join([verdict.outcome, *verdict.message.splitlines()[1:]])


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Stop the servers, write the run down, and in required mode turn what is missing red."""
    config = session.config
    perf = config.stash[_SESSION]
    if not perf.requested or perf.only_looks:
        return
    stopped = session.shouldfail or session.shouldstop  # --maxfail
    perf.close(complete=exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and not stopped)
    if hasattr(config, "workeroutput"):
        config.workeroutput["perfgate_expected"] = msgspec.json.encode(perf.expected).decode()
        config.workeroutput["perfgate_asked"] = sorted(perf.asked)
        config.workeroutput["perfgate_files"] = sorted(map(str, perf.files))
    elif perf.required and exitstatus == pytest.ExitCode.OK and not perf.is_green():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """One table, then what needs attention and where the data lie."""
    perf = config.stash[_SESSION]
    if not perf.requested or perf.only_looks:
        return
    from perfgate.report import terminal as report

    write = terminalreporter.write_line
    terminalreporter.section("performance gate")
    results = perf.results
    if results is None:
        write("Nothing was measured: no perf test ran.", yellow=True)
        if perf.required:
            write(f"--gate=required: {len(perf.expected)} cases without a verdict make this run red.", red=True)
        return
    verbose = config.option.verbose > 0
    write(report.table(results, terminalreporter._tw.fullwidth, terminalreporter._tw.hasmarkup, verbose))
    for line in _below_the_table(perf, results):
        write(line)


def _below_the_table(perf: PerfSession, results: RunResults) -> Iterator[str]:
    from perfgate.report import notices
    from perfgate.report import terminal as report

    beside = (*notices.planted(results), *report.engines_beside(results), *report.improvements(results))
    yield from filter(None, (*beside, report.in_common(results)))
    yield f"gate={perf.option.gate}: {report.headline(results, perf.required, len(perf.unjudged()))}"
    yield from (*notices.faults(results), *notices.lacking(results), *notices.demoted(results))
    yield f"launches: {notices.launches(results)}"
    yield from notices.builds(results)
    for case in perf.unused_baselines():
        yield f"recorded, but no test asks for it (remove it from its file, or bring the test back): {case}"
    yield f"run data: {report.where(perf.run_dir)}"
    if not results.complete:
        yield f"it ended early; to go on: the same command with --run-dir={perf.run_dir} --resume"
    yield from perf.report()
    if spent := perf.time_spent():
        yield f"time: {spent}"
    if proposal := perf.propose():
        yield proposal
