"""Ratio of two loads: which side moved, and whether that is a loss.

A ratio has no direction of its own. Dense over sparse falls where the dense model lost
speed, and also where the sparse one gained it. The recorded sides show which of the two
happened. On a machine that is faster today one side's loss may hide behind the other's
gain; that, too, looks like an improvement.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from perfgate import formatting
from perfgate.cases import Case, Load
from perfgate.judge import wording
from perfgate.results.samples import Side, mean_of
from perfgate.results.verdict import Moved


def moves(current: Sequence[Side], baseline: Sequence[Side]) -> Side | None:
    """Change (log) of the numerator and of the denominator; None where one is unknown.

    Args:
        current: (numerator, denominator) of each launch of this run.
        baseline: those of the baseline.
    """
    if not current or not baseline:
        return None
    numerator = _mean_log(current, 0) - _mean_log(baseline, 0)
    denominator = _mean_log(current, 1) - _mean_log(baseline, 1)
    return numerator, denominator


def loss(
    change: float, moved: Side | None, higher: bool, tolerance: float
) -> float:
    """A change (log) of a ratio as a loss, positive if one of its sides lost something.

    Where the side that fell behind lost nothing, the other one gained, and that is an
    improvement.

    Args:
        moved: change (log) of each side. None, where it is unknown, makes any change a
            loss.
        higher: whether a larger value of either side is better.
        tolerance: a side has lost something if it lost more than this (log).
    """
    if moved is None:
        return abs(change)
    losses = list(moved)
    if higher:
        losses = [-side for side in moved]
    if max(losses) > tolerance:
        return abs(change)
    return -abs(change)


def left_open(change: float, moved: Side | None, higher: bool) -> float:
    """The loss (log) that a ratio which counts as a gain may hide: that of its worse side.

    A side may lose up to the tolerance of `loss`. Where both moved alike the ratio lost no
    more than it changed. Arguments as of `loss`.
    """
    if moved is None:
        return abs(change)
    losses = list(moved)
    if higher:
        losses = [-side for side in moved]
    return min(abs(change), max(0.0, *losses))


def moved_side(
    current: Sequence[Side], baseline: Sequence[Side]
) -> Moved | None:
    """Which side moved by more than twice the other; None where a side is unknown."""
    changes = moves(current, baseline)
    if changes is None:
        return None
    numerator, denominator = map(abs, changes)
    if numerator > 2 * denominator:
        return "numerator"
    if denominator > 2 * numerator:
        return "denominator"
    return "both"


def side_details(
    case: Case, unit: str, current: Sequence[Side], baseline: Sequence[Side]
) -> list[str]:
    """Sentences for a ratio: both sides now and in the baseline, and which one moved.

    Args:
        unit: of each side.
        current: (numerator, denominator) of each launch of this run.
        baseline: those of the baseline; empty where it does not have them.

    """
    if case.denominator is None or not current:
        return []
    loads = {"numerator": case.numerator, "denominator": case.denominator}
    lines = []
    for index, (side, load) in enumerate(loads.items()):
        value = _mean(current, index)
        fields = {
            "side": side.capitalize(),
            "load": load_name(load),
            "value": formatting.number(value, unit),
        }
        template = wording.SIDE
        if baseline:
            reference = _mean(baseline, index)
            fields["baseline"] = formatting.number(reference, unit)
            fields["change"] = formatting.change(value / reference - 1)
            template = wording.SIDE_COMPARED
        lines.append(template.format(**fields))
    moved = moved_side(current, baseline)
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
