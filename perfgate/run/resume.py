"""Resume: which measurements of an earlier session are kept.

A launch is kept if it was measured completely, and if server, workloads and injection
are still the same, whether or not this session needs it.

A launch that was cut off or failed, or a server that did not start, is tried again where
this session asks for the server: fewer repetitions are another statistic. Otherwise it
stays, and the run is not complete: a session of another part clears no verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import msgspec

from perfgate.cases import Case, timed
from perfgate.engines.base import ServerConfig
from perfgate.engines.injection import InjectionRecord
from perfgate.errors import Failure, FailureRow
from perfgate.load.workload import Workload
from perfgate.machine.hardware import Hardware
from perfgate.results.profile import Explained
from perfgate.results.schema import Launch, Measurement, RunResults, Server

Needs = Mapping[str, tuple[ServerConfig, tuple[Workload, ...]]]
"""Server key -> its configuration and its load."""
InjectionOf = Callable[[ServerConfig], InjectionRecord]


class OtherMachine(Failure):
    """The run was measured on another machine."""


class OtherBuild(Failure):
    """The run was measured with another build of an engine."""


def resumed(
    fresh: RunResults,
    previous: RunResults,
    needs: Needs,
    injected: InjectionOf = lambda _: {},
) -> RunResults:
    """The results of a resumed session at its start.

    Args:
        fresh: those of a session that has measured nothing yet.
        needs: what this session asks of each server.
        injected: what this session injects into a server.

    Raises:
        OtherMachine: two machines would be mixed in one run.
    """
    _check_machine(fresh.hardware, previous.hardware)
    asked = _asked(needs)
    failures = _failures_left(previous, asked)
    launches = []
    measurements: list[Measurement] = []
    for launch in previous.launches:
        rows = _rows_of(previous, launch)
        if launch.server in asked and not _is_whole(launch, rows):
            continue
        if _is_same(launch, previous, needs, injected):
            launches.append(launch)
            measurements += rows
    servers = sorted({launch.server for launch in launches} | failures.keys())
    kept = msgspec.structs.replace(
        fresh,
        run_id=previous.run_id,
        started=previous.started,
        servers={key: previous.servers[key] for key in servers},
        environments=previous.environments,
        workloads=previous.workloads | fresh.workloads,
        launches=tuple(launches),
        measurements=tuple(measurements),
        failures=failures,
        profiles=_of_servers(previous.profiles, servers),
        counter_proofs=_of_servers(previous.counter_proofs, servers),
        sessions=(*previous.sessions, *fresh.sessions),
        models=previous.models | fresh.models,
        metrics=previous.metrics | fresh.metrics,
        suspects=previous.suspects,
    )
    earlier_cases = _earlier_cases(previous, kept)
    return msgspec.structs.replace(kept, cases=(*earlier_cases, *fresh.cases))


def _of_servers(
    rows: Iterable[Explained], servers: Collection[str]
) -> tuple[Explained, ...]:
    """What explains a loss of these servers."""
    return tuple(row for row in rows if row.server in servers)


def _asked(needs: Needs) -> set[str]:
    """Keys of the servers that this session may launch, in pairs of builds, too."""
    keys = set()
    for config, _ in needs.values():
        keys |= {config.key, config.base.key, config.candidate.key}
    return keys


def _failures_left(
    previous: RunResults, asked: Collection[str]
) -> dict[str, FailureRow]:
    """Servers that did not start, and that this session does not try again."""
    failures = {}
    for key, failure in previous.failures.items():
        server = previous.servers.get(key)
        if key in asked or server is None or server.attached:
            continue
        failures[key] = failure
    return failures


def _rows_of(results: RunResults, launch: Launch) -> list[Measurement]:
    """What was measured on a launch."""
    name = (launch.server, launch.index)
    rows = results.measurements
    return [row for row in rows if (row.server, row.launch) == name]


def _is_whole(launch: Launch, rows: Sequence[Measurement]) -> bool:
    """Whether all of a launch was measured, and nothing in it failed."""
    return launch.measured and all(row.is_sound for row in rows)


def _is_same(
    launch: Launch, previous: RunResults, needs: Needs, injected: InjectionOf
) -> bool:
    """Whether this session would make the same launch."""
    server = previous.servers.get(launch.server)
    if server is None or server.attached:
        return False  # the external server may be another one by now
    config, workloads = needs.get(launch.server, (server.config, ()))
    if config != server.config or launch.injected != injected(config):
        return False
    for workload in workloads:
        if previous.workloads.get(workload.name, workload) != workload:
            return False
    return True


def _earlier_cases(previous: RunResults, kept: RunResults) -> list[Case]:
    """Cases of earlier sessions alone that the kept launches have measured.

    Of a server that did not start nothing has to be measured.

    Args:
        kept: with the launches, measurements and failures that are kept, and with the
            cases of this session.
    """
    case_ids = {case.id for case in kept.cases}
    # (server, workload); a case of the server itself has no workload.
    measured: set[tuple[str, str | None]] = set()
    for launch in kept.launches:
        measured.add((launch.server, None))
    for row in kept.measurements:
        measured.add((row.server, row.workload))
    cases = []
    for case in previous.cases:
        needed: set[tuple[str, str | None]] = set()
        for load in case.loads:
            if load.server.key in kept.failures:
                continue
            workload_name = None
            if load.workload is not None:
                workload_name = load.workload.name
            needed.add((load.server.key, workload_name))
        if case.id not in case_ids and needed <= measured:
            cases.append(case)
    return cases


def refuse_other_builds(
    results: RunResults,
    needs: Needs,
    software: Callable[[ServerConfig], Server],
) -> None:
    """Refuse to resume where an engine was replaced since the kept launches.

    Args:
        results: with the kept launches.
        needs: what this session asks; other servers are not checked.
        software: returns what would run a server today.

    Raises:
        OtherBuild: an engine of the run was replaced.
    """
    for key, before in results.servers.items():
        if key not in needs or before.attached:
            continue
        current = software(before.config)
        if _build(current) != _build(before):
            raise OtherBuild(
                tried=f"resuming a run of another build of {before.config.engine}",
                seen=(
                    f"{key} was measured with {_describe_build(before)}; the engine "
                    f"is now {_describe_build(current)}"
                ),
                remedy=(
                    "use another --run-dir: a run has one build (`perfgate judge RUN` "
                    "judges the old run again)"
                ),
            )


def _build(server: Server) -> tuple[object, ...]:
    return server.python_path, server.versions


def _describe_build(server: Server) -> str:
    versions = [
        f"{name} {version}" for name, version in server.versions.items()
    ]
    return f"{server.python_label}: {', '.join(versions)}"


def cut_off(previous: RunResults, needs: Needs) -> list[str]:
    """A line for each launch that an earlier command cut off, with the time it had."""
    asked = _asked(needs)
    ends_s = [session.seen_unix_s for session in previous.sessions]
    ended_s = max(ends_s, default=0.0)
    lines = []
    for launch in previous.cut_off:
        lasted_s = max(0.0, ended_s - launch.start.started_unix_s)
        then = "not selected now, so the run stays incomplete"
        if launch.server in asked:
            then = (
                "measured again; if a command has a time limit, select parts of the "
                "load with -k"
            )
        lines.append(
            f"{launch.server}: cut off {lasted_s:.0f} s after its launch, {then}"
        )
    return lines


def missing_workloads(
    results: RunResults,
    server: str,
    workloads: Sequence[Workload],
    launches: int,
) -> Sequence[Workload] | None:
    """Workloads for the next launch of a server; None if it needs no launch.

    Several launches with a part of the load each are enough: a command with a time
    limit makes such launches.

    Args:
        launches: how many launches must have measured each workload completely.

    Returns:
        Workloads; empty where a launch is missing, but no load.
    """
    workloads_by_launch = []
    for launch in results.launches:
        if launch.server == server:
            workloads_by_launch.append(_measured_workloads(results, launch))
    missing = []
    for workload in workloads:
        count = sum(workload.name in names for names in workloads_by_launch)
        if count < launches:
            missing.append(workload)
    if missing or len(workloads_by_launch) < launches:
        return missing
    return None


def remaining_workloads(
    results: RunResults, launch: Launch, workloads: Sequence[Workload]
) -> Sequence[Workload]:
    """Workloads for a fresh launch after one that died.

    All of them; or only those that ask for the routing of tokens, and questions that
    were not answered, if all timed ones were measured completely. A timed load is never
    split between two launches.
    """
    in_time = timed(results.servers[launch.server].config, workloads)
    measured = _measured_workloads(results, launch)
    if not in_time or not {row.name for row in in_time} <= measured:
        return workloads
    remaining = []
    for workload in workloads:
        is_answered = workload.graded and workload.name in measured
        if workload not in in_time and not is_answered:
            remaining.append(workload)
    return remaining


def _measured_workloads(results: RunResults, launch: Launch) -> set[str]:
    """Workloads that were measured completely on a launch."""
    return {row.workload for row in _rows_of(results, launch) if row.is_sound}


def _check_machine(current: Hardware, before: Hardware) -> None:
    """Refuse another machine: other GPUs, or another driver.

    Cores and memory may differ between two commands in one container.
    """
    if _machine(current) != _machine(before):
        raise OtherMachine(
            tried="resuming a run that was measured elsewhere",
            seen=(
                f"the run is of {_describe_machine(before)}, this machine is "
                f"{_describe_machine(current)}"
            ),
            remedy=(
                "use another --run-dir; `perfgate accept RUN RUN` pools the launches "
                "of several runs"
            ),
        )


def _machine(machine: Hardware) -> tuple[object, ...]:
    uuids = tuple(gpu.uuid for gpu in machine.gpus)
    return machine.kind, machine.name, machine.driver, uuids


def _describe_machine(machine: Hardware) -> str:
    text = machine.description
    if machine.driver:
        text += f", driver {machine.driver}"
    uuids = ", ".join(gpu.uuid for gpu in machine.gpus)
    if uuids:
        text += f" ({uuids})"
    return text
