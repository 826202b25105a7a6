"""Figures of the servers: launches against their baselines, and memory."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from perfgate import formatting
from perfgate.cases import Case, title
from perfgate.judge.baseline_store import Baseline, Recorded
from perfgate.judge.machine_scope import narrow_to
from perfgate.judge.observation import Observation, RunReader
from perfgate.judge.policy import policy_of
from perfgate.judge.verdict import ALWAYS_RED
from perfgate.load.metrics import METRICS
from perfgate.machine.memory import breakdown
from perfgate.report.figures.figure import Picture, left_out
from perfgate.report.figures.series import configs
from perfgate.report.figures.svg import (
    BACKGROUND,
    BAD,
    BAND,
    GRID,
    HATCHES,
    SERIES,
    TEXT,
    WIDTH,
    axis,
    legend,
    name_bars,
)
from perfgate.report.questions import metric_name
from perfgate.results.samples import RunIndex, values_of
from perfgate.results.schema import RunResults
from perfgate.results.verdict import Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Find = Callable[[Case, str], Baseline | None]

MOST_ROWS = 12  # cases in one figure of launches
# Of a case in it, in inches; and what its axis shows, in losses that are allowed.
LABEL_IN, BAND_IN, BELOW_BAND_IN = 0.19, 0.16, 0.12
LABEL_CHARACTERS = 54
MOST_LIMITS = 3.0
SMALLEST_REACH, SMALLEST_RATIO = 1e-4, 1e-6
MOST_LAUNCH_FIGURES = 3  # the other cases stand in the table
MEMORY_PARTS = ("weights", "KV cache", "graphs", "everything else")


def memory(index: RunIndex, prefix: str) -> Picture:
    """What each rank's memory holds: weights, KV cache, graphs, the rest."""
    on_cpu = any(config.device == "cpu" for config in configs(index).values())
    key = f"{prefix}memory"
    title = "Memory per rank" if on_cpu else "Memory per GPU"
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
    return picture.with_drawing(paint, (WIDTH, 1.3 + 0.5 * len(bars)))


def _paint_memory(figure: Figure, bars: Mapping[str, Sequence[float]]) -> None:
    axes = axis(figure, "GB on each rank", "")
    servers = list(bars)
    left_gb = np.zeros(len(bars))
    for position, name in enumerate(MEMORY_PARTS):
        sizes_gb = np.array([parts[position] for parts in bars.values()]) / 1e9
        axes.barh(
            range(len(servers)),
            sizes_gb,
            left=left_gb,
            label=name,
            color=SERIES[position],
            hatch=HATCHES[position],
            edgecolor=TEXT,
            linewidth=0.5,
            height=0.4,
        )
        left_gb += sizes_gb
    name_bars(axes, servers)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    legend(figure, axes)


def _memory_parts_bytes(
    index: RunIndex, server: str
) -> tuple[float, ...] | None:
    """Bytes on each rank.

    A KV cache that the system has not given yet makes the rest negative: drawn as 0.
    """
    config = index.results.servers[server].config
    ranks = 1 if config.device == "cuda" else config.ranks
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
    key, name = f"{prefix}launches", "Each launch vs its baseline"
    if reader.results.is_paired:
        name = "Each launch vs the base build"
    lines = _lines(reader, ordered, find)
    if not lines:
        return [left_out(key, name, "no judged case has a baseline here")]
    parts = []
    for start in range(0, len(lines), MOST_ROWS):
        parts.append(lines[start : start + MOST_ROWS])
    parts = parts[:MOST_LAUNCH_FIGURES]
    undrawn = len(lines) - sum(len(part) for part in parts)
    captions = [""] * len(parts)
    captions[0] = _legend_of_launches(reader.results)
    if undrawn:
        count = formatting.count(undrawn, "case")
        captions[-1] += f" {count} not drawn: see the table."
    pictures = []
    for position, part in enumerate(parts, 1):
        part_key = key if position == 1 else f"{key}-{position}"
        part_title = name
        if len(parts) > 1:
            part_title = f"{name}, {position} of {len(parts)}"
        caption = captions[position - 1].strip()
        pictures.append(_launches(part_key, part_title, caption, part))
    return pictures


def _legend_of_launches(results: RunResults) -> str:
    ticks = "recorded launches, or machines where each counts once"
    if results.is_paired:
        ticks = "launches of the base build"
    elif results.suspects:
        ticks += "; of cases that pairs decided, launches of the base build"
    return (
        "Further right is worse. Dots: this run (a cross where it is REGRESSED or "
        f"INVALID). Band: where it passes. Ticks: the {ticks}."
    )


def _launches(
    key: str, title: str, caption: str, lines: Sequence[_Line]
) -> Picture:
    def paint(figure: Figure) -> None:
        _paint_launches(figure, lines)

    rows = []
    bad = []
    for line in lines:
        changes = []
        for change in line.changes(line.values):
            changes.append(formatting.change(change))
        text = ", ".join(changes) or "-"
        rows.append((line.row.case, line.row.outcome, text, line.range))
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
    height_in = 0.4
    for line in lines:
        height_in += LABEL_IN * len(line.label) + BAND_IN + BELOW_BAND_IN
    return picture.with_drawing(paint, (WIDTH, height_in))


def _paint_launches(figure: Figure, lines: Sequence[_Line]) -> None:
    axes = axis(figure, "", "")
    top = 0.0
    for line in lines:
        middle = top + LABEL_IN * len(line.label) + BAND_IN / 2
        _paint_line(axes, line, top, middle)
        top = middle + BAND_IN / 2 + BELOW_BAND_IN
    axes.axvline(0, color=TEXT, linewidth=0.8)
    axes.set_xlim(-MOST_LIMITS - 0.25, MOST_LIMITS + 0.25)
    axes.set_ylim(top, 0.0)
    axes.set_xticks(
        [-1, 0, 1, MOST_LIMITS], ["gain", "baseline", "limit", "3x or more"]
    )
    axes.set_yticks([])
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)


def _paint_line(axes: Axes, line: _Line, top: float, middle: float) -> None:
    """One case: its label at `top`, its band and launches at `middle`; in inches."""
    axes.barh(middle, 2, left=-1, height=BAND_IN, color=BAND, edgecolor=GRID)
    reference = line.limits(line.reference)
    axes.plot(
        reference,
        [middle] * len(reference),
        "|",
        color=TEXT,
        markersize=7,
        alpha=0.6,
    )
    dot: dict[str, Any] = {"color": SERIES[0], "marker": "o"}
    if line.is_bad:
        dot = {"color": BAD, "marker": "X"}
    places = line.limits(line.values)
    axes.plot(
        places, [middle] * len(places), linestyle="none", markersize=7, **dot
    )
    for number, text in enumerate(line.label):
        axes.text(
            0.0,
            top + LABEL_IN * (number + 0.5),
            text,
            transform=axes.get_yaxis_transform(),
            va="center",
            bbox={"facecolor": BACKGROUND, "edgecolor": "none", "pad": 0.5},
        )


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
        if row.screen is not None:
            observation = reader.observe(case.candidate)
        else:
            observation = reader.observe(case)
        reference = _reference_values(reader, row, case, observation, find)
        lines.append(_Line(row, tuple(observation.values), tuple(reference)))
    return lines


def _reference_values(
    reader: RunReader,
    row: Verdict,
    case: Case,
    observation: Observation,
    find: Find,
) -> list[float]:
    """The launches that the case was compared with."""
    if reader.results.is_paired or row.screen is not None:
        return reader.observe(case.base).values
    label = observation.hardware_label
    baseline = find(case, label)
    if not isinstance(baseline, Recorded):
        return []
    policy = policy_of(case, label)
    narrowed = narrow_to(baseline, observation.machine, policy)
    return values_of(narrowed.metric.launches)


@dataclass(frozen=True)
class _Line:
    """One case of the figure of launches; changes and band as fractions of the baseline.

    Attributes:
        reference: launches that the case was compared with.
    """

    row: Verdict
    values: tuple[float, ...]
    reference: tuple[float, ...]

    def changes(self, values: Sequence[float]) -> list[float]:
        changes = []
        for value in values:
            baseline = self.row.baseline or value
            changes.append(value / baseline - 1)
        return changes

    @property
    def is_bad(self) -> bool:
        return self.row.outcome in ALWAYS_RED

    @property
    def band(self) -> tuple[float, float]:
        # The threshold is the same distance on the logarithm in either direction.
        reach = self.row.limit or 0.0
        reach = max(reach, SMALLEST_REACH)
        if METRICS[self.row.metric].better == "higher":
            return -reach, 1 / (1 - min(reach, 0.99)) - 1
        return 1 / (1 + reach) - 1, reach

    @property
    def label(self) -> list[str]:
        """Case and change, in lines that fit above its band."""
        row = self.row
        name = f"{title(row.case)}, {metric_name(row.metric)}"
        if row.change is not None:
            name += f": {formatting.change(row.change)}"
        return textwrap.wrap(name, LABEL_CHARACTERS)

    def limits(self, values: Sequence[float]) -> list[float]:
        """Each loss as a multiple of the loss that is allowed; a gain is negative.

        On the logarithm, on which a limit is as far in either direction; cut off at
        the edge of the drawing.
        """
        worst = 1 + self.band[1]
        sign = 1.0
        if METRICS[self.row.metric].better == "higher":
            worst = 1 / (1 + self.band[0])
            sign = -1.0
        places = []
        for value in values:
            ratio = value / (self.row.baseline or value)
            place = (
                sign * math.log(max(ratio, SMALLEST_RATIO)) / math.log(worst)
            )
            places.append(max(-MOST_LIMITS, min(MOST_LIMITS, place)))
        return places

    @property
    def range(self) -> str:
        low, high = self.band
        return formatting.signed_range(low, high)
