"""Building: the architecture's own fields agree with its layers."""

import pytest

from tests.support.model_configs import MODELS, shape_of


@pytest.mark.parametrize("name", MODELS)
def test_fields_agree_with_layers(name):
    """As many layers as the field says, and dense ones as it counts."""
    shape = shape_of(name)
    layers = shape.layers
    sparse = sum(layer.is_sparse for layer in layers)

    assert shape.num_hidden_layers == len(layers)
    assert shape.num_sparse_layers == sparse
    if shape.is_moe:
        assert shape.num_dense_layers == len(layers) - sparse
        assert shape.expert_parameters > 0


@pytest.mark.parametrize("name", MODELS)
def test_one_rank_holds_everything(name):
    """On one rank the weights are those that are published."""
    shape = shape_of(name)

    assert shape.weights_bytes("bfloat16") == pytest.approx(
        shape.weights_bytes_per_rank(1, "bfloat16")
    )
