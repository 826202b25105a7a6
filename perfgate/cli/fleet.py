"""The commands `fleet check`, `fleet run` and `fleet show`: the study over many machines."""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perfgate.cli.lazy import Entry, LazyGroup
from perfgate.cli.numbers import FiniteRange
from perfgate.results.gates import GATES, Gate

if TYPE_CHECKING:
    from perfgate.fleet.roster import Job
    from perfgate.fleet.screen import Screen
    from perfgate.fleet.session import Wanted
    from perfgate.fleet.state import State
    from perfgate.judge.baseline_store import Store

_FOLDER = click.Path(path_type=Path)
NO_ARGUMENTS = (
    'what is measured is not named: add arguments of pytest after "--", such as '
    "-- -m gpu"
)
STOPPED = 2
ADDRESS = click.option(
    "--address",
    default="auto",
    show_default=True,
    help="The Ray cluster: HOST:PORT of its head, or auto on one of its machines.",
)
GATE = click.option(
    "--gate",
    type=click.Choice(GATES),
    default="advisory",
    show_default=True,
    help="Which outcomes of the fleet's rows fail the run, as for pytest.",
)
BASELINES = click.option(
    "--baselines", type=_FOLDER, help="Baseline store (default: the project's)."
)
ARGUMENTS = click.argument(
    "arguments", nargs=-1, metavar="-- [PYTEST_ARGUMENTS]..."
)
COMMANDS = {
    "check": Entry(
        "perfgate.cli.fleet:check",
        "Show what each host can measure, and what it lacks.",
    ),
    "run": Entry(
        "perfgate.cli.fleet:run",
        "Measure the study on all hosts, and judge it.",
    ),
    "show": Entry(
        "perfgate.cli.fleet:show",
        "Judge a fleet's run RUN again, by machine and by fleet.",
    ),
}


@click.group(cls=LazyGroup, entries=COMMANDS)
def fleet() -> None:
    """Spread the study over the hosts of a Ray cluster.

    PYTEST_ARGUMENTS, after "--", are those of a session on one machine: -- -m gpu.
    """


@click.command("check")
@ADDRESS
@ARGUMENTS
def check(address: str, arguments: tuple[str, ...]) -> None:
    """Show what each host can measure, and what it lacks.

    Exits with 1 if no host can measure some of it.
    """
    # Imported here and below: `--help` must not wait for it.
    from perfgate.fleet import text
    from perfgate.fleet.ray_cluster import RayCluster
    from perfgate.fleet.roster import Roster

    job = _job(arguments)
    with closing(RayCluster(address)) as cluster:
        roster = Roster(cluster, job, lambda line: None)
        roster.check_all()
    places = list(roster.places.values())
    unusable = list(roster.unusable.values())
    for line in text.check_lines(places, unusable, roster.units):
        click.echo(line)
    is_able = bool(roster.units)
    for unit in roster.units:
        if not any(place.can_ever(unit) for place in places):
            is_able = False
            click.echo(f"no host can measure {unit.title}")
    if not is_able:
        sys.exit(1)


@click.command("run")
@ADDRESS
@click.option(
    "--run-dir",
    type=_FOLDER,
    help="Folder of the run (default: a new one in the project's runs).",
)
@click.option("--resume", is_flag=True, help="Go on with the run in --run-dir.")
@click.option(
    "--launches",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Launches of each server, on as many machines as there are.",
)
@click.option(
    "--plan", is_flag=True, help="Show how long it takes; launch nothing."
)
@click.option(
    "--limit",
    "limit_minutes",
    type=FiniteRange(min=0.1),
    default=120.0,
    show_default=True,
    help="Minutes after which a launch is ended, and made again elsewhere.",
)
@click.option(
    "--host-wait",
    "host_wait_s",
    type=FiniteRange(min=0.0),
    default=60.0,
    show_default=True,
    help="Seconds to wait for a host where none of those that are here can go on.",
)
@GATE
@BASELINES
@ARGUMENTS
def run(
    address: str,
    run_dir: Path | None,
    arguments: tuple[str, ...],
    gate: Gate,
    baselines: Path | None,
    **options: Any,
) -> None:
    """Measure the study on all hosts of a Ray cluster, and judge it.

    Exits with 1 if the run fails, with 2 if it was stopped: --resume goes on.
    """
    from perfgate.cli.project import judging_store, opened
    from perfgate.fleet.session import Wanted
    from perfgate.results.schema import new_run_id

    if options["resume"] and run_dir is None:
        raise click.UsageError("--resume needs the run's folder: --run-dir DIR")
    runs = opened().locations.runs
    folder = (run_dir or runs / f"fleet-{new_run_id()}").absolute()
    wanted = Wanted(folder, options["resume"], options["launches"])
    job = _job(
        arguments,
        runs,
        limit_s=60 * options["limit_minutes"],
        host_wait_s=options["host_wait_s"],
    )
    store = judging_store(baselines)
    if options["plan"]:
        _plan(address, job, wanted)
        return
    state = _measured(address, job, wanted)
    if _show(folder, state, store, gate):
        sys.exit(1)


@click.command("show")
@click.argument("run_dir", metavar="RUN", type=_FOLDER)
@GATE
@BASELINES
def show(run_dir: Path, gate: Gate, baselines: Path | None) -> None:
    """Judge a fleet's run RUN again, by machine and by fleet; exits with 1 if it fails."""
    from perfgate.cli.project import judging_store
    from perfgate.fleet import state as states

    store = judging_store(baselines)
    if _show(run_dir, states.read(run_dir), store, gate):
        sys.exit(1)


def _job(
    arguments: tuple[str, ...], runs: Path | None = None, **limits: float
) -> Job:
    from perfgate.cli.project import opened
    from perfgate.fleet import session
    from perfgate.fleet.roster import Job

    if not arguments:
        raise click.UsageError(NO_ARGUMENTS)
    project = opened()
    durations = session.durations(runs or project.locations.runs)
    root = str(project.locations.root)
    return Job(arguments, root, durations, **limits)


def _screen() -> Screen:
    from perfgate.fleet.screen import Screen

    width = shutil.get_terminal_size().columns
    return Screen(
        lambda text: click.echo(text, nl=False), sys.stdout.isatty(), width
    )


def _plan(address: str, job: Job, wanted: Wanted) -> None:
    from perfgate.fleet import session
    from perfgate.fleet.ray_cluster import RayCluster

    with closing(RayCluster(address)) as cluster:
        for line in session.plan(cluster, job, wanted, _screen()):
            click.echo(line)


def _measured(address: str, job: Job, wanted: Wanted) -> State:
    """The state after all was measured; a signal ends it on all hosts first."""
    from perfgate.fleet import session
    from perfgate.fleet import state as states
    from perfgate.fleet.ray_cluster import RayCluster
    from perfgate.run import run_lock

    folder = wanted.run_dir
    reservation = run_lock.reserve(folder)
    try:
        with closing(RayCluster(address)) as cluster:
            # Ray has a handler of its own, which ends the process at once.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            try:
                return session.measure(cluster, job, wanted, _screen())
            except KeyboardInterrupt:
                then = "Nothing was begun."
                if states.has_state(folder):
                    then = f"Go on with: --run-dir {shlex.quote(str(folder))} --resume"
                click.echo(f"\nStopped on all hosts. {then}")
                sys.exit(STOPPED)
    finally:
        reservation.release()


def _show(folder: Path, state: State, store: Store, gate: Gate) -> bool:
    """Show the verdicts; returns whether the run fails."""
    from perfgate.fleet import session, text

    judged = session.judge(folder, state, store)
    for line in text.lines(state, judged, gate):
        click.echo(line)
    click.echo(f"run data: {folder}, a run for each machine in machines/")
    return text.fails(state, judged, gate)
