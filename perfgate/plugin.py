"""Pytest plugin: decides whether this is a perfgate project, and stays out of any other.

``-m PLATFORM`` selects perf tests; without a platform in ``-m`` no perf test is
selected and no server is ever started. In a project `perfgate.perf_tests` and
`perfgate.fixtures` are registered, which do the rest. Elsewhere there is no option,
marker or fixture of perfgate's.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from perfgate import formatting, hookspec, locations
from perfgate.errors import Failure
from perfgate.study.shipped import PACKAGE, shipped

if TYPE_CHECKING:
    from perfgate.config.project import Project


_HAS_OPTIONS = pytest.StashKey[bool]()


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """The hooks by which others add engines, models, metrics and cases."""
    pluginmanager.add_hookspecs(hookspec)


def pytest_addoption(
    parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager
) -> None:
    """The suite's options, where a project is near: elsewhere their names are free for others."""
    config: Any = pluginmanager.get_plugin("pytestconfig")
    if _may_be_wanted(config):
        from perfgate.config.options import add_options

        add_options(parser.getgroup("perfgate", "performance gate").addoption)
        config.stash[_HAS_OPTIONS] = True


def _may_be_wanted(config: pytest.Config) -> bool:
    """Whether a project is near or was named, as far as that is known before options are parsed."""
    if hasattr(
        config.option, "baseline_record"
    ):  # a worker of pytest-xdist, which was told them
        return True
    words = _words(config)
    if PACKAGE in words or _given("--study", words):
        return True
    here = config.invocation_params.dir
    places = [config.rootpath, here]
    for word in words:
        path = here / word.split("::")[0]
        if not word.startswith("-") and len(word) < 1000 and path.exists():
            places.append(path)
    return any(locations.project_table(locations.find_root(place)) for place in places)


def _words(config: pytest.Config) -> list[str]:
    """The command line, with what the environment and the ini file add to it."""
    added = [
        *shlex.split(os.environ.get("PYTEST_ADDOPTS", "")),
        *config.getini("addopts"),
    ]
    return [*added, *(str(arg) for arg in config.invocation_params.args)]


def _given(option: str, words: Iterable[str]) -> bool:
    return any(word.partition("=")[0] == option for word in words)


def _has_options(config: pytest.Config) -> bool:
    return config.stash.get(_HAS_OPTIONS, False)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None]:
    """Start again where pytest has found a wrong root directory; refuse options without a project.

    Pytest looks for its root directory before it knows the options of plugins. So it
    takes DIR in ``--run-dir DIR`` for a path to collect. And it does not know
    perfgate.toml.
    """
    if _has_options(early_config):
        given = [str(arg) for arg in early_config.invocation_params.args]
        better = _better_arguments(early_config, given)
        if better != given:
            raise SystemExit(
                int(pytest.main(better, early_config.invocation_params.plugins))
            )
    yield
    if not _has_options(early_config):
        _refuse_own_options(early_config, parser, args)


def _better_arguments(config: pytest.Config, given: list[str]) -> list[str]:
    """The arguments by which pytest finds the right root directory."""
    from perfgate.config import rootdir
    from perfgate.config.options import options_with_value

    joined = rootdir.join_values(given, options_with_value())
    if joined != given or config.inipath is not None or _given("--rootdir", given):
        return joined
    root = locations.find_root(_start(config))
    if config.rootpath == root or not config.rootpath.is_relative_to(root):
        return joined
    return [f"--rootdir={root}", *joined]


def _refuse_own_options(
    config: pytest.Config, parser: pytest.Parser, args: Sequence[str]
) -> None:
    """Say what is missing where an option is given that only a project has."""
    from perfgate.config.options import option_names

    own = option_names()
    if not any(_given(name, args) for name in own):
        return
    unknown = parser.parse_known_and_unknown_args(args)[1]
    for name in own:
        if _given(name, unknown):
            raise pytest.UsageError(str(_no_project(name, config.rootpath)))


def _no_project(option: str, folder: Path) -> Failure:
    return Failure(
        tried=f"{option} in {folder}",
        seen=f"there is no {locations.PROJECT_FILE} and no [tool.perfgate]",
        remedy=f"make one (an empty {locations.PROJECT_FILE} will do), name --study shipped, "
        "or run pytest where one is",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Read the project, -m and the options once, and refuse what contradicts itself."""
    if not _has_options(config):
        return
    names_shipped = _replace_package_name(config)
    try:
        _open(config, names_shipped)
    except Failure as failure:
        raise pytest.UsageError(str(failure)) from failure


def _replace_package_name(config: pytest.Config) -> bool:
    """``--pyargs perfgate.study`` means the shipped perf tests, wherever they lie."""
    is_named = PACKAGE in config.args
    config.args[:] = [
        str(shipped().tests) if arg == PACKAGE else arg for arg in config.args
    ]
    return is_named


def _start(config: pytest.Config) -> Path:
    """Where to look for the project from: a root directory may hold several."""
    here = config.invocation_params.dir
    if here.is_relative_to(config.rootpath):
        return here
    return config.rootpath


def _open(config: pytest.Config, names_shipped: bool) -> None:
    """Begin a session, if this is a project."""
    from perfgate import collection, fixtures, perf_tests
    from perfgate.config.project import SHIPPED, open_project
    from perfgate.run.session import PerfSession

    option = config.option
    study = option.study
    if study == SHIPPED:
        study = str(shipped().study)
    project = open_project(_start(config), study)
    if not (project.file or option.study or names_shipped):
        _refuse_gate(config)
        return
    words = set(re.findall(r"[A-Za-z_]\w*", option.markexpr or "")) - {
        "and",
        "or",
        "not",
    }
    _register(config, project, words)
    _add_settings(option, project)
    _enter_what_hooks_add(config)
    from_controller = getattr(config, "workerinput", {})
    run_dir = from_controller.get("perfgate_run_dir")
    perf = PerfSession(
        option,
        project,
        words - {"True", "False"},
        from_controller.get("workerid"),
        None if run_dir is None else Path(run_dir),
    )
    config.stash[fixtures.SESSION] = perf
    config.pluginmanager.register(collection, "perfgate.collection")
    config.pluginmanager.register(fixtures, "perfgate.fixtures")
    config.pluginmanager.register(perf_tests, "perfgate.perf_tests")
    if not from_controller:
        worker_count = int(getattr(option, "numprocesses", None) or 0)
        perf.check(
            worker_count, _given("--gate", map(str, config.invocation_params.args))
        )
    if _names_other_tests(config, project):
        perf.suite = ()
    if perf.requested:
        collection.add_tests(config, project.tests)


def _add_settings(option: Any, project: Project) -> None:
    """What the environment and the project file say, where the command line does not."""
    option.gate = option.gate or os.environ.get("PERFGATE_GATE") or project.gate
    option.engine_python[:0] = [
        f"{name}={path}" for name, path in project.engine_python.items()
    ]
    option.model_dir[:0] = [
        f"{name}={path}" for name, path in project.model_dir.items()
    ]


def _names_other_tests(config: pytest.Config, project: Project) -> bool:
    """Whether paths are given in a project that does not say what its suite is: then they are it."""
    is_given = config.args_source is pytest.Config.ArgsSource.ARGS
    return (
        is_given and not project.names_tests and str(shipped().tests) not in config.args
    )


def _refuse_gate(config: pytest.Config) -> None:
    """What cannot be done without a project must not end green."""
    for flag in ("--gate", "--plan", "--resume"):
        if _given(flag, map(str, config.invocation_params.args)):
            raise _no_project(flag, config.rootpath)


def _register(config: pytest.Config, project: Project, words: set[str]) -> None:
    """Make each platform a marker, and refuse a word in -m that is none."""
    config.addinivalue_line(
        "markers",
        "perf(cases=QUESTION, engines=QUESTION): a perf test; `cases` is a function of a "
        "perfgate.study.Study that yields cases, `engines` one of a perfgate.study.Versus",
    )
    for name, table in project.study.platforms.items():
        config.addinivalue_line("markers", f"{name}: {table.about}")
    known = {
        line.split(":")[0].split("(")[0].strip() for line in config.getini("markers")
    }
    unknown = sorted(words - known - {"True", "False"})
    if unknown:
        markers = ", ".join(sorted(known))
        near = formatting.suggestion(unknown[0], known)
        raise pytest.UsageError(
            f"-m names {', '.join(unknown)}, which is no marker; {near}there are: {markers}"
        )


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
