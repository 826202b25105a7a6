"""--prepare-next: the next server imports its engine while one starts.

Whole runs of pytest with the fake engine, started as a module as real engines are.
"""

from __future__ import annotations

import sys

import pytest

from perfgate.results.schema import load
from tests.support.projects import DENSE, H200, MOE, record

pytest_plugins = ["pytester"]
EARLY = {"imports": "made before the start"}
# Notes when the weights of the sparse model were found, or fails to find them.
WEIGHTS = """
import os, time
from pathlib import Path
from perfgate.models import weights
from perfgate.models.checkpoint import MissingWeights

locate = weights.locate

def noted(model, *rest):
    found = locate(model, *rest)
    if model.name == "mixtral-8x7b":
        with Path("found.txt").open("a") as file:
            print(time.time(), file=file)
        if "NO_MIXTRAL" in os.environ:
            raise MissingWeights("finding", "not here", "download them")
    return found

weights.locate = noted
"""


@pytest.fixture
def session(gpus, pytester, monkeypatch):
    """A session of one test; returns its launches."""
    monkeypatch.setenv("FAKE_AS_MODULE", "1")

    def run(*options):
        gpus(*H200, "-k", "test_closed", "--run-dir", "run", *options)
        return load(pytester.path / "run").launches

    return run


def test_every_server_but_the_first_is_prepared(session, pytester):
    """Each is launched once, and leaves one log."""
    launches = session("--prepare-next", "yes")

    assert {DENSE, MOE} == {launch.server for launch in launches}
    assert [{}, EARLY] == [launch.facts for launch in launches]
    assert all(launch.measured for launch in launches)
    logs = sorted((pytester.path / "run" / "logs").iterdir())
    assert sorted(launch.start.log for launch in launches) == list(
        map(str, logs)
    )


def test_weights_are_found_before_a_start_is_timed(session, pytester):
    """An engine may take half a minute to list what is checked: no start counts it."""
    (pytester.path / "noting.py").write_text(WEIGHTS)

    launches = session("--prepare-next", "yes", "-p", "noting")

    (found_s,) = map(float, (pytester.path / "found.txt").read_text().split())
    assert [{}, EARLY] == [launch.facts for launch in launches]
    assert found_s < min(launch.start.started_unix_s for launch in launches)


def test_weights_that_are_missing_are_told_in_their_turn(
    session, pytester, monkeypatch
):
    """The server before is measured, and is not held up while it starts."""
    (pytester.path / "noting.py").write_text(WEIGHTS)
    monkeypatch.setenv("NO_MIXTRAL", "1")

    (launch,) = session("--prepare-next", "yes", "-p", "noting")

    first, *_ = map(float, (pytester.path / "found.txt").read_text().split())
    assert (DENSE, True) == (launch.server, launch.measured)
    assert first < launch.start.started_unix_s
    failures = load(pytester.path / "run").failures
    assert "not here" == failures[MOE].seen


def test_further_launches_are_prepared(session):
    """Those of the schedule: with two of each server, three of four."""
    launches = session("--prepare-next", "yes", "--launches", "2")

    assert [{}, EARLY, EARLY, EARLY] == [launch.facts for launch in launches]
    assert [0, 1, 0, 1] == [launch.index for launch in launches]


def test_an_engine_that_was_not_measured_so_is_not_prepared(session):
    """By default."""
    launches = session()

    assert [{}, {}] == [launch.facts for launch in launches]


def test_a_resumed_run_prepares_what_is_missing(session, pytester):
    """A server that was measured whole is not prepared again."""
    session("--prepare-next", "yes")

    launches = session("--prepare-next", "yes", "--resume")

    assert [{}, EARLY] == [launch.facts for launch in launches]
    assert 2 == len(list((pytester.path / "run" / "logs").iterdir()))


def test_launches_of_a_verdict_that_needs_more_are_prepared(
    project, pytester, monkeypatch
):
    """After the first of them: before it nobody knew."""
    selection = ("-m", "cpu", "-k", "test_reference_over_model_throughput")
    monkeypatch.setenv("FAKE_AS_MODULE", "1")
    record(project, pytester, *selection)
    monkeypatch.setenv("FAKE_MISBEHAVIOUR", "mixtral-small: --set itl_s=0.02")

    project(*selection, "--run-dir", "run", "--prepare-next", "yes")

    results = load(pytester.path / "run")
    assert ["REGRESSED"] == [row.outcome for row in results.verdicts]
    facts = [launch.facts for launch in results.launches]
    # Two first launches, and two further ones of each server.
    assert [{}, EARLY, {}, EARLY, EARLY, EARLY] == facts


def test_builds_in_turn_are_prepared(project, pytester, monkeypatch):
    """The next one of the pairs, whichever build it is; their order is that of the launches."""
    monkeypatch.setenv("FAKE_AS_MODULE", "1")
    selection = ("-m", "cpu", "-k", "test_output_throughput and llama")
    against = ("--against-engine", f"fake={sys.executable}")

    project(*selection, *against, "--run-dir", "run", "--prepare-next", "yes")

    launches = sorted(
        load(pytester.path / "run").launches,
        key=lambda launch: launch.start.started_unix_s,
    )
    assert [{}, *[EARLY] * 5] == [launch.facts for launch in launches]
    builds = [launch.server.endswith("-base") for launch in launches]
    assert [True, False, False, True, True, False] == builds
