"""Collection: the project's perf tests are found wherever they lie, also in a virtual environment.

Pytest enters no virtual environment that it comes by, and drops an argument that lies
below another one. So the folders on the way to such tests are entered, and nothing
beside them is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

# A folder that pytest would pass by -> what to read in it.
_WAY = pytest.StashKey[dict[Path, Path]]()


class OnTheWay(pytest.Directory):
    """A folder of which nothing but the way to the tests is read."""

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        """The next folder, or the tests themselves."""
        below = self.config.stash[_WAY][self.path]
        if below.is_file():
            yield from self.ihook.pytest_collect_file(file_path=below, parent=self)
            return
        found = self.ihook.pytest_collect_directory(path=below, parent=self)
        if found is not None:
            yield found


def add_tests(config: pytest.Config, tests: Iterable[Path]) -> None:
    """Where no path was given, collect these too."""
    config.stash[_WAY] = {}
    if config.args_source is pytest.Config.ArgsSource.ARGS:
        return
    here = config.invocation_params.dir
    places = [here / arg.split("::")[0] for arg in config.args]
    for path in tests:
        above = [place for place in places if path.is_relative_to(place)]
        if not above:
            config.args.append(str(path))
        elif not any(_hidden(config, place, path) is None for place in above):
            config.stash[_WAY] |= _way(config, above[0], path)


def _way(config: pytest.Config, place: Path, path: Path) -> dict[Path, Path]:
    """From the first folder below a place that pytest would pass by, down to the tests."""
    hidden = _hidden(config, place, path)
    way: dict[Path, Path] = {}
    for below in (path, *path.parents):
        if hidden is None or below == hidden:
            return way
        way[below.parent] = below
    return way


def _hidden(config: pytest.Config, place: Path, path: Path) -> Path | None:
    """The outermost folder between a place and a path that pytest would not enter."""
    patterns = config.getini("norecursedirs")
    found = None
    for folder in path.parents:
        if folder == place:
            break
        is_environment = (folder / "pyvenv.cfg").is_file() or (
            folder / "conda-meta"
        ).is_dir()
        if is_environment or any(fnmatch(folder.name, pattern) for pattern in patterns):
            found = folder
    return found


@pytest.hookimpl(tryfirst=True)
def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Enter what lies on the way."""
    if collection_path in config.stash.get(_WAY, {}):
        return False
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collect_directory(
    path: Path, parent: pytest.Collector
) -> pytest.Collector | None:
    """Read nothing else on the way."""
    if path not in parent.config.stash.get(_WAY, {}):
        return None
    found: OnTheWay = OnTheWay.from_parent(parent, path=path)
    return found
