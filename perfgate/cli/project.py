"""The project around the current folder, for commands: its locations, study and baselines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perfgate.config.project import Project
    from perfgate.judge.baseline_store import Store


def opened() -> Project:
    """Read the project, enter its models, and work in it from now on."""
    from perfgate.config.project import open_project  # `--help` must not wait for it

    return open_project(Path.cwd())


def judging_store(baselines: Path | None) -> Store:
    """The store to judge by: the one that was named, else the project's, with the shipped figures.

    Raises:
        BadProject: the store that was named is not there.
    """
    from perfgate.config.project import BadProject

    project = opened()
    if baselines is not None and not baselines.is_dir():
        raise BadProject(
            tried=f"judging by {baselines}",
            seen="there is no such folder",
            remedy="name the folder of a baseline store",
        )
    return project.store(baselines)


def own_store(baselines: Path | None) -> Store:
    """The store that accepted launches are written to."""
    from perfgate.judge.baseline_store import Store

    project = opened()
    return Store(baselines or project.locations.baselines)
