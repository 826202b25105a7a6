"""Retention: which launches stay, and when the new ones are worse."""

import dataclasses
from types import SimpleNamespace

import msgspec
import pytest

from perfgate.accept.retention import is_worse, latest, retained
from perfgate.judge.policy import GPU_RATE
from perfgate.judge.verdict import Outcome
from perfgate.models.routing_stats import summary
from perfgate.results.samples import Sample
from tests.support import builders as m
from tests.support.routings import varied


def test_the_last_launches_of_each_machine_stay():
    """30 of one machine, and the only one of another."""
    samples = [
        Sample(run=f"run-{number:02}", launch=0, value=1.0)
        for number in range(33)
    ]
    machines = {sample.run: "gpu-a" for sample in samples}
    machines["run-00"] = "gpu-b"

    runs = [sample.run for sample in latest(reversed(samples), machines)]

    assert ["run-00", *(f"run-{number:02}" for number in range(3, 33))] == runs


@pytest.mark.parametrize(
    ("outcome", "implausible", "kept"),
    [
        (Outcome.PASSED, False, 18),
        (Outcome.NOT_EXCLUDED, False, 18),
        (Outcome.REGRESSED, False, 12),
        (Outcome.IMPROVED, False, 12),
        (Outcome.INVALID, True, 12),
    ],
)
def test_launches_of_a_machine_whose_value_moved_go(outcome, implausible, kept):
    """Those of the two other machines stay."""
    recorded = m.fleet()
    observation = dataclasses.replace(
        m.seen(m.THROUGHPUT, 900.0), machine="gpu-a"
    )
    verdict = SimpleNamespace(outcome=outcome, implausible=implausible)

    launches, notes = retained(recorded, [observation], [verdict], False)

    assert (kept, kept < 18) == (len(launches), bool(notes))


@pytest.mark.parametrize(
    ("value", "worse"), [(975.0, False), (960.0, True), (1100.0, False)]
)
def test_worse_is_more_than_half_of_the_threshold(value, worse):
    """Of the machine's own launches, 980 tok/s, with a target effect of 2 %."""
    recorded = m.fleet()
    observation = dataclasses.replace(
        m.seen(m.THROUGHPUT, value), machine="gpu-a"
    )
    new = dataclasses.replace(
        recorded.with_launches(observation.samples),
        machines={observation.run: "gpu-a"},
    )

    assert worse is is_worse(recorded, new, [observation], GPU_RATE)


def test_changed_routing_replaces_the_launches_of_every_machine():
    """Where tokens go depends on the model: no other machine keeps the old routing."""
    recorded = m.fleet()
    routing = summary(varied())
    launches = []
    for launch in recorded.metric.launches:
        launches.append(msgspec.structs.replace(launch, shares=routing))
    metric = msgspec.structs.replace(recorded.metric, launches=tuple(launches))
    recorded = dataclasses.replace(recorded, metric=metric)
    observation = dataclasses.replace(
        m.seen(m.THROUGHPUT, 900.0), machine="gpu-a"
    )
    verdict = SimpleNamespace(outcome=Outcome.REGRESSED, implausible=False)

    remaining, notes = retained(
        recorded, [observation], [verdict], replace=False
    )

    assert () == remaining
    assert ["replaces the recorded launches: the routing changed"] == notes


@pytest.mark.parametrize(
    ("value", "worse"), [(10.05, False), (10.3, True), (9.0, False)]
)
def test_a_longer_latency_is_worse(value, worse):
    """Than 10 ms, with a target effect of 2 %."""
    case = msgspec.structs.replace(m.THROUGHPUT, metric="itl_median_ms")
    recorded = m.recorded(
        case, [10.0 * factor for factor in m.QUIET], delta=None
    )
    observation = m.seen(case, value)
    new = recorded.with_launches(observation.samples)

    assert worse is is_worse(recorded, new, [observation], GPU_RATE)
