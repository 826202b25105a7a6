"""Readers of families whose own fields tell all: Llama, Mistral, Qwen, DeepSeek-V2 and V3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from perfgate.models.architecture import Architecture
from perfgate.models.families.fields import Common, Fields, bias_of
from perfgate.models.families.spans import windows_of
from perfgate.models.families.sparse import (
    checked_experts,
    sparse_layers,
    stepped_layers,
)
from perfgate.models.shapes.attention import LatentAttention
from perfgate.models.shapes.layers import Layer, outside, stack
from perfgate.models.shapes.uniform import (
    draft_of,
    uniform_layer,
    uniform_stack,
)

Scalars = dict[str, Any]


def convert(scalars: Scalars) -> Architecture:
    """The architecture with these fields, checked."""
    return msgspec.convert(scalars, Architecture)


def read_llama(fields: Fields) -> Architecture:
    """Llama, and Qwen's and Mistral's dense models by their own switches."""
    common = Common(fields)
    scalars = _grouped(common)
    scalars["attention_bias"] = bias_of(fields)
    scalars["mlp_bias"] = fields.flag("mlp_bias")
    return _windowed(common, convert(scalars))


def read_mistral(fields: Fields) -> Architecture:
    """Mistral: all layers may see a window."""
    common = Common(fields)
    return _windowed(common, convert(_grouped(common)))


def read_mixtral(fields: Fields) -> Architecture:
    """Mixtral: experts in each layer."""
    common = Common(fields)
    scalars = _grouped(common)
    experts, chosen = checked_experts(
        fields, "num_local_experts", "num_experts_per_tok"
    )
    scalars["num_local_experts"] = experts
    scalars["num_experts_per_tok"] = chosen
    return _windowed(common, convert(scalars))


def read_qwen2(fields: Fields) -> Architecture:
    """Qwen2: biases of queries, keys and values."""
    common = Common(fields)
    scalars = _grouped(common)
    scalars["attention_bias"] = "qkv"
    return _windowed(common, convert(scalars))


def read_qwen3(fields: Fields) -> Architecture:
    """Qwen3: norms of queries and keys."""
    common = Common(fields)
    return _windowed(common, convert(_qwen3(common)))


def read_qwen2_moe(fields: Fields) -> Architecture:
    """Qwen2-MoE: a shared expert with a gate."""
    common = Common(fields)
    scalars = _grouped(common) | _qwen_experts(common)
    scalars["attention_bias"] = "none"
    if fields.flag("qkv_bias", default=True):
        scalars["attention_bias"] = "qkv"
    scalars["shared_expert_intermediate_size"] = fields.count(
        "shared_expert_intermediate_size", least=0
    )
    scalars["shared_expert_gate"] = True
    return _ordered(common, convert(scalars), stepped_layers(common))


def read_qwen3_moe(fields: Fields) -> Architecture:
    """Qwen3-MoE."""
    common = Common(fields)
    scalars = _qwen3(common) | _qwen_experts(common)
    return _ordered(common, convert(scalars), stepped_layers(common))


def read_deepseek(fields: Fields) -> Architecture:
    """DeepSeek-V2 and V3, and what is built like them (Kimi-K2)."""
    common = Common(fields)
    shape = latent_attention(fields)
    scalars = common.scalars()
    scalars["intermediate_size"] = common.intermediate
    scalars["num_key_value_heads"] = common.heads
    scalars["head_dim"] = shape.head_dim
    scalars["attention_bias"] = bias_of(fields)
    scalars["latent"] = msgspec.to_builtins(shape)
    if fields.flag("mlp_bias"):
        fields.unsupported("mlp_bias")
    if fields.raw("n_routed_experts") is None:
        return convert(scalars)
    sparse = sparse_layers(common)
    experts, chosen = checked_experts(
        fields, "n_routed_experts", "num_experts_per_tok"
    )
    width = fields.count("moe_intermediate_size")
    shared_experts = fields.count("n_shared_experts", 0, least=0)
    scalars |= {
        "num_local_experts": experts,
        "num_experts_per_tok": chosen,
        "moe_intermediate_size": width,
        "shared_expert_intermediate_size": width * shared_experts,
        "num_dense_layers": sparse.count(False),
    }
    architecture = _ordered(common, convert(scalars), sparse)
    predicting = architecture.told.layers[-1]
    return with_draft(architecture, predicting, common.draft_layers)


def latent_attention(fields: Fields) -> LatentAttention:
    """The widths of latent attention."""
    return LatentAttention(
        q_lora_rank=fields.optional_count("q_lora_rank"),
        kv_lora_rank=fields.count("kv_lora_rank"),
        qk_nope_head_dim=fields.count("qk_nope_head_dim", least=0),
        qk_rope_head_dim=fields.count("qk_rope_head_dim", least=0),
        v_head_dim=fields.count("v_head_dim"),
    )


def with_draft(
    architecture: Architecture, predicting: Layer, depth: int
) -> Architecture:
    """The architecture with the weights that predict further tokens.

    Args:
        architecture: without them.
        predicting: a layer of the kind that predicts.
        depth: how many there are.

    """
    if depth == 0:
        return architecture
    draft = draft_of(predicting, architecture.hidden_size, depth)
    told = msgspec.structs.replace(architecture.told, draft=draft)
    return msgspec.structs.replace(architecture, stack=told)


def _grouped(common: Common) -> Scalars:
    scalars = common.scalars()
    scalars["intermediate_size"] = common.intermediate
    # Llama 2's first files have no num_key_value_heads: one for each head.
    scalars["num_key_value_heads"] = common.fields.count(
        "num_key_value_heads", common.heads
    )
    scalars["head_dim"] = common.head_dim
    return scalars


def _qwen3(common: Common) -> Scalars:
    common.fields.raw("head_dim")
    scalars = _grouped(common)
    scalars["attention_bias"] = bias_of(common.fields)
    scalars["qk_norm"] = True
    return scalars


def _qwen_experts(common: Common) -> Scalars:
    fields = common.fields
    experts, chosen = checked_experts(
        fields, "num_experts", "num_experts_per_tok"
    )
    return {
        "num_local_experts": experts,
        "num_experts_per_tok": chosen,
        "moe_intermediate_size": fields.count("moe_intermediate_size"),
        "num_dense_layers": stepped_layers(common).count(False),
    }


def _windowed(common: Common, architecture: Architecture) -> Architecture:
    """The architecture, its layers told one by one where some see a window."""
    windows = windows_of(common)
    if not any(windows):
        return architecture
    layers = []
    for window in windows:
        is_sparse = architecture.is_moe
        layers.append(
            uniform_layer(architecture, is_sparse=is_sparse, window=window)
        )
    return _told(architecture, layers)


def _ordered(
    common: Common, architecture: Architecture, sparse: Sequence[bool]
) -> Architecture:
    """The architecture, its layers told one by one where its fields do not tell them."""
    windows = windows_of(common)
    dense = list(sparse).count(False)
    is_plain = tuple(sparse) == (False,) * dense + (True,) * (
        len(sparse) - dense
    )
    if is_plain and not any(windows):
        return architecture
    layers = []
    for is_sparse, window in zip(sparse, windows, strict=True):
        layers.append(
            uniform_layer(architecture, is_sparse=is_sparse, window=window)
        )
    return _told(architecture, layers)


def _told(architecture: Architecture, layers: Sequence[Any]) -> Architecture:
    around = outside(
        architecture.hidden_size,
        architecture.vocab_size,
        tied=architecture.tie_word_embeddings,
    )
    told = stack(layers, around)
    if told == uniform_stack(architecture):
        return architecture
    return msgspec.structs.replace(architecture, stack=told)
