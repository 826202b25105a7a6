"""First screen of the page: is it slower, what changed, why, and what to do now.

Four questions in this order, each answered in a few lines; everything else of the page is
evidence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from perfgate import formatting
from perfgate.cases import title
from perfgate.foreign_text import one_line
from perfgate.judge import run_status
from perfgate.judge.baseline_store import Store
from perfgate.judge.verdict import GREEN, Outcome, Verdict
from perfgate.report import losses, notices, verdict_text
from perfgate.report.changes import changes_between
from perfgate.report.compared import run_name
from perfgate.report.headline import attention
from perfgate.report.questions import metric_name
from perfgate.report.reasons import reasons
from perfgate.results.schema import RunResults

WHAT, WHY, NOW = "What changed", "Why", "What now"
MOST_LINES: Final = 4
MOST_ADVICE: Final = 2
MOST_CHANGES: Final = 3
NOT_JUDGED: Final = (
    Outcome.INVALID,
    Outcome.NOT_EXCLUDED,
    Outcome.INCONCLUSIVE,
    Outcome.INCOMPARABLE,
    Outcome.NO_BASELINE,
)
_SENTENCE_END: Final = re.compile(r"(?<=\.)\s+")


@dataclass(frozen=True)
class Line:
    """One line of a reply.

    Attributes:
        level: "fail", "pass" or "open", by which it is marked, "worse" or "better"
            of a change that no limit judged; "" for none.
    """

    text: str
    level: str = ""


@dataclass(frozen=True)
class Reply:
    """A question and its answer."""

    question: str
    lines: Sequence[Line]


def answer(results: RunResults) -> str:
    """Whether it is slower, in one short sentence."""
    rows = run_status.judged_verdicts(results)
    regressed = _count(rows, Outcome.REGRESSED)
    if not results.verdicts:
        return "Nothing was measured"
    if regressed:
        return f"Worse: {regressed} of {len(rows)} judged values regressed"
    groups = run_status.red_groups(results)
    if groups:
        heading = verdict_text.group_heading(groups[0])
        return f"Worse: {heading} {groups[0].outcome.lower()}"
    if results.failed_servers:
        servers = formatting.count(len(results.failed_servers), "server")
        return f"No answer: {servers} failed"
    invalid = _count(rows, Outcome.INVALID)
    if invalid:
        return f"No answer: {invalid} of {len(rows)} measurements are invalid"
    return _answer_without_red(rows)


def _answer_without_red(rows: Sequence[Verdict]) -> str:
    missing = _count(rows, Outcome.NO_BASELINE)
    if not rows:
        return "Nothing was judged: every value is report-only"
    if missing == len(rows):
        return "No answer yet: this machine has no baseline to compare with"
    compared = len(rows) - missing
    total = formatting.count(compared, "value")
    hidden = _count(rows, Outcome.NOT_EXCLUDED)
    passed = sum(row.outcome in GREEN for row in rows)
    if compared == passed:
        return f"Not slower: {total} compared, {_how_good(rows)}"
    if compared == passed + hidden:
        return f"No loss seen, but {hidden} of {total} cannot rule one out"
    return (
        f"No answer: {compared - hidden - passed} of {total} cannot be decided"
    )


def _how_good(rows: Sequence[Verdict]) -> str:
    improved = _count(rows, Outcome.IMPROVED)
    if improved:
        return f"{improved} better"
    if _count(rows, Outcome.NO_BASELINE):
        return "all within limits; the others have no baseline"
    return "all within limits"


def _count(rows: Iterable[Verdict], outcome: Outcome) -> int:
    """How many rows have this outcome."""
    return sum(row.outcome is outcome for row in rows)


def replies(
    runs: Sequence[RunResults], store: Store | None, run: str
) -> list[Reply]:
    """What changed, why, and what to do; a question without an answer is left out.

    Args:
        runs: the last one is judged, the others are compared with it.
        run: the run directory, for commands that can be copied.
    """
    results = runs[-1]
    found = [
        Reply(WHAT, _what(results)),
        *_since(runs),
        Reply(WHY, _lines_of(reasons(results, store))),
        Reply(NOW, _now(results, run)),
    ]
    return [reply for reply in found if reply.lines]


def _lines_of(texts: Iterable[str]) -> list[Line]:
    return [Line(_sentence(text)) for text in texts]


def _what(results: RunResults) -> list[Line]:
    rows = run_status.judged_verdicts(results)
    lines = [Line(text, "fail") for text in notices.failures(results)]
    lines += [Line(text, "fail") for text in notices.faults(results)]
    lines += _moved(results)
    by_text: dict[str, Line] = {}
    for line in lines:
        by_text.setdefault(line.text, line)
    lines = list(by_text.values())
    if len(lines) > MOST_LINES:
        rest = formatting.count(len(lines) - MOST_LINES + 1, "more line")
        lines = [*lines[: MOST_LINES - 1], Line(f"{rest} below")]
    lines += _not_judged(rows)
    passed = [row for row in rows if row.outcome in GREEN]
    if passed and not lines:
        lines.append(Line(_nearest(passed), "pass"))
    return lines


def _moved(results: RunResults) -> list[Line]:
    """Losses and gains, one line for each server; groups of rows that failed alone."""
    lines = []
    for row in losses.moved(results):
        level = "pass" if row.outcome is Outcome.IMPROVED else "fail"
        lines.append(Line(row.text, level))
    if any(line.level == "fail" for line in lines):
        return lines
    for group in run_status.red_groups(results):
        heading = verdict_text.group_heading(group)
        lines.insert(0, Line(f"{heading}: {one_line(group.summary)}", "fail"))
    return lines


def _not_judged(rows: Sequence[Verdict]) -> list[Line]:
    """What was not compared, or not for sure: a line for each outcome."""
    lines = []
    by_outcome: dict[Outcome, list[Verdict]] = {}
    for row in rows:
        by_outcome.setdefault(row.outcome, []).append(row)
    for outcome in NOT_JUDGED:
        alike = by_outcome.get(outcome)
        if alike:
            level = "fail" if outcome is Outcome.INVALID else "open"
            count = formatting.count(len(alike), "value")
            lines.append(Line(f"{count} {_why_open(outcome, alike)}", level))
    return lines


def _why_open(outcome: Outcome, rows: Sequence[Verdict]) -> str:
    """What rows of one outcome lack, with the reason of the first."""
    if outcome is Outcome.NOT_EXCLUDED:
        return f"cannot exclude {verdict_text.ceilings(rows)}"
    if outcome is Outcome.NO_BASELINE:
        verb = "has" if len(rows) == 1 else "have"
        return f"{verb} no baseline yet"
    reason = one_line(verdict_text.summary(rows[0]))
    return f"{outcome.lower()}: {reason}"


def _nearest(rows: Sequence[Verdict]) -> str:
    """The loss that is nearest to its limit, of the values that passed."""
    lost = [row for row in rows if _share_of_limit(row) > 0]
    if not lost:
        return "Nothing beyond its limit."
    row = max(lost, key=_share_of_limit)
    name = f"{title(row.case)}, {metric_name(row.metric)}"
    change = verdict_text.short_change(row)
    return (
        f"Nothing beyond its limit. Nearest to it: {name}, {change} "
        f"({verdict_text.allowed(row)} allowed)."
    )


def _share_of_limit(row: Verdict) -> float:
    return row.share_of_limit or 0.0


def _since(runs: Sequence[RunResults]) -> list[Reply]:
    """The largest changes since each other run, of what both measured."""
    found = []
    for number, other in enumerate(runs[:-1]):
        name = run_name(number, len(runs))
        lines = []
        changes = changes_between(other, runs[-1])
        for change in changes[:MOST_CHANGES]:
            lines.append(Line(change.text, change.level))
        rest = len(changes) - MOST_CHANGES
        if rest > 0:
            lines.append(Line(f"{rest} smaller changes are in the table"))
        if not changes:
            lines = [Line("The two runs have no value in common", "open")]
        if other.hardware.description != runs[-1].hardware.description:
            machine = other.hardware.place
            lines.append(
                Line(f"Not like with like: {name} ran on {machine}", "open")
            )
        found.append(Reply(f"Since {name}", lines))
    return found


def _now(results: RunResults, run: str) -> list[Line]:
    texts: dict[str, None] = {}
    for row in results.failures.values():
        texts.setdefault(one_line(row.remedy))
    for item in attention(results, run):
        if item.advice:
            texts.setdefault(item.advice)
    most = MOST_ADVICE
    if notices.injected(results):
        most = 1  # to measure again without it
    lines = [Line(_sentence(text)) for text in _without_repeats(texts)][:most]
    if not lines and run_status.state(results) == "Green":
        return [Line("Nothing: the run is green.", "pass")]
    return lines


def _without_repeats(texts: Iterable[str]) -> list[str]:
    """The texts without the sentences that one before them has."""
    said: set[str] = set()
    kept = []
    for text in texts:
        new = []
        for sentence in _SENTENCE_END.split(text):
            if sentence not in said:
                new.append(sentence)
            said.add(sentence)
        if new:
            kept.append(" ".join(new))
    return kept


def _sentence(text: str) -> str:
    return (text[:1].upper() + text[1:]).replace(" -> ", " → ")
