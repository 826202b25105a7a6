"""Forecast: how long a fleet needs for what is open, by its schedule and earlier durations."""

from __future__ import annotations

import dataclasses
import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perfgate.fleet.scheduler import (
    Durations,
    Place,
    filled,
    need_of,
    next_placements,
)
from perfgate.fleet.state import State
from perfgate.run.units import Unit


@dataclass(frozen=True)
class Forecast:
    """How a fleet would work through what is open.

    Attributes:
        end_s: seconds until the last launch ends.
        busy_s: host -> seconds of launches on it.
        waits_s: what units need -> when the last of them begins.
        never: ids of the tasks that no host can measure.
    """

    end_s: float
    busy_s: Mapping[str, float]
    waits_s: Mapping[str, float]
    never: tuple[str, ...]


@dataclass(frozen=True, order=True)
class _Running:
    """A launch that is being made; the first to end is the smallest.

    Attributes:
        host: its id.
    """

    end_s: float
    task: str
    host: str


def forecast(
    state: State, places: Sequence[Place], durations: Durations
) -> Forecast:
    """Play the schedule through, as if each launch took what it took before."""
    state = dataclasses.replace(state, tasks=dict(state.tasks))
    rooms = {place.host.id: place for place in places}
    running: list[_Running] = []  # a heap
    done: set[str] = set()
    now_s = 0.0
    busy_s: dict[str, float] = defaultdict(float)
    waits_s: dict[str, float] = {}
    while True:
        begun = frozenset(done | {launch.task for launch in running})
        placements = next_placements(
            state, begun, list(rooms.values()), durations
        )
        for task, place in placements:
            took_s = durations.of(task.unit, place.kind)
            rooms[place.host.id] = filled(rooms[place.host.id], task.unit)
            launch = _Running(now_s + took_s, task.id, place.host.id)
            heapq.heappush(running, launch)
            busy_s[place.host.name] += took_s
            need = need_of(task.unit)
            waits_s[need] = max(waits_s.get(need, 0.0), now_s)
        if not running:
            break
        ended = heapq.heappop(running)
        now_s = ended.end_s
        done.add(ended.task)
        is_busy = any(launch.host == ended.host for launch in running)
        unit = state.tasks[ended.task].unit
        rooms[ended.host] = _freed(rooms[ended.host], unit, is_busy)
    never = [task.id for task in state.open if task.id not in done]
    return Forecast(now_s, busy_s, waits_s, tuple(never))


def _freed(place: Place, unit: Unit, is_busy: bool) -> Place:
    """The place with one launch less on it.

    Args:
        is_busy: whether others still run there.
    """
    return dataclasses.replace(
        place, busy_gpus=place.busy_gpus - unit.gpu_count, is_busy=is_busy
    )
