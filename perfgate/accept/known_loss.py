"""Known loss: a regression that may pass until a day; the baseline is kept."""

from __future__ import annotations

import msgspec

from perfgate import formatting
from perfgate.accept.evidence import Evidence
from perfgate.accept.remarks import Remarks
from perfgate.judge.answer_shift import METRIC as ANSWERS
from perfgate.judge.baseline_schema import Known, MetricBaseline
from perfgate.judge.verdict import Outcome


def with_known_loss(
    old: MetricBaseline, evidence: Evidence, remarks: Remarks
) -> MetricBaseline:
    """The old metric with a loss that may pass until a day."""
    choice = evidence.choice
    losses = []
    for verdict in evidence.verdicts:
        if verdict.outcome is Outcome.REGRESSED and verdict.worse_by:
            losses.append((verdict.worse_by, verdict.change))
    if _has_unsized_loss(evidence):
        remarks.objections.append(
            "what regressed has no size that could pass until a day: leave out "
            "--known-until, or accept other cases with --only"
        )
        return old
    if not choice.reason:
        remarks.objections.append("a known regression needs a --reason")
    if not losses or choice.known_until is None:
        remarks.objections.append(
            "it is not a regression in these runs: accept other cases with --only"
        )
        return old
    worse_by, change = max(losses)
    known = Known(
        until=choice.known_until.isoformat(),
        reason=choice.reason or "",
        worse_by=worse_by,
        change=change,
    )
    loss = formatting.percent(known.worse_by)
    remarks.notes.append(
        f"keeps the baseline; a loss of {loss} passes until {known.until}"
    )
    return msgspec.structs.replace(old, known=known)


def _has_unsized_loss(evidence: Evidence) -> bool:
    """Whether something regressed that is judged as a whole: answers, facts, a router."""
    for verdict in evidence.verdicts:
        is_unsized = verdict.worse_by is None or verdict.metric == ANSWERS
        if verdict.outcome is Outcome.REGRESSED and is_unsized:
            return True
    return False
