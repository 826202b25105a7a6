"""Retention: which recorded launches stay in a baseline when new ones are accepted.

Launches that pass join the recorded ones. Where a value moved, the recorded launches of
that machine are dropped, because a mean of before and after describes neither. Launches
of other machines stay, until runs there show whether their values moved too. On a
machine without recorded launches new ones always join: whether the value moved or the
machines differ is unknown there.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from perfgate.judge import ratio as sides
from perfgate.judge.baseline_store import Recorded
from perfgate.judge.machine_scope import (
    has_none_of,
    narrow_to,
    target_effect_of,
)
from perfgate.judge.noise import loss_threshold
from perfgate.judge.observation import Observation
from perfgate.judge.policy import Policy
from perfgate.judge.verdict import Outcome, Verdict
from perfgate.results.samples import (
    Sample,
    in_time_order,
    launches_by_machine,
    sides_of,
    values_of,
)

# Launches of one machine. With 30 the CV is known to 13 %; older ones describe other
# software.
LAUNCHES_KEPT = 30
# Routing: the launch that others are compared with, and the one that shows how far a
# repeat of it is.
REFERENCE_LAUNCHES = 2
JOINS = (
    "joins the recorded launches although the value moved: none of them is of this "
    "machine (--replace drops them)"
)


def retained(
    recorded: Recorded,
    observations: Sequence[Observation],
    verdicts: Sequence[Verdict],
    replace: bool,
) -> tuple[Sequence[Sample], list[str]]:
    """The recorded launches that stay, and notes about those that go.

    Args:
        observations: of the runs that would be accepted.
        verdicts: on each of them, compared with what was recorded.
        replace: whether all recorded launches are dropped.
    """
    launches = recorded.metric.launches
    if replace or recorded.metric.known is not None:
        return (), ["replaces the recorded launches"]
    moved: set[str | None] = set()
    for observation, verdict in zip(observations, verdicts, strict=True):
        has_moved = verdict.outcome in (Outcome.REGRESSED, Outcome.IMPROVED)
        if has_moved or verdict.implausible:
            moved.add(observation.machine)
    if not moved:
        return launches, []
    what = _of_the_model(launches)
    if what:
        return (), [f"replaces the recorded launches: the {what} changed"]
    if has_none_of(recorded, moved):
        return launches, [JOINS]
    remaining = _of_other_machines(recorded, moved)
    note = "replaces the recorded launches: the value moved"
    if remaining:
        note = (
            "replaces the recorded launches of this machine: the value moved; those "
            "of other machines stay"
        )
    return remaining, [note]


def _of_the_model(launches: Iterable[Sample]) -> str:
    """What of the model, whatever the machine, the launches recorded; "" for none of it."""
    for sample in launches:
        if sample.shares is not None:
            return "routing"
        if sample.answers:
            return "answers"
        if sample.facts:
            return "facts"
    return ""


def _of_other_machines(
    recorded: Recorded, moved: set[str | None]
) -> list[Sample]:
    """Recorded launches of known machines on which the value did not move."""
    launches: list[Sample] = []
    if None in moved:
        return launches
    for sample in recorded.metric.launches:
        machine = recorded.machines.get(sample.run)
        if machine is not None and machine not in moved:
            launches.append(sample)
    return launches


def latest(
    samples: Iterable[Sample], machines: Mapping[str, str]
) -> tuple[Sample, ...]:
    """The last launches of each machine, in order of their runs.

    Args:
        machines: run -> machine; launches whose machine is unknown count as those of
            one.
    """
    in_order = in_time_order(samples)
    last: list[Sample] = []
    for launches in launches_by_machine(in_order, machines).values():
        last += launches[-LAUNCHES_KEPT:]
    in_order = in_time_order(last)
    return tuple(_with_reference_requests(in_order))


def _with_reference_requests(samples: Iterable[Sample]) -> list[Sample]:
    """The launches, of which the first two keep answers, facts, or counts by request.

    Later ones pass within the threshold, and must not widen it; and the file stays
    short.
    """
    kept = []
    counts: Counter[str] = Counter()
    for sample in samples:
        for name, shorten in _SHORTENED.items():
            shortened = shorten(sample)
            if shortened != sample:
                counts[name] += 1
            if counts[name] > REFERENCE_LAUNCHES:
                sample = shortened
        kept.append(sample)
    return kept


def _without_facts(sample: Sample) -> Sample:
    return msgspec.structs.replace(sample, facts={})


def _without_answers(sample: Sample) -> Sample:
    return msgspec.structs.replace(sample, answers=())


def _without_requests(sample: Sample) -> Sample:
    if sample.shares is None:
        return sample
    shares = msgspec.structs.replace(sample.shares, requests=None)
    return msgspec.structs.replace(sample, shares=shares)


# What only the first launches keep, and a launch without it.
_SHORTENED: Mapping[str, Callable[[Sample], Sample]] = {
    "facts": _without_facts,
    "answers": _without_answers,
    "requests": _without_requests,
}


def is_worse(
    old: Recorded,
    new: Recorded,
    observations: Sequence[Observation],
    policy: Policy,
) -> bool:
    """Whether a machine's launches became worse by more than half of the threshold.

    A smaller loss is noise.

    Args:
        observations: of the runs that would be accepted; they name the machines.
    """
    launches = launches_by_machine(new.metric.launches, new.machines)
    for machine in {observation.machine for observation in observations}:
        samples: Sequence[Sample] = launches.get(machine, ())
        if None in launches:
            samples = new.metric.launches
        if not samples:
            continue
        if _lost_half(narrow_to(old, machine, policy), samples, policy):
            return True
    return False


def _lost_half(
    before: Recorded, samples: Sequence[Sample], policy: Policy
) -> bool:
    """Whether the samples are worse than the baseline by more than half of the threshold."""
    higher = before.metric.better == "higher"
    logs = [math.log(value) for value in values_of(samples)]
    noise = before.noise(policy)
    change = statistics.fmean(logs) - noise.center
    target = target_effect_of(before, policy)
    limit = loss_threshold(target, noise, len(samples), higher) / 2
    recorded_sides = sides_of(before.metric.launches)
    loss = -change if higher else change
    if recorded_sides:
        moves = sides.moves(sides_of(samples), recorded_sides)
        loss = sides.loss(change, moves, higher, limit / 2)
    return loss > limit
