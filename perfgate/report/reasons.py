"""Reasons: why a run ended as it did: causes of losses, or why values were not judged."""

from __future__ import annotations

from typing import Final

from perfgate import formatting
from perfgate.foreign_text import one_line
from perfgate.judge import run_status
from perfgate.judge.baseline_store import Store
from perfgate.judge.verdict import GREEN, Outcome, Verdict
from perfgate.report import diagnosis_text, notices, verdict_text
from perfgate.report.headline import other_versions
from perfgate.results.diagnosis import Diagnosis
from perfgate.results.schema import RunResults

MOST_CAUSES: Final = 4
MOST_EVIDENCE: Final = 2
ALIKE: Final = (
    "No rule explains it, and neither versions nor settings differ from the "
    "baseline's."
)
IN_PAIRS: Final = (
    "No rule explains it: the two builds differ, and were launched in turn."
)
HIDDEN: Final = (
    "These values vary too much from launch to launch, or were launched too rarely, "
    "to rule a loss out."
)


def reasons(results: RunResults, store: Store | None) -> list[str]:
    """Why the run ended as it did; empty where there is nothing to say."""
    if results.diagnoses:
        causes = [_cause(row) for row in results.diagnoses]
        return causes[:MOST_CAUSES]
    if _is_loss(results):
        return [_unexplained(results, store)]
    if results.failed_servers:
        return []
    for row in run_status.judged_verdicts(results):
        if row.outcome not in GREEN:
            return [_open_reason(results, row)]
    return _ruled_out(results)


def _cause(row: Diagnosis) -> str:
    """Cause, phase and the first things that were seen."""
    text = f"{diagnosis_text.title(row)}."
    if row.cause == "unknown":
        phase = diagnosis_text.PHASES[row.phase]
        text = f"No rule names the cause{phase}."
    evidence = "; ".join(row.evidence[:MOST_EVIDENCE])
    if evidence:
        text += f" Seen: {evidence}."
    return text


def _unexplained(results: RunResults, store: Store | None) -> str:
    if results.is_paired:
        return IN_PAIRS
    versions = other_versions(results, store)
    if versions:
        return f"{versions}."
    return ALIKE


def _open_reason(results: RunResults, row: Verdict) -> str:
    """Why a value could not be judged, or not for sure."""
    if row.outcome is Outcome.NOT_EXCLUDED:
        return HIDDEN
    if row.outcome is Outcome.INVALID:
        texts = [
            *notices.ended_early(results),
            *notices.not_counted(results),
            *reversed(row.details),
        ]
        if texts:
            return one_line(texts[0])
    return f"{one_line(verdict_text.summary(row))}."


def _ruled_out(results: RunResults) -> list[str]:
    """How large a loss the launches of a green run exclude."""
    rows = run_status.judged_verdicts(results)
    excluded = [row.excluded for row in rows if row.excluded]
    if not excluded:
        return []
    low = formatting.percent(min(excluded)).removesuffix(" %")
    high = formatting.percent(max(excluded))
    return [
        f"The launches rule out a loss of more than {low} to {high}, value by value."
    ]


def _is_loss(results: RunResults) -> bool:
    rows = run_status.judged_verdicts(results)
    is_regressed = any(row.outcome is Outcome.REGRESSED for row in rows)
    return is_regressed or bool(run_status.red_groups(results))
