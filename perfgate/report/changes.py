"""Changes between two runs: what both measured, by how far it moved for the worse."""

from __future__ import annotations

from dataclasses import dataclass

from perfgate import formatting
from perfgate.cases import is_ratio, title
from perfgate.load.metrics import family_of
from perfgate.report import verdict_text
from perfgate.report.both_runs import Pair, pairs
from perfgate.report.questions import metric_name
from perfgate.results.schema import RunResults


@dataclass(frozen=True)
class Change:
    """How one value differs between two runs.

    Attributes:
        fraction: of the earlier value.
        level: "worse" or "better" where the metric says which way that is, and the change
            is larger than `SMALL`.
    """

    case: str
    fraction: float
    text: str
    level: str


SMALL = 0.01


def changes_between(before: RunResults, now: RunResults) -> list[Change]:
    """Of what both runs have, the largest change first.

    Of the metrics of one family that one load has, the one that moved furthest.
    """
    found: dict[tuple[str, str], Change] = {}
    for pair in pairs(before, now):
        change = _change(pair)
        key = title(pair.after.case), family_of(pair.after.metric)
        if key not in found or _size(change) > _size(found[key]):
            found[key] = change
    return sorted(found.values(), key=_size, reverse=True)


def _size(change: Change) -> float:
    return abs(change.fraction)


def _change(pair: Pair) -> Change:
    row = pair.after
    change = formatting.change(pair.change)
    first = verdict_text.value(pair.before)
    last = verdict_text.value(row)
    name = f"{title(row.case)}, {metric_name(row.metric)}"
    return Change(
        case=row.case,
        fraction=pair.change,
        text=f"{name}: {change} ({first} → {last})",
        level=_level(pair),
    )


def _level(pair: Pair) -> str:
    """Which way it moved; of a ratio nobody knows which side did."""
    if is_ratio(pair.after.case) or abs(pair.loss) < SMALL:
        return ""
    return "worse" if pair.loss > 0 else "better"
