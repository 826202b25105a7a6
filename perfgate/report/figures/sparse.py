"""What does a sparse model make of bandwidth, of ranks and of its experts, drawn?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from perfgate.cases import Case
from perfgate.engines.base import ServerConfig
from perfgate.judge.baseline_store import Baseline, Recorded
from perfgate.judge.observation import hardware_label
from perfgate.judge.routing_shift import SHARES
from perfgate.judge.verdict import Outcome
from perfgate.models import estimate
from perfgate.models.routing import LayerShares
from perfgate.models.routing_stats import (
    Floats,
    distance,
    merge,
    share_intervals,
    shares,
    totals,
)
from perfgate.report.figures.figure import Picture, left_out, short, told
from perfgate.report.figures.series import Readings, architecture_of
from perfgate.report.figures.svg import (
    MOST_SERIES,
    SERIES,
    TEXT,
    WIDTH,
    axis,
    draw,
    legend,
    style,
)
from perfgate.results import bandwidth
from perfgate.results.schema import Measurement

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CELLS = 4096  # of a heat map: a larger one would fill the page
MOST_NUMBERED = 8  # layers and experts whose cells have room for a number
FIGURES = {
    "routing_max_over_mean": "The busiest expert over the mean:",
    "routing_entropy": "least entropy of a layer:",
    "routing_balancedness": "least balancedness of the ranks under expert parallelism:",
    "routing_ep_cost": "predicted slow-down of the experts by that imbalance:",
    "routing_live_experts": "experts that any token chose:",
}


def decoding(run: Readings, prefix: str) -> Picture:
    """Bytes that a decode step reads, by arithmetic, over the time that it took, for each server and batch."""
    key, title = f"{prefix}bandwidth", "Memory bandwidth that decoding got"
    found: dict[str, list[bandwidth.Point]] = defaultdict(list)
    for point in bandwidth.points(run.results):
        found[point.server].append(point)
    if not found:
        return left_out(key, title, "it takes a closed loop with valid repetitions")
    peak_known = all(
        point.utilisation is not None for points in found.values() for point in points
    )
    y = "% of the GPUs' peak bandwidth" if peak_known else "GB/s over all ranks"

    def height(point: bandwidth.Point) -> float:
        return 100 * (point.utilisation or 0.0) if peak_known else point.bandwidth_gb_s

    lines = [
        (server, [(float(p.batch), height(p)) for p in points])
        for server, points in found.items()
    ]

    def paint(figure: Figure) -> None:
        axes = axis(figure, "requests in flight", y, log_x=True)
        for number, (server, points) in enumerate(lines[:MOST_SERIES]):
            axes.plot(*zip(*points, strict=True), label=server, **style(number))
        axes.set_xticks(sorted({x for _, points in lines for x, _ in points}))
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        legend(figure, axes)

    rows = tuple(
        (
            point.server,
            point.workload,
            str(point.batch),
            f"{point.itl_ms:.4g} ms",
            f"{point.step_bytes / 1e9:.3g} GB",
            f"{point.bandwidth_gb_s:.4g} GB/s",
            "-" if point.utilisation is None else f"{100 * point.utilisation:.1f} %",
            "-"
            if point.utilisation is None
            else f"{point.utilisation * point.itl_ms:.4g} ms",
        )
        for points in found.values()
        for point in points
    )
    caption = (
        "The bytes that a decode step reads by arithmetic, with uniform routing, "
        "over the median time between two "
        "tokens. While reading weights is what takes the time, the line is flat and high."
    ) + (
        ""
        if peak_known
        else " No peak is known of this machine, so servers and batches are compared alone."
    )
    description = told(lines, "batch", y)
    columns = (
        *(
            "server",
            "workload",
            "requests in flight",
            "median ITL",
            "read per step",
            "so",
            "of the peak",
        ),
        "ITL that the peak allows",
    )
    return Picture(
        key,
        title,
        caption,
        description,
        draw(key, title, description, paint),
        "",
        columns,
        rows,
    )


def spread(run: Readings, prefix: str) -> Picture:
    """Experts that lie on the ranks whole over experts that are split, beside what the ranks exchange."""
    key, title = f"{prefix}spread", "Expert parallelism over tensor parallelism"
    pairs = [
        (ep, tp)
        for ep, config in run.servers.items()
        for tp, other in run.servers.items()
        if config.expert_parallel
        and msgspec.structs.replace(config, expert_parallel=False) == other
    ]
    found = [
        (ep, f"{workload}: {words}", of.middle / over.middle, of.middle, over.middle)
        for ep, tp in pairs
        for workload in run.results.workloads
        for metric, words in (
            ("output_throughput", "tok/s"),
            ("itl_median_ms", "median ITL, ms"),
        )
        if (of := run.point(ep, workload, metric))
        and (over := run.point(tp, workload, metric))
        and over.middle
    ]
    if not found:
        return left_out(
            key,
            title,
            "no sparse model was measured with its experts spread and with them split",
        )

    def paint(figure: Figure) -> None:
        axes = axis(figure, "spread / split", "")
        axes.barh(
            [f"{ep}, {what}" for ep, what, *_ in found],
            [row[2] for row in found],
            color=SERIES[0],
            height=0.6,
        )
        axes.axvline(1, color=TEXT, linestyle="--", linewidth=1)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")

    description = (
        "; ".join(f"{ep}, {what}: {ratio:.2f}x" for ep, what, ratio, *_ in found) + "."
    )
    caption = " ".join(dict.fromkeys(_exchanged(run.servers[ep]) for ep, _ in pairs))
    rows = tuple(
        (ep, what, short(of), short(over), f"{ratio:.2f}x")
        for ep, what, ratio, of, over in found
    )
    drawn = draw(key, title, description, paint, (WIDTH, 0.9 + 0.35 * len(found)))
    return Picture(
        key,
        title,
        caption,
        description,
        drawn,
        "",
        ("server", "of", "spread", "split", "ratio"),
        rows,
    )


def _exchanged(config: ServerConfig) -> str:
    """What a token makes the ranks exchange, by arithmetic; empty for a model that the catalogue lacks."""
    shape = architecture_of(config)
    if shape is None:
        return ""
    sent = estimate.communication(shape, config.tensor_parallel_size, config.dtype)
    return (
        f"By arithmetic each token of {config.model} makes {config.tensor_parallel_size} ranks sum "
        f"{sent.all_reduce / 1024:,.0f} KiB of vectors, with experts split as "
        "with experts spread; where attention is "
        f"data parallel, {sent.all_to_all_once / 1024:,.0f} to "
        f"{sent.all_to_all / 1024:,.0f} KiB travel instead."
    )


def experts(
    run: Readings, find: Callable[[Case, str], Baseline | None], prefix: str
) -> list[Picture]:
    """A heat map for each server and workload by which it was asked where its tokens go.

    Of the last launch: each gets the same prompts.

    Args:
        find: a case's baseline on a kind of hardware.
    """
    asked: dict[tuple[str, str], list[Measurement]] = defaultdict(list)
    for row in run.results.measurements:
        if run.asks_routing(row.server, row.workload):
            asked[row.server, row.workload].append(row)
    pictures = []
    for number, ((server, workload), rows) in enumerate(asked.items()):
        key, title = f"{prefix}experts-{number}", f"Expert load: {server}, {workload}"
        told_by = [row for row in rows if row.routing is not None]
        if told_by:
            pictures.append(
                heat_map(key, title, told_by[-1], _recorded(run, told_by[-1], find))
            )
        else:
            why = [text for row in rows for r in row.repetitions for text in r.invalid]
            pictures.append(left_out(key, title, "; ".join(why) or "it did not tell"))
    why_not = "this run has no count of the tokens that each expert got"
    return pictures or [left_out(f"{prefix}experts", "Expert load", why_not)]


def _recorded(
    run: Readings, now: Measurement, find: Callable[[Case, str], Baseline | None]
) -> LayerShares | None:
    """What the shares were judged by; None where they were not, or could not be compared."""
    outcomes = {row.case: row.outcome for row in run.results.verdicts}
    for case in run.results.cases:
        if (case.metric, case.of.server.key, case.of.workload_name) != (
            SHARES,
            now.server,
            now.workload,
        ):
            continue
        if outcomes.get(case.id) in (None, Outcome.INCOMPARABLE, Outcome.NO_BASELINE):
            continue
        baseline = find(case, hardware_label(run.results.hardware, case))
        if isinstance(baseline, Recorded):
            parts = [
                point.shares
                for point in baseline.metric.launches
                if point.shares is not None
            ]
            return merge(parts) if parts else None
    return None


def heat_map(
    key: str, title: str, told_by: Measurement, recorded: LayerShares | None = None
) -> Picture:
    """How a model's tokens spread over its experts, beside how they did when the baseline was recorded.

    Args:
        told_by: has its routing.
        recorded: left out where it has other layers or experts.
    """
    assert told_by.routing is not None
    counts = totals(told_by.routing)
    load, (low, high) = shares(counts), share_intervals(told_by.routing)
    layers, number = load.shape
    before = (
        None
        if recorded is None or np.shape(recorded.counts) != load.shape
        else shares(recorded.counts)
    )
    top = float(max(load.max(), 0.0 if before is None else before.max()))
    maps = [("this run", load), *([] if before is None else [("recorded", before)])]

    def paint(figure: Figure) -> None:
        panels: Sequence[Axes] = figure.subplots(
            1, len(maps), sharey=True, squeeze=False
        )[0]
        for axes, (name, values) in zip(panels, maps, strict=True):
            _cells(axes, values, top)
            axes.set_xlabel(f"expert, {name}" if before is not None else "expert")
        panels[0].set_ylabel("layer")

    worst = np.unravel_index(int(load.argmax()), load.shape)
    description = (
        f"{layers} layers of {number} experts. The busiest, expert {worst[1]} of layer {worst[0]}, "
        f"gets {100 * load.max():.1f} % of its layer's choices; spread evenly it "
        f"would be {100 / number:.1f} %."
    )
    columns: tuple[str, ...] = ("layer", *(str(n) for n in range(number)))
    rows = [
        (
            str(n),
            *(
                f"{100 * s:.1f} % ({100 * a:.1f} to {100 * b:.1f})"
                for s, a, b in zip(*row, strict=True)
            ),
        )
        for n, row in enumerate(zip(load, low, high, strict=True))
    ]
    if before is not None and recorded is not None:
        moved = distance(counts, recorded.counts)
        most = int(moved.argmax())
        description += (
            f" Most has moved since it was recorded in layer {most}: "
            f"{100 * moved[most]:.1f} % of its choices."
        )
        columns += (*(f"{n}, recorded" for n in range(number)), "moved")
        rows = [
            (*row, *(f"{100 * share:.1f} %" for share in then), f"{100 * apart:.1f} %")
            for row, then, apart in zip(rows, before, moved, strict=True)
        ]
    if load.size > MOST_CELLS:
        return left_out(
            key, title, f"{load.size:,} cells are too many; results.json has them"
        )
    caption = (
        "The darker, the more tokens; numbers in % of the layer's choices. "
        f"{_figures(told_by)}"
    )
    drawn = draw(key, title, description, paint, (WIDTH, min(6.5, 1.2 + 0.3 * layers)))
    return Picture(key, title, caption, description, drawn, "", columns, tuple(rows))


def _figures(told_by: Measurement) -> str:
    """What the shares amount to, each figure with its interval."""
    values = told_by.repetitions[-1].values if told_by.repetitions else {}
    parts = []
    for name, words in FIGURES.items():
        if name in values:
            within = (
                "({:.3g} to {:.3g})".format(*told_by.intervals[name])
                if name in told_by.intervals
                else ""
            )
            parts.append(f"{words} {values[name]:.3g} {within}".rstrip())
    return (
        (
            f"{'; '.join(parts)}. In brackets: 90 % of what drawing the requests "
            "again gives, which is a little less even."
        )
        if parts
        else ""
    )


def _cells(axes: Axes, load: Floats, top: float) -> None:
    """One map: a square for each layer and expert, the darker the larger its share, `top` the darkest."""
    from matplotlib.patches import Rectangle

    layers, number = load.shape
    axes.grid(visible=False)
    for (layer, expert), share in np.ndenumerate(load):
        opacity = 0.05 + 0.75 * share / top
        axes.add_patch(
            Rectangle(
                (expert - 0.5, layer - 0.5),
                1,
                1,
                color=SERIES[0],
                alpha=opacity,
                linewidth=0,
            )
        )
        if layers <= MOST_NUMBERED and number <= MOST_NUMBERED:
            axes.text(
                expert,
                layer,
                f"{100 * share:.0f}",
                ha="center",
                va="center",
                fontsize=7,
            )
    axes.set_xlim(-0.5, number - 0.5)
    axes.set_ylim(layers - 0.5, -0.5)
    axes.set_xticks(range(0, number, max(1, number // 8)))
    axes.set_yticks(range(0, layers, max(1, layers // 8)))
