"""What would the baselines become, if these runs were taken over?

New launches join the recorded ones as long as they pass beside them; a value that moved
starts a baseline of its own (`perfgate.accept.retention`). What speaks against taking a
case over is found here and decided on in `perfgate.accept.accept`.
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from perfgate import formatting as wording
from perfgate.accept.retention import kept, latest, lost_since
from perfgate.cases import Case
from perfgate.judge.baseline_schema import (
    BaselineFile,
    Known,
    MetricBaseline,
    stored_sample,
)
from perfgate.judge.baseline_store import Recorded, Store
from perfgate.judge.gate import gate_mode, judge, metric_of
from perfgate.judge.machine_scope import for_any, promises
from perfgate.judge.observation import Observation, RunReader
from perfgate.judge.policy import (
    Noise,
    Policy,
    noise_of_baseline,
    policy_for,
    promised_delta,
    step_up,
)
from perfgate.judge.routing_shift import SHARES
from perfgate.judge.verdict import Outcome, Verdict
from perfgate.results.samples import Sample
from perfgate.results.schema import RunResults


@dataclass(frozen=True)
class Choice:
    """What a person decides when taking runs over.

    Attributes:
        only: ids of cases, or patterns of them ("*/closed-c32/*"); empty takes all.
        reason: why worse values, or a wide delta, are right; stored in the file.
        delta: a promised loss other than the policy's.
        report_only: never turn a run red by these cases; with a reason it stays so
            until `replace` or `delta`.
        known_until: keep the baseline, and let the loss pass until this day.
        replace: begin anew even where the new launches pass beside the old ones.

    """

    only: tuple[str, ...] = ()
    reason: str | None = None
    delta: float | None = None
    report_only: bool = False
    known_until: datetime.date | None = None
    replace: bool = False


@dataclass(frozen=True)
class Proposal:
    """One metric of one file, before and after.

    Attributes:
        objections: what forbids taking it over, each with its remedy.
        notes: what the reader should know.
        machines: run -> which one of its kind it was on, as far as it is known.

    """

    case: Case
    path: Path
    identity: dict[str, str]
    context: dict[str, str]
    old: MetricBaseline | None
    new: MetricBaseline
    policy: Policy
    runs: tuple[str, ...]
    objections: tuple[str, ...]
    notes: tuple[str, ...]
    machines: Mapping[str, str]

    @property
    def noise(self) -> Noise:
        """What the new launches can detect, where none of them was, follows from this."""
        return _noise(self.new, self.machines, self.policy)

    @property
    def machine_count(self) -> int:
        """Machines that the new launches were on; 0 where that is not known of any."""
        return len(
            {
                self.machines[point.run]
                for point in self.new.launches
                if point.run in self.machines
            }
        )

    @property
    def old_value(self) -> float | None:
        """The baseline's value so far."""
        return (
            None
            if self.old is None
            else noise_of_baseline(self.old, self.policy).reference
        )


def proposals(
    runs: Sequence[RunResults], store: Store, choice: Choice
) -> list[Proposal]:
    """Every case that was measured in any of the runs, in order of first mention."""
    cases: dict[str, Case] = {}
    seen: dict[str, list[Observation]] = defaultdict(list)
    for run in runs:
        reader = RunReader(run)
        for case in run.cases:
            # Each run's own case: the same id may stand for another server
            # configuration, and that must be noticed.
            observation = reader.observe(case)
            if observation.samples:
                cases[case.id] = case
                seen[case.id].append(observation)
    return [_propose(case, seen[case.id], store, choice) for case in cases.values()]


def _propose(
    case: Case, seen: Sequence[Observation], store: Store, choice: Choice
) -> Proposal:
    path = store.path(case, seen[0].hardware_label)
    file = store.file(path)
    last = seen[-1]
    policy = policy_for(last.hardware_label, case.metric, case.over is not None)
    old = file.metrics.get(case.metric) if file is not None else None
    machines = dict(file.machines) if file is not None else {}
    machines |= {
        observation.run: observation.machine
        for observation in seen
        if observation.machine
    }
    recorded = (
        None
        if file is None or old is None
        else Recorded(path, file.identity, file.context, old, machines)
    )
    verdicts = [
        judge(case, observation, recorded, policy, datetime.date.min)
        for observation in seen
    ]
    objections = [
        (
            f"run {observation.run} is invalid for it "
            f"({verdict.message.splitlines()[1].strip()}): leave it out by --only"
        )
        for observation, verdict in zip(seen, verdicts, strict=True)
        if verdict.outcome is Outcome.INVALID and not (old and old.known)
    ]
    for other in seen[:-1]:
        apart = wording.differences(last.identity, other.identity)
        if apart:
            objections.append(
                f"runs {other.run} and {last.run} measured different things: "
                f"{wording.listed(apart)}"
            )
    comparable = recorded if verdicts[-1].outcome is not Outcome.INCOMPARABLE else None
    new, notes, more = _new_metric(
        case, seen, machines, comparable, verdicts, (policy, choice)
    )
    notes += _promised_alone(promises(_bare(new, machines), policy))
    if recorded is not None and comparable is None:
        notes.append(
            "the old baseline is of something else and goes: "
            f"{verdicts[-1].message.splitlines()[1].strip()}"
        )
        if not choice.replace:
            more.append(
                "what is recorded is of something else: --replace puts these "
                "launches in its place, another "
                "--baselines keeps both"
            )
    return Proposal(
        case=case,
        path=path,
        identity=dict(last.identity),
        context=dict(last.context),
        old=old,
        new=new,
        policy=policy,
        runs=tuple(observation.run for observation in seen),
        objections=tuple(objections + more),
        notes=tuple(notes),
        machines=machines,
    )


def _new_metric(
    case: Case,
    seen: Sequence[Observation],
    machines: Mapping[str, str],
    recorded: Recorded | None,
    verdicts: Sequence[Verdict],
    decided: tuple[Policy, Choice],
) -> tuple[MetricBaseline, list[str], list[str]]:
    """The metric as it would be stored, notes, objections."""
    (policy, choice), metric = decided, metric_of(case)
    points = [point for observation in seen for point in _points(case, observation)]
    old = recorded.metric if recorded is not None else None
    if old is not None and choice.known_until is not None:
        return _known(old, verdicts, choice)
    notes, objections = [], []
    stay: Sequence[Sample] = ()
    if recorded is not None:
        stay, note = kept(recorded, seen, verdicts, choice.replace)
        fresh = {(point.run, point.launch) for point in points}
        points = [
            point for point in stay if (point.run, point.launch) not in fresh
        ] + points
        notes += note
    if not points:
        # The objection is there already: the run is invalid for it.
        points = [Sample(run=seen[-1].run, launch=0, value=1.0)]
    out_of_gate, reason = choice.report_only, choice.reason
    if (
        old is not None
        and old.gate == "report"
        and old.reason
        and not choice.replace
        and choice.delta is None
    ):
        out_of_gate, reason = True, choice.reason or old.reason
        notes.append(f"reported only: {reason}")
    new = MetricBaseline(
        unit=metric.unit,
        better=metric.better,
        definition=metric.definition,
        gate="report" if out_of_gate else gate_mode(case, policy),
        target_effect=policy.until_established,
        floor=policy.floor if case.over is None else 0.0,
        launches=latest(points, machines),
        reason=reason if out_of_gate else None,
    )
    noise = _noise(new, machines, policy)
    new, told, more = _with_delta(new, old, noise, policy, choice)
    notes += told
    objections += more
    anchor = noise.reference
    if recorded is not None and not choice.reason:
        anchor, worse = lost_since(
            case,
            recorded,
            _bare(new, machines),
            list(zip(seen, verdicts, strict=True)),
            policy,
        )
        objections += (
            [f"{worse}: give a --reason, or leave it out by --only"] if worse else []
        )
    return msgspec.structs.replace(new, anchor=anchor), notes, objections


def _promised_alone(own: Mapping[str, float]) -> list[str]:
    """What machines promise by themselves, those that promise the same together."""
    alike: dict[float, list[str]] = defaultdict(list)
    for name, delta in own.items():
        alike[delta].append(name)
    return [
        f"on {', '.join(names)} alone {wording.percent(delta)}"
        for delta, names in sorted(alike.items())
    ]


def _bare(metric: MetricBaseline, machines: Mapping[str, str]) -> Recorded:
    """A metric as if it lay in a file; what it was measured of is not looked at."""
    return Recorded(Path(), {}, {}, metric, machines)


def _noise(
    metric: MetricBaseline, machines: Mapping[str, str], policy: Policy
) -> Noise:
    return for_any(_bare(metric, machines), policy).noise(policy)


def _with_delta(
    new: MetricBaseline,
    old: MetricBaseline | None,
    noise: Noise,
    policy: Policy,
    choice: Choice,
) -> tuple[MetricBaseline, list[str], list[str]]:
    """The promised loss: the policy's, or the person's with a reason; what cannot be detected is not promised.

    Returns the metric, notes and objections.
    """
    higher = new.better == "higher"
    detectable = noise.detectable(higher)
    enough = f"--delta {step_up(detectable, higher):g}"
    delta, reason = promised_delta(noise, policy, higher), new.reason
    if choice.delta is not None:
        delta, reason = choice.delta, choice.reason
    elif (
        old is not None
        and old.reason
        and old.gate == "hard"
        and delta > policy.widest
        and old.target_effect >= delta
    ):
        delta, reason = old.target_effect, old.reason
    notes, objections = [], []
    if higher and delta >= 1:
        objections.append(
            f"it cannot lose {wording.percent(delta)}: a --delta below 1 is a part of it"
        )
    if new.gate == "hard" and delta > policy.without_reason and not reason:
        most = f"more than {wording.percent(policy.without_reason)} is promised only for a reason"
        if choice.delta is not None:
            objections.append(f"{most}: add --reason WHY")
        else:
            notes.append(
                "reported only up to its alarm line: it detects no loss below "
                f"{wording.percent(detectable)}, and "
                f"{most}: record more launches, or {enough} --reason WHY"
            )
    elif new.gate == "hard" and noise.established and delta < detectable - 1e-9:
        objections.append(
            f"a loss of {wording.percent(delta)} cannot be detected, "
            f"{wording.percent(detectable)} can: "
            f"{enough} or more, or --report-only"
        )
    return (
        msgspec.structs.replace(new, target_effect=delta, reason=reason),
        notes,
        objections,
    )


def _known(
    old: MetricBaseline, verdicts: Sequence[Verdict], choice: Choice
) -> tuple[MetricBaseline, list[str], list[str]]:
    """The old metric with a loss that may pass until a day."""
    losses = [
        (verdict.worse_by, verdict.change)
        for verdict in verdicts
        if verdict.outcome is Outcome.REGRESSED and verdict.worse_by
    ]
    objections = [] if choice.reason else ["a known regression needs a --reason"]
    if not losses or choice.known_until is None:
        return (
            old,
            [],
            [
                *objections,
                "it is not a regression in these runs: leave it out by --only",
            ],
        )
    worse_by, change = max(losses)
    known = Known(
        until=choice.known_until.isoformat(),
        reason=choice.reason or "",
        worse_by=worse_by,
        change=change,
    )
    notes = [
        (
            f"keeps the baseline; a loss of {wording.percent(known.worse_by)} may "
            f"pass until {known.until}"
        )
    ]
    return msgspec.structs.replace(old, known=known), notes, objections


def _points(case: Case, observation: Observation) -> list[Sample]:
    """The launches that count, as a baseline stores them."""
    is_routing = case.metric == SHARES
    return [
        stored_sample(sample, with_shares=is_routing)
        for sample in observation.samples
        if sample.value is not None
    ]


def merged(
    path: Path, file: BaselineFile | None, made: Sequence[Proposal]
) -> tuple[BaselineFile, list[str]]:
    """The file with the proposals in it, less its provenance; and the metrics that would be lost."""
    last = made[-1]
    kept = (
        dict(file.metrics)
        if file is not None and file.identity == last.identity
        else {}
    )
    lost = (
        sorted(set(file.metrics) - set(kept) - {p.case.metric for p in made})
        if file is not None
        else []
    )
    metrics = kept | {proposal.case.metric: proposal.new for proposal in made}
    provenance = file.provenance if file is not None and kept else ()
    return BaselineFile(
        identity=last.identity,
        context=last.context,
        provenance=provenance,
        metrics=metrics,
    ), lost
