"""Creep: losses that pass one by one are stopped by the newest launches and the whole series."""

import dataclasses
import types

import msgspec
import pytest

from perfgate.accept.accept import accept
from perfgate.accept.choice import Choice
from perfgate.accept.creep import (
    NEWEST,
    anchor_of,
    lost_since,
    machine_values,
    unexplained_change,
)
from perfgate.accept.refusals import RecordingRefused
from perfgate.judge.baseline_schema import read_recorded
from perfgate.judge.baseline_store import Store
from perfgate.judge.policy import GPU_RATE, policy_for
from perfgate.judge.verdict import Outcome
from perfgate.results import schema as rundata
from perfgate.results.samples import Sample
from tests.support import builders as m
from tests.support.builders import fleet

POLICY = policy_for("h200x2", "output_throughput", ratio=False)


def test_a_better_machine_that_joins_raises_what_losses_are_counted_from():
    """With the mean of all; a worse one, or a known one, leaves it."""
    recorded = fleet()
    before = anchor_of(recorded, {"gpu-a"}, 900.0, POLICY)

    assert before == anchor_of(recorded, {"gpu-b"}, 800.0, POLICY)
    assert before == anchor_of(recorded, {"gpu-new"}, 0.9 * before, POLICY)
    assert 1.1 * before == pytest.approx(
        anchor_of(recorded, {"gpu-new"}, 1.1 * before, POLICY)
    )
    begun = dataclasses.replace(
        recorded,
        metric=msgspec.structs.replace(recorded.metric, anchor=2 * before),
    )
    assert 2.2 * before == pytest.approx(
        anchor_of(begun, {"gpu-new"}, 1.1 * before, POLICY)
    )


def with_metric(recorded, **changes):
    """The same baseline with other fields of its metric."""
    metric = msgspec.structs.replace(recorded.metric, **changes)
    return dataclasses.replace(recorded, metric=metric)


def joined(recorded, machine, values):
    """The baseline with newer launches of a machine, one a run."""
    samples = [
        Sample(run=f"run-9{number}", launch=0, value=value)
        for number, value in enumerate(values)
    ]
    machines = dict(recorded.machines)
    if machine is not None:
        machines |= {sample.run: machine for sample in samples}
    both = recorded.with_launches([*recorded.metric.launches, *samples])
    return dataclasses.replace(both, machines=machines)


def judged(machine, outcome=Outcome.PASSED):
    """A run of a machine with its verdict."""
    observation = dataclasses.replace(
        m.seen(m.THROUGHPUT, 1.0), machine=machine
    )
    return observation, types.SimpleNamespace(outcome=outcome)


def lost(recorded, machine, values, outcome=Outcome.PASSED):
    """Anchors and text after these launches of a machine, on a wide target effect."""
    new = joined(recorded, machine, values)
    runs = [judged(machine, outcome)]
    return lost_since(m.THROUGHPUT, recorded, new, runs, POLICY)


ANCHORS = {"gpu-a": 980.0, "gpu-b": 1000.0, "gpu-c": 1020.0}


def test_the_newest_launches_decide_and_not_the_mean_of_all():
    """Six launches at 980 tok/s of an anchor of 1025, then three at 974 or 972."""
    higher = ANCHORS | {"gpu-a": 1025.0}
    recorded = with_metric(fleet(), anchor=1000.0, anchors=higher)

    _, less = lost(recorded, "gpu-a", [974.0] * NEWEST)
    anchors, more = lost(recorded, "gpu-a", [972.0] * NEWEST)

    assert "" == less
    assert "step by step it became worse by 5.2 % on gpu-a" in more
    assert "5.0 % may add up" in more
    assert higher == anchors.by_machine


def test_other_machines_do_not_hide_the_loss_of_one():
    """An older file has one anchor of all machines: each is scaled to its own level."""
    recorded = with_metric(fleet(), anchor=1045.0)

    anchors, text = lost(recorded, "gpu-c", [1010.0] * NEWEST)

    assert "on gpu-c" in text
    assert 1020.0 * 1.045 == pytest.approx(
        anchors.by_machine["gpu-c"], rel=0.002
    )


def test_a_machine_that_joins_inherits_what_the_others_lost():
    """They lie 4 % below their anchors; so does it from its first launch on."""
    crept = {name: value / 0.96 for name, value in ANCHORS.items()}
    recorded = with_metric(fleet(), anchor=1000.0 / 0.96, anchors=crept)

    anchors, text = lost(recorded, "gpu-new", [1000.0])

    assert "" == text
    assert 1000.0 / 0.96 == pytest.approx(
        anchors.by_machine["gpu-new"], rel=0.002
    )


def test_an_improvement_moves_the_anchor_of_its_machine_only():
    """To its newest launches."""
    recorded = with_metric(fleet(), anchor=1000.0, anchors=ANCHORS)

    anchors, text = lost(recorded, "gpu-a", [1080.0] * NEWEST, Outcome.IMPROVED)

    assert "" == text
    assert 1080.0 == pytest.approx(anchors.by_machine["gpu-a"])
    assert 1000.0 == anchors.by_machine["gpu-b"]


def test_a_gain_that_wins_back_a_part_excuses_no_further_loss():
    """After losses of 4 % one of 1.4 % had lowered the anchor, and 5 % more could go."""
    anchors = {name: 1.04 * value for name, value in ANCHORS.items()}
    recorded = with_metric(fleet(), anchor=1040.0, anchors=anchors)
    gained = [1.014 * m.MACHINES["gpu-a"]] * NEWEST

    found, text = lost(recorded, "gpu-a", gained, Outcome.IMPROVED)

    assert "" == text
    assert (1040.0, anchors) == (found.value, found.by_machine)


def test_launches_of_unknown_machines_count_as_those_of_one():
    """The newest three of all, against the one anchor."""
    recorded = dataclasses.replace(fleet(), machines={})
    recorded = with_metric(recorded, anchor=1070.0)

    values = machine_values(recorded.metric.launches, {})
    anchors, text = lost(recorded, None, [1000.0] * NEWEST)

    assert [None] == list(values)
    assert "step by step it became worse by 6.5 % since" in text
    assert {} == anchors.by_machine


@pytest.mark.parametrize(("ceiling", "is_told"), [(0.05, True), (0.10, False)])
def test_a_metric_may_creep_by_its_ceiling(ceiling, is_told):
    """A loss of 6.5 % adds up to more than 5 %, and to less than 10 %."""
    policy = dataclasses.replace(POLICY, fail_over=ceiling)
    recorded = with_metric(fleet(), anchor=1000.0, anchors=ANCHORS)
    new = joined(recorded, "gpu-a", [980.0 * 0.935] * NEWEST)
    worn = with_metric(
        joined(recorded, "gpu-a", [980.0 * 0.935] * 9), anchors=ANCHORS
    )

    _, text = lost_since(m.THROUGHPUT, worn, new, [judged("gpu-a")], policy)

    assert is_told is ("may add up" in text)


SEEN = [m.seen(m.THROUGHPUT, 1.0)]


def ramped(case=m.THROUGHPUT, each=0.995, runs=10, **sides):
    """A baseline whose runs lose 0.5 % each."""
    values = [1000.0 * each**number for number in range(runs)]
    return m.recorded(case, values, **sides)


def test_a_trend_without_a_reason_is_told():
    """With its size, its first run, and the number that decided."""
    text = unexplained_change(m.THROUGHPUT, ramped(), SEEN, {}, POLICY)

    assert "it became worse by 4.4 % over 10 runs since run-00" in text
    assert "limit 0.0005" in text


def test_a_step_without_a_reason_is_told():
    """With the first run of the new level."""
    values = [1000.0 + number % 3 for number in range(10)]
    values += [970.0 + number % 3 for number in range(8)]
    recorded = m.recorded(m.THROUGHPUT, values)

    text = unexplained_change(m.THROUGHPUT, recorded, SEEN, {}, POLICY)

    assert "it is worse by 3.0 % since run run-10, in 8 runs of 18" in text


def test_a_reason_begins_a_segment():
    """Runs before the first one with the last reason do not count any more."""
    recorded = ramped()
    covered = {"run-08": "safer", "run-09": "safer"}
    early = {"run-01": "safer"}

    def told(reasons):
        return unexplained_change(m.THROUGHPUT, recorded, SEEN, reasons, POLICY)

    assert "" == told(covered)
    assert "over 9 runs since run-01" in told(early)


def test_a_change_of_another_machine_is_not_held_against_this_one():
    """Only machines of the new runs are looked at."""
    recorded = joined(fleet(), "gpu-a", [960.0 - 5 * n for n in range(9)])

    def told(machine):
        return unexplained_change(
            m.THROUGHPUT, recorded, [judged(machine)[0]], {}, POLICY
        )

    assert "on gpu-a" in told("gpu-a")
    assert "" == told("gpu-b")


def sided(numerator, denominator):
    """A baseline of a ratio whose sides change by these factors a run."""
    recorded = ramped(m.RATIO)
    samples = []
    for number, sample in enumerate(recorded.metric.launches):
        above = 3000.0 * numerator**number
        below = 1000.0 * denominator**number
        samples.append(
            msgspec.structs.replace(
                sample, value=above / below, numerator=above, denominator=below
            )
        )
    return recorded.with_launches(samples)


@pytest.mark.parametrize(
    ("numerator", "denominator", "is_told"),
    [
        (0.995, 1.0, True),
        (1.0, 0.995, True),
        (1.005, 1.0, False),
        (1.0, 1.005, False),
    ],
)
def test_a_ratio_creeps_where_a_side_loses(numerator, denominator, is_told):
    """In either direction; a side that gains is no loss."""
    recorded = sided(numerator, denominator)

    text = unexplained_change(m.RATIO, recorded, SEEN, {}, GPU_RATE)

    assert is_told is bool(text)


@pytest.fixture
def taken(tmp_path):
    """Accepts a run of one launch."""
    store = Store(tmp_path / "baselines")

    def take(day, value, reason=None, report_only=False):
        measured = {m.MOE_LOAD: {"output_throughput": [value]}}
        run_id = f"202606{day:02}-120000-1"
        results = m.run(measured, (m.THROUGHPUT,), run_id)
        folder = tmp_path / f"day {day}"
        rundata.save(results, folder)
        choice = Choice(reason=reason, report_only=report_only)
        accept([folder], store, choice, env={})
        file = read_recorded(store.path(m.THROUGHPUT, "h200x2"))
        return file.metrics[m.THROUGHPUT.metric]

    return take


def test_a_ramp_is_refused_and_a_reason_lets_it_pass(taken, tmp_path):
    """0.5 % a run: the refusal names the case, the trend and the command.

    The command has the run's folder, which need not be named by its id.
    """
    values = [1000.0 * 0.995**number for number in range(20)]

    def take_all():
        for day, value in enumerate(values, 1):
            taken(day, value)

    with pytest.raises(RecordingRefused) as refused:
        take_all()
    text = str(refused.value)
    assert m.THROUGHPUT.id in text
    assert "it became worse by 3.0 %" in text
    assert "over 7 runs since 20260601-120000-1: a trend" in text
    command = (
        f"perfgate accept '{tmp_path / 'day 7'}' --only '{m.THROUGHPUT.id}'"
    )
    assert command in text

    metric = taken(7, values[6], reason="determinism costs this")
    assert 1000.0 > metric.anchor
    assert [metric.anchor] == pytest.approx(list(metric.anchors.values()))
    taken(8, values[6])


def test_a_case_that_is_only_reported_needs_no_reason(taken):
    """Its trend fails nothing."""
    for day in range(1, 9):
        metric = taken(day, 1000.0 * 0.995**day, report_only=True)

    assert 8 == len(metric.launches)


def test_a_machine_that_was_not_measured_is_not_asked_about():
    """What it lost stands in its own recorded launches; this run tells nothing of it."""
    higher = ANCHORS | {"gpu-b": 1070.0}
    recorded = with_metric(fleet(), anchor=1000.0, anchors=higher)

    _, other = lost(recorded, "gpu-a", [980.0] * NEWEST)
    _, own = lost(recorded, "gpu-b", [1000.0] * NEWEST)

    assert "" == other
    assert "on gpu-b" in own
