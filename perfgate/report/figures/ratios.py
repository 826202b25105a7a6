"""Figures of ratios: more ranks over fewer, and a model over its reference by batch size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from perfgate import formatting
from perfgate.report.figures.figure import (
    Picture,
    describe_lines,
    left_out,
    number,
)
from perfgate.report.figures.series import (
    Level,
    compared_models,
    configs,
    is_sparse_over_dense,
    level,
    reach,
    tensor_parallel_pairs,
)
from perfgate.report.figures.svg import (
    MOST_SERIES,
    SERIES,
    TEXT,
    axis,
    legend,
    style,
)
from perfgate.results import bandwidth
from perfgate.results.samples import RunIndex

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_BARS = 8  # pairs of numbers of ranks that are drawn
BY_BYTES = "bytes read per step, by arithmetic"
LEAST_BATCHES = 32  # up to which the line of bytes read is drawn at least


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
            yerr=reach(levels),
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
