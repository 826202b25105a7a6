"""Readers of families with attention windows: gpt-oss, Llama 4, AFMoE, EXAONE, MiMo."""

from __future__ import annotations

from perfgate.models.architecture import Architecture
from perfgate.models.families.building import (
    Experts,
    attention_layer,
    blocks,
    built,
    heads_of,
    sparse_and_dense,
    widths_of,
)
from perfgate.models.families.fields import Common, Fields, bias_of
from perfgate.models.families.spans import (
    alternate_windows,
    chunks_of,
    windows_of,
)
from perfgate.models.families.sparse import checked_experts, sparse_layers
from perfgate.models.shapes.attention import Heads
from perfgate.models.shapes.feed_forward import Routed, dense, routed
from perfgate.models.shapes.uniform import shared_expert


def read_gpt_oss(fields: Fields) -> Architecture:
    """gpt-oss: biases everywhere, sinks, every other layer sees a window."""
    common = Common(fields)
    experts, chosen = checked_experts(
        fields, "num_local_experts", "num_experts_per_tok"
    )
    width = common.intermediate
    sparse = routed(
        Routed(
            hidden=common.hidden,
            width=width,
            number=experts,
            router="router",
            bias=True,
            router_bias=True,
        )
    )
    heads = heads_of(common, bias_of(fields, default=True))
    heads = heads._replace(sinks=True)
    layers = []
    for window in alternate_windows(common, interval=2):
        windowed = heads._replace(window=window)
        layers.append(attention_layer(windowed, ("sparse", sparse)))
    return built(
        common, layers, widths_of(common), Experts(experts, chosen, width)
    )


def read_llama4(fields: Fields) -> Architecture:
    """Llama 4: one of many experts and a shared one, attention in chunks."""
    common = Common(fields)
    experts, chosen = checked_experts(
        fields, "num_local_experts", "num_experts_per_tok"
    )
    width = common.intermediate
    sparse = _llama4_sparse(common)
    name = "feed_forward"
    expert_tensors = routed(
        Routed(common.hidden, width, experts, name=name, router="router")
    )
    expert_tensors += shared_expert(
        common.hidden, width, name=f"{name}.shared_expert"
    )
    dense_width = fields.count("intermediate_size_mlp")
    dense_tensors = dense(common.hidden, dense_width, name=name)
    feed_forwards = blocks(expert_tensors, dense_tensors)
    heads = heads_of(common, bias_of(fields))
    layers = []
    for is_sparse, window in zip(sparse, chunks_of(common), strict=True):
        windowed = heads._replace(window=window)
        layers.append(attention_layer(windowed, feed_forwards[is_sparse]))
    return built(
        common,
        layers,
        widths_of(common)._replace(intermediate=dense_width),
        Experts(experts, chosen, width, width),
    )


def _llama4_sparse(common: Common) -> list[bool]:
    fields = common.fields
    step = fields.count("interleave_moe_layer_step", 1)
    named = fields.counts("moe_layers")
    sparse = []
    for number in range(common.num_layers):
        if fields.has("moe_layers"):
            sparse.append(number in named)
        else:
            sparse.append((number + 1) % step == 0)
    return sparse


def read_afmoe(fields: Fields) -> Architecture:
    """AFMoE (Trinity): gated attention, four norms a layer, three of four layers see a window."""
    common = Common(fields)
    experts, feed_forwards = sparse_and_dense(
        common,
        "num_experts",
        "num_shared_experts",
        router="router.gate",
        score_bias=True,
    )
    heads = heads_of(common, bias_of(fields))
    heads = heads._replace(norm="head", separate_gate=True)
    interval = fields.count("global_attn_every_n_layers", 4)
    windows = alternate_windows(common, interval)
    layers = []
    for window, is_sparse in zip(windows, sparse_layers(common), strict=True):
        windowed = heads._replace(window=window)
        block = feed_forwards[is_sparse]
        layers.append(attention_layer(windowed, block, norms=4))
    return built(common, layers, widths_of(common), experts)


def read_exaone_moe(fields: Fields) -> Architecture:
    """EXAONE-MoE and Hy3: norms of queries and keys, windows, a dense first layer."""
    common = Common(fields)
    experts, feed_forwards = sparse_and_dense(
        common, "num_experts", "num_shared_experts"
    )
    heads = heads_of(common)._replace(norm="head")
    windows = windows_of(common)
    layers = []
    for window, is_sparse in zip(windows, sparse_layers(common), strict=True):
        windowed = heads._replace(window=window)
        layers.append(attention_layer(windowed, feed_forwards[is_sparse]))
    return built(
        common,
        layers,
        widths_of(common),
        experts,
        draft_layers=common.draft_layers,
    )


def read_mimo(fields: Fields) -> Architecture:
    """MiMo-V2: windowed layers have key-value heads and sinks of their own."""
    common = Common(fields)
    experts, feed_forwards = sparse_and_dense(
        common, "n_routed_experts", "n_shared_experts"
    )
    layers = []
    for is_window, is_sparse in zip(
        _mimo_windows(common), sparse_layers(common), strict=True
    ):
        heads = _mimo_heads(common, is_window=is_window)
        layers.append(attention_layer(heads, feed_forwards[is_sparse]))
    return built(common, layers, widths_of(common), experts)


def _mimo_windows(common: Common) -> tuple[bool, ...]:
    if common.fields.has("hybrid_layer_pattern"):
        pattern = common.layer_counts("hybrid_layer_pattern")
        return tuple(number > 0 for number in pattern)
    names = common.layer_names(
        "layer_types", ("full_attention", "sliding_attention")
    )
    return tuple(name == "sliding_attention" for name in names)


def _mimo_heads(common: Common, *, is_window: bool) -> Heads:
    fields = common.fields
    heads = heads_of(common, bias_of(fields))
    if not is_window:
        return heads._replace(
            value_dim=fields.count("v_head_dim", common.head_dim),
            sinks=fields.flag("add_full_attention_sink_bias"),
        )
    head_dim = fields.count("swa_head_dim", common.head_dim)
    return heads._replace(
        heads=fields.count("swa_num_attention_heads", common.heads),
        kv_heads=fields.count("swa_num_key_value_heads", common.kv_heads),
        head_dim=head_dim,
        value_dim=fields.count("swa_v_head_dim", head_dim),
        sinks=fields.flag("add_swa_attention_sink_bias", default=True),
        window=fields.count("sliding_window"),
    )
