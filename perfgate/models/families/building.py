"""Building: an architecture from layers that are told one by one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from perfgate.models.architecture import Architecture
from perfgate.models.families.fields import Common
from perfgate.models.families.plain import convert
from perfgate.models.families.sparse import checked_experts
from perfgate.models.shapes.attention import Bias, Heads, Mixer, grouped
from perfgate.models.shapes.feed_forward import Routed, dense, routed
from perfgate.models.shapes.layers import Layer, outside, stack
from perfgate.models.shapes.tensors import Tensor
from perfgate.models.shapes.uniform import draft_of, shared_expert

# Kind of a feed-forward, and its tensors.
Block = tuple[str, tuple[Tensor, ...]]


class Widths(NamedTuple):
    """Widths of a model, for the architecture's own fields.

    Attributes:
        kv_heads: key-value heads of an attention layer.
        head_dim: of a key.
        intermediate: of a dense feed-forward, or of an expert if all layers have some.

    """

    kv_heads: int
    head_dim: int
    intermediate: int


class Experts(NamedTuple):
    """The experts of a model, for the architecture's own fields.

    Attributes:
        number: routed experts of a layer.
        chosen: that one token visits.
        width: of one.
        shared_width: of the shared experts of a layer together.
        zero: experts without weights.

    """

    number: int = 1
    chosen: int = 1
    width: int = 0
    shared_width: int = 0
    zero: int = 0


def layer(
    attention: str,
    mixer: Mixer,
    feed_forward: str,
    tensors: Iterable[Tensor],
    hidden: int,
    norms: int = 2,
) -> Layer:
    """A layer with so many norms of the model's width."""
    norm = Tensor("norms", "norms", (hidden,), count=norms)
    return Layer(
        attention=attention,
        feed_forward=feed_forward,
        tensors=(*mixer.tensors, *tensors, norm),
        cache=mixer.cache,
    )


def built(
    common: Common,
    layers: Sequence[Layer],
    widths: Widths,
    experts: Experts,
    *,
    around: Sequence[Tensor] = (),
    draft_layers: int = 0,
) -> Architecture:
    """The architecture of these layers.

    Args:
        common: fields that all families share.
        layers: from the first to the last.
        widths: of heads and feed-forwards.
        experts: of a sparse layer.
        around: what is outside of the layers; empty for the usual.
        draft_layers: that predict further tokens, each like the last layer.

    """
    scalars: dict[str, Any] = common.scalars()
    scalars |= {
        "num_hidden_layers": len(layers),
        "num_key_value_heads": widths.kv_heads,
        "head_dim": widths.head_dim,
        "intermediate_size": widths.intermediate,
        "num_local_experts": experts.number,
        "num_experts_per_tok": experts.chosen,
        "moe_intermediate_size": experts.width or None,
        "shared_expert_intermediate_size": experts.shared_width,
        "zero_experts": experts.zero,
        "num_dense_layers": sum(not one.is_sparse for one in layers),
    }
    if experts.number == 1:
        scalars["num_dense_layers"] = 0
    architecture = convert(scalars)
    if not around:
        around = outside(common.hidden, common.vocabulary, tied=common.tied)
    draft = draft_of(layers[-1], common.hidden, draft_layers)
    return msgspec.structs.replace(
        architecture, stack=stack(layers, around, draft)
    )


def widths_of(common: Common) -> Widths:
    """Widths of a model whose fields have the usual names."""
    return Widths(common.kv_heads, common.head_dim, common.intermediate)


def heads_of(common: Common, bias: Bias = "none") -> Heads:
    """Heads of a model whose fields have the usual names."""
    return Heads(
        hidden=common.hidden,
        heads=common.heads,
        kv_heads=common.kv_heads,
        head_dim=common.head_dim,
        bias=bias,
    )


def attention_layer(heads: Heads, block: Block, *, norms: int = 2) -> Layer:
    """A layer with grouped heads.

    Args:
        heads: whose window says which kind of attention it is.
        block: kind and tensors of its feed-forward.
        norms: of the model's width.

    """
    kind = "full"
    if heads.window:
        kind = "window"
    return layer(kind, grouped(heads), *block, heads.hidden, norms)


def shared_and_routed(
    common: Common,
    number: str,
    shared: str,
    *,
    chosen: str = "num_experts_per_tok",
    router: str = "gate",
    score_bias: bool = False,
) -> tuple[Experts, tuple[Tensor, ...]]:
    """Routed experts, shared ones of the same width, and the tensors of both.

    Args:
        common: fields of the model.
        number: field with the routed experts of a layer.
        shared: field with the shared ones.
        chosen: field with the experts that a token visits.
        router: name of the router's module.
        score_bias: whether a bias for balance is a parameter of its own.

    """
    fields = common.fields
    experts, visited = checked_experts(fields, number, chosen)
    width = fields.count("moe_intermediate_size")
    shared_width = width * fields.count(shared, 0, least=0)
    shape = Routed(
        common.hidden, width, experts, router=router, score_bias=score_bias
    )
    tensors = routed(shape) + shared_expert(common.hidden, shared_width)
    return Experts(experts, visited, width, shared_width), tensors


def blocks(
    experts: tuple[Tensor, ...], dense: tuple[Tensor, ...]
) -> dict[bool, Block]:
    """Kind and tensors of a layer's feed-forward, by whether it has experts."""
    return {True: ("sparse", experts), False: ("dense", dense)}


def sparse_and_dense(
    common: Common,
    number: str,
    shared: str,
    *,
    chosen: str = "num_experts_per_tok",
    router: str = "gate",
    score_bias: bool = False,
) -> tuple[Experts, dict[bool, Block]]:
    """Experts as `shared_and_routed` has them, and the feed-forwards of both kinds of layers."""
    experts, tensors = shared_and_routed(
        common,
        number,
        shared,
        chosen=chosen,
        router=router,
        score_bias=score_bias,
    )
    dense_tensors = dense(common.hidden, common.intermediate)
    return experts, blocks(tensors, dense_tensors)
