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


def collapse(metric: str, current: Sequence[LayerShares]) -> str | None:
    """The collapsed layers in a sentence, for the two metrics that show it; else None."""
    if not current or metric not in (SHARES, TOP2):
        return None
    # Imported here, as below: other metrics are judged without numpy.
    from perfgate.models.routing_stats import (
        COLLAPSED_SHARE,
        collapsed_layers,
        merge,
    )

    layers = []
    for layer, (first, second), share in collapsed_layers(
        merge(current).counts
    ):
        text = wording.COLLAPSED_LAYER.format(
            layer=layer,
            first=first,
            second=second,
            share=formatting.percent(share),
        )
        layers.append(text)
    if not layers:
        return None
    return wording.COLLAPSED.format(
        limit=formatting.percent(COLLAPSED_SHARE),
        layers=formatting.listed(layers),
    )


def compare(
    current: Sequence[LayerShares],
    metric: MetricBaseline,
    today: datetime.date | None = None,
) -> Shift | None:
    """The comparison with the recorded launches.

    None where these or this run have no shares, or shares of another shape.
    """
    baseline = []
    for sample in metric.launches:
        if sample.shares is not None:
            baseline.append(sample.shares)
    shapes = {_shape(shares) for shares in (*current, *baseline)}
    if not current or not baseline or len(shapes) != 1:
        return None
    from perfgate.models.routing_stats import drift, merge

    furthest = drift(merge(current), merge(baseline))
    outcome = _outcome(furthest, metric.known, today)
    template, advice = wording.SHIFT, ""
    if outcome is Outcome.INVALID:
        template, advice = wording.SHIFT_GONE, wording.ACCEPT_SHIFT_ANEW
    elif outcome is Outcome.REGRESSED:
        advice = wording.ACCEPT_SHIFT
    summary = template.format(
        layer=furthest.layer,
        distance=formatting.percent(furthest.distance),
        threshold=formatting.percent(furthest.threshold),
    )
    details = _details(furthest, metric.known)
    return Shift(outcome, furthest, summary, details, advice)


def _outcome(
    furthest: Drift, known: Known | None, today: datetime.date | None
) -> Outcome:
    is_beyond = furthest.distance > furthest.threshold
    if known is None:
        return Outcome.REGRESSED if is_beyond else Outcome.PASSED
    if not is_beyond:
        return Outcome.INVALID
    day = today or datetime.date.today()
    is_over = day > datetime.date.fromisoformat(known.until)
    if not is_over and furthest.distance <= known.worse_by + furthest.threshold:
        return Outcome.PASSED
    return Outcome.REGRESSED


def _details(furthest: Drift, known: Known | None) -> tuple[str, ...]:
    expert = wording.SHIFT_EXPERT.format(
        expert=furthest.expert,
        now=formatting.percent(furthest.share_now),
        before=formatting.percent(furthest.share_before),
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
