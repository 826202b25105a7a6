"""Figures of the load: latency and throughput over batch size, latency over request rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfgate import formatting
from perfgate.load.workload import Workload
from perfgate.report.figures.figure import (
    Picture,
    describe_lines,
    left_out,
    number,
)
from perfgate.report.figures.series import (
    Series,
    batches,
    rates,
    reach,
    series_over,
)
from perfgate.report.figures.svg import MOST_SERIES, axis, legend, style
from perfgate.results.samples import RunIndex

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TWO_BATCHES = "needs valid repetitions of closed loops of two batch sizes"


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
                yerr=reach(line.levels),
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
