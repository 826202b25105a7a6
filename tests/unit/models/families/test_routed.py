"""Families with grouped heads and experts: shared experts, biases, lists of numbers."""

import pytest

from perfgate.models.catalogue import UnknownArchitecture
from tests.support.model_configs import shape_of


@pytest.mark.parametrize(
    ("name", "active_billions"),
    [
        ("glm-4.5-air", 13.4),  # its card says 12, without embedding and head
        ("minimax-m2.5", 11.0),  # 10 on its card
        ("olmoe-1b-7b", 1.3),
        ("granite-3.1-3b-a800m", 0.9),
        ("hunyuan-a13b", 12.7),
        ("phi-3.5-moe", 6.6),
        ("dots.llm1", 14.0),
    ],
)
def test_active_parameters(name, active_billions):
    """What one token uses is about what the makers say."""
    assert active_billions == pytest.approx(
        shape_of(name).active_parameters / 1e9, abs=0.06
    )


def test_lists_of_hunyuan_must_agree():
    """A number for each layer is understood where all are the same."""
    with pytest.raises(UnknownArchitecture, match="moe_topk"):
        shape_of("hunyuan-a13b", moe_topk=[8] * 31 + [4])


def test_block_sparse_layers_of_minimax():
    """57 of 60 layers have an index, and a step reads 16 blocks of 128 tokens."""
    read = [
        part.entries_read
        for layer in shape_of("minimax-m3").layers
        for part in layer.cache
        if part.kind == "growing"
    ]

    assert [0] * 3 + [16 * 128] * 57 == read


def test_layers_of_ernie_end_where_they_say():
    """Experts from one layer to another."""
    shape = shape_of("ernie-4.5-21b-a3b", moe_layer_end_index=20)

    assert 20 == shape.num_sparse_layers


@pytest.mark.parametrize(
    ("name", "changes", "seen"),
    [
        ("hunyuan-a13b", {"use_cla": True}, "use_cla is True"),
        (
            "minimax-m3",
            {"attention_output_gate": True},
            "attention_output_gate is True",
        ),
        ("olmoe-1b-7b", {"num_experts": 4}, "there are 4 experts"),
    ],
)
def test_what_is_not_understood_is_refused(name, changes, seen):
    """The field is named with its value."""
    with pytest.raises(UnknownArchitecture, match=seen):
        shape_of(name, **changes)
