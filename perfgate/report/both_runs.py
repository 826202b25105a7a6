"""Both runs: what two runs measured both, the largest loss first, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from perfgate import formatting
from perfgate.cases import is_ratio
from perfgate.judge.verdict import Verdict
from perfgate.load.metrics import METRICS
from perfgate.report import terminal, verdict_text
from perfgate.report.questions import metric_name
from perfgate.results.schema import RunResults
from perfgate.wrapping import wrapped

MOST_ROWS: Final = 12
TITLES: Final = ("load", "metric", "before", "after", "change")


@dataclass(frozen=True)
class Pair:
    """One case in two runs.

    Attributes:
        change: of the value, as a fraction.
        loss: the same, positive where the later run is worse; of a ratio, whose sides
            may both have moved, its size.
    """

    before: Verdict
    after: Verdict
    change: float
    loss: float

    @property
    def is_lost(self) -> bool:
        """Whether the loss is more than the gate allows of this case."""
        if self.after.allowed is None or self.loss <= 0:
            return False
        changes = verdict_text.limits(self.after)
        return any(_is_beyond(self.change, limit) for limit in changes)


def _is_beyond(change: float, limit: float) -> bool:
    return change * limit >= 0 and abs(change) > abs(limit)


def pairs(first: RunResults, last: RunResults) -> list[Pair]:
    """The cases that both measured, the largest loss first."""
    earlier = {row.case: row for row in first.verdicts}
    found = []
    for row in last.verdicts:
        before = earlier.get(row.case)
        if before is None or not before.value or not row.value:
            continue
        change = row.value / before.value - 1
        found.append(Pair(before, row, change, _loss(row, change)))
    return sorted(found, key=lambda pair: -pair.loss)


def _loss(row: Verdict, change: float) -> float:
    if is_ratio(row.case):
        return abs(change)
    metric = METRICS.get(row.metric)
    if metric is not None and metric.better == "higher":
        return -change
    return change


def lines(
    first: RunResults, last: RunResults, width: int, is_terminal: bool
) -> Iterator[str]:
    """Whether the later run is slower, what is, and the table of what moved most.

    Args:
        width: of the terminal, in columns.
    """
    found = pairs(first, last)
    for text in _answer(first, last, found):
        yield wrapped(text, width) if is_terminal else text
    if not found:
        return
    yield terminal.grid(TITLES, _rows(found[:MOST_ROWS]), width, is_terminal)
    rest = len(found) - MOST_ROWS
    if rest > 0:
        yield f"{formatting.count(rest, 'more value')} in the report"


def _answer(
    first: RunResults, last: RunResults, found: Sequence[Pair]
) -> Iterator[str]:
    before, after = first.run_id, last.run_id
    if first.hardware.description != last.hardware.description:
        yield (
            f"Different machines: {first.hardware.place}, then "
            f"{last.hardware.place}; a change may be theirs"
        )
    total = formatting.count(len(found), "value")
    text = f"{after} against {before}: {total} in both"
    lost = [pair for pair in found if pair.is_lost]
    if lost:
        worst = lost[0]
        text += (
            f", {len(lost)} worse by more than the gate allows; most: "
            f"{verdict_text.heading(worst.after)} "
            f"{formatting.signed_percent(worst.change)}"
        )
    elif found:
        text += ", none worse by more than the gate allows"
    yield text


def _rows(found: Sequence[Pair]) -> list[list[str]]:
    rows = []
    for pair in found:
        row = pair.after
        load, _, _ = verdict_text.heading(row).rpartition(", ")
        change = formatting.change_in_words(pair.change, row.unit)
        rows.append(
            [
                load,
                metric_name(row.metric),
                verdict_text.value(pair.before),
                verdict_text.value(row),
                change,
            ]
        )
    return rows
