"""Experts of a configuration: the layers that have them."""

import pytest

from perfgate.models.families.fields import (
    Common,
    FieldInvalid,
    Fields,
    Unsupported,
)
from perfgate.models.families.sparse import (
    checked_experts,
    sparse_layers,
    stepped_layers,
)

COMMON = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "vocab_size": 100,
    "num_hidden_layers": 4,
}


def common(**fields):
    """Four layers, and these fields."""
    return Common(Fields(COMMON | fields))


@pytest.mark.parametrize(
    ("fields", "sparse"),
    [
        ({"first_k_dense_replace": 1}, "-EEE"),
        ({"num_dense_layers": 3}, "---E"),
        ({"moe_layer_freq": [0, 1, 0, 1]}, "-E-E"),
        ({"mlp_layer_types": ["dense", "sparse", "sparse", "dense"]}, "-EE-"),
    ],
)
def test_layers_with_experts(fields, sparse):
    """By whichever field names them."""
    layers = sparse_layers(common(**fields))

    assert sparse == "".join("E" if one else "-" for one in layers)


def test_steps_and_exceptions_of_qwen():
    """Each second layer, less those that are named."""
    layers = stepped_layers(common(decoder_sparse_step=2, mlp_only_layers=[3]))

    assert (False, True, False, False) == layers


def test_another_frequency_is_refused():
    """It is not guessed which layers it means."""
    with pytest.raises(Unsupported, match="moe_layer_freq is 2"):
        sparse_layers(common(moe_layer_freq=2, first_k_dense_replace=1))


def test_more_chosen_than_there_are_is_refused():
    """200 of 128 experts."""
    fields = Fields({"experts": 128, "chosen": 200})

    with pytest.raises(FieldInvalid, match="chosen is 200: there are 128"):
        checked_experts(fields, "experts", "chosen")
