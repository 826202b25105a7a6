"""Spans of attention: how many tokens each layer sees, by a configuration's fields."""

from __future__ import annotations

from collections.abc import Sequence

from perfgate.models.families.fields import Common

# Families whose window is off unless `use_sliding_window` says otherwise.
_OFF_BY_DEFAULT = ("qwen", "smollm3")
# Layers of a Qwen that see all tokens, where the file does not say.
_QWEN_FULL_LAYERS = 28


def windows_of(common: Common) -> tuple[int, ...]:
    """Tokens that each layer's attention sees; 0 for all.

    A window as long as the model's longest sequence is none.
    """
    fields = common.fields
    window = fields.count("sliding_window", 0, least=0)
    longest = fields.first_count(
        "max_position_embeddings", "model_max_length", default=0
    )
    family = fields.text("model_type", "")
    is_used = fields.flag(
        "use_sliding_window", default=not family.startswith(_OFF_BY_DEFAULT)
    )
    if not is_used or window >= longest:
        window = 0
    if fields.has("layer_types"):
        names = common.layer_names(
            "layer_types", ("full_attention", "sliding_attention")
        )
        return _of_named(names, "sliding_attention", window)
    full = 0
    if fields.has("use_sliding_window"):
        default = _QWEN_FULL_LAYERS if family.startswith("qwen") else 0
        full = fields.count("max_window_layers", default, least=0)
    windowed = max(0, common.num_layers - full)
    return (0,) * (common.num_layers - windowed) + (window,) * windowed


def alternate_windows(common: Common, interval: int) -> tuple[int, ...]:
    """Tokens that each layer's attention sees; 0 for all, as each so-many-th layer does."""
    names = common.attention_types("sliding_attention", interval)
    if "sliding_attention" not in names:
        return (0,) * common.num_layers
    window = common.fields.count("sliding_window")
    return _of_named(names, "sliding_attention", window)


def chunks_of(common: Common) -> tuple[int, ...]:
    """Tokens of the chunk that each layer sees; 0 for a layer that sees all."""
    fields = common.fields
    chunk = fields.count("attention_chunk_size", 0, least=0)
    names = ("full_attention", "chunked_attention")
    if fields.has("layer_types"):
        types = common.layer_names("layer_types", names)
        return _of_named(types, "chunked_attention", chunk)
    # Layers without rotary positions see all tokens: each fourth, unless it is told.
    interval = fields.count("no_rope_layer_interval", 4)
    if fields.counts("no_rope_layers"):
        rotary = common.layer_counts("no_rope_layers")
        return tuple(chunk * (number > 0) for number in rotary)
    numbers = range(1, common.num_layers + 1)
    return tuple(chunk * (number % interval != 0) for number in numbers)


def _of_named(layers: Sequence[str], name: str, tokens: int) -> tuple[int, ...]:
    """So many tokens for each layer of that name; 0 for the others."""
    spans = []
    for layer in layers:
        span = 0
        if layer == name:
            span = tokens
        spans.append(span)
    return tuple(spans)
