"""Retention: the launches from which losses are counted when machines join."""

import dataclasses
from types import SimpleNamespace

import msgspec
import pytest

from perfgate.accept.retention import anchor_of, retained
from perfgate.judge.policy import policy_for
from perfgate.judge.verdict import Outcome
from perfgate.models.routing_stats import summary
from tests.support import builders as m
from tests.support.builders import fleet
from tests.support.routings import varied

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


def test_changed_routing_replaces_the_launches_of_every_machine():
    """Where tokens go depends on the model: no other machine keeps the old routing."""
    recorded = fleet()
    routing = summary(varied())
    launches = []
    for launch in recorded.metric.launches:
        launches.append(msgspec.structs.replace(launch, shares=routing))
    metric = msgspec.structs.replace(recorded.metric, launches=tuple(launches))
    recorded = dataclasses.replace(recorded, metric=metric)
    observation = dataclasses.replace(
        m.seen(m.THROUGHPUT, 900.0), machine="gpu-a"
    )
    verdict = SimpleNamespace(outcome=Outcome.REGRESSED)

    remaining, notes = retained(
        recorded, [observation], [verdict], replace=False
    )

    assert () == remaining
    assert ["replaces the recorded launches: the routing changed"] == notes
