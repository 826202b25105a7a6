"""Spans of attention: which layers see a window or a chunk, and how long it is."""

import pytest

from perfgate.models.families.fields import Common, FieldInvalid, Fields
from perfgate.models.families.spans import (
    alternate_windows,
    chunks_of,
    windows_of,
)

FIELDS = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "vocab_size": 100,
    "num_hidden_layers": 4,
    "max_position_embeddings": 1000,
}


def common(**fields):
    """The fields of a small model, and others."""
    return Common(Fields(FIELDS | fields))


@pytest.mark.parametrize(
    ("fields", "windows"),
    [
        ({}, (0, 0, 0, 0)),
        ({"sliding_window": 10}, (10, 10, 10, 10)),
        ({"sliding_window": 1000}, (0, 0, 0, 0)),
        ({"sliding_window": 10, "use_sliding_window": False}, (0, 0, 0, 0)),
        (
            {
                "sliding_window": 10,
                "use_sliding_window": True,
                "max_window_layers": 3,
            },
            (0, 0, 0, 10),
        ),
        ({"sliding_window": 10, "model_type": "qwen3"}, (0, 0, 0, 0)),
        ({"sliding_window": 10, "model_type": "smollm3"}, (0, 0, 0, 0)),
        (
            {
                "sliding_window": 10,
                "use_sliding_window": True,
                "model_type": "qwen2",
                "num_hidden_layers": 30,
            },
            (0,) * 28 + (10,) * 2,
        ),
    ],
)
def test_windows_by_switches(fields, windows):
    """A window as long as the longest sequence is none."""
    assert windows == windows_of(common(**fields))


def test_each_so_many_th_layer_sees_all_tokens():
    """Unless the layers are named; without a windowed one no width is needed."""
    full = ["full_attention"] * 4

    assert (10, 0, 10, 0) == alternate_windows(common(sliding_window=10), 2)
    assert (0, 0, 0, 0) == alternate_windows(common(layer_types=full), 2)


def test_layers_without_rotary_positions_see_all_chunks():
    """Each fourth, or those that a list names with one entry for each layer."""
    chunk = {"attention_chunk_size": 10}

    assert (10, 10, 10, 0) == chunks_of(common(**chunk))
    assert (0, 10, 0, 10) == chunks_of(
        common(**chunk, no_rope_layers=[0, 1, 0, 1])
    )
    with pytest.raises(FieldInvalid, match="no_rope_layers has 1 entries"):
        chunks_of(common(**chunk, no_rope_layers=[1]))
