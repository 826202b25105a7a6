"""Retention: which recorded launches stay in a baseline when new ones are accepted.

Launches that pass join the recorded ones. A value that moved begins anew on its
machine, because a mean of before and after describes neither. Launches of other
machines stay, until runs there show whether theirs moved too. On a machine without
recorded launches new ones join in any case: whether the value moved or machines differ
is unknown there, and a fast newcomer is no reason to drop the others.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from perfgate import formatting
from perfgate.cases import Case
from perfgate.judge import ratio as sides
from perfgate.judge.baseline_store import Recorded
from perfgate.judge.machine_scope import (
    for_any,
    has_none_of,
    launches_by_machine,
    narrow_to,
)
from perfgate.judge.noise import LINE_SHARE, fraction_of, log_loss
from perfgate.judge.observation import Observation
from perfgate.judge.policy import Policy
from perfgate.judge.verdict import Outcome, Verdict
from perfgate.results.samples import Sample, values_of

# Of a machine. With so many the CV is known to 13 %, and what is older describes other
# software.
LAUNCHES_KEPT = 30
JOINS = "joins although it moved: nothing was recorded on this machine (--replace begins anew)"


def kept(
    recorded: Recorded,
    observations: Sequence[Observation],
    verdicts: Sequence[Verdict],
    replace: bool,
) -> tuple[Sequence[Sample], list[str]]:
    """The recorded launches that stay, and notes about those that go.

    Args:
        observations: of the runs that would be accepted.
        verdicts: on each of them, compared with what was recorded.
        replace: a person wants to begin anew.
    """
    launches = recorded.metric.launches
    if replace or recorded.metric.known is not None:
        return (), ["replaces the recorded launches"]
    moved: set[str | None] = set()
    for observation, verdict in zip(observations, verdicts, strict=True):
        if verdict.outcome in (Outcome.REGRESSED, Outcome.IMPROVED):
            moved.add(observation.machine)
    if not moved:
        return launches, []
    if has_none_of(recorded, moved):
        note = (
            "joins although it moved: nothing was recorded on this machine "
            "(--replace begins anew)"
        )
        return launches, [note]
    others = _of_other_machines(recorded, moved)
    note = "replaces the recorded launches: the value moved"
    if others:
        note += " there; those of other machines stay"
    return others, [note]


def _of_other_machines(
    recorded: Recorded, moved: set[str | None]
) -> list[Sample]:
    """Recorded launches of machines that are known and not among those where the value moved."""
    others: list[Sample] = []
    if None in moved:
        return others
    for sample in recorded.metric.launches:
        machine = recorded.machines.get(sample.run)
        if machine is not None and machine not in moved:
            others.append(sample)
    return others


def latest(
    samples: Iterable[Sample], machines: Mapping[str, str]
) -> tuple[Sample, ...]:
    """The last launches of each machine, in order of their runs.

    Args:
        machines: run -> machine; launches whose machine is unknown count as those of
            one.
    """
    in_order = sorted(samples, key=_place)
    last: list[Sample] = []
    for launches in launches_by_machine(in_order, machines).values():
        last += launches[-LAUNCHES_KEPT:]
    return tuple(sorted(last, key=_place))


def _place(sample: Sample) -> tuple[str, int]:
    return sample.run, sample.launch


def anchor_of(
    recorded: Recorded,
    machines: Iterable[str | None],
    reference: float,
    policy: Policy,
) -> float:
    """The value with which small losses that passed one by one are compared as a sum.

    Where better machines join, it moves with the mean of all; where worse ones do, it
    stays.

    Args:
        machines: of the runs that would be accepted.
        reference: the baseline's value with them.
    """
    before = for_any(recorded, policy).noise(policy).reference
    anchor = recorded.metric.anchor or before
    if not has_none_of(recorded, machines):
        return anchor
    scaled = anchor * reference / before
    if recorded.metric.better == "higher":
        return max(anchor, scaled)
    return min(anchor, scaled)


def crept(
    anchor: float, reference: float, higher: bool, case: Case, policy: Policy
) -> float:
    """By which fraction it became worse than its anchor; 0 within the first target effect.

    A ratio may creep in either direction: its anchor does not tell which side lost.
    """
    loss = math.log(reference / anchor)
    if higher:
        loss = -loss
    if case.denominator is not None:
        loss = abs(loss)
    if loss <= log_loss(policy.until_established, higher):
        return 0.0
    return fraction_of(loss, higher)


def lost_since(
    case: Case,
    before: Recorded,
    new: Recorded,
    judged: Sequence[tuple[Observation, Verdict]],
    policy: Policy,
) -> tuple[float, str]:
    """The value from which small losses are summed, and how the launches became worse, if they did.

    Args:
        before: what is recorded.
        new: what would be.
        judged: the runs that would be accepted, each with its verdict.
    """
    observations = [observation for observation, _ in judged]
    reference = for_any(new, policy).noise(policy).reference
    if is_worse(before, new, observations, policy):
        return reference, "the new value is worse"
    if any(verdict.outcome is Outcome.IMPROVED for _, verdict in judged):
        return reference, ""
    machines = {observation.machine for observation in observations}
    anchor = anchor_of(before, machines, reference, policy)
    higher = new.metric.better == "higher"
    lost = crept(anchor, reference, higher, case, policy)
    if not lost:
        return anchor, ""
    return anchor, (
        f"step by step it became worse by {formatting.percent(lost)} since it began, more "
        "than is let pass"
    )


def is_worse(
    old: Recorded,
    new: Recorded,
    observations: Sequence[Observation],
    policy: Policy,
) -> bool:
    """Whether a machine's launches became worse by more than half of the threshold: less is noise.

    Args:
        observations: of the runs that would be accepted; they name the machines.
    """
    launches = launches_by_machine(new.metric.launches, new.machines)
    for machine in {observation.machine for observation in observations}:
        own: Sequence[Sample] = launches.get(machine, ())
        if None in launches:
            own = new.metric.launches
        if own and _lost_half(narrow_to(old, machine, policy), own, policy):
            return True
    return False


def _lost_half(
    before: Recorded, samples: Sequence[Sample], policy: Policy
) -> bool:
    """Whether the samples are worse than the baseline by more than half of the threshold."""
    higher = before.metric.better == "higher"
    logs = [math.log(value) for value in values_of(samples)]
    change = statistics.fmean(logs) - before.noise(policy).center
    limit = 0.5 * LINE_SHARE * log_loss(before.metric.target_effect, higher)
    recorded_sides = sides.sides_of(before.metric.launches)
    loss = -change if higher else change
    if recorded_sides:
        moves = sides.moves(sides.sides_of(samples), recorded_sides)
        loss = sides.loss(change, moves, higher, limit / 2)
    return loss > limit
