"""How is a session of measurements opened and closed?"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perfgate.cases import Case
from perfgate.config import choices
from perfgate.config.project import Project
from perfgate.config.settings import Settings
from perfgate.engines import injection
from perfgate.machine import memory
from perfgate.machine.hardware import Hardware
from perfgate.machine.leases import CPU, LEASES, Lease, acquire
from perfgate.progress import Tell
from perfgate.results import schema as rundata
from perfgate.run.campaign import Campaign
from perfgate.run.single_flight import SharedResults
from perfgate.servers.pool import Devices, ServerPool
from perfgate.servers.supervisor.processes import command_of

# Told to those who wait for the devices; a session that takes longer launches no
# further server.
LONGEST_SESSION_S = 4 * 3600.0


class OpenSession:
    """A campaign with the pool of servers that it uses; close it whatever happens."""

    def __init__(self, campaign: Campaign, pool: ServerPool, lease: Lease) -> None:
        self.campaign = campaign
        self._pool = pool
        self._lease = lease

    def close(self, complete: bool) -> None:
        """Stop the live server, give the devices back, and write down how the session ended."""
        began = time.monotonic()
        try:
            self._pool.close()
        finally:
            self._lease.release()
            self.campaign.finish(complete, end_s=time.monotonic() - began)


@dataclass(frozen=True)
class Place:
    """Where a session's data go.

    Attributes:
        run_dir: of this process.
        run_id: of the run that the session makes.
        shared: the folder that the workers of one session share, None without workers.
        began_unix_s: when the session began; None for now.
    """

    run_dir: Path
    run_id: str
    shared: Path | None = None
    began_unix_s: float | None = None


@dataclass(frozen=True)
class Planned:
    """What a session will ask.

    Attributes:
        cases: those that this machine can run.
        gpus_in_hand: GPUs that tests which start servers themselves may use.
        has_servers_in_hand: whether there are such tests.
    """

    cases: Sequence[Case] = ()
    gpus_in_hand: int = 0
    has_servers_in_hand: bool = False


def open_campaign(
    option: argparse.Namespace,
    project: Project,
    place: Place,
    hardware: Hardware,
    planned: Planned,
    tell: Tell,
) -> OpenSession:
    """Make the run directory, the pool and the campaign from pytest's options.

    Args:
        option: the parsed options of `perfgate.plugin`.
        project: the project that the session works in.
        place: of this session's data.
        planned: what the session will ask.

    Raises:
        BadOption: an option is not NAME=VALUE, a run directory is taken, or its run
            compares other builds.
        BadInjection: something would be injected in a model that no server here serves.

    """
    run_dir = place.run_dir
    against = choices.pairs("--against-engine", option.against_engine)
    previous = None
    choices.refuse_taken(run_dir, option.resume)
    if (run_dir / rundata.RESULTS_FILE).exists():
        previous = rundata.load(run_dir)
        if (previous.against, previous.against_delta) != (
            against,
            option.against_delta,
        ):
            then, now = (
                (previous.against or "none", previous.against_delta),
                (against or "none", option.against_delta),
            )
            raise choices.BadOption(
                tried=f"going on with the run in {run_dir}",
                seen=f"its base builds and the loss to catch are {then}, not {now}",
                remedy=(
                    "name the same --against-engine and --against-delta as then, or "
                    "another --run-dir"
                ),
            )
    elif option.resume:
        tell.line(f"nothing to go on with in {run_dir}: a new run begins there")
    settings = Settings(
        run_dir=run_dir,
        store=choices.store(option, project),
        gate=option.gate,
        engine_pythons=choices.pairs("--engine-python", option.engine_python),
        model_dirs=choices.pairs("--model-dir", option.model_dir),
        allow_download=option.allow_download,
        injections=choices.injected(option),
        silence_timeout_s=option.stall_timeout,
        attached=choices.attachments(tuple(option.attach)),
        against=against,
        against_delta=option.against_delta,
        launches=option.launches,
        telemetry=option.telemetry == "yes",
        began_unix_s=place.began_unix_s,
        run_id=place.run_id,
    )
    if not planned.has_servers_in_hand:
        served = [load.server.model for case in planned.cases for load in case.loads]
        injection.refuse_unserved(settings.injections, served)
    # Last of what can be refused: a lease that nobody gives back would make the next
    # attempt wait for this process.
    lease = _lease(option, hardware, planned, tell)
    leased = tuple(gpu.index for gpu in hardware.gpus if gpu.uuid in lease.devices)
    settings = dataclasses.replace(settings, gpu_indices=leased)
    pool = ServerPool(
        # A resumed session numbers its launches anew, and must not write over the logs
        # of those that are kept.
        log_dir=run_dir
        / "logs"
        / (f"session-{len(previous.sessions) + 1}" if previous else ""),
        progress=tell.line,
        devices=_devices(settings.gpu_indices),
        lease=lease,
        # A worker outlives the session that was killed for a while; its servers must
        # not.
        owners=() if place.shared is None else (os.getppid(),),
    )
    try:
        campaign = Campaign(settings, hardware, planned.cases, pool, tell, previous)
        if place.shared is not None:
            campaign.join(SharedResults(place.shared, tell.line))
    except BaseException:
        pool.close()
        lease.release()
        raise
    return OpenSession(campaign, pool, lease)


def _lease(
    option: argparse.Namespace, hardware: Hardware, planned: Planned, tell: Tell
) -> Lease:
    """The right to use the GPUs of the largest server, or the CPU, on this machine."""
    needed = 0
    if not option.attach:
        counts = [
            load.server.gpu_count for case in planned.cases for load in case.loads
        ]
        needed = max([planned.gpus_in_hand, *counts])
    uuids = [gpu.uuid for gpu in hardware.gpus] if needed else [CPU]
    return acquire(
        uuids,
        needed or 1,
        wait_s=option.lease_wait,
        hold_s=LONGEST_SESSION_S,
        progress=tell.line,
        folder=Path(os.environ.get("PERFGATE_LEASES_DIR", LEASES)),
    )


def _devices(indices: tuple[int, ...]) -> Devices | None:
    """How the pool looks at its GPUs; nothing to see if only the CPU is used."""
    if not indices:
        return None
    return Devices(
        strangers=lambda: memory.gpu_processes(indices, command_of),
        gpu_memory_used=lambda wanted: list(memory.gpu_bytes(wanted).values()),
    )
