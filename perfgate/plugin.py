"""Pytest plugin: options, perf tests made of cases, and what is written when a session ends.

A perf test names its cases with ``@pytest.mark.perf(cases=QUESTION)``; it becomes one test for
each case and selected platform. ``-m PLATFORM`` selects; without a platform in ``-m`` no perf test
is selected and no server is ever started. In a root directory that is no perfgate project the
plugin does nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from perfgate import hookspec, locations
from perfgate.cases import Case
from perfgate.config import choices, rootdir
from perfgate.config.options import OPTIONS_WITH_VALUE, add_options
from perfgate.config.project import SHIPPED, open_project
from perfgate.errors import Failure
from perfgate.fixtures import (
    SESSION,
    _perf_hand,
    check,
    perf_gate,
    perf_load,
    perf_platform,
    perf_server,
    perf_study,
)
from perfgate.judge import run_status
from perfgate.run.session import PerfSession
from perfgate.study.shipped import PACKAGE, shipped

# Fixtures are found by their names in this module.
__all__ = [
    "_perf_hand",
    "check",
    "perf_gate",
    "perf_load",
    "perf_platform",
    "perf_server",
    "perf_study",
]

MARK = "perf"
_LINES = pytest.StashKey[list[str]]()  # what was written when the session ended, for the terminal


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Start again where the value of an option was taken for the place of the tests.

    Pytest looks for its root directory before it knows the options of plugins. So it takes DIR in
    ``--run-dir DIR`` for a path to collect, and may find the wrong root directory by it.
    """
    given = [str(arg) for arg in early_config.invocation_params.args]
    joined = rootdir.join_values(given, OPTIONS_WITH_VALUE)
    if joined != given:
        plugins = early_config.invocation_params.plugins
        raise SystemExit(int(pytest.main(joined, plugins)))


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """The hooks by which others add engines, models, metrics and cases."""
    pluginmanager.add_hookspecs(hookspec)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The suite's options."""
    add_options(parser.getgroup("perfgate", "performance gate").addoption)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Read the project, -m and the options once, and refuse what contradicts itself."""
    config.addinivalue_line(
        "markers",
        "perf(cases=QUESTION, engines=QUESTION): a perf test; `cases` is a function of a "
        "perfgate.study.Study that yields cases, `engines` one of a perfgate.study.Versus",
    )
    names_shipped = _replace_package_name(config)
    try:
        _open(config, names_shipped)
    except Failure as failure:
        raise pytest.UsageError(str(failure)) from failure


def _replace_package_name(config: pytest.Config) -> bool:
    """``--pyargs perfgate.study`` means the shipped perf tests, wherever they lie."""
    is_named = PACKAGE in config.args
    config.args[:] = [str(shipped().tests) if arg == PACKAGE else arg for arg in config.args]
    return is_named


def _open(config: pytest.Config, names_shipped: bool) -> None:
    option = config.option
    study = option.study
    if study == SHIPPED:
        study = str(shipped().study)
    project = open_project(config.rootpath, study)
    is_active = bool(project.file or option.study or names_shipped)
    words = set(re.findall(r"[A-Za-z_]\w*", option.markexpr or "")) - {"and", "or", "not"}
    from_controller = getattr(config, "workerinput", {})
    run_dir = from_controller.get("perfgate_run_dir")
    option.gate = option.gate or os.environ.get("PERFGATE_GATE") or project.gate
    option.engine_python[:0] = [f"{name}={path}" for name, path in project.engine_python.items()]
    option.model_dir[:0] = [f"{name}={path}" for name, path in project.model_dir.items()]
    if is_active:
        _register(config, project.study.platforms.items(), words)
        _enter_what_hooks_add(config)
    perf = PerfSession(
        option,
        project,
        words - {"True", "False"},
        is_active,
        from_controller.get("workerid"),
        None if run_dir is None else Path(run_dir),
    )
    config.stash[SESSION] = perf
    config.stash[_LINES] = []
    if not from_controller:
        _check(config, perf)
    if perf.requested and not from_controller:
        _add_shipped_tests(config, perf)


def _register(config: pytest.Config, platforms: Iterable[tuple[str, Any]], words: set[str]) -> None:
    """Make each platform a marker, and refuse a word in -m that is none."""
    for name, table in platforms:
        config.addinivalue_line("markers", f"{name}: {table.about}")
    known = {line.split(":")[0].split("(")[0].strip() for line in config.getini("markers")}
    unknown = sorted(words - known - {"True", "False"})
    if unknown:
        markers = ", ".join(sorted(known))
        raise pytest.UsageError(f"-m names {', '.join(unknown)}, which is no marker; there are: {markers}")


def _enter_what_hooks_add(config: pytest.Config) -> None:
    from perfgate.engines import registry
    from perfgate.load import metrics
    from perfgate.models import catalogue

    for engines in config.hook.pytest_perfgate_engines(config=config):
        for engine in engines:
            registry.register(engine)
    for models in config.hook.pytest_perfgate_models(config=config):
        catalogue.register(models)
    for found in config.hook.pytest_perfgate_metrics(config=config):
        metrics.register(found)


def _check(config: pytest.Config, perf: PerfSession) -> None:
    given = [str(arg).partition("=")[0] for arg in config.invocation_params.args]
    if not perf.is_active:
        named = [flag for flag in ("--gate", "--plan", "--resume") if flag in given]
        if named:
            raise Failure(
                tried=f"{named[0]} in {config.rootpath}",
                seen=f"there is no {locations.PROJECT_FILE} and no [tool.perfgate]",
                remedy=f"make one (an empty {locations.PROJECT_FILE} will do), name --study "
                f"{SHIPPED}, or run pytest where one is",
            )
        return
    worker_count = int(getattr(config.option, "numprocesses", None) or 0)
    perf.check(worker_count, "--gate" in given)


def _add_shipped_tests(config: pytest.Config, perf: PerfSession) -> None:
    """Where no path was given, the project's perf tests are collected wherever they lie."""
    if config.args_source is pytest.Config.ArgsSource.ARGS:
        return
    places = [Path(arg.split("::")[0]) for arg in config.args]
    there = [config.invocation_params.dir / place for place in places]
    for path in perf.project.tests:
        if not any(path.is_relative_to(place.resolve()) for place in there):
            config.args.append(str(path))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell each worker where the session's data go, and which tests the controller added."""
    node.workerinput["perfgate_run_dir"] = str(node.config.stash[SESSION].run_dir)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Hear from each worker which cases were selected: the controller collects none itself."""
    told = getattr(node, "workeroutput", {})
    if "perfgate_expected" in told:
        perf = node.config.stash[SESSION]
        perf.expected = msgspec.json.decode(told["perfgate_expected"], type=tuple[Case, ...])
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
        params = [pytest.param(name, marks=getattr(pytest.mark, name), id=name) for name in perf.requested]
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


def _asked(metafunc: pytest.Metafunc, perf: PerfSession, mark: pytest.Mark) -> Iterator[tuple[str, Case]]:
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
        metafunc.config.hook.pytest_perfgate_cases(subject=subject, question=metafunc.function.__name__, cases=cases)
        for case in cases:
            yield subject.platform, case


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """Note which files were read."""
    item.config.stash[SESSION].files.add(item.path)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
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
    if config.option.collectonly:
        return
    for item in cases:
        _skip_if_lacking(perf, item)
    perf.has_servers_in_hand = any(_is_perf(item) and not _has_case(item) for item in items)
    perf.runnable = tuple(_case(item) for item in cases if item.get_closest_marker("skip") is None)


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
    cases = perf.runnable or perf.expected
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
    whole = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and not stopped
    perf.close(complete=whole)
    if hasattr(config, "workeroutput"):
        config.workeroutput["perfgate_expected"] = msgspec.json.encode(perf.expected).decode()
        config.workeroutput["perfgate_asked"] = sorted(perf.asked)
        config.workeroutput["perfgate_files"] = sorted(map(str, perf.files))
        return
    is_green = run_status.is_green_session(perf.results, perf.unjudged())
    if perf.required and exitstatus == pytest.ExitCode.OK and not is_green:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    config.stash[_LINES] = _write_results(perf)


def _write_results(perf: PerfSession) -> list[str]:
    """Report, history and proposed baselines of the run; returns lines for the terminal."""
    if perf.results is None:
        return []
    from perfgate.report import ending

    proposal = None
    if perf.option.baseline_record:
        proposal = choices.baselines_dir(perf.option, perf.project)
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
        if perf.required:
            text = f"{len(perf.expected)} cases without a verdict make this run red."
            write(f"--gate=required: {text}", red=True)
        return
    verbose = config.option.verbose > 0
    width, has_colour = terminalreporter._tw.fullwidth, terminalreporter._tw.hasmarkup
    write(terminal.table(results, width, has_colour, verbose))
    for line in _below_the_table(perf, results):
        write(line)
    for line in config.stash[_LINES]:
        write(line)


def _below_the_table(perf: PerfSession, results: Any) -> Iterator[str]:
    from perfgate.report import notices, terminal

    yield from notices.planted(results)
    yield from filter(None, terminal.engines_beside(results))
    yield from terminal.improvements(results)
    yield from filter(None, [terminal.in_common(results)])
    headline = terminal.headline(results, perf.required, len(perf.unjudged()))
    yield f"gate={perf.option.gate}: {headline}"
    yield from notices.faults(results)
    yield from notices.lacking(results)
    yield from notices.demoted(results)
    yield f"launches: {notices.launches(results)}"
    yield from notices.builds(results)
    for case in perf.unused_baselines():
        yield (f"recorded, but no test asks for it (remove it from its file, or bring the test back): {case}")
    yield f"run data: {terminal.where(perf.run_dir)}"
    if not results.complete:
        yield (f"it ended early; to go on: the same command with --run-dir={perf.run_dir} --resume")


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
