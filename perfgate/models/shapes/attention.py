"""Attention: tensors and cache of grouped heads, latent attention and sparse indexes."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from perfgate.models.shapes.cache import CachePart
from perfgate.models.shapes.tensors import (
    Tensor,
    by_heads,
    from_heads,
    matrix,
    vector,
)

Bias = Literal["none", "qkv", "qkvo"]


class LatentAttention(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """DeepSeek's attention (MLA): keys and values are one compressed vector for all heads.

    Attributes:
        q_lora_rank: width to which queries are compressed; None leaves them whole.
        kv_lora_rank: width of the vector that the KV cache keeps; the rotary part of
            the key comes on top.

    """

    q_lora_rank: int | None
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int

    @property
    def head_dim(self) -> int:
        """Width of a query and of a key."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim


class Mixer(NamedTuple):
    """How a layer mixes tokens: its tensors and what it keeps of a sequence."""

    tensors: tuple[Tensor, ...]
    cache: tuple[CachePart, ...]


class Heads(NamedTuple):
    """Grouped attention heads of one layer.

    Attributes:
        head_dim: width of a query and of a key.
        value_dim: width of a value; 0 for that of a key.
        keys_are_values: whether keys and values come from one projection.
        norm: norms of queries and keys: none, one for each head's width, or one for all
            heads together.
        gated: whether an output gate as wide as the queries comes with their projection.
        separate_gate: whether that gate is a projection of its own.
        sinks: whether each head has a weight for attending to nothing.
        window: tokens that it sees; 0 for all.
        module: name of the attention in its layer.
        output: name of the output projection.

    """

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int = 0
    keys_are_values: bool = False
    bias: Bias = "none"
    norm: Literal["none", "head", "all"] = "none"
    gated: bool = False
    separate_gate: bool = False
    sinks: bool = False
    window: int = 0
    module: str = "self_attn"
    output: str = "o_proj"


def grouped(shape: Heads) -> Mixer:
    """Grouped heads: queries and outputs are divided, keys and values copied if they are few."""
    value_dim = shape.value_dim or shape.head_dim
    query = shape.heads * shape.head_dim
    key = shape.kv_heads * shape.head_dim
    value = shape.kv_heads * value_dim
    output = shape.heads * value_dim
    module = shape.module
    projected = query
    if shape.gated:
        projected += output
    tensors = [
        by_heads(f"{module}.q_proj", projected, shape.hidden, shape.heads),
        _shared_heads(f"{module}.k_proj", key, shape),
        from_heads(
            f"{module}.{shape.output}", shape.hidden, output, shape.heads
        ),
    ]
    if not shape.keys_are_values:
        tensors.append(_shared_heads(f"{module}.v_proj", value, shape))
    if shape.separate_gate:
        gate = by_heads(
            f"{module}.gate_proj", output, shape.hidden, shape.heads
        )
        tensors.append(gate)
    tensors += _biases(shape, projected, key, value)
    tensors += _norms(shape, query, key)
    if shape.sinks:
        sinks = vector(
            f"{module}.sinks", "attention", shape.heads, pieces=shape.heads
        )
        tensors.append(sinks)
    return Mixer(tuple(tensors), (_keys_and_values(shape, key + value),))


def _shared_heads(name: str, outputs: int, shape: Heads) -> Tensor:
    """A projection to heads that several queries share."""
    return Tensor(
        name,
        "attention",
        (outputs, shape.hidden),
        split="outputs",
        pieces=shape.kv_heads,
        replicable=True,
    )


def _biases(shape: Heads, query: int, key: int, value: int) -> list[Tensor]:
    if shape.bias == "none":
        return []
    module = shape.module
    biases = [
        vector(f"{module}.q_proj", "attention", query, pieces=shape.heads)
    ]
    for name, length in (("k_proj", key), ("v_proj", value)):
        bias = vector(
            f"{module}.{name}",
            "attention",
            length,
            pieces=shape.kv_heads,
            replicable=True,
        )
        biases.append(bias)
    if shape.bias == "qkvo":
        # Added after the ranks' sum, so that each rank holds it whole.
        biases.append(
            vector(f"{module}.{shape.output}", "attention", shape.hidden)
        )
    return biases


def _norms(shape: Heads, query: int, key: int) -> list[Tensor]:
    if shape.norm == "none":
        return []
    lengths = (shape.head_dim, shape.head_dim)
    if shape.norm == "all":
        lengths = (query, key)
    return [
        vector(f"{shape.module}.q_norm", "norms", lengths[0]),
        vector(f"{shape.module}.k_norm", "norms", lengths[1]),
    ]


def _keys_and_values(shape: Heads, values: int) -> CachePart:
    if shape.window:
        return CachePart(
            kind="window",
            values=values,
            window=shape.window,
            pieces=shape.kv_heads,
        )
    return CachePart(kind="growing", values=values, pieces=shape.kv_heads)


def latent(
    hidden: int, heads: int, shape: LatentAttention, *, bias: bool = False
) -> Mixer:
    """Latent attention: projections are divided by heads, compressions are copied."""
    query_head = shape.head_dim
    key_value_head = shape.qk_nope_head_dim + shape.v_head_dim
    compressed = shape.kv_lora_rank + shape.qk_rope_head_dim
    tensors = _latent_queries(hidden, heads * query_head, heads, shape, bias)
    tensors += [
        matrix("self_attn.kv_a_proj_with_mqa", "attention", compressed, hidden),
        vector("self_attn.kv_a_layernorm", "norms", shape.kv_lora_rank),
        by_heads(
            "self_attn.kv_b_proj",
            heads * key_value_head,
            shape.kv_lora_rank,
            heads,
        ),
        from_heads("self_attn.o_proj", hidden, heads * shape.v_head_dim, heads),
    ]
    if bias:
        tensors += [
            vector("self_attn.kv_a_proj_with_mqa", "attention", compressed),
            vector("self_attn.o_proj", "attention", hidden),
        ]
    return Mixer(
        tuple(tensors), (CachePart(kind="growing", values=compressed),)
    )


def _latent_queries(
    hidden: int, query: int, heads: int, shape: LatentAttention, bias: bool
) -> list[Tensor]:
    rank = shape.q_lora_rank
    if rank is None:
        return [by_heads("self_attn.q_proj", query, hidden, heads)]
    tensors = [
        matrix("self_attn.q_a_proj", "attention", rank, hidden),
        vector("self_attn.q_a_layernorm", "norms", rank),
        by_heads("self_attn.q_b_proj", query, rank, heads),
    ]
    if bias:
        tensors.append(vector("self_attn.q_a_proj", "attention", rank))
    return tensors


class Index(NamedTuple):
    """The index of DeepSeek-V3.2's sparse attention: it says which tokens a step reads.

    Attributes:
        query_inputs: width of what queries are made from.
        tokens_per_entry: tokens that share an entry of the index.
        pooled: whether entries are weighted sums of keys, with weights of their own.

    """

    hidden: int
    query_inputs: int
    heads: int
    head_dim: int
    tokens_per_entry: int = 1
    pooled: bool = False


def with_index(mixer: Mixer, index: Index | None, chosen: int) -> Mixer:
    """A latent attention whose steps read at most `chosen` tokens.

    Args:
        mixer: the attention.
        index: None for a layer that uses the choice of a layer before it.
        chosen: tokens that a step reads.

    """
    main = msgspec.structs.replace(mixer.cache[0], entries_read=chosen)
    if index is None:
        return Mixer(mixer.tensors, (main,))
    name = "self_attn.indexer"
    weights = Tensor(
        f"{name}.weights_proj",
        "attention",
        (index.heads, index.hidden),
        convertible=False,
    )
    tensors = [
        matrix(
            f"{name}.wq_b",
            "attention",
            index.heads * index.head_dim,
            index.query_inputs,
        ),
        matrix(f"{name}.wk", "attention", index.head_dim, index.hidden),
        Tensor(f"{name}.k_norm", "norms", (index.head_dim,), count=2),
        weights,
    ]
    if index.pooled:
        tensors += [
            vector(
                f"{name}.index_kpool_compress_ape",
                "attention",
                index.tokens_per_entry * index.head_dim,
            ),
            Tensor(
                f"{name}.index_kpool_compress_gate",
                "attention",
                (index.head_dim, index.hidden),
                convertible=False,
            ),
        ]
    # Keys in FP8 with a scale of 4 bytes for each 128 values, as engines keep them.
    keys = CachePart(
        kind="index",
        values=index.head_dim,
        tokens_per_entry=index.tokens_per_entry,
        bytes_per_value=1 + 4 / 128,
    )
    return Mixer((*mixer.tensors, *tensors), (main, keys))
