"""Project file: what ``perfgate.toml``, or ``[tool.perfgate]`` in pyproject.toml, configures.

Options of the command line and environment variables come before it. Relative paths
count from the folder of the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from perfgate import locations
from perfgate.engines import environment
from perfgate.errors import Failure
from perfgate.judge.baseline_store import Store
from perfgate.locations import PROJECT_FILE, Locations
from perfgate.models import weights
from perfgate.models.catalogue import register
from perfgate.study.reader import StudyFile, load_toml, read_study, unknown_key
from perfgate.study.shipped import PACKAGE, shipped

SHIPPED = "shipped"


class BadProject(Failure):
    """A project file that cannot be used; names file and key."""


class ProjectTable(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """The keys of the project file; each may be left out.

    Attributes:
        study: path of a study file, or "shipped" for the one that comes with the
            package.
        tests: where perf tests lie that are run when a platform is selected and no path
            is given: folders, or "perfgate.study" for the shipped ones. Without it, the
            shipped ones.
        baselines: folder of the baseline store.
        shipped_baselines: whether the recorded and published figures that come with the
            package are used where the project's own store has nothing.
        runs: folder of the run store; the history lies in it.
        engines_dir: where `perfgate engines install` makes environments.
        models_dir: where the suite keeps the models that it makes.
        gate: "advisory" or "required", as ``--gate``.
        engine_python: engine -> its Python, as ``--engine-python``.
        model_dir: model -> folder of its weights, as ``--model-dir``.
    """

    study: str = SHIPPED
    tests: tuple[str, ...] | None = None
    baselines: str = "baselines"
    shipped_baselines: bool = True
    runs: str = "runs"
    engines_dir: str = ".engines"
    models_dir: str = ".models"
    gate: Literal["advisory", "required"] = "advisory"
    engine_python: dict[str, str] = {}
    model_dir: dict[str, str] = {}


@dataclass(frozen=True)
class Project:
    """A project as it was read.

    Attributes:
        file: the project file; None where there is none: then everything is as by
            default.
        tests: absolute paths of folders or files with perf tests.
        names_tests: whether the project file says which; else they are the shipped
            ones.
        shipped_baselines: folder of the figures that come with the package; None if
            unused.
    """

    locations: Locations
    study: StudyFile
    file: Path | None = None
    tests: tuple[Path, ...] = ()
    names_tests: bool = False
    shipped_baselines: Path | None = None
    gate: str = "advisory"
    engine_python: Mapping[str, str] = field(default_factory=dict)
    model_dir: Mapping[str, str] = field(default_factory=dict)

    def store(self, named: Path | None = None) -> Store:
        """The baselines to judge by: the store that was named, else the project's own.

        Behind the project's own stand the shipped figures, if it wants them.
        """
        if named is not None:
            return Store(named)
        return Store(self.locations.baselines, self.shipped_baselines)

    @property
    def root(self) -> Path:
        """Folder that relative paths count from."""
        return self.locations.root


def open_project(start: Path, study: str | None = None) -> Project:
    """Read the project around `start`, work in it from now on, and enter its models.

    Args:
        start: a folder; the nearest project file from here upwards counts.
        study: a study file that replaces the project's, as ``--study`` names it.

    Raises:
        BadProject, BadStudy: a file cannot be used; file, table and key are named.
    """
    project = read_project(locations.find_root(start), study)
    locations.use(project.locations)
    register(project.study.models.values())
    return project


def read_project(root: Path, study: str | None = None) -> Project:
    """The project in a folder, whether it has a project file or not; raises as `open_project`."""
    found = locations.project_table(root)
    if found is None:
        table, file = ProjectTable(), None
    else:
        file = found[0]
        table = _table(file)
    chosen = shipped().study
    if study is not None:
        chosen = Path(study).expanduser().absolute()
    elif table.study != SHIPPED:
        chosen = root / Path(table.study).expanduser()
    tests = table.tests
    if tests is None:
        tests = (PACKAGE,)
    theirs = None
    if table.shipped_baselines and shipped().baselines != root / table.baselines:
        theirs = shipped().baselines
    return Project(
        locations=_locations(root, table),
        study=read_study(chosen),
        file=file,
        tests=tuple(_tests(root, file, name) for name in tests),
        names_tests=table.tests is not None,
        shipped_baselines=theirs,
        gate=table.gate,
        engine_python=_engine_pythons(root, table),
        model_dir=_model_dirs(root, table),
    )


def _table(file: Path) -> ProjectTable:
    data: dict[str, Any] = load_toml(file, "the project file")
    place = "the file"
    if file.name != PROJECT_FILE:
        data = data["tool"]["perfgate"]
        place = "[tool.perfgate]"
    if not isinstance(data, dict):
        raise _bad(
            file, f"{place} is not a table", "write [tool.perfgate] with keys below it"
        )
    for key in data:
        if key not in ProjectTable.__struct_fields__:
            seen, remedy = unknown_key(key, ProjectTable.__struct_fields__)
            raise _bad(file, f"{place}: {seen}", remedy)
    try:
        return msgspec.convert(data, ProjectTable)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$.")
        key = where.rstrip("`")
        remedy = f"correct {key}"
        if key == "gate":
            remedy = 'write gate = "advisory" or gate = "required"'
        raise _bad(file, f"{place}: {key}: {message}", remedy) from None


def _locations(root: Path, table: ProjectTable) -> Locations:
    def place(text: str) -> Path:
        return (root / Path(text).expanduser()).absolute()

    return Locations(
        root=root,
        engines=place(table.engines_dir),
        models=place(table.models_dir),
        runs=place(table.runs),
        baselines=place(table.baselines),
    )


def _engine_pythons(root: Path, table: ProjectTable) -> dict[str, str]:
    """Engine -> Python, but for engines whose environment variable names another one.

    A path counts from the project's root; a bare name is looked for on PATH.
    """
    found = {}
    for engine, path in table.engine_python.items():
        if os.environ.get(environment.variable(engine)):
            continue
        if "/" in path:
            path = str(root / Path(path).expanduser())
        found[engine] = path
    return found


def _model_dirs(root: Path, table: ProjectTable) -> dict[str, str]:
    """Model -> folder, but for models whose environment variable names another one."""
    found = {}
    for model, path in table.model_dir.items():
        if not os.environ.get(weights.variable(model)):
            found[model] = str(root / Path(path).expanduser())
    return found


def _tests(root: Path, file: Path | None, name: str) -> Path:
    if name == PACKAGE:
        return shipped().tests
    path = (root / Path(name).expanduser()).absolute()
    if not path.exists():
        raise _bad(
            file or root,
            f"tests: there is no {path}",
            f'correct the path, or write "{PACKAGE}" for the perf tests of the package',
        )
    return path


def _bad(file: Path, seen: str, remedy: str) -> BadProject:
    return BadProject(
        tried=f"reading the project file {file}", seen=seen, remedy=remedy
    )
