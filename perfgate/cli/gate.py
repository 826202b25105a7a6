"""The commands `judge` and `accept`: judge a run again, accept it into the baselines."""

from __future__ import annotations

import datetime
import shutil
import sys
from pathlib import Path

import click

from perfgate.cli.numbers import FiniteRange
from perfgate.cli.project import judging_store, own_store
from perfgate.cli.stored_run import AS_THEN, Shown, shown
from perfgate.results.gates import Gate

_FOLDER = click.Path(path_type=Path)


@click.command("judge")
@click.argument("run", type=_FOLDER)
@click.option(
    "--baselines", type=_FOLDER, help="Baseline store (default: the project's)."
)
@click.option(
    "--required",
    "gate",
    flag_value="required",
    help=(
        "Fail on INCONCLUSIVE and INCOMPARABLE, too, on a case without a verdict, on a "
        "part of the suite, on a run that was cut off, and without any baseline."
    ),
)
@click.option(
    "--strict",
    "gate",
    flag_value="strict",
    help="Like --required, and fail on every outcome but PASSED and IMPROVED.",
)
@click.option(
    "--fail-over",
    "fail_over",
    multiple=True,
    metavar="[FAMILY=]SHARE",
    help=(
        "Judge by this ceiling instead of the run's: 5% for every rate, itl=3% for a "
        "family of metrics; repeatable."
    ),
)
@AS_THEN
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Show every case in full, not only those that did not pass.",
)
def judge(
    run: Path,
    baselines: Path | None,
    gate: Gate | None,
    fail_over: tuple[str, ...],
    as_then: bool,
    verbose: bool,
) -> None:
    """Judge the run RUN again from its data; exits with 1 if it fails.

    Exits with 2 if it cannot be judged: a file that cannot be read, a bad option.
    """
    # Imported here: `--help` must not wait for scipy, numpy and rich.
    from perfgate.judge import run_status

    gate = gate or "advisory"
    row = _judged(run, baselines, gate, fail_over, as_then)
    _show(row, str(run), verbose)
    if run_status.fails(row.results, gate):
        sys.exit(1)


def _judged(
    run: Path,
    baselines: Path | None,
    gate: Gate,
    fail_over: tuple[str, ...],
    as_then: bool,
) -> Shown:
    import msgspec

    from perfgate.load.ceilings import parse_ceilings
    from perfgate.results import schema as rundata

    if fail_over and as_then:
        raise click.UsageError(
            "--fail-over judges again, and --as-then does not: leave one out"
        )
    results = msgspec.structs.replace(rundata.load(run), gate=gate)
    if fail_over:
        ceilings = parse_ceilings(fail_over)
        results = msgspec.structs.replace(results, fail_over=ceilings)
    return shown(results, judging_store(baselines), as_then)


def _show(row: Shown, run: str, verbose: bool) -> None:
    """Print the answer, the table, messages and counts of a run.

    Args:
        run: the run directory, for commands that can be copied.
    """
    from perfgate.judge import run_status
    from perfgate.report import headline, notices, terminal, verdict_text
    from perfgate.report.screen import Screen

    results = row.results
    missing = run_status.missing(results)
    width = shutil.get_terminal_size().columns
    screen = Screen(run, width, sys.stdout.isatty(), verbose)
    click.echo(screen.fitted(row.line))
    for line in screen.answer(results, missing):
        click.echo(line)
    messages = terminal.attention(results, run, everything=False)
    if verbose:
        messages = [verdict_text.render(one, run) for one in results.verdicts]
    for message in messages:
        click.echo(screen.fitted(message))
    for line in screen.details(results):
        click.echo(line)
    lines = [
        terminal.totals_line(results, results.gate, missing),
        headline.other_versions(results, row.store),
        *notices.failures(results),
        *notices.lacking(results),
        *notices.report_only(results),
        *notices.screened(results),
        *notices.removed(results),
        *notices.datasets(results),
        *notices.ended_early(results),
    ]
    for line in filter(None, lines):
        click.echo(screen.fitted(line))


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
    "--reason",
    help="Why worse values, a wide target effect or scattered repetitions are right; "
    "stored in the file.",
)
@click.option(
    "--target-effect",
    type=FiniteRange(0, min_open=True),
    help="The loss to detect, as a fraction: 0.02 is 2 %.",
)
@click.option(
    "--delta",
    "old_target_effect",
    type=FiniteRange(0, min_open=True),
    hidden=True,
)
@click.option(
    "--report-only", is_flag=True, help="These cases never fail a run."
)
@click.option(
    "--known-until",
    type=click.DateTime(["%Y-%m-%d"]),
    help="Keep the baseline, and let the loss pass until this day.",
)
@click.option(
    "--replace",
    is_flag=True,
    help="Replace the recorded launches instead of adding to them.",
)
@click.option(
    "--dry-run", is_flag=True, help="Show the changes, and write nothing."
)
def accept(
    runs: tuple[Path, ...],
    baselines: Path | None,
    known_until: datetime.datetime | None,
    dry_run: bool,
    target_effect: float | None,
    old_target_effect: float | None,
    **fields: object,
) -> None:
    """Accept the launches of one or several runs RUN into the baselines.

    Shows old, new, change, launches and variation of each case. Refuses launches that
    were cut off, runs that are invalid or have an injection, worse values without a
    reason, and target effects that cannot be detected. Does not work in CI.
    """
    # Imported here: `--help` must not wait for scipy and numpy.
    import msgspec

    from perfgate.accept import accept as recording
    from perfgate.accept.choice import Choice

    known_until_day = None
    if known_until is not None:
        known_until_day = known_until.date()
    if target_effect is None:
        target_effect = old_target_effect
    fields |= {"known_until": known_until_day, "target_effect": target_effect}
    choice = msgspec.convert(fields, Choice)
    store = own_store(baselines)
    accepted = recording.accept(runs, store, choice, write=not dry_run)
    if accepted.proposals:
        click.echo(accepted.table)
    for line in (accepted.reasoned, accepted.skipped):
        if line:
            click.echo(line)
    verb = "would write" if dry_run else "wrote"
    for path in accepted.paths:
        click.echo(f"{verb} {path}")
