"""The commands `judge` and `accept`: a run judged again, and taken into the baselines."""

from __future__ import annotations

import datetime
import shutil
import sys
from pathlib import Path

import click

from perfgate.cli.project import judging_store, own_store

_FOLDER = click.Path(path_type=Path)


@click.command("judge")
@click.argument("run", type=_FOLDER)
@click.option(
    "--baselines", type=_FOLDER, help="Baseline store (default: the project's)."
)
@click.option(
    "--required",
    is_flag=True,
    help=(
        "Red is all but PASSED and IMPROVED, a case without a verdict, a part of the "
        "suite, a run that was cut off."
    ),
)
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Every case and its message, not only those that did not pass.",
)
def judge(run: Path, baselines: Path | None, required: bool, verbose: bool) -> None:
    """Decide the run RUN again from its data alone; exits with 1 if it is red."""
    # Imported here: `--help` must not wait for scipy, numpy and rich.
    from perfgate.judge import run_status
    from perfgate.report import notices
    from perfgate.report import terminal as report
    from perfgate.results import schema as rundata

    store = judging_store(baselines)
    again = run_status.judged_again(rundata.load(run), store)
    click.echo(
        report.table(
            again, shutil.get_terminal_size().columns, sys.stdout.isatty(), verbose
        )
    )
    for message in (
        [row.message for row in again.verdicts] if verbose else report.attention(again)
    ):
        click.echo(message)
    click.echo(report.headline(again, required, run_status.missing(again)))
    for line in [*notices.important(again), *notices.ended_early(again)]:
        click.echo(line)
    if run_status.fails(again, required):
        sys.exit(1)


@click.command("accept")
@click.argument("runs", metavar="RUN...", type=_FOLDER, nargs=-1, required=True)
@click.option(
    "--baselines", type=_FOLDER, help="Baseline store (default: the project's)."
)
@click.option(
    "--only",
    multiple=True,
    metavar="CASE",
    help="A case's id, or a pattern: '*/closed-c32/*'; repeatable.",
)
@click.option(
    "--reason", help="Why worse values or a wide promise are right; stored in the file."
)
@click.option(
    "--delta",
    type=click.FloatRange(0, min_open=True),
    help="Loss to catch, as a fraction.",
)
@click.option(
    "--report-only", is_flag=True, help="Never turn a run red by these cases."
)
@click.option(
    "--known-until",
    type=click.DateTime(["%Y-%m-%d"]),
    help="Keep the baseline, let the loss pass until then.",
)
@click.option("--replace", is_flag=True, help="Begin anew instead of adding launches.")
@click.option("--dry-run", is_flag=True, help="Show, write nothing.")
def accept(
    runs: tuple[Path, ...],
    baselines: Path | None,
    known_until: datetime.datetime | None,
    dry_run: bool,
    **decided: object,
) -> None:
    """Take the launches of one or several runs RUN over into the baselines.

    Shows old, new, change, launches and CV of each case. Refuses launches that were
    cut off, runs that are invalid or slowed down on purpose, worse values without a
    reason, and promises that the launches cannot keep; refuses to work in CI.
    """
    # Imported here: `--help` must not wait for scipy and numpy.
    import msgspec

    from perfgate.accept import accept as recording
    from perfgate.accept.proposal import Choice

    until = None if known_until is None else known_until.date()
    choice = msgspec.convert({**decided, "known_until": until}, Choice)
    done = recording.accept(runs, own_store(baselines), choice, write=not dry_run)
    click.echo(done.table)
    for path in done.paths:
        click.echo(f"{'would write' if dry_run else 'wrote'} {path}")
