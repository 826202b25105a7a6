"""Terminal: the table of cases, what needs attention, and counts in one line.

Text is made here and printed elsewhere.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from perfgate import formatting
from perfgate.cases import Case, title
from perfgate.judge import comparability
from perfgate.judge.run_status import (
    counts,
    judged_verdicts,
    ordered,
    red_groups,
    regressed_report_only,
)
from perfgate.judge.verdict import ALWAYS_RED, Outcome, Verdict
from perfgate.report import verdict_text
from perfgate.results.gates import Gate
from perfgate.results.schema import RESULTS_FILE, RunResults

STYLES = {
    Outcome.PASSED: "green",
    Outcome.IMPROVED: "green",
    Outcome.REGRESSED: "bold red",
    Outcome.INVALID: "red",
    Outcome.INCONCLUSIVE: "yellow",
    Outcome.NOT_EXCLUDED: "yellow",
    Outcome.NO_BASELINE: "yellow",
    Outcome.INCOMPARABLE: "yellow",
}


# A log has no width: there a row takes one line. A terminal folds its cells, as long as
# their words stay whole.
LOG_WIDTH, NARROWEST = 170, 100
# With more rows, those that passed are one row for each experiment.
MAX_ROWS = 24


@dataclass(frozen=True)
class PassedGroup:
    """Passed cases of one experiment, which the table shows as one row.

    Attributes:
        worst: the case whose loss is closest to its threshold; None where no case has
            both.
    """

    experiment: str
    cases: int
    worst: Verdict | None


@dataclass(frozen=True)
class Rows:
    """What the table shows.

    Attributes:
        verdicts: one row each, those that need attention first.
        groups: passed cases that share a row.
        note: what is not shown on its own, and how to see it; "" where all is shown.
    """

    verdicts: Sequence[Verdict]
    groups: Sequence[PassedGroup] = ()
    note: str = ""


def select_rows(results: RunResults, everything: bool) -> Rows:
    """What needs attention always; what passed as far as it fits, else in groups.

    Report-only cases are shown on demand, or where a run has no others.

    Args:
        everything: a row for each verdict.
    """
    every_row = ordered(results)
    if everything:
        return Rows(every_row)
    candidates = judged_verdicts(results) or every_row
    verdicts = list(candidates)
    passed: list[Verdict] = []
    if len(candidates) > MAX_ROWS:
        passed = [row for row in candidates if _is_passed(row)]
        verdicts = [row for row in candidates if not _is_passed(row)]
    hidden = []
    if passed:
        hidden.append(f"{len(passed)} passed are summarised by experiment")
    report_only = len(every_row) - len(candidates)
    if report_only:
        hidden.append(f"{report_only} report-only are not shown")
    note = ""
    if hidden:
        note = f"{', '.join(hidden)} (-v and the report show all)"
    return Rows(verdicts, _groups(passed), note)


def _is_passed(row: Verdict) -> bool:
    return row.outcome is Outcome.PASSED


def _groups(passed: Iterable[Verdict]) -> list[PassedGroup]:
    by_experiment: dict[str, list[Verdict]] = {}
    for row in passed:
        by_experiment.setdefault(row.experiment, []).append(row)
    groups = []
    for experiment, rows in sorted(by_experiment.items(), key=_experiment):
        compared = [row for row in rows if row.worse_by is not None]
        worst = max(compared, key=_share_of_threshold, default=None)
        groups.append(PassedGroup(experiment, len(rows), worst))
    return groups


def _experiment(group: tuple[str, list[Verdict]]) -> tuple[int, str]:
    """Sorts E2 before E10."""
    name, _ = group
    return len(name), name


def _share_of_threshold(row: Verdict) -> float:
    """The loss in units of the threshold."""
    if row.worse_by is None or not row.threshold:
        return -math.inf
    return row.worse_by / row.threshold


def table(
    results: RunResults, width: int, terminal: bool, everything: bool = True
) -> str:
    """One row for each verdict, those that need attention first.

    Args:
        width: of the terminal, in columns.
        terminal: whether a terminal shows it, with its width and in colors, or it goes
            to a log.
        everything: False leaves out what needs no attention.

    """
    rows = select_rows(results, everything)
    if not rows.verdicts and not rows.groups:
        return ""
    reference = "base" if results.is_paired else "baseline"
    grid = _grid(rows, reference)
    output = io.StringIO()
    narrowest = NARROWEST if terminal else LOG_WIDTH
    console = Console(
        file=output,
        width=max(width, narrowest),
        force_terminal=terminal,
        no_color=not terminal,
        highlight=False,
    )
    console.print(grid)
    text = output.getvalue().rstrip("\n")
    if rows.note:
        text += f"\n{rows.note}"
    return text


def _grid(rows: Rows, reference: str) -> Table:
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=False)
    for name in ("test", "load", "metric"):
        grid.add_column(name, overflow="fold")
    for name in ("value", reference):
        grid.add_column(name, justify="right", overflow="fold")
    for name in ("change", "allowed", "verdict"):
        grid.add_column(name, overflow="fold")
    for row in rows.verdicts:
        style = STYLES[row.outcome]
        if row.gate == "report":
            style = "dim"
        grid.add_row(
            row.experiment,
            title(row.case),
            row.metric,
            verdict_text.value(row),
            verdict_text.baseline(row),
            verdict_text.change(row),
            verdict_text.allowed(row),
            Text(verdict_text.outcome(row), style=style),
        )
    for group in rows.groups:
        grid.add_row(*_group_cells(group))
    return grid


def _group_cells(group: PassedGroup) -> list[str | Text]:
    """A row of passed cases, with the one that is closest to its threshold."""
    count = Text(f"{group.cases} PASSED", style=STYLES[Outcome.PASSED])
    row = group.worst
    if row is None:
        cases = formatting.count(group.cases, "case")
        return [group.experiment, cases, "-", "-", "-", "-", "-", count]
    return [
        group.experiment,
        f"worst: {title(row.case)}",
        row.metric,
        verdict_text.value(row),
        verdict_text.baseline(row),
        verdict_text.change(row),
        verdict_text.allowed(row),
        count,
    ]


def attention(results: RunResults, run: str = "RUN") -> list[str]:
    """The text of each judged case that did not simply pass.

    Cases without a baseline, and with the same advice, share one text, and so do those
    whose loss is not excluded.

    Args:
        run: the run directory, for commands that can be copied.
    """
    alike: dict[tuple[str, ...], list[Verdict]] = {}
    for row in judged_verdicts(results):
        if row.outcome is Outcome.PASSED:
            continue
        key: tuple[str, ...] = (row.case,)
        if row.outcome is Outcome.NO_BASELINE:
            key = (row.summary, row.cause, row.advice)
        elif row.outcome is Outcome.NOT_EXCLUDED:
            key = (row.outcome,)
        alike.setdefault(key, []).append(row)
    texts = []
    for rows in alike.values():
        texts.append(_text_of_alike(rows, run))
    return texts


def _text_of_alike(rows: Sequence[Verdict], run: str) -> str:
    if len(rows) == 1:
        return verdict_text.render(rows[0], run)
    if rows[0].outcome is Outcome.NOT_EXCLUDED:
        return verdict_text.render_not_excluded(rows, run)
    return verdict_text.render_alike(rows[0], len(rows), run)


def groups(results: RunResults, run: str = "RUN") -> list[str]:
    """The text of each verdict over several rows, those that fail the run first.

    Args:
        run: the run directory, for commands that can be copied.
    """
    hard = red_groups(results)
    others = [row for row in results.group_verdicts if row not in hard]
    return [verdict_text.render_group(row, run) for row in [*hard, *others]]


def in_common(results: RunResults) -> str:
    """The server that all failures share, while the others are fine; "" where none is.

    A ratio counts for the side that moved.
    """
    cases = {case.id: case for case in results.cases}
    rows = [row for row in judged_verdicts(results) if row.case in cases]
    failed = [row for row in rows if row.outcome in ALWAYS_RED]
    if len(failed) < 2:
        return ""
    moved = [_moved_servers(row, cases[row.case]) for row in failed]
    shared = set.intersection(*moved)
    servers = [_servers(cases[row.case]) for row in rows]
    every_server = set().union(*servers)
    if len(shared) != 1 or len(every_server) == 1:
        return ""
    (key,) = shared
    text = f"All {len(failed)} failures are on {key}"
    unaffected = sum(key not in keys for keys in servers)
    if unaffected:
        count = formatting.count(unaffected, "judged case")
        text += f"; the {count} without it did not fail"
    return f"{text}."


def _moved_servers(row: Verdict, case: Case) -> set[str]:
    if row.moved == "numerator":
        return {case.numerator.server.key}
    if row.moved == "denominator" and case.denominator is not None:
        return {case.denominator.server.key}
    return _servers(case)


def _servers(case: Case) -> set[str]:
    return {load.server.key for load in case.loads}


def engine_notes(results: RunResults) -> list[str]:
    """Settings of each engine where two were compared, and what is not equal."""
    judged_cases = {row.case for row in results.verdicts}
    lines = []
    for case in results.cases:
        if case.id in judged_cases:
            lines += comparability.engine_notes(results, case)
    return list(dict.fromkeys(lines))


def improvements(results: RunResults, run: str = "RUN") -> list[str]:
    """The texts that pytest does not show by itself as failed or skipped."""
    rows = judged_verdicts(results)
    improved = [row for row in rows if row.outcome is Outcome.IMPROVED]
    return [verdict_text.render(row, run) for row in improved]


def headline(results: RunResults, gate: Gate, missing: int) -> str:
    """How many cases were judged, failed, undecided, report-only or without a verdict."""
    totals = counts(results, gate)
    parts = [f"{totals.judged} judged", f"{totals.red} failed"]
    failed_groups = len(red_groups(results))
    if failed_groups:
        rows = formatting.count(failed_groups, "group")
        parts.append(f"{rows} of rows failed")
    if totals.undecided:
        parts.append(f"{totals.undecided} undecided")
    report_only = f"{totals.report_only} report-only"
    regressed = regressed_report_only(results)
    if regressed:
        report_only += f" ({regressed} of them {Outcome.REGRESSED})"
    parts.append(report_only)
    if missing:
        parts.append(f"{missing} without a verdict")
    return ", ".join(parts)


def run_data_path(run_dir: Path) -> str:
    """The path of the run's data."""
    return f"{run_dir / RESULTS_FILE} (server logs in logs/)"
