"""Families with Mamba-2 layers: patterns, experts of two matrices, shared blocks."""

import pytest

from perfgate.models.catalogue import UnknownArchitecture
from tests.support.model_configs import MODELS, shape_of


@pytest.mark.parametrize(
    ("name", "attention", "mamba", "sparse"),
    [
        ("nemotron-3-nano", 6, 23, 23),
        ("nemotron-h-56b", 10, 54, 0),
        ("granite-4.0-h-small", 4, 36, 40),
    ],
)
def test_layers_of_each_kind(name, attention, mamba, sparse):
    """In Nemotron a layer is one of them; in Granite each has a feed-forward too."""
    shape = shape_of(name)
    kinds = [layer.attention for layer in shape.layers]

    assert (attention, mamba) == (kinds.count("full"), kinds.count("mamba"))
    assert sparse == shape.num_sparse_layers


def test_experts_of_nemotron_have_two_matrices():
    """And work at a smaller width in the larger models."""
    nano = shape_of("nemotron-3-nano")
    super_model = shape_of("nemotron-3-super-nvfp4")

    assert 23 * 2 * 2688 * 1856 == nano.expert_parameters
    assert 40 * 2 * 1024 * 2688 == super_model.expert_parameters


def test_patterns_may_be_names():
    """Newer files list the kinds of layers in words."""
    config = dict(MODELS["nemotron-3-nano"]["config"])
    names = {"M": "linear_attention", "*": "full_attention", "E": "moe"}
    pattern = config["hybrid_override_pattern"]

    shape = shape_of(
        "nemotron-3-nano",
        hybrid_override_pattern=None,
        layers_block_type=[names[letter] for letter in pattern],
    )

    assert shape_of("nemotron-3-nano") == shape


def test_granite_without_experts_is_dense():
    """Its small models have the shared block alone."""
    shape = shape_of("granite-4.0-h-small", num_local_experts=0)

    assert not shape.is_moe
    assert 40 * 3 * 4096 * 1536 == shape.group_parameters("dense")


@pytest.mark.parametrize(
    ("name", "changes", "seen"),
    [
        (
            "nemotron-3-nano",
            {"hybrid_override_pattern": "MX"},
            "hybrid_override_pattern is 'MX'",
        ),
        (
            "nemotron-3-nano",
            {"hybrid_override_pattern": "M*E"},
            "has 3 layers, and num_hidden_layers is 52",
        ),
        (
            "nemotron-3-nano",
            {"mamba_ssm_cache_dtype": "int4"},
            "mamba_ssm_cache_dtype is 'int4'",
        ),
        (
            "granite-4.0-h-small",
            {"num_experts_per_tok": 100},
            "there are 72 experts",
        ),
    ],
)
def test_what_is_not_understood_is_refused(name, changes, seen):
    """The field is named with its value."""
    with pytest.raises(UnknownArchitecture, match=seen):
        shape_of(name, **changes)
