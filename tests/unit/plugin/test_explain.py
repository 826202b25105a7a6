"""What is red is launched once more under the profiler, base and candidate; nothing else is.

Whole runs of pytest in a project of their own, with the fake engine in place of
a real one.
"""

from __future__ import annotations

import sys

import pytest

from perfgate.results.schema import load
from tests.support.projects import perfgate, record

pytest_plugins = ["pytester"]
RUN = ("-m", "cpu", "-k", "test_output_throughput and llama and not mixtral")
AGAINST = ("--against-engine", f"fake={sys.executable}")
SLOWED = ("--inject-delay", "llama-small=1")


@pytest.fixture
def run(project, pytester, monkeypatch):
    """A run of the dense model with an engine that has a profiler; returns output and data."""
    monkeypatch.setenv("FAKE_PROFILER", "1")

    def started(*arguments):
        ended = project(*RUN, "--run-dir", "mine", *arguments)
        return ended.stdout.str(), load(pytester.path / "mine")

    return started


def test_red_pairs_are_profiled(run, pytester):
    """Kernels are named with their share of the loss, the traces are kept, no launch is added.

    `perfgate judge` says the same, and a resumed run profiles nothing twice.
    """
    text, results = run(*AGAINST, *SLOWED)

    (profile,) = results.profiles
    assert ("fake-llama-small-tp2", "decode", 2) == (
        profile.server,
        profile.phase,
        profile.ranks,
    )
    assert ["moe"] == [row.name for row in profile.slower]
    assert pytest.approx(1.0, rel=0.01) == profile.explained
    assert 6 == len(results.launches)
    for path in profile.traces:
        assert (pytester.path / "mine" / path).is_file()
    assert "100 % of the +1 ms" in text
    assert "moe: +1 ms" in text
    judged = perfgate(pytester, "judge", "mine").stdout.str()
    assert "100 % of the +1 ms" in judged

    text, again = run(*AGAINST, *SLOWED, "--resume")
    assert results.profiles == again.profiles
    assert "under the profiler" not in text.partition("CAUSE")[0]


def test_without_a_base_build_the_injection_is_left_out(
    project, pytester, monkeypatch
):
    """With --explain, of a server that its baseline judges."""
    monkeypatch.setenv("FAKE_PROFILER", "1")
    record(project, pytester, *RUN)
    slowed = ("--launches", "2", "--inject-delay", "llama-small=3")

    project(*RUN, "--run-dir", "silent", *slowed)
    project(*RUN, "--run-dir", "mine", *slowed, "--explain")

    assert () == load(pytester.path / "silent").profiles
    (profile,) = load(pytester.path / "mine").profiles
    assert "the server without the injection" == profile.base
    assert ["moe"] == [row.name for row in profile.slower]
    assert pytest.approx(1.0, rel=0.01) == profile.explained


def test_what_passes_is_not_profiled(run):
    """Nor what is red, with --no-explain."""
    _, same = run(*AGAINST)
    assert () == same.profiles


def test_no_explain_launches_nothing_more(run):
    """Even where a base build is named."""
    text, results = run(*AGAINST, *SLOWED, "--no-explain")

    assert "CAUSE" in text
    assert () == results.profiles


def test_an_engine_without_a_profiler_is_told(run, monkeypatch):
    """The verdict stands."""
    monkeypatch.delenv("FAKE_PROFILER")

    text, results = run(*AGAINST, *SLOWED)

    assert () == results.profiles
    assert {"fake-llama-small-tp2"} == results.unexplained.keys()
    assert "could not be profiled: fake has no profiler" in text


def test_the_options_exclude_each_other(project):
    """With what to do."""
    ended = project(*RUN, "--explain", "--no-explain")

    ended.stderr.fnmatch_lines(["*--explain with --no-explain*"])
