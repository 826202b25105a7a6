"""Verdict of a fleet: by machine and over machines; a sick GPU is no regression."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from perfgate.cases import Case, Load
from perfgate.fleet import machines, text
from perfgate.fleet.machines import Part
from perfgate.fleet.verdict import judged
from perfgate.judge.baseline_store import Store
from perfgate.judge.verdict import Outcome
from perfgate.results import schema
from tests.support import builders, joint_runs
from tests.support.fake_cluster import unit
from tests.support.fleets import finished, placed, state

ROOT = Path(__file__).parents[3]
NAMES = [f"host-{number}" for number in range(6)]
PLACES = dict(zip(NAMES, (0.0, 0.01, -0.01, 0.005, -0.005, 0.002), strict=True))


def gpu_of(name):
    """The machine of a host: one H200 of its own."""
    machine = builders.hardware(count=2)
    gpus = tuple(
        msgspec.structs.replace(gpu, uuid=f"{gpu.uuid}-{name}")
        for gpu in machine.gpus
    )
    return msgspec.structs.replace(machine, gpus=gpus)


def results(name, loss, day=1):
    """A session of that host, with four loads of a server that have this loss."""
    return joint_runs.run(
        {builders.MOE: [PLACES[name] + loss] * 4}, day, machine=gpu_of(name)
    )


@pytest.fixture
def store(tmp_path):
    """Baselines of three launches of each machine."""
    runs = []
    for number, name in enumerate(NAMES):
        for again, noise in enumerate((0.002, -0.002, 0.0)):
            row = results(name, noise, day=1 + number)
            run_id = f"{row.run_id}{again}"
            runs.append(msgspec.structs.replace(row, run_id=run_id))
    return joint_runs.store_of(tmp_path, *runs)


def fleet(losses):
    """The machines of a run in which each host has this loss."""
    parts = []
    for number, (name, loss) in enumerate(losses.items()):
        row = results(name, loss, day=20)
        parts.append(Part(f"u01-l{number:03d}", name, row))
    return machines.merged("f9", parts)


def measured(count=6):
    """The state of a run whose launches were all measured."""
    events = []
    for number, name in enumerate(NAMES[:count], 1):
        task = f"u01-l{number:03d}"
        events += [placed(task, name), finished(task, name)]
    return state(unit("one"), launches=count, events=events)


def outcomes(found):
    """Outcomes of the rows that can fail the run."""
    return {row.outcome for row in found.rows if row.gate == "hard"}


def test_an_unchanged_fleet_passes(store):
    """Each machine by itself, and all together, compared with themselves."""
    found = judged(fleet(dict.fromkeys(NAMES, 0.0)), store)

    assert {Outcome.PASSED} == outcomes(found)
    assert all(row.change.is_own for row in found.rows)
    assert frozenset() == found.outlying
    line = text.headline(measured(), found, "required")
    assert (
        "Green: 4 rows passed on 6 machines (6x h200), 6 of 6 launches" == line
    )
    assert not text.fails(measured(), found, "required")


def test_a_loss_of_all_machines_is_a_regression(store):
    """And no machine is an outlier for it."""
    found = judged(fleet(dict.fromkeys(NAMES, 0.08)), store)

    assert {Outcome.REGRESSED} == outcomes(found)
    assert frozenset() == found.outlying
    assert 0.08 == pytest.approx(found.rows[0].worse_by, abs=0.003)
    assert text.fails(measured(), found, "advisory")


def test_a_sick_gpu_is_named_and_is_no_regression(store):
    """The headline says both: the fleet passed, one machine is an outlier."""
    losses = dict.fromkeys(NAMES, 0.0) | {"host-3": 0.15}

    found = judged(fleet(losses), store)

    (name,) = found.outlying
    assert {Outcome.PASSED} == outcomes(found)
    assert {5} == {row.machines for row in found.rows}
    shown = list(text.lines(measured(), found, "advisory"))
    assert "Green: 4 rows passed on 6 machines" in shown[0]
    assert "1 of them is an outlier" in shown[0]
    assert f"{name} on host-3 is 15." in shown[1]
    assert "slower than the median of 5 other h200" in shown[1]
    (marked,) = [line for line in shown if line.startswith(f"! {name}")]
    assert "Red" in marked
    assert not text.fails(measured(), found, "required")


def test_without_baselines_nothing_is_passed(tmp_path, store):
    """Each row says so; outliers are found all the same."""
    empty = type(store)(tmp_path / "empty")
    losses = dict.fromkeys(NAMES, 0.0) | {"host-3": 0.15}

    found = judged(fleet(losses), empty)

    assert {Outcome.NO_BASELINE} == {row.outcome for row in found.rows}
    assert 1 == len(found.outlying)
    assert text.headline(measured(), found, "advisory").startswith("Undecided")
    assert not text.fails(measured(), found, "advisory")
    assert text.fails(measured(), found, "required")


def test_machines_that_cannot_be_compared_say_nothing(store):
    """As after another configuration: no change is made up from their values."""
    other = msgspec.structs.replace(builders.MOE, dtype="float16")
    rows = []
    for name in NAMES:
        results = joint_runs.run({other: [0.3] * 4}, 22, machine=gpu_of(name))
        rows.append(Part(f"u01-{name}", name, results))

    found = judged(machines.merged("f9", rows), store)

    assert {Outcome.INCOMPARABLE} == outcomes(found)
    assert [None] * 4 == [row.change for row in found.rows]


def test_two_kinds_are_judged_apart(store):
    """A machine of another kind is no outlier for its speed."""
    rows = fleet(dict.fromkeys(NAMES, 0.0))
    other = msgspec.structs.replace(rows[0].results.hardware, kind="h100")
    slower = joint_runs.run({builders.MOE: [1.0] * 4}, 21, machine=other)
    part = Part("u02-l001", "host-9", slower)
    (extra,) = machines.merged("f9", [part])

    found = judged([*rows, extra], store)

    assert frozenset() == found.outlying
    assert {"h200", "h100"} == {row.group for row in found.rows}


def test_what_was_not_measured_is_told(store):
    """A launch that was given up fails the run; one that is open does with a gate."""
    found = judged(fleet(dict.fromkeys(NAMES, 0.0)), store)
    events = []
    for name in ("a", "b"):
        events += [
            placed("u01-l001", name),
            finished("u01-l001", name, "failed"),
        ]
    given_up = state(unit("one"), events=events)
    open_still = state(unit("one"), launches=2, events=events[:2])

    assert text.fails(given_up, found, "advisory")
    assert "u01-l001 (one) was not measured on a, b" in "\n".join(
        text.lines(given_up, found, "advisory")
    )
    assert not text.fails(open_still, found, "advisory")
    assert text.fails(open_still, found, "required")
    assert "2 launches still to be measured" in "\n".join(
        text.missing_lines(open_still)
    )


def paired(name, kind):
    """The stored pairs of one H100, as if this host had measured them."""
    run = schema.load(ROOT / "docs" / "runs" / "h100x1-pairs" / kind)
    gpu = msgspec.structs.replace(run.hardware.gpus[0], uuid=f"GPU-{name}")
    machine = msgspec.structs.replace(run.hardware, gpus=(gpu,))
    return msgspec.structs.replace(run, hardware=machine)


def with_baselines_that_say(store, **fields):
    """The store after a person has written this into each metric of its files."""
    for path in store.root.rglob("*.json"):
        content = json.loads(path.read_text())
        for metric in content.get("metrics", {}).values():
            metric.update(fields)
        path.write_text(json.dumps(content))
    return Store(store.root)


@pytest.mark.parametrize(
    ("until", "worse_by", "expected"),
    [
        ("2999-12-31", 0.08, Outcome.PASSED),
        ("2020-12-31", 0.08, Outcome.REGRESSED),
        ("2999-12-31", 0.02, Outcome.REGRESSED),
    ],
)
def test_a_loss_that_is_accepted_until_a_day_is_accepted_by_the_fleet(
    store, until, worse_by, expected
):
    """As each machine accepts it; not after that day, and no larger one."""
    known = {"until": until, "reason": "agreed", "worse_by": worse_by}
    known_store = with_baselines_that_say(store, known=known)

    found = judged(fleet(dict.fromkeys(NAMES, 0.08)), known_store)

    assert {expected} == outcomes(found)
    for machine in found.machines:
        assert {expected} == {row.outcome for row in machine.seen.values()}


def test_a_loss_below_the_floor_is_none(store):
    """0.8 ms of 10 ms are one, but for a floor of 1 ms."""
    losses = dict.fromkeys(NAMES, 0.08)

    floored = judged(fleet(losses), with_baselines_that_say(store, floor=1.0))

    assert {Outcome.PASSED} == outcomes(floored)
    below = judged(fleet(losses), with_baselines_that_say(store, floor=0.7))
    assert {Outcome.REGRESSED} == outcomes(below)


def with_setting(results, value):
    """The session with a case of its engine's settings, one of which is this."""
    case = Case(
        experiment="E1",
        metric="engine_settings",
        numerator=Load(server=builders.MOE),
    )
    launches = []
    for launch in results.launches:
        settings = {"attention": value}
        launches.append(msgspec.structs.replace(launch, effective=settings))
    return msgspec.structs.replace(
        results, launches=tuple(launches), cases=(case,)
    )


@pytest.mark.parametrize(
    ("changed", "expected"),
    [(0, Outcome.PASSED), (2, Outcome.REGRESSED), (4, Outcome.REGRESSED)],
)
def test_another_setting_is_red_though_there_are_as_many(
    tmp_path, changed, expected
):
    """Facts decide on each machine by themselves, and not how many they are."""
    runs = [
        with_setting(results(name, 0.0, day=1 + number), "flash")
        for number, name in enumerate(NAMES[:4])
    ]
    recorded = joint_runs.store_of(tmp_path, *runs)
    parts = []
    for number, name in enumerate(NAMES[:4]):
        value = "triton" if number >= 4 - changed else "flash"
        row = with_setting(results(name, 0.0, day=20), value)
        parts.append(Part(f"u01-l{number:03d}", name, row))

    (row,) = judged(machines.merged("f9", parts), recorded).rows

    assert ("hard", expected) == (row.gate, row.outcome)


def launched_in_pairs(name, base, candidate):
    """The pairs of a host with these throughputs; None: a launch that does not count."""
    case = builders.THROUGHPUT
    values = {
        case.base.numerator: {"output_throughput": base},
        case.numerator: {"output_throughput": candidate},
    }
    run_id = f"20260601-120000-{name}"
    run = builders.run(values, [case], run_id=run_id, machine=gpu_of(name))
    return msgspec.structs.replace(run, mode="paired")


def test_no_pair_is_of_two_machines(tmp_path):
    """Where a launch of the first one does not count, those of the others stay together."""
    slow = [900.0, 902.0, 898.0]
    parts = [
        Part(
            "u01-l001", "a", launched_in_pairs("a", [1e3, None, 1e3], [1e3] * 3)
        ),
        Part("u01-l002", "b", launched_in_pairs("b", slow, slow)),
    ]

    (row,) = judged(machines.merged("f9", parts), Store(tmp_path)).rows

    assert Outcome.PASSED == row.outcome
    assert 0.0 == pytest.approx(row.worse_by, abs=1e-6)


def test_pairs_of_all_machines_are_judged_together(tmp_path):
    """Each pair is of one machine, and all of them decide."""
    parts = []
    for number, name in enumerate(NAMES[:3]):
        parts.append(Part(f"u01-l{number:03d}", name, paired(name, "delay")))
    store = Store(tmp_path)

    alone = judged(machines.merged("f9", parts[:1]), store)
    together = judged(machines.merged("f9", parts), store)

    assert {Outcome.REGRESSED} == outcomes(alone) == outcomes(together)
    assert {3} == {row.machines for row in together.rows}
    for one, three in zip(alone.rows, together.rows, strict=True):
        assert three.worse_by == pytest.approx(one.worse_by, rel=0.01)
