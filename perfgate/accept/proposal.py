"""Proposal: what the baselines would become if runs were accepted.

New launches join the recorded ones as long as they pass; a value that moved starts a
baseline of its own (`perfgate.accept.retention`). Objections to accepting a case are
found in `perfgate.accept.remarks` and decided on in `perfgate.accept.accept`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perfgate import formatting
from perfgate.accept.choice import Choice
from perfgate.accept.evidence import Evidence, gather, unfiled, with_new_runs
from perfgate.accept.new_metric import new_metric
from perfgate.accept.remarks import (
    Remarks,
    differing_runs,
    invalid_runs,
    machine_notes,
    neighbour_notes,
    object_to_replacing,
    uncertain_runs,
)
from perfgate.cases import Case
from perfgate.judge import choices, neighbours
from perfgate.judge.baseline_schema import (
    BaselineFile,
    MetricBaseline,
    Provenance,
)
from perfgate.judge.baseline_store import Recorded, Store
from perfgate.judge.machine_scope import for_any, machine_mdes, target_effect_of
from perfgate.judge.noise import Noise, noise_of_baseline
from perfgate.judge.noise_table import GroupNoise
from perfgate.judge.observation import Observation, RunReader
from perfgate.judge.policy import Policy
from perfgate.judge.verdict import Outcome
from perfgate.results.schema import RunResults


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
        baseline = unfiled(self.new, self.machines, self.group)
        return for_any(baseline, self.policy)

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
        evidence = gather(
            case, observations[case.id], store, choice, cores_used[case.id]
        )
        proposed.append(_propose(with_new_runs(evidence)))
    return proposed


def _propose(evidence: Evidence) -> Proposal:
    """The case before and after, with all notes and objections."""
    last, recorded = evidence.observations[-1], evidence.recorded
    old = None if recorded is None else recorded.metric
    invalid: list[str] = []
    if old is None or old.known is None:
        invalid = invalid_runs(evidence)
    objections = invalid + differing_runs(evidence.observations)
    objections += uncertain_runs(evidence)
    remarks = Remarks(objections=objections)
    comparable = recorded
    if evidence.verdicts[-1].outcome is Outcome.INCOMPARABLE:
        comparable = None
    new = new_metric(evidence, comparable, remarks)
    mdes = machine_mdes(evidence.baseline(new), evidence.policy)
    remarks.notes += machine_notes(mdes)
    remarks.notes += neighbour_notes(evidence)
    if recorded is not None and comparable is None:
        object_to_replacing(evidence, remarks)
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
    evidence: Evidence, recorded: Recorded | None, remarks: Remarks
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


def merged(
    file: BaselineFile | None, accepted: Sequence[Proposal]
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
