"""Routing drift: whether tokens go to the same experts as before, and collapse of the router.

A layer's shares are compared with the recorded ones by total variation distance. The
line is the distance that two draws of as many requests hardly ever have, recorded with
them. A collapsed router needs no baseline: two experts that take 80 % of a layer's
choices are a regression anywhere.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfgate import formatting as wording
from perfgate.judge.baseline_schema import MetricBaseline
from perfgate.judge.verdict import Outcome
from perfgate.models.routing import LayerShares

if TYPE_CHECKING:
    from perfgate.models.routing_stats import Drift

SHARES, TOP2 = "routing_shares", "routing_top2_share"


@dataclass(frozen=True)
class Drifted:
    """How the shares stand beside the recorded ones."""

    outcome: Outcome
    drift: Drift
    text: str
    advice: str


def collapse(metric: str, now: Sequence[LayerShares]) -> str | None:
    """Which layers have collapsed, for the two metrics that see it; None if none has."""
    if not now or metric not in (SHARES, TOP2):
        return None
    # Imported here, as below: other metrics are judged without numpy.
    from perfgate.models.routing_stats import COLLAPSED_SHARE, collapsed_layers, merge

    found = collapsed_layers(merge(now).counts)
    told = [
        f"layer {layer}: experts {pair[0]} and {pair[1]} take {wording.percent(share)}"
        for layer, pair, share in found
    ]
    if not told:
        return None
    return (
        f"the router collapsed (two experts take {COLLAPSED_SHARE:.0%} or more) in "
        f"{wording.listed(told)}"
    )


def beside(
    now: Sequence[LayerShares],
    metric: MetricBaseline,
    today: datetime.date | None = None,
) -> Drifted | None:
    """The comparison with the recorded launches; None where they or this run have no shares, or of another shape."""
    then = [point.shares for point in metric.launches if point.shares is not None]
    if not now or not then or len({_shape(part) for part in (*now, *then)}) != 1:
        return None
    from perfgate.models.routing_stats import drift, merge

    seen = drift(merge(now), merge(then))
    beyond = seen.distance > seen.threshold
    text = (
        f"in layer {seen.layer}, {wording.percent(seen.distance)} of the choices "
        "go elsewhere than recorded "
        f"({wording.percent(seen.threshold)} is noise of drawing other requests); "
        f"expert {seen.expert} has "
        f"{wording.percent(seen.share_now)}, had {wording.percent(seen.share_before)}; no "
        "layer is further beyond its noise"
    )
    known = metric.known
    if known is not None:
        text += (
            f"; {wording.percent(known.worse_by)} of a layer's were accepted to "
            f"go elsewhere until {known.until}: "
            f"{known.reason}"
        )
        if not beyond:
            return Drifted(
                Outcome.INVALID,
                seen,
                f"{text}; that is gone, so the baseline's entry is out of date",
                GONE,
            )
        over = (today or datetime.date.today()) > datetime.date.fromisoformat(
            known.until
        )
        if not over and seen.distance <= known.worse_by + seen.threshold:
            return Drifted(Outcome.PASSED, seen, text, "nothing")
    if not beyond:
        return Drifted(Outcome.PASSED, seen, text, "nothing")
    return Drifted(Outcome.REGRESSED, seen, text, ADVICE)


GONE = (
    "record it anew, which removes the entry: `perfgate accept RUN --only "
    "'*/routing_*' --reason WHY`"
)
ADVICE = (
    "find what changed (weights, dtype, the router's kernel, a fine-tune); where it is meant, "
    "`perfgate accept RUN --only '*/routing_*' --reason WHY`"
)


def _shape(shares: LayerShares) -> tuple[int, int]:
    return len(shares.counts), len(shares.counts[0])
