"""Project file: ``perfgate.toml``, or ``[tool.perfgate]`` in pyproject.toml.

Options of the command line and environment variables override it. Relative paths start
at the folder of the file.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from perfgate import locations
from perfgate.config.options import PairsFor
from perfgate.engines import environment
from perfgate.errors import Failure
from perfgate.judge.baseline_store import Store
from perfgate.locations import PROJECT_FILE, Locations
from perfgate.models import weights
from perfgate.models.catalogue import register
from perfgate.results.gates import GATES, Gate
from perfgate.study.reader import StudyFile, read_study
from perfgate.study.shipped import PACKAGE, shipped
from perfgate.study.toml_file import load_toml, unknown_key

SHIPPED = "shipped"


class BadProject(Failure):
    """A project file that cannot be used; names file and key."""


class ProjectTable(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """The keys of the project file; each may be left out.

    Attributes:
        study: path of a study file, or "shipped" for the one of the package.
        tests: perf tests to run when a platform is selected and no path is given:
            folders, or "perfgate.study" for the shipped ones. Without it, the shipped
            ones and the project's own.
        baselines: folder of the baseline store.
        shipped_baselines: whether to use the recorded and published figures of the
            package where the project's own store has none.
        runs: folder of all runs, and of the history.
        engines_dir: folder of the environments that `perfgate engines install` makes.
        models_dir: folder of the models that the suite makes.
        gate: "advisory", "required" or "strict", as ``--gate``.
        engine_python: engine -> its Python, as ``--engine-python``.
        model_dir: model -> folder of its weights, as ``--model-dir``.
        against_engine: engine -> Python of its last good build, as
            ``--against-engine``; without effect with ``--attach``.
        pairs: "all" or "suspect", as ``--pairs``.
    """

    study: str = SHIPPED
    tests: tuple[str, ...] | None = None
    baselines: str = "baselines"
    shipped_baselines: bool = True
    runs: str = "runs"
    engines_dir: str = ".engines"
    models_dir: str = ".models"
    gate: Gate = "advisory"
    engine_python: dict[str, str] = {}
    model_dir: dict[str, str] = {}
    against_engine: dict[str, str] = {}
    pairs: PairsFor = "all"


@dataclass(frozen=True)
class Project:
    """A project as it was read.

    Attributes:
        file: the project file; None if there is none, and everything is a default.
        tests: absolute paths of folders or files with perf tests.
        names_tests: whether the project file names them; if not, they are the shipped
            ones.
        shipped_baselines: folder of the package's figures; None if unused.
    """

    locations: Locations
    study: StudyFile
    file: Path | None = None
    tests: tuple[Path, ...] = ()
    names_tests: bool = False
    shipped_baselines: Path | None = None
    gate: Gate = "advisory"
    engine_python: Mapping[str, str] = field(default_factory=dict)
    model_dir: Mapping[str, str] = field(default_factory=dict)
    against_engine: Mapping[str, str] = field(default_factory=dict)
    pairs: PairsFor = "all"

    def store(self, folder: Path | None = None) -> Store:
        """The baselines to judge against: those in a folder, or the project's own.

        Where the project's own store has none, the shipped figures are used, unless
        the project declines them.
        """
        if folder is not None:
            return self._named_store(folder)
        return Store(
            self.locations.baselines,
            self.shipped_baselines,
            noise=shipped().baselines,
        )

    def own_store(self, folder: Path | None = None) -> Store:
        """The baselines that accepted launches are written to; the shipped ones are not."""
        return self._named_store(folder or self.locations.baselines)

    def _named_store(self, folder: Path) -> Store:
        """The store in a folder alone; commands must name it where it is not the own one."""
        words = ""
        if folder.resolve() != self.locations.baselines.resolve():
            words = f" --baselines {shlex.quote(str(folder))}"
        return Store(folder, noise=shipped().baselines, in_commands=words)

    @property
    def root(self) -> Path:
        """Folder that relative paths count from."""
        return self.locations.root


def open_project(start: Path, study: str | None = None) -> Project:
    """Read the project around a folder, use it from now on, and register its models.

    Args:
        start: the nearest project file from this folder upwards is read.
        study: a study file that replaces the project's, as ``--study`` names it.

    Raises:
        BadProject, BadStudy: a file cannot be used; file, table and key are named.
    """
    project = read_project(locations.find_root(start), study)
    locations.use(project.locations)
    register(project.study.models.values())
    return project


def read_project(root: Path, study: str | None = None) -> Project:
    """Read the project in a folder, with or without a project file.

    Raises:
        BadProject, BadStudy: a file cannot be used; file, table and key are named.
    """
    table, file = ProjectTable(), None
    project_table = locations.project_table(root)
    if project_table is not None:
        file, _ = project_table
        table = _read_table(file)
    return Project(
        locations=_locations(root, table),
        study=read_study(_study_file(root, table, study)),
        file=file,
        tests=_test_paths(root, table, file),
        names_tests=table.tests is not None,
        shipped_baselines=_shipped_baselines(root, table),
        gate=table.gate,
        engine_python=_engine_pythons(root, table),
        model_dir=_model_dirs(root, table),
        against_engine=_base_builds(root, table),
        pairs=table.pairs,
    )


def _read_table(file: Path) -> ProjectTable:
    """The table of a project file, with every key checked."""
    data: dict[str, Any] = load_toml(file, "the project file")
    table_name = "the file"
    if file.name != PROJECT_FILE:
        data = data["tool"]["perfgate"]
        table_name = "[tool.perfgate]"
    if not isinstance(data, dict):
        raise _bad_project(
            file,
            f"{table_name} is not a table",
            "write [tool.perfgate] with keys below it",
        )
    for key in data:
        if key not in ProjectTable.__struct_fields__:
            seen, remedy = unknown_key(key, ProjectTable.__struct_fields__)
            raise _bad_project(file, f"{table_name}: {seen}", remedy)
    try:
        return msgspec.convert(data, ProjectTable)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        key = path.rstrip("`")
        remedy = f"correct {key}"
        if key == "gate":
            remedy = f"write gate = with one of {', '.join(GATES)}"
        if key == "pairs":
            remedy = 'write pairs = "all" or pairs = "suspect"'
        seen = f"{table_name}: {key}: {message}"
        raise _bad_project(file, seen, remedy) from None


def _absolute(root: Path, text: str) -> Path:
    """A path of the project file, which counts from its folder."""
    return (root / locations.expanded(text)).absolute()


def _locations(root: Path, table: ProjectTable) -> Locations:
    return Locations(
        root=root,
        engines=_absolute(root, table.engines_dir),
        models=_absolute(root, table.models_dir),
        runs=_absolute(root, table.runs),
        baselines=_absolute(root, table.baselines),
    )


def _study_file(root: Path, table: ProjectTable, study: str | None) -> Path:
    """The study file: --study, else the project's, else the shipped one."""
    if study is not None:
        return locations.expanded(study).absolute()
    if table.study == SHIPPED:
        return shipped().study
    return root / locations.expanded(table.study)


def _shipped_baselines(root: Path, table: ProjectTable) -> Path | None:
    """The shipped figures; None if they are unwanted, or are the project's own store."""
    folder = shipped().baselines
    if not table.shipped_baselines or folder == root / table.baselines:
        return None
    return folder


def _engine_pythons(root: Path, table: ProjectTable) -> dict[str, str]:
    """Engine -> Python, without engines whose environment variable names one.

    A path counts from the project's root; a bare name is looked for on PATH.
    """
    pythons = {}
    for engine, path in table.engine_python.items():
        if os.environ.get(environment.variable(engine)):
            continue
        pythons[engine] = _python(root, path)
    return pythons


def _base_builds(root: Path, table: ProjectTable) -> dict[str, str]:
    """Engine -> Python of its base build."""
    builds = {}
    for engine, path in table.against_engine.items():
        builds[engine] = _python(root, path)
    return builds


def _python(root: Path, path: str) -> str:
    """A path of the project file; a bare name is looked for on PATH."""
    if "/" not in path:
        return path
    return str(root / locations.expanded(path))


def _model_dirs(root: Path, table: ProjectTable) -> dict[str, str]:
    """Model -> folder, without models whose environment variable names one."""
    folders = {}
    for model, path in table.model_dir.items():
        if not os.environ.get(weights.variable(model)):
            folders[model] = str(root / locations.expanded(path))
    return folders


def _test_paths(
    root: Path, table: ProjectTable, file: Path | None
) -> tuple[Path, ...]:
    """Folders or files with perf tests; the shipped ones if the project names none."""
    names = table.tests
    if names is None:
        names = (PACKAGE,)
    paths = []
    for name in names:
        path = shipped().tests
        if name != PACKAGE:
            path = _absolute(root, name)
        if not path.exists():
            raise _bad_project(
                file or root,
                f"tests: no such file or folder: {path}",
                f'correct the path, or write "{PACKAGE}" for the shipped perf tests',
            )
        paths.append(path)
    return tuple(paths)


def _bad_project(file: Path, seen: str, remedy: str) -> BadProject:
    return BadProject(
        tried=f"reading the project file {file}", seen=seen, remedy=remedy
    )
