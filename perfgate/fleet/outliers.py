"""Outliers: machines of a fleet that are slower, or faster, than others of their kind.

A sick GPU is no regression: the same engine is as fast as ever on all others. So a
machine is compared with the others of its kind in the same run, over all rows that they
measured alike, before anything is compared with a baseline.

A machine's place is the mean of its losses against the median machine of each row. It is
an outlier where the t-statistic of its place against the others' is beyond a level that
all machines of the kind share (Bonferroni). How machines of one kind differ is known a
little before: five H200 differed by 0.7 to 1.9 % (docs/gpu-measured.md).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perfgate.judge.noise import t_quantile

FEWEST_MACHINES = 3  # of two that differ, nobody knows which one is sick
# Share of fleets without a sick machine in which one is named.
FALSE_ALARMS = 0.01
# Between machines of one kind, before anything is measured, and its weight.
BETWEEN_CV, BETWEEN_WEIGHT = 0.012, 4
NORMAL_MAD = 1.4826  # standard deviations of a normal distribution in its MAD
MAD_EFFICIENCY = 0.37  # of so many machines as it is made of

# Row -> machine -> logarithm of its value, larger where it is slower.
Losses = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Outlier:
    """A machine beside the others of its kind.

    Attributes:
        slower_by: than the median of the others, as a fraction; negative if faster.
        threshold: beyond which it is an outlier, as a fraction.
        rows: that both it and others measured. others: machines.
    """

    machine: str
    slower_by: float
    threshold: float
    rows: int
    others: int


def find(losses: Losses) -> list[Outlier]:
    """The outliers among machines of one kind, the slowest first.

    Args:
        losses: of all rows; a machine may have measured some of them alone.
    """
    places = _places(losses)
    if len(places) < FEWEST_MACHINES:
        return []
    found = []
    for machine, rows in places.items():
        others = [statistics.fmean(row) for row in _others(places, machine)]
        place = statistics.fmean(rows) - statistics.median(others)
        threshold = _threshold(others)
        if abs(place) > threshold:
            found.append(
                Outlier(
                    machine=machine,
                    slower_by=math.expm1(place),
                    threshold=math.expm1(threshold),
                    rows=len(rows),
                    others=len(others),
                )
            )
    return sorted(found, key=lambda row: -row.slower_by)


def _places(losses: Losses) -> dict[str, list[float]]:
    """Machine -> its losses against the median machine, of rows that several measured."""
    places: dict[str, list[float]] = {}
    for row in losses.values():
        if len(row) < 2:
            continue
        middle = statistics.median(row.values())
        for machine, loss in row.items():
            places.setdefault(machine, []).append(loss - middle)
    return places


def _others(
    places: Mapping[str, Sequence[float]], machine: str
) -> list[Sequence[float]]:
    return [rows for name, rows in places.items() if name != machine]


def _threshold(others: Sequence[float]) -> float:
    """How far from the others' median a machine may be."""
    count = len(others)
    middle = statistics.median(others)
    deviation = NORMAL_MAD * statistics.median(
        abs(place - middle) for place in others
    )
    known = MAD_EFFICIENCY * (count - 1)
    freedom = BETWEEN_WEIGHT + known
    variance = BETWEEN_WEIGHT * BETWEEN_CV**2 + known * deviation**2
    scale = math.sqrt(variance / freedom * (1 + 1 / count))
    share = FALSE_ALARMS / (2 * (count + 1))
    return t_quantile(freedom, 1 - share) * scale
