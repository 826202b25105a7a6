"""Order of tests for several workers: whole sessions first, as many for each.

`pytest -n 4 --dist worksteal` gives each worker a run of neighbours, and lets who has done
its own take from the end of another's. Long tests among those would be waited for.
"""

from __future__ import annotations

import pytest

from tests.support.projects import ROOT

UNIT = ROOT / "tests" / "unit"
# Whole sessions of pytest, and servers that are waited for.
LONG = {UNIT / "plugin", UNIT / "servers"}
# Fixtures and modules of which each worker that needs them makes its own, slowly.
SHARED_FIXTURES = ("installed", "wheel")
SHARED_MODULES = ("test_goldens.py",)


def dealt(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """The tests in an order in which each worker begins with its share of long ones."""
    groups: dict[object, list[pytest.Item]] = {}
    others = []
    for item in items:
        if LONG & set(item.path.parents):
            groups.setdefault(_group(item), []).append(item)
        else:
            others.append(item)
    shares: list[list[pytest.Item]] = [[] for _ in range(workers)]
    for group in sorted(groups.values(), key=len, reverse=True):
        min(shares, key=len).extend(group)
    ordered: list[pytest.Item] = []
    for number, share in enumerate(shares):
        size = (len(items) - len(ordered)) // (workers - number)
        count = max(0, size - len(share))
        ordered += share + others[:count]
        del others[:count]
    return ordered + others


def _group(item: pytest.Item) -> object:
    """What the tests share that one worker should run."""
    for name in SHARED_FIXTURES:
        if name in getattr(item, "fixturenames", ()):
            return SHARED_FIXTURES
    if item.path.name in SHARED_MODULES:
        return item.path
    return item.nodeid
