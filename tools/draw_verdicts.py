"""Draws docs/images/verdicts.svg: four verdicts of stored runs, with threshold and ceiling.

    python -m tools.draw_verdicts

The runs are judged by the recorded baselines, without launches of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.injected_regressions import judged
from perfgate.judge.baseline_store import Store
from perfgate.judge.verdict import Verdict
from perfgate.report.figures import svg
from perfgate.results import schema

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "docs" / "runs" / "h200x1-planted"
PICTURE = ROOT / "docs" / "images" / "verdicts.svg"
# A white card, which is legible in a dark page too.
COLORS = {
    "--text": "#1b1f24",
    "--grid": "#c5ccd3",
    "--good": "#1a7f37",
    "--bad": "#c4271d",
    "--band": "#b9d8c0",
    "--s1": "#0060a8",
}
EDGE_PERCENT = 10.0
INCHES = (8.4, 3.8)


@dataclass(frozen=True)
class Row:
    """A verdict that is drawn.

    Attributes:
        label: what was done, for people.
        run: folder of the run.
        workload: of the case.
        metric: of the case.
    """

    label: str
    run: str
    workload: str
    metric: str

    def verdict(self) -> Verdict:
        """The run's verdict on this case, decided anew."""
        results = schema.load(RUNS / self.run)
        (server,) = results.servers
        case = f"{server}/{self.workload}/{self.metric}"
        verdicts = {
            each.case.id: each.verdict
            for each in judged(results, Store(ROOT / "baselines"))
        }
        return verdicts[case]


ROWS = (
    Row(
        "unchanged\nITL, batch 32", "unchanged/06", "batch-32", "itl_median_ms"
    ),
    Row(
        "0.0035 ms more a token\nITL, batch 32",
        "delay/01",
        "batch-32",
        "itl_median_ms",
    ),
    Row(
        "unchanged\nthroughput, batch 8",
        "unchanged/12",
        "batch-8",
        "output_throughput",
    ),
    Row(
        "half the batch\nITL, batch 32", "seqs/01", "batch-32", "itl_median_ms"
    ),
)


def percent(share: float | None) -> float:
    """A share in percent; a verdict without it cannot be drawn."""
    if share is None:
        raise ValueError("the verdict lacks a number that the picture shows")
    return 100 * share


def draw() -> str:
    """The picture as a file's content."""
    verdicts = [row.verdict() for row in ROWS]

    def paint(figure: Figure) -> None:
        axes = svg.axis(figure, "loss, % (worse is right)", "")
        for place, verdict in enumerate(verdicts):
            _draw_row(axes, len(verdicts) - place, verdict)
        _finish(axes, verdicts)

    drawing = svg.draw(
        "verdicts",
        "Four verdicts",
        "Each row has a loss, its error, its threshold and the ceiling of 5 %.",
        paint,
        INCHES,
    )
    for variable, color in COLORS.items():
        drawing = drawing.replace(f"var({variable})", color)
    return drawing.replace(
        "<svg ",
        '<svg xmlns="http://www.w3.org/2000/svg" '
        'xmlns:xlink="http://www.w3.org/1999/xlink" '
        'style="background: #fff; font-family: sans-serif" ',
        1,
    )


def _draw_row(axes: Axes, height: int, verdict: Verdict) -> None:
    loss, threshold = percent(verdict.worse_by), percent(verdict.threshold)
    axes.barh(
        height,
        2 * threshold,
        left=-threshold,
        height=0.5,
        color=svg.BAND,
        zorder=1,
    )
    axes.vlines(
        threshold, height - 0.3, height + 0.3, color=svg.BAD, linewidth=2.5
    )
    if verdict.excluded:  # none is drawn where every loss is excluded
        axes.hlines(
            height, loss, percent(verdict.excluded), color=svg.SERIES[0]
        )
        axes.plot(
            [percent(verdict.excluded)],
            [height],
            marker="|",
            color=svg.SERIES[0],
        )
    axes.plot([loss], [height], marker="o", markersize=7, color=svg.SERIES[0])
    axes.annotate(
        verdict.outcome,
        (1.01, height),
        xycoords=("axes fraction", "data"),
        va="center",
        fontweight="bold",
    )


def _finish(axes: Axes, verdicts: Sequence[Verdict]) -> None:
    ceilings = {percent(verdict.fail_over) for verdict in verdicts}
    (ceiling,) = ceilings
    axes.axvline(ceiling, color=svg.TEXT, linestyle="--", linewidth=1)
    axes.annotate(
        f"ceiling {ceiling:g} %",
        (ceiling, len(verdicts) + 0.55),
        ha="left",
        va="bottom",
        annotation_clip=False,
    )
    first = percent(verdicts[0].threshold)
    axes.annotate(
        f"threshold {first:.2g} %",
        (first, len(verdicts) + 0.55),
        ha="right",
        va="bottom",
        color=svg.BAD,
        annotation_clip=False,
    )
    axes.set_xlim(-EDGE_PERCENT, EDGE_PERCENT)
    axes.set_ylim(0.5, len(verdicts) + 0.5)
    axes.set_yticks(range(len(verdicts), 0, -1), [row.label for row in ROWS])
    axes.grid(visible=False, axis="y")


def main() -> None:
    """Write the picture."""
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
