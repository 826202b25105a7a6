"""State of a fleet's run: an append-only file of events, and what they add up to.

``fleet.jsonl`` in the run directory has a line for each event. A driver that is killed
loses none that was written; the next one folds them again (`--resume`).
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from perfgate.errors import Failure, describe_error
from perfgate.files import RunDataError, append, read_bounded
from perfgate.fleet.tagged import Tagged
from perfgate.run.units import Unit

FILE = "fleet.jsonl"
PARTS = "parts"  # a run directory for each launch
MACHINES = "machines"  # a run for each machine
# Of one launch that fail, and as many that are lost with their hosts: each next one is
# made on another host.
MOST_ATTEMPTS = 2

Outcome = Literal["measured", "failed", "lost", "stopped"]


class OtherFleet(Failure):
    """The run directory holds a run of other arguments."""


class Begun(Tagged, frozen=True, kw_only=True):
    """A driver began, or went on.

    Attributes:
        fleet: id of the run. arguments: of pytest.
        launches: of each unit.
    """

    fleet: str
    arguments: tuple[str, ...]
    launches: int
    units: tuple[Unit, ...]
    unix_s: float


class Placed(Tagged, frozen=True, kw_only=True):
    """A launch was given to a host.

    Attributes:
        host: its name. kind: of its machine, "h200".
    """

    task: str
    host: str
    kind: str
    unix_s: float


class Finished(Tagged, frozen=True, kw_only=True):
    """An attempt at a launch ended.

    Attributes:
        outcome: "measured"; "failed" by itself; "lost" with its host; "stopped" by the
            driver, which is no attempt.
        machine: that it was measured on.
        reason: why it was not measured.
    """

    task: str
    host: str
    outcome: Outcome
    seconds: float
    unix_s: float
    machine: str = ""
    reason: str = ""


class Twice(Tagged, frozen=True, kw_only=True):
    """A host that was lost has measured a launch as well; that one does not count."""

    task: str
    host: str
    folder: str


Event = Begun | Placed | Finished | Twice
_EVENT = msgspec.json.Decoder(Event)


@dataclass(frozen=True)
class Task:
    """One launch of each server of a unit, in one session.

    Attributes:
        id: "u02-l001", the name of its folder.
        attempts: how those that counted ended, by host.
        host: where it is measured now, or was when its driver ended; "" for nowhere.
        is_measured: whether its results are here.
        kind: of that host. machine: that measured it.
    """

    id: str
    unit: Unit
    attempts: tuple[Finished, ...] = ()
    host: str = ""
    is_measured: bool = False
    kind: str = ""
    machine: str = ""
    seconds: float = 0.0

    @property
    def is_given_up(self) -> bool:
        """Whether it was not measured, and is not tried again."""
        counts = Counter(row.outcome for row in self.attempts)
        most = max(counts.values(), default=0)
        return not self.is_measured and most >= MOST_ATTEMPTS

    @property
    def is_open(self) -> bool:
        """Whether it is still to be measured."""
        return not (self.is_measured or self.is_given_up)

    @property
    def failed_on(self) -> frozenset[str]:
        """Hosts on which it is not tried again."""
        return self._hosts_of("failed")

    @property
    def lost_on(self) -> frozenset[str]:
        """Hosts that died with it; one that came back is the last choice."""
        return self._hosts_of("lost")

    def _hosts_of(self, outcome: Outcome) -> frozenset[str]:
        hosts = [row.host for row in self.attempts if row.outcome == outcome]
        return frozenset(hosts)


@dataclass(frozen=True)
class State:
    """What the events of a run add up to.

    Attributes:
        tasks: by id, in the order of their units.
        twice: measured by a host that was lost, too.
        sessions: drivers that began.
    """

    begun: Begun
    tasks: Mapping[str, Task] = field(default_factory=dict)
    twice: tuple[Twice, ...] = ()
    sessions: int = 1

    @property
    def open(self) -> list[Task]:
        """The tasks that are still to be measured."""
        return [task for task in self.tasks.values() if task.is_open]

    @property
    def measured(self) -> list[Task]:
        """The tasks whose results are here."""
        return [task for task in self.tasks.values() if task.is_measured]

    @property
    def given_up(self) -> list[Task]:
        """The tasks that no host could measure."""
        return [task for task in self.tasks.values() if task.is_given_up]


def tasks_of(begun: Begun) -> dict[str, Task]:
    """The tasks of a run, launch by launch: each unit has its first before any second."""
    tasks = {}
    for launch in range(1, begun.launches + 1):
        for number, unit in enumerate(begun.units, 1):
            name = f"u{number:02d}-l{launch:03d}"
            tasks[name] = Task(id=name, unit=unit)
    return tasks


def folded(events: Iterable[Event]) -> State:
    """The state after these events.

    Raises:
        ValueError: the first one is not the beginning.
    """
    state: State | None = None
    for event in events:
        if state is None:
            if not isinstance(event, Begun):
                raise ValueError(
                    "the first event is not the beginning of a run"
                )
            state = State(begun=event, tasks=tasks_of(event))
        else:
            state = after(state, event)
    if state is None:
        raise ValueError("there is no event")
    return state


def after(state: State, event: Event) -> State:
    """The state after one more event."""
    match event:
        case Begun():
            return dataclasses.replace(state, sessions=state.sessions + 1)
        case Placed(task=name, host=host, kind=kind):
            return _with(state, name, host=host, kind=kind)
        case Finished(outcome="stopped"):
            return state
        case Finished(task=name, outcome="measured", seconds=seconds):
            return _with(
                state,
                name,
                is_measured=True,
                machine=event.machine,
                seconds=seconds,
            )
        case Finished(task=name):
            attempts = (*state.tasks[name].attempts, event)
            return _with(state, name, attempts=attempts, host="")
        case Twice():
            rows = [row for row in state.twice if row.task != event.task]
            return dataclasses.replace(state, twice=(*rows, event))


def _with(state: State, name: str, **changes: object) -> State:
    task = dataclasses.replace(state.tasks[name], **changes)  # type: ignore[arg-type]
    # In place: ten thousand tasks are not copied for each event.
    tasks = state.tasks
    assert isinstance(tasks, dict)
    tasks[name] = task
    return state


class EventFile:
    """Appends events to the run's file; each is on the disk before it counts."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / FILE

    def append(self, event: Event) -> None:
        """Write one event.

        Raises:
            RunDataError: it cannot be written.
        """
        try:
            append(self._path, msgspec.json.encode(event) + b"\n")
        except OSError as error:
            raise RunDataError(
                tried=f"writing {self._path}",
                seen=describe_error(error),
                remedy="free space on the disk, then resume the run with --resume",
            ) from error


def has_state(run_dir: Path) -> bool:
    """Whether a folder holds the run of a fleet."""
    return (run_dir / FILE).is_file()


def read(run_dir: Path) -> State:
    """The state of the run in a folder.

    What a killed driver left of a last line is no event.

    Raises:
        RunDataError: there is none, or it is damaged.
    """
    path = run_dir / FILE
    number = 0
    try:
        *lines, _ = read_bounded(path).split(b"\n")
        events = []
        for line in lines:
            number += 1
            events.append(_EVENT.decode(line))
        return folded(events)
    except OSError as error:
        raise RunDataError(
            tried=f"reading the fleet's run at {run_dir}",
            seen=describe_error(error),
            remedy=f"name a folder with {FILE}, as `perfgate fleet run` makes it",
        ) from error
    except (msgspec.DecodeError, KeyError, ValueError) as error:
        raise RunDataError(
            tried=f"reading {path}",
            seen=f"line {number}: {error}",
            remedy=(
                "the file was edited, or written by another version of perfgate; "
                "restore it, or use another --run-dir"
            ),
        ) from error


def trim(run_dir: Path) -> None:
    """Remove what a killed driver left of a last line, before more is appended.

    Raises:
        OSError: the file cannot be written.
    """
    path = run_dir / FILE
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))


def refuse_other(
    state: State, arguments: tuple[str, ...], launches: int
) -> None:
    """Refuse to go on with a run of other arguments.

    Raises:
        OtherFleet: with both.
    """
    before = state.begun
    if (before.arguments, before.launches) == (arguments, launches):
        return
    raise OtherFleet(
        tried="resuming a fleet's run",
        seen=(
            f"it was begun with --launches {before.launches} -- "
            f"{' '.join(before.arguments)}"
        ),
        remedy="give the same arguments, or use another --run-dir",
    )
