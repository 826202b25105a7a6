"""Pytest plugin: declares the options, opens the project and registers its hooks.

``-m PLATFORM`` selects perf tests. Without a platform in ``-m`` no perf test is
selected and no server is started. In a project the plugin registers
`perfgate.collection`, `perfgate.fixtures`, `perfgate.perf_tests` and
`perfgate.session_report`. In any other folder it adds no option, marker or
fixture.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from perfgate import formatting, hookspec, locations
from perfgate.config import options, rootdir
from perfgate.errors import Failure
from perfgate.machine import products
from perfgate.study.shipped import PACKAGE, shipped

if TYPE_CHECKING:
    from perfgate.config.project import Project
    from perfgate.study import StudyFile

# The variable with which pytest takes options.
ADDOPTS = "PYTEST_ADDOPTS"

_HAS_OPTIONS = pytest.StashKey[bool]()


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the hooks for engines, models, metrics and cases."""
    pluginmanager.add_hookspecs(hookspec)


def pytest_addoption(
    parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager
) -> None:
    """Declare the options, in a project only: other plugins may use their names."""
    config: Any = pluginmanager.get_plugin("pytestconfig")
    if _is_project_near(config):
        group = parser.getgroup("perfgate", "performance gate")
        options.add_options(group.addoption)
        config.stash[_HAS_OPTIONS] = True


def _is_project_near(config: pytest.Config) -> bool:
    """Whether there is a project; a guess, before the options are parsed."""
    if options.are_inherited(config):
        return True
    arguments = _all_arguments(config)
    if PACKAGE in arguments or options.is_given("--study", arguments):
        return True
    folder = config.invocation_params.dir
    places = [config.rootpath, folder]
    for argument in arguments:
        path = rootdir.existing_path(argument, folder)
        if path is not None:
            places.append(path)
    return any(_has_project(place) for place in places)


def _has_project(place: Path) -> bool:
    """Whether a folder or one above it has a project file."""
    root = locations.find_root(place)
    return locations.project_table(root) is not None


def _all_arguments(config: pytest.Config) -> list[str]:
    """The command line, with the options of the environment and the ini file."""
    return [*config.getini("addopts"), *options.given_arguments(config)]


def _arguments(config: pytest.Config) -> list[str]:
    """The command line as it was written."""
    return [str(argument) for argument in config.invocation_params.args]


def _has_options(config: pytest.Config) -> bool:
    return config.stash.get(_HAS_OPTIONS, False)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None]:
    """Restart pytest with the right root directory; refuse options without a project.

    Pytest determines its root directory before it knows the options of plugins. It
    takes DIR in ``--run-dir DIR`` for a path to collect, and ignores perfgate.toml.
    """
    if _has_options(early_config):
        _restart_if_misled(early_config)
    yield
    if not _has_options(early_config):
        _refuse_own_options(early_config, parser, args)


def _restart_if_misled(config: pytest.Config) -> None:
    """Run pytest once more, and end with it, where it has another root directory."""
    arguments = _arguments(config)
    corrected = _corrected_arguments(config, arguments)
    given = shlex.split(os.environ.get(ADDOPTS, ""))
    joined = rootdir.join_values(given, options.options_with_value())
    if corrected == arguments and joined == given:
        return
    if given:
        os.environ[ADDOPTS] = shlex.join(joined)
    plugins = config.invocation_params.plugins
    raise SystemExit(int(pytest.main(corrected, plugins)))


def _corrected_arguments(
    config: pytest.Config, arguments: list[str]
) -> list[str]:
    """The arguments by which pytest finds the project's root directory."""
    joined = rootdir.join_values(arguments, options.options_with_value())
    if joined != arguments or config.inipath is not None:
        return joined
    if options.is_given("--rootdir", arguments):
        return joined
    root = locations.find_root(_start_folder(config))
    if config.rootpath == root or not config.rootpath.is_relative_to(root):
        return joined
    return [f"--rootdir={root}", *joined]


def _refuse_own_options(
    config: pytest.Config, parser: pytest.Parser, args: Sequence[str]
) -> None:
    """Refuse an option that exists in a project only, and say what is missing."""
    names = [
        name for name in options.option_names() if options.is_given(name, args)
    ]
    if not names:
        return
    # Another plugin may have declared an option of this name.
    unknown = parser.parse_known_and_unknown_args(args)[1]
    for name in names:
        if options.is_given(name, unknown):
            raise pytest.UsageError(str(_no_project(name, config.rootpath)))


def _no_project(option: str, folder: Path) -> Failure:
    return Failure(
        tried=f"{option} in {folder}",
        seen=(
            f"this is no perfgate project: neither a {locations.PROJECT_FILE} nor "
            "[tool.perfgate] in pyproject.toml"
        ),
        remedy=(
            f"run pytest in a project, make one (touch {locations.PROJECT_FILE}), or "
            "add --study shipped"
        ),
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Read the project, -m and the options once, and refuse contradictions."""
    if not _has_options(config):
        return
    names_shipped = _replace_package_name(config)
    try:
        _open_project(config, names_shipped)
    except Failure as failure:
        _show_in_job(str(failure))
        raise pytest.UsageError(str(failure)) from failure


def _show_in_job(refusal: str) -> None:
    """Show in a CI job why pytest does not start: nobody reads its log first."""
    from perfgate.foreign_text import encodable
    from perfgate.report import summary

    for line in summary.refusal(refusal, os.environ):
        sys.stdout.write(encodable(f"{line}\n", sys.stdout.encoding))


def _replace_package_name(config: pytest.Config) -> bool:
    """Replace perfgate.study (--pyargs) by the folder of the shipped perf tests.

    Returns:
        whether it was named.
    """
    is_named = False
    for position, argument in enumerate(config.args):
        if argument == PACKAGE:
            config.args[position] = str(shipped().tests)
            is_named = True
    return is_named


def _start_folder(config: pytest.Config) -> Path:
    """Where the search for the project starts: a root directory may hold several."""
    folder = config.invocation_params.dir
    if folder.is_relative_to(config.rootpath):
        return folder
    return config.rootpath


def _refuse_other_root(config: pytest.Config) -> None:
    """Refuse a --rootdir that leaves the project in which pytest was started.

    Its baselines and runs would be looked for elsewhere, and not be found.
    """
    folder = config.invocation_params.dir
    root = locations.find_root(folder)
    if not options.is_given("--rootdir", options.given_arguments(config)):
        return
    if locations.project_table(root) is None or config.rootpath == root:
        return
    if locations.find_root(_start_folder(config)) == root:
        return
    raise Failure(
        tried=f"--rootdir={config.rootpath}",
        seen=f"pytest was started in the project {root}, whose baselines would not count",
        remedy=f"leave --rootdir out, or start pytest in {config.rootpath}",
    )


def _open_project(config: pytest.Config, names_shipped: bool) -> None:
    """Open the project and start a session; nothing where there is no project."""
    from perfgate.config.project import SHIPPED, open_project
    from perfgate.study.judged import check_metrics

    _refuse_other_root(config)
    study = options.study_file(config)
    names_study = study is not None
    if study == SHIPPED:
        study = str(shipped().study)
    project = open_project(_start_folder(config), study)
    if not (project.file or names_study or names_shipped):
        _refuse_without_project(config)
        return
    _register_markers(config, project)
    _register_additions(config)
    check_metrics(project.study)
    _start_session(config, project)


def _start_session(config: pytest.Config, project: Project) -> None:
    """Parse the options, and register the hooks that make and run perf tests."""
    from perfgate import collection, fixtures, perf_tests, session_report
    from perfgate.config.parsing import config_from_pytest
    from perfgate.run.session import PerfSession

    perf = PerfSession(config_from_pytest(config, project), project)
    config.stash[fixtures.SESSION] = perf
    for module in (collection, fixtures, perf_tests, session_report):
        config.pluginmanager.register(module, module.__name__)
    if perf.config.worker is None:
        perf.refuse_impossible()
    if perf.platforms and perf.config.runs_tests and not perf.config.worker:
        perf.reserve()
    if _names_other_tests(config, project):
        perf.coverage.suite = ()
    if perf.platforms:
        collection.add_tests(config, project.tests)


def _names_other_tests(config: pytest.Config, project: Project) -> bool:
    """Whether paths are given in a project without `tests`: they are its suite then."""
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        return False
    return not project.names_tests and str(shipped().tests) not in config.args


def _refuse_without_project(config: pytest.Config) -> None:
    """Refuse options that would do nothing without a project, and exit with 0."""
    for name in ("--gate", "--plan", "--resume"):
        if options.is_given(name, options.given_arguments(config)):
            raise _no_project(name, config.rootpath)


def _register_markers(config: pytest.Config, project: Project) -> None:
    """Make each platform a marker, and refuse an unknown marker in -m."""
    config.addinivalue_line(
        "markers",
        "perf(cases=QUESTION, engines=QUESTION): a perf test; `cases` is a function that "
        "yields cases of a perfgate.study.Study, `engines` one of a perfgate.study.Versus",
    )
    for name, table in project.study.platforms.items():
        config.addinivalue_line("markers", f"{name}: {table.about}")
    known = set()
    for line in config.getini("markers"):
        signature = line.split(":")[0]
        known.add(signature.split("(")[0].strip())
    unknown = sorted(options.marker_names(config) - known)
    if unknown:
        markers = ", ".join(sorted(known))
        suggestion = formatting.suggestion(unknown[0], known)
        raise pytest.UsageError(
            f"-m {', '.join(unknown)}: no such marker; {suggestion}markers: {markers}"
            + _gpu_hint(unknown, project.study)
        )


def _gpu_hint(unknown: Sequence[str], study: StudyFile) -> str:
    """How to run on a GPU that no platform names; "" where no marker looks like one."""
    gpus = [marker for marker in unknown if products.is_gpu_name(marker)]
    any_gpu = [
        name
        for name in study.platforms
        if study.device_of(name) == "cuda" and study.gpu_of(name) is None
    ]
    if not gpus or not any_gpu:
        return ""
    name = gpus[0].lower()
    return (
        f"\nuse -m {any_gpu[0]} for the GPUs that are found, whatever they are; or add a "
        f"platform that asserts them to {study.path}:\n\n"
        f"    [platforms.{name}]\n"
        f'    like = "{any_gpu[0]}"\n'
        f'    gpu = "{name}"'
    )


def _register_additions(config: pytest.Config) -> None:
    """Register the engines, models and metrics that hooks add."""
    from perfgate.cases import check_name
    from perfgate.engines import registry
    from perfgate.engines.base import Engine
    from perfgate.load import metrics
    from perfgate.models import catalogue

    for engine in _additions(config, "pytest_perfgate_engines", Engine):
        _check_engine_name(engine.name)
        registry.register(engine)
    for model in _additions(config, "pytest_perfgate_models", catalogue.Model):
        check_name(model.name, f"the model {model.name!r}")
        catalogue.register([model])
    kinds = metrics.Metric, metrics.CustomMetric
    metrics.register(_additions(config, "pytest_perfgate_metrics", *kinds))


def _additions(config: pytest.Config, name: str, *kinds: type) -> Iterator[Any]:
    """What all hooks of a name return, each of these kinds.

    Raises:
        Failure: a hook returns no list, or something else in it; its files are named.
    """
    from perfgate.foreign_text import one_line

    hook = getattr(config.hook, name)
    for returned in hook(config=config):
        rows = [*returned] if isinstance(returned, Iterable) else [None]
        if not all(isinstance(row, kinds) for row in rows):
            files = [impl.plugin_name for impl in hook.get_hookimpls()]
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise Failure(
                tried=f"calling {name} of {', '.join(files)}",
                seen=f"it returns {one_line(repr(returned), 100)}",
                remedy=f"return a list, each of whose entries is of the kind {wanted}",
            )
        yield from rows


def _check_engine_name(name: str) -> None:
    """Refuse a name that no variable can have, and that a server's name would cut."""
    if not name.isidentifier():
        raise Failure(
            tried=f"registering the engine {name!r}",
            seen="the name has other characters than letters, digits and _",
            remedy="choose another one, such as vllm_fork",
        )
