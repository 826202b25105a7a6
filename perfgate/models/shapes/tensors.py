"""Tensors: the matrices and vectors of a layer, in groups, and how ranks divide each."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from perfgate.models.shapes.formats import BYTES_PER_PARAMETER, Format
from perfgate.models.shapes.split import Split

Group = Literal[
    "attention",
    "dense",
    "shared",
    "experts",
    "router",
    "norms",
    "embeddings",
    "other",
]
# Groups whose matrices a quantization converts.
_QUANTIZED = ("attention", "dense", "shared", "experts")


class Tensor(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True
):
    """One matrix or vector of a model, or several alike.

    Attributes:
        name: of its module, within its layer: "self_attn.q_proj".
        group: what it is part of.
        shape: outputs and inputs of a matrix, or the length of a vector.
        count: how many there are; of an expert's tensor, the experts.
        split: the dimension that ranks divide; None if each rank holds it whole.
        pieces: heads that cannot be divided further; 0 for none.
        replicable: whether more ranks than pieces may hold copies of them.
        convertible: False for a matrix that no quantization converts.
        format: how it is quantized; None for the model's data type.

    """

    name: str
    group: Group
    shape: tuple[int, ...]
    count: int = 1
    split: Literal["outputs", "inputs"] | None = None
    pieces: int = 0
    replicable: bool = False
    convertible: bool = True
    format: Format | None = None

    @property
    def parameters(self) -> int:
        """Of all of them."""
        return self.count * math.prod(self.shape)

    @property
    def is_convertible(self) -> bool:
        """Whether a quantization converts it, unless it is left out by name."""
        is_matrix = len(self.shape) == 2
        return is_matrix and self.convertible and self.group in _QUANTIZED

    @property
    def split_size(self) -> int:
        """Length of the dimension that ranks divide."""
        if self.split == "inputs":
            return self.shape[-1]
        return self.shape[0]

    @property
    def split_block(self) -> int:
        """Rows or columns that share a scale and cannot be divided."""
        if self.format is None or not self.format.whole_blocks:
            return 1
        if self.split == "inputs":
            return self.format.columns or 1
        return self.format.rows or 1

    def size_bytes(self, dtype: str) -> float:
        """Bytes of all of them, where what is not quantized is in `dtype`."""
        if self.format is None:
            return self.parameters * BYTES_PER_PARAMETER[dtype]
        outputs, inputs = self.shape
        return self.count * self.format.size_bytes(outputs, inputs)

    def divisor(self, split: Split) -> int:
        """Ranks that share it; the others hold copies."""
        ranks = split.tensor_parallel
        if self.group == "experts":
            ranks = split.ranks
            if split.expert_parallel:
                return ranks
        if self.split is None:
            return 1
        if self.pieces:
            return min(self.pieces, ranks)
        return ranks


def matrix(
    name: str,
    group: Group,
    outputs: int,
    inputs: int,
    *,
    split: Literal["outputs", "inputs"] | None = None,
    pieces: int = 0,
) -> Tensor:
    """A linear layer."""
    return Tensor(name, group, (outputs, inputs), split=split, pieces=pieces)


def by_heads(name: str, outputs: int, inputs: int, heads: int) -> Tensor:
    """A projection of attention to outputs that ranks divide by heads."""
    return matrix(
        name, "attention", outputs, inputs, split="outputs", pieces=heads
    )


def from_heads(name: str, outputs: int, inputs: int, heads: int) -> Tensor:
    """A projection of attention from inputs that ranks divide by heads."""
    return matrix(
        name, "attention", outputs, inputs, split="inputs", pieces=heads
    )


def vector(
    name: str,
    group: Group,
    length: int,
    *,
    pieces: int = 0,
    replicable: bool = False,
) -> Tensor:
    """A bias or a norm; one with `pieces` is divided like its heads."""
    split: Literal["outputs"] | None = None
    if pieces:
        split = "outputs"
    return Tensor(
        name,
        group,
        (length,),
        split=split,
        pieces=pieces,
        replicable=replicable,
    )
