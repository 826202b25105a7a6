"""Joint rows: which rows count, and what they are compared with."""

import math

import msgspec
import pytest

from perfgate.judge.baseline_schema import Known
from perfgate.judge.gate import judge_run
from perfgate.judge.joint_rows import servers_of
from perfgate.judge.noise import MACHINE_SHARE
from perfgate.judge.observation import RunReader
from perfgate.judge.verdict import Outcome
from perfgate.report.verdict_text import render_group
from tests.support import builders as m
from tests.support import joint_runs as runs

UNCHANGED = [0.0, 0.0, 0.0, 0.0]


def servers(results, store, **changes):
    """The servers of a run, whose first verdict is changed."""
    rows = judge_run(results, store)
    rows[0] = msgspec.structs.replace(rows[0], **changes)
    return servers_of(RunReader(results), rows, store)


@pytest.mark.parametrize(
    "changes",
    [
        {"gate": "report"},
        {"outcome": Outcome.INVALID},
        {"outcome": Outcome.INCOMPARABLE},
        {"outcome": Outcome.INCONCLUSIVE},
        {"reference": "published"},
        {"baseline": None},
    ],
)
def test_a_row_that_compares_nothing_is_left_out(tmp_path, changes):
    """Of four rows three remain."""
    recorded = runs.run({m.DENSE: UNCHANGED}, day=1)
    store = runs.store_of(tmp_path, recorded)

    found = servers(runs.run({m.DENSE: UNCHANGED}, day=2), store, **changes)

    assert [3] == [len(server.rows) for server in found]


def test_a_loss_of_all_but_nothing_has_a_logarithm(tmp_path):
    """As a fraction it is 100 %, which has none: a damaged value ended in a traceback."""
    cases, values = [], {}
    for workload in runs.WORKLOADS[:2]:
        load = msgspec.structs.replace(m.DENSE_LOAD, workload=workload)
        values[load] = {"output_throughput": [1000.0]}
        cases.append(msgspec.structs.replace(m.THROUGHPUT, numerator=load))
    store = runs.store_of(tmp_path, m.run(values, cases, "20260601-120000-1"))
    values = {load: {"output_throughput": [1e-20]} for load in values}
    current = m.run(values, cases, "20260602-120000-1")

    verdicts, _ = runs.judged(current, store)

    assert [1.0, 1.0] == [row.worse_by for row in verdicts]


def test_rows_of_ttft_and_ratios_do_not_count(tmp_path):
    """TTFT varies too much; a ratio has a server on each side."""
    values = {load: {"ttft_median_ms": [50.0]} for load in (m.MOE_LOAD,)}
    recorded = m.run(values, [m.TTFT], "20260601-120000-1")
    store = runs.store_of(tmp_path, recorded)
    current = m.run(values, [m.TTFT], "20260602-120000-1")

    assert [] == servers_of(
        RunReader(current), judge_run(current, store), store
    )


def test_an_accepted_loss_is_left_out(tmp_path):
    """It is known, and no news of the other rows."""
    recorded = runs.run({m.DENSE: UNCHANGED}, day=1)
    store = runs.store_of(tmp_path, recorded)
    current = runs.run({m.DENSE: UNCHANGED}, day=2)
    case = current.cases[0]
    path = store.path(case, "h200x2")
    file = store.file(path)
    known = Known(until="2099-01-01", reason="r", worse_by=0.05)
    metric = msgspec.structs.replace(file.metrics[case.metric], known=known)
    store.write(
        path, msgspec.structs.replace(file, metrics={case.metric: metric})
    )

    found = servers_of(RunReader(current), judge_run(current, store), store)

    assert case.id not in [row.case for row in found[0].rows]


def test_recorded_sessions_with_most_loads_count(tmp_path):
    """Two sessions have three loads, one has four: three loads against two sessions."""
    three = [0.0, 0.0, 0.0]
    store = runs.store_of(
        tmp_path,
        runs.run({m.DENSE: UNCHANGED}, day=1),
        runs.run({m.DENSE: three}, day=2),
        runs.run({m.DENSE: three}, day=3),
    )

    found = servers(runs.run({m.DENSE: [0.05] * 4}, day=4), store)
    effect = found[0].shift()

    # 3 / (1 + 1 / 3) is 2.25, 4 / (1 + 1 / 1) is 2.
    assert (3, 3) == (effect.loads, effect.sessions)
    assert math.log(1.05) == pytest.approx(effect.loss, rel=1e-4)
    assert MACHINE_SHARE == effect.shared


def test_without_a_common_launch_the_rows_errors_are_averaged(tmp_path):
    """As if all rows erred alike: the mean of four has the error of one."""
    store = _recorded_apart(tmp_path)

    found = servers(runs.run({m.DENSE: [0.15] * 4}, day=9), store)
    effect = found[0].shift()

    assert (4, 0, 1.0) == (effect.loads, effect.sessions, effect.shared)
    assert runs.ROW_CV * math.sqrt(2) == pytest.approx(effect.error)
    assert math.log(1.15) == pytest.approx(effect.loss, rel=1e-4)
    # No distance of one row from the others can be known.
    assert [] == list(found[0].outliers(0.0))


def test_the_verdict_says_that_the_rows_errors_were_taken(tmp_path):
    """In place of the noise of their mean."""
    store = _recorded_apart(tmp_path)

    _, verdicts = runs.judged(runs.run({m.DENSE: [0.15] * 4}, day=9), store)

    assert "taken as if all rows erred alike" in render_group(verdicts[0])


def test_without_a_learned_noise_the_rows_errors_count(tmp_path):
    """The table knows the rows and not their mean."""
    recorded = runs.run({m.DENSE: UNCHANGED}, day=1)
    noise = {"gpu/itl": runs.ROW_CV}
    store = runs.store_of(tmp_path, recorded, noise=noise)

    found = servers(runs.run({m.DENSE: UNCHANGED}, day=2), store)

    assert 0 == found[0].shift().sessions


def test_one_load_is_no_shift(tmp_path):
    """Its row says it."""
    recorded = runs.run({m.DENSE: [0.0]}, day=1)
    store = runs.store_of(tmp_path, recorded)

    found = servers(runs.run({m.DENSE: [0.0]}, day=2), store)

    assert found[0].shift() is None


def _recorded_apart(folder):
    """A store in which each load was recorded by a run of its own."""
    recorded = []
    for position, workload in enumerate(runs.WORKLOADS):
        whole = runs.run({m.DENSE: UNCHANGED}, day=position + 1)
        measurements = []
        for row in whole.measurements:
            if row.workload == workload.name:
                measurements.append(row)
        recorded.append(
            msgspec.structs.replace(
                whole,
                measurements=tuple(measurements),
                cases=(whole.cases[position],),
            )
        )
    return runs.store_of(folder, *recorded)


def test_the_sentence_says_of_how_many_loads_it_speaks(tmp_path):
    """Of those that were recorded together; a new load is in no session."""
    four = runs.run({m.DENSE: UNCHANGED}, day=1)
    three = runs.run({m.DENSE: UNCHANGED[:3]}, day=2)
    store = runs.store_of(
        tmp_path, four, three, runs.run({m.DENSE: UNCHANGED[:3]}, day=3)
    )

    _, verdicts = runs.judged(runs.run({m.DENSE: [0.05] * 4}, day=4), store)

    assert "the mean of 3 of 4 loads" in verdicts[0].summary
