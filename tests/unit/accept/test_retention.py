"""Retention: the launches from which losses are counted when machines join."""

import dataclasses

import msgspec
import pytest

from perfgate.accept.retention import anchor_of
from perfgate.judge.policy import policy_for
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
