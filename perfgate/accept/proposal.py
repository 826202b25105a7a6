"""Proposal: what the baselines would become if runs were accepted.

New launches join the recorded ones as long as they pass; a value that moved starts a
baseline of its own (`perfgate.accept.retention`). Objections to accepting a case are
found here and decided on in `perfgate.accept.accept`.
"""

from __future__ import annotations

import dataclasses
import datetime
import fnmatch
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from perfgate import formatting
from perfgate.accept.creep import NEWEST, begun, lost_since, unexplained_change
from perfgate.accept.retention import latest, retained
from perfgate.cases import Case
from perfgate.judge import choices, neighbours
from perfgate.judge.answer_shift import METRIC as ANSWERS
from perfgate.judge.baseline_schema import (
    BaselineFile,
    Known,
    MetricBaseline,
    Provenance,
    stored_sample,
)
from perfgate.judge.baseline_store import Recorded, Store
from perfgate.judge.gate import gate_mode, judge, metric_of
from perfgate.judge.machine_scope import for_any, machine_mdes, target_effect_of
from perfgate.judge.noise import (
    Noise,
    fraction_of,
    log_loss,
    noise_of_baseline,
    step_up,
)
from perfgate.judge.noise_table import GroupNoise
from perfgate.judge.observation import Observation, RunReader
from perfgate.judge.policy import Policy, policy_of
from perfgate.judge.routing_shift import SHARES
from perfgate.judge.verdict import Outcome, Verdict
from perfgate.results.samples import Sample
from perfgate.results.schema import RunResults


@dataclass(frozen=True)
class Choice:
    """What a person decides when accepting runs.

    Attributes:
        only: ids of cases, or patterns of them ("*/closed-c32/*"); empty takes all.
        reason: why worse values, or a wide target effect, are right; stored in the
            file.
        target_effect: one other than the policy's.
        report_only: never fail a run by these cases; with a reason it stays so until
            `replace` or `target_effect`.
        known_until: keep the baseline, and let the loss pass until this day.
        replace: drop the recorded launches, even where the new ones pass.

    """

    only: tuple[str, ...] = ()
    reason: str | None = None
    target_effect: float | None = None
    report_only: bool = False
    known_until: datetime.date | None = None
    replace: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether launches are added and nothing else about a case is decided."""
        return dataclasses.replace(self, only=()) == Choice()

    def matches(self, case: Case) -> bool:
        """Whether the case is chosen."""
        if not self.only:
            return True
        return any(fnmatch.fnmatchcase(case.id, name) for name in self.only)


@dataclass(frozen=True)
class Proposal:
    """One metric of one file, before and after.

    Attributes:
        chosen: what the engine chose by itself, as the file would have it.
        objections: what forbids accepting it, each with its remedy.
        notes: what the reader should know.
        machines: run -> which one of its kind it was on, as far as it is known.
        is_invalid: whether a run has no valid value for it.
        is_recorded: whether all of its launches are in the baseline already, and
            nothing else about the case is decided.
        group: what the store says of such a metric.

    """

    case: Case
    path: Path
    identity: dict[str, str]
    chosen: dict[str, str]
    context: dict[str, str]
    old: MetricBaseline | None
    new: MetricBaseline
    policy: Policy
    runs: tuple[str, ...]
    objections: tuple[str, ...]
    notes: tuple[str, ...]
    machines: Mapping[str, str]
    is_invalid: bool = False
    is_recorded: bool = False
    group: GroupNoise | None = None

    @property
    def _baseline(self) -> Recorded:
        """The new launches, for a machine that none of them was on."""
        bare = _bare(self.new, self.machines, self.group)
        return for_any(bare, self.policy)

    @property
    def noise(self) -> Noise:
        """Noise of the new launches, for a machine that none of them was on."""
        return self._baseline.noise(self.policy)

    @property
    def target_effect(self) -> float:
        """The loss to catch there, as a fraction."""
        return target_effect_of(self._baseline, self.policy)

    @property
    def machine_count(self) -> int:
        """Machines that the new launches were on; 0 where that is not known of any."""
        runs = {point.run for point in self.new.launches}
        return len({self.machines[run] for run in runs if run in self.machines})

    @property
    def old_value(self) -> float | None:
        """The baseline's value so far."""
        if self.old is None:
            return None
        return noise_of_baseline(self.old, self.policy).reference


@dataclass
class _Remarks:
    """Notes and objections about one metric, in the order in which they were found."""

    notes: list[str] = field(default_factory=list)
    objections: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Evidence:
    """One case in all runs that measured it.

    Attributes:
        observations: one for each run. verdicts: on each of them, compared with what is
            recorded.
        path: of the baseline file. recorded: what is in it; None if nothing is.
        machines: run -> machine, of the recorded runs and of these.
        is_recorded: whether all launches of these runs are in the baseline already.
        group: what the store says of such a metric.
        reasons: recorded run -> the reason with which it was accepted, if any.
        neighbours: run -> what they used of the host's cores meanwhile, as text.
    """

    case: Case
    policy: Policy
    choice: Choice
    path: Path
    recorded: Recorded | None
    observations: Sequence[Observation]
    verdicts: Sequence[Verdict]
    machines: Mapping[str, str]
    is_recorded: bool = False
    group: GroupNoise | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)
    neighbours: Mapping[str, str] = field(default_factory=dict)

    @property
    def points(self) -> list[Sample]:
        """The launches that count, as they would be stored."""
        points: list[Sample] = []
        for observation in self.observations:
            points += _points(self.case, observation)
        return points

    def judged_runs(self) -> list[tuple[Observation, Verdict]]:
        """Each run with its verdict."""
        return list(zip(self.observations, self.verdicts, strict=True))


def proposals(
    runs: Sequence[RunResults], store: Store, choice: Choice
) -> list[Proposal]:
    """Every case that was measured in any of the runs, in order of first mention."""
    cases: dict[str, Case] = {}
    observations: dict[str, list[Observation]] = defaultdict(list)
    cores_used: dict[str, dict[str, str]] = defaultdict(dict)
    for run in runs:
        reader = RunReader(run)
        for case in run.cases:
            if case.is_duel:  # its base build decides it, and no baseline
                continue
            # Each run's own case: the same id may stand for another server
            # configuration, and that must be noticed.
            observation = reader.observe(case)
            if observation.samples:
                cases[case.id] = case
                observations[case.id].append(observation)
                used = neighbours.used(case, reader)
                if used:
                    cores_used[case.id][observation.run] = used
    proposed = []
    for case in cases.values():
        evidence = _gather(
            case, observations[case.id], store, choice, cores_used[case.id]
        )
        proposed.append(_propose(_with_new_runs(evidence)))
    return proposed


def _gather(
    case: Case,
    observations: Sequence[Observation],
    store: Store,
    choice: Choice,
    cores_used: Mapping[str, str],
) -> _Evidence:
    """Judge each run against what is recorded.

    Args:
        cores_used: run -> what neighbours used of the host's cores, as text.
    """
    label = observations[-1].hardware_label
    path = store.path(case, observations[0].hardware_label)
    file = store.file(path)
    policy = policy_of(case, label, observations[-1].fail_over)
    machines: dict[str, str] = {}
    if file is not None:
        machines |= file.machines
    for observation in observations:
        if observation.machine:
            machines[observation.run] = observation.machine
    recorded, group = None, store.group(case, label)
    if file is not None and case.metric in file.metrics:
        metric = file.metrics[case.metric]
        recorded = Recorded(
            path,
            file.identity,
            file.context,
            metric,
            machines,
            group=group,
            chosen=file.chosen,
        )
    verdicts = [
        judge(case, observation, recorded, policy, datetime.date.min)
        for observation in observations
    ]
    return _Evidence(
        case=case,
        policy=policy,
        choice=choice,
        path=path,
        recorded=recorded,
        observations=observations,
        verdicts=verdicts,
        machines=machines,
        group=group,
        reasons=_reasons(file, case.metric),
        neighbours=cores_used,
    )


def _reasons(file: BaselineFile | None, metric: str) -> dict[str, str]:
    """Run -> the reason with which its launches of the metric were accepted."""
    reasons = {}
    if file is not None:
        for entry in file.provenance:
            if entry.reason and entry.excuses(metric):
                reasons[entry.run] = entry.reason
    return reasons


def _with_new_runs(evidence: _Evidence) -> _Evidence:
    """The evidence without runs whose launches are all in the baseline already.

    Compared with a baseline that contains them they look like a change. They stay where
    there is no other run, or where the choice decides more than to add launches.
    """
    if not evidence.choice.is_plain:
        return evidence
    observations = []
    verdicts = []
    for observation, verdict in evidence.judged_runs():
        if not _is_recorded(evidence, observation):
            observations.append(observation)
            verdicts.append(verdict)
    if not observations:
        return dataclasses.replace(evidence, is_recorded=True)
    return dataclasses.replace(
        evidence, observations=observations, verdicts=verdicts
    )


def _is_recorded(evidence: _Evidence, observation: Observation) -> bool:
    """Whether every valid launch of a run is in the baseline."""
    if evidence.recorded is None:
        return False
    launches = evidence.recorded.metric.launches
    recorded = {(sample.run, sample.launch) for sample in launches}
    points = list(_points(evidence.case, observation))
    if not points:
        return False
    return all((point.run, point.launch) in recorded for point in points)


def _propose(evidence: _Evidence) -> Proposal:
    last, recorded = evidence.observations[-1], evidence.recorded
    old = None if recorded is None else recorded.metric
    invalid: list[str] = []
    if old is None or old.known is None:
        invalid = _invalid_runs(evidence)
    objections = invalid + _differing_runs(evidence.observations)
    objections += _uncertain_runs(evidence)
    remarks = _Remarks(objections=objections)
    comparable = recorded
    if evidence.verdicts[-1].outcome is Outcome.INCOMPARABLE:
        comparable = None
    new = _new_metric(evidence, comparable, remarks)
    bare = _bare(new, evidence.machines, evidence.group)
    remarks.notes += _machine_notes(machine_mdes(bare, evidence.policy))
    remarks.notes += _neighbour_notes(evidence)
    if recorded is not None and comparable is None:
        _object_to_replacing(evidence, remarks)
    chosen = _chosen(evidence, comparable, remarks)
    return Proposal(
        case=evidence.case,
        path=evidence.path,
        identity=dict(last.identity),
        chosen=chosen,
        context=dict(last.context),
        old=old,
        new=new,
        policy=evidence.policy,
        runs=tuple(observation.run for observation in evidence.observations),
        objections=tuple(remarks.objections),
        notes=tuple(remarks.notes),
        machines=evidence.machines,
        is_invalid=bool(invalid),
        is_recorded=evidence.is_recorded,
        group=evidence.group,
    )


def _chosen(
    evidence: _Evidence, recorded: Recorded | None, remarks: _Remarks
) -> dict[str, str]:
    """What the engine chose by itself, as the file would have it: in the newest run.

    A known loss keeps the baseline, and with it the choices.

    Args:
        recorded: what the runs are compared with; None where nothing can be.
        remarks: notes are added.
    """
    *earlier, last = evidence.observations
    if recorded is not None and evidence.choice.known_until is not None:
        return dict(recorded.chosen)
    for observation in earlier:
        changed = choices.changes(last.chosen, observation.chosen)
        if changed:
            text = formatting.listed(changed)
            remarks.notes.append(
                f"from run {observation.run} to {last.run} the engine chose "
                f"otherwise: {text}"
            )
    if recorded is not None:
        changed = choices.changes(last.chosen, recorded.chosen)
        if changed:
            text = formatting.listed(changed)
            remarks.notes.append(f"the engine chose otherwise: {text}")
    return dict(last.chosen)


def _object_to_replacing(evidence: _Evidence, remarks: _Remarks) -> None:
    """The baseline measured another configuration: only --replace may remove it."""
    summary = evidence.verdicts[-1].summary
    remarks.notes.append(f"replaces the old baseline: {summary}")
    if not evidence.choice.replace:
        remarks.objections.append(
            "the baseline measured another configuration: replace it with --replace, "
            "or keep both with another --baselines"
        )


def _invalid_runs(evidence: _Evidence) -> list[str]:
    objections = []
    for observation, verdict in evidence.judged_runs():
        if verdict.implausible:
            objections += _implausible(observation, verdict, evidence.choice)
        elif verdict.outcome is Outcome.INVALID:
            objections.append(
                f"run {observation.run} is INVALID ({verdict.summary}): accept other "
                "cases with --only"
            )
    return objections


def _implausible(
    observation: Observation, verdict: Verdict, choice: Choice
) -> list[str]:
    """A value that is too good to be true needs a person's reason."""
    if choice.reason:
        return []
    return [
        f"run {observation.run}: {verdict.summary}: give a --reason, or accept other "
        "cases with --only"
    ]


def _uncertain_runs(evidence: _Evidence) -> list[str]:
    """Launches whose repetitions leave more open than the loss to catch.

    Recorded, they would widen the thresholds of all similar rows: noise is learned from
    what is recorded.
    """
    if (
        evidence.choice.reason
        or gate_mode(evidence.case, evidence.policy) != "hard"
    ):
        return []
    effect = evidence.policy.smallest
    objections = []
    for observation in evidence.observations:
        uncertainty = math.sqrt(observation.repetition_variance)
        if uncertainty > effect:
            objections.append(
                f"run {observation.run}: the repetitions differ so much that the "
                f"median of a launch is uncertain by {formatting.percent(uncertainty)} "
                f"at least, more than the target effect of "
                f"{formatting.percent(effect)}: measure again on a quieter host, give "
                "a --reason, or accept other cases with --only"
            )
    return objections


def _neighbour_notes(evidence: _Evidence) -> list[str]:
    """That a time may be longer for a neighbour on the host, so that it hides losses."""
    notes = []
    for observation in evidence.observations:
        used = evidence.neighbours.get(observation.run)
        if used:
            notes.append(f"others used {used} meanwhile")
    return notes


def _differing_runs(observations: Sequence[Observation]) -> list[str]:
    last = observations[-1]
    objections = []
    for observation in observations[:-1]:
        differences = formatting.differences(
            last.identity, observation.identity
        )
        if differences:
            text = formatting.listed(differences)
            objections.append(
                f"runs {observation.run} and {last.run} measured different "
                f"configurations: {text}"
            )
    return objections


def _new_metric(
    evidence: _Evidence, recorded: Recorded | None, remarks: _Remarks
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
        return _with_known_loss(old, evidence, remarks)
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
    bare = _bare(new, evidence.machines, evidence.group)
    noise = for_any(bare, policy).noise(policy)
    new = _with_target(new, old, noise, evidence, remarks)
    return _with_anchors(new, evidence, recorded, remarks)


def _with_anchors(
    new: MetricBaseline,
    evidence: _Evidence,
    recorded: Recorded | None,
    remarks: _Remarks,
) -> MetricBaseline:
    """The metric with its anchors; objects to losses that have no reason.

    A reason moves the anchors of a loss alone: it is given once for all cases of a run.
    """
    case, policy = evidence.case, evidence.policy
    bare = _bare(new, evidence.machines, evidence.group)
    worse = ""
    if recorded is None:
        anchors = begun(new, evidence.machines, None)
    else:
        anchors, worse = lost_since(
            case, recorded, bare, evidence.judged_runs(), policy
        )
    worse = worse or _unexplained_change(evidence, bare)
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


def _unexplained_change(evidence: _Evidence, new: Recorded) -> str:
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


def _with_recorded(
    evidence: _Evidence, recorded: Recorded | None, remarks: _Remarks
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
    if choice.replace or choice.target_effect is not None:
        return False
    return old.gate == "report" and bool(old.reason)


def _machine_notes(mdes: Mapping[str, float]) -> list[str]:
    """What single machines detect; equal ones share a line."""
    machines: dict[str, list[str]] = defaultdict(list)
    for machine, mde in mdes.items():
        machines[formatting.percent(step_up(mde))].append(machine)
    lines = []
    for effect, names in sorted(machines.items()):
        lines.append(f"detects a loss of {effect} on {', '.join(names)}")
    return lines


def _bare(
    metric: MetricBaseline,
    machines: Mapping[str, str],
    group: GroupNoise | None,
) -> Recorded:
    """A metric as if it lay in a file, without identity and context."""
    return Recorded(Path(), {}, {}, metric, machines, group=group)


def _with_target(
    new: MetricBaseline,
    old: MetricBaseline | None,
    noise: Noise,
    evidence: _Evidence,
    remarks: _Remarks,
) -> MetricBaseline:
    """The metric with a person's target effect; without one the policy's counts."""
    choice = evidence.choice
    target, reason = choice.target_effect, choice.reason
    if target is None and old is not None and not choice.replace:
        target, reason = old.target_effect, old.reason
    if target is None:
        if new.gate == "hard":
            remarks.notes += _about_noise(noise, evidence)
        return new
    new = msgspec.structs.replace(
        new, target_effect=target, reason=reason or new.reason
    )
    if new.better == "higher" and target >= 1:
        loss = formatting.percent(target)
        remarks.objections.append(
            f"a target effect of {loss} is impossible: give a fraction below 1, such "
            "as --target-effect 0.05"
        )
    if new.gate == "hard":
        _check_target(target, reason, noise, evidence, remarks)
    return new


def _about_noise(noise: Noise, evidence: _Evidence) -> list[str]:
    """A note where the launches cannot detect the loss that the policy lets pass."""
    higher = metric_of(evidence.case).better == "higher"
    ceiling = log_loss(evidence.policy.fail_over, higher)
    if noise.margin(1) <= ceiling:
        return []
    margin = formatting.percent(fraction_of(noise.margin(1), higher))
    limit = formatting.percent(evidence.policy.fail_over)
    return [
        f"will be NOT_EXCLUDED: these launches tell a loss to {margin}, and {limit} is "
        "wanted; record more launches"
    ]


def _check_target(
    target: float,
    reason: str | None,
    noise: Noise,
    evidence: _Evidence,
    remarks: _Remarks,
) -> None:
    """Object to a target effect that needs a reason, or that cannot be detected."""
    policy = evidence.policy
    higher = metric_of(evidence.case).better == "higher"
    mde = noise.mde(higher)
    if target > policy.fail_over and not reason:
        limit = formatting.percent(policy.fail_over)
        remarks.objections.append(
            f"a target effect above {limit} needs a reason: add --reason WHY"
        )
    elif noise.established and target < mde - 1e-9:
        loss = formatting.percent(target)
        enough = f"--target-effect {step_up(mde, higher):g}"
        remarks.objections.append(
            f"a loss of {loss} cannot be detected, the minimum detectable effect is "
            f"{formatting.percent(mde)}: add {enough} or more, or --report-only"
        )


def _with_known_loss(
    old: MetricBaseline, evidence: _Evidence, remarks: _Remarks
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


def _has_unsized_loss(evidence: _Evidence) -> bool:
    """Whether something regressed that is judged as a whole: answers, facts, a router."""
    for verdict in evidence.verdicts:
        is_unsized = verdict.worse_by is None or verdict.metric == ANSWERS
        if verdict.outcome is Outcome.REGRESSED and is_unsized:
            return True
    return False


def _points(case: Case, observation: Observation) -> Iterator[Sample]:
    """The launches that count, as a baseline stores them."""
    for sample in observation.samples:
        if sample.value is not None:
            yield stored_sample(sample, with_shares=case.metric == SHARES)


def merged(
    path: Path, file: BaselineFile | None, accepted: Sequence[Proposal]
) -> tuple[BaselineFile, list[str]]:
    """The file with the proposals in it, and the metrics that would be lost.

    Provenance of the new launches is not yet in it.
    """
    last = accepted[-1]
    kept_metrics: dict[str, MetricBaseline] = {}
    provenance: tuple[Provenance, ...] = ()
    lost: list[str] = []
    new_metrics = {proposal.case.metric: proposal.new for proposal in accepted}
    if file is not None:
        if file.identity == last.identity:
            kept_metrics = dict(file.metrics)
        if kept_metrics:
            provenance = file.provenance
        lost = sorted(set(file.metrics) - set(kept_metrics) - set(new_metrics))
    new_file = BaselineFile(
        identity=last.identity,
        chosen=last.chosen,
        context=last.context,
        provenance=provenance,
        metrics=kept_metrics | new_metrics,
        arrivals=last.case.numerator.arrivals,
    )
    return new_file, lost
