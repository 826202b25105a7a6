"""Ratio of two loads: which side moved, whether for better or worse, and both told in words.

A ratio has no direction of its own: dense over sparse falls where the dense model lost
speed, and where the sparse one gained it. What each side was when the baseline was
recorded tells these apart. A machine that is faster today hides a loss of one side
behind a gain of the other: that, too, looks like an improvement.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

from perfgate import formatting
from perfgate.cases import Case, Load
from perfgate.results.samples import Sample

Side = tuple[float, float]


def recorded(samples: Iterable[Sample]) -> list[Side]:
    """(numerator, denominator) of recorded launches, as far as they hold them."""
    sides = []
    for sample in samples:
        if sample.numerator is not None and sample.denominator is not None:
            sides.append((sample.numerator, sample.denominator))
    return sides


def moves(now: Sequence[Side], then: Sequence[Side]) -> tuple[float, float] | None:
    """By how much (log) the numerator and the denominator changed; None where unknown.

    Args:
        now: (numerator, denominator) of each launch of this run.
        then: those of the baseline.
    """
    if not now or not then:
        return None
    numerator = _mean(now, 0) - _mean(then, 0)
    denominator = _mean(now, 1) - _mean(then, 1)
    return numerator, denominator


def loss(change: float, moved: Side | None, higher: bool, least: float) -> float:
    """A ratio's change (log) as a loss, positive if worse: a side fell behind and lost.

    Where the side that fell behind lost nothing, the other one gained, and that is an
    improvement.

    Args:
        moved: by how much (log) each side changed; None where that is unknown: then any
            change counts as a loss.
        higher: whether a larger value of either side is better.
        least: a side has lost something if it lost more than this (log).
    """
    if moved is None:
        return abs(change)
    losses = [-side if higher else side for side in moved]
    if max(losses) > least:
        return abs(change)
    return -abs(change)


def name(case: Case) -> str:
    """The case in words: the metric, and whose."""
    whose = _load(case.of)
    if case.over is None:
        return f"{case.metric} of {whose}"
    return f"{case.metric} of {whose} over that of {_load(case.over)}"


def _load(load: Load) -> str:
    return (
        load.server.key
        if load.workload is None
        else f"{load.server.key} under {load.workload_name}"
    )


def sides(
    case: Case, unit: str, now: Sequence[Side], then: Sequence[Side]
) -> list[str]:
    """For a ratio: both sides now and in the baseline, and which of them moved.

    Args:
        now: (numerator, denominator) of each launch of this run.
        then: those of the baseline; empty where it does not hold them.

    """
    if case.over is None or not now:
        return []
    lines, moved_by = [], moves(now, then)
    for index, (label, load) in enumerate((("of:  ", case.of), ("over:", case.over))):
        value = statistics.geometric_mean(pair[index] for pair in now)
        text = f"{label} {_load(load)}: {formatting.number(value, unit)} now"
        if then:
            before = statistics.geometric_mean(pair[index] for pair in then)
            text += (
                f", {formatting.number(before, unit)} in the baseline "
                f"({formatting.moved(value / before - 1)})"
            )
        lines.append(text)
    return [*lines, _which_moved(case, moved_by)] if moved_by else lines


def _which_moved(case: Case, moved_by: Side) -> str:
    of, over = map(abs, moved_by)
    if of > 2 * over:
        return f"so it is {_load(case.of)} that moved"
    if case.over is not None and over > 2 * of:
        return f"so it is {_load(case.over)} that moved"
    return "so both moved; a machine that is slower or busier today moves both"


def _mean(pairs: Sequence[Side], index: int) -> float:
    return statistics.fmean(math.log(pair[index]) for pair in pairs)
