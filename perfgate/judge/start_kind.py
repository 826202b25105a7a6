"""Start kind: cold starts are compared with cold ones, and warm with warm.

A first start on a machine compiles, and takes up to three times as long as a later one.
Where the engine says whether it found its compile cache, only starts of the same kind
count, and the threshold is narrower. Of a run with starts of both kinds each kind is
judged by its own, and the worse verdict counts: the second launch of a session finds
what the first one compiled, and says nothing of how long that took.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import msgspec

from perfgate.judge import wording
from perfgate.judge.baseline_store import Recorded
from perfgate.judge.observation import Observation
from perfgate.judge.policy import (
    START_UP,
    START_UP_ALIKE,
    START_UP_COLD,
    Policy,
)
from perfgate.judge.verdict import Decision, Outcome
from perfgate.results.samples import STARTS, counted

# The worst one first; any other comes before them.
_FROM_WORST = (
    Outcome.REGRESSED,
    Outcome.INCONCLUSIVE,
    Outcome.NOT_EXCLUDED,
    Outcome.PASSED,
    Outcome.IMPROVED,
)


def apart(
    baseline: Recorded, observation: Observation, policy: Policy
) -> dict[str, Observation]:
    """Kind -> the starts of that kind, of those that count; all as one where that is enough.

    So it is of other metrics, and where no kind of this run was recorded.
    """
    all_as_one = {"": observation}
    if not _has_kinds(policy):
        return all_as_one
    by_kind: dict[str, Observation] = {}
    starts = counted(observation.samples)
    for kind in sorted({sample.start for sample in starts}):
        same = tuple(row for row in starts if row.start == kind)
        by_kind[kind] = dataclasses.replace(observation, samples=same)
    recorded = {sample.start for sample in baseline.metric.launches} - {""}
    if len(by_kind) < 2 or recorded.isdisjoint(by_kind):
        return all_as_one
    return by_kind


def worst(decisions: Mapping[str, Decision]) -> Decision:
    """The worst one; of several kinds it says what each was.

    No further launch is asked for: these are several.
    """
    if len(decisions) == 1:
        return next(iter(decisions.values()))
    found = min(decisions.values(), key=_rank)
    kinds = [
        f"{kind or wording.START_OF_UNKNOWN_KIND} {decision.outcome}"
        for kind, decision in decisions.items()
    ]
    line = wording.STARTS_APART.format(kinds=", ".join(kinds))
    return msgspec.structs.replace(
        found, details=(*found.details, line), needs_launches=0
    )


def _rank(decision: Decision) -> int:
    if decision.outcome in _FROM_WORST:
        return _FROM_WORST.index(decision.outcome)
    return -1


def alike(
    baseline: Recorded, observation: Observation, policy: Policy
) -> tuple[Recorded, Policy]:
    """The recorded starts of the same kind, and the policy for them.

    Both unchanged for other metrics, and where the kind is unknown or was not recorded.
    """
    if not _has_kinds(policy):
        return baseline, policy
    kinds = {sample.start for sample in observation.samples}
    if len(kinds) != 1:
        return baseline, policy
    (kind,) = kinds
    same = []
    for sample in baseline.metric.launches:
        if kind and sample.start == kind:
            same.append(sample)
    if not same:
        return baseline, policy
    metric = msgspec.structs.replace(
        baseline.metric, launches=tuple(same), floor=START_UP_ALIKE.floor
    )
    alike_policy = _of_one_kind(policy, kind)
    return dataclasses.replace(baseline, metric=metric), alike_policy


def _has_kinds(policy: Policy) -> bool:
    """Whether it is that of a start on GPUs, whatever its ceiling."""
    return dataclasses.replace(policy, fail_over=START_UP.fail_over) == START_UP


def _of_one_kind(policy: Policy, kind: str) -> Policy:
    """The policy of starts of one kind, with the ceiling that a run asks for."""
    found = START_UP_ALIKE
    if kind == STARTS["cold"]:
        found = START_UP_COLD
    if policy.fail_over == START_UP.fail_over:
        return found
    return dataclasses.replace(found, fail_over=policy.fail_over)
