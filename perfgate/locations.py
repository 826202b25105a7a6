"""Locations: the project's root folder and its engines, models, runs and baselines.

The pytest plugin and the command name their project once (`use`). Before that,
it is the project around the current folder. Nothing depends on where the
package is installed.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

PROJECT_FILE = "perfgate.toml"
PYPROJECT = "pyproject.toml"
HISTORY_FILE = "history.sqlite3"
# On sys.path, it makes the package importable in a process that is started by path.
IMPORT_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Locations:
    """Absolute paths of one project.

    Attributes:
        root: relative paths in the project file start here.
        engines: Python environments of the engines.
        models: models that the suite makes.
        runs: one folder per run, and the history.
        baselines: the baseline store.
    """

    root: Path
    engines: Path
    models: Path
    runs: Path
    baselines: Path

    @property
    def history(self) -> Path:
        """The history file: $PERFGATE_HISTORY, else in the folder of runs."""
        path = _path_from_environment("PERFGATE_HISTORY")
        if path is not None:
            return path
        return self.runs / HISTORY_FILE


_current: Locations | None = None


def default_locations(root: Path) -> Locations:
    """The locations of a project that names none: all of them in its root."""
    root = root.absolute()
    return Locations(
        root=root,
        engines=root / ".engines",
        models=root / ".models",
        runs=root / "runs",
        baselines=root / "baselines",
    )


def use(locations: Locations | None) -> None:
    """Set the project of this process; None resets to the one around the current folder."""
    global _current
    _current = locations


def current() -> Locations:
    """The project's locations; environment variables override the project file."""
    locations = _current
    if locations is None:
        locations = default_locations(find_root(Path.cwd()))
    engines = _path_from_environment("PERFGATE_ENGINES_DIR")
    if engines is not None:
        locations = dataclasses.replace(locations, engines=engines)
    models = _path_from_environment("PERFGATE_MODELS_DIR")
    if models is not None:
        locations = dataclasses.replace(locations, models=models)
    return locations


def home() -> Path:
    """The user's home folder; the root folder for a user without one (an arbitrary UID)."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")


def find_root(start: Path) -> Path:
    """The nearest folder from `start` upwards with a project file, else `start`."""
    start = start.absolute()
    for folder in (start, *start.parents):
        if project_table(folder) is not None:
            return folder
    return start


def project_table(folder: Path) -> tuple[Path, str] | None:
    """The file that configures perfgate in a folder, and its text; None if there is none.

    That is perfgate.toml, or a pyproject.toml with a table [tool.perfgate].
    """
    project_file = folder / PROJECT_FILE
    if project_file.is_file():
        return project_file, _read(project_file)
    pyproject = folder / PYPROJECT
    if pyproject.is_file():
        text = _read(pyproject)
        if _has_table(text):
            return pyproject, text
    return None


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig", errors="replace")


def _has_table(text: str) -> bool:
    if "perfgate" not in text:  # most files, which are then not parsed
        return False
    try:
        return "perfgate" in tomllib.loads(text).get("tool", {})
    except tomllib.TOMLDecodeError:
        return False


def expanded(text: str) -> Path:
    """A path with the user's home folder in place of "~"; as it is for a user without one."""
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def _path_from_environment(variable: str) -> Path | None:
    value = os.environ.get(variable)
    if not value:
        return None
    return expanded(value).absolute()
