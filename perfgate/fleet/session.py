"""Session of a fleet: begin a run or go on with one, plan it, measure it, and judge it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from perfgate.config.option_values import BadOption
from perfgate.errors import Failure
from perfgate.fleet import forecast, machines, scheduler, text
from perfgate.fleet import state as states
from perfgate.fleet.cluster import Cluster
from perfgate.fleet.driver import Driver
from perfgate.fleet.roster import Job, Roster
from perfgate.fleet.scheduler import Durations
from perfgate.fleet.screen import Screen
from perfgate.fleet.state import Begun, EventFile, State
from perfgate.fleet.verdict import Judged, judged
from perfgate.judge.baseline_store import Store
from perfgate.results.schema import new_run_id

# Of earlier runs, which tell how long a launch takes.
MOST_EARLIER_RUNS = 20


class NothingToMeasure(Failure):
    """No host lists anything to measure."""


@dataclass(frozen=True)
class Wanted:
    """What a driver is to do.

    Attributes:
        run_dir: of the fleet's run. resume: whether to go on with it.
        launches: of each unit.
    """

    run_dir: Path
    resume: bool = False
    launches: int = 1


def durations(runs: Path) -> Durations:
    """How long launches took in the newest runs of a folder."""
    return scheduler.durations_of(_stored(runs))


def _stored(runs: Path) -> Iterator[State]:
    files = sorted(runs.glob(f"*/{states.FILE}"), reverse=True)
    for file in files[:MOST_EARLIER_RUNS]:
        try:
            yield states.read(file.parent)
        except Failure:
            continue  # a plan does not need it


def plan(
    cluster: Cluster, job: Job, wanted: Wanted, screen: Screen
) -> Iterator[str]:
    """How long the fleet takes, and what waits for what; nothing is launched."""
    roster = _checked(cluster, job, screen)
    state = states.folded([_beginning(roster, wanted)])
    if states.has_state(wanted.run_dir):
        state = states.read(wanted.run_dir)
    places = list(roster.places.values())
    cast = forecast.forecast(state, places, job.durations)
    yield from text.plan_lines(state, places, cast, job.durations)
    yield from text.impossible_lines(scheduler.impossible(state, places))


def measure(
    cluster: Cluster, job: Job, wanted: Wanted, screen: Screen
) -> State:
    """Measure what is open; a Ctrl-C ends it on every host, and is raised.

    Raises:
        BadOption: the folder holds a run, or none to go on with.
        NothingToMeasure: no host lists anything.
        OtherFleet: the run is of other arguments.
        RunDataError: the driver's disk cannot be read or written.
    """
    _refuse(wanted)
    roster = _checked(cluster, job, screen)
    state = _opened(roster, wanted)
    for line in text.impossible_lines(
        scheduler.impossible(state, list(roster.places.values()))
    ):
        screen.line(line)
    driver = Driver(wanted.run_dir, state, cluster, roster, screen)
    return driver.run()


def judge(run_dir: Path, state: State, store: Store) -> Judged:
    """Merge the parts by machine, write those runs, and judge them.

    Raises:
        RunDataError: a part cannot be read, or a run not be written.
    """

    def keep(machine: machines.Machine) -> None:
        machines.save(run_dir, machine)

    return judged(machines.of_run(run_dir, state), store, keep)


def _refuse(wanted: Wanted) -> None:
    is_there = states.has_state(wanted.run_dir)
    if is_there and not wanted.resume:
        raise BadOption(
            tried=f"starting a fleet's run in {wanted.run_dir}",
            seen="it holds a run already",
            remedy="use another --run-dir, or go on with that run: --resume",
        )
    if wanted.resume and not is_there:
        raise BadOption(
            tried=f"resuming the fleet's run in {wanted.run_dir}",
            seen="there is none",
            remedy="name the folder of the run that was stopped, or leave --resume out",
        )


def _checked(cluster: Cluster, job: Job, screen: Screen) -> Roster:
    """The hosts that are there, each checked.

    Raises:
        NothingToMeasure: none of them lists anything.
    """
    roster = Roster(cluster, job, screen.line)
    roster.check_all()
    if not roster.units:
        raise NothingToMeasure(
            tried=f"listing what `pytest {' '.join(job.arguments)}` selects",
            seen=_why_nothing(list(roster.unusable.values())),
            remedy="correct the arguments, or the hosts: perfgate fleet check",
        )
    return roster


def _why_nothing(unusable: Sequence[str]) -> str:
    if not unusable:
        return "no host of the cluster has processors or GPUs"
    return f"no host lists a unit; {unusable[0]}"


def _beginning(roster: Roster, wanted: Wanted) -> Begun:
    return Begun(
        fleet=new_run_id(),
        arguments=roster.job.arguments,
        launches=wanted.launches,
        units=roster.units,
        unix_s=time.time(),
    )


def _opened(roster: Roster, wanted: Wanted) -> State:
    """The state of the run, after this driver's beginning was written."""
    run_dir = wanted.run_dir
    begun = _beginning(roster, wanted)
    if wanted.resume:
        state = states.read(run_dir)
        arguments = roster.job.arguments
        states.refuse_other(state, arguments, wanted.launches)
        states.trim(run_dir)
        EventFile(run_dir).append(begun)
        return dataclasses.replace(state, sessions=state.sessions + 1)
    run_dir.mkdir(parents=True, exist_ok=True)
    EventFile(run_dir).append(begun)
    return states.folded([begun])
