"""Figures of sparse models: memory bandwidth, expert parallelism, and expert load as heat maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from perfgate import formatting
from perfgate.cases import Case
from perfgate.engines.base import ServerConfig
from perfgate.judge.baseline_store import Baseline, Recorded
from perfgate.judge.observation import hardware_label
from perfgate.judge.routing_shift import SHARES
from perfgate.judge.verdict import Outcome
from perfgate.models import estimate
from perfgate.models.routing import LayerShares, Routing
from perfgate.models.routing_stats import (
    Floats,
    distance,
    merge,
    share_intervals,
    shares,
    totals,
)
from perfgate.report.figures.figure import (
    Picture,
    describe_lines,
    left_out,
    number,
)
from perfgate.report.figures.series import (
    architecture_of,
    asks_routing,
    configs,
    level,
)
from perfgate.report.figures.svg import (
    MOST_SERIES,
    SERIES,
    TEXT,
    WIDTH,
    axis,
    legend,
    name_bars,
    style,
)
from perfgate.results import bandwidth
from perfgate.results.samples import RunIndex, valid_repetitions
from perfgate.results.schema import Measurement

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Find = Callable[[Case, str], Baseline | None]

MOST_CELLS = 4096  # of a heat map: a larger one would fill the page
MOST_NUMBERED = 8  # layers and experts whose cells have room for a number
FIGURES = {
    "routing_max_over_mean": "The busiest expert over the mean:",
    "routing_entropy": "least entropy of a layer:",
    "routing_balancedness": "least balancedness of the ranks under expert parallelism:",
    "routing_ep_cost": "predicted slow-down of the experts by that imbalance:",
    "routing_live_experts": "experts that any token chose:",
}
DECODING_COLUMNS = (
    "server",
    "workload",
    "requests in flight",
    "median ITL",
    "bytes read a step",
    "bandwidth",
    "share of peak",
    "ITL at peak bandwidth",
)


def decoding(index: RunIndex, prefix: str) -> Picture:
    """Bytes that a decode step reads, by arithmetic, over its time, by server and batch."""
    key, title = f"{prefix}bandwidth", "Memory bandwidth of decoding"
    points = bandwidth.points(index)
    if not points:
        return left_out(
            key, title, "needs a closed loop with valid repetitions"
        )
    is_peak_known = all(point.utilisation is not None for point in points)
    y = "GB/s over all ranks"
    if is_peak_known:
        y = "% of the peak bandwidth"
    by_server: dict[str, list[tuple[float, float]]] = {}
    for point in points:
        height = point.bandwidth_gb_s
        if is_peak_known:
            height = 100 * (point.utilisation or 0.0)
        by_server.setdefault(point.server, []).append(
            (float(point.batch), height)
        )
    lines = list(by_server.items())

    def paint(figure: Figure) -> None:
        axes = axis(figure, "requests in flight", y, log_x=True)
        for position, (server, line) in enumerate(lines[:MOST_SERIES]):
            batches, heights = zip(*line, strict=True)
            axes.plot(batches, heights, label=server, **style(position))
        axes.set_xticks(sorted({float(point.batch) for point in points}))
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        legend(figure, axes)

    caption = (
        "Bytes that a decode step reads with uniform routing, by arithmetic, over the "
        "median ITL. The line is flat and high while reading weights takes the time."
    )
    if not is_peak_known:
        caption += " The peak of this machine is unknown: compare servers and batches only."
    picture = Picture(
        key=key,
        title=title,
        caption=caption,
        description=describe_lines(lines, "batch", y),
        columns=DECODING_COLUMNS,
        rows=tuple(_decoding_row(point) for point in points),
    )
    return picture.with_drawing(paint)


def _decoding_row(point: bandwidth.Point) -> tuple[str, ...]:
    share_of_peak, itl_at_peak = "-", "-"
    if point.utilisation is not None:
        share_of_peak = formatting.percent(point.utilisation)
        itl_at_peak = formatting.number(point.utilisation * point.itl_ms, "ms")
    return (
        point.server,
        point.workload,
        str(point.batch),
        formatting.number(point.itl_ms, "ms"),
        formatting.number(point.step_bytes, "bytes"),
        formatting.number(point.bandwidth_gb_s, "GB/s"),
        share_of_peak,
        itl_at_peak,
    )


@dataclass(frozen=True)
class _Spread:
    """A metric with whole experts spread over the ranks, and with each expert split."""

    server: str
    label: str
    spread: float
    split: float

    @property
    def ratio(self) -> float:
        return self.spread / self.split


def expert_parallelism(index: RunIndex, prefix: str) -> Picture:
    """Experts that lie whole on the ranks over experts that are split."""
    key, title = f"{prefix}spread", "Expert parallelism vs tensor parallelism"
    servers = configs(index)
    pairs = _expert_parallel_pairs(servers)
    ratios = _spread_over_split(index, pairs)
    if not ratios:
        reason = (
            "no sparse model was measured with and without expert parallelism"
        )
        return left_out(key, title, reason)

    def paint(figure: Figure) -> None:
        axes = axis(figure, "expert parallel / tensor parallel", "")
        places = range(len(ratios))
        widths = [row.ratio for row in ratios]
        axes.barh(places, widths, color=SERIES[0], height=0.4)
        name_bars(axes, [f"{row.server}, {row.label}" for row in ratios])
        axes.axvline(1, color=TEXT, linestyle="--", linewidth=1)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")

    parts = []
    rows = []
    for row in ratios:
        ratio = formatting.ratio(row.ratio)
        parts.append(f"{row.server}, {row.label}: {ratio}")
        rows.append(
            (
                row.server,
                row.label,
                number(row.spread),
                number(row.split),
                ratio,
            )
        )
    exchanged = dict.fromkeys(
        _exchanged(servers[spread]) for spread, _ in pairs
    )
    picture = Picture(
        key=key,
        title=title,
        caption=" ".join(exchanged),
        description="; ".join(parts) + ".",
        columns=("server", "load and metric", "EP", "TP", "EP / TP"),
        rows=tuple(rows),
    )
    return picture.with_drawing(paint, (WIDTH, 0.9 + 0.5 * len(ratios)))


def _expert_parallel_pairs(
    servers: dict[str, ServerConfig],
) -> list[tuple[str, str]]:
    """(expert parallel, tensor parallel) of servers that are alike but for that."""
    pairs = []
    for spread, config in servers.items():
        if not config.expert_parallel:
            continue
        alike = msgspec.structs.replace(config, expert_parallel=False)
        for split, split_config in servers.items():
            if alike == split_config:
                pairs.append((spread, split))
    return pairs


def _spread_over_split(
    index: RunIndex, pairs: Sequence[tuple[str, str]]
) -> list[_Spread]:
    metrics = (
        ("output_throughput", "tok/s"),
        ("itl_median_ms", "median ITL, ms"),
    )
    ratios = []
    for spread, split in pairs:
        for workload in index.results.workloads:
            for metric, name in metrics:
                above = level(index, spread, workload, metric)
                below = level(index, split, workload, metric)
                if above is not None and below is not None:
                    label = f"{workload}: {name}"
                    ratios.append(
                        _Spread(spread, label, above.value, below.value)
                    )
    return ratios


def _exchanged(config: ServerConfig) -> str:
    """What a token makes the ranks exchange, by arithmetic; empty for an unknown model."""
    shape = architecture_of(config)
    if shape is None:
        return ""
    traffic = estimate.communication(shape, config.ranks, config.dtype)
    return (
        f"By arithmetic each token of {config.model} makes {config.ranks} ranks sum "
        f"{traffic.all_reduce / 1024:,.0f} KiB of vectors, with experts split as "
        "with experts spread; where attention is "
        f"data parallel, {traffic.all_to_all_once / 1024:,.0f} to "
        f"{traffic.all_to_all / 1024:,.0f} KiB travel instead."
    )


def experts(index: RunIndex, find: Find, prefix: str) -> list[Picture]:
    """A heat map for each server and workload that recorded where its tokens go.

    Of the last launch that counts: each gets the same prompts.

    Args:
        find: a case's baseline on a kind of hardware.
    """
    pictures: list[Picture] = []
    for server, workload in index.loads:
        if not asks_routing(index, server, workload):
            continue
        key = f"{prefix}experts-{len(pictures)}"
        title = f"Expert load: {server}, {workload}"
        measurement = _last_with_routing(index, server, workload)
        if measurement is None or measurement.routing is None:
            reasons = _invalid_reasons(index, server, workload)
            reason = "; ".join(reasons) or "no launch recorded its routing"
            pictures.append(left_out(key, title, reason))
            continue
        baseline_shares = _baseline_shares(index, server, workload, find)
        heat = _Heat.from_routing(measurement.routing, baseline_shares)
        pictures.append(heat.picture(key, title, _routing_values(measurement)))
    if pictures:
        return pictures
    reason = "no workload of this run records the routing"
    return [left_out(f"{prefix}experts", "Expert load", reason)]


def _last_with_routing(
    index: RunIndex, server: str, workload: str
) -> Measurement | None:
    """The last launch that counts and recorded its routing."""
    for measurement in reversed(index.valid_measurements(server, workload)):
        if measurement.routing is not None:
            return measurement
    return None


def _invalid_reasons(index: RunIndex, server: str, workload: str) -> list[str]:
    reasons: list[str] = []
    for measurement in index.measurements(server, workload):
        for repetition in measurement.repetitions:
            reasons += repetition.invalid
    return reasons


def _baseline_shares(
    index: RunIndex, server: str, workload: str, find: Find
) -> LayerShares | None:
    """The shares that the run was compared with; None where it was compared with none."""
    results = index.results
    not_compared = (None, Outcome.INCOMPARABLE, Outcome.NO_BASELINE)
    outcomes = {row.case: row.outcome for row in results.verdicts}
    for case in results.cases:
        load = case.numerator.server.key, case.numerator.workload_name
        if case.metric != SHARES or load != (server, workload):
            continue
        if outcomes.get(case.id) in not_compared:
            continue
        baseline = find(case, hardware_label(results.hardware, case))
        if isinstance(baseline, Recorded):
            return _merged_shares(baseline)
    return None


def _merged_shares(baseline: Recorded) -> LayerShares | None:
    parts = []
    for sample in baseline.metric.launches:
        if sample.shares is not None:
            parts.append(sample.shares)
    if not parts:
        return None
    return merge(parts)


def _routing_values(measurement: Measurement) -> str:
    """What the shares amount to, each figure with its interval."""
    values = valid_repetitions(measurement)[-1].values
    parts = []
    for name, label in FIGURES.items():
        if name not in values:
            continue
        text = f"{label} {number(values[name])}"
        if name in measurement.intervals:
            low, high = measurement.intervals[name]
            text += f" ({number(low)} to {number(high)})"
        parts.append(text)
    if not parts:
        return ""
    return (
        f"{'; '.join(parts)}. In brackets: 90 % bootstrap interval (drawing requests "
        "again gives slightly less even shares)."
    )


@dataclass(frozen=True)
class _Heat:
    """Each expert's share of its layer's choices, now and when the baseline was recorded.

    Attributes:
        load: this run's; shape (layers, experts).
        low, high: 90 % interval of the load; shape as it.
        before: recorded; None where nothing was, or of another shape.
        moved: by layer, the share of the choices that go elsewhere than recorded.
    """

    load: Floats
    low: Floats
    high: Floats
    before: Floats | None = None
    moved: Floats | None = None

    @classmethod
    def from_routing(
        cls, routing: Routing, baseline: LayerShares | None
    ) -> _Heat:
        """The map of a launch; a baseline of other layers or experts is left out."""
        counts = totals(routing)
        load = shares(counts)
        low, high = share_intervals(routing)
        if baseline is None or np.shape(baseline.counts) != load.shape:
            return cls(load, low, high)
        before = shares(baseline.counts)
        moved = distance(counts, baseline.counts)
        return cls(load, low, high, before, moved)

    def picture(self, key: str, title: str, values: str) -> Picture:
        """The figure; left out where it would fill the page.

        Args:
            values: what the shares amount to, for the caption.
        """
        if self.load.size > MOST_CELLS:
            reason = f"{self.load.size:,} cells are too many: see results.json"
            return left_out(key, title, reason)
        layers = self.load.shape[0]
        caption = (
            "The darker, the more tokens; numbers in % of the layer's choices. "
            f"{values}"
        )
        picture = Picture(
            key=key,
            title=title,
            caption=caption,
            description=self._description(),
            columns=tuple(self._columns()),
            rows=tuple(self._rows()),
        )
        return picture.with_drawing(
            self._paint, (WIDTH, min(6.5, 1.2 + 0.3 * layers))
        )

    def _description(self) -> str:
        layers, experts = self.load.shape
        layer, expert = np.unravel_index(
            int(self.load.argmax()), self.load.shape
        )
        largest = formatting.percent(float(self.load.max()))
        text = (
            f"{layers} layers of {experts} experts. The busiest, expert {expert} of "
            f"layer {layer}, gets {largest} of its layer's choices; even shares are "
            f"{formatting.percent(1 / experts)}."
        )
        if self.moved is not None:
            furthest = int(self.moved.argmax())
            part = formatting.percent(float(self.moved[furthest]))
            text += (
                f" Largest change of the shares since the baseline: {part} in layer "
                f"{furthest}; the verdict compares each request."
            )
        return text

    def _columns(self) -> list[str]:
        experts = range(self.load.shape[1])
        columns = ["layer", *(str(expert) for expert in experts)]
        if self.before is not None:
            columns += [f"{expert}, recorded" for expert in experts]
            columns.append("changed")
        return columns

    def _rows(self) -> list[tuple[str, ...]]:
        rows = []
        for layer in range(self.load.shape[0]):
            cells = [str(layer)]
            row = zip(
                self.load[layer], self.low[layer], self.high[layer], strict=True
            )
            for share, low, high in row:
                within = f"{_bare_percent(low)} to {_bare_percent(high)}"
                cells.append(f"{formatting.percent(float(share))} ({within})")
            if self.before is not None and self.moved is not None:
                shares_before = [*self.before[layer], self.moved[layer]]
                cells += [
                    formatting.percent(float(share)) for share in shares_before
                ]
            rows.append(tuple(cells))
        return rows

    def _paint(self, figure: Figure) -> None:
        top = float(self.load.max())
        maps = [("expert", self.load)]
        if self.before is not None:
            top = max(top, float(self.before.max()))
            maps = [
                ("expert, this run", self.load),
                ("expert, recorded", self.before),
            ]
        panels = figure.subplots(1, len(maps), sharey=True, squeeze=False)[0]
        for axes, (label, load) in zip(panels, maps, strict=True):
            _paint_cells(axes, load, top)
            axes.set_xlabel(label)
        panels[0].set_ylabel("layer")


def _bare_percent(fraction: float) -> str:
    """Without the sign, which stands once for an interval."""
    return formatting.percent(float(fraction)).removesuffix(" %")


def _paint_cells(axes: Axes, load: Floats, top: float) -> None:
    """One map: a square for each layer and expert, the darker the larger its share.

    Args:
        top: share of the darkest square.
    """
    from matplotlib.patches import Rectangle

    layers, experts = load.shape
    axes.grid(visible=False)
    for (layer, expert), share in np.ndenumerate(load):
        square = Rectangle(
            (expert - 0.5, layer - 0.5),
            1,
            1,
            color=SERIES[0],
            alpha=0.05 + 0.75 * share / top,
            linewidth=0,
        )
        axes.add_patch(square)
        if layers <= MOST_NUMBERED and experts <= MOST_NUMBERED:
            text = f"{100 * share:.0f}"
            axes.text(expert, layer, text, ha="center", va="center")
    axes.set_xlim(-0.5, experts - 0.5)
    axes.set_ylim(layers - 0.5, -0.5)
    axes.set_xticks(range(0, experts, max(1, experts // 8)))
    axes.set_yticks(range(0, layers, max(1, layers // 8)))
