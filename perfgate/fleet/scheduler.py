"""Scheduler: which launch of a fleet goes to which host next; pure.

The longest goes first (LPT), for what is begun last decides the end. A unit's launches
spread over as many machines as possible: one machine says little about the others. A
launch that failed goes to another host.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from perfgate.fleet.cluster import Host
from perfgate.fleet.state import State, Task
from perfgate.machine.products import is_of
from perfgate.run.units import Unit

# Where no earlier run knows better: for the order and the plan alone.
GUESS_S = 600.0
NOT_SELECTED = "its copy of the project does not select it"


@dataclass(frozen=True)
class Place:
    """A host as a unit list of it knows it.

    Attributes:
        kind: of its machine: "h200", "cpu".
        lacks: unit -> what is missing there; a unit that is absent is not selected.
        busy_gpus: given to running launches. is_busy: whether there is any.
    """

    host: Host
    kind: str
    lacks: Mapping[str, tuple[str, ...]]
    busy_gpus: int = 0
    is_busy: bool = False

    def can_ever(self, unit: Unit) -> bool:
        """Whether it could measure the unit if it were free."""
        if self.lacks.get(unit.name, (NOT_SELECTED,)):
            return False
        if not unit.gpu_count:
            return True
        is_product = unit.gpu is None or is_of(self.kind, unit.gpu)
        return is_product and self.host.gpus >= unit.gpu_count

    def can_now(self, unit: Unit) -> bool:
        """Whether it has room for the unit.

        What needs no GPU needs the whole host: the client and the server are its load.
        """
        if not self.can_ever(unit):
            return False
        if not unit.gpu_count:
            return not self.is_busy
        if self.is_busy and not self.busy_gpus:
            return False
        return self.host.gpus - self.busy_gpus >= unit.gpu_count


@dataclass(frozen=True)
class Durations:
    """How long a launch of a unit took, by unit and kind of machine.

    Attributes:
        seconds: (unit, kind) -> seconds.
    """

    seconds: Mapping[tuple[str, str], float]

    def of(self, unit: Unit, kind: str) -> float:
        """On that kind, else on any, else by how many servers it has."""
        if (unit.name, kind) in self.seconds:
            return self.seconds[unit.name, kind]
        others = [
            s for (name, _), s in self.seconds.items() if name == unit.name
        ]
        if others:
            return statistics.fmean(others)
        return GUESS_S * max(1, len(unit.servers))

    def is_known(self, unit: Unit) -> bool:
        """Whether an earlier run measured the unit."""
        return any(name == unit.name for name, _ in self.seconds)


def durations_of(states: Iterable[State]) -> Durations:
    """Medians over the launches of some runs."""
    rows: dict[tuple[str, str], list[float]] = defaultdict(list)
    for state in states:
        for task in state.measured:
            rows[task.unit.name, task.kind].append(task.seconds)
    return Durations({key: statistics.median(row) for key, row in rows.items()})


def next_placements(
    state: State,
    running: frozenset[str],
    places: Sequence[Place],
    durations: Durations,
) -> list[tuple[Task, Place]]:
    """What can begin now, the longest first; each place is filled as it is given.

    Args:
        running: ids of the tasks that run already.
        places: of all hosts, with what runs on them.
    """
    waiting = [task for task in state.open if task.id not in running]
    longest_s = _longest_s(waiting, places, durations)
    waiting.sort(key=lambda task: (-longest_s[task.unit.name], task.id))
    return _placed(waiting, _Rooms(places, _launches(state)))


class _Rooms:
    """The places that still have room, while they are given away."""

    def __init__(
        self, places: Sequence[Place], launches: Mapping[str, Counter[str]]
    ) -> None:
        self._places = {place.host.id: place for place in places}
        self._launches = launches
        self._full_for: set[str] = set()

    def take(self, task: Task) -> Place | None:
        """The best place for a task, which is filled; None if it must wait."""
        unit = task.unit
        if unit.name in self._full_for:
            return None
        free = [row for row in self._places.values() if row.can_now(unit)]
        if not free:
            self._full_for.add(unit.name)
        free = [row for row in free if row.host.name not in task.failed_on]
        if not free:
            return None
        best = min(free, key=lambda place: self._preference(task, place))
        self._launches[unit.name][best.host.name] += 1
        self._places[best.host.id] = filled(best, unit)
        return best

    def _preference(
        self, task: Task, place: Place
    ) -> tuple[bool, bool, int, int, str]:
        """Where it was begun; then where the unit had fewest launches."""
        name = place.host.name
        had = self._launches[task.unit.name][name]
        is_elsewhere = bool(task.host) and task.host != name
        was_lost = name in task.lost_on
        return was_lost, is_elsewhere, had, place.busy_gpus, name


def _placed(waiting: Iterable[Task], rooms: _Rooms) -> list[tuple[Task, Place]]:
    placements = []
    for task in waiting:
        place = rooms.take(task)
        if place is not None:
            placements.append((task, place))
    return placements


def _launches(state: State) -> Mapping[str, Counter[str]]:
    """Unit -> host -> its launches so far, those that run included."""
    launches: dict[str, Counter[str]] = defaultdict(Counter)
    for task in state.tasks.values():
        if task.host:
            launches[task.unit.name][task.host] += 1
    return launches


def _longest_s(
    tasks: Iterable[Task], places: Iterable[Place], durations: Durations
) -> dict[str, float]:
    """Unit -> its seconds on the slowest kind that can measure it."""
    units = {task.unit.name: task.unit for task in tasks}
    by_kind = {place.kind: place for place in places}
    longest_s = {}
    for name, unit in units.items():
        seconds = [durations.of(unit, kind) for kind in by_kind]
        longest_s[name] = max(seconds, default=GUESS_S)
    return longest_s


def filled(place: Place, unit: Unit) -> Place:
    """The place with one more launch on it."""
    return dataclasses.replace(
        place, busy_gpus=place.busy_gpus + unit.gpu_count, is_busy=True
    )


def impossible(
    state: State, places: Sequence[Place]
) -> dict[str, dict[str, list[str]]]:
    """Unit -> what is missing -> hosts, for open units that no host here can measure."""
    missing: dict[str, dict[str, list[str]]] = {}
    units = {task.unit.name: task.unit for task in state.open}
    for name, unit in units.items():
        if any(place.can_ever(unit) for place in places):
            continue
        reasons: dict[str, list[str]] = defaultdict(list)
        for place in places:
            for reason in _reasons(place, unit):
                reasons[reason].append(place.host.name)
        missing[name] = dict(reasons)
    return missing


def _reasons(place: Place, unit: Unit) -> Sequence[str]:
    reasons = place.lacks.get(unit.name, (NOT_SELECTED,))
    if reasons:
        return reasons
    return [f"needs {unit.gpu_count}x {unit.gpu or 'GPU'}, found {place.kind}"]


def need_of(unit: Unit) -> str:
    """What a unit waits for: "2x h200", "a CPU host"."""
    if not unit.gpu_count:
        return "a CPU host"
    return f"{unit.gpu_count}x {unit.gpu or 'GPU'}"
