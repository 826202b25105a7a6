"""Statistics of MoE routing: shares of experts, balancedness, drift, bootstrap intervals.

Each token chooses some experts at each sparse layer. What is kept is a count for each
request, layer and expert: tokens of one request resemble each other, so the request is
what is drawn again when an interval or a noise is needed (tokens taken for independent
overstate what a difference means).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from perfgate.models.routing import (
    LayerShares,
    RequestRouting,
    Routing,
    RoutingUnreadable,
)

RESAMPLES = 2000
# z(1 - 0.001 / layers) lies between 3.1 (one layer) and 4.2 (61); the noise's own
# estimate deserves the larger one.
NOISE_QUANTILE = 4.2
# A difference of shares that no reader would act on, whatever the noise says: 1 % of
# the tokens go elsewhere.
SMALLEST_DISTANCE = 0.01
# published: "1-2 experts take 80 % or more when trained without a load-balancing loss"
COLLAPSED_SHARE = 0.80

Floats = npt.NDArray[np.float64]
Experts = npt.NDArray[np.int64]


class Drift(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The layer in which tokens go elsewhere most, measured by its noise.

    Attributes:
        distance: total variation: the share of choices that would have to move to make
            both alike.
        line: beyond it it is no noise.
        expert: whose share moved most, from `before` to `now`.

    """

    layer: int
    distance: float
    line: float
    expert: int
    before: float
    now: float


def count(experts: Experts, num_experts: int) -> RequestRouting:
    """The counts of one request.

    Args:
        experts: shape (tokens, layers, top_k), the first choice first.

    """
    tokens, layers, _ = experts.shape
    first = experts[1:, :, 0] == experts[:-1, :, 0]
    again = (experts[1:, :, :, None] == experts[:-1, :, None, :]).any(axis=(2, 3))
    counts = [
        np.bincount(experts[:, layer].ravel(), minlength=num_experts)
        for layer in range(layers)
    ]
    return RequestRouting(
        tokens=tokens,
        counts=tuple(tuple(int(n) for n in row) for row in counts),
        repeats_first=tuple(int(n) for n in first.sum(axis=0)),
        repeats_any=tuple(int(n) for n in again.sum(axis=0)),
    )


def checked(
    experts: Experts, shape: tuple[int, int, int], num_experts: int, tried: str
) -> Experts:
    """The experts, if they can be true.

    Args:
        shape: (tokens, layers, top_k) that the request must have.
        tried: for the message.

    Raises:
        RoutingUnreadable: another shape, an expert that does not exist, or one that a
            token chose twice: buffers that were never written are all zero.

    """
    seen = None
    if experts.shape != shape:
        seen = f"shape {experts.shape}, not {shape} (tokens, layers, choices)"
    elif experts.min() < 0 or experts.max() >= num_experts:
        seen = f"experts {experts.min()} to {experts.max()} of {num_experts}"
    elif (np.diff(np.sort(experts, axis=2), axis=2) == 0).any():
        twice = int((np.diff(np.sort(experts, axis=2), axis=2) == 0).any(axis=2).sum())
        seen = f"{twice} times a token chose the same expert twice; all zeros: {not experts.any()}"
    elif not experts.any():
        seen = "expert 0 for every token in every layer, as a buffer that was never written"
    if seen is not None:
        remedy = (
            "look at the server's log; another version of the engine may tell its "
            "experts in another way"
        )
        raise RoutingUnreadable(tried=tried, seen=seen, remedy=remedy)
    return experts


def totals(routing: Routing) -> Floats:
    """Choices by layer and expert, over all requests."""
    return np.asarray(_stacked(routing).sum(axis=0), dtype=float)


def shares(counts: npt.ArrayLike) -> Floats:
    """Counts (layer, expert) as shares of each layer's choices."""
    array = np.asarray(counts, dtype=float)
    return np.asarray(array / array.sum(axis=-1, keepdims=True), dtype=float)


def distance(one: npt.ArrayLike, other: npt.ArrayLike) -> Floats:
    """Total variation distance of two (..., layer, expert) counts, for each layer: half the sum of |differences|."""
    return np.asarray(np.abs(shares(one) - shares(other)).sum(axis=-1) / 2)


def balancedness(counts: npt.ArrayLike, ranks: int) -> Floats:
    """Mean over maximum of the ranks' loads under expert parallelism, for each layer: 1 is even, 1/ranks is one-sided.

    The loads of a layer are compared with each other, not those of a rank over the
    layers.
    """
    array = np.asarray(counts, dtype=float)
    loads = array.reshape(*array.shape[:-1], ranks, -1).sum(axis=-1)
    return np.asarray(loads.mean(axis=-1) / loads.max(axis=-1))


def values(routing: Routing) -> dict[str, float]:
    """The metrics of a launch, as `perfgate.load.metrics` defines them."""
    tokens = sum(request.tokens - 1 for request in routing.requests)
    first = np.array([request.repeats_first for request in routing.requests]).sum(
        axis=0
    )
    again = np.array([request.repeats_any for request in routing.requests]).sum(axis=0)
    found = {
        name: float(value[()])
        for name, value in _figures(totals(routing), routing.ranks).items()
    }
    if tokens:
        found |= {
            "routing_repeats_first": float(first.mean() / tokens),
            "routing_repeats_any": float(again.mean() / tokens),
        }
    return found


def intervals(routing: Routing, seed: int = 0) -> dict[str, tuple[float, float]]:
    """90 % intervals of the metrics that follow from the counts, by drawing requests again."""
    drawn = _figures(_resampled(routing, seed), routing.ranks)
    return {
        name: (float(np.quantile(sample, 0.05)), float(np.quantile(sample, 0.95)))
        for name, sample in drawn.items()
    }


def share_intervals(routing: Routing, seed: int = 0) -> tuple[Floats, Floats]:
    """90 % interval of each share, (layer, expert) each, by drawing requests again."""
    drawn = shares(_resampled(routing, seed))
    return np.quantile(drawn, 0.05, axis=0), np.quantile(drawn, 0.95, axis=0)


@functools.lru_cache(maxsize=16)  # every metric of a launch asks for it
def summary(routing: Routing, seed: int = 0) -> LayerShares:
    """What a baseline keeps: counts, and how far two draws of as many requests lie apart."""
    half = RESAMPLES // 2
    drawn = _resampled(routing, seed)
    apart = distance(drawn[:half], drawn[half : 2 * half])
    noise = apart.mean(axis=0) + NOISE_QUANTILE * apart.std(axis=0)
    counts = totals(routing).astype(int)
    return LayerShares(
        counts=tuple(tuple(int(n) for n in row) for row in counts),
        noise=tuple(float(line) for line in noise),
    )


def together(parts: Sequence[LayerShares]) -> LayerShares:
    """Several launches as one: counts add up; of the noise the largest stands."""
    counts = np.sum([part.counts for part in parts], axis=0)
    noise = np.max([part.noise for part in parts], axis=0)
    return LayerShares(
        counts=tuple(tuple(int(n) for n in row) for row in counts),
        noise=tuple(float(line) for line in noise),
    )


def drift(now: LayerShares, before: LayerShares) -> Drift:
    """The layer that is furthest beyond (or nearest to) its line.

    Args:
        before: its noise makes the lines.

    Raises:
        ValueError: they have other layers or experts.

    """
    mine, theirs = shares(now.counts), shares(before.counts)
    if mine.shape != theirs.shape:
        raise ValueError(f"{mine.shape} layers and experts now, {theirs.shape} before")
    apart = distance(now.counts, before.counts)
    lines = np.maximum(np.array(before.noise), SMALLEST_DISTANCE)
    layer = int(np.argmax(apart / lines))
    expert = int(np.argmax(np.abs(mine[layer] - theirs[layer])))
    return Drift(
        layer=layer,
        distance=float(apart[layer]),
        line=float(lines[layer]),
        expert=expert,
        before=float(theirs[layer, expert]),
        now=float(mine[layer, expert]),
    )


def collapsed(counts: npt.ArrayLike) -> list[tuple[int, tuple[int, int], float]]:
    """Layers in which two experts take 80 % of the choices or more: (layer, the two, their share)."""
    found = []
    for layer, row in enumerate(shares(counts)):
        top = np.argsort(row)[::-1][:2]
        share = float(row[top].sum())
        if len(row) > 2 and share >= COLLAPSED_SHARE:
            found.append((layer, (int(top[0]), int(top[1])), share))
    return found


def _figures(counts: Floats, ranks: int) -> dict[str, Floats]:
    """Metrics of counts (..., layer, expert), the worst layer's where a layer has its own."""
    of = shares(counts)
    experts = of.shape[-1]
    mean = counts.mean(axis=-1)
    balanced = balancedness(counts, ranks)
    safe = np.where(of > 0, of, 1.0)
    entropy = -(of * np.log(safe)).sum(axis=-1) / np.log(experts)
    return {
        "routing_shares": 1 - np.abs(of - 1 / experts).sum(axis=-1).max(axis=-1) / 2,
        "routing_top2_share": np.sort(of, axis=-1)[..., -2:].sum(axis=-1).max(axis=-1),
        "routing_max_over_mean": (of * experts).max(axis=(-2, -1)),
        "routing_min_over_mean": ((counts.min(axis=-1) + 0.5) / (mean + 0.5)).min(
            axis=-1
        ),
        "routing_entropy": entropy.min(axis=-1),
        "routing_balancedness": balanced.min(axis=-1),
        "routing_live_experts": (counts > 0).mean(axis=(-2, -1)),
        "routing_ep_cost": (1 / balanced).mean(axis=-1),
    }


def _stacked(routing: Routing) -> Floats:
    """Choices by request, layer and expert."""
    return np.array([request.counts for request in routing.requests], dtype=float)


def _resampled(routing: Routing, seed: int) -> Floats:
    """Counts (draw, layer, expert) of as many requests, drawn again with repetition."""
    counts = _stacked(routing)
    number = len(counts)
    weights = np.random.default_rng(seed).multinomial(
        number, np.full(number, 1 / number), size=RESAMPLES
    )
    return np.asarray(np.tensordot(weights.astype(float), counts, axes=(1, 0)))
