"""Gemma: windows, wider heads where all tokens are seen, experts beside a dense block."""

import pytest

from perfgate.models.catalogue import UnknownArchitecture, parse_config
from tests.support.model_configs import MODELS, shape_of


@pytest.mark.parametrize(
    ("name", "full", "window"),
    [("gemma-2-2b", 13, 13), ("gemma-3-1b", 4, 22), ("gemma-4-26b-a4b", 5, 25)],
)
def test_layers_that_see_all_tokens(name, full, window):
    """Every second, or every sixth."""
    kinds = [layer.attention for layer in shape_of(name).layers]

    assert (full, window) == (kinds.count("full"), kinds.count("window"))


def test_wide_heads_keep_more():
    """Of Gemma 4: two heads of 512 where all tokens are seen, eight of 256 in a window."""
    kept = {
        (part.kind, part.values, part.pieces)
        for layer in shape_of("gemma-4-26b-a4b").layers
        for part in layer.cache
    }

    assert {("growing", 2048, 2), ("window", 4096, 8)} == kept


def test_keys_may_be_values():
    """Then there is no projection of values, and both are kept."""
    shape = shape_of("gemma-4-26b-a4b")
    names = [tensor.name for tensor in shape.layers[5].tensors]

    assert "self_attn.k_proj" in names
    assert "self_attn.v_proj" not in names


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size_per_layer_input": 256},
        {"num_kv_shared_layers": 4},
        {"use_double_wide_mlp": True},
    ],
)
def test_small_models_of_gemma_4_are_refused(changes):
    """Their layers have further weights, or share them."""
    text = MODELS["gemma-4-26b-a4b"]["config"]["text_config"]
    (name,) = changes

    with pytest.raises(UnknownArchitecture, match=name):
        parse_config(text | changes, "x/config.json")
