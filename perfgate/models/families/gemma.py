"""Readers of Gemma 2, 3 and 4: four norms a layer, windows, and a tied head."""

from __future__ import annotations

from perfgate.models.architecture import Architecture
from perfgate.models.families.building import (
    Experts,
    attention_layer,
    built,
    heads_of,
    widths_of,
)
from perfgate.models.families.fields import Common, Fields, bias_of
from perfgate.models.families.spans import alternate_windows
from perfgate.models.families.sparse import checked_experts
from perfgate.models.shapes.attention import Heads
from perfgate.models.shapes.feed_forward import Routed, dense, routed
from perfgate.models.shapes.tensors import Tensor, vector


def read_gemma(fields: Fields) -> Architecture:
    """Gemma 2 and 3: four norms a layer, windows, the head is the embedding."""
    common = Common(fields)
    common.tied = fields.flag("tie_word_embeddings", default=True)
    is_third = fields.text("model_type", "").startswith("gemma3")
    feed_forward = dense(common.hidden, common.intermediate)
    heads = heads_of(common, bias_of(fields))
    interval = 2
    if is_third:
        heads = heads._replace(norm="head")
        interval = 6
    layers = []
    for window in _gemma_windows(common, interval):
        windowed = heads._replace(window=window)
        layers.append(
            attention_layer(windowed, ("dense", feed_forward), norms=4)
        )
    return built(common, layers, widths_of(common), Experts())


def _gemma_windows(common: Common, interval: int) -> tuple[int, ...]:
    """Windows of each layer: all but each so-many-th see one."""
    interval = common.fields.count("sliding_window_pattern", interval)
    return alternate_windows(common, interval)


# Fields of Gemma 4's small models, whose layers have further weights or share them.
_GEMMA4_UNKNOWN = (
    "hidden_size_per_layer_input",
    "num_kv_shared_layers",
    "use_double_wide_mlp",
)


def read_gemma4(fields: Fields) -> Architecture:
    """Gemma 4: wider heads where all tokens are seen, experts beside a dense block."""
    common = Common(fields)
    common.tied = fields.flag("tie_word_embeddings", default=True)
    for name in _GEMMA4_UNKNOWN:
        if fields.values.get(name):
            fields.unsupported(name)
    tensors = dense(common.hidden, common.intermediate)
    experts = Experts()
    feed_forward = "dense"
    norms = 4
    if fields.flag("enable_moe_block"):
        experts, more = _gemma4_experts(common)
        tensors += more
        feed_forward = "sparse"
        norms = 7
    layers = []
    for window in _gemma_windows(common, 6):
        heads = _gemma4_heads(common, window)
        layers.append(
            attention_layer(heads, (feed_forward, tensors), norms=norms)
        )
    return built(common, layers, widths_of(common), experts)


def _gemma4_heads(common: Common, window: int) -> Heads:
    """Heads of a layer; those that see all tokens have a width of their own."""
    fields = common.fields
    heads = heads_of(common, bias_of(fields))
    heads = heads._replace(norm="head", window=window)
    if window:
        return heads
    keys_are_values = fields.flag("attention_k_eq_v")
    kv_heads = common.kv_heads
    if keys_are_values:
        kv_heads = fields.count("num_global_key_value_heads", kv_heads)
    return heads._replace(
        kv_heads=kv_heads,
        head_dim=fields.count("global_head_dim", common.head_dim),
        keys_are_values=keys_are_values,
    )


def _gemma4_experts(common: Common) -> tuple[Experts, tuple[Tensor, ...]]:
    """Experts beside the dense block, whose router scales its inputs and outputs."""
    fields = common.fields
    number, chosen = checked_experts(fields, "num_experts", "top_k_experts")
    width = fields.first_count(
        "moe_intermediate_size", "expert_intermediate_size"
    )
    tensors = routed(
        Routed(common.hidden, width, number, name="moe", router="router")
    )
    tensors += (
        vector("moe.router", "router", common.hidden),
        vector("moe.router", "router", number),
    )
    return Experts(number, chosen, width), tensors
