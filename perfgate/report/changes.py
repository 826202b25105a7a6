"""Changes between two runs: what both measured, by how far it moved for the worse."""

from __future__ import annotations

from dataclasses import dataclass

from perfgate import formatting
from perfgate.cases import title
from perfgate.load.metrics import METRICS, family_of
from perfgate.report.questions import metric_name
from perfgate.results.schema import RunResults
from perfgate.results.verdict import Verdict


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
    earlier = {row.case: row for row in before.verdicts}
    found: dict[tuple[str, str], Change] = {}
    for row in now.verdicts:
        other = earlier.get(row.case)
        if other is None or not other.value or not row.value:
            continue
        change = _change(other, row, other.value, row.value)
        key = title(row.case), family_of(row.metric)
        if key not in found or _size(change) > _size(found[key]):
            found[key] = change
    return sorted(found.values(), key=_size, reverse=True)


def _size(change: Change) -> float:
    return abs(change.fraction)


def _change(
    before: Verdict, now: Verdict, earlier: float, value: float
) -> Change:
    fraction = value / earlier - 1
    change = formatting.change(fraction)
    first = formatting.number(earlier, before.unit)
    last = formatting.number(value, now.unit)
    name = f"{title(now.case)}, {metric_name(now.metric)}"
    return Change(
        case=now.case,
        fraction=fraction,
        text=f"{name}: {change} ({first} → {last})",
        level=_level(now.metric, fraction),
    )


def _level(metric: str, fraction: float) -> str:
    if metric not in METRICS or abs(fraction) < SMALL:
        return ""
    is_better = (fraction > 0) == (METRICS[metric].better == "higher")
    return "better" if is_better else "worse"
