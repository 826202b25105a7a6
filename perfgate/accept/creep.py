"""Creep: small losses that pass one by one and add up, found when runs are accepted.

Two checks, each per machine where machines are known. The anchor is the value when
launches were accepted as a beginning or for a reason: the newest launches must not be
worse by more than the allowed creep. The mean of all launches would lag by half of the
way. And the series of all accepted runs must show no change point or trend towards
worse (`perfgate.accept.change_points`) that no reason covers.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from perfgate import formatting
from perfgate.accept.change_points import MAX_P, Worsening, worsening
from perfgate.accept.retention import is_worse
from perfgate.cases import Case
from perfgate.judge import answer_shift
from perfgate.judge import ratio as sides
from perfgate.judge.baseline_schema import MetricBaseline
from perfgate.judge.baseline_store import Recorded
from perfgate.judge.machine_scope import for_any, has_none_of, narrow_to
from perfgate.judge.noise import fraction_of, log_loss, loss_of
from perfgate.judge.observation import Observation
from perfgate.judge.policy import Policy
from perfgate.judge.routing_shift import SHARES
from perfgate.judge.verdict import Outcome, Verdict
from perfgate.judge.wording import RUN
from perfgate.results.samples import (
    Sample,
    in_time_order,
    launches_by_machine,
    mean_of,
    sides_of,
    values_of,
)

# Launches that say where a machine is now.
NEWEST = 3
# Metrics of the model, and what happened to it where they regressed.
_OF_THE_MODEL = {
    SHARES: "its tokens go to other experts",
    answer_shift.METRIC: "the model answers otherwise",
}

JudgedRuns = Sequence[tuple[Observation, Verdict]]
Machine = str | None  # None: unknown


@dataclass(frozen=True)
class Anchors:
    """The values with which small losses are compared as a sum.

    Attributes:
        value: of all machines.
        by_machine: of each known one.
    """

    value: float
    by_machine: Mapping[str, float] = field(default_factory=dict)


def begun(
    metric: MetricBaseline, machines: Mapping[str, str], count: int | None
) -> Anchors:
    """The anchors of a beginning: the newest `count` launches, None for all."""
    values = machine_values(metric.launches, machines, count)
    return Anchors(mean_of(values.values()), _known(values))


def machine_values(
    samples: Iterable[Sample],
    machines: Mapping[str, str],
    count: int | None = NEWEST,
) -> dict[Machine, float]:
    """Machine -> geometric mean of its newest launches.

    Where the machine of any launch is unknown, all count as those of one.

    Args:
        machines: run -> machine.
        count: launches of each machine; None for all.
    """
    values = {}
    for machine, launches in _series_by_machine(samples, machines).items():
        first = 0
        if count is not None:
            first = -count
        values[machine] = mean_of(values_of(launches[first:]))
    return values


def _series_by_machine(
    samples: Iterable[Sample], machines: Mapping[str, str]
) -> dict[Machine, list[Sample]]:
    """Machine -> its launches in order of time; None -> all, where any is unknown."""
    launches = in_time_order(samples)
    by_machine = launches_by_machine(launches, machines)
    if None in by_machine:
        return {None: launches}
    return by_machine


def _known(values: Mapping[Machine, float]) -> dict[str, float]:
    known = {}
    for machine, value in values.items():
        if machine is not None:
            known[machine] = value
    return known


def lost_since(
    case: Case,
    before: Recorded,
    new: Recorded,
    judged_runs: JudgedRuns,
    policy: Policy,
) -> tuple[Anchors, str]:
    """The anchors, and why the new launches are worse.

    Returns:
        the anchors; and how the launches became worse, "" if they did not.

    Args:
        before: what is recorded.
        new: what would be.
        judged_runs: those that would be accepted, each with its verdict.
    """
    observations = [observation for observation, _ in judged_runs]
    if case.metric in _OF_THE_MODEL and _has_regression(judged_runs):
        anchors = begun(new.metric, new.machines, NEWEST)
        return anchors, _OF_THE_MODEL[case.metric]
    if is_worse(before, new, observations, policy):
        anchors = begun(new.metric, new.machines, NEWEST)
        return anchors, "the new value is worse"
    values = machine_values(new.metric.launches, new.machines)
    anchors = _carried(before, values, judged_runs, policy)
    measured = {observation.machine for observation in observations}
    command = _command(case)
    for machine, value in values.items():
        if machine is not None and machine not in measured:
            continue
        anchor = anchors.value
        if machine is not None:
            anchor = anchors.by_machine[machine]
        narrowed = narrow_to(new, machine, policy)
        lost = _beyond_limit(anchor, value, case, narrowed, policy)
        if lost:
            text = _since_anchor(machine, lost)
            return anchors, f"{text} ({command})"
    # A machine that joins may hide the loss in its own level.
    reference = mean_of(values.values())
    lost = _beyond_limit(anchors.value, reference, case, new, policy)
    if lost:
        text = _since_anchor(None, lost)
        return anchors, f"{text} ({command})"
    return anchors, ""


def _has_regression(judged_runs: JudgedRuns) -> bool:
    return any(row.outcome is Outcome.REGRESSED for _, row in judged_runs)


def _command(case: Case) -> str:
    """What accepts the runs all the same; who knows their folders puts them in."""
    return f"`perfgate accept {RUN} --only '{case.id}' --reason WHY`"


def _since_anchor(machine: Machine, lost: tuple[float, float]) -> str:
    loss, limit = map(formatting.percent, lost)
    where = ""
    if machine is not None:
        where = f" on {machine}"
    return (
        f"step by step it became worse by {loss}{where} since its first launches: the "
        f"newest {NEWEST} launches decide, and {limit} may add up without a reason"
    )


def _carried(
    before: Recorded,
    values: Mapping[Machine, float],
    judged_runs: JudgedRuns,
    policy: Policy,
) -> Anchors:
    """The recorded anchors, with those of machines that joined or improved.

    A gain raises an anchor and never lowers it: one that wins back a part of what was
    lost excuses no further loss. A ratio's anchor follows it either way.

    A machine without an anchor starts as far below its own as the recorded machines lie
    below theirs.

    Args:
        values: machine -> its newest launches.
    """
    metric = before.metric
    old_values = machine_values(metric.launches, before.machines)
    recorded_anchor = metric.anchor
    if recorded_anchor is None:
        recorded_anchor = for_any(before, policy).noise(policy).reference
    scale = recorded_anchor / mean_of(old_values.values())
    improved = set()
    for observation, verdict in judged_runs:
        if verdict.outcome is Outcome.IMPROVED:
            improved.add(observation.machine)
    by_machine = dict(metric.anchors)
    for machine, value in _known(values).items():
        if machine not in by_machine:
            by_machine[machine] = scale * old_values.get(machine, value)
        if machine in improved:
            by_machine[machine] = _raised(by_machine[machine], value, before)
    reference = mean_of(values.values())
    machines = [observation.machine for observation, _ in judged_runs]
    value = anchor_of(before, machines, reference, policy)
    if improved:
        value = _raised(value, reference, before)
    return Anchors(value, by_machine)


def _raised(anchor: float, value: float, recorded: Recorded) -> float:
    """The better one of an anchor and an improved value; of a ratio the value."""
    if sides_of(recorded.metric.launches):
        return value
    if recorded.metric.better == "higher":
        return max(anchor, value)
    return min(anchor, value)


def anchor_of(
    recorded: Recorded,
    machines: Iterable[str | None],
    reference: float,
    policy: Policy,
) -> float:
    """The value with which the sum of losses of all machines is compared.

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


def _beyond_limit(
    anchor: float, value: float, case: Case, new: Recorded, policy: Policy
) -> tuple[float, float] | None:
    """The loss since the anchor and the allowed creep, as fractions; None within it.

    A ratio may creep in either direction: its anchor does not say which side lost.
    """
    higher = new.metric.better == "higher"
    loss = loss_of(value, anchor, higher)
    if case.is_ratio:
        loss = abs(loss)
    bound = new.noise(policy).noise_bound(NEWEST)
    limit = max(log_loss(policy.fail_over, higher), bound)
    if loss <= limit:
        return None
    return fraction_of(loss, higher), fraction_of(limit, higher)


def unexplained_change(
    case: Case,
    new: Recorded,
    observations: Sequence[Observation],
    reasons: Mapping[str, str],
    policy: Policy,
) -> str:
    """A change point or trend towards worse that no reason covers; "" without one.

    Args:
        new: what would be recorded.
        observations: of the runs that would be accepted.
        reasons: run -> why it was accepted. Runs of another reason begin a segment.
    """
    machines = {observation.machine for observation in observations}
    series = _series_by_machine(new.metric.launches, new.machines)
    for machine, launches in series.items():
        if machine is not None and machine not in machines:
            continue
        segment = _since_reason(launches, reasons)
        change = _change_of(case, new.metric, segment, policy)
        if change is not None:
            higher = new.metric.better == "higher"
            text = _described(change, list(segment), higher, machine)
            return f"{text} ({_command(case)})"
    return ""


def _since_reason(
    launches: Sequence[Sample], reasons: Mapping[str, str]
) -> dict[str, list[Sample]]:
    """Run -> its launches, from the first run on that has the last reason."""
    segment: dict[str, list[Sample]] = defaultdict(list)
    earlier = ""
    for sample in launches:
        reason = reasons.get(sample.run, "")
        if reason and reason != earlier:
            segment.clear()
        earlier = reason
        segment[sample.run].append(sample)
    return segment


def _change_of(
    case: Case,
    metric: MetricBaseline,
    segment: Mapping[str, Sequence[Sample]],
    policy: Policy,
) -> Worsening | None:
    """The change of one machine; of a ratio in the direction in which a side lost."""
    higher = metric.better == "higher"
    smallest = log_loss(policy.smallest, higher)
    losses = []
    for launches in segment.values():
        logs = [math.log(value) for value in values_of(launches)]
        mean = statistics.fmean(logs)
        if higher:
            mean = -mean
        losses.append(mean)
    change = worsening(losses, smallest)
    if not case.is_ratio:
        return change
    if change is None:
        gains = [-loss for loss in losses]
        change = worsening(gains, smallest)
    if change is None or case.two_sided:
        return change
    if _is_gain(change, list(segment.values()), higher, smallest):
        return None
    return change


def _is_gain(
    change: Worsening,
    runs: Sequence[Sequence[Sample]],
    higher: bool,
    smallest: float,
) -> bool:
    """Whether a ratio changed because one of its sides gained and none lost."""
    middle = change.index
    if change.kind == "trend":
        middle = len(runs) // 2
    earlier: list[Sample] = []
    for launches in runs[:middle]:
        earlier += launches
    later: list[Sample] = []
    for launches in runs[middle:]:
        later += launches
    moved = sides.moves(sides_of(later), sides_of(earlier))
    tolerance = smallest / 4
    return sides.loss(change.loss, moved, higher, tolerance) < 0


def _described(
    change: Worsening, runs: Sequence[str], higher: bool, machine: Machine
) -> str:
    """What changed, since which run, by how much, and the number that decided."""
    loss = formatting.percent(fraction_of(change.loss, higher))
    where = ""
    if machine is not None:
        where = f" on {machine}"
    number = f"p = {change.p_value:.1g}, limit {MAX_P:g}"
    first = runs[change.index]
    count = len(runs) - change.index
    if change.kind == "trend":
        return (
            f"it became worse by {loss}{where} over {count} runs since {first}: a "
            f"trend ({number})"
        )
    return (
        f"it is worse by {loss}{where} since run {first}, in "
        f"{formatting.count(count, 'run')} of {len(runs)}: a step ({number})"
    )
