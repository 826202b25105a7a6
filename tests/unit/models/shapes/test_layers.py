"""Layers: equal ones are kept once, in their order."""

from perfgate.models.shapes.layers import Layer, outside, stack
from perfgate.models.shapes.tensors import vector

FULL, WINDOW = (
    Layer(
        attention=kind,
        feed_forward="dense",
        tensors=(vector("norm", "norms", 4),),
    )
    for kind in ("full", "window")
)


def test_layers_are_told_one_by_one():
    """Two kinds in turn are two kinds, four layers."""
    told = stack([FULL, WINDOW, FULL, WINDOW], ())

    assert (FULL, WINDOW) == told.kinds
    assert (FULL, WINDOW, FULL, WINDOW) == told.layers
    assert ((2, FULL), (2, WINDOW)) == told.counted()


def test_a_tied_head_is_the_embedding():
    """It is counted once."""
    tied = sum(t.parameters for t in outside(8, 100, tied=True))
    apart = sum(t.parameters for t in outside(8, 100, tied=False))

    assert (808, 1608) == (tied, apart)


def test_a_hash_layer_is_sparse():
    """Whoever chooses the experts."""
    hashed = Layer(attention="full", feed_forward="hash", tensors=())

    assert (True, False) == (hashed.is_sparse, FULL.is_sparse)
