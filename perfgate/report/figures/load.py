"""How did the servers behave under their loads, drawn?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from perfgate.load.workload import Workload
from perfgate.models import estimate
from perfgate.report.figures.figure import Picture, left_out, short, told
from perfgate.report.figures.series import (
    Readings,
    Series,
    Timeline,
    architecture_of,
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
    draw,
    legend,
    plain_log,
    style,
)
from perfgate.results import bandwidth

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAST_GAP_MS = 1e-3  # a logarithmic axis has no zero
LEAST_BATCHES = 32  # up to which the line of bytes read is drawn at least
MOST_TIMELINES = 4  # servers whose repetition is shown
MOST_BARS = 8  # pairs of numbers of ranks that are drawn
MOST_INVALID = 2  # repetitions that do not count and are shown as timelines
SHARES = (1, 5, 10, 25, 50, 75, 90, 95, 99)  # percent of gaps, in the table of numbers


def _range_rows(series: Sequence[Series]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (s.server, short(p.x), short(p.middle), short(p.low), short(p.high))
        for s in series
        for p in s.points
    )


def _ranges(
    key: str,
    title: str,
    caption: str,
    series: Sequence[Series],
    labels: tuple[str, str],
    *,
    log_x: bool = True,
) -> Picture:
    """Lines with the range of the repetitions as bars."""
    x, y = labels

    def paint(figure: Figure) -> None:
        axes = axis(figure, x, y, log_x=log_x)
        for number, line in enumerate(series[:MOST_SERIES]):
            at = np.array([p.x for p in line.points])
            middle = np.array([p.middle for p in line.points])
            reach = np.array(
                [
                    [p.middle - p.low for p in line.points],
                    [p.high - p.middle for p in line.points],
                ]
            )
            axes.errorbar(
                at,
                middle,
                yerr=np.maximum(reach, 0),
                capsize=3,
                label=line.server,
                **style(number),
            )
        axes.set_xticks(sorted({p.x for line in series for p in line.points}))
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        legend(figure, axes)

    if len(series) > MOST_SERIES:
        caption += (
            f" {len(series) - MOST_SERIES} more servers are in the numbers below."
        )
    description = told(
        [(s.server, [(p.x, p.middle) for p in s.points]) for s in series], x, y
    )
    columns = ("server", x, "median", "least", "most")
    return Picture(
        key,
        title,
        caption,
        description,
        draw(key, title, description, paint),
        "",
        columns,
        _range_rows(series),
    )


def latency_over_batch(run: Readings, prefix: str) -> Picture:
    """Per-token latency over the batch size."""
    key, title = f"{prefix}latency", "Time per token over batch size"
    batches = run.batches()
    series = run.over(batches, _batch, "itl_median_ms")
    if len(batches) < 2 or not series:
        return left_out(
            key,
            title,
            "it takes closed loops of two batch sizes with valid repetitions",
        )
    caption = (
        "A flat line means that a larger batch is nearly free. Bars: range of the "
        "repetitions."
    )
    return _ranges(
        key, title, caption, series, ("requests in flight", "median ITL, ms")
    )


def throughput_over_batch(run: Readings, prefix: str) -> Picture:
    """Output throughput over the batch size."""
    key, title = f"{prefix}throughput", "Throughput over batch size"
    batches = run.batches()
    series = run.over(batches, _batch, "output_throughput")
    if len(batches) < 2 or not series:
        return left_out(
            key,
            title,
            "it takes closed loops of two batch sizes with valid repetitions",
        )
    caption = "What a larger batch earns. Bars: range of the repetitions."
    return _ranges(
        key, title, caption, series, ("requests in flight", "output tokens/s")
    )


def throughput_over_ranks(run: Readings, prefix: str) -> Picture:
    """Throughput of the same model on fewer and on more ranks."""
    key, title = f"{prefix}ranks", "Throughput, TP=1 against TP=2"
    found = [
        (
            small,
            large,
            name,
            run.point(small, name, "output_throughput"),
            run.point(large, name, "output_throughput"),
        )
        for small, large in run.tensor_parallel_pairs()
        for name in run.results.workloads
    ]
    bars = [
        (a, b, name, p, q)
        for a, b, name, p, q in found
        if p is not None and q is not None
    ]
    if not bars:
        return left_out(
            key, title, "no model was measured under one load with two numbers of ranks"
        )
    drawn = bars[:MOST_BARS]
    names = list(dict.fromkeys(name for _, _, name, _p, _q in bars))

    def paint(figure: Figure) -> None:
        axes = axis(figure, "", "output tokens/s")
        at = np.arange(len(drawn))
        for number in (0, 1):
            points = [(p, q)[number] for *_, p, q in drawn]
            middle = np.array([p.middle for p in points])
            reach = np.array(
                [
                    [p.middle - p.low for p in points],
                    [p.high - p.middle for p in points],
                ]
            )
            ranks = run.servers[drawn[0][:2][number]].tensor_parallel_size
            axes.bar(
                at + (number - 0.5) * 0.38,
                middle,
                0.36,
                color=SERIES[number],
                hatch=("", "//")[number],
                label=f"TP={ranks}",
                yerr=np.maximum(reach, 0),
                capsize=3,
                ecolor=TEXT,
            )
        axes.set_xticks(
            at,
            [f"{a.removesuffix('-tp1')}\n{name}" for a, _b, name, _p, _q in drawn],
            fontsize=8,
        )
        axes.grid(visible=False, axis="x")
        legend(figure, axes)

    rows = tuple(
        (name, a, short(p.middle), b, short(q.middle), f"{q.middle / p.middle:.2f}x")
        for a, b, name, p, q in bars
    )
    said = "; ".join(
        f"{name}: {more} of {b} over {a}" for name, a, _p, b, _q, more in rows
    )
    caption = (
        "What a second rank earns for the same model under the same load. Bars: "
        "range of the repetitions."
    )
    columns = ("workload", "fewer ranks", "tok/s", "more ranks", "tok/s", "ratio")
    description = f"Output throughput under {', '.join(names)}. {said}."
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


def sparse_over_dense(run: Readings, prefix: str) -> Picture:
    """What the sparse model costs per token beside the dense one, against what it reads per step."""
    key, title = (
        f"{prefix}ratio",
        "Sparse over dense, against what memory bandwidth allows",
    )
    lines: list[tuple[str, list[bandwidth.RatioPoint], list[tuple[float, float]]]] = []
    for sparse, dense in run.sparse_and_dense():
        sides = run.servers[sparse], run.servers[dense]
        points = bandwidth.ratio_points(run.results, *sides)
        shapes = [architecture_of(config) for config in sides]
        if points and shapes[0] is not None and shapes[1] is not None:
            ranks, dtype = sides[0].tensor_parallel_size, sides[0].dtype
            context = bandwidth.context_of(run.results.workloads[points[-1].workload])
            bound = [
                (
                    float(b),
                    estimate.step_ratio(shapes[0], shapes[1], b, ranks, dtype, context),
                )
                for b in range(1, max(LEAST_BATCHES, points[-1].batch) + 1)
            ]
            lines.append((f"{sparse} / {dense}", points, bound))
    if not lines:
        return left_out(
            key,
            title,
            "it takes a sparse and a dense model of the catalogue under the same closed loop",
        )

    def paint(figure: Figure) -> None:
        axes = axis(
            figure, "requests in flight", "median ITL, sparse / dense", log_x=True
        )
        for number, (name, points, bound) in enumerate(lines[:MOST_SERIES]):
            if number == 0:
                axes.plot(
                    *zip(*bound, strict=True),
                    color=TEXT,
                    linestyle="--",
                    label="bytes read per step, by arithmetic",
                )
            at = [point.batch for point in points]
            axes.plot(
                at,
                [point.measured for point in points],
                label=f"measured: {name}",
                **style(number),
            )
        axes.set_xticks(
            [float(2**n) for n in range(int(np.log2(lines[0][2][-1][0])) + 1)]
        )
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        legend(figure, axes, columns=1)

    measured = [
        (name, [(float(p.batch), p.measured) for p in points])
        for name, points, _ in lines
    ]
    description = told(measured, "batch", "Median ITL, sparse over dense") + (
        f" By the bytes that a step reads it would be {lines[0][2][0][1]:.2f} at batch 1 "
        f"and {lines[0][2][-1][1]:.2f} at batch {lines[0][2][-1][0]:.0f}."
    )
    rows = tuple(
        (
            name,
            point.workload,
            str(point.batch),
            f"{point.measured:.2f}x",
            f"{point.line:.2f}x",
        )
        for name, points, _ in lines
        for point in points
    )
    caption = (
        "The dashed line is the ratio of the bytes that a decode step reads with "
        "uniform routing. Below it something "
        "other than reading weights costs time in both models; above it the "
        "sparse model has a cost of its own."
    )
    columns = ("pair", "workload", "requests in flight", "measured", "by bytes read")
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


def over_rate(run: Readings, prefix: str, metric: str, word: str) -> Picture:
    """A latency over the request rate, with its range."""
    key, title = f"{prefix}{word.lower()}-rate", f"{word} over request rate"
    rates = run.rates()
    series = run.over(rates, lambda w: w.request_rate or 0.0, metric)
    if not series:
        return left_out(key, title, "no open loop has a valid repetition")
    caption = (
        "Where the line turns up, the server no longer keeps up. Bars: range of the "
        "repetitions."
    )
    return _ranges(key, title, caption, series, ("requests/s", f"median {word}, ms"))


def gap_distribution(run: Readings, prefix: str) -> Picture:
    """How the gaps between tokens are distributed, for each server under the busiest closed loop."""
    key, title = f"{prefix}gaps", "Distribution of inter-token latency"
    workload = run.busiest()
    samples = (
        {}
        if workload is None
        else {s: gaps_ms(run.valid(s, workload.name)) for s in run.results.servers}
    )
    samples = {server: gaps for server, gaps in samples.items() if len(gaps)}
    if workload is None or not samples:
        return left_out(
            key,
            title,
            "no closed loop has a valid repetition with two tokens or more for each request",
        )
    shares = np.concatenate([[0.1], np.arange(1, 100), [99.5, 99.9]])

    def paint(figure: Figure) -> None:
        axes = axis(
            figure, "gap between two tokens, ms (log)", "gaps at most so long, %"
        )
        axes.set_xscale("log")
        for number, (server, gaps) in enumerate(list(samples.items())[:MOST_SERIES]):
            look = style(number) | {"markevery": 15}
            axes.plot(
                np.maximum(np.percentile(gaps, shares), 1e-3),
                shares,
                label=server,
                **look,
            )
        # Tokens that came in one read have no gap; they would stretch the axis.
        axes.set_xlim(
            left=max(
                0.1, min(float(np.percentile(gaps, 2)) for gaps in samples.values()) / 2
            )
        )
        plain_log(axes.xaxis)
        legend(figure, axes)

    rows = tuple(
        (server, str(len(g)), *(short(p) for p in np.percentile(g, SHARES)))
        for server, g in samples.items()
    )
    said = "; ".join(
        f"{server}: half of {len(g)} gaps are at most {short(np.percentile(g, 50))} ms, "
        f"99 % at most {short(np.percentile(g, 99))} ms"
        for server, g in samples.items()
    )
    caption = (
        f"Under {workload.name}, all valid repetitions. A step is a second kind of "
        "gap: a prefill, or a stall."
    )
    columns = ("server", "gaps", *(f"{share} %" for share in SHARES))
    return Picture(
        key,
        title,
        caption,
        f"{said}.",
        draw(key, title, f"{said}.", paint),
        "",
        columns,
        rows,
    )


def timelines(run: Readings, prefix: str) -> list[Picture]:
    """How one repetition of each server went, and those that do not count."""
    workload = run.busiest()
    shown: list[tuple[str, str, Timeline | None, str]] = []
    for server in (
        list(run.results.servers)[:MOST_TIMELINES] if workload is not None else ()
    ):
        good = run.valid(server, workload.name) if workload is not None else []
        if good and workload is not None:
            what = f"{server}, {workload.name}, repetition {good[-1].index + 1}"
            shown.append(
                (f"{prefix}timeline-{len(shown)}", what, timeline(good[-1]), "")
            )
    for row, repetition in stalled(run.results, MOST_INVALID):
        what = (
            f"{row.server}, {row.workload}, launch {row.launch + 1}, repetition "
            f"{repetition.index + 1}"
        )
        shown.append(
            (
                f"{prefix}timeline-{len(shown)}",
                what,
                timeline(repetition),
                "; ".join(repetition.invalid),
            )
        )
    pictures = [
        _timeline(key, what, line, invalid)
        for key, what, line, invalid in shown
        if line is not None
    ]
    why = "no repetition has requests of two tokens or more"
    return pictures or [left_out(f"{prefix}timeline", "Timeline of a repetition", why)]


def _timeline(key: str, what: str, line: Timeline, invalid: str) -> Picture:
    title = f"Timeline: {what}" + (" (does not count)" if invalid else "")

    def paint(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        upper.plot(
            line.at_s,
            line.longest_ms,
            color=BAD,
            linestyle=":",
            marker="v",
            markersize=3,
            label="longest gap",
        )
        upper.plot(
            line.at_s,
            line.median_ms,
            color=SERIES[0],
            marker="o",
            markersize=3,
            label="median gap",
        )
        upper.set_yscale("log")
        plain_log(upper.yaxis)
        # Tokens that came in one read have no gap; they would stretch the axis.
        usual = float(np.nanmedian(line.median_ms))
        lowest, highest = (
            float(np.nanmin(line.median_ms)),
            float(np.nanmax(line.longest_ms)),
        )
        bottom = max(usual / 5, 0.7 * min(lowest, usual), LEAST_GAP_MS)
        upper.set_ylim(bottom=bottom, top=max(2 * usual, 1.2 * highest, 2 * bottom))
        upper.set_ylabel("ITL, ms (log)")
        lower.step(line.at_s, line.streams, where="mid", color=TEXT)
        lower.set_ylim(bottom=0)
        lower.yaxis.get_major_locator().set_params(integer=True)
        lower.set_ylabel("in flight")
        lower.set_xlabel("seconds since the start")
        legend(figure, upper)

    longest = int(np.nanargmax(line.longest_ms))
    description = (
        f"Gaps between tokens over {line.at_s[-1]:.1f} s. The longest, "
        f"{short(line.longest_ms[longest])} ms, "
        f"ended at {line.at_s[longest]:.1f} s; the median slice is at "
        f"{short(float(np.nanmedian(line.median_ms)))} ms; "
        f"{int(line.streams.max())} requests in flight at most."
    )
    every = range(0, len(line.at_s), 4)
    rows = tuple(
        (
            f"{line.at_s[n]:.1f}",
            _or_dash(line.median_ms[n]),
            _or_dash(line.longest_ms[n]),
            str(line.streams[n]),
        )
        for n in every
    )
    caption = f"Does not count: {invalid}." if invalid else "The last valid repetition."
    columns = ("s", "median ITL, ms", "longest, ms", "in flight")
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


def _or_dash(value: float) -> str:
    return "-" if np.isnan(value) else short(float(value))


def _batch(workload: Workload) -> float:
    return float(workload.max_concurrency or 0)
