"""Server sources: where the servers of a session come from, and what may be done to them.

`PoolSource` launches servers in the session's pool. `ExternalSource` measures one that
an operator runs: it launches and changes nothing, and reads nothing but answers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Protocol

from perfgate.config.config import Config
from perfgate.engines import registry as engines
from perfgate.engines.base import LaunchPlan, ServerConfig
from perfgate.errors import Failure
from perfgate.machine.hardware import Hardware
from perfgate.progress import ProgressDisplay
from perfgate.results import schema as rundata
from perfgate.results.schema import Launch
from perfgate.run.launch_planner import Planner
from perfgate.run.probes.footprint import FootprintProbe
from perfgate.run.probes.gpu import GpuProbe
from perfgate.run.probes.host import HostProbe
from perfgate.run.probes.probe import Probe
from perfgate.run.schedule import External, Schedule, schedule_of
from perfgate.servers.external import ExternalServer
from perfgate.servers.launch_record import PortInUse, ServerDied
from perfgate.servers.pool import ServerPool
from perfgate.servers.running import RunningServer
from perfgate.web import NoAnswer

MOST_PORTS = 3  # tried for one launch; more than one is rarely taken meanwhile


class ServerSource(Protocol):
    """Where servers come from."""

    @property
    def schedule(self) -> Schedule:
        """Which launches these servers have."""

    @property
    def attempts(self) -> int:
        """How many launches are tried until one survives its load."""

    def describe_start(self, place: str) -> str:
        """What `start` does, for the terminal.

        Args:
            place: of the server in the session: ", server 2 of 5"; may be empty.
        """

    def software(self, config: ServerConfig) -> rundata.Server:
        """What runs the server, for the run's data.

        Raises:
            Failure: nothing runs it here.
        """

    def start(
        self,
        config: ServerConfig,
        is_fresh: bool,
        upcoming: ServerConfig | None = None,
    ) -> RunningServer:
        """A server that is ready.

        Args:
            is_fresh: launch it again even if it runs already.
            upcoming: the server that is probably started next.

        Raises:
            Failure: it failed to start.
        """

    def probes(
        self, config: ServerConfig, server: RunningServer, launch: Launch
    ) -> Sequence[Probe]:
        """What is read of the server while it is measured."""

    def settle(
        self, config: ServerConfig, server: RunningServer
    ) -> tuple[str, ...]:
        """Do what the engine advises after the warm-up; returns failures as notes."""

    def give_up(self, server: RunningServer, activity: str) -> ServerDied:
        """End a server that died or hung during an activity; returns its death."""


class PoolSource:
    """Servers that this session launches, one at a time.

    Args:
        pool: owns the devices; who made it closes it.
        hardware: for the notes of the footprint.
        altered: changes each plan before its launch, as the profiler does.
    """

    attempts = 2

    def __init__(
        self,
        settings: Config,
        pool: ServerPool,
        hardware: Hardware,
        tell: ProgressDisplay,
        altered: Callable[[LaunchPlan], LaunchPlan] = lambda plan: plan,
    ) -> None:
        self.schedule = schedule_of(settings)
        self._settings = settings
        self._pool = pool
        self._hardware = hardware
        self._tell = tell
        self._planner = Planner(settings, tell.line)
        self._altered = altered

    def describe_start(self, place: str) -> str:
        """A launch, and where its log is."""
        return f"launching{place}, log in {self._settings.run_dir / 'logs'}"

    def software(self, config: ServerConfig) -> rundata.Server:
        """Its Python, the versions in it, and the environment that it inherits."""
        return self._planner.software(config)

    def start(
        self,
        config: ServerConfig,
        is_fresh: bool,
        upcoming: ServerConfig | None = None,
    ) -> RunningServer:
        """The running server, or a launch on a port of its own.

        If another process takes the port in between, others are tried. Meanwhile the
        upcoming server imports its engine.
        """

        def meanwhile() -> None:
            if upcoming is not None:
                self._prepare(upcoming)

        for _ in range(MOST_PORTS - 1):
            plan = self._plan(config)
            try:
                return self._pool.get(plan, fresh=is_fresh, meanwhile=meanwhile)
            except PortInUse as failure:
                self._tell.line(
                    f"{config.key}: {failure.seen}; trying another port"
                )
        return self._pool.get(
            self._plan(config), fresh=is_fresh, meanwhile=meanwhile
        )

    def _prepare(self, config: ServerConfig) -> None:
        # What is missing for it is said when it is its turn.
        with contextlib.suppress(Failure):
            self._pool.prepare(self._plan(config))

    def _plan(self, config: ServerConfig) -> LaunchPlan:
        return self._altered(self._planner.plan(config))

    def start_together(
        self, configs: Sequence[ServerConfig]
    ) -> Sequence[RunningServer]:
        """Launches that are alive at once, each on a port of its own.

        If another process takes a port in between, all are launched on others.

        Raises:
            Failure: one of them failed to start.
        """
        for _ in range(MOST_PORTS - 1):
            try:
                return self._pool.launch_together(self._plans(configs))
            except PortInUse as failure:
                self._tell.line(
                    f"{configs[0].key}: {failure.seen}; trying other ports"
                )
        return self._pool.launch_together(self._plans(configs))

    def _plans(self, configs: Sequence[ServerConfig]) -> list[LaunchPlan]:
        """A plan for each, on ports that differ."""
        plans: dict[int, LaunchPlan] = {}
        while len(plans) < len(configs):
            plan = self._planner.plan(configs[len(plans)])
            plans.setdefault(plan.port, plan)
        return list(plans.values())

    def end_together(self) -> None:
        """End what `start_together` launched."""
        self._pool.end_together()

    def probes(
        self, config: ServerConfig, server: RunningServer, launch: Launch
    ) -> Sequence[Probe]:
        """Memory, GPUs, and the host's cores."""
        engine = engines.lookup(config.engine)
        return (
            FootprintProbe(
                config, server, engine, self._hardware, launch.values
            ),
            GpuProbe(
                config.key,
                launch.index,
                server.gpu_indices,
                self._settings.run_dir,
                self._settings.telemetry,
            ),
            HostProbe(server, launch.start.pid),
        )

    def settle(
        self, config: ServerConfig, server: RunningServer
    ) -> tuple[str, ...]:
        """Freeze the garbage collector, for example: it may stop all streams."""
        try:
            engines.lookup(config.engine).settle(server.url)
        except NoAnswer as failure:
            note = (
                f"settling after the warm-up failed ({failure.seen}): garbage "
                "collection may stop all streams"
            )
            return (note,)
        return ()

    def give_up(self, server: RunningServer, activity: str) -> ServerDied:
        """End the pool's live server; its next launch is a fresh one."""
        return self._pool.abandon(activity)


class ExternalSource:
    """One server that an operator runs."""

    attempts = 1

    def __init__(self, server: ExternalServer) -> None:
        self.schedule = External()
        self._server = server

    def describe_start(self, place: str) -> str:
        """Its address."""
        return f"measuring the external server {self._server.url}"

    def software(self, config: ServerConfig) -> rundata.Server:
        """Its address: Python and versions are unknown."""
        url = self._server.url
        return rundata.Server(
            config=config,
            python="external",
            python_origin=url,
            versions={},
            attached=url,
        )

    def start(
        self,
        config: ServerConfig,
        is_fresh: bool,
        upcoming: ServerConfig | None = None,
    ) -> RunningServer:
        """The server as it is."""
        return self._server

    def probes(
        self, config: ServerConfig, server: RunningServer, launch: Launch
    ) -> Sequence[Probe]:
        """None: its processes and GPUs are unknown."""
        return ()

    def settle(
        self, config: ServerConfig, server: RunningServer
    ) -> tuple[str, ...]:
        """Nothing: its operator decides."""
        return ()

    def give_up(self, server: RunningServer, activity: str) -> ServerDied:
        """Only its death: this suite does not stop it."""
        return server.death(activity)
