"""New metric: a recorded metric with the launches of accepted runs in it.

Which recorded launches stay is decided by `perfgate.accept.retention`, which losses need
a reason by `perfgate.accept.creep`.
"""

from __future__ import annotations

import msgspec

from perfgate.accept.choice import Choice
from perfgate.accept.creep import NEWEST, begun, lost_since, unexplained_change
from perfgate.accept.evidence import Evidence
from perfgate.accept.known_loss import with_known_loss
from perfgate.accept.remarks import Remarks
from perfgate.accept.retention import latest, retained
from perfgate.accept.target_effect import with_target
from perfgate.judge.baseline_schema import MetricBaseline
from perfgate.judge.baseline_store import Recorded
from perfgate.judge.machine_scope import for_any
from perfgate.judge.measured_case import gate_mode, metric_of
from perfgate.results.samples import Sample


def new_metric(
    evidence: Evidence, recorded: Recorded | None, remarks: Remarks
) -> MetricBaseline:
    """The metric as it would be stored.

    Args:
        recorded: what it is compared with; None where nothing can be.
        remarks: notes and objections are added.
    """
    case, policy, choice = evidence.case, evidence.policy, evidence.choice
    metric = metric_of(case)
    old = None if recorded is None else recorded.metric
    if old is not None and choice.known_until is not None:
        return with_known_loss(old, evidence, remarks)
    points = _with_recorded(evidence, recorded, remarks)
    mode, reason = gate_mode(case, policy), None
    if choice.report_only:
        mode, reason = "report", choice.reason
    if old is not None and _stays_report_only(old, choice):
        mode, reason = "report", choice.reason or old.reason
        remarks.notes.append(f"report-only: {reason}")
    floor = 0.0 if case.is_ratio else policy.floor
    new = MetricBaseline(
        unit=metric.unit,
        better=metric.better,
        definition=metric.definition,
        gate=mode,
        floor=floor,
        launches=latest(points, evidence.machines),
        reason=reason,
    )
    noise = for_any(evidence.baseline(new), policy).noise(policy)
    new = with_target(new, old, noise, evidence, remarks)
    return _with_anchors(new, evidence, recorded, remarks)


def _with_recorded(
    evidence: Evidence, recorded: Recorded | None, remarks: Remarks
) -> list[Sample]:
    """The new launches and those recorded ones that stay."""
    points = evidence.points
    if recorded is not None:
        retained_points, notes = retained(
            recorded,
            evidence.observations,
            evidence.verdicts,
            evidence.choice.replace,
        )
        new_launches = {(point.run, point.launch) for point in points}
        older = []
        for point in retained_points:
            if (point.run, point.launch) not in new_launches:
                older.append(point)
        points = older + points
        remarks.notes += notes
    if not points:
        # A placeholder: the run is INVALID, which forbids accepting it.
        run = evidence.observations[-1].run
        points = [Sample(run=run, launch=0, value=1.0)]
    return points


def _stays_report_only(old: MetricBaseline, choice: Choice) -> bool:
    """Whether an earlier decision never to fail a run by the metric still holds."""
    if choice.replace or choice.target_effect is not None:
        return False
    return old.gate == "report" and bool(old.reason)


def _with_anchors(
    new: MetricBaseline,
    evidence: Evidence,
    recorded: Recorded | None,
    remarks: Remarks,
) -> MetricBaseline:
    """The metric with its anchors; objects to losses that have no reason.

    A reason moves the anchors of a loss alone: it is given once for all cases of a run.
    """
    case, policy = evidence.case, evidence.policy
    baseline = evidence.baseline(new)
    worse = ""
    if recorded is None:
        anchors = begun(new, evidence.machines, None)
    else:
        anchors, worse = lost_since(
            case, recorded, baseline, evidence.judged_runs(), policy
        )
    worse = worse or _unexplained_change(evidence, baseline)
    if worse and evidence.choice.reason:
        worse = ""
        if recorded is not None:
            anchors = begun(new, evidence.machines, NEWEST)
    if worse:
        remarks.objections.append(
            f"{worse}: give a --reason, or accept other cases with --only"
        )
    return msgspec.structs.replace(
        new, anchor=anchors.value, anchors=dict(anchors.by_machine)
    )


def _unexplained_change(evidence: Evidence, new: Recorded) -> str:
    """A change point towards worse; "" where the metric is only reported."""
    if new.metric.gate != "hard":
        return ""
    return unexplained_change(
        evidence.case,
        new,
        evidence.observations,
        evidence.reasons,
        evidence.policy,
    )
