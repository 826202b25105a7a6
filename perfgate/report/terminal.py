"""Terminal: the table of cases, what needs attention, and counts in one line.

Text is made here and printed elsewhere.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from perfgate import formatting
from perfgate.cases import Case, title
from perfgate.judge import comparability
from perfgate.judge.run_status import counts, judged, ordered
from perfgate.judge.verdict import ALWAYS_RED, Outcome, Verdict
from perfgate.report import verdict_text
from perfgate.results.schema import RESULTS_FILE, RunResults

_STYLES = {
    Outcome.PASSED: "green",
    Outcome.IMPROVED: "green",
    Outcome.REGRESSED: "bold red",
    Outcome.INVALID: "red",
    Outcome.INCONCLUSIVE: "yellow",
    Outcome.NO_BASELINE: "yellow",
    Outcome.INCOMPARABLE: "yellow",
}


# A log has no width: there a row takes one line. A terminal folds its cells, as long as
# their words stay whole.
LOG_WIDTH, NARROWEST = 170, 100
# Passed rows are shown up to so many rows in all; beyond, a person would scroll past
# what matters.
MAX_ROWS = 24


def shown(results: RunResults, everything: bool) -> tuple[list[Verdict], str]:
    """The rows to show, and a sentence about those left out.

    What needs attention always; what passed as long as there is room; what is
    report-only when asked for.
    """
    rows = ordered(results)
    if everything:
        return rows, ""
    hard = judged(results)
    kept = hard
    if len(hard) > MAX_ROWS:
        kept = [row for row in hard if row.outcome is not Outcome.PASSED]
    hidden = []
    if len(hard) > len(kept):
        hidden.append(f"{len(hard) - len(kept)} passed")
    if len(rows) > len(hard):
        hidden.append(f"{len(rows) - len(hard)} report-only")
    if not hidden:
        return kept, ""
    return kept, f"not shown: {', '.join(hidden)} (-v and the report show all)"


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
    rows, rest = shown(results, everything)
    if not rows:
        return rest
    reference = "base" if results.mode == "paired" else "baseline"
    grid = _grid(rows, reference)
    out = io.StringIO()
    console = Console(
        file=out,
        width=max(width, NARROWEST if terminal else LOG_WIDTH),
        force_terminal=terminal,
        no_color=not terminal,
        highlight=False,
    )
    console.print(grid)
    text = out.getvalue().rstrip("\n")
    if rest:
        text += f"\n{rest}"
    return text


def _grid(rows: Sequence[Verdict], reference: str) -> Table:
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=False)
    for name in ("test", "load", "metric"):
        grid.add_column(name, overflow="fold")
    for name in ("value", reference):
        grid.add_column(name, justify="right", overflow="fold")
    for name in ("change", "verdict"):
        grid.add_column(name, overflow="fold")
    for row in rows:
        style = _STYLES[row.outcome]
        if row.gate == "report":
            style = "dim"
        grid.add_row(
            row.experiment,
            title(row.case),
            row.metric,
            verdict_text.value(row),
            verdict_text.baseline(row),
            verdict_text.change(row),
            Text(verdict_text.outcome(row), style=style),
        )
    return grid


def attention(results: RunResults, run: str = "RUN") -> list[str]:
    """The text of each judged case that did not simply pass.

    Cases without a baseline, and with the same advice, share one text.

    Args:
        run: the run directory, for commands that can be copied.
    """
    alike: dict[tuple[str, ...], list[Verdict]] = {}
    for row in judged(results):
        if row.outcome is Outcome.PASSED:
            continue
        key: tuple[str, ...] = (row.case,)
        if row.outcome is Outcome.NO_BASELINE:
            key = (row.summary, row.advice)
        alike.setdefault(key, []).append(row)
    texts = []
    for rows in alike.values():
        text = verdict_text.render(rows[0], run)
        if len(rows) > 1:
            text = verdict_text.render_alike(rows[0], len(rows), run)
        texts.append(text)
    return texts


def in_common(results: RunResults) -> str:
    """The server that all failures share, while the others are fine; "" where none is.

    A ratio counts for the side that moved.
    """
    cases = {case.id: case for case in results.cases}
    rows = [row for row in judged(results) if row.case in cases]
    bad = [row for row in rows if row.outcome in ALWAYS_RED]
    if len(bad) < 2:
        return ""
    shared = set.intersection(
        *(_moved_servers(row, cases[row.case]) for row in bad)
    )
    servers = [_servers(cases[row.case]) for row in rows]
    if len(shared) != 1 or len(set().union(*servers)) == 1:
        return ""
    (key,) = shared
    text = f"All {len(bad)} failures are on {key}"
    others = sum(key not in keys for keys in servers)
    if others:
        count = formatting.count(others, "judged case")
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
    rows = judged(results)
    improved = [row for row in rows if row.outcome is Outcome.IMPROVED]
    return [verdict_text.render(row, run) for row in improved]


def headline(results: RunResults, required: bool, missing: int) -> str:
    """How many cases were judged, failed, undecided, report-only or without a verdict."""
    found = counts(results, required)
    words = [f"{found.judged} judged", f"{found.red} red"]
    if found.undecided:
        words.append(f"{found.undecided} undecided")
    words.append(f"{found.report_only} report-only")
    if missing:
        words.append(f"{missing} without a verdict")
    return ", ".join(words)


def run_data_path(run_dir: Path) -> str:
    """The path of the run's data."""
    return f"{run_dir / RESULTS_FILE} (server logs in logs/)"
