"""Terminal: the table of cases, what needs attention, and counts in one line.

Text is made here and printed elsewhere.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

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
from perfgate.report import losses, questions, verdict_text
from perfgate.report.questions import Answer
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
LOG_WIDTH, NARROWEST = 170, 80
# Narrower terminals show no baseline, the change without words, and questions by number.
WIDTH_OF_ALL_COLUMNS = 140
# Narrower ones show metric and load in one column.
WIDTH_OF_METRICS = 110
WIDTH_OF_VALUES = 12  # where they share a line with loads that have long names
LONGEST_WHOLE_WORD = 24  # in columns; longer ones may be broken


def table(
    results: RunResults, width: int, terminal: bool, everything: bool = True
) -> str:
    """Rows of the run: one for each verdict, or the study's answers.

    Args:
        width: of the terminal, in columns.
        terminal: whether a terminal shows it, with its width and in colors, or it goes
            to a log.
        everything: a row for each verdict, those that need attention first. Else at
            most twenty rows in the order of the questions; report-only cases are shown
            only where a run has no others.

    """
    every_row = ordered(results)
    if not every_row:
        return ""
    width = _at_least(width, terminal)
    reference = "base" if results.is_paired else "baseline"
    if everything:
        return printed(_every_case(every_row, reference), width, terminal)
    shown = judged_verdicts(results) or every_row
    rows = questions.answers(shown)
    text = printed(_answers(rows, reference, width), width, terminal)
    note = _note(len(every_row), len(shown), len(rows))
    if note:
        text += f"\n{note}"
    return text


def coloured(text: str, outcome: Outcome, terminal: bool) -> str:
    """A line in the colour of an outcome, on a terminal."""
    if not terminal:
        return text
    return printed(Text(text, style=STYLES[outcome]), len(text), terminal)


def grid(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    terminal: bool,
) -> str:
    """A table whose first column takes the room that the others leave.

    Args:
        names: the head of each column.
        width: of the terminal, in columns.
        terminal: whether a terminal shows it, or it goes to a log.
    """
    width = _at_least(width, terminal)
    columns = [list(column) for column in zip(names, *rows, strict=True)]
    widths = [_longest_line(texts) for texts in columns]
    excess = sum(widths) - (width - 2 * len(columns))
    if excess > 0:
        widths[0] = max(widths[0] - excess, LONGEST_WHOLE_WORD)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name, column_width in zip(names, widths, strict=True):
        table.add_column(name, overflow="fold", width=column_width)
    for row in rows:
        table.add_row(*row)
    return printed(table, width, terminal)


def _at_least(width: int, terminal: bool) -> int:
    """The width of a table: as wide as the terminal, but never too narrow to read."""
    if terminal:
        return max(width, NARROWEST)
    return max(width, LOG_WIDTH)


def printed(grid: Table | Text, width: int, terminal: bool = False) -> str:
    """What a console of that width shows, with its colours for a terminal alone."""
    output = io.StringIO()
    no_color: bool | None = True
    if terminal:
        no_color = None  # NO_COLOR decides
    console = Console(
        file=output,
        width=width,
        force_terminal=terminal,
        no_color=no_color,
        highlight=False,
        # A name may hold brackets or colons.
        markup=False,
        emoji=False,
    )
    console.print(grid)
    return output.getvalue().rstrip("\n")


def _note(every: int, shown: int, rows: int) -> str:
    """How many cases the rows stand for, and what is not shown; "" where all is."""
    parts = []
    if rows < shown:
        row_count = formatting.count(rows, "row")
        parts.append(f"{shown} cases in {row_count}")
    if shown < every:
        parts.append(f"{every - shown} report-only are not shown")
    if not parts:
        return ""
    return f"{', '.join(parts)} (-v and the report show all)"


def _answers(rows: Sequence[Answer], reference: str, width: int) -> Table:
    """The grid; all columns but that of the loads have the width of their lines."""
    is_wide = width >= WIDTH_OF_ALL_COLUMNS
    names = _columns(reference, width)
    lines = [_line(row, names, reference, is_wide) for row in rows]
    grid = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=not is_wide
    )
    columns = []
    for name, column in zip(names, zip(*lines, strict=True), strict=True):
        columns.append([name, *column])
    widths: Mapping[str, int] = {}
    least_widths: Mapping[str, int] = {}
    if is_wide:
        least_widths = {texts[0]: _longest_word(texts) for texts in columns}
    else:
        widths = _widths(columns, width)
    for texts in columns:
        name = texts[0]
        grid.add_column(
            name,
            justify=_side_of(name, reference),
            overflow="fold",
            width=widths.get(name),
            min_width=least_widths.get(name),
        )
    for row, line in zip(rows, lines, strict=True):
        *cells_before, verdict = line
        grid.add_row(*cells_before, Text(verdict, style=_style(row.worst)))
    return grid


def _line(
    row: Answer, names: Sequence[str], reference: str, is_wide: bool
) -> list[str]:
    """The texts of a row in these columns."""
    cells = _cells(row)
    if is_wide:
        cells |= {reference: row.baseline, "change": row.change}
    else:
        cells = _narrow(cells, "metric" in names)
    return [cells[name] for name in names]


def _side_of(name: str, reference: str) -> Literal["left", "right"]:
    """The side on which a column's texts stand: numbers with a unit on the right."""
    if name in ("value", reference):
        return "right"
    return "left"


def _widths(columns: Sequence[Sequence[str]], width: int) -> dict[str, int]:
    """The width of each column: that of its lines, the rest for what may be folded.

    `rich` shrinks the widest column alone, and then crops what is too much.
    """
    widths = {texts[0]: _longest_line(texts) for texts in columns}
    words = {texts[0]: _longest_word(texts) for texts in columns}
    # Of the box and the padding: two for each column.
    room = width - 2 * len(columns)
    for name in ("load", "metric"):
        excess = sum(widths.values()) - room
        if name in widths and excess > 0:
            widths[name] = max(widths[name] - excess, words[name])
    return widths


def _columns(reference: str, width: int) -> list[str]:
    """The names of the columns for which there is room."""
    if width >= WIDTH_OF_ALL_COLUMNS:
        numbers = ["value", reference, "change", "allowed"]
        return ["question", "metric", "load", *numbers, "verdict"]
    names = ["test", "load", "value", "change", "allowed", "verdict"]
    if width >= WIDTH_OF_METRICS:
        names.insert(1, "metric")
    return names


def _narrow(cells: dict[str, str], has_metrics: bool) -> dict[str, str]:
    """The texts on several lines: each has a whole number, or one outcome."""
    cells = cells | {"verdict": cells["verdict"].replace(", ", ",\n")}
    if has_metrics:
        return cells
    value = []
    for line in cells["value"].replace(" to ", " to\n").split("\n"):
        number, separator, unit = line.rpartition(" ")
        if len(line) > WIDTH_OF_VALUES and unit != "to":
            separator = "\n"
        value.append(f"{number}{separator}{unit}")
    return cells | {
        "load": f"{cells['metric']}, {cells['load']}",
        "value": "\n".join(value),
        "allowed": cells["allowed"].replace(" / ", " /\n"),
    }


def _cells(row: Answer) -> dict[str, str]:
    """The texts of a row by column; change and limits are those of the worst case."""
    return {
        "question": row.question,
        "test": row.worst.experiment,
        "metric": row.metric,
        "load": row.loads,
        "value": row.value,
        "change": row.short_change,
        "allowed": row.allowed,
        "verdict": row.outcomes,
    }


def _longest_word(texts: Iterable[str]) -> int:
    """The width that breaks no word of these, within reason."""
    words = [word for text in texts for word in text.split()]
    return min(max(map(len, words), default=0), LONGEST_WHOLE_WORD)


def _longest_line(texts: Iterable[str]) -> int:
    return max(len(line) for text in texts for line in text.split("\n"))


def _every_case(rows: Iterable[Verdict], reference: str) -> Table:
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=False)
    for name in ("test", "load", "metric"):
        grid.add_column(name, overflow="fold")
    for name in ("value", reference):
        grid.add_column(name, justify="right", overflow="fold")
    for name in ("change", "allowed", "verdict"):
        grid.add_column(name, overflow="fold")
    for row in rows:
        grid.add_row(
            row.experiment,
            title(row.case),
            row.metric,
            verdict_text.value(row),
            verdict_text.baseline(row),
            verdict_text.change(row),
            verdict_text.allowed(row),
            Text(verdict_text.outcome(row), style=_style(row)),
        )
    return grid


def _style(row: Verdict) -> str:
    if row.gate == "report":
        return "dim"
    return STYLES[row.outcome]


def attention(
    results: RunResults, run: str = "RUN", everything: bool = True
) -> list[str]:
    """The text of each judged case that did not simply pass.

    Cases without a baseline, and with the same advice, share one text, and so do those
    whose loss is not excluded.

    Args:
        run: the run directory, for commands that can be copied.
        everything: False leaves out those that moved, which `losses` sums up, and rows
            that the table shows already.
    """
    alike: dict[tuple[str, ...], list[Verdict]] = {}
    for row in judged_verdicts(results):
        if row.outcome is Outcome.PASSED:
            continue
        if row.outcome in losses.MOVED and not everything:
            continue
        key = _alike(row, everything)
        alike.setdefault(key, []).append(row)
    texts = []
    for rows in alike.values():
        rows = _commonest_first(rows)
        texts.append(_text_of_alike(rows, run, everything))
    return texts


def _alike(row: Verdict, everything: bool) -> tuple[str, ...]:
    """What rows have in common that share one text."""
    if row.outcome is Outcome.NOT_EXCLUDED:
        return (row.outcome,)
    if row.outcome is Outcome.NO_BASELINE and not everything:
        return (row.outcome,)
    if row.outcome is Outcome.NO_BASELINE:
        return (row.summary, row.cause, row.advice)
    if row.outcome is Outcome.INVALID and not everything:
        return (row.outcome, row.summary, row.advice)
    return (row.case,)


def _commonest_first(rows: Sequence[Verdict]) -> list[Verdict]:
    """Rows with the summary that most of them have before the others."""
    numbers = Counter(row.summary for row in rows)
    return sorted(rows, key=lambda row: -numbers[row.summary])


def _text_of_alike(rows: Sequence[Verdict], run: str, everything: bool) -> str:
    if len(rows) == 1 and everything:
        return verdict_text.render(rows[0], run)
    if len(rows) == 1:
        return verdict_text.render_brief(rows[0], run)
    if rows[0].outcome is Outcome.NOT_EXCLUDED:
        return verdict_text.render_not_excluded(rows, run, everything)
    return verdict_text.render_alike(rows[0], len(rows), run)


def groups(
    results: RunResults, run: str = "RUN", everything: bool = True
) -> list[str]:
    """The text of each verdict over several rows, those that fail the run first.

    Args:
        run: the run directory, for commands that can be copied.
        everything: False leaves out how they were decided.
    """
    hard = red_groups(results)
    others = [row for row in results.group_verdicts if row not in hard]
    texts = []
    for row in [*hard, *others]:
        texts.append(verdict_text.render_group(row, run, everything))
    return texts


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


def engine_notes(results: RunResults, everything: bool = True) -> list[str]:
    """Settings of each engine where two were compared, and what is not equal.

    Args:
        everything: False leaves the settings out that are equal.
    """
    judged_cases = {row.case for row in results.verdicts}
    lines = []
    for case in results.cases:
        if case.id in judged_cases:
            lines += comparability.engine_notes(results, case, everything)
    return list(dict.fromkeys(lines))


def totals_line(results: RunResults, gate: Gate, missing: int) -> str:
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
