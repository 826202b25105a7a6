"""Figures of gaps between tokens: their distribution by server, and timelines of repetitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from perfgate.load.repetition import Repetition
from perfgate.load.workload import Workload
from perfgate.report.figures.figure import Picture, left_out, number
from perfgate.report.figures.series import (
    Timeline,
    busiest,
    gaps_ms,
    stalled,
    timeline,
)
from perfgate.report.figures.svg import (
    BAD,
    MOST_SERIES,
    SERIES,
    TEXT,
    axis,
    legend,
    plain_log,
    style,
)
from perfgate.results.samples import RunIndex

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEAST_GAP_MS = 1e-3  # a logarithmic axis has no zero
MOST_TIMELINES = 4  # servers whose repetition is shown
MOST_INVALID = 2  # repetitions that do not count and are shown as timelines
# Of gaps, in the table of numbers.
PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)


def gap_distribution(index: RunIndex, prefix: str) -> Picture:
    """Distribution of the gaps between tokens, by server, under the busiest closed loop."""
    key, title = f"{prefix}gaps", "Distribution of inter-token latency"
    workload = busiest(index)
    gaps = {} if workload is None else _gaps(index, workload)
    if workload is None or not gaps:
        return left_out(
            key,
            title,
            "needs a closed loop with a valid repetition of two tokens or more a request",
        )

    def paint(figure: Figure) -> None:
        _paint_gaps(figure, gaps)

    rows = []
    parts = []
    for server, values in gaps.items():
        percentiles = [
            number(float(p)) for p in np.percentile(values, PERCENTILES)
        ]
        rows.append((server, str(len(values)), *percentiles))
        p50, p99 = np.percentile(values, (50, 99))
        parts.append(
            f"{server}: p50 {number(float(p50))} ms, p99 {number(float(p99))} ms of "
            f"{len(values)} gaps"
        )
    caption = (
        f"All valid repetitions of {workload.name}. A step in a line is a second kind "
        "of gap: a prefill, or a stall."
    )
    picture = Picture(
        key=key,
        title=title,
        caption=caption,
        description=f"{'; '.join(parts)}.",
        columns=("server", "gaps", *(f"p{share}, ms" for share in PERCENTILES)),
        rows=tuple(rows),
    )
    return picture.with_drawing(paint)


def _gaps(index: RunIndex, workload: Workload) -> dict[str, np.ndarray]:
    """Server -> its gaps, in ms; servers without any are left out."""
    gaps = {}
    for server in index.results.servers:
        values = gaps_ms(index.repetitions(server, workload.name))
        if len(values):
            gaps[server] = values
    return gaps


def _paint_gaps(figure: Figure, gaps: dict[str, np.ndarray]) -> None:
    shares = np.concatenate([[0.1], np.arange(1, 100), [99.5, 99.9]])
    axes = axis(figure, "gap between two tokens, ms (log)", "share of gaps, %")
    axes.set_xscale("log")
    for position, server in enumerate(list(gaps)[:MOST_SERIES]):
        look = style(position) | {"markevery": 15}
        at_ms = np.maximum(np.percentile(gaps[server], shares), LEAST_GAP_MS)
        axes.plot(at_ms, shares, label=server, **look)
    # Tokens that came in one read have no gap; they would stretch the axis.
    lowest = min(float(np.percentile(values, 2)) for values in gaps.values())
    axes.set_xlim(left=max(0.1, lowest / 2))
    plain_log(axes.xaxis)
    legend(figure, axes)


@dataclass(frozen=True)
class _TimelineSource:
    """A repetition that a timeline shows; `invalid` says why it does not count."""

    name: str
    repetition: Repetition
    invalid: str = ""


def timelines(index: RunIndex, prefix: str) -> list[Picture]:
    """How one repetition of each server went, and those that do not count."""
    pictures = []
    for position, source in enumerate(_timeline_sources(index)):
        line = timeline(source.repetition)
        if line is not None:
            key = f"{prefix}timeline-{position}"
            pictures.append(_timeline(key, source, line))
    if pictures:
        return pictures
    reason = "no repetition has requests of two tokens or more"
    return [left_out(f"{prefix}timeline", "Timeline of a repetition", reason)]


def _timeline_sources(index: RunIndex) -> list[_TimelineSource]:
    sources = []
    workload = busiest(index)
    servers = list(index.results.servers)[:MOST_TIMELINES]
    for server in servers:
        repetitions = []
        if workload is not None:
            repetitions = index.repetitions(server, workload.name)
        if workload is not None and repetitions:
            last = repetitions[-1]
            name = f"{server}, {workload.name}, repetition {last.index + 1}"
            sources.append(_TimelineSource(name, last))
    for row, repetition in stalled(index, MOST_INVALID):
        name = (
            f"{row.server}, {row.workload}, launch {row.launch + 1}, repetition "
            f"{repetition.index + 1}"
        )
        sources.append(
            _TimelineSource(name, repetition, "; ".join(repetition.invalid))
        )
    return sources


def _timeline(key: str, source: _TimelineSource, line: Timeline) -> Picture:
    title = f"Timeline: {source.name}"
    caption = "The last valid repetition."
    if source.invalid:
        title += " (invalid)"
        caption = f"Invalid: {source.invalid}."

    def paint(figure: Figure) -> None:
        _paint_timeline(figure, line)

    longest = int(np.nanargmax(line.longest_ms))
    peak = number(float(line.longest_ms[longest]))
    usual = number(float(np.nanmedian(line.median_ms)))
    description = (
        f"Gaps between tokens over {line.at_s[-1]:.1f} s: median {usual} ms, longest "
        f"{peak} ms, at {line.at_s[longest]:.1f} s; at most {int(line.streams.max())} "
        "requests in flight."
    )
    rows = []
    for slot in range(0, len(line.at_s), 4):
        row = (
            f"{line.at_s[slot]:.1f}",
            _or_dash(line.median_ms[slot]),
            _or_dash(line.longest_ms[slot]),
            str(line.streams[slot]),
        )
        rows.append(row)
    picture = Picture(
        key=key,
        title=title,
        caption=caption,
        description=description,
        columns=("time, s", "median ITL, ms", "longest ITL, ms", "in flight"),
        rows=tuple(rows),
    )
    return picture.with_drawing(paint)


def _paint_timeline(figure: Figure, line: Timeline) -> None:
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    _paint_gaps_over_time(upper, line)
    lower.step(line.at_s, line.streams, where="mid", color=TEXT)
    lower.set_ylim(bottom=0)
    lower.yaxis.get_major_locator().set_params(integer=True)
    lower.set_ylabel("in flight")
    lower.set_xlabel("seconds since the start")
    legend(figure, upper)


def _paint_gaps_over_time(axes: Axes, line: Timeline) -> None:
    dots: dict[str, Any] = {"markersize": 3}
    axes.plot(
        line.at_s,
        line.longest_ms,
        color=BAD,
        linestyle=":",
        marker="v",
        label="longest gap",
        **dots,
    )
    axes.plot(
        line.at_s,
        line.median_ms,
        color=SERIES[0],
        marker="o",
        label="median gap",
        **dots,
    )
    axes.set_yscale("log")
    plain_log(axes.yaxis)
    # Tokens that came in one read have no gap; they would stretch the axis.
    usual = float(np.nanmedian(line.median_ms))
    lowest = float(np.nanmin(line.median_ms))
    highest = float(np.nanmax(line.longest_ms))
    bottom = max(usual / 5, 0.7 * min(lowest, usual), LEAST_GAP_MS)
    top = max(2 * usual, 1.2 * highest, 2 * bottom)
    axes.set_ylim(bottom=bottom, top=top)
    axes.set_ylabel("ITL, ms (log)")


def _or_dash(value: float) -> str:
    if np.isnan(value):
        return "-"
    return number(float(value))
