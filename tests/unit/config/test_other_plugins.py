"""Options of other plugins: refused with a word, whether installed or only known by name."""

import types

import pytest

from perfgate.config.option_values import BadOption
from perfgate.config.other_plugins import refuse_other_plugins, time_limit


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


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (config(), ""),
        (config(timeout=3.0), "--timeout=3"),
        (config({"timeout": "2.5"}, timeout=None), "--timeout=2.5"),
        (config(timeout=0), ""),
        (config({"timeout": "x"}), ""),
    ],
)
def test_a_time_limit_is_found(given, shown):
    """On the command line, or in the ini file."""
    assert shown == time_limit(given)
