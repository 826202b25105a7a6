"""The command `report`: make the page and the exports of a run from its data."""

from __future__ import annotations

from pathlib import Path

import click

from perfgate import locations
from perfgate.cli.project import judging_store

_FOLDER = click.Path(path_type=Path)


@click.command("report")
@click.argument("runs", metavar="RUN...", type=_FOLDER, nargs=-1, required=True)
@click.option(
    "--out",
    type=_FOLDER,
    help="Folder to write into (default: that of the last RUN).",
)
@click.option(
    "--history",
    type=_FOLDER,
    envvar="PERFGATE_HISTORY",
    help="The history, for trends.",
)
@click.option(
    "--baselines", type=_FOLDER, help="Baseline store (default: the project's)."
)
@click.option(
    "--judge",
    is_flag=True,
    help="Judge again by these baselines, instead of showing the stored verdicts.",
)
def report(
    runs: tuple[Path, ...],
    out: Path | None,
    baselines: Path | None,
    history: Path | None,
    judge: bool,
) -> None:
    """Make report.html, summary.md, junit.xml and pytest-benchmark.json of the run RUN.

    Of several runs the page compares them; the last one is judged.
    """
    # Imported here: `--help` must not wait for scipy, numpy and rich.
    from perfgate.history.store import History
    from perfgate.judge.run_status import judged_again
    from perfgate.report import artifacts, trends
    from perfgate.report.headline import verdict_sentence
    from perfgate.report.page import Report
    from perfgate.results import schema as rundata

    store = judging_store(baselines)
    results = [rundata.load(run) for run in runs]
    if judge:
        results = [judged_again(run, store) for run in results]
    last = runs[-1]
    folder = out or last
    if out is None and not last.is_dir():
        folder = last.parent
    file = history or locations.current().history
    courses = {}
    if file.exists():
        courses = trends.of_run(results[-1], History(file).entries())
    paths = artifacts.write(Report(results, store, courses), folder)
    click.echo(verdict_sentence(results[-1]))
    for path in paths:
        click.echo(f"wrote {path}")
