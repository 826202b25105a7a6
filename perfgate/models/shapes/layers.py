"""Layers: one decoder layer as its tensors and its cache, and the tensors around them."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from perfgate.models.shapes.cache import CachePart
from perfgate.models.shapes.tensors import Tensor


class Layer(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """One layer of a decoder; equal layers are kept once.

    Attributes:
        attention: how it mixes tokens: "full", "window", "linear", "mamba", "latent",
            "sparse index", "convolution", "compressed"; "none" for a layer that is a
            feed-forward alone.
        feed_forward: "dense", "sparse", "hash" (experts by the token's number), or
            "none".

    """

    attention: str
    feed_forward: str
    tensors: tuple[Tensor, ...]
    cache: tuple[CachePart, ...] = ()

    @property
    def is_sparse(self) -> bool:
        """Whether it has routed experts."""
        return self.feed_forward in ("sparse", "hash")


class Stack(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """The layers of a model one by one, and what is outside of them.

    Attributes:
        kinds: the different layers.
        order: index among the kinds of each layer, from the first to the last.
        outside: embeddings, the last norm, the output head.
        draft: weights that predict further tokens (MTP), loaded only on request.

    """

    kinds: tuple[Layer, ...]
    order: tuple[int, ...]
    outside: tuple[Tensor, ...]
    draft: tuple[Tensor, ...] = ()

    @property
    def layers(self) -> tuple[Layer, ...]:
        """One after the other."""
        return tuple(self.kinds[index] for index in self.order)

    def counted(self) -> tuple[tuple[int, Layer], ...]:
        """How often each kind occurs."""
        counts = [0] * len(self.kinds)
        for index in self.order:
            counts[index] += 1
        return tuple(zip(counts, self.kinds, strict=True))


def stack(
    layers: Iterable[Layer],
    outside: Iterable[Tensor],
    draft: Iterable[Tensor] = (),
) -> Stack:
    """A stack of layers; equal ones are kept once."""
    numbers: dict[Layer, int] = {}
    order = [numbers.setdefault(layer, len(numbers)) for layer in layers]
    return Stack(
        kinds=tuple(numbers),
        order=tuple(order),
        outside=tuple(outside),
        draft=tuple(draft),
    )


def outside(
    hidden: int,
    vocabulary: int,
    *,
    tied: bool,
    head_bias: bool = False,
    norm_bias: bool = False,
) -> tuple[Tensor, ...]:
    """Embedding, last norm and output head."""
    tensors = [
        Tensor(
            "embed_tokens", "embeddings", (vocabulary, hidden), split="outputs"
        )
    ]
    if not tied:
        head = Tensor(
            "lm_head", "embeddings", (vocabulary, hidden), split="outputs"
        )
        tensors.append(head)
    if head_bias:
        tensors.append(
            Tensor("lm_head", "embeddings", (vocabulary,), split="outputs")
        )
    tensors.append(Tensor("norm", "norms", (hidden,)))
    if norm_bias:
        tensors.append(Tensor("norm", "norms", (hidden,)))
    return tuple(tensors)
