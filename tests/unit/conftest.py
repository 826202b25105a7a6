"""Unit tests must hold on a machine whose cores are all taken by others."""

import importlib
import os

import pytest
from hypothesis import HealthCheck, settings

from perfgate import locations
from perfgate.load import metrics
from perfgate.models import catalogue
from tests.support import fake_suite, studies, warm
from tests.support.dealing import dealt
from tests.support.projects import (
    CONFTEST,
    GPU_QUESTIONS,
    PROJECT_FILE,
    ROOT,
    run_warm,
)

BUILT_IN_METRICS = dict(metrics.METRICS)

# Other work may take the machine in the middle of an example.
settings.register_profile(
    "shared machine",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
# What decides whether a change lands: the same examples for everybody, each time.
settings.register_profile(
    "same examples",
    parent=settings.get_profile("shared machine"),
    derandomize=True,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "shared machine"))


@pytest.fixture(autouse=True, scope="session")
def libraries_that_load_once():
    """Pytester forgets what was imported during a test, and numpy cannot be loaded twice.

    Here and not at the top, for collecting tests must not wait for them.
    """
    for name in (
        "numpy.fft",
        "scipy.special",
        "scipy.stats",
        "matplotlib.figure",
        "uvloop",
    ):
        importlib.import_module(name)


@pytest.fixture(autouse=True)
def the_checkout():
    """Each test works in this checkout's project, whatever an earlier one has opened or loaded."""
    locations.use(None)
    catalogue.CATALOGUE.clear()
    catalogue.register(studies.SHIPPED.models.values())
    metrics.METRICS.clear()
    metrics.METRICS.update(BUILT_IN_METRICS)
    metrics.CUSTOM.clear()


@pytest.fixture(autouse=True, scope="session")
def warm_process_ends():
    """The process that sessions are forked from ends with the tests."""
    yield
    warm.end_shared()


@pytest.fixture
def project(pytester, monkeypatch):
    """A project with the suite's own perf tests, and a way to run pytest with the fake engine."""
    monkeypatch.delenv("PERFGATE_GATE", raising=False)
    monkeypatch.delenv("CI", raising=False)
    # Pytest is started a hundred times: without other plugins, and keeping what
    # was compiled.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    # A lease of its own, or tests that run side by side would wait for each other.
    monkeypatch.setenv("PERFGATE_LEASES_DIR", str(pytester.path / "leases"))
    pytester.makeconftest(CONFTEST)
    (pytester.path / "pytest.ini").write_text((ROOT / "pytest.ini").read_text())
    (pytester.path / "perfgate.toml").write_text(PROJECT_FILE)
    perf = pytester.path / "tests" / "perf"
    perf.mkdir(parents=True)
    for file in (ROOT / "tests" / "perf").glob("test_*.py"):
        (perf / file.name).write_text(file.read_text())
    (pytester.path / "tests" / "test_unit.py").write_text(
        "def test_unit(): pass\n"
    )
    options = fake_suite.options(pytester.path / "models")
    plain = ("-p", "no:cacheprovider")
    return lambda *args: run_warm(pytester, "pytest", *plain, *options, *args)


@pytest.fixture
def gpus(project, pytester, monkeypatch):
    """A project of three questions on one H200."""
    for file in (pytester.path / "tests" / "perf").iterdir():
        file.unlink()
    (pytester.path / "tests" / "perf" / "test_small.py").write_text(
        GPU_QUESTIONS
    )
    monkeypatch.setenv("FAKE_GPUS", "1")
    return project


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Deal whole sessions to all workers first: they take what is short from each other."""
    workers = getattr(config, "workerinput", {}).get("workercount")
    if workers:
        items[:] = dealt(items, workers)
