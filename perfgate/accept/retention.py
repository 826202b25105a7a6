"""Which recorded launches stay when new ones come?

Launches that pass beside the recorded ones join them. A value that moved begins anew on
its machine, because a mean of before and after describes neither; launches of other
machines stay, and say themselves whether theirs moved too. On a machine that nothing
was recorded on, new ones join in any case: there it cannot be told whether the value
moved or machines differ, and a fast newcomer is no reason to throw the others away.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from perfgate import formatting as wording
from perfgate.cases import Case
from perfgate.judge import ratio as sides
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

# of a machine; beyond that the spread is known to 13 %, and what is older describes
# other software
LAUNCHES_KEPT = 30


def kept(
    recorded: Recorded,
    seen: Sequence[Observation],
    verdicts: Sequence[Verdict],
    replace: bool,
) -> tuple[Sequence[LaunchPoint], list[str]]:
    """The recorded launches that stay beside the new ones, and what to know about those that go.

    Args:
        seen: the runs that would be taken over.
        verdicts: on each of them, beside what was recorded.
        replace: a person wants to begin anew.
    """
    launches = recorded.metric.launches
    if replace or recorded.metric.known is not None:
        return (), ["replaces the recorded launches"]
    moved = {
        observation.machine
        for observation, verdict in zip(seen, verdicts, strict=True)
        if verdict.outcome in (Outcome.REGRESSED, Outcome.IMPROVED)
    }
    if not moved:
        return launches, []
    if has_none_of(recorded, moved):
        return launches, [
            "joins although it moved: nothing was recorded on this machine (--replace begins anew)"
        ]
    known = recorded.machines
    others = [
        p
        for p in launches
        if None not in moved and p.run in known and known[p.run] not in moved
    ]
    there = " there; those of other machines stay" if others else ""
    return others, [f"replaces the recorded launches: the value moved{there}"]


def latest(
    points: Iterable[LaunchPoint], machines: Mapping[str, str]
) -> tuple[LaunchPoint, ...]:
    """The last launches of each machine, in order of their runs.

    Args:
        machines: run -> machine; launches of which it is not known count as those of
            one.
    """
    in_order = sorted(points, key=_place)
    last = [
        launches[-LAUNCHES_KEPT:]
        for launches in launches_by_machine(in_order, machines).values()
    ]
    return tuple(sorted(itertools.chain(*last), key=_place))


def _place(point: LaunchPoint) -> tuple[str, int]:
    return point.run, point.launch


def anchor_of(
    recorded: Recorded, machines: Iterable[str | None], reference: float, policy: Policy
) -> float:
    """The value that small losses, each let pass, are held against together.

    Where better machines join, it moves with the mean of all; where worse ones do, it
    stays.

    Args:
        machines: of the runs that would be taken over.
        reference: the baseline's value with them.
    """
    before = for_any(recorded, policy).noise(policy).reference
    anchor = recorded.metric.anchor or before
    if not has_none_of(recorded, machines):
        return anchor
    better = max if recorded.metric.better == "higher" else min
    return better(anchor, anchor * reference / before)


def crept(
    anchor: float, reference: float, higher: bool, case: Case, policy: Policy
) -> float:
    """By which fraction it became worse than its anchor, where that is more than a new baseline promises; else 0.

    A ratio may creep to either side: which one lost, its anchor does not tell.
    """
    loss = math.log(reference / anchor) * (-1 if higher else 1)
    loss = abs(loss) if case.over is not None else loss
    return (
        fraction_of(loss, higher) if loss > log_loss(policy.until_firm, higher) else 0.0
    )


def lost_since(
    case: Case,
    before: Recorded,
    new: Recorded,
    judged: Sequence[tuple[Observation, Verdict]],
    policy: Policy,
) -> tuple[float, str]:
    """The value that losses are counted from together, and how the launches became worse, if they did.

    Args:
        before: what is recorded. new: what would be.
        judged: the runs that would be taken over, each beside what is recorded.
    """
    seen = [observation for observation, _ in judged]
    reference = for_any(new, policy).noise(policy).reference
    if is_worse(before, new, seen, policy):
        return reference, "the new value is worse"
    if any(verdict.outcome is Outcome.IMPROVED for _, verdict in judged):
        return reference, ""
    anchor = anchor_of(
        before, {observation.machine for observation in seen}, reference, policy
    )
    if lost := crept(anchor, reference, new.metric.better == "higher", case, policy):
        return (
            anchor,
            (
                f"step by step it became worse by {wording.percent(lost)} since it "
                "began, more than is let pass"
            ),
        )
    return anchor, ""


def is_worse(
    old: Recorded, new: Recorded, seen: Sequence[Observation], policy: Policy
) -> bool:
    """Whether a machine's launches became worse by more than half of the alarm line: less is noise of a few more.

    Args:
        seen: the runs that would be taken over, which tell the machines.
    """
    higher = old.metric.better == "higher"
    launches = launches_by_machine(new.metric.launches, new.machines)
    for machine in {observation.machine for observation in seen}:
        before = seen_from(old, machine, policy)
        own = new.metric.launches if None in launches else launches.get(machine)
        if not own:
            continue
        change = (
            statistics.fmean(math.log(point.value) for point in own)
            - before.noise(policy).center
        )
        limit = 0.5 * LINE_SHARE * log_loss(before.metric.delta, higher)
        then = sides.recorded(before.metric.launches)
        loss = -change if higher else change
        if then:
            loss = sides.loss(
                change, sides.moves(sides.recorded(own), then), higher, limit / 2
            )
        if loss > limit:
            return True
    return False
