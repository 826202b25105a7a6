"""Loads the plugin, and keeps what takes minutes out of a run unless it is named.

In an installed checkout the plugin is found by its entry point, which has the same
name.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

# An installed checkout has loaded it by its entry point, also where pytest runs
# elsewhere.
if "perfgate.plugin" not in sys.modules:
    pytest_plugins = ["perfgate.plugin"]


def _study_fixtures() -> ModuleType:
    """The study's fixtures, by path: a package called "fixtures" is somebody else's on PyPI."""
    path = Path(__file__).parent / "fixtures" / "servers.py"
    spec = importlib.util.spec_from_file_location("perfgate_study_fixtures", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


dense_server = _study_fixtures().dense_server
moe_server = _study_fixtures().moe_server

# Selected only when named in -m.
ON_REQUEST = ("engine", "slow")
UNIT = Path(__file__).parent / "tests" / "unit"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the unit tests unread when only perf tests are selected: that halves the time."""
    if collection_path != UNIT or not _names_platforms_alone(config):
        return None
    named = [config.invocation_params.dir / arg.split("::")[0] for arg in config.args]
    if any(path.is_relative_to(UNIT) for path in named):
        return None
    return True


def _names_platforms_alone(config: pytest.Config) -> bool:
    """Whether -m names platforms and nothing else."""
    from perfgate.fixtures import SESSION

    session = config.stash.get(SESSION, None)
    if session is None or not session.requested:
        return False
    return session.words <= set(session.study.platforms)


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Deselect tests that take minutes, unless -m names their mark."""
    expression = config.option.markexpr or ""
    kept, left_out = [], []
    for item in items:
        marks = [mark for mark in ON_REQUEST if item.get_closest_marker(mark)]
        if all(mark in expression for mark in marks):
            kept.append(item)
        else:
            left_out.append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    items[:] = kept
