"""Machine scope: narrow a baseline to the launches of one machine.

GPUs of one kind differ by more than one of them does from launch to launch: five H200
by 0.7 to 1.9 % in the metrics of one server, launches of one of them by 0.2 to 0.3 %
(docs/gpu-measured.md). So a run is compared with the launches of its own machine, or
with machines as units: whichever noise bound is smaller. How fast other machines are is
then no reason to call this one slow, and their launch-to-launch variation is as good as
its own: where several machines were launched again and again, one launch of the machine
at hand is enough.

On a machine without recorded launches the unit is the machine: each counts once, by the
mean of its launches. Ten launches of one neighbour say no more about an unmeasured
machine than two. What the launches of this run vary by, and such means do not, is added.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Collection, Iterable, Sequence

from perfgate.judge.baseline_store import Recorded
from perfgate.judge.noise import (
    DECISION_LAUNCHES,
    MachinesLaunches,
    pooled_variation,
)
from perfgate.judge.policy import Policy
from perfgate.judge.sessions import effective_sessions, mean_share
from perfgate.results.samples import (
    Sample,
    launches_by_machine,
    mean_of,
    values_of,
)


def narrow_to(
    baseline: Recorded, machine: str | None, policy: Policy
) -> Recorded:
    """The baseline for one machine; unchanged where the machine of any launch is unknown.

    Args:
        machine: which one of its kind, as `Hardware.machine_id` names it; None where it
            is unknown.
    """
    metric = baseline.metric
    by_machine = launches_by_machine(metric.launches, baseline.machines)
    if machine is None or None in by_machine:
        return baseline
    own_launches = by_machine.get(machine, [])
    if len(own_launches) == len(metric.launches):
        return baseline
    machines = _machines_baseline(baseline, by_machine.values())
    if not own_launches:
        return machines
    own = _own_baseline(baseline, machine)
    # One launch of its own may say less than many other machines do.
    if _noise_bound(own, policy) <= _noise_bound(machines, policy):
        return own
    return machines


def _machines_baseline(
    baseline: Recorded, machines: Collection[Sequence[Sample]]
) -> Recorded:
    """Each machine once, by the mean of its launches."""
    shares = []
    for samples in machines:
        sessions = effective_sessions([sample.run for sample in samples])
        shares.append(mean_share(len(samples), sessions))
    launches = MachinesLaunches(
        pooled_variation(machines), statistics.fmean(shares)
    )
    return dataclasses.replace(
        baseline.with_launches(map(_mean_sample, machines)),
        machines_launches=launches,
    )


def _own_baseline(baseline: Recorded, machine: str) -> Recorded:
    """The machine's own launches with the variation of the others."""
    by_machine = launches_by_machine(
        baseline.metric.launches, baseline.machines
    )
    own_launches = by_machine.pop(machine)
    return dataclasses.replace(
        baseline.with_launches(own_launches),
        only_machine=machine,
        elsewhere=pooled_variation(by_machine.values()),
    )


def _noise_bound(baseline: Recorded, policy: Policy) -> float:
    return baseline.noise(policy).noise_bound(DECISION_LAUNCHES)


def target_effect_of(baseline: Recorded, policy: Policy) -> float:
    """The loss to catch, as a fraction: the owner's choice, else the policy's.

    A firm policy bounds the choice.
    """
    chosen = baseline.metric.target_effect
    if chosen is None:
        return policy.smallest
    if policy.firm:
        return max(chosen, policy.smallest)
    return chosen


def detectable(baseline: Recorded, policy: Policy) -> float:
    """Minimum detectable effect of a judgement, as a fraction."""
    higher = baseline.metric.better == "higher"
    mde = baseline.noise(policy).mde(higher)
    return max(target_effect_of(baseline, policy), mde)


def for_any(baseline: Recorded, policy: Policy) -> Recorded:
    """The baseline for a machine without launches in it.

    Launches of one single machine stay as they are.
    """
    by_machine = launches_by_machine(
        baseline.metric.launches, baseline.machines
    )
    if len(by_machine) == 1:
        return baseline
    return narrow_to(baseline, "", policy)


def machine_mdes(baseline: Recorded, policy: Policy) -> dict[str, float]:
    """Machine -> its minimum detectable effect, where its own baseline is established."""
    effects = {}
    by_machine = launches_by_machine(
        baseline.metric.launches, baseline.machines
    )
    for machine in sorted(filter(None, by_machine)):
        narrowed = narrow_to(baseline, machine, policy)
        if narrowed.only_machine and narrowed.noise(policy).established:
            effects[machine] = detectable(narrowed, policy)
    return effects


def has_none_of(baseline: Recorded, machines: Iterable[str | None]) -> bool:
    """Whether it is known that no launch of the baseline ran on any of these machines."""
    by_machine = launches_by_machine(
        baseline.metric.launches, baseline.machines
    )
    candidates = set(machines)
    if None in candidates or None in by_machine:
        return False
    return candidates.isdisjoint(by_machine)


def _mean_sample(samples: Sequence[Sample]) -> Sample:
    """One machine's launches as one, by their geometric means."""
    return Sample(
        run=samples[0].run,
        launch=samples[0].launch,
        value=mean_of(values_of(samples)),
        numerator=_mean(sample.numerator for sample in samples),
        denominator=_mean(sample.denominator for sample in samples),
    )


def _mean(sides: Iterable[float | None]) -> float | None:
    values = [value for value in sides if value is not None]
    if not values:
        return None
    return mean_of(values)
