"""Locations: the project's root folder, and where engines, models, runs and baselines lie in it.

Both ways in, the pytest plugin and the command, say once which project they work in
(`use`). Until then it is the one around the current folder. Nothing here depends on
where the package lies.
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
# This folder on sys.path makes the package importable, for processes that are started
# by path.
IMPORT_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Locations:
    """Absolute paths of one project.

    Attributes:
        root: relative paths in the project file count from here.
        engines: environments that the engines run in.
        models: models that the suite makes.
        runs: one folder a run, and the history.
        baselines: the baseline store.
    """

    root: Path
    engines: Path
    models: Path
    runs: Path
    baselines: Path

    @property
    def history(self) -> Path:
        """The history's file: $PERFGATE_HISTORY, else in the run store."""
        named = os.environ.get("PERFGATE_HISTORY")
        if named:
            return Path(named).expanduser().absolute()
        return self.runs / HISTORY_FILE


_current: Locations | None = None


def below(root: Path) -> Locations:
    """The default locations of a project: all of them in its root."""
    root = root.absolute()
    return Locations(
        root=root,
        engines=root / ".engines",
        models=root / ".models",
        runs=root / "runs",
        baselines=root / "baselines",
    )


def use(locations: Locations | None) -> None:
    """Work in this project from now on; None goes back to the one around the current folder."""
    global _current
    _current = locations


def current() -> Locations:
    """The project's locations; environment variables come before the project file."""
    found = _current or below(find_root(Path.cwd()))
    changes = {}
    for name, variable in (
        ("engines", "PERFGATE_ENGINES_DIR"),
        ("models", "PERFGATE_MODELS_DIR"),
    ):
        if os.environ.get(variable):
            changes[name] = Path(os.environ[variable]).expanduser().absolute()
    return dataclasses.replace(found, **changes)


def find_root(start: Path) -> Path:
    """The nearest folder from `start` upwards with a project file; `start` if there is none."""
    start = start.absolute()
    for folder in (start, *start.parents):
        if project_table(folder) is not None:
            return folder
    return start


def project_table(folder: Path) -> tuple[Path, str] | None:
    """The file that configures perfgate in a folder, and its text; None if there is none.

    That is perfgate.toml, or a pyproject.toml with a table [tool.perfgate].
    """
    own = folder / PROJECT_FILE
    if own.is_file():
        return own, own.read_text(encoding="utf-8", errors="replace")
    shared = folder / PYPROJECT
    if shared.is_file():
        text = shared.read_text(encoding="utf-8", errors="replace")
        if "perfgate" in text and _has_table(text):
            return shared, text
    return None


def _has_table(text: str) -> bool:
    try:
        return "perfgate" in tomllib.loads(text).get("tool", {})
    except tomllib.TOMLDecodeError:
        return False
