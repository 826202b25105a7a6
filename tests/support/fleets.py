"""States and places of a fleet, for tests of its scheduler, driver and merge."""

from __future__ import annotations

from collections.abc import Sequence

from perfgate.fleet.cluster import Host
from perfgate.fleet.scheduler import Place
from perfgate.fleet.state import Begun, Event, Finished, Placed, State, folded
from perfgate.run.units import Unit


def begun(*units: Unit, launches: int = 1, fleet: str = "f1") -> Begun:
    """The beginning of a run of these units."""
    return Begun(
        fleet=fleet,
        arguments=("-m", "gpu"),
        launches=launches,
        units=units,
        unix_s=1.8e9,
    )


def state(
    *units: Unit, launches: int = 1, events: Sequence[Event] = ()
) -> State:
    """A run of these units after these events."""
    return folded([begun(*units, launches=launches), *events])


def placed(task: str, host: str, kind: str = "h200") -> Placed:
    """A launch was given to a host."""
    return Placed(task=task, host=host, kind=kind, unix_s=1.8e9)


def finished(
    task: str, host: str, outcome: str = "measured", seconds: float = 60.0
) -> Finished:
    """An attempt at a launch ended."""
    return Finished(
        task=task, host=host, outcome=outcome, seconds=seconds, unix_s=1.8e9
    )


def host(name: str, gpus: int = 1) -> Host:
    """A host of that name."""
    return Host(id=f"id-{name}", name=name, gpus=gpus, cpus=8)


def place(
    name: str, *units: Unit, gpus: int = 1, kind: str = "h200", **more: object
) -> Place:
    """A host that can measure these units."""
    lacks = {unit.name: () for unit in units}
    return Place(host(name, gpus), kind, lacks, **more)
