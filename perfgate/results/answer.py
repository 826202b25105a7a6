"""Answer: the tokens of one greedy completion, with log-probabilities and the runners-up."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import msgspec

_MOST_EXPONENT = math.log(sys.float_info.max)


class Answer(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One answer, token by token.

    Attributes:
        tokens: ids as text, or texts where the engine returns no ids.
        logprobs: natural logarithm of the probability of each token.
        others: in each place the likeliest tokens besides, with their log-probabilities.
    """

    tokens: tuple[str, ...]
    logprobs: tuple[float, ...]
    others: tuple[dict[str, float], ...]

    @property
    def is_whole(self) -> bool:
        """Whether all of it has as many places, and every number is one."""
        lengths = {len(self.tokens), len(self.logprobs), len(self.others)}
        numbers = list(self.logprobs)
        for row in self.others:
            numbers += row.values()
        return len(lengths) == 1 and all(map(math.isfinite, numbers))


def perplexity(answers: Sequence[Answer]) -> float | None:
    """Of the model with its own answers: e to the mean of -log p; None without a token.

    Engines write -9999 where a token is impossible: it is the largest number then.
    """
    logprobs: list[float] = []
    for answer in answers:
        logprobs += answer.logprobs
    if not logprobs:
        return None
    mean = -math.fsum(logprobs) / len(logprobs)
    return math.exp(min(mean, _MOST_EXPONENT))
