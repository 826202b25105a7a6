"""Brief: the answer of a run in a few lines, before the table.

Is it slower, what is, why, and what to do now. Each line stands for itself, so that a
terminal can wrap it.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from perfgate import formatting
from perfgate.foreign_text import one_line
from perfgate.judge import run_status, wording
from perfgate.judge.verdict import ALWAYS_RED, Outcome, Verdict
from perfgate.report import diagnosis_text, losses, notices, verdict_text
from perfgate.report.headline import verdict_sentence
from perfgate.results.schema import RunResults

# Lines of a kind; the rest is counted.
MOST_MOVED: Final = 3
MOST_GROUPS: Final = 2
MOST_CAUSES: Final = 1
_NOT_COMPARED: Final = frozenset(
    {Outcome.NO_BASELINE, Outcome.INCOMPARABLE, Outcome.INCONCLUSIVE}
)


def lines(results: RunResults, run: str, missing: int) -> list[str]:
    """Verdict, what was compared, what moved, the cause, what is open, what to do.

    Args:
        run: the run directory, for commands that can be copied.
        missing: cases that were selected and have no verdict.
    """
    return [
        verdict_sentence(results),
        _compared(results),
        *_moved(results),
        *_causes(results),
        *notices.injected(results),
        *_not_judged(results, missing),
        *_next(results, run),
    ]


def _compared(results: RunResults) -> str:
    """What was measured, where, and what it is compared with."""
    against = "the stored baselines"
    if results.is_paired:
        against = f"the base build ({_software(results, 'base')})"
    candidate = _software(results, "candidate") or _software(results, "")
    engine = candidate or "no engine"
    return f"{engine} on {results.hardware.place}, against {against}"


def _software(results: RunResults, build: str) -> str:
    """Each engine of a build with its version and commit: "vllm 0.26.0 (abc1234)"."""
    engines: dict[str, None] = {}
    for key, server in results.servers.items():
        is_base = server.config.build == "base"
        if is_base == (build == "base"):
            engine = server.config.engine
            text = f"{engine} {notices.version_of(engine, server.versions)}".rstrip()
            commit = results.commit_of(key)
            if commit:
                text += f" ({commit[: notices.SHORT_COMMIT]})"
            engines[text] = None
    return ", ".join(engines)


def _moved(results: RunResults) -> Iterator[str]:
    """What is red or improved, by server, and what fails as a group alone."""
    moved = losses.moved_lines(results)
    yield from moved[:MOST_MOVED]
    rest = len(moved) - MOST_MOVED
    if rest > 0:
        yield f"... and {formatting.count(rest, 'more server')} that moved"
    groups = run_status.red_groups(results)
    if moved:
        return
    for row in groups[:MOST_GROUPS]:
        yield f"{row.outcome}: {verdict_text.group_heading(row)}: {one_line(row.summary)}"


def _causes(results: RunResults) -> Iterator[str]:
    found = [row for row in results.diagnoses if row.is_loss]
    for cause in found[:MOST_CAUSES]:
        yield f"Cause: {diagnosis_text.title(cause)}"
    rest = len(found) - MOST_CAUSES
    if rest > 0:
        yield f"... and {formatting.count(rest, 'more cause')}"
    if found:
        return
    for row in run_status.judged_verdicts(results):
        if row.outcome is Outcome.INVALID:
            reasons = [*notices.faults(results), *notices.not_counted(results)]
            reasons.append(row.summary)
            yield f"Cause: {one_line(reasons[0])}"
            return


def _not_judged(results: RunResults, missing: int) -> Iterator[str]:
    """One count of what has no answer, with the commonest reason."""
    rows = run_status.judged_verdicts(results)
    open_rows = [row for row in rows if row.outcome in _NOT_COMPARED]
    parts = []
    if open_rows:
        numbers = Counter(row.outcome for row in open_rows)
        for outcome in run_status.ORDER:
            if numbers[outcome]:
                parts.append(f"{numbers[outcome]} {outcome}")
    if missing:
        parts.append(f"{missing} without a verdict")
    if not parts:
        return
    total = len(rows) + missing
    count = len(open_rows) + missing
    text = f"Not judged: {count} of {total} ({', '.join(parts)})"
    reasons = Counter(row.summary for row in open_rows)
    reasons.update(results.lacking.values())
    if reasons:
        ((reason, _),) = reasons.most_common(1)
        text += f": {one_line(reason)}"
    yield text


def _next(results: RunResults, run: str) -> Iterator[str]:
    text = _advice(results, run)
    if text:
        yield f"Next: {text}"


def _advice(results: RunResults, run: str) -> str:
    """What to do about the worst there is; "" where all passed."""
    for failure in results.failures.values():
        return one_line(failure.remedy)
    for cause in results.diagnoses:
        if cause.is_loss and (cause.injected or cause.next_step):
            return diagnosis_text.advice(cause)
    groups = run_status.red_groups(results)
    rows = _most_urgent(run_status.judged_verdicts(results))
    is_red = bool(rows) and rows[0].outcome in ALWAYS_RED
    if groups and not is_red:
        return verdict_text.advice(groups[0], run)
    if not rows:
        return ""
    return _advice_of(rows, run)


def _most_urgent(rows: Sequence[Verdict]) -> list[Verdict]:
    """Rows of one outcome: of a red one, else of the one that most rows have."""
    numbers = Counter(row.outcome for row in rows)
    del numbers[Outcome.PASSED]
    for outcome in (Outcome.REGRESSED, Outcome.INVALID):
        if numbers[outcome]:
            return [row for row in rows if row.outcome is outcome]
    if not numbers.total():
        return []
    ((outcome, _),) = numbers.most_common(1)
    return [row for row in rows if row.outcome is outcome]


def _advice_of(rows: Sequence[Verdict], run: str) -> str:
    """The advice of rows of one outcome; of losses one command for all of them."""
    first = rows[0]
    is_loss = first.outcome is Outcome.REGRESSED and not first.injected
    if is_loss and len(rows) > 1 and first.reference == "recorded":
        shared = wording.in_store(wording.LOOK_AT_SHARED, first.store)
        return shared.replace(wording.RUN, shlex.quote(run))
    return verdict_text.most_common_advice(rows, run)
