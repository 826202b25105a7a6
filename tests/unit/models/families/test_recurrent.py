"""Families with a fixed state: which layers grow, and which do not."""

import pytest

from perfgate.models.catalogue import UnknownArchitecture
from tests.support.model_configs import shape_of


@pytest.mark.parametrize(
    ("name", "growing", "fixed"),
    [
        ("qwen3-next-80b-a3b", 12, 36),
        ("qwen3.5-35b-a3b", 10, 30),
        ("kimi-linear-48b-a3b", 7, 20),
        ("glm-5-next", 11, 34),
        ("lfm2-8b-a1b", 6, 18),
    ],
)
def test_layers_that_grow(name, growing, fixed):
    """Each kind of layer keeps one of both."""
    kinds = [
        {part.kind for part in layer.cache} - {"index"}
        for layer in shape_of(name).layers
        if layer.cache
    ]

    assert (growing, fixed) == (
        kinds.count({"growing"}),
        kinds.count({"fixed"}),
    )


def test_the_state_is_kept_whatever_the_context():
    """Qwen3.5-35B keeps 64 MB of a sequence from its first token on."""
    shape = shape_of("qwen3.5-35b-a3b")

    # 30 layers: a matrix of 128 x 128 in float32 for 32 heads, 3 inputs in bfloat16
    state = 30 * (32 * 128 * 128 * 4 + 3 * 8192 * 2)
    assert state == shape.cache_bytes_per_sequence(0, "bfloat16")
    assert state + 20_480 * 1000 == shape.cache_bytes_per_sequence(
        1000, "bfloat16"
    )


@pytest.mark.parametrize(
    ("name", "changes", "seen"),
    [
        (
            "kimi-linear-48b-a3b",
            {"attn_res_block_size": 12},
            "attn_res_block_size is 12",
        ),
        (
            "qwen3-next-80b-a3b",
            {"layer_types": ["mystery"] * 48},
            "layer_types names mystery",
        ),
    ],
)
def test_what_is_not_understood_is_refused(name, changes, seen):
    """The field is named with its value."""
    with pytest.raises(UnknownArchitecture, match=seen):
        shape_of(name, **changes)
