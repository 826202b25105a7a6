"""Orders and messages travel as JSON, and another version's are refused."""

from __future__ import annotations

import json

import msgspec
import pytest

from perfgate.fleet import orders
from perfgate.fleet.orders import Check, Ended, Measure, Piece, Sweep

MEASURE = Measure(
    arguments=("-m", "gpu"),
    project="/p",
    fleet="f1",
    task="u01-l001",
    unit="one",
    limit_s=60.0,
)


@pytest.mark.parametrize(
    "order",
    [
        Check(arguments=(), project="/p"),
        MEASURE,
        Sweep(fleet="f", delivered=()),
    ],
    ids=["check", "measure", "sweep"],
)
def test_an_order_arrives_as_it_was_sent(order):
    """Whatever its kind."""
    assert order == orders.order_of(orders.encode(order))


def test_a_message_may_hold_any_bytes():
    """A journal may be cut in the middle of a character."""
    piece = Piece(path="x", offset=7, content=bytes(range(256)))

    assert piece == orders.message_of(orders.encode(piece))
    ended = Ended(status=-9, reason="no\nresult")
    assert ended == orders.message_of(orders.encode(ended))


def test_an_order_of_another_version_is_refused():
    """By the field that is new."""
    tree = json.loads(orders.encode(MEASURE)) | {"newer": 1}

    with pytest.raises(msgspec.ValidationError, match="newer"):
        orders.order_of(json.dumps(tree).encode())
