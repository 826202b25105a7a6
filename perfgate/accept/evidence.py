"""Evidence: one case in all runs that would be accepted, judged against what is recorded.

Runs that are in the baseline already are left out.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from perfgate.accept.choice import Choice
from perfgate.cases import Case
from perfgate.judge.baseline_schema import (
    BaselineFile,
    MetricBaseline,
    stored_sample,
)
from perfgate.judge.baseline_store import Recorded, Store
from perfgate.judge.gate import judge
from perfgate.judge.noise_table import GroupNoise
from perfgate.judge.observation import Observation
from perfgate.judge.policy import Policy, policy_of
from perfgate.judge.routing_shift import SHARES
from perfgate.judge.verdict import Verdict
from perfgate.results.samples import Sample


@dataclass(frozen=True)
class Evidence:
    """One case in all runs that measured it.

    Attributes:
        path: of the baseline file.
        recorded: the case in that file; None if it is not there.
        observations: one for each run.
        verdicts: one for each run, compared with what is recorded.
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

    def baseline(self, metric: MetricBaseline) -> Recorded:
        """A metric that would be stored, as the baseline of later runs."""
        return unfiled(metric, self.machines, self.group)

    def judged_runs(self) -> list[tuple[Observation, Verdict]]:
        """Each run with its verdict."""
        return list(zip(self.observations, self.verdicts, strict=True))


def gather(
    case: Case,
    observations: Sequence[Observation],
    store: Store,
    choice: Choice,
    cores_used: Mapping[str, str],
) -> Evidence:
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
    return Evidence(
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


def unfiled(
    metric: MetricBaseline,
    machines: Mapping[str, str],
    group: GroupNoise | None,
) -> Recorded:
    """A metric as a baseline that lies in no file: without identity and context."""
    return Recorded(Path(), {}, {}, metric, machines, group=group)


def with_new_runs(evidence: Evidence) -> Evidence:
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


def _is_recorded(evidence: Evidence, observation: Observation) -> bool:
    """Whether every valid launch of a run is in the baseline."""
    if evidence.recorded is None:
        return False
    launches = evidence.recorded.metric.launches
    recorded = {(sample.run, sample.launch) for sample in launches}
    points = list(_points(evidence.case, observation))
    if not points:
        return False
    return all((point.run, point.launch) in recorded for point in points)


def _points(case: Case, observation: Observation) -> Iterator[Sample]:
    """The launches that count, as a baseline stores them."""
    for sample in observation.samples:
        if sample.value is not None:
            yield stored_sample(sample, with_shares=case.metric == SHARES)
