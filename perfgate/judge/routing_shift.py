"""Routing shift: tokens that go to other experts than recorded, and router collapse.

A layer's shares are compared with the recorded ones by total variation distance. The
threshold is the distance that two draws of as many requests hardly ever have, recorded
with them. A collapsed router needs no baseline: two experts that take 80 % of a layer's
choices are a regression anywhere.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfgate import formatting
from perfgate.judge import wording
from perfgate.judge.baseline_schema import Known, MetricBaseline
from perfgate.judge.verdict import Outcome
from perfgate.models.routing import LayerShares

if TYPE_CHECKING:
    from perfgate.models.routing_stats import Drift

SHARES, TOP2 = "routing_shares", "routing_top2_share"


@dataclass(frozen=True)
class Shift:
    """The shares compared with the recorded ones, and what follows."""

    outcome: Outcome
    drift: Drift
    summary: str
    details: tuple[str, ...]
    advice: str


def collapse(metric: str, now: Sequence[LayerShares]) -> str | None:
    """The collapsed layers in a sentence, for the two metrics that show it; else None."""
    if not now or metric not in (SHARES, TOP2):
        return None
    # Imported here, as below: other metrics are judged without numpy.
    from perfgate.models.routing_stats import (
        COLLAPSED_SHARE,
        collapsed_layers,
        merge,
    )

    layers = []
    for layer, (first, second), share in collapsed_layers(merge(now).counts):
        text = wording.COLLAPSED_LAYER.format(
            layer=layer,
            first=first,
            second=second,
            share=formatting.percent(share),
        )
        layers.append(text)
    if not layers:
        return None
    limit = f"{COLLAPSED_SHARE:.0%}"
    return wording.COLLAPSED.format(
        limit=limit, layers=formatting.listed(layers)
    )


def compare(
    now: Sequence[LayerShares],
    metric: MetricBaseline,
    today: datetime.date | None = None,
) -> Shift | None:
    """The comparison with the recorded launches.

    None where these or this run have no shares, or shares of another shape.
    """
    before = [
        point.shares for point in metric.launches if point.shares is not None
    ]
    shapes = {_shape(shares) for shares in (*now, *before)}
    if not now or not before or len(shapes) != 1:
        return None
    from perfgate.models.routing_stats import drift, merge

    found = drift(merge(now), merge(before))
    outcome = _outcome(found, metric.known, today)
    template, advice = wording.SHIFT, ""
    if outcome is Outcome.INVALID:
        template, advice = wording.SHIFT_GONE, wording.ACCEPT_SHIFT_ANEW
    elif outcome is Outcome.REGRESSED:
        advice = wording.ACCEPT_SHIFT
    summary = template.format(
        layer=found.layer,
        distance=formatting.percent(found.distance),
        threshold=formatting.percent(found.threshold),
    )
    return Shift(outcome, found, summary, _details(found, metric.known), advice)


def _outcome(
    found: Drift, known: Known | None, today: datetime.date | None
) -> Outcome:
    is_beyond = found.distance > found.threshold
    if known is None:
        return Outcome.REGRESSED if is_beyond else Outcome.PASSED
    if not is_beyond:
        return Outcome.INVALID
    day = today or datetime.date.today()
    is_over = day > datetime.date.fromisoformat(known.until)
    if not is_over and found.distance <= known.worse_by + found.threshold:
        return Outcome.PASSED
    return Outcome.REGRESSED


def _details(found: Drift, known: Known | None) -> tuple[str, ...]:
    expert = wording.SHIFT_EXPERT.format(
        expert=found.expert,
        now=formatting.percent(found.share_now),
        before=formatting.percent(found.share_before),
    )
    lines = [expert, wording.SHIFT_NOISE]
    if known is not None:
        line = wording.SHIFT_KNOWN.format(
            worse_by=formatting.percent(known.worse_by),
            until=known.until,
            reason=known.reason,
        )
        lines.append(line)
    return tuple(lines)


def _shape(shares: LayerShares) -> tuple[int, int]:
    return len(shares.counts), len(shares.counts[0])
