"""Altered runs: nothing altered changes nothing, and a loss shows where it would."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from benchmarks.altered_runs import (
    Change,
    Pause,
    alter_requests,
    paused,
    rebuild,
)
from perfgate.cases import Load
from tests.support import builders as m
from tests.support.even_requests import (
    CLOSED,
    ITL_MS,
    OPEN,
    REQUEST_MS,
    TTFT_MS,
    repetition,
    sendings,
)

NOTHING = Change()
# A server on GPUs, whose stalls are those of one.
SERVER = m.MOE


def rebuilt(workload, change, attempt=0):
    """A repetition after that change."""
    load = Load(server=SERVER, workload=workload)
    return rebuild(repetition(workload), load, m.hardware(), change, attempt)


def run(workload=CLOSED, repetitions=3):
    """A run of so many repetitions of one load."""
    rows = [repetition(workload, index) for index in range(repetitions)]
    load = Load(server=SERVER, workload=workload)
    results = m.run({load: {"output_throughput": [1.0]}}, ())
    measured = msgspec.structs.replace(
        results.measurements[0], repetitions=tuple(rows)
    )
    return msgspec.structs.replace(results, measurements=(measured,))


def slower(times):
    """Everything takes twice as long."""
    return 2 * times.ttft_ms, 2 * times.gaps_ms


@pytest.mark.parametrize("workload", [CLOSED, OPEN])
def test_nothing_altered_changes_nothing(workload):
    """Metrics, requests and duration come back, and what no request tells stays."""
    stored = repetition(workload)

    again = rebuilt(workload, NOTHING)

    assert stored.values == pytest.approx(again.values, rel=1e-6)
    assert stored.requests == again.requests
    assert pytest.approx(stored.duration_s) == again.duration_s
    assert () == again.invalid


def test_a_closed_loop_sends_when_a_slot_is_free():
    """Where requests take longer, the next ones leave later, and the run takes longer."""
    again = rebuilt(CLOSED, Change(slower))

    fifth = again.requests[4]
    assert pytest.approx(2 * REQUEST_MS + 1) == fifth.sent_ms
    assert pytest.approx(2 * TTFT_MS) == fifth.ttft_ms
    stored = repetition(CLOSED).values["output_throughput"]
    assert pytest.approx(0.5, rel=0.01) == (
        again.values["output_throughput"] / stored
    )


def test_an_open_loop_sends_as_before():
    """At a rate requests leave when they are due, however slow the server is."""
    again = rebuilt(OPEN, Change(slower))

    assert pytest.approx(sendings(OPEN)) == [
        row.sent_ms for row in again.requests
    ]
    assert pytest.approx(2 * ITL_MS) == again.values["itl_median_ms"]


def test_bandwidth_and_throughput_for_memory_follow():
    """What the suite works out of other metrics follows from the new ones."""
    stored = repetition(CLOSED)
    values = stored.values | {
        "output_throughput_per_gb": 10.0,
        "decode_bandwidth_gb_s": 1.0,
    }
    stored = msgspec.structs.replace(stored, values=values)
    load = Load(server=SERVER, workload=CLOSED)
    same = rebuild(stored, load, m.hardware(), NOTHING).values

    slow = rebuild(stored, load, m.hardware(), Change(slower)).values

    for name in ("output_throughput_per_gb", "decode_bandwidth_gb_s"):
        assert pytest.approx(0.5, rel=0.01) == slow[name] / same[name]


def test_a_pause_stops_every_stream():
    """Chunks of a request in flight come later; those of one sent after it do not."""
    pause = Pause(start_ms=100.0, length_ms=50.0)
    chunks_ms = np.array([90.0, 100.0, 110.0])
    late_ms = np.array([170.0, 180.0])

    assert [90.0, 150.0, 160.0] == paused(chunks_ms, 80.0, pause).tolist()
    assert [190.0] == paused(np.array([150.0]), 110.0, pause).tolist()
    assert late_ms.tolist() == paused(late_ms, 160.0, pause).tolist()


def test_an_invalid_repetition_is_measured_again():
    """A stall makes it invalid by the client's own rule; another one replaces it."""

    def pause(attempt, duration_ms):
        if attempt % 2:
            return None
        return Pause(duration_ms / 2, 1400.0)

    altered = alter_requests(run(), lambda _load: Change(pause=pause))

    repetitions = altered.measurements[0].repetitions
    validity = [not row.invalid for row in repetitions]
    assert [False, True, False, True, False, True] == validity
    assert "fell silent at once for" in repetitions[0].invalid[0]
    assert list(range(6)) == [row.index for row in repetitions]


def test_replacements_are_bounded():
    """Where every repetition stalls, four replacements are made and no more."""

    def pause(_attempt, duration_ms):
        return Pause(duration_ms / 2, 1400.0)

    altered = alter_requests(run(), lambda _load: Change(pause=pause))

    assert 3 + 4 == len(altered.measurements[0].repetitions)


def test_other_loads_stay():
    """A load without a change, or without requests, is as it was stored."""
    stored = run()
    bare = m.run({m.MOE_LOAD: {"output_throughput": [1.0]}}, ())

    same = alter_requests(stored, lambda _load: None)
    without = alter_requests(bare, lambda _load: NOTHING)

    assert stored.measurements == same.measurements
    assert bare.measurements == without.measurements
