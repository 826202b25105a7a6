"""Figure of saturation: throughput a GPU over the speed that a user sees, runs overlaid.

Each point is a step of a ramp that doubles the streams. Further up and to the right is
better; what a change gains for one user it may cost the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfgate.load.repetition import LoadStep
from perfgate.report.figures.figure import Picture, describe_lines, number
from perfgate.report.figures.svg import MOST_SERIES, axis, legend, style
from perfgate.results.samples import RunIndex

if TYPE_CHECKING:
    from matplotlib.figure import Figure

X, Y = "tokens/s of a user", "output tokens/s of a GPU or rank"
COLUMNS = (
    "ramp",
    "streams",
    X,
    Y,
    "median TTFT, ms",
    "goodput, req/s",
    "share of the KV cache",
    "preemptions",
)
CAPTION = (
    "Each point doubles the streams; further up and to the right is better. A share of "
    "the KV cache above 1 does not fit at once."
)


@dataclass(frozen=True)
class Ramp:
    """One ramp of a server.

    Attributes:
        name: of the server, and of the run where several are shown.
        ranks: GPUs, or ranks on a CPU.
        cache_tokens: that the KV cache holds; None where it is unknown.
    """

    name: str
    ranks: int
    cache_tokens: float | None
    steps: tuple[LoadStep, ...]

    @property
    def points(self) -> list[tuple[float, float]]:
        """(tokens/s of a user, tokens/s of a rank) of the steps that have both."""
        points = []
        for step in self.steps:
            point = _point(step, self.ranks)
            if point is not None:
                points.append(point)
        return points

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The table of its steps."""
        return [
            (
                self.name,
                str(step.streams),
                *_numbers(_point(step, self.ranks)),
                _value(step, "ttft_median_ms"),
                _value(step, "request_goodput"),
                self._share(step),
                str(step.preemptions),
            )
            for step in self.steps
        ]

    def _share(self, step: LoadStep) -> str:
        if self.cache_tokens is None:
            return "-"
        return number(step.tokens_in_flight / self.cache_tokens)


def _point(step: LoadStep, ranks: int) -> tuple[float, float] | None:
    tpot_ms = step.values.get("tpot_median_ms")
    throughput = step.values.get("output_throughput")
    if not tpot_ms or not throughput:
        return None
    return 1e3 / tpot_ms, throughput / ranks


def _numbers(point: tuple[float, float] | None) -> tuple[str, str]:
    if point is None:
        return "-", "-"
    return number(point[0]), number(point[1])


def _value(step: LoadStep, name: str) -> str:
    if name not in step.values:
        return "-"
    return number(step.values[name])


def ramps(index: RunIndex, run_name: str = "") -> list[Ramp]:
    """The ramps of a run, each by the first launch whose ramp counts."""
    found = []
    for server, workload in index.loads:
        for row in index.valid_measurements(server, workload):
            steps = row.repetitions[-1].steps
            if not steps:
                continue
            config = index.results.servers[server].config
            name = f"{server}, {run_name}" if run_name else server
            cache_tokens = _cache_tokens(index, server)
            found.append(Ramp(name, config.ranks, cache_tokens, steps))
            break
    return found


def _cache_tokens(index: RunIndex, server: str) -> float | None:
    for launch in index.launches(server):
        if "kv_cache_tokens" in launch.values:
            return launch.values["kv_cache_tokens"]
    return None


def curves(runs: Sequence[tuple[str, RunIndex]], prefix: str) -> list[Picture]:
    """The figure, with the ramps of all runs; none where no run has a ramp.

    Args:
        runs: (name, index) of one run, whose name is "", or of several.
    """
    found: list[Ramp] = []
    for name, index in runs:
        found += ramps(index, name)
    drawn = [ramp for ramp in found if ramp.points]
    if not drawn:
        return []

    def paint(figure: Figure) -> None:
        axes = axis(figure, X, Y)
        for position, ramp in enumerate(drawn[:MOST_SERIES]):
            xs, ys = zip(*ramp.points, strict=True)
            axes.plot(xs, ys, label=ramp.name, **style(position))
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        legend(figure, axes)

    rows: list[tuple[str, ...]] = []
    for ramp in found:
        rows += ramp.rows
    lines = [(ramp.name, ramp.points) for ramp in drawn]
    picture = Picture(
        key=f"{prefix}saturation",
        title="Throughput over the speed of a user, to saturation",
        caption=CAPTION,
        description=describe_lines(lines, X, Y),
        columns=COLUMNS,
        rows=tuple(rows),
    )
    return [picture.with_drawing(paint)]
