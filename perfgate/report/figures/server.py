"""Figures of the servers: launches against their baselines, memory, and trends over the runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from perfgate import formatting
from perfgate.cases import Case, parse_id
from perfgate.history.series import ChangePoint, Entry
from perfgate.judge.baseline_store import Baseline, Recorded
from perfgate.judge.machine_scope import narrow_to
from perfgate.judge.observation import Observation, RunReader
from perfgate.judge.policy import policy_for
from perfgate.judge.verdict import ALWAYS_RED
from perfgate.load.metrics import METRICS
from perfgate.machine.memory import breakdown
from perfgate.report.figures.figure import Picture, left_out, number
from perfgate.report.figures.series import configs
from perfgate.report.figures.svg import (
    BAD,
    BAND,
    GRID,
    HATCHES,
    MARKERS,
    SERIES,
    TEXT,
    WIDTH,
    axis,
    legend,
)
from perfgate.results.samples import RunIndex, values_of
from perfgate.results.verdict import Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Find = Callable[[Case, str], Baseline | None]

MOST_ROWS = 16  # cases in one figure of launches
MOST_LAUNCH_FIGURES = 3  # the other cases stand in the table
MOST_TRENDS = 6
MEMORY_PARTS = ("weights", "KV cache", "graphs", "everything else")


def memory(index: RunIndex, prefix: str) -> Picture:
    """What each rank's memory holds: weights, KV cache, graphs, the rest."""
    on_cpu = any(config.device == "cpu" for config in configs(index).values())
    key, title = (
        f"{prefix}memory",
        "Memory per rank" if on_cpu else "Memory per GPU",
    )
    bars = {}
    for server in index.results.servers:
        parts_bytes = _memory_parts_bytes(index, server)
        if parts_bytes is not None:
            bars[server] = parts_bytes
    if not bars:
        return left_out(
            key, title, "no launch reported its weights and its memory"
        )

    def paint(figure: Figure) -> None:
        _paint_memory(figure, bars)

    rows = []
    descriptions = []
    for server, parts_bytes in bars.items():
        sizes = [formatting.number(size / 1e9, "GB") for size in parts_bytes]
        rows.append((server, *sizes))
        parts = zip(MEMORY_PARTS, sizes, strict=True)
        text = ", ".join(f"{name} {size}" for name, size in parts)
        descriptions.append(f"{server}: {text}")
    caption = "The first launch of each server. The KV cache is what the engine reserves."
    if on_cpu:
        caption += " On the CPU it is the peak of all processes, shared evenly among the ranks."
    picture = Picture(
        key=key,
        title=title,
        caption=caption,
        description="; ".join(descriptions) + ".",
        columns=("server", *MEMORY_PARTS),
        rows=tuple(rows),
    )
    return picture.drawn(paint, (WIDTH, 1.4 + 0.35 * len(bars)))


def _paint_memory(figure: Figure, bars: Mapping[str, Sequence[float]]) -> None:
    axes = axis(figure, "GB on each rank", "")
    servers = list(bars)
    left_gb = np.zeros(len(bars))
    for position, name in enumerate(MEMORY_PARTS):
        sizes_gb = np.array([parts[position] for parts in bars.values()]) / 1e9
        axes.barh(
            servers,
            sizes_gb,
            left=left_gb,
            label=name,
            color=SERIES[position],
            hatch=HATCHES[position],
            edgecolor=TEXT,
            linewidth=0.5,
            height=0.6,
        )
        left_gb += sizes_gb
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    legend(figure, axes, columns=4)


def _memory_parts_bytes(
    index: RunIndex, server: str
) -> tuple[float, ...] | None:
    """Bytes on each rank.

    A KV cache that the system has not given yet makes the rest negative: drawn as 0.
    """
    config = index.results.servers[server].config
    ranks = 1 if config.device == "cuda" else config.tensor_parallel_size
    for launch in index.launches(server):
        if not launch.values:
            continue
        parts = breakdown(launch.values, ranks)
        if parts is None:
            return None
        sizes = parts.weights, parts.kv_cache, parts.graphs, parts.rest
        return tuple(max(0.0, size) / ranks for size in sizes)
    return None


def launches(
    reader: RunReader, ordered: Sequence[Verdict], find: Find, prefix: str
) -> list[Picture]:
    """Each launch of the judged cases as a dot on the band in which it passes, in several figures.

    Args:
        ordered: verdicts, what needs attention first.
        find: a case's baseline on a kind of hardware; its launches are drawn as small
            ticks.
    """
    key, title = f"{prefix}launches", "Each launch against its baseline"
    lines = _lines(reader, ordered, find)
    if not lines:
        return [left_out(key, title, "no judged case has a baseline here")]
    parts = []
    for start in range(0, len(lines), MOST_ROWS):
        parts.append(lines[start : start + MOST_ROWS])
    parts = parts[:MOST_LAUNCH_FIGURES]
    ticks = "recorded launches, or machines where each counts once"
    if reader.results.mode == "paired":
        ticks = "launches of the base build"
    more = len(lines) - sum(len(part) for part in parts)
    pictures = []
    for position, part in enumerate(parts, 1):
        part_key = key if position == 1 else f"{key}-{position}"
        part_title = title
        if len(parts) > 1:
            part_title = f"{title}, {position} of {len(parts)}"
        caption = (
            "Dots: this run (a cross where it is REGRESSED or INVALID). Band: where "
            f"it passes. Ticks: the {ticks}."
        )
        if more and position == len(parts):
            caption += f" {more} more are in the table."
        pictures.append(_launches(part_key, part_title, caption, part))
    return pictures


def _launches(
    key: str, title: str, caption: str, lines: Sequence[_Line]
) -> Picture:
    def paint(figure: Figure) -> None:
        _paint_launches(figure, lines)

    rows = []
    bad = []
    for line in lines:
        changes = ", ".join(
            f"{change:+.1f} %" for change in line.changes(line.values)
        )
        rows.append(
            (line.row.case, line.row.outcome, changes or "-", line.range)
        )
        if line.is_bad:
            bad.append(line.row.case)
    description = (
        f"{len(lines)} judged cases with a baseline, {len(bad)} of them REGRESSED or "
        "INVALID"
    )
    if bad:
        description += f": {formatting.listed(bad)}"
    picture = Picture(
        key=key,
        title=title,
        caption=caption,
        description=f"{description}.",
        columns=("case", "verdict", "launches", "passes within"),
        rows=tuple(rows),
    )
    return picture.drawn(paint, (WIDTH, 0.8 + 0.4 * len(lines)))


def _paint_launches(figure: Figure, lines: Sequence[_Line]) -> None:
    axes = axis(figure, "change from the baseline, %", "")
    for at, line in enumerate(lines):
        low, high = line.band
        axes.barh(
            at, high - low, left=low, height=0.34, color=BAND, edgecolor=GRID
        )
        tick: dict[str, Any] = {"color": TEXT, "markersize": 6, "alpha": 0.6}
        axes.plot(
            line.changes(line.recorded), [at] * len(line.recorded), "|", **tick
        )
        dot: dict[str, Any] = {"color": SERIES[0], "marker": "o"}
        if line.is_bad:
            dot = {"color": BAD, "marker": "X"}
        axes.plot(
            line.changes(line.values),
            [at] * len(line.values),
            linestyle="none",
            markersize=6,
            **dot,
        )
        axes.text(
            0.0,
            at - 0.42,
            line.row.case,
            transform=axes.get_yaxis_transform(),
            fontsize=7.5,
            va="center",
        )
    axes.axvline(0, color=TEXT, linewidth=0.8)
    axes.set_ylim(len(lines) - 0.5, -0.8)
    axes.set_yticks([])
    axes.grid(visible=False, axis="y")


def _lines(
    reader: RunReader, ordered: Sequence[Verdict], find: Find
) -> list[_Line]:
    """The judged cases with a baseline, their launches and what they were compared with."""
    cases = {case.id: case for case in reader.results.cases}
    lines = []
    for row in ordered:
        case = cases.get(row.case)
        if case is None or row.gate != "hard":
            continue
        if row.baseline is None or row.threshold is None:
            continue
        observation = reader.observe(case)
        recorded = _recorded_values(reader, case, observation, find)
        lines.append(_Line(row, tuple(observation.values), tuple(recorded)))
    return lines


def _recorded_values(
    reader: RunReader, case: Case, observation: Observation, find: Find
) -> list[float]:
    """The launches that the case was compared with."""
    if reader.results.mode == "paired":
        return reader.observe(case.base).values
    label = observation.hardware_label
    baseline = find(case, label)
    if not isinstance(baseline, Recorded):
        return []
    policy = policy_for(label, case.metric, case.denominator is not None)
    narrowed = narrow_to(baseline, observation.machine, policy)
    return values_of(narrowed.metric.launches)


@dataclass(frozen=True)
class _Line:
    """One case of the figure of launches; changes and band in percent of the baseline."""

    row: Verdict
    values: tuple[float, ...]
    recorded: tuple[float, ...]

    def changes(self, values: Sequence[float]) -> list[float]:
        return [
            (value / (self.row.baseline or value) - 1) * 100 for value in values
        ]

    @property
    def is_bad(self) -> bool:
        return self.row.outcome in ALWAYS_RED

    @property
    def band(self) -> tuple[float, float]:
        # The threshold is the same distance on the logarithm in either direction.
        reach = self.row.threshold or 0.0
        if METRICS[self.row.metric].better == "higher":
            return -100 * reach, 100 * (1 / (1 - min(reach, 0.99)) - 1)
        return -100 * (1 - 1 / (1 + reach)), 100 * reach

    @property
    def range(self) -> str:
        low, high = self.band
        return f"{low:+.1f} to {high:+.1f} %"


@dataclass(frozen=True)
class Trend:
    """One case over the runs of a history, in order of time.

    Attributes:
        why: why change points were not looked for.
    """

    entries: tuple[Entry, ...]
    points: tuple[ChangePoint, ...] = ()
    why: str = ""


def trend(key: str, case_id: str, line: Trend) -> Picture:
    """A case over the runs, with a rule where its level changed."""
    title = f"Trend: {case_id}"

    def paint(figure: Figure) -> None:
        _paint_trend(figure, line)

    changes = []
    for point in line.points:
        run = line.entries[point.index].run
        change = formatting.change(point.change)
        changes.append(f"{change} from run {run} on (p = {point.p_value:.1g})")
    found = "; ".join(changes) or line.why or "no change point"
    values = [entry.value for entry in line.entries]
    description = (
        f"{len(values)} runs, from {number(min(values))} to {number(max(values))}. "
        f"{found[0].upper()}{found[1:]}."
    )
    changed = {point.index for point in line.points}
    rows = []
    for position, entry in enumerate(line.entries):
        mark = "changed here" if position in changed else ""
        value, outcome = number(entry.value), entry.outcome or "-"
        rows.append((entry.started[:16], entry.run, value, outcome, mark))
    picture = Picture(
        key=key,
        title=title,
        caption="",
        description=description,
        columns=("started", "run", "value", "verdict", "level"),
        rows=tuple(rows),
    )
    return picture.drawn(paint)


def _paint_trend(figure: Figure, line: Trend) -> None:
    from matplotlib.ticker import MaxNLocator

    metric = parse_id(line.entries[0].case).metric
    axes = axis(figure, "run, the newest last", metric)
    launches_at: list[int] = []
    launch_values: list[float] = []
    for run, entry in enumerate(line.entries, 1):
        launches_at += [run] * len(entry.launches)
        launch_values += entry.launches
    axes.plot(
        launches_at,
        launch_values,
        linestyle="none",
        marker=".",
        color=SERIES[1],
        label="each launch",
    )
    runs = range(1, len(line.entries) + 1)
    values = [entry.value for entry in line.entries]
    axes.plot(runs, values, color=SERIES[0], marker=MARKERS[0], label="run")
    for position, point in enumerate(line.points):
        label = "change point" if position == 0 else None
        axes.axvline(
            point.index + 0.5,
            color=BAD,
            linestyle="--",
            linewidth=1,
            label=label,
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(figure, axes, columns=3)


def trends(history: Mapping[str, Trend], prefix: str) -> list[Picture]:
    """The first few cases of a history; cases with a change point come first."""
    changed = []
    others = []
    for case, line in history.items():
        if len(line.entries) < 2:
            continue
        if line.points:
            changed.append(case)
        else:
            others.append(case)
    if not changed and not others:
        why = "no history of two runs or more was given"
        return [left_out(f"{prefix}trend", "Trends", why)]
    pictures = []
    for position, case in enumerate([*changed, *others][:MOST_TRENDS]):
        pictures.append(trend(f"{prefix}trend-{position}", case, history[case]))
    return pictures
