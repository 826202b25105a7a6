"""What do the launches and the memory of a run look like, and how have values moved over the runs?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from perfgate import formatting as wording
from perfgate.cases import Case
from perfgate.history.series import ChangePoint, Entry
from perfgate.judge.baseline_store import Baseline, Recorded
from perfgate.judge.machine_scope import seen_from
from perfgate.judge.observation import RunReader
from perfgate.judge.policy import policy_for
from perfgate.judge.verdict import ALWAYS_RED
from perfgate.load.metrics import METRICS
from perfgate.machine.memory import breakdown
from perfgate.report.figures.figure import Picture, left_out, short
from perfgate.report.figures.series import Readings
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
    draw,
    legend,
)
from perfgate.results.schema import RunResults
from perfgate.results.verdict import Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_ROWS = 16  # cases in one figure of launches
MOST_LAUNCH_FIGURES = 3  # the other cases stand in the table
MOST_TRENDS = 6


def memory(run: Readings, prefix: str) -> Picture:
    """What each rank's memory holds: weights, KV cache, graphs, the rest."""
    on_cpu = any(config.device == "cpu" for config in run.servers.values())
    key, title = f"{prefix}memory", "Memory per rank" if on_cpu else "Memory per GPU"
    bars = {
        server: parts
        for server in run.results.servers
        if (parts := _memory_parts(run, server)) is not None
    }
    if not bars:
        return left_out(key, title, "no launch reported its weights and its memory")
    names = ("weights", "KV cache", "graphs", "everything else")

    def paint(figure: Figure) -> None:
        axes = axis(figure, "GB on each rank", "")
        left = np.zeros(len(bars))
        for number, name in enumerate(names):
            sizes = np.array([parts[number] for parts in bars.values()]) / 1e9
            axes.barh(
                list(bars),
                sizes,
                left=left,
                label=name,
                color=SERIES[number],
                hatch=HATCHES[number],
                edgecolor=TEXT,
                linewidth=0.5,
                height=0.6,
            )
            left += sizes
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        legend(figure, axes, columns=4)

    rows = tuple(
        (server, *(f"{size / 1e9:.3g} GB" for size in parts))
        for server, parts in bars.items()
    )
    said = "; ".join(
        f"{server}: "
        + ", ".join(f"{name} {size}" for name, size in zip(names, sizes, strict=True))
        for server, *sizes in rows
    )
    caption = (
        "The first launch of each server. The KV cache is what the engine reserves."
        + (
            " On the CPU it is the peak of all processes, shared evenly among the ranks."
            if on_cpu
            else ""
        )
    )
    size = (WIDTH, 1.4 + 0.35 * len(bars))
    drawn = draw(key, title, f"{said}.", paint, size)
    return Picture(key, title, caption, f"{said}.", drawn, "", ("server", *names), rows)


def _memory_parts(run: Readings, server: str) -> tuple[float, ...] | None:
    """Bytes on each rank; a KV cache that the system has not given yet makes the rest negative, which is drawn as 0."""
    launch = next(
        (row for row in run.results.launches if row.server == server and row.values),
        None,
    )
    ranks = (
        1
        if run.servers[server].device == "cuda"
        else run.servers[server].tensor_parallel_size
    )
    parts = None if launch is None else breakdown(launch.values, ranks)
    if parts is None:
        return None
    return tuple(
        max(0.0, size) / ranks
        for size in (parts.weights, parts.kv_cache, parts.graphs, parts.rest)
    )


def launches(
    results: RunResults,
    ordered: Sequence[Verdict],
    store: Callable[[Case, str], Baseline | None],
    prefix: str,
) -> list[Picture]:
    """Each launch of the judged cases as a dot beside the band in which it passes, in several figures.

    Args:
        ordered: verdicts, what needs attention first.
        store: finds a case's baseline on a kind of hardware; its launches are drawn as
            small ticks.
    """
    key, title = f"{prefix}launches", "Each launch against its baseline"
    lines = _lines(results, ordered, store)
    if not lines:
        return [left_out(key, title, "no judged case has a baseline here")]
    parts = [lines[at : at + MOST_ROWS] for at in range(0, len(lines), MOST_ROWS)][
        :MOST_LAUNCH_FIGURES
    ]
    recorded = (
        "launches of the base build"
        if results.against
        else "recorded launches, or machines where each counts once"
    )
    ticks = f"Ticks: the {recorded}."
    rest = len(lines) - sum(map(len, parts))
    pictures = []
    for number, part in enumerate(parts, 1):
        mine = f"{title}, {number} of {len(parts)}" if len(parts) > 1 else title
        caption = (
            "Dots: this run (a cross where it is REGRESSED or INVALID). Band: where "
            f"it passes. {ticks}"
        )
        if rest and number == len(parts):
            caption += f" {rest} more are in the table."
        pictures.append(
            _launches(key if number == 1 else f"{key}-{number}", mine, caption, part)
        )
    return pictures


def _launches(key: str, title: str, caption: str, lines: Sequence[_Line]) -> Picture:
    def paint(figure: Figure) -> None:
        axes = axis(figure, "change from the baseline, %", "")
        for at, line in enumerate(lines):
            low, high = line.band
            axes.barh(at, high - low, left=low, height=0.34, color=BAND, edgecolor=GRID)
            axes.plot(
                line.changes(line.recorded),
                [at] * len(line.recorded),
                "|",
                color=TEXT,
                markersize=6,
                alpha=0.6,
            )
            look: dict[str, Any] = (
                {"color": BAD, "marker": "X"}
                if line.bad
                else {"color": SERIES[0], "marker": "o"}
            )
            axes.plot(
                line.changes(line.values),
                [at] * len(line.values),
                linestyle="none",
                markersize=6,
                **look,
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

    rows = tuple(
        (
            line.row.case,
            line.row.outcome,
            ", ".join(f"{c:+.1f} %" for c in line.changes(line.values)) or "-",
            line.words,
        )
        for line in lines
    )
    out = [line.row.case for line in lines if line.bad]
    description = (
        f"{len(lines)} judged cases with a baseline, {len(out)} of them REGRESSED or INVALID"
        + (f": {wording.listed(out)}." if out else ".")
    )
    drawn = draw(key, title, description, paint, (WIDTH, 0.8 + 0.4 * len(lines)))
    return Picture(
        key,
        title,
        caption,
        description,
        drawn,
        "",
        ("case", "verdict", "launches", "passes within"),
        rows,
    )


def _lines(
    results: RunResults,
    ordered: Sequence[Verdict],
    store: Callable[[Case, str], Baseline | None],
) -> list[_Line]:
    """The judged cases that have a baseline, with their launches and what they were held against."""
    reader, cases = RunReader(results), {case.id: case for case in results.cases}
    lines = []
    for row in ordered:
        if (
            row.baseline is None
            or row.threshold is None
            or row.case not in cases
            or row.gate != "hard"
        ):
            continue
        seen = reader.observe(cases[row.case])
        recorded: Sequence[float] = ()
        if results.against:
            recorded = reader.observe(cases[row.case].base).values
        elif isinstance(
            baseline := store(cases[row.case], seen.hardware_label), Recorded
        ):
            policy = policy_for(
                seen.hardware_label, row.metric, cases[row.case].over is not None
            )
            recorded = [
                p.value
                for p in seen_from(baseline, seen.machine, policy).metric.launches
            ]
        lines.append(_Line(row, tuple(seen.values), tuple(recorded)))
    return lines


@dataclass(frozen=True)
class _Line:
    """One case of the figure of launches; changes and band in percent of the baseline."""

    row: Verdict
    values: tuple[float, ...]
    recorded: tuple[float, ...]

    def changes(self, values: Sequence[float]) -> list[float]:
        return [(value / (self.row.baseline or value) - 1) * 100 for value in values]

    @property
    def bad(self) -> bool:
        return self.row.outcome in ALWAYS_RED

    @property
    def band(self) -> tuple[float, float]:
        # The line is the same distance on the logarithm to either side.
        reach = self.row.threshold or 0.0
        if METRICS[self.row.metric].better == "higher":
            return -100 * reach, 100 * (1 / (1 - min(reach, 0.99)) - 1)
        return -100 * (1 - 1 / (1 + reach)), 100 * reach

    @property
    def words(self) -> str:
        low, high = self.band
        return f"{low:+.1f} to {high:+.1f} %"


@dataclass(frozen=True)
class Trend:
    """One case over the runs of a history, in order of time; `why` says why change points were not looked for."""

    entries: tuple[Entry, ...]
    points: tuple[ChangePoint, ...] = ()
    why: str = ""


def trend(key: str, case_id: str, line: Trend) -> Picture:
    """A case over the runs, with a rule where its level changed."""
    title = f"Trend: {case_id}"
    values = [entry.value for entry in line.entries]
    at = range(1, len(values) + 1)

    def paint(figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        axes = axis(
            figure, "run, the newest last", line.entries[0].case.rsplit("/", 1)[-1]
        )
        dots = [
            (n, v)
            for n, entry in zip(at, line.entries, strict=True)
            for v in entry.launches
        ]
        axes.plot(
            *zip(*dots, strict=True),
            linestyle="none",
            marker=".",
            color=SERIES[1],
            label="each launch",
        )
        axes.plot(at, values, color=SERIES[0], marker=MARKERS[0], label="run")
        for number, point in enumerate(line.points):
            label = "change point" if number == 0 else None
            axes.axvline(
                point.index + 0.5, color=BAD, linestyle="--", linewidth=1, label=label
            )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend(figure, axes, columns=3)

    changes = [
        f"{wording.change(p.change)} from run {line.entries[p.index].run} on (p = {p.p_value:.1g})"
        for p in line.points
    ]
    found = "; ".join(changes) or line.why or "no change point"
    description = (
        f"{len(values)} runs, from {short(min(values))} to {short(max(values))}. "
        f"{found[0].upper()}{found[1:]}."
    )
    marked = {p.index for p in line.points}
    rows = tuple(
        (
            entry.started[:16],
            entry.run,
            short(entry.value),
            entry.outcome or "-",
            "changed here" if n in marked else "",
        )
        for n, entry in enumerate(line.entries)
    )
    columns = ("started", "run", "value", "verdict", "level")
    return Picture(
        key,
        title,
        "",
        description,
        draw(key, title, description, paint),
        "",
        columns,
        rows,
    )


def trends(history: Mapping[str, Trend], prefix: str) -> list[Picture]:
    """The first few cases of a history; cases with a change point come first."""
    longest = {case: line for case, line in history.items() if len(line.entries) > 1}
    if not longest:
        return [
            left_out(
                f"{prefix}trend", "Trends", "no history of two runs or more was given"
            )
        ]
    ordered = sorted(
        longest, key=lambda case: (not longest[case].points, list(longest).index(case))
    )
    return [
        trend(f"{prefix}trend-{n}", case, longest[case])
        for n, case in enumerate(ordered[:MOST_TRENDS])
    ]
