"""What of an earlier session's measurements can be kept?

Launches that were measured whole, of servers, workloads and injections that are still the
same, whether or not this session asks for them. A launch in whose middle the session
ended is measured anew: fewer repetitions are another statistic, and what the server
holds was not read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from perfgate.cases import Load, asking_routing
from perfgate.engines.base import ServerConfig
from perfgate.engines.injection import InjectionRecord
from perfgate.errors import Failure
from perfgate.load.workload import Workload
from perfgate.machine.hardware import Hardware
from perfgate.results.schema import Launch, Measurement, RunResults, Server

Needs = Mapping[str, tuple[ServerConfig, tuple[Workload, ...]]]


class OtherMachine(Failure):
    """A run that was measured somewhere else."""


class OtherBuild(Failure):
    """A run that was measured with another build of an engine."""


def resumed(
    fresh: RunResults,
    previous: RunResults,
    needs: Needs,
    injected: Callable[[ServerConfig], InjectionRecord] = lambda _: {},
) -> RunResults:
    """The results to go on with.

    Args:
        fresh: those of a session that has measured nothing yet.
        needs: what this session asks of each server.
        injected: what this session injects into it.

    Raises:
        OtherMachine: two machines would be mixed in one run.
    """
    _check_machine(fresh.hardware, previous.hardware)
    rows: dict[tuple[str, int], list[Measurement]] = {}
    for row in previous.measurements:
        rows.setdefault((row.server, row.launch), []).append(row)

    def is_kept(launch: Launch) -> bool:
        mine = rows.get((launch.server, launch.index), [])
        then = previous.servers.get(launch.server)
        if (
            then is None or then.attached
        ):  # somebody else's: what runs there today is not known
            return False
        config, workloads = needs.get(launch.server, (then.config, ()))
        return (
            launch.measured
            and config == then.config
            and launch.injected == injected(config)
            and all(row.is_sound for row in mine)
            and all(previous.workloads.get(w.name, w) == w for w in workloads)
        )

    kept = tuple(launch for launch in previous.launches if is_kept(launch))
    names = {(launch.server, launch.index) for launch in kept}
    asked = {case.id for case in fresh.cases}
    servers = {server for server, _ in names}
    sent: set[tuple[str, str | None]] = {(server, None) for server in servers}
    sent |= {
        (server, row.workload)
        for server, launch in names
        for row in rows.get((server, launch), [])
    }

    def is_there(load: Load) -> bool:
        return (load.server.key, load.workload and load.workload.name) in sent

    # Of what was asked then and not now: all of which kept launches tell.
    earlier = tuple(
        case
        for case in previous.cases
        if case.id not in asked and all(map(is_there, case.loads))
    )
    return msgspec.structs.replace(
        fresh,
        run_id=previous.run_id,
        started=previous.started,
        servers={key: previous.servers[key] for key in sorted(servers)},
        workloads=previous.workloads | fresh.workloads,
        launches=kept,
        measurements=tuple(
            row for row in previous.measurements if (row.server, row.launch) in names
        ),
        cases=(*earlier, *fresh.cases),
        sessions=(*previous.sessions, *fresh.sessions),
        models=previous.models | fresh.models,
        metrics=previous.metrics | fresh.metrics,
    )


def refuse_other_builds(
    results: RunResults, needs: Needs, software: Callable[[ServerConfig], Server]
) -> None:
    """Yesterday's launches are no answer about today's engine.

    Args:
        results: of which launches were kept.
        needs: what this session asks; of other servers it says nothing.
        software: what would run a server now.

    Raises:
        OtherBuild: an engine of the run is another one by now.
    """
    for key, then in results.servers.items():
        if key not in needs or then.attached:
            continue
        now = software(then.config)
        if (now.python_path, now.versions) != (then.python_path, then.versions):
            raise OtherBuild(
                tried=f"going on with a run of another build of {then.config.engine}",
                seen=f"{key} was run by {_build(then)}; now there is {_build(now)}",
                remedy=(
                    "name another --run-dir: a run is of one build (`perfgate judge` "
                    "decides the old one again)"
                ),
            )


def _build(server: Server) -> str:
    return (
        f"{server.python}: "
        f"{', '.join(f'{name} {version}' for name, version in server.versions.items())}"
    )


def cut_off(previous: RunResults) -> list[str]:
    """A line for each launch in whose middle the last command ended: nobody is to wait for what never fits."""
    ended_s = max((session.seen_unix_s for session in previous.sessions), default=0.0)
    return [
        f"{launch.server}: cut off "
        f"{max(0.0, ended_s - launch.start.started_unix_s):.0f} s after its "
        "launch, measured "
        "anew; where a command may not last longer than that, ask for parts of "
        "its load by -k, one after the other"
        for launch in previous.cut_off
    ]


def still_needed(
    results: RunResults, server: str, workloads: Sequence[Workload], launches: int
) -> Sequence[Workload] | None:
    """What a server must yet be sent until so many of its launches have been sent each of these workloads whole.

    Launches of a part each will do, such as commands that had no time for all of it
    have made. None where nothing is missing; empty where a launch is, but no load.
    """
    sent = [
        _sent(results, launch) for launch in results.launches if launch.server == server
    ]
    missing = [
        workload
        for workload in workloads
        if sum(workload.name in names for names in sent) < launches
    ]
    return missing if missing or len(sent) < launches else None


def left_by(
    results: RunResults, launch: Launch, workloads: Sequence[Workload]
) -> Sequence[Workload]:
    """What a fresh launch is sent after one that died: all of it, or where everything timed was whole the rest alone.

    Of a launch all repetitions count or none, so nothing timed is split between two.
    """
    asked = asking_routing(results.servers[launch.server].config, workloads)
    timed = {workload.name for workload in workloads if workload not in asked}
    return asked if timed and timed <= _sent(results, launch) else workloads


def _sent(results: RunResults, launch: Launch) -> set[str]:
    return {
        row.workload
        for row in results.measurements
        if (row.server, row.launch) == (launch.server, launch.index) and row.is_sound
    }


def _check_machine(here: Hardware, then: Hardware) -> None:
    """Cores and memory may be given otherwise to each command of a container; GPUs and drivers are the machine."""

    def facts(machine: Hardware) -> tuple[object, ...]:
        return (
            machine.kind,
            machine.name,
            machine.driver,
            tuple(gpu.uuid for gpu in machine.gpus),
        )

    if facts(here) != facts(then):
        raise OtherMachine(
            tried="going on with a run that was measured elsewhere",
            seen=f"then {_named(then)}, here {_named(here)}",
            remedy=(
                "name another --run-dir: `perfgate accept` takes the launches of "
                "several runs together"
            ),
        )


def _named(machine: Hardware) -> str:
    gpus = ", ".join(gpu.uuid for gpu in machine.gpus)
    return f"{machine.describe}{f', driver {machine.driver}' if machine.driver else ''}{f' ({gpus})' if gpus else ''}"
