"""Ratio of two loads: which side moved, and whether that is a loss.

A ratio has no direction of its own: dense over sparse falls where the dense model lost
speed, and where the sparse one gained it. The recorded sides tell these apart. A
machine that is faster today hides a loss of one side behind a gain of the other: that,
too, looks like an improvement.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

from perfgate import formatting
from perfgate.cases import Case, Load
from perfgate.judge import wording
from perfgate.results.samples import Sample, mean_of
from perfgate.results.verdict import Moved

Side = tuple[float, float]


def recorded(samples: Iterable[Sample]) -> list[Side]:
    """(numerator, denominator) of recorded launches, as far as they hold them."""
    sides = []
    for sample in samples:
        if sample.numerator is not None and sample.denominator is not None:
            sides.append((sample.numerator, sample.denominator))
    return sides


def moves(now: Sequence[Side], before: Sequence[Side]) -> Side | None:
    """Change (log) of the numerator and of the denominator; None where one is unknown.

    Args:
        now: (numerator, denominator) of each launch of this run.
        before: those of the baseline.
    """
    if not now or not before:
        return None
    numerator = _mean_log(now, 0) - _mean_log(before, 0)
    denominator = _mean_log(now, 1) - _mean_log(before, 1)
    return numerator, denominator


def loss(
    change: float, moved: Side | None, higher: bool, least: float
) -> float:
    """A change (log) of a ratio as a loss, positive if one of its sides lost something.

    Where the side that fell behind lost nothing, the other one gained, and that is an
    improvement.

    Args:
        moved: change (log) of each side. None, where it is unknown, makes any change a
            loss.
        higher: whether a larger value of either side is better.
        least: a side has lost something if it lost more than this (log).
    """
    if moved is None:
        return abs(change)
    losses = [-side if higher else side for side in moved]
    if max(losses) > least:
        return abs(change)
    return -abs(change)


def moved_side(now: Sequence[Side], before: Sequence[Side]) -> Moved | None:
    """Which side moved by more than twice the other; None where a side is unknown."""
    changes = moves(now, before)
    if changes is None:
        return None
    numerator, denominator = map(abs, changes)
    if numerator > 2 * denominator:
        return "numerator"
    if denominator > 2 * numerator:
        return "denominator"
    return "both"


def side_details(
    case: Case, unit: str, now: Sequence[Side], before: Sequence[Side]
) -> list[str]:
    """Sentences for a ratio: both sides now and in the baseline, and which one moved.

    Args:
        unit: of each side.
        now: (numerator, denominator) of each launch of this run.
        before: those of the baseline; empty where it does not hold them.

    """
    if case.denominator is None or not now:
        return []
    loads = {"numerator": case.numerator, "denominator": case.denominator}
    lines = []
    for index, (side, load) in enumerate(loads.items()):
        value = _mean(now, index)
        fields = {"side": side.capitalize(), "load": load_name(load)}
        fields["value"] = formatting.number(value, unit)
        template = wording.SIDE
        if before:
            reference = _mean(before, index)
            fields["baseline"] = formatting.number(reference, unit)
            fields["change"] = formatting.change(value / reference - 1)
            template = wording.SIDE_COMPARED
        lines.append(template.format(**fields))
    moved = moved_side(now, before)
    if moved == "both":
        lines.append(wording.MOVED_BOTH)
    elif moved is not None:
        name = load_name(loads[moved])
        lines.append(wording.MOVED_ONE.format(side=moved, load=name))
    return lines


def load_name(load: Load) -> str:
    """The server, and the workload where there is one: "vllm-llama-small-tp2, closed-c16"."""
    if load.workload is None:
        return load.server.key
    return f"{load.server.key}, {load.workload_name}"


def _mean(sides: Sequence[Side], index: int) -> float:
    return mean_of(side[index] for side in sides)


def _mean_log(sides: Sequence[Side], index: int) -> float:
    return statistics.fmean(math.log(side[index]) for side in sides)
