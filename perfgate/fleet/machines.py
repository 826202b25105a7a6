"""Machines: the parts of a fleet's run, merged into one run for each machine.

A part is the run of one session on one host. Those of one machine become one run, with
their launches numbered anew. So each machine is judged by launches of its own, and a
ratio is never one of two machines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from perfgate.errors import Failure
from perfgate.fleet.state import MACHINES, PARTS, State, Task
from perfgate.machine.hardware import Hardware
from perfgate.results import merge, schema
from perfgate.results.schema import Launch, Measurement, RunResults


@dataclass(frozen=True)
class Part:
    """What was measured in one session.

    Attributes:
        host: that it ran on.
    """

    task: str
    host: str
    results: RunResults

    @property
    def machine(self) -> str:
        """The machine: its GPUs, or the host for its CPU."""
        return machine_of(self.results.hardware, self.host)


@dataclass(frozen=True)
class Machine:
    """All that was measured on one machine.

    Attributes:
        name: of its GPUs ("gpu-1f2e3d4c"), or of its host.
        tasks: the launches, in their order.
    """

    name: str
    host: str
    tasks: tuple[str, ...]
    results: RunResults

    @property
    def kind(self) -> str:
        """The kind of its GPUs, or "cpu"."""
        return self.results.hardware.kind


def machine_of(hardware: Hardware, host: str) -> str:
    """The machine of a session: the GPUs that it saw, else its host."""
    return hardware.machine_id or host


def part_dir(run_dir: Path, task: str) -> Path:
    """Where the driver keeps what a launch has measured."""
    return run_dir / PARTS / task


def parts(run_dir: Path, tasks: Iterable[Task]) -> Iterator[Part]:
    """The parts of measured tasks, read one by one.

    Raises:
        RunDataError: one cannot be read.
    """
    for task in tasks:
        yield Part(task.id, task.host, schema.load(part_dir(run_dir, task.id)))


def merged(fleet: str, rows: Iterable[Part]) -> list[Machine]:
    """One run for each machine, in the order of their names.

    Raises:
        UnlikeParts: they were judged by different ceilings.
    """
    by_machine: dict[str, list[Part]] = {}
    for part in rows:
        by_machine.setdefault(part.machine, []).append(part)
    return [
        _machine(fleet, name, by_machine[name]) for name in sorted(by_machine)
    ]


def _machine(fleet: str, name: str, rows: Sequence[Part]) -> Machine:
    numbered = list(_numbered([part.results for part in rows]))
    results = merge.combine(numbered, f"{fleet}-{name}")
    return Machine(
        name=name,
        host=rows[0].host,
        tasks=tuple(part.task for part in rows),
        results=msgspec.structs.replace(results, left_out=()),
    )


def pooled(machines: Sequence[Machine]) -> RunResults:
    """The runs of several machines as one, for pairs: each pair is of one machine."""
    rows = list(_numbered([machine.results for machine in machines]))
    return merge.combine(rows, rows[0].run_id)


def _numbered(rows: Iterable[RunResults]) -> Iterator[RunResults]:
    """The runs with launches that have a number of their own each."""
    begun: dict[str, int] = {}
    for results in rows:
        first = dict(begun)
        launches: list[Launch] = []
        for launch in results.launches:
            index = first.get(launch.server, 0) + launch.index
            begun[launch.server] = max(begun.get(launch.server, 0), index + 1)
            launches.append(msgspec.structs.replace(launch, index=index))
        measurements: list[Measurement] = []
        for row in results.measurements:
            number = first.get(row.server, 0) + row.launch
            measurements.append(msgspec.structs.replace(row, launch=number))
        yield msgspec.structs.replace(
            results, launches=tuple(launches), measurements=tuple(measurements)
        )


def save(run_dir: Path, machine: Machine) -> None:
    """Write the run of a machine.

    Raises:
        RunDataError: it cannot be written.
    """
    schema.save(machine.results, run_dir / MACHINES / machine.name)


def of_run(run_dir: Path, state: State) -> Iterator[Machine]:
    """The machines of a fleet's run, merged from its parts one after another.

    Of ten thousand launches no more are in memory than one machine has.

    Raises:
        RunDataError: a part cannot be read.
    """
    by_machine: dict[str, list[Task]] = {}
    for task in state.measured:
        by_machine.setdefault(task.machine, []).append(task)
    for name in sorted(by_machine):
        yield from merged(state.begun.fleet, parts(run_dir, by_machine[name]))


@dataclass(frozen=True)
class Inspection:
    """What a session has measured.

    Attributes:
        problem: why it is less than all of its unit; "" where it is all.
        machine: that it ran on; "" where that is not known.
    """

    problem: str
    machine: str = ""


def inspect(folder: Path, host: str) -> Inspection:
    """Whether a session on a host measured all that it was asked."""
    try:
        results = schema.load(folder)
    except Failure as failure:
        return Inspection(failure.seen)
    machine = machine_of(results.hardware, host)
    for key, failed in results.failures.items():
        return Inspection(f"{key}: {failed.seen}", machine)
    if not results.launches:
        return Inspection("nothing was launched", machine)
    if not results.is_whole:
        problem = "the session ended before everything was measured"
        return Inspection(problem, machine)
    return Inspection("", machine)
