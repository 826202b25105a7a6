"""Baselines recorded again from stored runs: today's cases, and no launch lost."""

from pathlib import Path

import pytest

from perfgate import formatting
from perfgate.judge.baseline_store import Store
from perfgate.results import schema
from tests.support.studies import SHIPPED
from tools import record_stored_runs as tool

RUNS = Path(__file__).resolve().parents[3] / "docs" / "runs"
SERVER = "vllm-llama-3.1-8b-tp1"


def launches(folder, workload, metric):
    """The run of each launch that the store has of a metric."""
    store = Store(folder)
    path = folder / "h100x1" / SERVER / f"{workload}.json"
    return [row.run for row in store.file(path).metrics[metric].launches]


@pytest.fixture
def record(tmp_path):
    """Records stored runs into an empty store; its folder."""

    def run(*names):
        for name in names:
            tool.main([str(RUNS / name), "--baselines", str(tmp_path)])
        return tmp_path

    return run


def test_cases_that_came_later_are_recorded(record):
    """The run of 2026-11-24 did not list the mean ITL; its repetitions have it."""
    stored = schema.load(RUNS / "h100x1-20261124a")
    folder = record("h100x1-20261124a")

    assert "itl_mean_ms" not in {case.metric for case in stored.cases}
    assert [stored.run_id] == launches(folder, "single-stream", "itl_mean_ms")
    assert [stored.run_id] == launches(folder, "launch", "ready_s")


def test_recorded_launches_stay(record):
    """A second run adds its launch, and recording it once more changes nothing."""
    folder = record("h100x1-20261124a", "h100x1-20261124b")
    first = launches(folder, "single-stream", "itl_mean_ms")
    record("h100x1-20261124b")

    assert 2 == len(first)
    assert first == launches(folder, "single-stream", "itl_mean_ms")


def test_only_the_candidate_of_pairs_is_recorded():
    """The base build is another Python; its launches are no launches of the server."""
    run = schema.load(RUNS / "h100x1-pairs" / "unchanged")

    alone = tool.one_build(run)

    assert {SERVER} == {launch.server for launch in alone.launches}
    assert ("sequential", 3) == (alone.mode, len(alone.launches))
    assert {SERVER} == {row.server for row in alone.measurements}


def test_base_build_of_pairs_is_recorded_by_option():
    """As launches of the plain server, where the base is the build of the baselines."""
    run = schema.load(RUNS / "h100x1-pairs" / "unchanged")

    alone = tool.one_build(run, "base")

    assert {SERVER} == alone.servers.keys()
    assert {SERVER} == {launch.server for launch in alone.launches}
    assert "" == alone.servers[SERVER].config.build


def test_gates_and_floors_follow_the_policy(record):
    """What is not today's policy is written again, and the launches stay."""
    folder = record("h100x1-20261124a")
    path = folder / "h100x1" / SERVER / "launch.json"
    text = path.read_text()
    floor = '"floor": 100.0'
    path.write_text(text.replace(floor, '"floor": 0.0'))

    lines = list(tool.renew_policy(Store(folder), SHIPPED))

    metrics = formatting.count(text.count(floor), "metric")
    assert [f"h100x1: {metrics} written again"] == lines
    assert text == path.read_text()
