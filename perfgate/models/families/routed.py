"""Readers of families with grouped heads and routed experts: GLM-4.5, MiniMax, OLMoE, others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from perfgate.models.architecture import Architecture
from perfgate.models.families.building import (
    Experts,
    attention_layer,
    blocks,
    built,
    heads_of,
    layer,
    shared_and_routed,
    widths_of,
)
from perfgate.models.families.fields import Common, Fields, bias_of
from perfgate.models.families.sparse import checked_experts, sparse_layers
from perfgate.models.shapes.attention import Heads, Mixer, grouped
from perfgate.models.shapes.cache import CachePart
from perfgate.models.shapes.feed_forward import Routed, dense, routed
from perfgate.models.shapes.layers import outside
from perfgate.models.shapes.tensors import Tensor, matrix
from perfgate.models.shapes.uniform import shared_expert


class _Sparse(NamedTuple):
    """A model of this group: heads, experts, and which layers have them."""

    heads: Heads
    experts: Experts
    sparse: Sequence[bool]
    expert_tensors: tuple[Tensor, ...]
    dense_tensors: tuple[Tensor, ...]


def _built(
    common: Common,
    model: _Sparse,
    *,
    norms: int = 2,
    around: Sequence[Tensor] = (),
    draft_layers: int = 0,
) -> Architecture:
    feed_forwards = blocks(model.expert_tensors, model.dense_tensors)
    layers = []
    for is_sparse in model.sparse:
        block = feed_forwards[is_sparse]
        layers.append(attention_layer(model.heads, block, norms=norms))
    return built(
        common,
        layers,
        widths_of(common),
        model.experts,
        around=around,
        draft_layers=draft_layers,
    )


def read_glm4_moe(fields: Fields) -> Architecture:
    """GLM-4.5 to 4.7: shared experts, dense first layers, norms and biases by a switch."""
    common = Common(fields)
    heads = heads_of(common)
    if fields.flag("attention_bias"):
        heads = heads._replace(bias="qkv")
    if fields.flag("use_qk_norm"):
        heads = heads._replace(norm="head")
    return _with_shared(common, heads)


def read_dots1(fields: Fields) -> Architecture:
    """dots.llm1: norms of queries and keys, shared experts."""
    common = Common(fields)
    heads = heads_of(common, bias_of(fields))._replace(norm="head")
    return _with_shared(common, heads)


def _with_shared(common: Common, heads: Heads) -> Architecture:
    experts, tensors = shared_and_routed(
        common, "n_routed_experts", "n_shared_experts"
    )
    model = _Sparse(
        heads=heads,
        experts=experts,
        sparse=sparse_layers(common),
        expert_tensors=tensors,
        dense_tensors=dense(common.hidden, common.intermediate),
    )
    return _built(common, model, draft_layers=common.draft_layers)


def _all_sparse(
    common: Common, heads: Heads, shape: Routed, chosen: int, *, shared: int = 0
) -> _Sparse:
    """A model whose layers all have experts."""
    tensors = routed(shape)
    tensors += shared_expert(
        common.hidden, shared, name=f"{shape.name}.shared_mlp"
    )
    return _Sparse(
        heads=heads,
        experts=Experts(shape.number, chosen, shape.width, shared),
        sparse=(True,) * common.num_layers,
        expert_tensors=tensors,
        dense_tensors=(),
    )


def read_minimax_m2(fields: Fields) -> Architecture:
    """MiniMax-M2: norms of all queries and keys together."""
    common = Common(fields)
    experts, chosen = checked_experts(
        fields, "num_local_experts", "num_experts_per_tok"
    )
    heads = heads_of(common)._replace(norm="all")
    shape = Routed(
        common.hidden, common.intermediate, experts, name="block_sparse_moe"
    )
    return _built(common, _all_sparse(common, heads, shape, chosen))


def read_olmoe(fields: Fields) -> Architecture:
    """OLMoE: norms of all queries and keys together."""
    common = Common(fields)
    experts, chosen = checked_experts(
        fields, "num_experts", "num_experts_per_tok"
    )
    heads = heads_of(common, bias_of(fields))._replace(norm="all")
    shape = Routed(common.hidden, common.intermediate, experts)
    return _built(common, _all_sparse(common, heads, shape, chosen))


def read_granitemoe(fields: Fields) -> Architecture:
    """Granite-MoE."""
    common = Common(fields)
    experts, chosen = checked_experts(
        fields, "num_local_experts", "num_experts_per_tok"
    )
    shape = Routed(
        common.hidden,
        common.intermediate,
        experts,
        name="block_sparse_moe",
        router="router",
    )
    heads = heads_of(common, bias_of(fields))
    return _built(common, _all_sparse(common, heads, shape, chosen))


def read_phimoe(fields: Fields) -> Architecture:
    """Phi-3.5-MoE: norms and head with biases."""
    common = Common(fields)
    experts, chosen = checked_experts(
        fields, "num_local_experts", "num_experts_per_tok"
    )
    shape = Routed(common.hidden, common.intermediate, experts, router="router")
    around = outside(
        common.hidden,
        common.vocabulary,
        tied=common.tied,
        head_bias=fields.flag("lm_head_bias"),
        norm_bias=True,
    )
    heads = heads_of(common, bias_of(fields))
    model = _all_sparse(common, heads, shape, chosen)
    return _built(common, model, norms=4, around=around)


def read_ernie(fields: Fields) -> Architecture:
    """ERNIE 4.5: experts from one layer to another, each so-many-th."""
    common = Common(fields)
    common.tied = fields.flag("tie_word_embeddings", default=True)
    experts, chosen = checked_experts(fields, "moe_num_experts", "moe_k")
    width = fields.count("moe_intermediate_size")
    shared = width * fields.count("moe_num_shared_experts", 0, least=0)
    has_bias = fields.flag("use_bias")
    tensors = routed(
        Routed(common.hidden, width, experts, bias=has_bias, score_bias=True)
    )
    tensors += shared_expert(common.hidden, shared, bias=has_bias)
    model = _Sparse(
        heads=heads_of(common, bias_of(fields, "use_bias")),
        experts=Experts(experts, chosen, width, shared),
        sparse=_ernie_sparse(common),
        expert_tensors=tensors,
        dense_tensors=dense(common.hidden, common.intermediate, bias=has_bias),
    )
    return _built(common, model)


def _ernie_sparse(common: Common) -> list[bool]:
    fields = common.fields
    first = fields.count("moe_layer_start_index", least=0)
    last = common.num_layers - 1
    if fields.values.get("moe_layer_end_index") not in (None, -1):
        last = fields.count("moe_layer_end_index", least=0)
    interval = fields.count("moe_layer_interval", 1)
    sparse = []
    for number in range(common.num_layers):
        is_turn = (number + 1) % interval == 0
        sparse.append(is_turn and first <= number <= last)
    return sparse


def read_hunyuan(fields: Fields) -> Architecture:
    """Hunyuan-A13B: a shared expert; its numbers may be lists with one for each layer."""
    common = Common(fields)
    if fields.flag("use_cla"):
        fields.unsupported("use_cla")
    experts = _same(fields, "num_experts")
    chosen = _same(fields, "moe_topk")
    width = common.intermediate
    if fields.has("moe_intermediate_size"):
        width = _same(fields, "moe_intermediate_size")
    shared = width
    if fields.has("num_shared_expert"):
        shared *= _same(fields, "num_shared_expert")
    if chosen > experts:
        fields.refuse("moe_topk", f"there are {experts} experts")
    heads = heads_of(common, bias_of(fields))
    if fields.flag("use_qk_norm", default=True):
        heads = heads._replace(norm="head")
    shape = Routed(common.hidden, width, experts)
    model = _all_sparse(common, heads, shape, chosen, shared=shared)
    return _built(common, model)


def _same(fields: Fields, name: str) -> int:
    """A number, or the one that a list has for each layer."""
    if not isinstance(fields.raw(name), list):
        return fields.count(name)
    numbers = set(fields.counts(name))
    if len(numbers) != 1:
        fields.unsupported(name)
    number = numbers.pop()
    if number < 1:
        fields.refuse(name, "not 1 or more")
    return number


def read_minimax_m3(fields: Fields) -> Architecture:
    """MiniMax-M3: block-sparse attention with an index, dense first layers, a shared expert."""
    common = Common(fields)
    if fields.flag("attention_output_gate"):
        fields.unsupported("attention_output_gate")
    experts, chosen = checked_experts(
        fields, "num_local_experts", "num_experts_per_tok"
    )
    width = common.intermediate
    shared = fields.count("shared_intermediate_size")
    shared *= fields.count("n_shared_experts", 1, least=0)
    name = "block_sparse_moe"
    expert_tensors = routed(Routed(common.hidden, width, experts, name=name))
    expert_tensors += shared_expert(
        common.hidden, shared, name=f"{name}.shared_experts"
    )
    dense_width = fields.count("dense_intermediate_size")
    dense_tensors = dense(common.hidden, dense_width)
    full = grouped(heads_of(common)._replace(norm="head"))
    indexed = _block_sparse(common, full)
    feed_forwards = blocks(expert_tensors, dense_tensors)
    layers = []
    for is_sparse, is_indexed in zip(
        sparse_layers(common), _indexed_layers(common), strict=True
    ):
        mixer = indexed if is_indexed else full
        attention = "sparse index" if is_indexed else "full"
        layers.append(
            layer(attention, mixer, *feed_forwards[is_sparse], common.hidden)
        )
    return built(
        common,
        layers,
        widths_of(common)._replace(intermediate=dense_width),
        Experts(experts, chosen, width, shared),
    )


def _indexed_layers(common: Common) -> tuple[bool, ...]:
    table = common.fields.table("sparse_attention_config")
    if table is None or not table.flag("use_sparse_attention"):
        return (False,) * common.num_layers
    numbers = common.layer_counts("sparse_attention_freq", table)
    return tuple(number > 0 for number in numbers)


def _block_sparse(common: Common, full: Mixer) -> Mixer:
    """Attention to the blocks that an index chooses."""
    table = common.fields.table("sparse_attention_config")
    if table is None or not table.flag("use_sparse_attention"):
        return full
    heads = table.count("sparse_num_index_heads")
    head_dim = table.count("sparse_index_dim")
    tokens = table.count("sparse_topk_blocks") * table.count(
        "sparse_block_size"
    )
    name = "self_attn.index"
    tensors = (
        matrix(f"{name}_q_proj", "attention", heads * head_dim, common.hidden),
        matrix(f"{name}_k_proj", "attention", head_dim, common.hidden),
        Tensor(f"{name}_norms", "norms", (head_dim,), count=2),
    )
    main = msgspec.structs.replace(full.cache[0], entries_read=tokens)
    keys = CachePart(kind="index", values=head_dim)
    return Mixer((*full.tensors, *tensors), (main, keys))
