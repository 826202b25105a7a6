"""Statistics of expert routing (MoE): shares, balancedness, drift, confidence intervals.

Each token chooses some experts in each sparse layer; a count is kept for each request,
layer and expert. Tokens of one request resemble each other, so intervals and noise
resample whole requests: resampling tokens would overstate what a difference means.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from perfgate.models.routing import (
    LayerShares,
    RequestCounts,
    RequestRouting,
    Routing,
    RoutingUnreadable,
)
from perfgate.models.routing_requests import encode, group_size

RESAMPLES = 2000
INTERVAL = (0.05, 0.95)
# z(1 - 0.001 / layers) is 3.1 for one layer and 4.2 for 61. The larger one makes up for
# the error of the noise estimate.
NOISE_QUANTILE = 4.2
# A smaller distance calls for no action, whatever the noise: 1 % of the choices.
SMALLEST_DISTANCE = 0.01
# published: "1-2 experts take 80 % or more when trained without a load-balancing loss"
COLLAPSED_SHARE = 0.80

Floats = npt.NDArray[np.float64]
Experts = npt.NDArray[np.int64]


class Drift(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """The layer whose routing differs most from the recorded one, relative to its noise.

    Attributes:
        layer: index among the sparse layers.
        distance: total variation: the share of choices that would have to move to make
            both alike.
        threshold: largest distance that is noise.
        expert: whose share moved most, from `share_before` to `share_now`.

    """

    layer: int
    distance: float
    threshold: float
    expert: int
    share_before: float
    share_now: float


def count(experts: Experts, num_experts: int) -> RequestRouting:
    """The counts of one request.

    Args:
        experts: shape (tokens, layers, top_k), the first choice first.
        num_experts: experts of a layer.

    """
    tokens, layers, _ = experts.shape
    later = experts[1:]
    earlier = experts[:-1]
    same_first = later[:, :, 0] == earlier[:, :, 0]
    pairs = later[:, :, :, None] == earlier[:, :, None, :]
    overlaps = pairs.any(axis=(2, 3))
    counts = np.zeros((layers, num_experts), dtype=np.int64)
    for layer in range(layers):
        choices = experts[:, layer].ravel()
        counts[layer] = np.bincount(choices, minlength=num_experts)
    return RequestRouting(
        tokens=tokens,
        counts=_integer_rows(counts),
        repeats_first=_integers(same_first.sum(axis=0)),
        repeats_any=_integers(overlaps.sum(axis=0)),
    )


def checked(
    experts: Experts, shape: tuple[int, int, int], num_experts: int, tried: str
) -> Experts:
    """The experts, unless they are impossible.

    Args:
        experts: as the engine returned them.
        shape: (tokens, layers, top_k) of the request.
        num_experts: experts of a layer.
        tried: for the message.

    Raises:
        RoutingUnreadable: another shape, an expert that does not exist, or one that a
            token chose twice: a buffer that was never written is all zero.

    """
    problem = _problem(experts, shape, num_experts)
    if problem is None:
        return experts
    raise RoutingUnreadable(
        tried=tried,
        seen=problem,
        remedy=(
            "look at the server's log; another version of the engine may return its "
            "experts in another way"
        ),
    )


def _problem(
    experts: Experts, shape: tuple[int, int, int], num_experts: int
) -> str | None:
    if experts.shape != shape:
        return f"shape {experts.shape}, not {shape} (tokens, layers, choices)"
    lowest = experts.min()
    highest = experts.max()
    if lowest < 0 or highest >= num_experts:
        return f"experts {lowest} to {highest} of {num_experts}"
    is_zero = not experts.any()
    ascending = np.sort(experts, axis=2)
    is_equal = np.diff(ascending, axis=2) == 0
    repeats = int(is_equal.any(axis=2).sum())
    if repeats:
        return f"{repeats} times a token chose the same expert twice; all zeros: {is_zero}"
    if is_zero:
        return "expert 0 for every token in every layer, as a buffer that was never written"
    return None


def totals(routing: Routing) -> Floats:
    """Choices by layer and expert, over all requests."""
    counts: Floats = _request_counts(routing).sum(axis=0)
    return counts


def shares(counts: npt.ArrayLike) -> Floats:
    """Counts (..., layer, expert) as shares of each layer's choices."""
    array = np.asarray(counts, dtype=float)
    choices = array.sum(axis=-1, keepdims=True)
    result: Floats = array / choices
    return result


def distance(first: npt.ArrayLike, second: npt.ArrayLike) -> Floats:
    """Total variation distance of two counts (..., layer, expert), for each layer.

    It is half the sum of the absolute differences of the shares.
    """
    differences = shares(first) - shares(second)
    total: Floats = np.abs(differences).sum(axis=-1)
    return total / 2


def balancedness(counts: npt.ArrayLike, ranks: int) -> Floats:
    """Mean over maximum of the ranks' loads under expert parallelism, for each layer.

    1 is even, 1/ranks is one-sided. A rank's load is compared within a layer, not over
    the layers.
    """
    array = np.asarray(counts, dtype=float)
    layers = array.shape[:-1]
    loads = array.reshape(*layers, ranks, -1).sum(axis=-1)
    mean = loads.mean(axis=-1)
    balance: Floats = mean / loads.max(axis=-1)
    return balance


def values(routing: Routing) -> dict[str, float]:
    """The metrics of a launch, as `perfgate.load.metrics` defines them."""
    counts = totals(routing)
    metrics = {}
    for name, value in _metrics(counts, routing.ranks).items():
        metrics[name] = float(value)
    tokens = 0
    repeats_first = []
    repeats_any = []
    for request in routing.requests:
        tokens += request.tokens - 1  # the first token follows none
        repeats_first.append(request.repeats_first)
        repeats_any.append(request.repeats_any)
    if tokens:
        first = _mean_per_layer(repeats_first)
        overlap = _mean_per_layer(repeats_any)
        metrics["routing_repeats_first"] = first / tokens
        metrics["routing_repeats_any"] = overlap / tokens
    return metrics


def _mean_per_layer(repeats: Sequence[Sequence[int]]) -> float:
    """Repeats (request, layer), summed over the requests."""
    by_layer = np.sum(repeats, axis=0)
    return float(by_layer.mean())


def intervals(
    routing: Routing, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """90 % bootstrap intervals of the metrics that follow from the counts."""
    draws = _resampled(routing, seed)
    bounds = {}
    for name, sample in _metrics(draws, routing.ranks).items():
        low, high = np.quantile(sample, INTERVAL)
        bounds[name] = float(low), float(high)
    return bounds


def share_intervals(routing: Routing, seed: int = 0) -> tuple[Floats, Floats]:
    """90 % bootstrap interval of each share: the low and the high (layer, expert)."""
    draws = _resampled(routing, seed)
    low, high = np.quantile(shares(draws), INTERVAL, axis=0)
    return low, high


@functools.lru_cache(maxsize=16)  # every metric of a launch asks for it
def summary(routing: Routing, seed: int = 0) -> LayerShares:
    """The routing that a baseline stores: counts, also by request, and the noise.

    The noise is the distance between two draws of requests.
    """
    half = RESAMPLES // 2
    draws = _resampled(routing, seed)
    distances = distance(draws[:half], draws[half : 2 * half])
    mean = distances.mean(axis=0)
    deviation = distances.std(axis=0)
    noise = mean + NOISE_QUANTILE * deviation
    plain = _layer_shares(totals(routing), noise)
    return msgspec.structs.replace(plain, requests=_by_request(routing))


def _by_request(routing: Routing) -> RequestCounts:
    """Each request's counts, or those of a few requests together."""
    counts = _request_counts(routing).astype(np.int64)
    requests, layers, experts = counts.shape
    size = group_size(requests, layers, experts)
    starts = np.arange(0, requests, size)
    groups = np.add.reduceat(counts, starts, axis=0)
    return encode(requests, size, groups.ravel().tolist())


def merge(parts: Sequence[LayerShares]) -> LayerShares:
    """Several launches as one: the sum of their counts, the largest of their noise.

    Counts by request are left out.
    """
    counts = np.sum([part.counts for part in parts], axis=0)
    noise = np.max([part.noise for part in parts], axis=0)
    return _layer_shares(counts, noise)


def drift(current: LayerShares, baseline: LayerShares) -> Drift:
    """The layer with the largest distance relative to its threshold.

    Args:
        current: of this run.
        baseline: recorded; its noise gives the thresholds.

    Raises:
        ValueError: they have other layers or experts.

    """
    after = shares(current.counts)
    before = shares(baseline.counts)
    if after.shape != before.shape:
        raise ValueError(
            f"{after.shape} layers and experts now, {before.shape} before"
        )
    distances = distance(current.counts, baseline.counts)
    thresholds = np.maximum(baseline.noise, SMALLEST_DISTANCE)
    layer = int(np.argmax(distances / thresholds))
    differences = after[layer] - before[layer]
    sizes = np.abs(differences)
    expert = int(np.argmax(sizes))
    return Drift(
        layer=layer,
        distance=float(distances[layer]),
        threshold=float(thresholds[layer]),
        expert=expert,
        share_before=float(before[layer, expert]),
        share_now=float(after[layer, expert]),
    )


def collapsed_layers(
    counts: npt.ArrayLike,
) -> list[tuple[int, tuple[int, int], float]]:
    """Layers in which two experts take 80 % or more: (layer, the two, their share)."""
    layers = []
    for layer, row in enumerate(shares(counts)):
        if len(row) <= 2:
            continue
        ascending = np.argsort(row)
        first = int(ascending[-1])
        second = int(ascending[-2])
        share = float(row[first] + row[second])
        if share >= COLLAPSED_SHARE:
            layers.append((layer, (first, second), share))
    return layers


def _metrics(counts: Floats, ranks: int) -> dict[str, Floats]:
    """Metrics of counts (..., layer, expert): those by layer are the worst layer's."""
    layer_shares = shares(counts)
    evenness = _evenness(layer_shares)
    top2_share = _top2_share(layer_shares)
    over_mean = layer_shares * layer_shares.shape[-1]
    min_over_mean = _min_over_mean(counts)
    entropy = _entropy(layer_shares)
    balance = balancedness(counts, ranks)
    cost = 1 / balance
    is_live = counts > 0
    return {
        "routing_shares": evenness.min(axis=-1),
        "routing_top2_share": top2_share.max(axis=-1),
        "routing_max_over_mean": over_mean.max(axis=(-2, -1)),
        "routing_min_over_mean": min_over_mean.min(axis=-1),
        "routing_entropy": entropy.min(axis=-1),
        "routing_balancedness": balance.min(axis=-1),
        "routing_live_experts": is_live.mean(axis=(-2, -1)),
        "routing_ep_cost": cost.mean(axis=-1),
    }


def _evenness(layer_shares: Floats) -> Floats:
    """1 less the total variation distance from even shares, for each layer."""
    even = 1 / layer_shares.shape[-1]
    differences = np.abs(layer_shares - even)
    total: Floats = differences.sum(axis=-1)
    return 1 - total / 2


def _top2_share(layer_shares: Floats) -> Floats:
    ascending = np.sort(layer_shares, axis=-1)
    top2 = ascending[..., -2:]
    total: Floats = top2.sum(axis=-1)
    return total


def _min_over_mean(counts: Floats) -> Floats:
    """Half a choice is added to both, so that an unused expert does not give 0."""
    minimum: Floats = counts.min(axis=-1) + 0.5
    mean: Floats = counts.mean(axis=-1) + 0.5
    return minimum / mean


def _entropy(layer_shares: Floats) -> Floats:
    """Entropy of each layer's shares, relative to that of even shares."""
    positive = np.where(layer_shares > 0, layer_shares, 1.0)
    terms = layer_shares * np.log(positive)
    total: Floats = -terms.sum(axis=-1)
    even: float = np.log(layer_shares.shape[-1])
    return total / even


def _request_counts(routing: Routing) -> Floats:
    """Choices by request, layer and expert."""
    counts = [request.counts for request in routing.requests]
    return np.array(counts, dtype=float)


def _resampled(routing: Routing, seed: int) -> Floats:
    """Counts (draw, layer, expert) of as many requests, drawn with replacement."""
    counts = _request_counts(routing)
    requests = len(counts)
    generator = np.random.default_rng(seed)
    probabilities = np.full(requests, 1 / requests)
    weights = generator.multinomial(requests, probabilities, size=RESAMPLES)
    factors = weights.astype(float)
    draws: Floats = np.tensordot(factors, counts, axes=(1, 0))
    return draws


def _layer_shares(counts: npt.ArrayLike, noise: Floats) -> LayerShares:
    return LayerShares(
        counts=_integer_rows(counts),
        noise=tuple(float(value) for value in noise),
    )


def _integer_rows(counts: npt.ArrayLike) -> tuple[tuple[int, ...], ...]:
    return tuple(_integers(row) for row in np.asarray(counts))


def _integers(row: npt.ArrayLike) -> tuple[int, ...]:
    return tuple(int(value) for value in np.asarray(row))
