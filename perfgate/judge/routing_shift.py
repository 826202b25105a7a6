"""Routing shift: tokens that go to other experts than recorded, and router collapse.

The same prompts are sent in every run, so the choices of each request are compared with
the recorded ones. The threshold is the distance between two recorded launches, plus 1 %.
An older baseline has no counts by request: each layer's shares are compared there, and
the threshold is the distance that two draws of as many requests hardly ever have. A
collapsed router needs no baseline: two experts that take 80 % of a layer's choices are
a regression anywhere.
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
    from perfgate.models.rerouting import Rerouting
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

    None where these or this run have no shares, or shares of other layers, experts or
    requests.
    """
    baseline = []
    for sample in metric.launches:
        if sample.shares is not None:
            baseline.append(sample.shares)
    shapes = {_shape(shares) for shares in (*current, *baseline)}
    if not current or not baseline or len(shapes) != 1:
        return None
    references = _by_request(baseline)
    if not references or len(_by_request(current)) < len(current):
        from perfgate.models.routing_stats import drift, merge

        furthest = drift(merge(current), merge(baseline))
        details = _aggregate_details(furthest)
        return _judged(furthest, details, wording.SHIFT, metric, today)
    requests = {_requests(shares) for shares in (*current, *references)}
    if len(requests) != 1:
        return None
    from perfgate.models.rerouting import rerouting

    moved = rerouting(current, references)
    template = wording.SHIFT
    if moved.distance == 0:
        template = wording.SHIFT_NONE
    return _judged(moved, _request_details(moved), template, metric, today)


def _judged(
    furthest: Drift,
    details: Sequence[str],
    template: str,
    metric: MetricBaseline,
    today: datetime.date | None,
) -> Shift:
    outcome, objection = _outcome(furthest, metric.known, today)
    advice = ""
    if outcome is Outcome.INVALID:
        template, advice = wording.SHIFT_GONE, wording.ACCEPT_SHIFT_ANEW
    elif outcome is Outcome.REGRESSED:
        advice = wording.ACCEPT_SHIFT
    summary = template.format(
        layer=furthest.layer,
        distance=formatting.percent(furthest.distance),
        threshold=formatting.percent(furthest.threshold),
    )
    known = metric.known
    if known is not None and outcome is not Outcome.INVALID:
        summary = wording.with_known(
            summary, "shift", known.worse_by, known.until, objection
        )
    details = (*details, *_known_details(known))
    return Shift(outcome, furthest, summary, details, advice)


def _outcome(
    furthest: Drift, known: Known | None, today: datetime.date | None
) -> tuple[Outcome, str]:
    """The outcome, and why the accepted shift does not excuse this one."""
    is_beyond = furthest.distance > furthest.threshold
    if known is None:
        return Outcome.REGRESSED if is_beyond else Outcome.PASSED, ""
    if not is_beyond:
        return Outcome.INVALID, ""
    if known.is_over(today):
        return Outcome.REGRESSED, wording.KNOWN_EXPIRED
    if furthest.distance > known.worse_by + furthest.threshold:
        return Outcome.REGRESSED, wording.SHIFT_LARGER
    return Outcome.PASSED, ""


def _aggregate_details(furthest: Drift) -> list[str]:
    """Of the comparison of each layer's shares."""
    expert = wording.SHIFT_EXPERT.format(
        expert=furthest.expert,
        now=formatting.percent(furthest.share_now),
        before=formatting.percent(furthest.share_before),
    )
    return [expert, wording.SHIFT_NOISE, wording.SHIFT_OLD]


def _request_details(moved: Rerouting) -> list[str]:
    """Of the comparison request by request."""
    lines = []
    if moved.distance:
        line = wording.REROUTED_EXPERT.format(
            expert=moved.expert,
            lost=formatting.percent(moved.lost),
            gained=formatting.percent(moved.gained),
            now=formatting.percent(moved.share_now),
            before=formatting.percent(moved.share_before),
        )
        lines.append(line)
    template = wording.REPEAT
    if moved.recorded_launches == 1:
        template = wording.REPEAT_ASSUMED
    requests = formatting.count(moved.requests, "request")
    line = template.format(
        requests=requests, repeat=formatting.percent(moved.repeat)
    )
    return [*lines, line]


def _known_details(known: Known | None) -> list[str]:
    if known is None:
        return []
    line = wording.SHIFT_KNOWN.format(
        worse_by=formatting.percent(known.worse_by),
        until=known.until,
        reason=known.reason,
    )
    return [line]


def _by_request(launches: Sequence[LayerShares]) -> list[LayerShares]:
    """The launches with counts by request."""
    return [shares for shares in launches if shares.requests is not None]


def _requests(shares: LayerShares) -> tuple[int, int]:
    assert shares.requests is not None
    return shares.requests.requests, shares.requests.group_size


def _shape(shares: LayerShares) -> tuple[int, int]:
    return len(shares.counts), len(shares.counts[0])
