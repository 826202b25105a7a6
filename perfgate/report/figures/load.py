"""Figures of the load: latency and throughput over batch size and request rate, gaps, timelines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from perfgate import formatting
from perfgate.load.repetition import Repetition
from perfgate.load.workload import Workload
from perfgate.report.figures.figure import (
    Picture,
    describe_lines,
    left_out,
    number,
)
from perfgate.report.figures.series import (
    Level,
    Series,
    Timeline,
    batches,
    busiest,
    compared_models,
    configs,
    gaps_ms,
    is_sparse_over_dense,
    level,
    rates,
    series_over,
    stalled,
    tensor_parallel_pairs,
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
from perfgate.results import bandwidth
from perfgate.results.samples import RunIndex

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEAST_GAP_MS = 1e-3  # a logarithmic axis has no zero
LEAST_BATCHES = 32  # up to which the line of bytes read is drawn at least
MOST_TIMELINES = 4  # servers whose repetition is shown
MOST_BARS = 8  # pairs of numbers of ranks that are drawn
MOST_INVALID = 2  # repetitions that do not count and are shown as timelines
# Of gaps, in the table of numbers.
PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
TWO_BATCHES = "needs valid repetitions of closed loops of two batch sizes"
BY_BYTES = "bytes read per step, by arithmetic"


def latency_axes(prefix: str) -> Ranges:
    """Per-token latency over the batch size."""
    caption = (
        "A flat line means that a larger batch is nearly free. Bars: range of the "
        "repetitions."
    )
    return Ranges(
        key=f"{prefix}latency",
        title="Time per token over batch size",
        caption=caption,
        x="requests in flight",
        y="median ITL, ms",
    )


def throughput_axes(prefix: str) -> Ranges:
    """Output throughput over the batch size."""
    return Ranges(
        key=f"{prefix}throughput",
        title="Throughput over batch size",
        caption="Bars: range of the repetitions.",
        x="requests in flight",
        y="output tokens/s",
    )


def rate_axes(prefix: str, word: str) -> Ranges:
    """A latency over the request rate."""
    caption = (
        "Where the line turns up, the server no longer keeps up. Bars: range of the "
        "repetitions."
    )
    return Ranges(
        key=f"{prefix}{word.lower()}-rate",
        title=f"{word} over request rate",
        caption=caption,
        x="requests/s",
        y=f"median {word}, ms",
    )


def latency_over_batch(index: RunIndex, prefix: str) -> Picture:
    """Per-token latency over the batch size, of one run."""
    return _over_batch(index, latency_axes(prefix), "itl_median_ms")


def throughput_over_batch(index: RunIndex, prefix: str) -> Picture:
    """Output throughput over the batch size, of one run."""
    return _over_batch(index, throughput_axes(prefix), "output_throughput")


def over_rate(index: RunIndex, prefix: str, metric: str, word: str) -> Picture:
    """A latency over the request rate, with its range, of one run."""
    figure = rate_axes(prefix, word)
    series = series_over(index, rates(index), rate_of, metric)
    if not series:
        return left_out(
            figure.key, figure.title, "no open loop has a valid repetition"
        )
    return figure.picture(series)


def _over_batch(index: RunIndex, figure: Ranges, metric: str) -> Picture:
    workloads = batches(index)
    series = series_over(index, workloads, batch_of, metric)
    if len(workloads) < 2 or not series:
        return left_out(figure.key, figure.title, TWO_BATCHES)
    return figure.picture(series)


def batch_of(workload: Workload) -> float:
    """How many requests are in flight."""
    return float(workload.max_concurrency or 0)


def rate_of(workload: Workload) -> float:
    """How many requests come in a second."""
    return workload.request_rate or 0.0


@dataclass(frozen=True)
class Ranges:
    """Lines over a logarithmic axis, with the range of the repetitions as bars."""

    key: str
    title: str
    caption: str
    x: str
    y: str

    def picture(self, series: Sequence[Series]) -> Picture:
        """The figure with these lines."""

        def paint(figure: Figure) -> None:
            self._paint(figure, series)

        caption = self.caption
        undrawn = len(series) - MOST_SERIES
        if undrawn > 0:
            count = formatting.count(undrawn, "server")
            caption += f" {count} not drawn: see the numbers below."
        lines = []
        rows = []
        for line in series:
            lines.append(
                (line.server, [(row.x, row.value) for row in line.levels])
            )
            for row in line.levels:
                numbers = map(number, (row.x, row.value, row.low, row.high))
                rows.append((line.server, *numbers))
        picture = Picture(
            key=self.key,
            title=self.title,
            caption=caption,
            description=describe_lines(lines, self.x, self.y),
            columns=(
                "server",
                self.x,
                "mean of launches",
                "lowest repetition",
                "highest repetition",
            ),
            rows=tuple(rows),
        )
        return picture.with_drawing(paint)

    def _paint(self, figure: Figure, series: Sequence[Series]) -> None:
        axes = axis(figure, self.x, self.y, log_x=True)
        for position, line in enumerate(series[:MOST_SERIES]):
            axes.errorbar(
                [row.x for row in line.levels],
                [row.value for row in line.levels],
                yerr=_reach(line.levels),
                capsize=3,
                label=line.server,
                **style(position),
            )
        ticks: set[float] = set()
        for line in series:
            ticks.update(row.x for row in line.levels)
        axes.set_xticks(sorted(ticks))
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        legend(figure, axes)


def _reach(levels: Sequence[Level]) -> np.ndarray:
    """How far the repetitions lie below and above each value; shape (2, levels)."""
    below = [row.value - row.low for row in levels]
    above = [row.high - row.value for row in levels]
    return np.array([below, above]).clip(min=0)


@dataclass(frozen=True)
class _RankPair:
    """The throughput of one model under one load on fewer and on more ranks."""

    small: str
    large: str
    workload: str
    small_level: Level
    large_level: Level

    @property
    def cells(self) -> tuple[str, ...]:
        ratio = self.large_level.value / self.small_level.value
        return (
            self.workload,
            self.small,
            number(self.small_level.value),
            self.large,
            number(self.large_level.value),
            formatting.ratio(ratio),
        )

    @property
    def label(self) -> str:
        return f"{self.small.removesuffix('-tp1')}\n{self.workload}"


def throughput_over_ranks(index: RunIndex, prefix: str) -> Picture:
    """Throughput of the same model on fewer and on more ranks."""
    key, title = f"{prefix}ranks", "Throughput, TP=2 vs TP=1"
    pairs = _rank_pairs(index)
    if not pairs:
        return left_out(
            key,
            title,
            "no model was measured under the same load with TP=1 and TP=2",
        )

    def paint(figure: Figure) -> None:
        _paint_ranks(figure, index, pairs[:MOST_BARS])

    rows = [pair.cells for pair in pairs]
    ratios = []
    for workload, small, _, large, _, ratio in rows:
        ratios.append(f"{workload}: {large} / {small} = {ratio}")
    workloads = dict.fromkeys(pair.workload for pair in pairs)
    caption = (
        "How much faster the same model serves the same load on more ranks. Bars: "
        "range of the repetitions."
    )
    picture = Picture(
        key=key,
        title=title,
        caption=caption,
        description=f"Output throughput under {', '.join(workloads)}. {'; '.join(ratios)}.",
        columns=(
            "workload",
            "fewer ranks",
            "output tok/s",
            "more ranks",
            "output tok/s",
            "more / fewer",
        ),
        rows=tuple(rows),
    )
    return picture.with_drawing(paint)


def _rank_pairs(index: RunIndex) -> list[_RankPair]:
    pairs = []
    for small, large in tensor_parallel_pairs(index):
        for workload in index.results.workloads:
            first = level(index, small, workload, "output_throughput")
            second = level(index, large, workload, "output_throughput")
            if first is not None and second is not None:
                pairs.append(_RankPair(small, large, workload, first, second))
    return pairs


def _paint_ranks(
    figure: Figure, index: RunIndex, pairs: Sequence[_RankPair]
) -> None:
    axes = axis(figure, "", "output tokens/s")
    positions = np.arange(len(pairs))
    servers = configs(index)
    sides = (
        (pairs[0].small, [pair.small_level for pair in pairs], ""),
        (pairs[0].large, [pair.large_level for pair in pairs], "//"),
    )
    for side, (server, levels, hatch) in enumerate(sides):
        axes.bar(
            positions + (side - 0.5) * 0.38,
            [row.value for row in levels],
            0.36,
            color=SERIES[side],
            hatch=hatch,
            label=f"TP={servers[server].tensor_parallel_size}",
            yerr=_reach(levels),
            capsize=3,
            ecolor=TEXT,
        )
    axes.set_xticks(positions, [pair.label for pair in pairs])
    axes.grid(visible=False, axis="x")
    legend(figure, axes)


@dataclass(frozen=True)
class _Ratio:
    """A model's server over its reference's: measured points, and by the bytes read.

    Attributes:
        name: both servers.
        models: both models.
        bound: (batch, ratio) by the bytes that a step reads.
        is_sparse: whether a sparse model is compared with a dense one.
    """

    name: str
    models: str
    points: Sequence[bandwidth.RatioPoint]
    bound: Sequence[tuple[float, float]]
    is_sparse: bool

    @property
    def points_by_batch(self) -> list[tuple[float, float]]:
        return [(float(point.batch), point.measured) for point in self.points]


def model_over_reference(index: RunIndex, prefix: str) -> Picture:
    """What a model costs per token compared with its reference, and with what it reads."""
    key = f"{prefix}ratio"
    ratios = _ratios(index)
    sides = "Sparse / dense"
    if not all(ratio.is_sparse for ratio in ratios):
        sides = "Model / reference"
    title = f"{sides}, and the ratio of the bytes they read"
    if not ratios:
        return left_out(
            key,
            title,
            "needs two models that the study compares, under the same closed loop",
        )

    def paint(figure: Figure) -> None:
        _paint_ratios(figure, ratios, sides.lower())

    first = "sparse model" if sides == "Sparse / dense" else "model"
    lines = [(ratio.name, ratio.points_by_batch) for ratio in ratios]
    description = describe_lines(
        lines, "batch", f"Median ITL, {sides.lower()}"
    ) + _describe_bounds(ratios)
    rows = []
    for ratio in ratios:
        for point in ratio.points:
            row = (
                ratio.name,
                point.workload,
                str(point.batch),
                formatting.ratio(point.measured),
                formatting.ratio(point.line),
            )
            rows.append(row)
    caption = (
        "Dashed: ratio of the bytes that a decode step reads with uniform routing. "
        "Points below it: something other than reading weights costs time in both "
        f"models. Points above it: the {first} has a cost of its own."
    )
    picture = Picture(
        key=key,
        title=title,
        caption=caption,
        description=description,
        columns=(
            "pair",
            "workload",
            "requests in flight",
            "ITL ratio, measured",
            "ratio of bytes read",
        ),
        rows=tuple(rows),
    )
    return picture.with_drawing(paint)


def _ratios(index: RunIndex) -> list[_Ratio]:
    servers = configs(index)
    ratios = []
    for model, reference in compared_models(index):
        above, below = servers[model], servers[reference]
        points = bandwidth.ratio_points(index, above, below)
        if not points:
            continue
        context = bandwidth.context_of(
            index.results.workloads[points[-1].workload]
        )
        bound = []
        for batch in range(1, max(LEAST_BATCHES, points[-1].batch) + 1):
            ratio = bandwidth.step_ratio(above, below, batch, context)
            bound.append((float(batch), ratio))
        is_sparse = is_sparse_over_dense(index, model, reference)
        name = f"{model} / {reference.removeprefix(f'{above.engine}-')}"
        models = f"{above.model} / {below.model}"
        ratios.append(_Ratio(name, models, points, bound, is_sparse))
    return ratios


def _bounds(ratios: Sequence[_Ratio]) -> list[_Ratio]:
    """Of each pair of models the first ratio, whose line by arithmetic is drawn."""
    first: dict[str, _Ratio] = {}
    for ratio in ratios:
        first.setdefault(ratio.models, ratio)
    return list(first.values())


def _describe_bounds(ratios: Sequence[_Ratio]) -> str:
    bounds = _bounds(ratios)
    text = ""
    for ratio in bounds:
        models = f" of {ratio.models}" if len(bounds) > 1 else ""
        (_, first), (last_batch, last) = ratio.bound[0], ratio.bound[-1]
        text += (
            f" The bytes that a step reads{models} predict {formatting.ratio(first)} at "
            f"batch 1 and {formatting.ratio(last)} at batch {number(last_batch)}."
        )
    return text


def _paint_ratios(figure: Figure, ratios: Sequence[_Ratio], sides: str) -> None:
    axes = axis(
        figure, "requests in flight", f"median ITL, {sides}", log_x=True
    )
    bounds = _bounds(ratios)
    largest = 1.0
    for position, ratio in enumerate(ratios[:MOST_SERIES]):
        line = style(position)
        if ratio in bounds:
            batch, bound = zip(*ratio.bound, strict=True)
            label, colour = BY_BYTES, TEXT
            if len(bounds) > 1:
                label, colour = f"by arithmetic: {ratio.models}", line["color"]
            axes.plot(batch, bound, color=colour, linestyle="--", label=label)
            largest = max(largest, batch[-1])
        x, y = zip(*ratio.points_by_batch, strict=True)
        axes.plot(x, y, label=ratio.name, **line)
    powers = int(np.log2(largest)) + 1
    axes.set_xticks([float(2**power) for power in range(powers)])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    legend(figure, axes, columns=1)


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
