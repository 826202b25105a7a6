"""Start kind: cold starts are compared with cold ones, and warm with warm.

A first start on a machine compiles, and takes up to three times as long as a later one.
Where the engine says whether it found its compile cache, only starts of the same kind
count, and the threshold is narrower.
"""

from __future__ import annotations

import dataclasses

import msgspec

from perfgate.judge.baseline_store import Recorded
from perfgate.judge.observation import Observation
from perfgate.judge.policy import START_UP, START_UP_ALIKE, Policy


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
    return dataclasses.replace(baseline, metric=metric), _of_one_kind(policy)


def _has_kinds(policy: Policy) -> bool:
    """Whether it is that of a start on GPUs, whatever its ceiling."""
    return dataclasses.replace(policy, fail_over=START_UP.fail_over) == START_UP


def _of_one_kind(policy: Policy) -> Policy:
    """The policy of starts of one kind, with the ceiling that a run asks for."""
    if policy.fail_over == START_UP.fail_over:
        return START_UP_ALIKE
    return dataclasses.replace(START_UP_ALIKE, fail_over=policy.fail_over)
