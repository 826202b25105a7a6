"""Feed-forward: dense blocks, experts of two or three matrices, routers."""

import pytest

from perfgate.models.shapes.feed_forward import Routed, dense, routed

EXPERTS = Routed(hidden=64, width=16, number=8)


def parameters(tensors, *groups):
    """Of the tensors in these groups."""
    return sum(t.parameters for t in tensors if t.group in groups)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 3 * 64 * 16),
        ({"gated": False}, 2 * 64 * 16),
        ({"bias": True}, 3 * 64 * 16 + 2 * 16 + 64),
    ],
)
def test_matrices_of_a_block(options, expected):
    """Gate, up and down, or two of them; biases on request."""
    assert expected == parameters(dense(64, 16, **options), "dense")


def test_no_width_is_no_block():
    """A model without shared experts has none of their tensors."""
    assert () == dense(64, 0)


@pytest.mark.parametrize(
    ("changes", "experts", "router"),
    [
        ({}, 8 * 3 * 64 * 16, 8 * 64),
        ({"gated": False}, 8 * 2 * 64 * 16, 8 * 64),
        ({"router_inputs": 128}, 8 * 3 * 64 * 16, 8 * 128),
        ({"zero_experts": 4}, 8 * 3 * 64 * 16, 12 * 64),
        ({"router_bias": True}, 8 * 3 * 64 * 16, 8 * 64 + 8),
        ({"score_bias": True}, 8 * 3 * 64 * 16, 8 * 64 + 8),
    ],
)
def test_experts_and_their_router(changes, experts, router):
    """The router sees what enters the layer, and may choose experts without weights."""
    tensors = routed(EXPERTS._replace(**changes))

    assert experts == parameters(tensors, "experts")
    assert router == parameters(tensors, "router")
