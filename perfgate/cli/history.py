"""The command `history`: a metric over all runs, its change points, and exports of them."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from perfgate.cli.project import opened

if TYPE_CHECKING:
    from perfgate.history.series import Entry
    from perfgate.report.trends import Row

MOST_ROWS: Final = 20  # on a terminal
TITLES: Final = ("case", "newest value", "change", "day")
_FOLDER = click.Path(path_type=Path)


HELP = """Show the metric of CASE over all runs and its change points.

CASE may be a part of its name, or a pattern such as '*/itl_median_ms'. Where it fits
several cases, and without CASE, they are listed, the largest change first.
"""


@click.command("history", help=HELP)
@click.argument("case", required=False)
@click.option(
    "--runs",
    type=_FOLDER,
    help="Folder of runs (default: the project's); complete runs are added first.",
)
@click.option(
    "--history",
    "file",
    type=_FOLDER,
    envvar="PERFGATE_HISTORY",
    help="History file (default: in the folder of runs).",
)
@click.option(
    "--hardware", help='Hardware, such as "h200x2", if a case ran on several.'
)
@click.option(
    "--html",
    type=_FOLDER,
    metavar="FILE",
    help="Draw CASE, or all that fit it, on a page.",
)
@click.option(
    "--csv",
    type=_FOLDER,
    metavar="FILE",
    help="Write all runs and cases as CSV; - prints it.",
)
@click.option(
    "--openmetrics",
    "metrics",
    type=_FOLDER,
    metavar="FILE",
    help="Write the newest values as OpenMetrics.",
)
def history(
    case: str | None,
    runs: Path | None,
    file: Path | None,
    hardware: str | None,
    html: Path | None,
    **exports: Path | None,
) -> None:
    """Show one case over all runs, list those that fit, or write pages and exports."""
    # Imported here: `--help` must not wait for scipy and numpy.
    from perfgate.history.exports import openmetrics, to_csv
    from perfgate.history.store import History
    from perfgate.locations import HISTORY_FILE
    from perfgate.report import trends

    again = _again(runs, file)
    runs = runs or opened().locations.runs
    if not runs.is_dir() and not (file and file.exists()):
        raise click.UsageError(
            f"no folder of runs {runs}: name one with --runs, or a history file with "
            "--history"
        )
    store = History(file or runs / HISTORY_FILE)
    for failure in store.refresh(runs):
        click.echo(f"left out: {failure}", err=True)
    entries = store.entries()
    if exports["csv"]:
        _write(exports["csv"], to_csv(entries))
    if exports["metrics"]:
        _write(exports["metrics"], openmetrics(entries))
    if html:
        _write(html, trends.page(_chosen(entries, case, hardware)))
    if not html and not any(exports.values()):
        _print(entries, case, hardware, again)
        if case is None and not entries:
            click.echo(f"no complete run in {runs}")


def _print(
    entries: Sequence[Entry], case: str | None, hardware: str | None, again: str
) -> None:
    if case is not None:
        _show(entries, case, hardware, again)
        return
    _list_cases(entries, hardware, again)


def _again(runs: Path | None, file: Path | None) -> str:
    """The command with what it reads, as it was given."""
    words = ["perfgate", "history"]
    for option, path in (("--runs", runs), ("--history", file)):
        if path is not None:
            words += [option, str(path)]
    return shlex.join(words)


def _show(
    entries: Sequence[Entry], case: str, hardware: str | None, again: str
) -> None:
    """One case over the runs, or the list of those that fit.

    Without change points where they cannot be found.
    """
    from perfgate.history.series import (
        HistoryError,
        change_points,
        format_series,
        matching,
        series,
    )

    names = matching(entries, case)
    if len(names) > 1:
        _list_cases(_of_cases(entries, names), hardware, again)
        return
    if names:
        (case,) = names
    chosen = series(entries, case, hardware)
    values = [entry.value for entry in chosen]
    try:
        points = change_points(values)
    except HistoryError as error:
        click.echo(format_series(chosen, []))
        click.echo(str(error), err=True)
        return
    click.echo(format_series(chosen, points))


def _of_cases(entries: Sequence[Entry], names: Sequence[str]) -> list[Entry]:
    wanted = set(names)
    return [entry for entry in entries if entry.case in wanted]


def _list_cases(
    entries: Sequence[Entry], hardware: str | None, again: str
) -> None:
    """Cases of one run by name; of several runs with value and change, largest first."""
    from perfgate.report import trends

    several = trends.by_case(entries, hardware)
    rows = trends.table(several)
    if sys.stdout.isatty() and len(rows) > 1:
        show_moved(rows, again)
        return
    for row in rows:
        click.echo(f"{row.change_text:>10}  {row.value:>14}  {row.case}")
    of_one_run = set()
    for entry in entries:
        is_asked = hardware in (None, entry.hardware)
        if is_asked and trends.name_of(entry) not in several:
            of_one_run.add(f"{entry.case}  ({entry.hardware})")
    for name in sorted(of_one_run):
        click.echo(f"{'one run':>10}  {'':>14}  {name}")


def show_moved(rows: Sequence[Row], again: str = "perfgate history") -> None:
    """The cases that changed most, in the width of the terminal.

    Args:
        again: the command that reads the same runs.
    """
    from perfgate.report import terminal, trends
    from perfgate.wrapping import wrapped

    width = shutil.get_terminal_size().columns
    cells = []
    for row in rows[:MOST_ROWS]:
        where = f"{row.name} ({row.hardware})"
        cells.append([where, row.value, row.change_text, row.day])
    click.echo(trends.answer(rows))
    click.echo(terminal.grid(TITLES, cells, width, terminal=True))
    rest = len(rows) - MOST_ROWS
    if rest > 0:
        click.echo(f"{rest} more changed less: `{again} | less`")
    first = rows[0]
    case = first.case.removesuffix(f" ({first.hardware})")
    words = shlex.join([case, "--hardware", first.hardware])
    click.echo(wrapped(f"All runs: `{again} {words}`", width))


def _chosen(
    entries: Sequence[Entry], case: str | None, hardware: str | None
) -> dict[str, list[Entry]]:
    """The cases of a page: all, or those that fit; raises where none does."""
    from perfgate.history.series import matching, series
    from perfgate.report import trends

    if case is None:
        return trends.by_case(entries, hardware)
    names = matching(entries, case)
    if len(names) > 1:
        return trends.by_case(_of_cases(entries, names), hardware)
    name = names[0] if names else case
    return {name: series(entries, name, hardware)}


def _write(path: Path, text: str) -> None:
    from perfgate.files import write_atomically

    if str(path) == "-":
        click.echo(text, nl=False)
    else:
        # A link such as /dev/stdout stays one.
        target = path.resolve() if path.exists() else path
        write_atomically(target, text)
        click.echo(f"wrote {path}")
