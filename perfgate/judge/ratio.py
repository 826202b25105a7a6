"""Which side of a ratio moved, and did it become better or worse?

A ratio has no direction of its own: dense over sparse falls where the dense model lost speed, and where the sparse one
gained it. What each side was when the baseline was recorded tells these apart. A machine that is faster today hides a
loss of one side behind a gain of the other: that, too, looks like an improvement.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

from perfgate.judge.baseline_schema import LaunchPoint

Side = tuple[float, float]


def recorded(points: Iterable[LaunchPoint]) -> list[Side]:
    """(numerator, denominator) of recorded launches, as far as they hold them."""
    return [(point.of, point.over) for point in points if point.of is not None and point.over is not None]


def moves(now: Sequence[Side], then: Sequence[Side]) -> tuple[float, float] | None:
    """By how much (log) the numerator and the denominator moved; None where one of the times is not known.

    Args:
        now: (numerator, denominator) of each launch of this run.
        then: those of the baseline.
    """
    if not now or not then:
        return None
    of, over = (_mean(now, index) - _mean(then, index) for index in (0, 1))
    return of, over


def loss(change: float, moved: Side | None, higher: bool, least: float) -> float:
    """A ratio's change (log) as a loss, positive if worse: one of its sides fell behind the other, and lost something.

    Where the side that fell behind lost nothing, the other one gained, and that is an improvement.

    Args:
        moved: by how much (log) each side did; None where that is not known: then any change counts as a loss.
        higher: whether a larger value of either side is better.
        least: a side has lost something if it lost more than this (log).
    """
    lost = moved is None or max(-side if higher else side for side in moved) > least
    return abs(change) if lost else -abs(change)


def _mean(pairs: Sequence[Side], index: int) -> float:
    return statistics.fmean(math.log(pair[index]) for pair in pairs)
