"""Remarks: notes and objections about the runs that would be accepted.

`perfgate.accept.accept` decides on the objections.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from perfgate import formatting
from perfgate.accept.choice import Choice
from perfgate.accept.evidence import Evidence
from perfgate.judge.measured_case import gate_mode
from perfgate.judge.noise import step_up
from perfgate.judge.observation import Observation
from perfgate.judge.verdict import Outcome, Verdict


@dataclass
class Remarks:
    """Notes and objections about one metric, in the order in which they were found."""

    notes: list[str] = field(default_factory=list)
    objections: list[str] = field(default_factory=list)


def invalid_runs(evidence: Evidence) -> list[str]:
    """Objections to runs that have no value, or one that is too good to be true."""
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
    """An objection to a value that is too good to be true, unless a reason is given."""
    if choice.reason:
        return []
    return [
        f"run {observation.run}: {verdict.summary}: give a --reason, or accept other "
        "cases with --only"
    ]


def uncertain_runs(evidence: Evidence) -> list[str]:
    """Objections to launches whose repetitions leave more open than the loss to catch.

    Recorded, they would widen the thresholds of all similar rows: noise is learned from
    what is recorded.
    """
    if evidence.choice.reason:
        return []
    if gate_mode(evidence.case, evidence.policy) != "hard":
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


def differing_runs(observations: Sequence[Observation]) -> list[str]:
    """Objections to runs that measured another configuration than the last one."""
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


def object_to_replacing(evidence: Evidence, remarks: Remarks) -> None:
    """The baseline measured another configuration: only --replace may remove it."""
    summary = evidence.verdicts[-1].summary
    remarks.notes.append(f"replaces the old baseline: {summary}")
    if not evidence.choice.replace:
        remarks.objections.append(
            "the baseline measured another configuration: replace it with --replace, "
            "or keep both with another --baselines"
        )


def neighbour_notes(evidence: Evidence) -> list[str]:
    """Notes of neighbours on the host: a time beside them may be longer and hide losses."""
    notes = []
    for observation in evidence.observations:
        used = evidence.neighbours.get(observation.run)
        if used:
            notes.append(f"others used {used} meanwhile")
    return notes


def machine_notes(mdes: Mapping[str, float]) -> list[str]:
    """Notes of what single machines detect; equal ones share a line.

    Args:
        mdes: machine -> its minimum detectable effect, as a fraction.
    """
    machines: dict[str, list[str]] = defaultdict(list)
    for machine, mde in mdes.items():
        machines[formatting.percent(step_up(mde))].append(machine)
    lines = []
    for effect, names in sorted(machines.items()):
        lines.append(f"detects a loss of {effect} on {', '.join(names)}")
    return lines
