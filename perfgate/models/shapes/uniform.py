"""Uniform decoders: the layers of a model whose layers differ in the feed-forward alone."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from perfgate.models.shapes.attention import Heads, Mixer, grouped, latent
from perfgate.models.shapes.feed_forward import Routed, dense, routed
from perfgate.models.shapes.layers import Layer, Stack, outside, stack
from perfgate.models.shapes.tensors import Tensor, matrix, vector

if TYPE_CHECKING:
    from perfgate.models.architecture import Architecture


@functools.lru_cache(maxsize=256)
def uniform_stack(architecture: Architecture) -> Stack:
    """The layers that the architecture's own fields describe."""
    layers = []
    for number in range(architecture.num_hidden_layers):
        is_sparse = architecture.is_moe
        is_sparse = is_sparse and number >= architecture.num_dense_layers
        layers.append(uniform_layer(architecture, is_sparse=is_sparse))
    around = outside(
        architecture.hidden_size,
        architecture.vocab_size,
        tied=architecture.tie_word_embeddings,
    )
    return stack(layers, around)


def uniform_layer(
    architecture: Architecture, *, is_sparse: bool, window: int = 0
) -> Layer:
    """One of its layers.

    Args:
        architecture: the model's shape.
        is_sparse: whether the layer has experts.
        window: tokens that its attention sees; 0 for all.

    """
    mixer = _mixer(architecture, window)
    kind = "full"
    if architecture.latent is not None:
        kind = "latent"
    elif window:
        kind = "window"
    feed_forward = "dense"
    if is_sparse:
        feed_forward = "sparse"
    norms = Tensor("norms", "norms", (architecture.hidden_size,), count=2)
    return Layer(
        attention=kind,
        feed_forward=feed_forward,
        tensors=(
            *mixer.tensors,
            *_feed_forward(architecture, is_sparse=is_sparse),
            norms,
        ),
        cache=mixer.cache,
    )


def _mixer(architecture: Architecture, window: int) -> Mixer:
    if architecture.latent is not None:
        return latent(
            architecture.hidden_size,
            architecture.num_attention_heads,
            architecture.latent,
            bias=architecture.attention_bias == "qkvo",
        )
    shape = Heads(
        hidden=architecture.hidden_size,
        heads=architecture.num_attention_heads,
        kv_heads=architecture.num_key_value_heads,
        head_dim=architecture.head_dim,
        bias=architecture.attention_bias,
        window=window,
    )
    if architecture.qk_norm:
        shape = shape._replace(norm="head")
    return grouped(shape)


def _feed_forward(
    architecture: Architecture, *, is_sparse: bool
) -> tuple[Tensor, ...]:
    hidden = architecture.hidden_size
    if not is_sparse:
        width = architecture.intermediate_size
        return dense(hidden, width, bias=architecture.mlp_bias)
    width = architecture.moe_intermediate_size or architecture.intermediate_size
    tensors = routed(
        Routed(
            hidden=hidden, width=width, number=architecture.num_local_experts
        )
    )
    tensors += shared_expert(
        hidden,
        architecture.shared_expert_intermediate_size,
        bias=architecture.mlp_bias,
        gated=architecture.shared_expert_gate,
    )
    return tensors


def shared_expert(
    hidden: int,
    width: int,
    *,
    name: str = "mlp.shared_experts",
    bias: bool = False,
    gated: bool = False,
) -> tuple[Tensor, ...]:
    """The shared experts of a layer together, and the gate that weighs them."""
    tensors = dense(hidden, width, name=name, group="shared", bias=bias)
    if gated:
        tensors += (matrix("mlp.shared_expert_gate", "router", 1, hidden),)
    return tensors


def draft_of(layer: Layer, hidden: int, depth: int) -> tuple[Tensor, ...]:
    """Weights that predict further tokens: a layer, a projection of both inputs, norms.

    Embedding and output head are those of the model.

    Args:
        layer: of the kind that the draft uses.
        hidden: width of the model.
        depth: how many there are.

    """
    if depth == 0:
        return ()
    extra = (
        matrix("eh_proj", "other", hidden, 2 * hidden),
        vector("norms", "norms", 3 * hidden),
    )
    return (*layer.tensors, *extra) * depth
