"""Comment: a run in under forty lines of Markdown, for a pull or merge request.

It begins with a marker, by which the next run finds the comment and replaces it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from perfgate import formatting
from perfgate.foreign_text import one_line
from perfgate.judge import run_status
from perfgate.judge.verdict import GREEN
from perfgate.report import (
    diagnosis_text,
    losses,
    notices,
    questions,
    verdict_text,
)
from perfgate.report.headline import STATES, verdict_sentence
from perfgate.report.questions import Answer
from perfgate.report.summary import inert, table_row
from perfgate.results.schema import RunResults

MARKER: Final = "<!-- perfgate -->"
MOST_LINES: Final = 40
# Rows of the table, and lines of what moved: the rest is in the report.
MOST_ROWS: Final = 12
MOST_MOVED: Final = 4
MOST_CAUSES: Final = 2
MOST_FAILED: Final = 2
MOST_INJECTED: Final = 2


def markdown(results: RunResults, link: str = "") -> str:
    """What the run says: verdict, the two builds, what changed, cause, link.

    Args:
        link: to the report; "" where it is published nowhere.
    """
    sign = STATES[run_status.state(results)]
    lines = [MARKER, f"### {sign} {inert(verdict_sentence(results))}", ""]
    lines += _compared(results)
    lines += _failed(results)
    moved = losses.lines(results)
    for line in moved[:MOST_MOVED]:
        lines.append(f"* {inert(line)}")
    lines += _causes(results)
    injected = notices.injected(results)
    for line in injected[:MOST_INJECTED]:
        lines.append(f"* {inert(line)}")
    rest = len(injected) - MOST_INJECTED
    if rest > 0:
        lines.append(f"* INJECTED in {formatting.count(rest, 'more server')}")
    lines += _table(results)
    lines += ["", _link(results, link)]
    return "\n".join(lines) + "\n"


def _compared(results: RunResults) -> list[str]:
    """The builds that were compared, or the baseline, and the machine."""
    against = "the stored baselines"
    if results.is_paired:
        against = "the base build, launched in turn"
    lines = [f"Against {against}, on {inert(results.hardware.place)}."]
    for line in notices.builds(results)[:MOST_CAUSES]:
        lines.append(f"* {inert(line)}")
    return [*lines, ""]


def _failed(results: RunResults) -> list[str]:
    """Failed servers, a cut, and what rows show together that none does alone."""
    texts = [*notices.failures(results), *notices.ended_early(results)[:1]]
    groups = run_status.red_groups(results)
    if losses.moved(results):
        groups = []
    for row in groups:
        heading = verdict_text.group_heading(row)
        texts.append(f"{row.outcome}: {heading}: {one_line(row.summary)}")
    return [f"* {inert(text)}" for text in texts[:MOST_FAILED]]


def _causes(results: RunResults) -> list[str]:
    lines = []
    for row in results.diagnoses[:MOST_CAUSES]:
        lines.append(f"* **Cause**: {inert(diagnosis_text.title(row))}")
        advice = diagnosis_text.advice(row)
        if advice:
            lines.append(f"  * Next: {inert(advice)}")
    return lines


def _table(results: RunResults) -> list[str]:
    """What did not simply pass; of a green run the study's answers.

    Where every row is report-only, they are all there is to show.
    """
    judged = run_status.judged_verdicts(results) or results.verdicts
    rows = [row for row in judged if row.outcome not in GREEN] or judged
    answers = questions.answers(rows)
    if not answers:
        return []
    reference = "base" if results.is_paired else "baseline"
    lines = [
        "",
        f"| question | load | value | {reference} | change | allowed | verdict |",
        "|---|---|--:|--:|---|---|---|",
    ]
    for answer in answers[:MOST_ROWS]:
        lines.append(table_row(_cells(answer)))
    lines += _counts(answers, len(judged) - len(rows))
    return lines


def _cells(answer: Answer) -> Sequence[str]:
    return (
        f"{answer.question}: {answer.metric}".rstrip(": "),
        answer.loads,
        answer.value,
        answer.baseline,
        answer.short_change,
        answer.allowed,
        answer.outcomes,
    )


def _counts(answers: Sequence[Answer], passed: int) -> list[str]:
    parts = []
    more = len(answers) - MOST_ROWS
    if more > 0:
        parts.append(f"{formatting.count(more, 'more row')} in the report")
    if passed:
        parts.append(f"{formatting.count(passed, 'other')} passed")
    if not parts:
        return []
    return ["", f"{', '.join(parts)}."]


def _link(results: RunResults, link: str) -> str:
    if not link:
        return f"Run `{results.run_id}`."
    return f"[Report of run `{results.run_id}`]({link})"
