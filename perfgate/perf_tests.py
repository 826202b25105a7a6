"""Perf tests: hooks that parametrise, order and skip them, also in pytest-xdist workers.

A perf test names its cases with ``@pytest.mark.perf(cases=QUESTION)``. It becomes one
test for each case and selected platform. The plugin registers this module in a project.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import (
    Callable,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Sequence,
)
from pathlib import Path
from typing import Any

import msgspec
import pytest

from perfgate import formatting
from perfgate.cases import BadCase, Case, checked
from perfgate.config import other_plugins
from perfgate.engines.registry import UnknownEngine
from perfgate.errors import Failure
from perfgate.fixtures import (
    SESSION,
    apply_collected_verdicts,
    fail_by_collected_verdicts,
    forget_collected_verdicts,
)
from perfgate.load.metrics import METRICS
from perfgate.models.catalogue import UnknownModel
from perfgate.run import interrupts, units
from perfgate.run.session import PerfSession
from perfgate.run.unused import Question
from perfgate.study import servers_of
from perfgate.study.study import SingleModel

MARK = "perf"
# Key of a worker's report in its output.
_REPORT = "perfgate_report"


class WorkerReport(msgspec.Struct, frozen=True, kw_only=True):
    """The tests that a worker collected; the controller collects none itself.

    Attributes:
        cases: those that were selected.
        ids, files: see `perfgate.run.suite_coverage.SuiteCoverage`.
        other_baselines: see `perfgate.run.session.PerfSession`.
    """

    cases: tuple[Case, ...]
    ids: frozenset[str]
    files: frozenset[str]
    other_baselines: frozenset[str] = frozenset()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Send the run directory and the session's id to each worker."""
    config = node.config.stash[SESSION].config
    node.workerinput["perfgate_run_dir"] = str(config.run_dir)
    node.workerinput["perfgate_session"] = config.run_id


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Receive the report of each worker that ended by itself."""
    output = getattr(node, "workeroutput", {})
    if _REPORT not in output:
        return
    report = msgspec.json.decode(output[_REPORT], type=WorkerReport)
    perf = node.config.stash[SESSION]
    perf.cases = report.cases
    perf.coverage.ids = set(report.ids)
    perf.coverage.files = {Path(file) for file in report.files}
    perf.other_baselines = report.other_baselines


def send_to_controller(perf: PerfSession, output: dict[str, Any]) -> None:
    """Put a worker's report into its output."""
    # Where a baseline cannot be read, the controller says so.
    with contextlib.suppress(Failure):
        perf.find_other_baselines()
    report = WorkerReport(
        cases=perf.cases,
        ids=frozenset(perf.coverage.ids - perf.server_tests),
        files=frozenset(str(path) for path in perf.coverage.files),
        other_baselines=perf.other_baselines or frozenset(),
    )
    output[_REPORT] = msgspec.json.encode(report).decode()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give all tests of a server to one worker."""
    if not config.stash[SESSION].platforms:
        return None
    from perfgate.run.xdist import ByServer

    return ByServer(config, log)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each case that a perf test asks on the selected platforms."""
    mark = metafunc.definition.get_closest_marker(MARK)
    if mark is None:
        return
    perf = metafunc.config.stash[SESSION]
    if "perf_platform" in metafunc.fixturenames:
        _parametrize_platforms(metafunc, perf)
    elif "case" in metafunc.fixturenames:
        _parametrize_cases(metafunc, perf, mark)
    elif mark.kwargs and _platform(metafunc.definition) is None:
        # No platform would ever select it.
        raise _refusal(
            metafunc,
            f"@pytest.mark.perf({next(iter(mark.kwargs))}=...) makes a test of each case, "
            "and this one takes none; add the argument `case`",
        )


def _refusal(metafunc: pytest.Metafunc, text: str) -> Exception:
    """A refusal of a perf test, which pytest shows without the code that found it."""
    return pytest.Collector.CollectError(
        f"{metafunc.definition.nodeid}: {text}"
    )


def _parametrize_platforms(
    metafunc: pytest.Metafunc, perf: PerfSession
) -> None:
    params = []
    for platform in perf.platforms:
        mark = getattr(pytest.mark, platform)
        params.append(pytest.param(platform, marks=mark, id=platform))
    metafunc.parametrize("perf_platform", _or_skipped(params))


def _parametrize_cases(
    metafunc: pytest.Metafunc, perf: PerfSession, mark: pytest.Mark
) -> None:
    params = []
    for platform, case in _cases_of(metafunc, perf, mark):
        perf.coverage.ids.add(case.id)
        platform_mark = getattr(pytest.mark, platform)
        test_id = f"{platform}-{case.id}"
        params.append(pytest.param(case, marks=platform_mark, id=test_id))
    metafunc.parametrize("case", _or_skipped(params))


def _or_skipped(params: list[Any]) -> list[Any]:
    """The parameters, or one that is skipped: an ini file may refuse an empty set."""
    if params:
        return params
    mark = pytest.mark.skip(reason="no selected platform asks for it")
    return [pytest.param(None, marks=mark, id="NOTSET")]


def _cases_of(
    metafunc: pytest.Metafunc, perf: PerfSession, mark: pytest.Mark
) -> Iterator[tuple[str, Case]]:
    """Platform and case of everything that a perf test asks."""
    unknown = set(mark.kwargs) - {"cases", "engines"}
    if unknown or mark.args or not mark.kwargs:
        arguments = mark.args or sorted(mark.kwargs)
        raise _refusal(
            metafunc,
            f"wrong arguments of @pytest.mark.perf: {arguments}; write "
            "@pytest.mark.perf(cases=QUESTION), or engines=QUESTION",
        )
    questions = _questions(perf, mark)
    _keep_questions(metafunc, perf, mark)
    known: dict[str, set[str]] = {}
    for subject, question in questions:
        platform = subject.platform
        ids = known.setdefault(platform, set())
        cases = _asked(metafunc, question, subject, ids)
        judged = perf.judged_metrics(platform)
        for case in cases:
            _refuse_unknown_metric(metafunc, case)
            ids.add(case.id)
            yield platform, judged.apply(case)


def _questions(
    perf: PerfSession, mark: pytest.Mark
) -> list[tuple[Any, Callable[[Any], Iterable[Case]]]]:
    """What a perf test asks, each with the study or the engines that it is asked of.

    Raises:
        CollectError: a file that an option names cannot be used; it is shown without
            the code that read it.
    """
    questions: list[tuple[Any, Callable[[Any], Iterable[Case]]]] = []
    try:
        if "cases" in mark.kwargs:
            for study in perf.studies():
                questions.append((study, mark.kwargs["cases"]))
        if "engines" in mark.kwargs:
            for versus in perf.versus():
                questions.append((versus, mark.kwargs["engines"]))
    except Failure as failure:
        raise pytest.Collector.CollectError(str(failure)) from failure
    return questions


def _keep_questions(
    metafunc: pytest.Metafunc, perf: PerfSession, mark: pytest.Mark
) -> None:
    """Keep what a perf test asks, to ask it of other studies."""
    for name, question in mark.kwargs.items():
        ask = functools.partial(_asked, metafunc, question)
        perf.questions.append(Question(name == "engines", ask))


def _asked(
    metafunc: pytest.Metafunc,
    question: Callable[[Any], Iterable[Case]],
    subject: Any,
    known: Collection[str] = (),
) -> list[Case]:
    """The cases of a question that are not known, as hooks leave them."""
    asked = None
    with contextlib.suppress(SingleModel):
        asked = question(subject)
        if not isinstance(asked, Iterable):
            raise _refusal(
                metafunc,
                f"its question {question.__name__} returns {asked!r}, and no cases; yield them",
            )
    try:
        cases = _new_cases(asked or (), known)
        metafunc.config.hook.pytest_perfgate_cases(
            subject=subject, question=metafunc.function.__name__, cases=cases
        )
        return [checked(case) for case in cases]
    except (BadCase, UnknownEngine, UnknownModel) as failure:
        raise _refusal(metafunc, str(failure)) from failure


def _new_cases(cases: Iterable[Any], known: Collection[str]) -> list[Case]:
    """The cases that no other pair has asked yet: two pairs may share a model.

    A question about a pair ends where a model is measured alone.
    """
    new = []
    with contextlib.suppress(SingleModel):
        for row in cases:
            case = checked(row)
            if case.id not in known:
                new.append(case)
    return new


def _refuse_unknown_metric(metafunc: pytest.Metafunc, case: Case) -> None:
    """Refuse an unknown metric before anything is measured."""
    if case.metric not in METRICS:
        suggestion = formatting.suggestion(case.metric, METRICS)
        raise _refusal(
            metafunc,
            f"no such metric: {case.metric!r}; {suggestion}metrics: {', '.join(METRICS)}",
        )


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """Record the files that were read, and the tests that start servers themselves."""
    perf = item.config.stash[SESSION]
    perf.coverage.files.add(item.path)
    if _starts_servers(item):
        perf.coverage.ids.add(item.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Deselect other platforms and units, and put comparisons last."""
    perf = config.stash[SESSION]
    deselected = _deselect_platforms(perf, items)
    if perf.config.unit:
        deselected += _deselect_units(perf.config.unit, items)
    if deselected:
        config.hook.pytest_deselected(items=deselected)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Note the selected cases, and skip what cannot run here.

    Other plugins have deselected theirs by now: --lf does so after all hooks that modify
    the items.
    """
    config, items = session.config, session.items
    perf = config.stash[SESSION]
    case_items = [item for item in items if _has_case(item)]
    perf.cases = tuple(_case(item) for item in case_items)
    try:
        servers_of(perf.cases)
    except Failure as failure:
        raise pytest.UsageError(str(failure)) from failure
    perf.server_tests = {item.nodeid for item in items if _starts_servers(item)}
    if perf.config.collect_only:
        return
    if other_plugins.time_limit(config):
        _lift_time_limit(items)
    runnable = []
    for item in case_items:
        _skip_if_impossible(perf, item)
        if item.get_closest_marker("skip") is None:
            runnable.append(_case(item))
    perf.runnable_cases = tuple(runnable)


def _lift_time_limit(items: Sequence[pytest.Item]) -> None:
    """Keep pytest-timeout from perf tests: the first one of a server launches it."""
    for item in items:
        if _is_perf(item):
            item.add_marker(pytest.mark.timeout(0))


def _deselect_platforms(
    perf: PerfSession, items: list[pytest.Item]
) -> list[pytest.Item]:
    """Sort the items in place and remove perf tests of other platforms; returns these."""
    selected: list[pytest.Item] = []
    deselected: list[pytest.Item] = []
    for item in items:
        if not _is_perf(item) or _platform(item) in perf.platforms:
            selected.append(item)
        else:
            deselected.append(item)
    items[:] = sorted(selected, key=_order)
    return deselected


def _deselect_units(name: str, items: list[pytest.Item]) -> list[pytest.Item]:
    """Keep the items of one unit in place; returns the others."""
    names = units.names_of(_selected(items))
    selected: list[pytest.Item] = []
    deselected: list[pytest.Item] = []
    for item in items:
        own = ""
        if _has_case(item):
            own = units.name_of(names, str(_platform(item)), _case(item))
        elif _is_perf(item):
            own = units.OWN_SERVERS
        if own == name:
            selected.append(item)
        else:
            deselected.append(item)
    if not selected:
        listed = formatting.listed(list(dict.fromkeys(names.values())))
        failure = units.UnknownUnit(
            tried=f"--unit {name}",
            seen=f"no selected test is of that unit; there are: {listed}",
            remedy="leave --unit out, or name one of them",
        )
        raise pytest.UsageError(str(failure))
    items[:] = selected
    return deselected


def _selected(items: Iterable[pytest.Item]) -> list[units.Selected]:
    """Platform and case of each test of a case."""
    rows = []
    for item in items:
        if _has_case(item):
            rows.append((str(_platform(item)), _case(item)))
    return rows


def write_units(
    perf: PerfSession, items: Sequence[pytest.Item], path: Path
) -> None:
    """List the units of the selected tests, and what this machine lacks for each.

    Raises:
        RunDataError: the file cannot be written.
    """
    config = perf.config
    gpus = {name: perf.study.gpu_of(name) for name in perf.platforms}
    finder = units.weights_finder(
        config.load_format, config.model_dirs, config.allow_download
    )
    found = [*units.units_of(_selected(items), gpus, perf.skip_reason, finder)]
    if perf.server_tests:
        gpu_count = max(study.gpu_count for study in perf.studies())
        gpu = next(iter(gpus.values()))
        found += units.own_servers(sorted(perf.server_tests), gpu_count, gpu)
    units.write(path, perf.hardware, found)


def _skip_if_impossible(perf: PerfSession, item: pytest.Item) -> None:
    case = _case(item)
    reason = perf.skip_reason(str(_platform(item)), case)
    if reason is None:
        return
    item.add_marker(pytest.mark.skip(reason=reason))
    perf.skip_reasons[item.nodeid] = reason
    if case.gate == "hard":
        perf.skipped_cases[case.id] = reason


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, Any, Any]:
    """Note that the loop returned: after -x, Ctrl-C or pytest.exit() it raises."""
    with interrupts.kept():
        result = yield
    session.config.stash[SESSION].has_finished_loop = True
    return result


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(
    pyfuncitem: pytest.Function,
) -> Generator[None, Any, Any]:
    """Fail or skip a test by all of its verdicts, after its function has ended.

    A function that raised has failed its test already; one that skipped has not.
    """
    try:
        result = yield
    except pytest.skip.Exception:
        fail_by_collected_verdicts(pyfuncitem)
        raise
    except BaseException:
        forget_collected_verdicts(pyfuncitem)
        raise
    apply_collected_verdicts(pyfuncitem)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Let pytest's summary group equal skip reasons by file, as for unmarked tests.

    A case that its test skips before it was judged is noted with the reason.
    """
    report = yield
    if _is_perf(item):
        report.keywords.pop("pytestmark", None)
        if report.skipped and _has_case(item):
            perf = item.config.stash[SESSION]
            # Of an expected failure `longrepr` is the traceback.
            reason = getattr(report, "wasxfail", None)
            if reason is not None:
                reason = f"expected to fail: {reason}"
            perf.note_skip(item.nodeid, _case(item), reason or report.longrepr)
    return report


def _case(item: pytest.Item) -> Case:
    case: Case = item.callspec.params["case"]  # type: ignore[attr-defined]
    return case


def _has_case(item: pytest.Item) -> bool:
    """Whether it is one case of a question, known before it runs."""
    if not _is_perf(item) or _platform(item) is None:
        return False
    callspec = getattr(item, "callspec", None)
    if callspec is None:
        return False
    return isinstance(callspec.params.get("case"), Case)


def _starts_servers(item: pytest.Item) -> bool:
    """Whether it starts servers itself, on a selected platform."""
    platforms = item.config.stash[SESSION].platforms
    return _platform(item) in platforms and not _has_case(item)


def _platform(item: pytest.Item) -> str | None:
    """The platform of a perf test, None for any other."""
    if not _is_perf(item):
        return None
    for name in item.config.stash[SESSION].study.platforms:
        if item.get_closest_marker(name):
            return name
    return None


def _is_perf(item: pytest.Item) -> bool:
    """Whether it is a perf test.

    A comparison of engines has no platform and no case if one engine is selected.
    """
    return item.get_closest_marker(MARK) is not None


def _order(item: pytest.Item) -> tuple[int, str]:
    """Other tests, then each server's own cases, then comparisons of two servers."""
    if not _has_case(item):
        return 0, ""
    case = _case(item)
    server = case.numerator.server
    if case.denominator is not None and case.denominator.server != server:
        return 2, ""
    return 1, server.key
