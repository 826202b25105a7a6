"""Open session: the leased devices, the server pool and the campaign of a session.

It is made before the first launch, and closed whatever happens. A run that is resumed is
read here.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perfgate.cases import Case
from perfgate.config.config import Config
from perfgate.config.option_values import BadOption
from perfgate.config.run_folder import refuse_occupied
from perfgate.engines import injection
from perfgate.engines.base import ServerConfig
from perfgate.load.ceilings import format_ceilings
from perfgate.machine import memory
from perfgate.machine.hardware import Hardware
from perfgate.machine.leases import CPU, Lease, acquire
from perfgate.progress import ProgressDisplay
from perfgate.results import schema
from perfgate.results.schema import Mode, RunResults
from perfgate.run.campaign import Campaign
from perfgate.run.initial_results import initial_results
from perfgate.run.schedule import schedule_of
from perfgate.run.single_flight import SharedResults
from perfgate.servers import orphans
from perfgate.servers.pool import Devices, GpuProcess, ServerPool
from perfgate.servers.supervisor.processes import Process, command_of

# Shown to sessions that wait for the devices. A longer session launches no further
# server.
LONGEST_SESSION_S = 4 * 3600.0


@dataclass(frozen=True)
class PlannedTests:
    """The tests that a session is about to run.

    Attributes:
        cases: those that this machine can run.
        has_server_tests: whether some tests start servers themselves.
        server_test_gpus: GPUs that such tests may use.
    """

    cases: Sequence[Case] = ()
    has_server_tests: bool = False
    server_test_gpus: int = 0

    def servers(self) -> Iterator[ServerConfig]:
        """The server of each load; one server can occur many times."""
        for case in self.cases:
            for load in case.loads:
                yield load.server


@dataclass(frozen=True)
class Crew:
    """What the workers of one session have in common.

    Attributes:
        run_dir: of the whole run; an earlier session left its results there.
        shared: folder through which they do work once; of this session alone.
    """

    run_dir: Path
    shared: Path


class OpenSession:
    """A campaign with its server pool and the lease of its devices.

    The caller must close it whatever happens.
    """

    def __init__(
        self, campaign: Campaign, pool: ServerPool, lease: Lease
    ) -> None:
        self.campaign = campaign
        self._pool = pool
        self._lease = lease

    def close(self, complete: bool) -> None:
        """Stop the live server, release the devices, and record how the session ended.

        Args:
            complete: whether it reached its end: then what is red is explained first.
        """
        try:
            if complete:
                self.campaign.explain()
        finally:
            self._end(complete)

    def _end(self, complete: bool) -> None:
        began_s = time.monotonic()
        try:
            self._pool.close()
        finally:
            self._lease.release()
            self.campaign.finish(complete, end_s=time.monotonic() - began_s)


def open_session(
    config: Config,
    hardware: Hardware,
    planned: PlannedTests,
    tell: ProgressDisplay,
    crew: Crew | None = None,
) -> OpenSession:
    """Lease the devices, and make the server pool and the campaign.

    Args:
        config: of this process.
        planned: the tests that will run.
        crew: what the workers of one session have in common; None without workers.

    Raises:
        BadOption: the run directory holds a run that cannot be resumed so.
        BadInjection: no server of this session serves the model of an injection.
        NotLeased: another session holds the devices.
    """
    refuse_occupied(config.run_dir, config.resume)
    earlier_dir = crew.run_dir if crew else config.run_dir
    previous = _previous_run(config, earlier_dir, tell)
    if not planned.has_server_tests:
        models = [server.model for server in planned.servers()]
        injection.refuse_unserved(config.injections, models)
    # Nothing is refused after the lease: an unreleased lease would make the next attempt
    # wait for this process.
    lease = _lease(config, hardware, planned, tell)
    config = _with_leased(config, hardware, lease)
    pool = ServerPool(
        log_dir=_log_dir(config.run_dir, previous),
        progress=tell.line,
        devices=_devices(config.gpu_indices, hardware, tell),
        lease=lease,
        owners=_owners(crew),
        leased=_names(config, lease.devices),
    )
    try:
        results = initial_results(
            config, hardware, planned.cases, previous, tell
        )
        workers = None
        if crew is not None:
            workers = SharedResults(crew.shared, tell.line)
        campaign = Campaign(config, results, planned.cases, pool, tell, workers)
    except BaseException:
        pool.close()
        lease.release()
        raise
    return OpenSession(campaign, pool, lease)


def _previous_run(
    config: Config, run_dir: Path, tell: ProgressDisplay
) -> RunResults | None:
    """The run to resume; None where a new one starts.

    Args:
        run_dir: of the whole run.

    Raises:
        BadOption: it compares other builds, or has another target effect or ceiling.
    """
    if not config.resume:
        return None
    if not (run_dir / schema.RESULTS_FILE).exists():
        tell.line(f"no run to resume in {run_dir}: starting a new run there")
        return None
    previous = schema.load(run_dir)
    before = _comparison(
        previous.base_builds, previous.target_effect, previous.mode
    )
    after = _comparison(
        config.base_builds, config.target_effect, schedule_of(config).mode
    )
    if before != after:
        raise BadOption(
            tried=f"resuming the run in {run_dir}",
            seen=(f"it was started with {before}, this command has {after}"),
            remedy=(
                "use the same --against-engine and --target-effect, and the same "
                "--pairs, or another --run-dir"
            ),
        )
    _refuse_other_ceilings(config, run_dir, previous)
    return previous


def _refuse_other_ceilings(
    config: Config, run_dir: Path, previous: RunResults
) -> None:
    """Refuse to judge a part of a run by one ceiling, and the rest by another."""
    if previous.fail_over == config.fail_over:
        return
    before = format_ceilings(previous.fail_over)
    after = format_ceilings(config.fail_over)
    raise BadOption(
        tried=f"resuming the run in {run_dir}",
        seen=f"it was started with {before}, this command has {after}",
        remedy=(
            "use the same --fail-over and study, or another --run-dir; `perfgate judge "
            f"{shlex.quote(str(run_dir))} --fail-over SHARE` judges it by another ceiling"
        ),
    )


def _comparison(
    builds: Mapping[str, str], target_effect: float | None, mode: Mode
) -> str:
    """Base builds, target effect and mode, for a message."""
    names = [f"{engine}={python}" for engine, python in builds.items()]
    text = " ".join(names) or "no base build"
    if mode == "screened":
        text += " for suspect rows"
    if target_effect is None:
        return text
    return f"{text} and a target effect of {target_effect:g}"


def _lease(
    config: Config,
    hardware: Hardware,
    planned: PlannedTests,
    tell: ProgressDisplay,
) -> Lease:
    """The exclusive right to use the GPUs of the largest server, or the CPU."""
    gpu_count = 0
    if not config.external_urls:
        gpu_count = planned.server_test_gpus
        for server in planned.servers():
            gpu_count = max(gpu_count, server.gpu_count)
    devices = [CPU]
    if gpu_count:
        devices = [gpu.uuid for gpu in hardware.gpus]
    devices = _without_orphans(config, devices, max(gpu_count, 1))
    lease = acquire(
        devices,
        max(gpu_count, 1),
        wait_s=config.lease_wait_s,
        hold_s=LONGEST_SESSION_S,
        progress=tell.line,
        folder=config.leases_dir,
    )
    # Its last holder may have been killed in the meantime, and its supervisor too.
    left = orphans.orphans(_names(config, lease.devices))
    if left:
        lease.release()
        raise orphans.refusal(left, lease.devices)
    return lease


def _with_leased(config: Config, hardware: Hardware, lease: Lease) -> Config:
    """The configuration with the leased GPUs."""
    leased = [gpu for gpu in hardware.gpus if gpu.uuid in lease.devices]
    uuids: tuple[str, ...] = ()
    if hardware.is_renumbered:
        uuids = tuple(gpu.uuid for gpu in leased)
    return dataclasses.replace(
        config, gpu_indices=tuple(gpu.index for gpu in leased), gpu_uuids=uuids
    )


def _without_orphans(
    config: Config, devices: list[str], count: int
) -> list[str]:
    """The devices that no process of an earlier session's server uses unwatched.

    Raises:
        ServerLeft: they are too few.
    """
    free = []
    found: dict[str, list[Process]] = {}
    for device in devices:
        left = orphans.orphans(_names(config, [device]))
        if left:
            found[device] = left
        else:
            free.append(device)
    if found and len(free) < count:
        processes = {row for rows in found.values() for row in rows}
        raise orphans.refusal(
            sorted(processes, key=lambda row: row.pid), list(found)
        )
    return free


def _names(config: Config, devices: Sequence[str]) -> list[str]:
    """Names of leased devices; another folder of leases is another machine."""
    return [f"{config.leases_dir}/{device}" for device in devices]


def _log_dir(run_dir: Path, previous: RunResults | None) -> Path:
    """Folder of the servers' logs.

    A resumed session numbers its launches from 0, and must not overwrite earlier logs.
    """
    if previous is None:
        return run_dir / "logs"
    return run_dir / "logs" / f"session-{len(previous.sessions) + 1}"


def _owners(crew: Crew | None) -> tuple[int, ...]:
    """Processes besides this one whose end must stop the servers.

    A worker outlives a killed controller for a while; its servers must not.
    """
    if crew is None:
        return ()
    return (os.getppid(),)


def _devices(
    gpu_indices: tuple[int, ...], hardware: Hardware, tell: ProgressDisplay
) -> Devices | None:
    """How the pool inspects its GPUs; None if only the CPU is used."""
    if not gpu_indices:
        return None

    def strangers() -> Sequence[GpuProcess]:
        return memory.gpu_processes(gpu_indices, command_of)

    if hardware.memory_bytes is None:
        tell.line(
            f"{hardware.name} does not report its memory: whether a stopped server "
            "has freed it is not checked"
        )
        return Devices(strangers=strangers)

    def gpu_memory_used(indices: Sequence[int]) -> list[int]:
        return list(memory.gpu_bytes(indices).values())

    return Devices(strangers=strangers, gpu_memory_used=gpu_memory_used)
