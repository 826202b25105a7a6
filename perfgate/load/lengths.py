"""Lengths: random token ids whose lengths follow a stated distribution.

The distribution is given by quantiles at equal steps: with 11 of them, the first is the
shortest length, the sixth the median and the last the longest. Between two of them all
lengths are equally likely.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from perfgate.load.prompts import Prompt, check_vocabulary

if TYPE_CHECKING:
    import numpy as np


class Drawn(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="drawn",
    tag_field="kind",
):
    """Seeded random token ids; each prompt's and each answer's length is drawn by itself.

    Attributes:
        input_quantiles, output_quantiles: lengths in tokens at equal steps of the
            distribution, the shortest first.
        first_id: ids below are left alone: special tokens live there.
    """

    input_quantiles: tuple[int, ...]
    output_quantiles: tuple[int, ...]
    first_id: int = 3

    def __post_init__(self) -> None:
        for name in ("input_quantiles", "output_quantiles"):
            lengths = getattr(self, name)
            if len(lengths) < 2:
                raise ValueError(f"{name} needs at least two lengths")
            if lengths[0] < 1 or list(lengths) != sorted(lengths):
                raise ValueError(
                    f"{name} must start at 1 or more, and never fall"
                )

    @property
    def input_len_tokens(self) -> int:
        """Mean length of a prompt, rounded."""
        return round(mean_of(self.input_quantiles))

    @property
    def output_len_tokens(self) -> int:
        """Mean length of an answer, rounded."""
        return round(mean_of(self.output_quantiles))

    @property
    def longest_tokens(self) -> int:
        """The longest prompt together with the longest answer."""
        return self.input_quantiles[-1] + self.output_quantiles[-1]


def mean_of(quantiles: Sequence[int]) -> float:
    """Mean of the distribution: all lengths between two quantiles are equally likely."""
    ends = quantiles[0] + quantiles[-1]
    return (sum(quantiles) - ends / 2) / (len(quantiles) - 1)


def draw_lengths(
    quantiles: Sequence[int], count: int, rng: np.random.Generator
) -> list[int]:
    """That many lengths in random order, one of each of `count` equal parts of the distribution.

    So every repetition has nearly the same mix of lengths.
    """
    import numpy as np  # collecting tests must not wait for it

    shares = (rng.permutation(count) + rng.random(count)) / count
    steps = np.linspace(0.0, 1.0, len(quantiles))
    lengths = np.interp(shares, steps, quantiles)
    return [int(length) for length in np.rint(lengths)]


def draw_mixed(
    spec: Drawn, count: int, vocab_size: int, rng: np.random.Generator
) -> list[Prompt]:
    """`count` prompts of random ids whose lengths follow the stated distribution."""
    check_vocabulary(vocab_size, spec.first_id)
    inputs = draw_lengths(spec.input_quantiles, count, rng)
    outputs = draw_lengths(spec.output_quantiles, count, rng)
    prompts = []
    for length, output in zip(inputs, outputs, strict=True):
        ids = rng.integers(spec.first_id, vocab_size, length)
        prompts.append((tuple(ids.tolist()), output))
    return prompts
