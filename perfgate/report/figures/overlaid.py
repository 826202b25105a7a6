"""Figures of several runs on the same axes: latency, speed and saturation.

A figure of which fewer than two runs have the data is left out: there is nothing to
compare.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from perfgate.load.workload import Workload
from perfgate.report.figures import load, saturation
from perfgate.report.figures.figure import Picture
from perfgate.report.figures.series import Series, batches, rates, series_over
from perfgate.results.samples import RunIndex

PREFIX = "all-"


@dataclass(frozen=True)
class NamedRun:
    """A run and the name that its lines have."""

    name: str
    index: RunIndex


def pictures(runs: Sequence[NamedRun]) -> list[Picture]:
    """Each figure for which two runs or more have data."""
    drawn = []
    for ranges, metric, loads, x in _figures():
        found = [_series(run, loads(run.index), x, metric) for run in runs]
        if sum(map(bool, found)) > 1:
            lines = _side_by_side(found)
            drawn.append(ranges.picture(lines))
    named = [(run.name, run.index) for run in runs]
    return [*drawn, *saturation.curves(named, PREFIX)]


_Loads = Callable[[RunIndex], list[Workload]]
_X = Callable[[Workload], float]


def _figures() -> list[tuple[load.Ranges, str, _Loads, _X]]:
    by_batch = (batches, load.batch_of)
    by_rate = (rates, load.rate_of)
    return [
        (load.latency_axes(PREFIX), "itl_median_ms", *by_batch),
        (load.throughput_axes(PREFIX), "output_throughput", *by_batch),
        (load.rate_axes(PREFIX, "TTFT"), "ttft_median_ms", *by_rate),
        (load.rate_axes(PREFIX, "ITL"), "itl_median_ms", *by_rate),
    ]


def _series(
    run: NamedRun, workloads: Sequence[Workload], x: _X, metric: str
) -> list[Series]:
    """The lines of one run, with its name."""
    lines = []
    for line in series_over(run.index, workloads, x, metric):
        lines.append(Series(f"{line.server}, {run.name}", line.levels))
    return lines


def _side_by_side(found: Sequence[Sequence[Series]]) -> list[Series]:
    """The lines of one server next to each other, whichever run they are of."""
    lines: list[Series] = []
    for run in found:
        lines += run
    return sorted(lines, key=_server)


def _server(line: Series) -> str:
    return line.server.partition(", ")[0]
