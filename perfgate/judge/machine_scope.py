"""Which of the recorded launches say what is usual on this very machine?

GPUs of one kind differ by more than one of them does from launch to launch: five H200
by 0.7 to 1.9 % in the figures of one server, launches of one of them by 0.2 to 0.3 %
(docs/gpu-measured.md). So a run is held against the launches of its own machine where
there are any to speak of, and the others, however fast they are, are no reason to call
it slow. But how much launches of one machine scatter they tell as well as its own do:
where several were launched again and again, one launch of the machine at hand will do.
On a machine that has none the unit is the machine: each counts once, by the mean of its
launches, because ten launches of one neighbour say no more of a machine that nobody
measured than two.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from perfgate.judge.baseline_schema import LaunchPoint
from perfgate.judge.baseline_store import Recorded
from perfgate.judge.policy import Policy, promised_delta, scatter_of

# Where others do not tell how launches scatter: two launches of a machine detect less
# than three other machines and it as a fourth, of losses of 5 % none where these find a
# half; from three on it is the other way round.
OWN_LAUNCHES = 3


def seen_from(baseline: Recorded, machine: str | None, policy: Policy) -> Recorded:
    """The baseline as it is for that machine; as it is for all where that is not known of every launch.

    A known regression stays with the launches that it was accepted beside.

    Args:
        machine: which one of its kind, as `Hardware.machine_id` names it; None where
            nothing tells.
    """
    metric = baseline.metric
    by_machine = launches_by_machine(metric.launches, baseline.machines)
    own = by_machine.get(machine, [])
    if (
        machine is None
        or None in by_machine
        or metric.known is not None
        or len(own) == len(metric.launches)
    ):
        return baseline
    if own:
        elsewhere = scatter_of(
            launches for name, launches in by_machine.items() if name != machine
        )
        mine = dataclasses.replace(
            baseline.with_launches(own), only_machine=machine, elsewhere=elsewhere
        )
        noise = mine.noise(policy)
        if noise.firm or len(own) >= OWN_LAUNCHES:
            delta = promised_delta(noise, policy, metric.better == "higher")
            return dataclasses.replace(
                mine, metric=msgspec.structs.replace(mine.metric, delta=delta)
            )
    machines = baseline.with_launches(map(_together, by_machine.values()))
    return dataclasses.replace(machines, counted_machines=len(by_machine))


def for_any(baseline: Recorded, policy: Policy) -> Recorded:
    """The baseline as it is for a machine that has no launches in it; launches of one machine stand for that one."""
    is_one = len(launches_by_machine(baseline.metric.launches, baseline.machines)) == 1
    return baseline if is_one else seen_from(baseline, "", policy)


def launches_by_machine(
    launches: Iterable[LaunchPoint], machines: Mapping[str, str]
) -> dict[str | None, list[LaunchPoint]]:
    """Which launches were on which machine; None for those of which that is not known.

    Args:
        machines: run -> machine.
    """
    found: dict[str | None, list[LaunchPoint]] = defaultdict(list)
    for point in launches:
        found[machines.get(point.run)].append(point)
    return dict(found)


def promises(baseline: Recorded, policy: Policy) -> dict[str, float]:
    """What is promised to be caught on each machine that has a firm baseline of its own among others, as a fraction."""
    found = {}
    for machine in sorted(
        filter(None, launches_by_machine(baseline.metric.launches, baseline.machines))
    ):
        mine = seen_from(baseline, machine, policy)
        if mine.only_machine and mine.noise(policy).firm:
            found[machine] = mine.metric.delta
    return found


def has_none_of(baseline: Recorded, machines: Iterable[str | None]) -> bool:
    """Whether it is known that no launch of the baseline ran on any of these machines."""
    asked, recorded = (
        set(machines),
        set(launches_by_machine(baseline.metric.launches, baseline.machines)),
    )
    return None not in asked | recorded and asked.isdisjoint(recorded)


def _together(launches: Sequence[LaunchPoint]) -> LaunchPoint:
    """One machine's launches as one."""
    return LaunchPoint(
        run=launches[0].run,
        launch=launches[0].launch,
        value=statistics.geometric_mean(point.value for point in launches),
        of=_mean(point.of for point in launches),
        over=_mean(point.over for point in launches),
    )


def _mean(sides: Iterable[float | None]) -> float | None:
    values = [value for value in sides if value is not None]
    return statistics.geometric_mean(values) if values else None
