"""Conftest: loads the plugin, and deselects tests of minutes unless -m names their mark.

An installed checkout loads the plugin by its entry point, which has the same name.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

# An installed checkout has loaded it, also where pytest runs elsewhere.
if "perfgate.plugin" not in sys.modules:
    pytest_plugins = ["perfgate.plugin"]


def _study_fixtures() -> ModuleType:
    """The study's fixtures, loaded by path: PyPI has another package named "fixtures"."""
    path = Path(__file__).parent / "fixtures" / "servers.py"
    spec = importlib.util.spec_from_file_location(
        "perfgate_study_fixtures", path
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


dense_server = _study_fixtures().dense_server
moe_server = _study_fixtures().moe_server

# Selected only when named in -m.
ON_REQUEST = ("engine", "slow")
UNIT = Path(__file__).parent / "tests" / "unit"


def pytest_ignore_collect(
    collection_path: Path, config: pytest.Config
) -> bool | None:
    """Do not read the unit tests when only perf tests are selected: it halves the time."""
    if collection_path != UNIT or not _selects_only_platforms(config):
        return None
    for argument in config.args:
        path = config.invocation_params.dir / argument.split("::")[0]
        if path.is_relative_to(UNIT):
            return None
    return True


def _selects_only_platforms(config: pytest.Config) -> bool:
    """Whether -m names platforms and nothing else."""
    from perfgate.fixtures import SESSION

    perf = config.stash.get(SESSION, None)
    if perf is None or not perf.platforms:
        return False
    return perf.config.markers <= set(perf.study.platforms)


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Deselect tests that take minutes, unless -m names their mark."""
    expression = config.getoption("markexpr") or ""
    kept, deselected = [], []
    for item in items:
        marks = [mark for mark in ON_REQUEST if item.get_closest_marker(mark)]
        if all(mark in expression for mark in marks):
            kept.append(item)
        else:
            deselected.append(item)
    if deselected:
        config.hook.pytest_deselected(items=deselected)
    items[:] = kept
