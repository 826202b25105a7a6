"""Readers of families with a fixed state: Qwen3-Next and 3.5, Kimi Linear, Nemotron-H, LFM2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from perfgate.models.architecture import Architecture
from perfgate.models.families.building import (
    Block,
    Experts,
    Widths,
    attention_layer,
    blocks,
    built,
    heads_of,
    layer,
    shared_and_routed,
    sparse_and_dense,
    widths_of,
)
from perfgate.models.families.fields import (
    Common,
    Fields,
    bias_of,
    state_bytes_of,
)
from perfgate.models.families.latent import hyper_connections, own_index
from perfgate.models.families.plain import latent_attention, with_draft
from perfgate.models.families.sparse import (
    checked_experts,
    sparse_layers,
    stepped_layers,
)
from perfgate.models.shapes.attention import Index, Mixer, latent, with_index
from perfgate.models.shapes.feed_forward import Routed, dense, routed
from perfgate.models.shapes.layers import Layer
from perfgate.models.shapes.recurrent import (
    DeltaNet,
    KimiDelta,
    delta_net,
    kimi_delta,
    short_convolution,
)
from perfgate.models.shapes.tensors import Tensor
from perfgate.models.shapes.uniform import shared_expert

_TYPES = ("linear_attention", "full_attention")


def read_qwen3_next(fields: Fields) -> Architecture:
    """Qwen3-Next: three of four layers are a gated delta net; a shared expert."""
    return _qwen(fields, fused=True)


def read_qwen3_5(fields: Fields) -> Architecture:
    """Qwen3.5 and 3.6, sparse or dense: a gated delta net with four projections."""
    return _qwen(fields, fused=False)


def _qwen(fields: Fields, *, fused: bool) -> Architecture:
    common = Common(fields)
    if not fields.flag("attn_output_gate", default=True):
        fields.unsupported("attn_output_gate")
    experts, feed_forwards = _qwen_blocks(common)
    sparse = (False,) * common.num_layers
    if experts.number > 1:
        sparse = stepped_layers(common)
    heads = heads_of(common, bias_of(fields))
    heads = heads._replace(norm="head", gated=True)
    linear = delta_net(_delta_shape(common, fused=fused))
    interval = fields.count("full_attention_interval", 4)
    types = common.attention_types("linear_attention", interval)
    layers = []
    for name, is_sparse in zip(types, sparse, strict=True):
        block = feed_forwards[is_sparse]
        if name == "full_attention":
            layers.append(attention_layer(heads, block))
        else:
            layers.append(layer("linear", linear, *block, common.hidden))
    width = fields.first_count("intermediate_size", "moe_intermediate_size")
    architecture = built(
        common, layers, Widths(common.kv_heads, common.head_dim, width), experts
    )
    predicting = attention_layer(heads, feed_forwards[sparse[-1]])
    depth = fields.count("mtp_num_hidden_layers", 0, least=0)
    return with_draft(architecture, predicting, depth)


def _qwen_blocks(common: Common) -> tuple[Experts, dict[bool, Block]]:
    fields = common.fields
    is_sparse = fields.has("num_experts")
    dense_tensors: tuple[Tensor, ...] = ()
    if fields.has("intermediate_size") or not is_sparse:
        dense_tensors = dense(common.hidden, common.intermediate)
    if not is_sparse:
        return Experts(), blocks((), dense_tensors)
    experts, chosen = checked_experts(
        fields, "num_experts", "num_experts_per_tok"
    )
    width = fields.count("moe_intermediate_size")
    shared = fields.count("shared_expert_intermediate_size", least=0)
    tensors = routed(Routed(common.hidden, width, experts))
    tensors += shared_expert(
        common.hidden, shared, name="mlp.shared_expert", gated=True
    )
    return (
        Experts(experts, chosen, width, shared),
        blocks(tensors, dense_tensors),
    )


def _delta_shape(common: Common, *, fused: bool) -> DeltaNet:
    fields = common.fields
    return DeltaNet(
        hidden=common.hidden,
        key_heads=fields.count("linear_num_key_heads"),
        value_heads=fields.count("linear_num_value_heads"),
        key_dim=fields.count("linear_key_head_dim"),
        value_dim=fields.count("linear_value_head_dim"),
        kernel=fields.count("linear_conv_kernel_dim"),
        fused=fused,
        state_bytes=state_bytes_of(fields, "mamba_ssm_dtype"),
    )


# Fields of Kimi K3, whose layers have further weights.
_KIMI_UNKNOWN = ("attn_res_block_size", "routed_expert_hidden_size")


def read_kimi_linear(fields: Fields) -> Architecture:
    """Kimi Linear: Kimi's delta attention, and latent attention in some layers."""
    common = Common(fields)
    for name in _KIMI_UNKNOWN:
        if fields.has(name):
            fields.unsupported(name)
    experts, feed_forwards = sparse_and_dense(
        common, "num_experts", "num_shared_experts", chosen=_chosen_name(fields)
    )
    shape = latent_attention(
        Fields({"q_lora_rank": None} | dict(fields.values))
    )
    full = latent(common.hidden, common.heads, shape)
    types, linear = _kimi_linear_layers(common)
    mixers = {
        "full_attention": ("latent", full),
        "linear_attention": ("linear", linear),
    }
    return built(
        common,
        _alternating(common, types, mixers, feed_forwards),
        Widths(common.heads, shape.head_dim, common.intermediate),
        experts,
        draft_layers=common.draft_layers,
    )


def _alternating(
    common: Common,
    types: Sequence[str],
    mixers: Mapping[str, tuple[str, Mixer]],
    feed_forwards: Mapping[bool, Block],
) -> list[Layer]:
    """The layers of these types, each with its mixer and its feed-forward."""
    layers = []
    for name, is_sparse in zip(types, sparse_layers(common), strict=True):
        kind, mixer = mixers[name]
        block = feed_forwards[is_sparse]
        layers.append(layer(kind, mixer, *block, common.hidden))
    return layers


def _chosen_name(fields: Fields) -> str:
    if fields.has("num_experts_per_token"):
        return "num_experts_per_token"
    return "num_experts_per_tok"


def _kimi_linear_layers(common: Common) -> tuple[tuple[str, ...], Mixer]:
    """Which layers are linear, and the mixer of those."""
    fields = common.fields
    table = fields.table("linear_attn_config")
    if table is None:
        types = common.layer_names("layer_types", _TYPES)
        return types, _linear_delta(common)
    if table.flag("use_full_rank_gate"):
        table.unsupported("use_full_rank_gate")
    # Counted from 1.
    full = table.counts("full_attn_layers")
    types = tuple(
        _TYPES[number + 1 in full] for number in range(common.num_layers)
    )
    return types, kimi_delta(
        KimiDelta(
            hidden=common.hidden,
            heads=table.count("num_heads"),
            head_dim=table.count("head_dim"),
            kernel=table.count("short_conv_kernel_size"),
        )
    )


def _linear_delta(common: Common) -> Mixer:
    """Kimi's delta attention, by the fields of transformers."""
    fields = common.fields
    return kimi_delta(
        KimiDelta(
            hidden=common.hidden,
            heads=fields.count("linear_num_heads"),
            head_dim=fields.count("linear_head_dim"),
            kernel=fields.count("linear_conv_kernel_dim"),
        )
    )


def read_glm5_next(fields: Fields) -> Architecture:
    """GLM-5-Next: delta attention, latent attention with a pooled index, hyper-connections."""
    common = Common(fields)
    experts, expert_tensors = shared_and_routed(
        common, "n_routed_experts", "n_shared_experts"
    )
    mixing = hyper_connections(common.hidden, fields.count("hc_mult"))
    feed_forwards = blocks(
        (*expert_tensors, *mixing),
        (*dense(common.hidden, common.intermediate), *mixing),
    )
    shape = latent_attention(fields)
    if shape.q_lora_rank is None:
        fields.unsupported("q_lora_rank")
    main = latent(common.hidden, common.heads, shape)
    index = Index(
        hidden=common.hidden,
        query_inputs=shape.q_lora_rank,
        heads=fields.count("index_n_heads"),
        head_dim=fields.count("index_head_dim"),
        tokens_per_entry=fields.count("index_kpool"),
        pooled=True,
    )
    if not all(own_index(common)):
        fields.unsupported("indexer_types")
    full = with_index(main, index, fields.count("index_topk"))
    names = ("linear_attention", "indexed_attention")
    types = common.layer_names("layer_types", names)
    mixers = {
        "indexed_attention": ("sparse index", full),
        "linear_attention": ("linear", _linear_delta(common)),
    }
    return built(
        common,
        _alternating(common, types, mixers, feed_forwards),
        Widths(common.heads, shape.head_dim, common.intermediate),
        experts,
    )


def read_lfm2_moe(fields: Fields) -> Architecture:
    """LFM2-MoE: short convolutions, and attention in some layers."""
    common = Common(fields)
    is_tied = fields.flag("tie_embedding", default=True)
    common.tied = fields.flag("tie_word_embeddings", default=is_tied)
    experts, chosen = checked_experts(
        fields, "num_experts", "num_experts_per_tok"
    )
    width = fields.count("moe_intermediate_size")
    name = "feed_forward"
    feed_forwards = blocks(
        routed(Routed(common.hidden, width, experts, name=name)),
        dense(common.hidden, common.intermediate, name=name),
    )
    heads = heads_of(common)._replace(norm="head", output="out_proj")
    convolution = short_convolution(
        common.hidden,
        fields.count("conv_L_cache"),
        bias=fields.flag("conv_bias"),
    )
    types = common.layer_names("layer_types", ("conv", "full_attention"))
    layers = []
    for name, is_sparse in zip(types, sparse_layers(common), strict=True):
        block = feed_forwards[is_sparse]
        if name == "conv":
            layers.append(
                layer("convolution", convolution, *block, common.hidden)
            )
        else:
            layers.append(attention_layer(heads, block))
    return built(
        common, layers, widths_of(common), Experts(experts, chosen, width)
    )
