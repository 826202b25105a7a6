"""Campaign: launches, retries and escalation of one session; records all that is measured.

A server is launched once, and everything that the session needs of it is measured on
that launch, so that the order of tests does not matter. A verdict that one launch
leaves in doubt gets more launches, once; then all data decide. Nothing is repeated
until it passes.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from perfgate.cases import Case, Load, timed
from perfgate.config.config import Config
from perfgate.engines.base import ServerConfig
from perfgate.engines.injection import format_injection
from perfgate.errors import Failure
from perfgate.files import RunDataError
from perfgate.judge import gate
from perfgate.judge import screen as screening
from perfgate.judge.groups import with_group_verdicts
from perfgate.judge.verdict import Decision, Outcome, Verdict
from perfgate.load.metrics import Metric
from perfgate.load.workload import Workload
from perfgate.progress import ProgressDisplay
from perfgate.results import merge
from perfgate.results.recorder import LaunchEnd, LaunchFigures, Recorder, now
from perfgate.results.schema import Measurement, RunResults
from perfgate.run import resume
from perfgate.run.initial_results import builds_in_pairs
from perfgate.run.schedule import (
    ScheduledLaunch,
    Screened,
    measured_cases,
    schedule_of,
)
from perfgate.run.server_source import ExternalSource, PoolSource, ServerSource
from perfgate.run.single_flight import SharedResults
from perfgate.servers.launch_record import LaunchRecord, ServerDied
from perfgate.servers.pool import ServerPool
from perfgate.servers.running import RunningServer
from perfgate.study import servers_of

if TYPE_CHECKING:
    from perfgate.run.duel_launches import Duels
    from perfgate.run.launch_runner import LaunchRunner

# Times the threshold: a larger loss is a regression on one launch, where no second one
# is possible. The threshold allows for the noise of one launch already.
CLEARLY_WORSE = 2.0
EARLIER = "(measured by an earlier command)"  # in place of the test's id


class TwoWorkloads(Failure):
    """Two different workloads have one name."""


class TwoNumbers(Failure):
    """Two numbers that a test measured have one name."""


class Campaign:
    """One session's launches, measurements and verdicts, written to the run directory.

    Args:
        results: what is known at the start (`perfgate.run.initial_results`).
        planned: every case that the session will judge; what they need of a server is
            measured on its one launch.
        pool: owns the devices; who made it closes it.
        shared: where several workers of one session find each other's results.
    """

    def __init__(
        self,
        settings: Config,
        results: RunResults,
        planned: Sequence[Case],
        pool: ServerPool,
        tell: ProgressDisplay,
        shared: SharedResults | None = None,
    ) -> None:
        self.store = settings.store
        self._settings = settings
        self._tell = tell
        self._pool = pool
        self._shared = shared
        self._schedule = schedule_of(settings)
        self._pool_source = PoolSource(settings, pool, results.hardware, tell)
        self._external: dict[tuple[str, str], ExternalSource] = {}
        for served, server in settings.attached.items():
            self._external[served] = ExternalSource(server)
        self._planned = tuple(planned)
        self._needs = servers_of(measured_cases(self._schedule, planned))
        self._failures: dict[str, Failure] = {}
        self._scheduled: set[str] = set()
        # (server, workload) that had further launches, and those launched in pairs.
        self._escalated: set[tuple[str, str]] = set()
        self._paired: set[tuple[str, str]] = set()
        self._escalation_failures: dict[str, Failure] = {}
        # By server key, what measures its latest launch.
        self._runners: dict[str, LaunchRunner] = {}
        self._recorder = Recorder(results, settings.run_dir)

    @property
    def results(self) -> RunResults:
        """Everything so far."""
        return self._recorder.results

    def judge(self, case: Case, test: str) -> Verdict:
        """Measure what the case still needs, judge it, and record the verdict.

        Args:
            test: id of the test that asks, for the report.

        Raises:
            Failure: a server that it needs failed to start; cases of other servers can
                still be judged. A verdict is recorded first: INVALID if nothing of the
                case was measured, INCONCLUSIVE if it needs the launch that failed.
        """
        try:
            if case.is_duel:
                self._measure_duel(case)
            else:
                for load in case.loads:
                    self._measure_server(load.server.key)
        except Failure:
            decision = self._decide(case)
            if decision.outcome is Outcome.INVALID:
                self._record_verdict(case, test, decision)
            raise
        try:
            verdict = self._final_verdict(case)
        except Failure as failure:
            verdict = _after_failed_launch(self._decide(case), failure)
            self._record_verdict(case, test, verdict)
            raise
        self._record_verdict(case, test, verdict)
        return verdict

    def adopt(self, case: Case) -> None:
        """Take in a case that was not planned, so that it can be judged.

        Raises:
            AmbiguousServer: a planned server has its key and another configuration.
        """
        if case in self._planned:
            return
        self._planned = (*self._planned, case)
        needs = servers_of(measured_cases(self._schedule, [case]))
        for key, (config, workloads) in needs.items():
            known, planned = self._needs.get(key, (config, ()))
            if known != config:
                servers_of(self._planned)  # raises, and names both
            if not set(workloads) <= set(planned):
                self._scheduled.discard(key)
            self._needs[key] = (
                config,
                tuple(dict.fromkeys((*planned, *workloads))),
            )
        workloads_by_name = dict(self.results.workloads)
        for load in case.loads:
            if load.workload is not None:
                workloads_by_name[load.workload.name] = load.workload
        cases = dict.fromkeys((*self.results.cases, case))
        self._recorder.update(cases=tuple(cases), workloads=workloads_by_name)

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

    def load(self, config: ServerConfig, workload: Workload) -> Measurement:
        """Send a workload to a running server, with all of its repetitions.

        A workload that this launch has measured already is not sent again.

        Raises:
            TwoWorkloads: another workload has its name.
            Failure: the server failed to start, or died of it.
        """
        known = self.results.workloads.get(workload.name, workload)
        if known != workload:
            raise TwoWorkloads(
                tried=f"sending the workload {workload.name} to {config.key}",
                seen=f"another workload of this run has this name: {known}",
                remedy='use another name: perf_load(server, "NAME", ...)',
            )
        self.hold(config)
        runner = self._runners[config.key]
        rows = self._recorder.measurements_of(config.key, runner.index)
        if workload.name not in rows or not rows[workload.name].is_sound:
            workloads = self.results.workloads | {workload.name: workload}
            self._recorder.update(workloads=workloads)
            death = self._run(runner, [workload], is_part=True)
            if death is not None:
                del self._runners[config.key]
                raise death
            rows = self._recorder.measurements_of(config.key, runner.index)
        return rows[workload.name]

    def note_number(
        self, config: ServerConfig, metric: Metric, value: float
    ) -> None:
        """Record a number that a test measured, as a metric of its server's launch.

        Raises:
            TwoNumbers: this launch has another number of that name.
        """
        if config.key not in self._runners:
            self.hold(config)
        launch = self._recorder.launches_of(config.key)[-1]
        if metric.name in launch.values:
            known = launch.values[metric.name]
            raise TwoNumbers(
                tried=f"recording {metric.name} of {config.key}",
                seen=f"this launch has {metric.name} = {known:g} already",
                remedy="use another metric name for each number",
            )
        self._recorder.update(
            metrics=self.results.metrics | {metric.name: metric}
        )
        self._recorder.add(
            LaunchFigures(config.key, launch.index, values={metric.name: value})
        )
        self._recorder.add(LaunchEnd(config.key, launch.index))

    def note_not_asked(
        self,
        skipped: Mapping[str, str],
        lacking: Mapping[str, str],
        left_out: Sequence[str],
    ) -> None:
        """Record which tests cannot run here, and what of the suite was not selected.

        Args:
            skipped, lacking: test or case id -> reason.
            left_out: parts of the suite, as text.
        """
        self._recorder.update(
            skipped=dict(skipped),
            lacking=dict(lacking),
            left_out=tuple(left_out),
        )

    def explain(self) -> None:
        """Profile what is red, where this session asks for it; verdicts stay as they are."""
        # Imported here, as above: collecting tests must not wait for the load client.
        from perfgate.run.explain.explainer import Explainer, is_wanted

        if not is_wanted(self._settings, self.results):
            return
        explainer = Explainer(
            self._settings, self._pool, self.results.hardware, self._tell
        )
        judged = with_group_verdicts(self.results, self.store)
        began_s = time.monotonic()
        for explanation in explainer.explain(judged):
            now_s = time.monotonic()
            self._recorder.spend(explain_s=now_s - began_s)
            began_s = now_s
            self._recorder.put_explanation(explanation)

    def finish(self, complete: bool, end_s: float = 0.0) -> None:
        """Record the end of the session, and how each launch ended.

        Cases that an earlier command measured and did not judge are judged here.

        Args:
            complete: whether the test loop returned by itself. The run is complete
                if its data lack nothing, too.
            end_s: seconds spent on ending servers.
        """
        self._recorder.spend(end_s=end_s)
        case_ids = {row.case for row in self.results.verdicts}
        case_ids |= {case.id for case in self._planned}
        verdicts = list(self.results.verdicts)
        for case in self.results.cases:
            if case.id not in case_ids:
                verdicts.append(self._decide(case).row(case, EARLIER))
        records = {_process(record): record for record in self._pool.launches}
        launches = []
        for launch in self.results.launches:
            start = launch.start
            if start.stop is None:
                start = records.get(_process(start), start)
            launches.append(msgspec.structs.replace(launch, start=start))
        self._recorder.update(
            finished=now(), launches=tuple(launches), verdicts=tuple(verdicts)
        )
        judged = self.results
        broken: Failure | None = None
        try:
            judged = with_group_verdicts(self.results, self.store)
        except Failure as failure:
            broken = failure
        self._recorder.finish(
            complete=complete and self._lacks_nothing(),
            group_verdicts=judged.group_verdicts,
            diagnoses=judged.diagnoses,
        )
        if broken is not None:
            raise broken

    def _lacks_nothing(self) -> bool:
        """Whether nothing is missing; a worker has only some of the session's cases."""
        if self.results.cut_off:
            return False
        is_worker = self._shared is not None
        return is_worker or not self.results.unanswered

    # From a server's needs to one launch of it, and to one attempt.

    def _measure_server(self, key: str) -> None:
        """Make the scheduled launches of a server that were not measured before.

        Raises:
            Failure: a launch failed, at this call or an earlier one.
        """
        if key in self._failures:
            raise self._failures[key].with_traceback(None)
        if key in self._scheduled:
            return
        self._scheduled.add(key)
        try:
            self._measure_first(*self._needs[key])
        except Failure as failure:
            self._failures[key] = failure
            raise

    def _measure_first(
        self, config: ServerConfig, workloads: Sequence[Workload]
    ) -> None:
        """Make the first launches of a server's schedule that are missing.

        Raises:
            Failure: a launch failed.
        """
        scheduled = self._source_of(config).schedule.first(config)
        for place, launch in enumerate(scheduled):
            missing = resume.missing_workloads(
                self.results, launch.server.key, workloads, launch.number
            )
            if missing is not None:
                self._measure_launch(launch, missing, scheduled[place + 1 :])

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
        for key, (config, workloads) in self._needs.items():
            if key in self._scheduled or config.held:
                continue
            if self._source_of(config) is not self._pool_source:
                continue
            missing = resume.missing_workloads(self.results, key, workloads, 1)
            if missing is not None:
                return config
        return None

    def _measure_duel(self, case: Case) -> None:
        """Have both builds of a held engine answer in turns, once a session.

        Raises:
            Failure: a launch failed, at this call or an earlier one.
        """
        key = case.numerator.server.candidate.key
        if key in self._failures:
            raise self._failures[key].with_traceback(None)
        if key in self._scheduled:
            return
        self._scheduled.add(key)
        self._take_turns(case)

    def _take_turns(self, case: Case, further: int = 0) -> None:
        """Launch both builds of a duel, and measure them.

        Args:
            further: launches of each to add to those that there are.

        Raises:
            Failure: a launch failed.
        """
        server = case.numerator.server
        key = server.candidate.key
        try:
            with self._recording_failures(key):
                self._duels.measure(server, self._needs[key][1], further)
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

    def _measure_launch(
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
                return merge.cut(self.results, key)

            content = self._shared.run_once(launch.task, measure)
        merged = merge.paste(self.results, key, content)
        self._recorder.update(
            servers=merged.servers,
            launches=merged.launches,
            measurements=merged.measurements,
        )

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
            death = self._run(
                runner, workloads, self._is_part(runner, config, workloads)
            )
            if death is None:
                return
            workloads = self._remaining(config, workloads)
        source = self._source_of(config)
        upcoming = self._to_prepare(left)
        for attempt in range(1, source.attempts + 1):
            place = ""
            if not launch.is_fresh:
                place = (
                    f", server {self._server_number} of {self._server_count}"
                )
            runner = self._start(config, launch.is_fresh, place, upcoming)
            death = self._run(
                runner, workloads, self._is_part(runner, config, workloads)
            )
            if death is None:
                return
            retry = ""
            if attempt < source.attempts:
                retry = "; launching it again"
            self._say(config, f"{death.seen}{retry}")
            workloads = self._remaining(config, workloads)

    @property
    def _server_number(self) -> int:
        """Number of the server that is launched now, among `_server_count`."""
        configs = [self._needs[key][0] for key in self._scheduled]
        return sum(not config.build for config in configs)

    @property
    def _server_count(self) -> int:
        """Servers of the session, without those that pairs add."""
        return sum(not config.build for config, _ in self._needs.values())

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
        from perfgate.run.launch_runner import LaunchRunner, start_launch

        source = self._source_of(config)
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
            self.results.hardware,
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
        launched = self.results.servers[config.key].config
        servers_of([_case_of(launched), _case_of(config)])
        return runner

    def _source_of(self, config: ServerConfig) -> ServerSource:
        """Where a server comes from: the session's pool, unless an operator runs it."""
        external = self._external.get((config.engine, config.model))
        return external or self._pool_source

    def _final_verdict(self, case: Case) -> Verdict:
        """The verdict, after further launches where it needs them and they are possible."""
        decision = self._decide(case)
        if self._goes_to_pairs(case, decision):
            self._launch_pairs()
            decision = self._decide(case)
        if not decision.needs_launches:
            return decision
        if case.is_duel:
            self._take_turns(case, decision.needs_launches)
            return self._decide(case)
        reason = self._cannot_repeat(case)
        if not reason:
            self._escalate(case)
            return self._decide(case)
        is_own_number = screening.is_own_number(self.results, case)
        if is_own_number and _is_clearly_worse(decision):
            return _of_one_launch(decision)
        return _in_doubt(decision, reason)

    def _decide(self, case: Case) -> Decision:
        return gate.judge_case(self.results, case, self.store)

    def _record_verdict(self, case: Case, test: str, verdict: Verdict) -> None:
        rows = (*self.results.verdicts, verdict.row(case, test))
        self._recorder.update(verdicts=rows)

    # From a suspect case to launches in pairs.

    def _goes_to_pairs(self, case: Case, screen: Decision) -> bool:
        """Whether pairs decide the case, as the screen does not clear it."""
        schedule = self._schedule
        if not isinstance(schedule, Screened) or not schedule.has_pairs(case):
            return False
        if case.id in self.results.suspects:
            return True
        is_suspect = screening.is_suspect(case, screen)
        return is_suspect and screening.can_repeat(self.results, case)

    def _launch_pairs(self) -> None:
        """Launch the servers of all suspect cases in turn with their base builds.

        Of each server once a session, and with the workloads of suspect cases alone.
        After a failure the verdict of the screen stands.
        """
        suspects = []
        for case in self._measured():
            if self._goes_to_pairs(case, self._decide(case)):
                suspects.append(case)
        ids = [case.id for case in suspects]
        known = dict.fromkeys((*self.results.suspects, *ids))
        self._recorder.update(suspects=tuple(known))
        self._needs |= builds_in_pairs(self._needs, suspects)
        candidates = [case.candidate for case in suspects]
        loads = self._new_loads(candidates, self._paired)
        for key, workloads in loads.items():
            candidate, _ = self._needs[key]
            names = ", ".join(workload.name for workload in workloads)
            self._say(
                candidate, f"launching pairs for {names}, which is suspect"
            )
            try:
                self._measure_first(candidate, workloads)
            except Failure as failure:
                text = f"no pairs, the verdict of the screen stands: {failure.seen}"
                self._say(candidate, text)

    def _cannot_repeat(self, case: Case) -> str:
        """Why the case cannot be measured on more launches; empty if it can."""
        for load in case.loads:
            reason = self._source_of(load.server).schedule.no_escalation
            if reason:
                return reason
        if screening.is_own_number(self.results, case):
            return "the test measures this number once a session: run it again"
        return ""

    def _escalate(self, case: Case) -> None:
        """Make more launches for each workload that is in doubt, once a session.

        Raises:
            Failure: a launch that this case needs failed, now or for another case.
        """
        schedules = []
        case = self._judged_case(case)
        undecided = (case, *self._undecided())
        for key, workloads in self._new_loads(
            undecided, self._escalated
        ).items():
            config, _ = self._needs[key]
            names = ", ".join(workload.name for workload in workloads)
            launches = self._source_of(config).schedule.further(config, names)
            schedules.append([(key, launch, workloads) for launch in launches])
        # The servers take turns: one launch of each, then the next one of each.
        in_turn = []
        for turn in itertools.zip_longest(*schedules):
            in_turn += [
                scheduled for scheduled in turn if scheduled is not None
            ]
        for place, (key, launch, workloads) in enumerate(in_turn):
            left = [row for _, row, _ in in_turn[place + 1 :]]
            self._measure_further(key, launch, workloads, left)
        for load in case.loads:
            failure = self._escalation_failures.get(load.server.key)
            if failure is not None:
                raise failure.with_traceback(None)

    def _measure_further(
        self,
        key: str,
        launch: ScheduledLaunch,
        workloads: Sequence[Workload],
        left: Sequence[ScheduledLaunch],
    ) -> None:
        """Measure a launch of an escalation; after a failure none of that server.

        Args:
            key: of the server that is in doubt; the launch may be of its base build.
            left: what is known of the launches after it.
        """
        if key in self._escalation_failures:
            return
        try:
            self._measure_launch(launch, workloads, left)
        except Failure as failure:
            self._escalation_failures[key] = failure

    def _judged_case(self, case: Case) -> Case:
        """The case; on the servers in pairs where pairs left a suspect one undecided."""
        if self._decide(case).screen is None:
            return case
        return case.candidate

    def _new_loads(
        self, cases: Iterable[Case], known: set[tuple[str, str]]
    ) -> dict[str, list[Workload]]:
        """Server -> workloads of these cases that ask for launches.

        Args:
            known: (server, workload) that had such launches, to leave out; the new
                ones are added.
        """
        doubtful: dict[str, list[Workload]] = {}
        for case in cases:
            for load in case.loads:
                key = load.server.key
                # Memory is recorded after all of the load.
                workloads = self._timed(key)
                if load.workload is not None:
                    workloads = [load.workload]
                for workload in workloads:
                    if (key, workload.name) not in known:
                        known.add((key, workload.name))
                        doubtful.setdefault(key, []).append(workload)
        return doubtful

    def _undecided(self) -> Iterator[Case]:
        """Planned cases that were measured, and whose verdict needs more launches."""
        for case in self._measured():
            if self._decide(case).needs_launches:
                yield self._judged_case(case)

    def _measured(self) -> Iterator[Case]:
        """Planned cases whose servers were launched."""
        for case in self._planned:
            servers = [load.server.key for load in case.loads]
            if all(self._recorder.launches_of(key) for key in servers):
                yield case

    def _timed(self, key: str) -> list[Workload]:
        """The workloads of a server that are timed."""
        config, workloads = self._needs[key]
        return timed(config, workloads)

    def _is_part(
        self,
        runner: LaunchRunner,
        config: ServerConfig,
        workloads: Sequence[Workload],
    ) -> bool:
        """Whether a launch, after these workloads, has still not had all of its load."""
        workload_names = set(
            self._recorder.measurements_of(config.key, runner.index)
        )
        workload_names |= {workload.name for workload in workloads}
        timed = {workload.name for workload in self._timed(config.key)}
        return not timed <= workload_names

    def _remaining(
        self, config: ServerConfig, workloads: Sequence[Workload]
    ) -> Sequence[Workload]:
        """The workloads for the next launch, after one that died."""
        launch = self._recorder.launches_of(config.key)[-1]
        return resume.remaining_workloads(self.results, launch, workloads)

    def _say(self, config: ServerConfig, text: str) -> None:
        self._tell.line(f"{config.key}: {text}")

    @contextlib.contextmanager
    def _recording_failures(self, key: str) -> Iterator[None]:
        """Record the failure of a server before it is raised."""
        try:
            yield
        except Failure as failure:
            failures = self.results.failures | {key: failure.row()}
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


def _in_doubt(verdict: Verdict, reason: str) -> Verdict:
    """A verdict that needs more launches where there are none; INVALID stays INVALID.

    Args:
        reason: why there are none.
    """
    if verdict.outcome is Outcome.INVALID:
        return verdict
    launches = "One launch does"
    if verdict.launches > 1:
        launches = f"{verdict.launches} launches do"
    detail = f"{launches} not decide this, and {reason}."
    return msgspec.structs.replace(
        verdict,
        outcome=Outcome.INCONCLUSIVE,
        details=(*verdict.details, detail),
    )


def _after_failed_launch(decision: Decision, failure: Failure) -> Verdict:
    """The verdict where a further launch failed: INCONCLUSIVE if it needs that launch."""
    if not decision.needs_launches:
        return decision
    return _in_doubt(decision, f"a further launch failed ({failure.seen})")


def _is_clearly_worse(verdict: Verdict) -> bool:
    """Whether a regression is so large that one launch shows it."""
    if verdict.outcome is not Outcome.REGRESSED:
        return False
    if verdict.worse_by is None or verdict.threshold is None:
        return False
    return verdict.worse_by >= CLEARLY_WORSE * verdict.threshold


def _of_one_launch(verdict: Verdict) -> Verdict:
    """A clear regression, with a note that it rests on one launch."""
    detail = (
        "The test cannot repeat its one launch. It is REGRESSED, because the loss is "
        f"at least {CLEARLY_WORSE:g} times the threshold."
    )
    return msgspec.structs.replace(verdict, details=(*verdict.details, detail))


def _case_of(config: ServerConfig) -> Case:
    return Case(experiment="", metric="", numerator=Load(server=config))


def _process(record: LaunchRecord) -> tuple[int, float]:
    return record.pid, record.started_unix_s
