"""Options of other plugins: refused with a word, whether installed or only known by name."""

import types

import pytest

from perfgate.config.option_values import BadOption
from perfgate.config.other_plugins import (
    refuse_other_plugins,
    time_limit,
    worker_count,
)


def config(ini=(), **options):
    """A pytest config with these options, and these values of the ini file."""
    values = dict(ini)

    def getini(name):
        if name not in values:
            raise ValueError(f"unknown configuration value: {name!r}")
        return values[name]

    return types.SimpleNamespace(
        option=types.SimpleNamespace(**options), getini=getini
    )


@pytest.mark.parametrize(
    ("given", "option"),
    [
        (config(reruns=2), "--reruns"),
        (config({"reruns": "2"}, reruns=None), "--reruns"),
        (config(retries=1), "--retries"),
        (config(force_flaky=True), "--force-flaky"),
        (config(count=3), "--count"),
        (config(forked=True), "--forked"),
        (config(tx=["2*popen"], numprocesses=None), "--tx"),
        (config(tx=["popen", "popen"]), "--tx"),
    ],
)
def test_what_repeats_forks_or_spreads_tests_is_refused(given, option):
    """With the option's name and what to do."""
    with pytest.raises(BadOption) as caught:
        refuse_other_plugins(given)

    assert option in caught.value.tried
    assert option in caught.value.remedy


@pytest.mark.parametrize(
    "given",
    [
        config(),
        config(reruns=0, count=1, forked=False, retries=None, tx=[]),
        config({"reruns": "", "retries": "none"}, reruns=None),
        config(tx=["popen", "popen"], numprocesses=2),
    ],
)
def test_their_defaults_and_counted_workers_are_not(given):
    """A plugin may be installed and idle."""
    refuse_other_plugins(given)


def test_a_worker_is_told_by_its_controller():
    """It has the options of the whole session."""
    given = config(tx=["popen"])
    given.workerinput = {}

    refuse_other_plugins(given)


MARKERS = {
    "markers": ["perf: a perf test", "timeout(s): the limit of one test"]
}


@pytest.mark.parametrize(
    ("given", "variable", "shown"),
    [
        (config(MARKERS), None, ""),
        (config(MARKERS, timeout=3.0), None, "--timeout=3"),
        (
            config(MARKERS | {"timeout": "2.5"}, timeout=None),
            None,
            "--timeout=2.5",
        ),
        (config(MARKERS, timeout=0), None, ""),
        (config(MARKERS | {"timeout": "x"}), None, ""),
        (config(MARKERS | {"timeout": "9"}), "7", "PYTEST_TIMEOUT=7"),
        (config(MARKERS | {"timeout": "9"}), "0", ""),
        (config(MARKERS, timeout=3.0), "7", "--timeout=3"),
        # An option of a conftest.py.
        (config({"markers": []}, timeout=3.0), "7", ""),
    ],
)
def test_a_time_limit_is_found(monkeypatch, given, variable, shown):
    """On the command line, else in the variable, else in the ini file."""
    monkeypatch.delenv("PYTEST_TIMEOUT", raising=False)
    if variable is not None:
        monkeypatch.setenv("PYTEST_TIMEOUT", variable)

    assert shown == time_limit(given)


def test_no_more_workers_count_than_there_are():
    """As with -n auto --maxprocesses 2 on a host of many cores."""
    assert 0 == worker_count(config().option)
    assert 8 == worker_count(config(numprocesses=8, maxprocesses=None).option)
    assert 2 == worker_count(config(numprocesses=8, maxprocesses=2).option)
    assert 1 == worker_count(config(numprocesses=1, maxprocesses=2).option)
