"""Figures of trends: a case over the runs, with dates, versions and the band in which it passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfgate import formatting
from perfgate.cases import parse_id, title
from perfgate.history.series import ChangePoint, Entry
from perfgate.judge.identity import without_side
from perfgate.load.metrics import METRICS
from perfgate.report.compared import day_of
from perfgate.report.figures.figure import Picture, left_out
from perfgate.report.figures.svg import (
    BAD,
    BAND,
    MARKERS,
    SERIES,
    TEXT,
    axis,
    legend,
)
from perfgate.report.notices import version_of
from perfgate.report.questions import metric_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_TRENDS = 6
MOST_DATES = 4  # below the axis
# The axis reaches at least this far from the newest value, so that noise looks like noise.
LEAST_REACH = 0.05
YEAR = " 20"


@dataclass(frozen=True)
class Trend:
    """One case over the runs of a history, in order of time.

    Attributes:
        no_points_reason: why change points were not looked for.
    """

    entries: tuple[Entry, ...]
    points: tuple[ChangePoint, ...] = ()
    no_points_reason: str = ""

    @property
    def band(self) -> tuple[float, float] | None:
        """Where the newest judged run passes, as values; None where none was compared."""
        for entry in reversed(self.entries):
            if entry.baseline and entry.allowed:
                return _band(entry, entry.baseline, entry.allowed)
        return None

    @property
    def versions(self) -> list[tuple[int, str]]:
        """(position, engine and version) of the first run, and of each that changed it."""
        found: list[tuple[int, str]] = []
        for position, entry in enumerate(self.entries):
            text = engine_version(entry)
            if text and (not found or found[-1][1] != text):
                found.append((position, text))
        return found


def engine_version(entry: Entry) -> str:
    """The engine of the case with its version: "vllm 0.26.0"; "" where it is unknown."""
    engine = parse_id(entry.case).servers[0].partition("-")[0]
    fields = {
        without_side(name): value for name, value in entry.context.items()
    }
    version = version_of(engine, fields)
    if not version:
        return ""
    return f"{engine} {version}"


def _band(entry: Entry, baseline: float, allowed: float) -> tuple[float, float]:
    """The same distance on the logarithm in either direction."""
    metric = METRICS.get(entry.metric)
    factor = 1 + allowed
    if metric is not None and metric.better == "higher":
        factor = 1 / (1 - min(allowed, 0.99))
    return baseline / factor, baseline * factor


def trend(key: str, case_id: str, line: Trend) -> Picture:
    """A case over the runs, with a rule where its level changed."""

    def paint(figure: Figure) -> None:
        _paint_trend(figure, line)

    newest = line.entries[-1]
    name = f"{title(newest.case)}, {metric_name(newest.metric)}"
    changes = []
    for point in line.points:
        run = line.entries[point.index].run
        change = formatting.change(point.change)
        changes.append(f"{change} from run {run} on (p = {point.p_value:.1g})")
    summary = "; ".join(changes) or line.no_points_reason or "no change point"
    values = [entry.value for entry in line.entries]
    lowest = formatting.number(min(values), newest.unit)
    highest = formatting.number(max(values), newest.unit)
    description = (
        f"{case_id}: {len(values)} runs, from {lowest} to {highest}. "
        f"{summary[0].upper()}{summary[1:]}."
    )
    picture = Picture(
        key=key,
        title=f"Trend: {name}",
        caption=_caption(line, changes),
        description=description,
        columns=("started", "run", "value", "engine", "verdict", "level"),
        rows=tuple(_rows(line)),
    )
    return picture.with_drawing(paint)


def _caption(line: Trend, changes: Sequence[str]) -> str:
    parts = [line.entries[-1].hardware, *changes]
    if line.band is not None:
        parts.append("band: where the newest run passes")
    return "; ".join(parts)


def _rows(line: Trend) -> list[tuple[str, ...]]:
    changed = {point.index for point in line.points}
    rows: list[tuple[str, ...]] = []
    for position, entry in enumerate(line.entries):
        mark = "changed here" if position in changed else ""
        value = formatting.number(entry.value, entry.unit)
        outcome = entry.outcome or "-"
        version = engine_version(entry) or "-"
        rows.append(
            (entry.started[:16], entry.run, value, version, outcome, mark)
        )
    return rows


def _paint_trend(figure: Figure, line: Trend) -> None:
    first = line.entries[0]
    y = metric_name(first.metric)
    if first.unit and first.unit != "bytes":
        y += f", {first.unit}"
    axes = axis(figure, "", y)
    axes.yaxis.set_major_formatter(_in_unit(first.unit))
    launches_at: list[int] = []
    launch_values: list[float] = []
    for run, entry in enumerate(line.entries):
        launches_at += [run] * len(entry.launches)
        launch_values += entry.launches
    if line.band is not None:
        low, high = line.band
        axes.axhspan(
            low, high, color=BAND, alpha=0.6, linewidth=0, label="passes"
        )
    axes.plot(
        launches_at,
        launch_values,
        linestyle="none",
        marker=".",
        color=SERIES[1],
        label="launch",
    )
    runs = range(len(line.entries))
    values = [entry.value for entry in line.entries]
    axes.plot(runs, values, color=SERIES[0], marker=MARKERS[0], label="run")
    for position, point in enumerate(line.points):
        label = "change point" if position == 0 else None
        axes.axvline(
            point.index - 0.5,
            color=BAD,
            linestyle="--",
            linewidth=1,
            label=label,
        )
    _reach(axes, line, [*values, *launch_values])
    _date(axes, line)
    legend(figure, axes, columns=4)


def _in_unit(unit: str) -> Callable[[float, float], str]:
    """Labels of the axis; bytes as people read them."""

    def label(value: float, _position: float) -> str:
        if unit == "bytes":
            return formatting.number(value, unit)
        return formatting.number(value)

    return label


def _reach(axes: Axes, line: Trend, values: Sequence[float]) -> None:
    """The axis holds the band and every value, and is never cut down to the noise."""
    newest = line.entries[-1].value
    shown = [newest * (1 - LEAST_REACH), newest * (1 + LEAST_REACH), *values]
    if line.band is not None:
        shown += line.band
    low, high = min(shown), max(shown)
    margin = 0.08 * (high - low)
    axes.set_ylim(low - margin, high + 2 * margin)  # below the versions


def _date(axes: Axes, line: Trend) -> None:
    """Days below the axis, and each version of the engine where it begins."""
    last = len(line.entries) - 1
    steps = min(MOST_DATES, len(line.entries)) - 1
    places = sorted(
        {round(last * step / max(1, steps)) for step in range(steps + 1)}
    )
    days = []
    for place in places:
        day, _, _ = day_of(line.entries[place].started).partition(YEAR)
        days.append(day)
    axes.set_xticks(places, days)
    axes.set_xlim(-0.3, last + 0.3)
    for place, version in line.versions:
        if place:
            axes.axvline(place - 0.5, color=TEXT, linestyle=":", linewidth=1)
        axes.annotate(
            version,
            (place - 0.25, 0.98),
            xycoords=("data", "axes fraction"),
            va="top",
        )


def trends(history: Mapping[str, Trend], prefix: str) -> list[Picture]:
    """The first few cases of a history; cases with a change point come first."""
    with_points = []
    without_points = []
    for case, line in history.items():
        if len(line.entries) < 2:
            continue
        if line.points:
            with_points.append(case)
        else:
            without_points.append(case)
    cases = [*with_points, *without_points]
    if not cases:
        reason = "no case has a history of two runs or more"
        return [left_out(f"{prefix}trend", "Trends", reason)]
    pictures = []
    for position, case in enumerate(cases[:MOST_TRENDS]):
        pictures.append(trend(f"{prefix}trend-{position}", case, history[case]))
    return pictures
