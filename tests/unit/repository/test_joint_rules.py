"""Benchmark of the rows together: nothing is judged against itself; losses are what they say."""

import math

import msgspec
import pytest

from benchmarks import joint_rules
from perfgate.judge.baseline_store import Store
from tests.support import builders as m
from tests.support import joint_runs as runs

UNCHANGED = [0.0, 0.001, 0.0, -0.001]


@pytest.fixture
def store(tmp_path):
    """Three recorded sessions of two servers."""
    recorded = []
    for day in (1, 2, 3):
        losses = {m.DENSE: UNCHANGED, m.MOE: UNCHANGED}
        recorded.append(runs.run(losses, day=day))
    return runs.store_of(tmp_path, *recorded)


def test_a_session_is_left_out_of_its_own_store(store):
    """Of every file, and others are left."""
    sessions = joint_rules.sessions_of(Store(store.root))
    run = sorted(sessions)[0]
    partial = joint_rules.PartialStore(store.root, frozenset([run]))

    assert 3 == len(sessions)
    assert set(sessions) - {run} == set(joint_rules.sessions_of(partial))


def test_one_session_alone_is_judged_against(store):
    """Whatever else was recorded."""
    run = sorted(joint_rules.sessions_of(store))[0]
    partial = joint_rules.PartialStore(
        store.root, frozenset(), frozenset([run])
    )

    assert {run} == set(joint_rules.sessions_of(partial))


def test_every_session_is_judged_once(store):
    """Two servers and the session for each of three runs; none is red."""
    counts = joint_rules.recorded_sessions(store.root)

    judged = {check: count.judged for (_, check), count in counts.items()}
    assert 6 == judged["decode_speed, server"]
    assert 3 == judged["decode_speed, session"]
    assert 0 == sum(count.red for count in counts.values())
    assert "| gpu | decode speed, server | 6 | 0 |" in (
        joint_rules.sessions_table(counts)
    )


def test_a_loss_makes_rates_fall_and_times_grow():
    """By the same fraction."""
    load = m.MOE_LOAD
    values = {"itl_median_ms": [10.0], "output_throughput": [100.0]}
    results = m.run({load: values}, [m.ITL])

    worse = joint_rules.worsened(results, 0.05)

    repetition = worse.measurements[0].repetitions[1]
    assert 10.5 == pytest.approx(repetition.values["itl_median_ms"])
    assert 95.0 == pytest.approx(repetition.values["output_throughput"])


def test_power_is_counted_by_rows_and_together(store, monkeypatch):
    """A stored run with losses, against each other session of its machine."""
    losses = {m.DENSE: UNCHANGED, m.MOE: UNCHANGED}
    current = runs.run(losses, day=1)
    monkeypatch.setattr(
        joint_rules, "unchanged_runs", lambda _: {"one": current}
    )

    cells = list(joint_rules.power(store.root, store.root))

    # Two servers, three losses: against both other sessions, and against each.
    assert 2 * 3 * 3 == len(cells)
    assert {"all others", "one session"} == {cell.recorded for cell in cells}
    unchanged = [cell for cell in cells if not cell.loss]
    five = [cell for cell in cells if cell.loss == 0.05]
    assert {(4, 0, False)} == {
        (cell.rows, cell.red_rows, cell.is_red) for cell in unchanged
    }
    assert {True} == {cell.is_red for cell in five}
    table = joint_rules.power_table(cells)
    assert "| one session | decode speed | all | 4 | 0 |" in table


def test_runs_with_injection_are_left_out(tmp_path):
    """And pairs, which have a base build."""
    results = runs.run({m.DENSE: UNCHANGED}, day=1)
    injected = runs.run({m.DENSE: UNCHANGED}, day=2, injected={"delay": 1.0})
    paired = msgspec.structs.replace(
        runs.run({m.DENSE: UNCHANGED}, day=3), mode="paired"
    )
    for run in (results, injected, paired):
        joint_rules.rundata.save(run, tmp_path / run.run_id)

    assert [results.run_id] == list(joint_rules.unchanged_runs(tmp_path))


def test_simulated_rates_are_near_what_is_stated():
    """At 1 %, of few runs; half of the variance shared, as the gate takes it."""
    rates = joint_rules.simulated(2000)

    for rate in rates:
        if rate.stated == 0.01 and "50 % shared" in rate.situation:
            deviation = math.sqrt(0.01 * 0.99 / 2000)
            assert abs(rate.measured - 0.01) < 4 * deviation
    assert "| server, 1 recorded, 50 % shared |" in (
        joint_rules.rates_table(rates)
    )


def test_a_table_of_stored_runs_names_those_with_rows(store):
    """Rows, servers, verdicts."""
    current = runs.run({m.DENSE: [0.05] * 4}, day=9)
    found = joint_rules.judged(current, store)

    table = joint_rules.runs_table([("one", found)])

    assert "| one | 4 |" in table
