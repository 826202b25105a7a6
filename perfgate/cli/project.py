"""Project of a command: the one around the current folder, with its study and baselines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from perfgate import locations

if TYPE_CHECKING:
    from perfgate.config.project import Project
    from perfgate.judge.baseline_store import Store


def opened() -> Project:
    """Read the project, register its models, and use it from now on."""
    # Imported here and below: `--help` must not wait for it.
    from perfgate.config.project import open_project

    return open_project(Path.cwd())


def judging_store(baselines: Path | None) -> Store:
    """The baseline store to judge against: that folder, or the project's.

    Raises:
        BadProject: there is no such folder.
    """
    project = opened()
    baselines = _expanded(baselines)
    _refuse_missing(baselines, "judging against")
    return project.store(baselines)


def existing_store(baselines: Path | None) -> Store:
    """The baseline store of accepted launches: that folder, or the project's.

    Raises:
        BadProject: there is no such folder.
    """
    baselines = _expanded(baselines)
    _refuse_missing(baselines, "reading")
    return opened().own_store(baselines)


def _refuse_missing(folder: Path | None, verb: str) -> None:
    from perfgate.config.project import BadProject

    if folder is not None and not folder.is_dir():
        raise BadProject(
            tried=f"{verb} the baselines in {folder}",
            seen="there is no such folder",
            remedy="name the folder of a baseline store",
        )


def own_store(baselines: Path | None) -> Store:
    """The baseline store that accepted launches are written to."""
    return opened().own_store(_expanded(baselines))


def _expanded(folder: Path | None) -> Path | None:
    """The folder; a shell leaves the "~" of --baselines=~/store as it is."""
    if folder is None:
        return None
    return locations.expanded(str(folder))
