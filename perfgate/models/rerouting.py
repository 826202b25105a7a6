"""Rerouting: the share of choices that go to other experts than in a recorded launch.

The same prompts are sent in every run, so requests are compared one by one. What a few
requests lose in a layer cannot be made up by others, and experts in another order show
although their shares are alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

import numpy as np

from perfgate.models.routing import LayerShares
from perfgate.models.routing_requests import decode
from perfgate.models.routing_stats import SMALLEST_DISTANCE, Drift, Floats
from perfgate.models.routing_stats import shares as shares_of

# Of a single recorded launch the repeat distance is unknown. 22 launches on two kinds of
# CPU had the same counts (baselines/cpu-any); on a GPU near-ties may flip.
ASSUMED_REPEAT: Final = 0.005


class Rerouting(Drift, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The layer of which most choices moved, relative to its threshold.

    Attributes:
        lost: share of the layer's choices that left the expert, request by request.
        gained: share of the layer's choices that came to the expert.
        repeat: distance between two recorded launches, or the assumed one.
        recorded_launches: that have counts by request.
        requests: that were compared.

    """

    lost: float
    gained: float
    repeat: float
    recorded_launches: int
    requests: int


def counts_of(shares: LayerShares) -> Floats:
    """Choices by group of requests, layer and expert.

    Raises:
        RoutingUnreadable: there are none, or they are damaged.
    """
    counts = np.array(decode(shares), dtype=float)
    return counts.reshape(-1, len(shares.counts), len(shares.counts[0]))


def changes(current: Floats, recorded: Floats) -> Floats:
    """Change (group, layer, expert) of each share, as a part of the layer's choices.

    Args:
        current: counts (group, layer, expert).
        recorded: counts of the same requests; its choices weigh the groups.
    """
    choices = recorded.sum(axis=-1, keepdims=True)
    weights = choices / choices.sum(axis=0)
    result: Floats = weights * (shares_of(current) - shares_of(recorded))
    return result


def distances(current: Floats, recorded: Floats) -> Floats:
    """By layer, the share of choices that go to other experts, request by request."""
    sizes = np.abs(changes(current, recorded))
    total: Floats = sizes.sum(axis=(0, 2))
    return total / 2


def repeat_distances(recorded: Sequence[LayerShares]) -> Floats:
    """By layer, the largest distance between two recorded launches.

    Of a single launch it is assumed.
    """
    if len(recorded) == 1:
        return np.full(len(recorded[0].counts), ASSUMED_REPEAT)
    counts = [counts_of(shares) for shares in recorded]
    pairs = itertools.combinations(counts, 2)
    by_pair = [distances(later, earlier) for earlier, later in pairs]
    largest: Floats = np.max(by_pair, axis=0)
    return largest


def rerouting(
    current: Sequence[LayerShares], recorded: Sequence[LayerShares]
) -> Rerouting:
    """The layer furthest beyond its threshold, which is the repeat distance plus 1 %.

    The first recorded launch is the reference. Of the current launches each layer's
    furthest one counts.

    Args:
        current: launches of this run, of the recorded shape.
        recorded: launches with counts by request, the oldest first.

    Raises:
        RoutingUnreadable: counts by request are lacking or damaged.
    """
    reference = counts_of(recorded[0])
    launches = [counts_of(shares) for shares in current]
    by_launch = np.array([distances(counts, reference) for counts in launches])
    furthest = by_launch.max(axis=0)
    repeats = repeat_distances(recorded)
    thresholds = repeats + SMALLEST_DISTANCE
    layer = int(np.argmax(furthest / thresholds))
    counts = launches[int(np.argmax(by_launch[:, layer]))]
    moves = changes(counts, reference)[:, layer]
    lost = -np.minimum(moves, 0).sum(axis=0)
    gained = np.maximum(moves, 0).sum(axis=0)
    expert = int(np.argmax(lost + gained))
    before = shares_of(reference.sum(axis=0))
    after = shares_of(counts.sum(axis=0))
    stored = recorded[0].requests
    assert stored is not None
    return Rerouting(
        layer=layer,
        distance=float(furthest[layer]),
        threshold=float(thresholds[layer]),
        expert=expert,
        share_before=float(before[layer, expert]),
        share_now=float(after[layer, expert]),
        lost=float(lost[expert]),
        gained=float(gained[expert]),
        repeat=float(repeats[layer]),
        recorded_launches=len(recorded),
        requests=stored.requests,
    )
