"""The command `report`: write the page and the exports of a run from its data."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from perfgate import locations
from perfgate.cli.numbers import FiniteRange
from perfgate.cli.project import judging_store
from perfgate.cli.stored_run import AS_THEN, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfgate.report.figures.trend import Trend
    from perfgate.results.schema import RunResults

_FOLDER = click.Path(path_type=Path)


@click.command("report")
@click.argument("runs", metavar="RUN...", type=_FOLDER, nargs=-1, required=True)
@click.option(
    "--out",
    "out_dir",
    type=_FOLDER,
    help="Folder to write into (default: that of the last RUN).",
)
@click.option(
    "--history",
    type=_FOLDER,
    envvar="PERFGATE_HISTORY",
    help="History file, for trends (default: the project's).",
)
@click.option(
    "--baselines", type=_FOLDER, help="Baseline store (default: the project's)."
)
@AS_THEN
@click.option("--judge", is_flag=True, hidden=True, expose_value=False)
@click.option(
    "--gpu-hour-price",
    type=FiniteRange(min=0, min_open=True),
    help="Price of a GPU-hour: the page then says what a million output tokens cost.",
)
def report(
    runs: tuple[Path, ...],
    out_dir: Path | None,
    baselines: Path | None,
    history: Path | None,
    as_then: bool,
    gpu_hour_price: float | None,
) -> None:
    """Write report.html, summary.md, junit.xml and pytest-benchmark.json of the run RUN.

    With several runs the page compares them, and the verdicts are those of the last one.
    They are judged again, as by `perfgate judge`: by the baselines as they are now,
    without launches of the run itself.
    """
    # Imported here: `--help` must not wait for scipy, numpy and rich.
    from perfgate.history.store import History
    from perfgate.report import artifacts, trends
    from perfgate.report.page import Report
    from perfgate.results import schema as rundata

    store = judging_store(baselines)
    results = [rundata.load(run) for run in runs]
    rows = [shown(run, store, as_then) for run in results]
    results = [row.results for row in rows]
    last = runs[-1]
    folder = out_dir or last
    if out_dir is None and not last.is_dir():
        folder = last.parent
    file = history or locations.current().history

    def courses() -> dict[str, Trend]:
        if not file.exists():
            return {}
        return trends.of_run(results[-1], History(file).entries())

    report = Report(
        results,
        rows[-1].store,
        judged=rows[-1].line,
        gpu_hour_price=gpu_hour_price,
        run_path=str(last),
    )
    again = "the same command"
    written = artifacts.write(report, courses, folder, again)
    _show(results, rows[-1].line)
    for path in written.paths:
        click.echo(f"wrote {path}")
    for problem in written.problems:
        click.echo(problem, err=True)
    if written.problems:
        sys.exit(1)


def _show(results: Sequence[RunResults], judged: str) -> None:
    """Print the verdict of the last run; of several what they measured both.

    Args:
        judged: when and by what it was judged.
    """
    from perfgate.report import both_runs
    from perfgate.report.headline import verdict_sentence
    from perfgate.wrapping import wrapped

    width = shutil.get_terminal_size().columns
    is_terminal = sys.stdout.isatty()
    for line in (judged, verdict_sentence(results[-1])):
        if is_terminal:
            line = wrapped(line, width)
        click.echo(line)
    if len(results) == 1:
        return
    for line in both_runs.lines(results[0], results[-1], width, is_terminal):
        click.echo(line)
