"""Stated routing (MoE): the experts that tokens are told to choose, and what follows.

The routers of made-up weights are alike in all layers, and what they choose is chance. A
server with made-up weights can be told instead: in every layer each token draws k
different experts, and each expert has a stated chance to be among them. The chances of
a layer add up to k. `perfgate.engines.inside.perfgate_stated_routing` draws them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal

StatedRouting = Literal["", "uniform", "skewed", "few"]
# Of those that can be stated, the most even first.
STATED: Final[tuple[StatedRouting, ...]] = ("uniform", "skewed", "few")
# A count may be this many standard deviations from its expectation. By chance one of
# 60 layers with 256 experts is beyond it in 1 of 30,000 launches.
MOST_DEVIATIONS: Final = 6.0


def chances(stated: StatedRouting, experts: int, top_k: int) -> list[float]:
    """By expert, the probability that a token chooses it; together `top_k`.

    "uniform" gives every expert the same chance. "skewed" gives the i-th expert a
    chance proportional to 1/i (Zipf's law), and at most 1. "few" sends every token to
    the same experts, the first ones.

    Raises:
        ValueError: the routing is none of these.
    """
    if stated == "uniform":
        return [top_k / experts] * experts
    if stated == "few":
        return [1.0] * top_k + [0.0] * (experts - top_k)
    if stated == "skewed":
        return _zipf(experts, top_k)
    raise ValueError(f"no routing is called {stated!r}")


def _zipf(experts: int, top_k: int) -> list[float]:
    """Chances proportional to 1/i; an expert whose chance would exceed 1 has 1."""
    weights = [1 / (index + 1) for index in range(experts)]
    certain = 0
    while True:
        scale = (top_k - certain) / sum(weights[certain:])
        if scale * weights[certain] <= 1:
            break
        certain += 1
    return [1.0] * certain + [scale * weight for weight in weights[certain:]]


def expert_shares(
    stated: StatedRouting, experts: int, top_k: int
) -> list[float]:
    """By expert, the share of a layer's choices that is stated; together 1."""
    return [chance / top_k for chance in chances(stated, experts, top_k)]


def experts_touched(expert_chances: Sequence[float], tokens: int) -> float:
    """How many experts of a layer some of the tokens are expected to choose.

    With equal chances this is E(1 - (1 - k/E)^B), and no other chances give more.
    """
    return math.fsum(1 - (1 - chance) ** tokens for chance in expert_chances)


def rank_cost(expert_chances: Sequence[float], ranks: int) -> float:
    """The busiest rank's share of the choices over the mean, experts spread in order.

    Raises:
        ValueError: the ranks do not divide the experts.
    """
    each, rest = divmod(len(expert_chances), ranks)
    if rest:
        raise ValueError(
            f"{ranks} ranks do not divide {len(expert_chances)} experts"
        )
    loads = []
    for first in range(0, len(expert_chances), each):
        loads.append(math.fsum(expert_chances[first : first + each]))
    return max(loads) * ranks / math.fsum(loads)


def mismatch(
    counts: Sequence[Sequence[int]],
    tokens: int,
    expert_chances: Sequence[float],
) -> str | None:
    """The count that differs most from the stated chances; None where all agree.

    Tokens draw independently, so an expert's count is binomial.

    Args:
        counts: by layer and expert, the tokens that chose it.
        tokens: of each layer.
    """
    worst = (0.0, "")
    for layer, row in enumerate(counts):
        for expert, count in enumerate(row):
            chance = expert_chances[expert]
            off = abs(count - tokens * chance)
            deviation = math.sqrt(tokens * chance * (1 - chance))
            # Half a token, so that a chance of 0 or 1 is no division by zero.
            deviations = off / max(deviation, 0.5 / MOST_DEVIATIONS)
            if deviations <= worst[0]:
                continue
            text = (
                f"in layer {layer} {count} of {tokens} tokens chose expert {expert}, "
                f"stated are {tokens * chance:.0f}"
            )
            worst = (deviations, text)
    return worst[1] if worst[0] > MOST_DEVIATIONS else None
