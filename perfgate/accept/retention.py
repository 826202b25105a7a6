"""Retention: which recorded launches stay when new ones are accepted.

Launches that pass join the recorded ones. A value that moved begins anew on
its machine, because a mean of before and after describes neither; launches of other
machines stay, and say themselves whether theirs moved too. On a machine that nothing
was recorded on, new ones join in any case: there it cannot be told whether the value
moved or machines differ, and a fast newcomer is no reason to throw the others away.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from perfgate import formatting
from perfgate.cases import Case
from perfgate.judge import ratio
from perfgate.judge.baseline_schema import LaunchPoint
from perfgate.judge.baseline_store import Recorded
from perfgate.judge.machine_scope import (
    for_any,
    has_none_of,
    launches_by_machine,
    seen_from,
)
from perfgate.judge.observation import Observation
from perfgate.judge.policy import LINE_SHARE, Policy, fraction_of, log_loss
from perfgate.judge.verdict import Outcome, Verdict

# Of a machine. Beyond that the variation is known to 13 %, and what is older describes
# other software.
LAUNCHES_KEPT = 30
JOINS = "joins although it moved: nothing was recorded on this machine (--replace begins anew)"


def kept(
    recorded: Recorded,
    observations: Sequence[Observation],
    verdicts: Sequence[Verdict],
    replace: bool,
) -> tuple[Sequence[LaunchPoint], list[str]]:
    """The recorded launches that stay, and what to know about those that go.

    Args:
        observations: the runs that would be accepted.
        verdicts: on each of them, compared with what was recorded.
        replace: a person wants to begin anew.
    """
    launches = recorded.metric.launches
    if replace or recorded.metric.known is not None:
        return (), ["replaces the recorded launches"]
    moved = set()
    for observation, verdict in zip(observations, verdicts, strict=True):
        if verdict.outcome in (Outcome.REGRESSED, Outcome.IMPROVED):
            moved.add(observation.machine)
    if not moved:
        return launches, []
    if has_none_of(recorded, moved):
        return launches, [JOINS]
    others = []
    if None not in moved:
        machines = recorded.machines
        known = [point for point in launches if point.run in machines]
        others = [point for point in known if machines[point.run] not in moved]
    note = "replaces the recorded launches: the value moved"
    if others:
        note += " there; those of other machines stay"
    return others, [note]


def latest(
    points: Iterable[LaunchPoint], machines: Mapping[str, str]
) -> tuple[LaunchPoint, ...]:
    """The last launches of each machine, in order of their runs.

    Args:
        machines: run -> machine; launches whose machine is unknown count as one
            machine's.
    """
    in_order = sorted(points, key=_place)
    last: list[LaunchPoint] = []
    for launches in launches_by_machine(in_order, machines).values():
        last += launches[-LAUNCHES_KEPT:]
    return tuple(sorted(last, key=_place))


def _place(point: LaunchPoint) -> tuple[str, int]:
    return point.run, point.launch


def anchor_of(
    recorded: Recorded,
    machines: Iterable[str | None],
    reference: float,
    policy: Policy,
) -> float:
    """The value that small losses, each let pass, are compared with together.

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
    with_new = anchor * reference / before
    if recorded.metric.better == "higher":
        return max(anchor, with_new)
    return min(anchor, with_new)


def crept(
    anchor: float,
    reference: float,
    higher: bool,
    case: Case,
    policy: Policy,
) -> float:
    """The loss since the anchor, as a fraction, where it is above the policy's; else 0.

    A ratio may creep to either side: which one lost, its anchor does not tell.
    """
    loss = math.log(reference / anchor)
    if case.over is not None:
        loss = abs(loss)
    elif higher:
        loss = -loss
    if loss > log_loss(policy.until_firm, higher):
        return fraction_of(loss, higher)
    return 0.0


def lost_since(
    case: Case,
    before: Recorded,
    new: Recorded,
    judged: Sequence[tuple[Observation, Verdict]],
    policy: Policy,
) -> tuple[float, str]:
    """The new anchor, and how the launches became worse, if they did.

    Args:
        before: what is recorded. new: what would be.
        judged: the runs that would be accepted, with their verdicts against `before`.
    """
    observations = [observation for observation, _ in judged]
    reference = for_any(new, policy).noise(policy).reference
    if is_worse(
        before,
        new,
        observations,
        policy,
    ):
        return reference, "the new value is worse"
    if any(verdict.outcome is Outcome.IMPROVED for _, verdict in judged):
        return reference, ""
    machines = {observation.machine for observation in observations}
    anchor = anchor_of(
        before,
        machines,
        reference,
        policy,
    )
    lost = crept(
        anchor,
        reference,
        new.metric.better == "higher",
        case,
        policy,
    )
    if not lost:
        return anchor, ""
    loss = formatting.percent(lost)
    return anchor, (
        f"step by step it became worse by {loss} since it began, which is too much"
    )


def is_worse(
    old: Recorded,
    new: Recorded,
    observations: Sequence[Observation],
    policy: Policy,
) -> bool:
    """Whether a machine's launches became worse by more than half of the threshold.

    Less is the noise of a few more launches.

    Args:
        observations: the runs that would be accepted, which tell the machines.
    """
    launches = launches_by_machine(new.metric.launches, new.machines)
    for machine in {observation.machine for observation in observations}:
        own: Sequence[LaunchPoint] | None = launches.get(machine)
        if None in launches:
            own = new.metric.launches
        if own and _lost(seen_from(old, machine, policy), own, policy):
            return True
    return False


def _lost(
    before: Recorded,
    own: Sequence[LaunchPoint],
    policy: Policy,
) -> bool:
    higher = before.metric.better == "higher"
    mean = statistics.fmean(math.log(point.value) for point in own)
    change = mean - before.noise(policy).center
    limit = 0.5 * LINE_SHARE * log_loss(before.metric.delta, higher)
    recorded_sides = ratio.recorded(before.metric.launches)
    loss = -change if higher else change
    if recorded_sides:
        moved = ratio.moves(ratio.recorded(own), recorded_sides)
        loss = ratio.loss(
            change,
            moved,
            higher,
            limit / 2,
        )
    return loss > limit
