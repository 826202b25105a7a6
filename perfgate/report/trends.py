"""Trends of the report: cases of the history with their change points, as figures."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from perfgate import formatting
from perfgate.cases import is_ratio, title
from perfgate.history.series import Entry, HistoryError, change_points
from perfgate.judge import run_status, wording
from perfgate.judge.observation import hardware_label
from perfgate.judge.verdict import Outcome
from perfgate.load.metrics import METRICS
from perfgate.report.compared import day_of
from perfgate.report.figures.figure import Picture
from perfgate.report.figures.trend import Trend, engine_version, trend
from perfgate.report.questions import metric_name
from perfgate.report.verdict_text import as_log
from perfgate.results.schema import RunResults

LAST_RUNS = 10  # over which the table says how far a case moved
MOST_CHARTS = 24
SPARK_WIDTH, SPARK_HEIGHT = 120, 24


def course(entries: Sequence[Entry]) -> Trend:
    """A case's entries with their change points, or with the reason why none were looked for."""
    values = [entry.value for entry in entries]
    try:
        points = change_points(values)
    except HistoryError as error:
        reason = f"change points were not looked for: {error.seen}"
        return Trend(tuple(entries), no_points_reason=reason)
    return Trend(tuple(entries), tuple(points))


def of_run(results: RunResults, entries: Iterable[Entry]) -> dict[str, Trend]:
    """The course of each judged case of a run, failures first, on the hardware that it ran on."""
    cases = {case.id: case for case in results.cases}
    labels: dict[str, str] = {}
    by_case_id: dict[str, list[Entry]] = {}
    for row in run_status.judged_verdicts(results):
        case = cases.get(row.case)
        if case is not None:
            labels[case.id] = hardware_label(results.hardware, case)
            by_case_id[case.id] = []
    for entry in entries:
        if labels.get(entry.case) == entry.hardware:
            by_case_id[entry.case].append(entry)
    courses = {}
    for case_id, case_entries in by_case_id.items():
        if len(case_entries) > 1:
            courses[case_id] = course(case_entries)
    return courses


def name_of(entry: Entry) -> str:
    """The case and its hardware: "case (hardware)"."""
    return f"{entry.case} ({entry.hardware})"


def by_case(
    entries: Iterable[Entry], hardware: str | None
) -> dict[str, list[Entry]]:
    """Every case with two runs or more, by "case (hardware)"."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        if hardware in (None, entry.hardware):
            groups.setdefault(name_of(entry), []).append(entry)
    cases = {}
    for name, group in groups.items():
        if len(group) > 1:
            cases[name] = group
    return cases


@dataclass(frozen=True)
class Row:
    """A case of the table of the history.

    Attributes:
        key: of its chart; "" where it has none.
        case: as the history names it.
        name, hardware, version: what was measured, on what, by which engine.
        change: of the newest value from the middle of those before it.
        level: "fail" or "pass" where that is worse or better than is allowed.
        spark: the points of its spark line.
    """

    key: str
    case: str
    name: str
    hardware: str
    version: str
    value: str
    change: float
    level: str
    outcome: str
    day: str
    runs: int
    spark: str

    @property
    def change_text(self) -> str:
        """The change as people read it."""
        return formatting.change(self.change)


def table(cases: Mapping[str, Sequence[Entry]]) -> list[Row]:
    """Every case with its change over the last runs, the largest first."""
    rows = [_row(*item) for item in cases.items()]
    rows.sort(key=_size, reverse=True)
    keyed = []
    for position, row in enumerate(rows):
        key = f"t{position}" if position < MOST_CHARTS else ""
        keyed.append(dataclasses.replace(row, key=key))
    return keyed


def answer(rows: Sequence[Row]) -> str:
    """How many cases moved further than they may, in one sentence."""
    total = formatting.count(len(rows), "case")
    parts = []
    for level, word in (("fail", "worse"), ("pass", "better")):
        number = sum(row.level == level for row in rows)
        if number:
            parts.append(f"{number} {word}")
    if not parts:
        return f"{total}, none moved further than its limit"
    return f"{total}: {', '.join(parts)} than the runs before"


def _size(row: Row) -> float:
    return abs(row.change)


def _row(case: str, entries: Sequence[Entry]) -> Row:
    newest = entries[-1]
    last = entries[-LAST_RUNS:]
    usual = statistics.median(entry.value for entry in last[:-1])
    change = 0.0
    if usual:
        change = newest.value / usual - 1
    return Row(
        key="",
        case=case,
        name=f"{title(newest.case)}, {metric_name(newest.metric)}",
        hardware=newest.hardware,
        version=engine_version(newest),
        value=formatting.number(newest.value, newest.unit),
        change=change,
        level=_level(newest, change),
        outcome=newest.outcome or "-",
        day=day_of(newest.started),
        runs=len(entries),
        spark=spark([entry.value for entry in last]),
    )


def _level(entry: Entry, change: float) -> str:
    """Whether the newest value moved further than it may, and which way."""
    metric = METRICS.get(entry.metric)
    if entry.allowed is None or metric is None:
        return ""
    higher = metric.better == "higher"
    loss = as_log(entry.allowed, higher)
    fall, rise = wording.limits(loss, higher, either_way=True)
    if fall < change < rise:
        return ""
    is_better = (change > 0) == higher
    if is_ratio(entry.case):
        # Which side moved is unknown here, so that its size is a loss.
        is_better = entry.outcome == Outcome.IMPROVED
    return "pass" if is_better else "fail"


def spark(values: Sequence[float]) -> str:
    """The points of a line in SVG; a change of 5 % or less does not fill its height."""
    low, high = min(values), max(values)
    reach = max(high - low, 0.05 * abs(high)) or 1.0
    middle = (low + high) / 2
    points = []
    for position, value in enumerate(values):
        x = 2 + (SPARK_WIDTH - 4) * position / max(1, len(values) - 1)
        y = SPARK_HEIGHT / 2 - (value - middle) / reach * (SPARK_HEIGHT - 4)
        points.append(f"{x:.1f},{y:.1f}")
    return " ".join(points)


def page(cases: Mapping[str, Sequence[Entry]]) -> str:
    """A table of all cases, the largest change first, then charts of the first of them."""
    from perfgate.report.page import templates

    rows = table(cases)
    pictures: list[Picture] = []
    for row in rows:
        if row.key:
            line = course(cases[row.case])
            pictures.append(trend(row.key, row.case, line))
    template = templates().get_template("history.html.j2")
    return str(
        template.render(
            pictures=pictures,
            rows=rows,
            answer=answer(rows),
            last_runs=LAST_RUNS,
            width=SPARK_WIDTH,
            height=SPARK_HEIGHT,
        )
    )
