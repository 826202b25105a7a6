"""Collection: find the project's perf tests anywhere, also inside a virtual environment.

Pytest does not enter virtual environments, and drops an argument below another one. So
this module enters the folders that lead to the perf tests, and reads nothing else in
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

# A folder that pytest would not enter -> the one path to read in it.
_ROUTE = pytest.StashKey[dict[Path, Path]]()


class RouteFolder(pytest.Directory):
    """A folder in which only the route to the perf tests is read."""

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        """Yield the next folder, or the tests themselves."""
        path = self.config.stash[_ROUTE][self.path]
        if path.is_file():
            yield from self.ihook.pytest_collect_file(
                file_path=path, parent=self
            )
            return
        folder = self.ihook.pytest_collect_directory(path=path, parent=self)
        if folder is not None:
            yield folder


def add_tests(config: pytest.Config, tests: Iterable[Path]) -> None:
    """Collect these paths too, unless paths were given."""
    config.stash[_ROUTE] = {}
    if config.args_source is pytest.Config.ArgsSource.ARGS:
        return
    folder = config.invocation_params.dir
    collected = [folder / argument.split("::")[0] for argument in config.args]
    for path in tests:
        parents = [
            parent for parent in collected if path.is_relative_to(parent)
        ]
        if not parents:
            config.args.append(str(path))
        elif all(_barrier(config, parent, path) for parent in parents):
            config.stash[_ROUTE] |= _route(config, parents[0], path)


def _route(config: pytest.Config, parent: Path, path: Path) -> dict[Path, Path]:
    """Each folder from the outermost barrier down to the tests -> the next path."""
    barrier = _barrier(config, parent, path)
    route: dict[Path, Path] = {}
    step = path
    while barrier is not None and step != barrier:
        route[step.parent] = step
        step = step.parent
    return route


def _barrier(config: pytest.Config, parent: Path, path: Path) -> Path | None:
    """The outermost folder between a folder and a path that pytest does not enter."""
    barrier = None
    for folder in path.parents:
        if folder == parent:
            break
        if _is_barrier(config, folder):
            barrier = folder
    return barrier


def _is_barrier(config: pytest.Config, folder: Path) -> bool:
    """Whether pytest does not enter it: a virtual environment, or in norecursedirs."""
    if (folder / "pyvenv.cfg").is_file():
        return True
    if (folder / "conda-meta").is_dir():
        return True
    patterns = config.getini("norecursedirs")
    return any(fnmatch(folder.name, pattern) for pattern in patterns)


@pytest.hookimpl(tryfirst=True)
def pytest_ignore_collect(
    collection_path: Path, config: pytest.Config
) -> bool | None:
    """Enter the folders on the route."""
    if collection_path in config.stash.get(_ROUTE, {}):
        return False
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collect_directory(
    path: Path, parent: pytest.Collector
) -> pytest.Collector | None:
    """Collect only the route in a folder on the route."""
    if path not in parent.config.stash.get(_ROUTE, {}):
        return None
    folder: RouteFolder = RouteFolder.from_parent(parent, path=path)
    return folder
