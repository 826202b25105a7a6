"""Recurrent layers: a fixed state, whatever the context."""

import pytest

from perfgate.models.shapes.recurrent import (
    DeltaNet,
    KimiDelta,
    Mamba2,
    delta_net,
    kimi_delta,
    mamba2,
    short_convolution,
)

DELTA = DeltaNet(
    hidden=64,
    key_heads=2,
    value_heads=4,
    key_dim=16,
    value_dim=8,
    kernel=4,
    fused=True,
    state_bytes=4,
)
MAMBA = Mamba2(
    hidden=64,
    heads=4,
    head_dim=16,
    groups=2,
    state=8,
    kernel=4,
    bias=False,
    convolution_bias=True,
    state_bytes=4,
)


def state_bytes(mixer):
    """Bytes that each layer keeps of a sequence, in bfloat16."""
    return sum(part.size_bytes("bfloat16", 1e6) for part in mixer.cache)


@pytest.mark.parametrize(
    ("mixer", "expected"),
    [
        # three inputs of the convolution in bfloat16, a matrix for each value head
        (delta_net(DELTA), 3 * (2 * 32 + 32) * 2 + 4 * 16 * 8 * 4),
        (kimi_delta(KimiDelta(64, 4, 16, 4)), 3 * 192 * 2 + 4 * 16 * 16 * 4),
        (mamba2(MAMBA), 3 * (64 + 32) * 2 + 64 * 8 * 4),
        (short_convolution(64, 3, bias=False), 2 * 64 * 2),
    ],
    ids=["delta", "kimi", "mamba", "convolution"],
)
def test_state_of_a_sequence(mixer, expected):
    """The last inputs of the convolution, and the state in its own precision."""
    assert {"fixed"} == {part.kind for part in mixer.cache}
    assert expected == state_bytes(mixer)


def test_fused_projections_are_as_large_as_apart():
    """Whether four projections are two or four."""
    apart = DELTA._replace(fused=False)

    assert sum(t.parameters for t in delta_net(DELTA).tensors) == sum(
        t.parameters for t in delta_net(apart).tensors
    )


def test_more_ranks_than_groups_copy_them():
    """Two groups of Mamba-2 are shared by two ranks; heads by four."""
    pieces = {t.pieces for t in mamba2(MAMBA).tensors if t.split}

    assert {2, 4} == pieces
