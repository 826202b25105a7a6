"""Duel launches: both builds of a held engine, alive at once, and what they measured.

The order in which they are started is drawn: what starts first gets other memory.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from perfgate import formatting
from perfgate.config.config import Config
from perfgate.engines.base import ServerConfig
from perfgate.engines.injection import format_injection
from perfgate.load.repetition import Repetition
from perfgate.load.turns import (
    BATCH_TIMES,
    GROUP,
    LaunchTime,
    Turn,
    judged_times,
    launch_times,
    waiting_share,
)
from perfgate.load.workload import Workload
from perfgate.models import catalogue as models
from perfgate.progress import ProgressDisplay
from perfgate.results.recorder import LaunchEnd, Measured, Recorder
from perfgate.results.schema import Measurement
from perfgate.run import resume
from perfgate.run.duel import Contestant, DuelRunner, TurnsByWorkload
from perfgate.run.server_source import PoolSource
from perfgate.run.started_launch import StartedLaunch, start_launch
from perfgate.servers.launch_record import ServerDied
from perfgate.web import NoAnswer


@dataclass
class Duels:
    """Measures the duels of one session, and records what they measured.

    Args:
        timing_start: in which a start of servers is timed.

    Attributes:
        died: keys of servers of which a launch died, and all were launched once more.
    """

    settings: Config
    source: PoolSource
    recorder: Recorder
    timing_start: Callable[[], AbstractContextManager[None]]
    tell: ProgressDisplay
    rng: random.Random = field(default_factory=random.Random)
    died: set[str] = field(default_factory=set, init=False)

    def measure(
        self,
        server: ServerConfig,
        workloads: Sequence[Workload],
        further: int = 0,
    ) -> None:
        """Launch both builds, have them answer the workloads in turns, and end them.

        Nothing is measured where an earlier command has measured all of it. Where a
        launch dies, all are launched once more.

        Args:
            further: launches of each build to add to those that there are; 0 measures
                what a first verdict needs.

        Raises:
            Failure: a launch failed to start, or one died again.
        """
        launches = further or self.settings.duel_launches
        if not further and not self._is_missing(server, workloads, launches):
            return
        builds = [server.candidate, server.base] * launches
        turns: TurnsByWorkload | None = None
        while turns is None:
            self.rng.shuffle(builds)
            try:
                started = self._start(server, builds)
                turns = self._take_turns(server, started, workloads)
            finally:
                self.source.end_together()
        self._record(started, workloads, turns)

    def _is_missing(
        self, server: ServerConfig, workloads: Sequence[Workload], launches: int
    ) -> bool:
        """Whether a build lacks launches with all of the workloads."""
        for build in (server.candidate, server.base):
            missing = resume.missing_workloads(
                self.recorder.results, build.key, workloads, launches
            )
            if missing is not None:
                return True
        return False

    def _start(
        self, server: ServerConfig, builds: Sequence[ServerConfig]
    ) -> list[StartedLaunch]:
        for build in (server.candidate, server.base):
            self.recorder.put_server(self.source.software(build))
        count = formatting.count(len(builds) // 2, "launch")
        self._say(
            server, f"launching base and candidate, {count} each, at once"
        )
        with self.timing_start():
            running = self.source.start_together(builds)
        started = []
        for build, process in zip(builds, running, strict=True):
            launch = start_launch(
                build,
                process,
                self.recorder.next_index(build.key),
                self.settings.injection(build),
            )
            if launch.launch.injected:
                text = format_injection(launch.launch.injected)
                self._say(build, f"INJECTED {text}")
            self.recorder.add_launch(launch.launch)
            started.append(launch)
        return started

    def _take_turns(
        self,
        server: ServerConfig,
        started: Sequence[StartedLaunch],
        workloads: Sequence[Workload],
    ) -> TurnsByWorkload | None:
        """What the launches answered; None after the first death of one.

        Raises:
            ServerDied: a launch of this server died before.
            NoAnswer: a launch does not answer, but lives.
        """
        contestants = []
        for launch in started:
            side = launch.config.build
            contestants.append(Contestant(launch.server.url, side))
        runner = DuelRunner(
            contestants,
            workloads,
            models.lookup(server.model).architecture.vocab_size,
            cores=_cores(server),
            rng=self.rng,
            judged=judged_times(server.device),
        )
        began_s = time.monotonic()
        try:
            turns = runner.run(self._progress(server))
        except NoAnswer:
            if runner.silent is None:
                raise
            dead = started[runner.silent]
            if dead.server.survives():
                raise
            self.recorder.spend(load_s=time.monotonic() - began_s)
            self._take_death(server, started, workloads, dead)
            return None
        took_s = time.monotonic() - began_s
        self.recorder.spend(load_s=took_s)
        every = [turn for rows in turns.values() for turn in rows]
        waited = formatting.percent(waiting_share(every))
        self._say(
            server,
            f"{len(every)} turns in {took_s:.0f} s; they waited for a core in {waited} of "
            "the time",
        )
        return turns

    def _take_death(
        self,
        server: ServerConfig,
        started: Sequence[StartedLaunch],
        workloads: Sequence[Workload],
        dead: StartedLaunch,
    ) -> None:
        """Record that a launch died, and that the others measured nothing either.

        Raises:
            ServerDied: it is the second death.
        """
        death = dead.server.death("answering in turns")
        seen = f"ended, because {dead.config.key} died: {death.seen}"
        others = ServerDied(death.tried, seen, death.remedy, death.log)
        for launch in started:
            end = others
            if launch is dead:
                end = death
            for workload in workloads:
                row = Measurement(
                    server=launch.config.key,
                    launch=launch.launch.index,
                    workload=workload.name,
                    repetitions=(),
                    failure=end.row(),
                )
                self.recorder.add(Measured(row))
            self.recorder.add(
                LaunchEnd(launch.config.key, launch.launch.index, end)
            )
        if server.key in self.died:
            raise death
        self.died.add(server.key)
        self._say(dead.config, f"{death.seen}; launching all of them again")

    def _record(
        self,
        started: Sequence[StartedLaunch],
        workloads: Sequence[Workload],
        turns: TurnsByWorkload,
    ) -> None:
        group_unix_s = min(
            launch.launch.start.started_unix_s for launch in started
        )
        for workload in workloads:
            rows = turns[workload.name]
            times = {}
            for metric, time_of in BATCH_TIMES.items():
                times[metric] = launch_times(rows, time_of)
            for place, launch in enumerate(started):
                own = {metric: times[metric][place] for metric in times}
                mine = [turn for turn in rows if turn.launch == place]
                row = _measurement(launch, workload, own, mine, group_unix_s)
                self.recorder.add(Measured(row))
        for launch in started:
            self.recorder.add(LaunchEnd(launch.config.key, launch.launch.index))

    def _progress(self, server: ServerConfig) -> Callable[[float], None]:
        return lambda share: self.tell.share(
            f"{server.key}, base and candidate in turns",
            share,
            "the longest time that it may take",
        )

    def _say(self, config: ServerConfig, text: str) -> None:
        self.tell.line(f"{config.key}: {text}")


def _cores(server: ServerConfig) -> Sequence[int | None]:
    """The cores on which launches are asked. A GPU has room for one batch at a time."""
    if server.device == "cpu":
        return sorted(os.sched_getaffinity(0))
    return (None,)


def _measurement(
    started: StartedLaunch,
    workload: Workload,
    times: dict[str, LaunchTime],
    turns: Sequence[Turn],
    group_unix_s: float,
) -> Measurement:
    """What one launch did for one workload: one repetition that stands for all its turns."""
    elapsed_s = sum(turn.elapsed_ms for turn in turns) / 1e3
    requests = workload.num_prompts * len(turns)
    repetition = Repetition(
        index=0,
        started_unix_s=time.time() - elapsed_s,
        duration_s=elapsed_s,
        completed=requests,
        failed=0,
        input_tokens=0,
        output_tokens=0,
        values={metric: row.value_ms for metric, row in times.items()},
        invalid=(),
        notes=(),
        server_values={},
        client_values={
            GROUP: group_unix_s,
            "turns": float(len(turns)),
            "waiting_share": waiting_share(turns),
        },
        requests=(),
    )
    return Measurement(
        server=started.config.key,
        launch=started.launch.index,
        workload=workload.name,
        repetitions=(repetition,),
        intervals={metric: row.interval_ms for metric, row in times.items()},
    )
