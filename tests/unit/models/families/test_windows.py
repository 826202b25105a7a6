"""Families with windows: which layers see all tokens."""

import pytest

from perfgate.models.catalogue import UnknownArchitecture
from tests.support.model_configs import shape_of


@pytest.mark.parametrize(
    ("name", "full", "window"),
    [
        ("gpt-oss-20b", 12, 12),
        ("llama-4-scout", 12, 36),
        ("trinity-mini", 8, 24),
        ("k-exaone-236b-a23b", 12, 36),
        ("mimo-v2-flash", 9, 39),
    ],
)
def test_layers_that_see_all_tokens(name, full, window):
    """And those that see a window or a chunk."""
    kinds = [layer.attention for layer in shape_of(name).layers]

    assert (full, window) == (kinds.count("full"), kinds.count("window"))


def test_files_of_gpt_oss_are_as_large_as_computed():
    """The published tensors of gpt-oss-20b have 13,761,264,768 bytes."""
    assert 13_761_264_768 == shape_of("gpt-oss-20b").weights_bytes("bfloat16")


def test_windowed_layers_of_mimo_have_more_heads():
    """Eight key-value heads in a window, four where all tokens are seen."""
    pieces = {
        (layer.attention, part.pieces)
        for layer in shape_of("mimo-v2-flash").layers
        for part in layer.cache
    }

    assert {("full", 4), ("window", 8)} == pieces


@pytest.mark.parametrize(
    ("name", "changes", "seen"),
    [
        ("gpt-oss-20b", {"sliding_window": None}, "sliding_window"),
        ("gpt-oss-20b", {"num_experts_per_tok": 33}, "there are 32 experts"),
        ("mimo-v2-flash", {"hybrid_layer_pattern": [1]}, "1 entries, for 48"),
    ],
)
def test_impossible_fields_are_refused(name, changes, seen):
    """The field is named."""
    with pytest.raises(UnknownArchitecture, match=seen):
        shape_of(name, **changes)


def test_layers_of_maverick_take_turns():
    """Every second one has experts; without a list the step says which."""
    shape = shape_of("llama-4-maverick")

    assert ["dense", "sparse"] * 24 == [
        layer.feed_forward for layer in shape.layers
    ]
