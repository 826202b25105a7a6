"""Phases: parts of a loss, which add up to the whole."""

import statistics
from pathlib import Path

import pytest

from perfgate.judge.baseline_store import Store
from perfgate.judge.causes.phases import split
from perfgate.judge.observation import RunReader
from perfgate.results.schema import load

ROOT = Path(__file__).resolve().parents[4]
RUNS = ROOT / "docs" / "runs"


def splits_of(name):
    """The split of each load of a stored run."""
    reader = RunReader(load(RUNS / name))
    store = Store(ROOT / "baselines")
    found = {}
    for case in reader.results.cases:
        if case.is_ratio or case.numerator.workload is None:
            continue
        part = split(reader, case, store)
        if part is not None:
            found[part.load] = part
    return found


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (
            "h100x1-pairs/delay",
            ["queue", "prefill", "decode", "front end", "client"],
        ),
        ("h200x1-planted/moe/01", ["queue and prefill", "decode"]),
    ],
)
def test_parts_add_up_to_the_loss(name, parts):
    """With the engine's histograms of a base build, and by the gaps of a baseline."""
    splits = splits_of(name)

    assert splits
    for row in splits.values():
        assert parts == [share.name for share in row.shares]
        total = sum(share.ms for share in row.shares)
        assert total == pytest.approx(row.now_ms - row.before_ms)


def test_capped_batch_waits():
    """The loss stands before the first token; decoding is faster."""
    queue, decode = splits_of("h200x1-planted/seqs/01")["closed-c32"].shares

    assert queue.ms > 0 > decode.ms


def test_lost_graphs_cost_every_step():
    """Nearly all of the loss is decoding."""
    row = splits_of("h200x1-planted/eager/01")["single-stream"]
    _, decode = row.shares

    assert decode.ms > 0.9 * (row.now_ms - row.before_ms)


@pytest.mark.parametrize(
    "name", ["h100x1-pairs/delay", "h200x1-planted/moe/01"]
)
def test_the_parts_are_of_what_the_client_waited(name):
    """The mean latency of all repetitions that count."""
    splits = splits_of(name)
    results = load(RUNS / name)

    for found in splits.values():
        latencies = []
        for row in results.measurements:
            if (row.server, row.workload) == (found.server, found.load):
                for repetition in row.repetitions:
                    if not repetition.invalid:
                        latencies.append(repetition.values["e2el_mean_ms"])
        assert statistics.fmean(latencies) == pytest.approx(found.now_ms)
