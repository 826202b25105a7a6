"""Readers of families with latent attention: DeepSeek-V3.2 and V4, GLM-5, LongCat."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from perfgate.models.architecture import Architecture
from perfgate.models.families.building import (
    Experts,
    Widths,
    built,
    layer,
    shared_and_routed,
    sparse_and_dense,
)
from perfgate.models.families.fields import Common, FieldInvalid, Fields
from perfgate.models.families.plain import latent_attention
from perfgate.models.families.sparse import sparse_layers
from perfgate.models.shapes.attention import Index, Mixer, latent, with_index
from perfgate.models.shapes.cache import CachePart
from perfgate.models.shapes.feed_forward import Routed, dense, routed
from perfgate.models.shapes.layers import Layer, outside
from perfgate.models.shapes.tensors import (
    Tensor,
    by_heads,
    from_heads,
    matrix,
    vector,
)
from perfgate.models.shapes.uniform import draft_of


def read_indexed(fields: Fields) -> Architecture:
    """DeepSeek-V3.2 and GLM-5: an index says which tokens a step reads."""
    common = Common(fields)
    shape = latent_attention(fields)
    if shape.q_lora_rank is None:
        fields.unsupported("q_lora_rank")
    experts, feed_forwards = sparse_and_dense(
        common, "n_routed_experts", "n_shared_experts"
    )
    main = latent(
        common.hidden, common.heads, shape, bias=fields.flag("attention_bias")
    )
    index = Index(
        hidden=common.hidden,
        query_inputs=shape.q_lora_rank,
        heads=fields.count("index_n_heads"),
        head_dim=fields.count("index_head_dim"),
    )
    chosen_tokens = fields.count("index_topk")
    indexed = with_index(main, index, chosen_tokens)
    sharing = with_index(main, None, chosen_tokens)
    layers = []
    for has_index, is_sparse in zip(
        own_index(common), sparse_layers(common), strict=True
    ):
        mixer = indexed if has_index else sharing
        layers.append(
            layer(
                "sparse index", mixer, *feed_forwards[is_sparse], common.hidden
            )
        )
    return built(
        common,
        layers,
        Widths(common.heads, shape.head_dim, common.intermediate),
        experts,
        draft_layers=common.draft_layers,
    )


def own_index(common: Common) -> tuple[bool, ...]:
    """For each layer whether it has an index of its own, or uses that of one before it."""
    names = common.layer_names(
        "indexer_types", ("full", "shared"), ("full",) * common.num_layers
    )
    return tuple(name == "full" for name in names)


def read_longcat(fields: Fields) -> Architecture:
    """LongCat-Flash: two attentions and two dense blocks a layer, experts without weights."""
    common = Common(fields)
    shape = latent_attention(fields)
    experts = fields.count("n_routed_experts")
    zero = fields.count("zero_expert_num", 0, least=0)
    chosen = fields.count("moe_topk")
    if chosen > experts + zero:
        fields.refuse("moe_topk", f"there are {experts + zero} experts")
    width = fields.first_count(
        "expert_ffn_hidden_size", "moe_intermediate_size"
    )
    dense_width = fields.first_count("ffn_hidden_size", "intermediate_size")
    mixer = latent(
        common.hidden, common.heads, shape, bias=fields.flag("attention_bias")
    )
    dense_tensors = dense(common.hidden, dense_width, name="mlps")
    expert_tensors = routed(
        Routed(
            common.hidden,
            width,
            experts,
            router="router.classifier",
            zero_experts=zero,
            router_bias=fields.flag("router_bias"),
        )
    )
    both = layer(
        "latent",
        mixer,
        "sparse",
        (*dense_tensors, *expert_tensors),
        common.hidden,
    )
    second = layer("latent", mixer, "dense", dense_tensors, common.hidden)
    return built(
        common,
        [both, second] * common.num_layers,
        Widths(common.heads, shape.head_dim, dense_width),
        Experts(experts, chosen, width, zero=zero),
    )


def hyper_connections(hidden: int, streams: int) -> tuple[Tensor, ...]:
    """Weights that mix a layer's parallel streams, before attention and feed-forward."""
    mixes = (2 + streams) * streams
    return (
        Tensor("hc.fn", "other", (mixes * streams * hidden,), count=2),
        Tensor("hc.base", "other", (mixes,), count=2),
        Tensor("hc.scale", "other", (3,), count=2),
    )


class _Compressed(NamedTuple):
    """Fields of DeepSeek-V4's attention."""

    hidden: int
    heads: int
    head_dim: int
    rank: int
    window: int
    groups: int
    output_rank: int
    index_heads: int
    index_dim: int
    index_chosen: int


def read_deepseek_v4(fields: Fields) -> Architecture:
    """DeepSeek-V4: compressed attention, hash-routed first layers, hyper-connections."""
    common = Common(fields)
    experts, tensors = shared_and_routed(
        common, "n_routed_experts", "n_shared_experts"
    )
    streams = fields.count("hc_mult")
    tensors += hyper_connections(common.hidden, streams)
    shape = _compressed_shape(common)
    layers = []
    for ratio, kind in zip(_ratios(common), _v4_routing(common), strict=True):
        attention = "compressed" if ratio else "window"
        mixer = _compressed(shape, ratio)
        layers.append(layer(attention, mixer, kind, tensors, common.hidden))
    around = (
        *outside(common.hidden, common.vocabulary, tied=common.tied),
        vector("hc_head", "other", streams * streams * common.hidden),
        vector("hc_head", "other", streams + 1),
    )
    architecture = built(
        common,
        layers,
        Widths(common.kv_heads, common.head_dim, experts.width),
        experts,
        around=around,
    )
    return _with_v4_draft(architecture, common, shape, tensors, streams)


def _compressed_shape(common: Common) -> _Compressed:
    fields = common.fields
    return _Compressed(
        hidden=common.hidden,
        heads=common.heads,
        head_dim=common.head_dim,
        rank=fields.count("q_lora_rank"),
        window=fields.count("sliding_window"),
        groups=fields.count("o_groups"),
        output_rank=fields.count("o_lora_rank"),
        index_heads=fields.count("index_n_heads"),
        index_dim=fields.count("index_head_dim"),
        index_chosen=fields.count("index_topk"),
    )


def _v4_routing(common: Common) -> tuple[str, ...]:
    """Feed-forward of each layer: the first choose experts by the token's number."""
    fields = common.fields
    if fields.has("mlp_layer_types"):
        names = common.layer_names("mlp_layer_types", ("hash_moe", "moe"))
        kinds = {"hash_moe": "hash", "moe": "sparse"}
        return tuple(kinds[name] for name in names)
    first = fields.count("num_hash_layers", 0, least=0)
    hashed = min(first, common.num_layers)
    return ("hash",) * hashed + ("sparse",) * (common.num_layers - hashed)


_COMPRESSED = {
    "compressed_sparse_attention": 4,
    "heavily_compressed_attention": 128,
    "sliding_attention": 0,
}


def _ratios(common: Common) -> tuple[int, ...]:
    """Tokens that an entry of each layer's cache stands for; 0 for a window alone."""
    fields = common.fields
    if not fields.has("compress_ratios"):
        names = common.layer_names("layer_types", tuple(_COMPRESSED))
        return tuple(_COMPRESSED[name] for name in names)
    ratios = fields.counts("compress_ratios")
    # Further entries are those of the layers that predict further tokens.
    if len(ratios) < common.num_layers:
        raise FieldInvalid(
            f"compress_ratios has {len(ratios)} entries, for "
            f"{common.num_layers} layers"
        )
    if not set(ratios) <= set(_COMPRESSED.values()):
        fields.unsupported("compress_ratios")
    return ratios[: common.num_layers]


def _compressed(shape: _Compressed, ratio: int) -> Mixer:
    """Attention to a window and to compressed entries; at a ratio of 4 an index chooses them."""
    width = shape.heads * shape.head_dim
    grouped_output = shape.groups * shape.output_rank
    name = "self_attn"
    tensors = [
        vector(f"{name}.sinks", "attention", shape.heads, pieces=shape.heads),
        matrix(f"{name}.q_a_proj", "attention", shape.rank, shape.hidden),
        vector(f"{name}.q_a_norm", "norms", shape.rank),
        by_heads(f"{name}.q_b_proj", width, shape.rank, shape.heads),
        matrix(f"{name}.kv_proj", "attention", shape.head_dim, shape.hidden),
        vector(f"{name}.kv_norm", "norms", shape.head_dim),
        by_heads(
            f"{name}.o_a_proj",
            grouped_output,
            width // shape.groups,
            shape.groups,
        ),
        from_heads(
            f"{name}.o_b_proj", shape.hidden, grouped_output, shape.groups
        ),
    ]
    cache = [
        CachePart(kind="window", values=shape.head_dim, window=shape.window)
    ]
    if not ratio:
        return Mixer(tuple(tensors), tuple(cache))
    has_index = ratio == _COMPRESSED["compressed_sparse_attention"]
    tensors += _compressor(
        f"{name}.compressor", shape.hidden, shape.head_dim, ratio, has_index
    )
    entries = CachePart(
        kind="growing",
        values=shape.head_dim,
        tokens_per_entry=ratio,
        entries_read=shape.index_chosen * has_index,
    )
    cache.append(entries)
    if has_index:
        tensors += _compressed_index(shape, ratio)
        # Keys in FP8 with a scale of 4 bytes for each 128 values.
        keys = CachePart(
            kind="index",
            values=shape.index_dim,
            tokens_per_entry=ratio,
            bytes_per_value=1 + 4 / 128,
        )
        cache.append(keys)
    return Mixer(tuple(tensors), tuple(cache))


def _compressor(
    name: str, hidden: int, head_dim: int, ratio: int, overlaps: bool
) -> list[Tensor]:
    """Weights that make one entry of some tokens; no quantization converts them.

    Args:
        name: of the module.
        hidden: width of the model.
        head_dim: width of an entry.
        ratio: tokens of an entry.
        overlaps: whether entries share tokens, for which the projections are doubled.

    """
    width = head_dim * (1 + overlaps)
    return [
        vector(f"{name}.position_bias", "attention", ratio * width),
        Tensor(
            f"{name}.kv_proj",
            "attention",
            (width, hidden),
            count=2,
            convertible=False,
        ),
        vector(f"{name}.kv_norm", "norms", head_dim),
    ]


def _compressed_index(shape: _Compressed, ratio: int) -> list[Tensor]:
    name = "self_attn.compressor.indexer"
    weights = Tensor(
        f"{name}.weights_proj",
        "attention",
        (shape.index_heads, shape.hidden),
        convertible=False,
    )
    return [
        *_compressor(name, shape.hidden, shape.index_dim, ratio, True),
        matrix(
            f"{name}.q_b_proj",
            "attention",
            shape.index_heads * shape.index_dim,
            shape.rank,
        ),
        weights,
    ]


def _with_v4_draft(
    architecture: Architecture,
    common: Common,
    shape: _Compressed,
    feed_forward: tuple[Tensor, ...],
    streams: int,
) -> Architecture:
    """The architecture with its layer that predicts a further token: a window alone."""
    one: Layer = layer(
        "window", _compressed(shape, 0), "sparse", feed_forward, common.hidden
    )
    draft = (
        *draft_of(one, common.hidden, 1),
        vector("hc_head", "other", streams * streams * common.hidden),
        vector("hc_head", "other", streams + 1),
    )
    told = msgspec.structs.replace(
        architecture.told, draft=draft * common.draft_layers
    )
    return msgspec.structs.replace(architecture, stack=told)
