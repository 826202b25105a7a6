"""Launcher: launches of one session, with retries; records all that is measured on them.

A server is launched once, and everything that the session needs of it is measured on
that launch. A launch that dies is made again, with what is still missing.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from perfgate.cases import timed
from perfgate.config.config import Config
from perfgate.engines.base import ServerConfig
from perfgate.engines.injection import format_injection
from perfgate.errors import Failure
from perfgate.files import RunDataError
from perfgate.load.workload import Workload
from perfgate.progress import ProgressDisplay
from perfgate.results import merge
from perfgate.results.recorder import LaunchEnd, Recorder
from perfgate.results.schema import Launch, Measurement
from perfgate.run import resume
from perfgate.run.schedule import ScheduledLaunch
from perfgate.run.server_source import ExternalSource, PoolSource, ServerSource
from perfgate.run.single_flight import SharedResults
from perfgate.servers.launch_record import ServerDied
from perfgate.servers.pool import ServerPool
from perfgate.servers.running import RunningServer
from perfgate.study import check_unique

if TYPE_CHECKING:
    from perfgate.run.duel_launches import Duels
    from perfgate.run.launch_runner import LaunchRunner


class Launcher:
    """Launches servers and measures on them, each server's needs once.

    Args:
        needs: server key -> the server, and the workloads to be measured on it.
        recorder: of the session's run directory.
        pool: owns the devices; who made it closes it.
        shared: where several workers of one session find each other's results.
    """

    def __init__(
        self,
        settings: Config,
        needs: resume.Needs,
        recorder: Recorder,
        pool: ServerPool,
        tell: ProgressDisplay,
        shared: SharedResults | None,
    ) -> None:
        self.needs = dict(needs)
        self._settings = settings
        self._recorder = recorder
        self._hardware = recorder.results.hardware
        self._pool = pool
        self._tell = tell
        self._shared = shared
        self._pool_source = PoolSource(settings, pool, self._hardware, tell)
        self._external: dict[tuple[str, str], ExternalSource] = {}
        for served, server in settings.attached.items():
            self._external[served] = ExternalSource(server)
        self._failures: dict[str, Failure] = {}
        self._scheduled: set[str] = set()
        # By server key, what measures its latest launch.
        self._runners: dict[str, LaunchRunner] = {}

    def expect(self, needs: resume.Needs) -> None:
        """Need more: a server that was launched already gets the rest of its load.

        Args:
            needs: server key -> the server, and the workloads to be measured on it.

        Raises:
            AmbiguousServer: a server of another configuration has its key.
        """
        for key, (config, _) in needs.items():
            known, _ = self.needs.get(key, (config, ()))
            check_unique(known, config)
        for key, (config, workloads) in needs.items():
            _, expected = self.needs.get(key, (config, ()))
            if not set(workloads) <= set(expected):
                self._scheduled.discard(key)
            every = dict.fromkeys((*expected, *workloads))
            self.needs[key] = config, tuple(every)

    def hold(self, config: ServerConfig) -> RunningServer:
        """A server that is ready, for a test that sends its own load.

        Raises:
            Failure: it failed to start.
            AmbiguousServer: a server of another configuration has its key.
        """
        runner = self._running(config)
        if runner is None:
            with self._recording_failures(config.key):
                runner = self._start(config, is_fresh=False)
            # Nothing is measured on it before a load is sent.
            self._recorder.add(LaunchEnd(config.key, runner.index))
        return runner.server

    def send(self, config: ServerConfig, workload: Workload) -> Measurement:
        """Send a workload to a running server, unless its launch has measured it.

        Raises:
            Failure: the server failed to start, or died of it.
        """
        self.hold(config)
        runner = self._runners[config.key]
        rows = self._recorder.measurements_of(config.key, runner.index)
        if workload.name not in rows or not rows[workload.name].is_sound:
            workloads = self._recorder.results.workloads
            workloads = workloads | {workload.name: workload}
            self._recorder.update(workloads=workloads)
            death = self._run(runner, [workload], is_part=True)
            if death is not None:
                del self._runners[config.key]
                raise death
            rows = self._recorder.measurements_of(config.key, runner.index)
        return rows[workload.name]

    def latest(self, config: ServerConfig) -> Launch:
        """The latest launch of a server by this command, the first one if need be.

        Raises:
            Failure: it failed to start.
        """
        if config.key not in self._runners:
            self.hold(config)
        return self._recorder.launches_of(config.key)[-1]

    def measure_server(self, key: str) -> None:
        """Make the scheduled launches of a server that were not measured before.

        Raises:
            Failure: a launch failed, at this call or an earlier one.
        """
        if not self._schedule(key):
            return
        try:
            self.measure_first(*self.needs[key])
        except Failure as failure:
            self._failures[key] = failure
            raise

    def _schedule(self, key: str) -> bool:
        """Schedule the launches of a server; False if they were scheduled already.

        Raises:
            Failure: one of them failed.
        """
        if key in self._failures:
            raise self._failures[key].with_traceback(None)
        if key in self._scheduled:
            return False
        self._scheduled.add(key)
        return True

    def measure_first(
        self, config: ServerConfig, workloads: Sequence[Workload]
    ) -> None:
        """Make the first launches of a server's schedule that are missing.

        Raises:
            Failure: a launch failed.
        """
        scheduled = self.source_of(config).schedule.first(config)
        for place, launch in enumerate(scheduled):
            missing = resume.missing_workloads(
                self._recorder.results,
                launch.server.key,
                workloads,
                launch.number,
            )
            if missing is not None:
                self.measure_launch(launch, missing, scheduled[place + 1 :])

    def measure_duel(self, server: ServerConfig) -> None:
        """Have both builds of a held engine answer in turns, once a session.

        Args:
            server: of the case, which stands for both builds.

        Raises:
            Failure: a launch failed, at this call or an earlier one.
        """
        if not self._schedule(server.candidate.key):
            return
        self.take_turns(server)

    def take_turns(self, server: ServerConfig, further: int = 0) -> None:
        """Launch both builds of a duel, and measure them.

        Args:
            server: of the case, which stands for both builds.
            further: launches of each to add to those that there are.

        Raises:
            Failure: a launch failed.
        """
        key = server.candidate.key
        _, workloads = self.needs[key]
        try:
            with self._recording_failures(key):
                self._duels.measure(server, workloads, further)
        except Failure as failure:
            self._failures[key] = failure
            raise

    @functools.cached_property
    def _duels(self) -> Duels:
        # Imported here: see `_start`.
        from perfgate.run.duel_launches import Duels

        return Duels(
            self._settings,
            self._pool_source,
            self._recorder,
            self._timing_start,
            self._tell,
        )

    def measure_launch(
        self,
        launch: ScheduledLaunch,
        workloads: Sequence[Workload],
        left: Sequence[ScheduledLaunch],
    ) -> None:
        """Measure one launch here, or accept what another worker measured on it.

        Args:
            left: what is known of the launches after it.

        Raises:
            Failure: it failed to start; the run's data say so too.
        """
        if launch.progress:
            self._tell.line(launch.progress)
        key = launch.server.key
        with self._recording_failures(key):
            if self._shared is None:
                self._launch(launch, workloads, left)
                return

            def measure() -> bytes:
                self._launch(launch, workloads, left)
                return merge.cut(self._recorder.results, key)

            content = self._shared.run_once(launch.task, measure)
        merged = merge.paste(self._recorder.results, key, content)
        self._recorder.update(
            servers=merged.servers,
            launches=merged.launches,
            measurements=merged.measurements,
        )

    def source_of(self, config: ServerConfig) -> ServerSource:
        """Where a server comes from: the session's pool, unless an operator runs it."""
        external = self._external.get((config.engine, config.model))
        return external or self._pool_source

    def timed(self, key: str) -> list[Workload]:
        """The workloads of a server that are timed."""
        config, workloads = self.needs[key]
        return timed(config, workloads)

    def _launch(
        self,
        launch: ScheduledLaunch,
        workloads: Sequence[Workload],
        left: Sequence[ScheduledLaunch],
    ) -> None:
        """Measure on the running server or on a new launch; after a death try again."""
        config = launch.server
        runner = None
        if not launch.is_fresh:
            runner = self._running(config)
        if runner is not None:
            self._say(
                config, "sending the rest of the load to the running server"
            )
            death = self._measure(runner, config, workloads)
            if death is None:
                return
            workloads = self._remaining(config, workloads)
        source = self.source_of(config)
        upcoming = self._to_prepare(left)
        for attempt in range(1, source.attempts + 1):
            runner = self._start(
                config, launch.is_fresh, self._place(launch), upcoming
            )
            death = self._measure(runner, config, workloads)
            if death is None:
                return
            retry = ""
            if attempt < source.attempts:
                retry = "; launching it again"
            self._say(config, f"{death.seen}{retry}")
            workloads = self._remaining(config, workloads)

    def _measure(
        self,
        runner: LaunchRunner,
        config: ServerConfig,
        workloads: Sequence[Workload],
    ) -> ServerDied | None:
        """Measure these workloads on a launch, and see whether that was all of its load."""
        is_part = self._is_part(runner, config, workloads)
        return self._run(runner, workloads, is_part)

    def _place(self, launch: ScheduledLaunch) -> str:
        """Which of the session's servers a launch is of, without those that pairs add."""
        if launch.is_fresh:
            return ""
        begun = [self.needs[key][0] for key in self._scheduled]
        planned = [config for config, _ in self.needs.values()]
        number = sum(not config.build for config in begun)
        count = sum(not config.build for config in planned)
        return f", server {number} of {count}"

    def _to_prepare(
        self, scheduled: Sequence[ScheduledLaunch]
    ) -> ServerConfig | None:
        """The server that is probably launched next; None if it is not to be prepared.

        Args:
            scheduled: what is known of the launches after the present one.
        """
        # Another worker may take it.
        if self._shared is not None:
            return None
        upcoming = self._probably_next(scheduled)
        if upcoming is None or not self._settings.prepares(upcoming):
            return None
        return upcoming

    def _probably_next(
        self, scheduled: Sequence[ScheduledLaunch]
    ) -> ServerConfig | None:
        """The server that is probably launched next; None where that is not known."""
        if scheduled:
            return scheduled[0].server
        for key, (config, workloads) in self.needs.items():
            if key in self._scheduled or config.held:
                continue
            if self.source_of(config) is not self._pool_source:
                continue
            missing = resume.missing_workloads(
                self._recorder.results, key, workloads, 1
            )
            if missing is not None:
                return config
        return None

    def _start(
        self,
        config: ServerConfig,
        is_fresh: bool,
        place: str = "",
        upcoming: ServerConfig | None = None,
    ) -> LaunchRunner:
        """Start a server, or take the running one; returns what measures this launch.

        Raises:
            Failure: it failed to start.
        """
        # Imported here: collecting tests must not wait for the load client (uvloop,
        # httptools).
        from perfgate.run.launch_runner import LaunchRunner
        from perfgate.run.started_launch import start_launch

        source = self.source_of(config)
        self._recorder.put_server(source.software(config))
        upcoming = _if_startable(source, upcoming)
        self._say(config, source.describe_start(place))
        with self._timing_start():
            server = source.start(config, is_fresh, upcoming)
        started = start_launch(
            config,
            server,
            self._recorder.next_index(config.key),
            self._settings.injection(config),
        )
        injected = started.launch.injected
        if injected:
            self._say(config, f"INJECTED {format_injection(injected)}")
        self._recorder.add_launch(started.launch)
        runner = LaunchRunner(
            started,
            source,
            self._hardware,
            self._settings.silence_timeout_s,
            self._tell,
        )
        self._runners[config.key] = runner
        return runner

    def _run(
        self, runner: LaunchRunner, workloads: Sequence[Workload], is_part: bool
    ) -> ServerDied | None:
        """Measure these workloads, and record every entry at once; returns a death."""
        key = runner.server_key
        death = None
        self._recorder.begin(key, runner.index)
        try:
            with contextlib.closing(runner.run(workloads, is_part)) as entries:
                for entry in entries:
                    self._recorder.add(entry)
                    if isinstance(entry, LaunchEnd):
                        death = entry.death
        except RunDataError:
            raise
        except Failure:
            # Nothing more is measured on it; any other exception cuts it off.
            self._recorder.add(LaunchEnd(key, runner.index))
            raise
        return death

    def _running(self, config: ServerConfig) -> LaunchRunner | None:
        """What measures the live launch of a server; None if it has none.

        Raises:
            AmbiguousServer: it was launched with another configuration.
        """
        runner = self._runners.get(config.key)
        if runner is None or not runner.server.alive():
            return None
        launched = self._recorder.results.servers[config.key].config
        check_unique(launched, config)
        return runner

    def _is_part(
        self,
        runner: LaunchRunner,
        config: ServerConfig,
        workloads: Sequence[Workload],
    ) -> bool:
        """Whether a launch, after these workloads, has still not had all of its load."""
        measured = self._recorder.measurements_of(config.key, runner.index)
        names = {*measured, *(workload.name for workload in workloads)}
        expected = {workload.name for workload in self.timed(config.key)}
        return not expected <= names

    def _remaining(
        self, config: ServerConfig, workloads: Sequence[Workload]
    ) -> Sequence[Workload]:
        """The workloads for the next launch, after one that died."""
        launch = self._recorder.launches_of(config.key)[-1]
        return resume.remaining_workloads(
            self._recorder.results, launch, workloads
        )

    def _say(self, config: ServerConfig, text: str) -> None:
        self._tell.line(f"{config.key}: {text}")

    @contextlib.contextmanager
    def _recording_failures(self, key: str) -> Iterator[None]:
        """Record the failure of a server before it is raised."""
        try:
            yield
        except Failure as failure:
            failures = self._recorder.results.failures | {key: failure.row()}
            self._recorder.update(failures=failures)
            raise

    @contextlib.contextmanager
    def _timing_start(self) -> Iterator[None]:
        """Record how long a start takes; the rest is the end of the server before it."""
        began_s = time.monotonic()
        earlier = len(self._pool.launches)
        try:
            yield
        finally:
            took_s = time.monotonic() - began_s
            start_s = 0.0
            launches = self._pool.launches[earlier:]
            if launches:
                since_s = time.time() - launches[-1].started_unix_s
                start_s = min(took_s, max(0.0, since_s))
            self._recorder.spend(start_s=start_s, end_s=took_s - start_s)


def _if_startable(
    source: ServerSource, upcoming: ServerConfig | None
) -> ServerConfig | None:
    """The upcoming server, once its weights are found, made and checked; else None.

    This is done before a start is timed, because weights may take longer than the start.
    What is missing is said when it is the server's turn.
    """
    if upcoming is None:
        return None
    try:
        source.software(upcoming)
    except Failure:
        return None
    return upcoming
